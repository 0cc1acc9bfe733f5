import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { openPings, type PingOptions, type Pings } from "../../src/telemetry/pings.ts";
import { steeredClock } from "../fakes/clock.ts";
import { samples } from "./samples.ts";

const started = { ...samples["backup.started"], schedule: "hourly" } as const;
const committed = { ...samples["backup.committed"], schedule: "hourly" } as const;
const failed = { ...samples["backup.failed"], schedule: "hourly" } as const;

interface Switch {
  readonly url: string;
  /** `PATH BODY` of each request. */
  readonly heard: { readonly path: string; readonly body: Record<string, unknown> }[];
  readonly server: Server;
}

const open: Server[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  }
});

/** A dead man's switch that answers as it is told. */
async function startSwitch(
  answer: (response: ServerResponse, request: IncomingMessage) => void = (response) => response.end("OK"),
): Promise<Switch> {
  const heard: Switch["heard"] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      heard.push({ path: `${request.method} ${request.url}`, body: JSON.parse(body) as Record<string, unknown> });
      answer(response, request);
    });
  });
  open.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, heard, server };
}

function openTo(url: string, events: LifeboatEvent[], options: Partial<PingOptions> = {}): Pings {
  return openPings({
    cluster: "prod",
    targets: {
      start: () => `${url}/secret-1/{schedule}/start`,
      success: () => `${url}/secret-1/{schedule}`,
      failure: () => `${url}/secret-1/{schedule}/fail`,
    },
    clock: systemClock,
    emit: (event) => events.push(event),
    ...options,
  });
}

describe("a dead man's switch", () => {
  test("hears of a start, then of the commit with its facts, each at its address", async () => {
    const { url, heard } = await startSwitch();
    const events: LifeboatEvent[] = [];
    await using pings = openTo(url, events);
    pings.listen(started);
    pings.listen(committed);
    await expect.poll(() => events.length, { timeout: 20_000 }).toBe(2);
    expect(heard.map(({ path }) => path)).toEqual(["POST /secret-1/hourly/start", "POST /secret-1/hourly"]);
    expect(heard[1]?.body).toMatchObject({
      schema: "etcd-lifeboat/ping/v1",
      cluster: "prod",
      schedule: "hourly",
      result: "committed",
      backup: committed.backup,
      revision: committed.revision.toString(),
    });
    expect(events).toEqual([
      { name: "ping.sent", target: "start", schedule: "hourly" },
      { name: "ping.sent", target: "success", schedule: "hourly" },
    ]);
  });

  test("hears of a failure with its code and no foreign words, and of a slot that another daemon served as a success", async () => {
    const { url, heard } = await startSwitch();
    const events: LifeboatEvent[] = [];
    await using pings = openTo(url, events);
    pings.listen({ ...failed, message: "password=hunter2" });
    pings.listen({ ...samples["backup.superseded"], schedule: "hourly" });
    await expect.poll(() => events.length, { timeout: 20_000 }).toBe(2);
    expect(heard.map(({ path, body }) => [path, body["result"], body["code"]])).toEqual([
      ["POST /secret-1/hourly/fail", "failed", failed.code],
      ["POST /secret-1/hourly", "superseded", undefined],
    ]);
    expect(JSON.stringify(heard)).not.toContain("hunter2");
  });

  test("hears nothing of backups by hand, of imports, of a daemon that is stopped, and of what nobody asked for", async () => {
    const events: LifeboatEvent[] = [];
    const asked: string[] = [];
    const request: typeof fetch = async (address) => {
      asked.push(typeof address === "string" ? address : "not a text");
      return new Response("OK");
    };
    await using pings = openTo("http://127.0.0.1:9", events, { request });
    pings.listen({ ...started, schedule: undefined, trigger: "demand" });
    pings.listen({ ...committed, schedule: undefined, trigger: "import" });
    pings.listen({ ...failed, code: "interrupted" });
    await using none = openTo("http://127.0.0.1:9", events, {
      request,
      targets: { success: () => "http://127.0.0.1:9/x" },
    });
    none.listen(started);
    none.listen(failed);
    none.listen(committed);
    await none[Symbol.asyncDispose]();
    expect(asked).toEqual(["http://127.0.0.1:9/x"]);
  });

  test("that answers with an error for a while is asked again, at most three times; one that says no is believed", async () => {
    let answers = 0;
    const flaky = await startSwitch((response) => {
      answers += 1;
      response.statusCode = answers < 3 ? 503 : 200;
      response.end();
    });
    const events: LifeboatEvent[] = [];
    const clock = steeredClock(0);
    await using pings = openTo(flaky.url, events, { clock });
    pings.listen(committed);
    await expect.poll(async () => (await clock.advance(1000), events.length), { timeout: 20_000 }).toBe(1);
    expect([flaky.heard.length, events[0]?.name]).toEqual([3, "ping.sent"]);
    const gone = await startSwitch((response) => {
      response.statusCode = 404;
      response.end();
    });
    await using wrong = openTo(gone.url, events, { clock });
    wrong.listen(committed);
    await expect.poll(() => events.length, { timeout: 20_000 }).toBe(2);
    expect(gone.heard).toHaveLength(1);
    expect(events[1]).toMatchObject({ name: "ping.failed", message: "answered 404", host: new URL(gone.url).host });
  });

  test("that sends us elsewhere is not followed", async () => {
    const elsewhere = await startSwitch();
    const { url } = await startSwitch((response) => {
      response.writeHead(302, { location: elsewhere.url });
      response.end();
    });
    const events: LifeboatEvent[] = [];
    await using pings = openTo(url, events);
    pings.listen(committed);
    await expect.poll(() => events.length, { timeout: 20_000 }).toBe(1);
    expect(events[0]).toMatchObject({ name: "ping.failed", message: "answered 302, and redirects are not followed" });
    expect(elsewhere.heard).toEqual([]);
  });

  test("that never answers holds nobody up, loses only the oldest pings, and is given up soon after the end", async () => {
    const silent = await startSwitch(() => undefined);
    const events: LifeboatEvent[] = [];
    const pings = openTo(silent.url, events);
    for (let n = 0; n < 40; n += 1) pings.listen(committed);
    // Listening waits for nothing: all that were too many are told already.
    expect(events.map(({ name }) => name)).toEqual(Array.from({ length: 23 }, () => "ping.failed"));
    await pings[Symbol.asyncDispose]();
    expect(events).toHaveLength(40);
    expect(silent.heard.length).toBeLessThanOrEqual(2);
  });

  test("that cannot be reached is told by its host alone: the address is the secret", async () => {
    const { url, server } = await startSwitch();
    server.close();
    await once(server, "close");
    open.pop();
    const events: LifeboatEvent[] = [];
    const clock = steeredClock(0);
    await using pings = openTo(url, events, { clock });
    pings.listen(committed);
    await expect.poll(async () => (await clock.advance(1000), events.length), { timeout: 20_000 }).toBe(1);
    expect(events[0]).toMatchObject({
      name: "ping.failed",
      host: new URL(url).host,
      message: "cannot be reached (ECONNREFUSED)",
    });
    expect(JSON.stringify(events)).not.toContain("secret-1");
  });
});
