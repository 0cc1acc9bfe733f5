import { request as ask } from "node:http";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request as askSecurely, type RequestOptions } from "node:https";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, describe, expect, test } from "vitest";

import { Fault } from "../../src/faults.ts";
import { serveHttp } from "../../src/telemetry/http.ts";
import type { HttpOptions } from "../../src/telemetry/http.ts";
import { createAuthority } from "../cluster/tls.ts";

const limits = { connections: 64, headMs: 5000, idleMs: 5000, responseMs: 5000 };
const listen = { host: "127.0.0.1", port: 0 };
const metricsPage = { contentType: "text/plain; version=0.0.4; charset=utf-8", body: "lifeboat_up 1\n" };

function serve(options: Partial<HttpOptions> = {}) {
  return serveHttp({
    listen,
    metrics: { page: () => Promise.resolve(metricsPage) },
    livez: () => [{ name: "loop", ok: true }],
    readyz: () => [
      { name: "store", ok: true },
      { name: "etcd", ok: true },
    ],
    status: () => "<!doctype html><p>prod</p>",
    onError: (error) => {
      throw error;
    },
    ...options,
  });
}

const token = "canary-token-0123456789";
const bearer = (value: string): RequestInit => ({ headers: { authorization: value } });

describe("with a token", () => {
  const access = { tls: undefined, token };

  test.each(["/metrics", "/", "/nothing", "/livez/"])("%s is for nobody without it", async (path) => {
    await using server = await serve({ access });
    for (const given of [
      "",
      "Bearer",
      "Bearer ",
      `Basic ${token}`,
      `Bearer ${token}x`,
      `Bearer ${token.slice(1)}`,
      token,
    ]) {
      const response = await fetch(`${server.url}${path}`, bearer(given));
      expect([given, response.status, response.headers.get("www-authenticate")]).toEqual([
        given,
        401,
        'Bearer realm="etcd-lifeboat"',
      ]);
      expect(await response.text()).not.toContain(token);
    }
    expect((await fetch(`${server.url}${path}`)).status).toBe(401);
  });

  test("the pages are for who sends it", async () => {
    await using server = await serve({ access });
    for (const scheme of ["Bearer", "bearer", "BEARER"]) {
      const response = await fetch(`${server.url}/metrics`, bearer(`${scheme} ${token}`));
      expect([response.status, await response.text()]).toEqual([200, metricsPage.body]);
    }
    expect((await fetch(`${server.url}/nothing`, bearer(`Bearer ${token}`))).status).toBe(404);
  });

  test("probes need none, and learn that something is wrong, not why", async () => {
    const readyz = () => [{ name: "etcd", ok: false as const, why: "https://10.0.0.11:2379 refuses the password" }];
    await using server = await serve({ access, readyz });
    const livez = await fetch(`${server.url}/livez`);
    expect([livez.status, await livez.text()]).toEqual([200, "ok\n"]);
    const ready = await fetch(`${server.url}/readyz?verbose`);
    expect([ready.status, await ready.text()]).toEqual([503, "[-]etcd failed\nreadyz check failed\n"]);
    expect(await (await fetch(`${server.url}/readyz`, bearer(`Bearer ${token}`))).text()).toContain("10.0.0.11");
  });

  test("a new one takes the old one's place at once", async () => {
    await using server = await serve({ access });
    server.renew({ tls: undefined, token: `${token}-next` });
    expect((await fetch(`${server.url}/metrics`, bearer(`Bearer ${token}`))).status).toBe(401);
    expect((await fetch(`${server.url}/metrics`, bearer(`Bearer ${token}-next`))).status).toBe(200);
    server.renew({ tls: undefined, token: undefined });
    expect((await fetch(`${server.url}/metrics`)).status).toBe(200);
  });
});

describe("with TLS", () => {
  const directory = mkdtempSync(join(tmpdir(), "http-test-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  async function issue(
    fileName: string,
  ): Promise<{ readonly cert: string; readonly key: string; readonly ca: string }> {
    const authority = await createAuthority(join(directory, fileName), fileName);
    const { cert, key } = await authority.issue({ commonName: "lifeboat", fileName, usage: "server" });
    const read = (path: string): string => readFileSync(path, "utf8");
    return { cert: read(cert), key: read(key), ca: read(authority.ca) };
  }

  function get(url: string, options: RequestOptions): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      const request = askSecurely(url, { ...options, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      request.on("error", reject);
      request.end();
    });
  }

  test("the pages are served by it alone, from 1.2 on, and another certificate takes over without a restart", async () => {
    const [first, second] = await Promise.all([issue("first"), issue("second")]);
    await using server = await serve({ access: { tls: first, token } });
    expect(server.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    const page = `${server.url}/metrics`;
    const headers = { authorization: `Bearer ${token}` };
    expect(await get(page, { ca: first.ca, headers })).toBe(200);
    expect(await get(page, { ca: first.ca })).toBe(401);
    expect(await get(`${server.url}/livez`, { ca: first.ca })).toBe(200);
    await expect(get(page, { ca: second.ca, headers })).rejects.toThrow(/certificate/);
    await expect(get(page, { ca: first.ca, maxVersion: "TLSv1.1", minVersion: "TLSv1", headers })).rejects.toThrow(
      /protocol/,
    );
    await expect(raw(server.url, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).resolves.not.toContain("200");

    server.renew({ tls: second, token });
    expect(await get(page, { ca: second.ca, headers })).toBe(200);
    await expect(get(page, { ca: first.ca, headers })).rejects.toThrow(/certificate/);

    const broken = { cert: second.cert, key: first.key };
    expect(() => server.renew({ tls: broken, token })).toThrow("http.tls: the certificate and its key cannot be used");
    expect(await get(page, { ca: second.ca, headers })).toBe(200);
  });

  test("closing does not wait for a handshake that never ends", async () => {
    const server = await serve({ access: { tls: await issue("silent"), token: undefined } });
    const socket = connect(portOf(server.url), "127.0.0.1");
    const gone = new Promise((resolve) => socket.on("close", resolve));
    socket.on("error", () => undefined); // it may be reset
    await new Promise((resolve) => socket.once("connect", resolve));
    expect(await get(`${server.url}/livez`, { rejectUnauthorized: false })).toBe(200); // it has seen the other one by now
    await server[Symbol.asyncDispose]();
    await gone;
  });
});

const portOf = (url: string): number => Number(new URL(url).port);

/** Writes raw bytes and resolves with everything that came until the server closed the connection. */
function raw(url: string, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(portOf(url), "127.0.0.1", () => socket.write(text));
    let answer = "";
    socket.on("data", (data: Buffer) => {
      answer += data.toString();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
  });
}

describe("pages", () => {
  test("/metrics is the page with its content type", async () => {
    await using server = await serve();
    const response = await fetch(`${server.url}/metrics`);
    expect([response.status, response.headers.get("content-type")]).toEqual([200, metricsPage.contentType]);
    expect(await response.text()).toBe(metricsPage.body);
  });

  test("/ is the status page, which may load and run nothing", async () => {
    await using server = await serve();
    const response = await fetch(`${server.url}/`);
    expect(await response.text()).toContain("<p>prod</p>");
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
  });

  test("HEAD is GET without the body", async () => {
    await using server = await serve();
    const answer = await raw(server.url, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).toContain(`Content-Length: ${metricsPage.body.length}\r\n`);
    expect(answer).not.toContain("lifeboat_up");
  });

  test.each([
    ["GET", "/nothing", 404],
    ["GET", "/metrics/", 404],
    ["GET", "//metrics", 404],
    ["GET", "/%2e%2e/etc/passwd", 404],
    ["POST", "/metrics", 405],
    ["DELETE", "/", 405],
    ["OPTIONS", "/", 405],
  ])("%s %s is %i", async (method, path, status) => {
    await using server = await serve();
    const response = await fetch(`${server.url}${path}`, { method });
    expect(response.status).toBe(status);
    if (status === 405) expect(response.headers.get("allow")).toBe("GET, HEAD");
    await response.text();
  });

  test("a page that cannot be made is 500 without a detail, told once, and the next one is served", async () => {
    const told: unknown[] = [];
    const broken = new Error("secret detail");
    await using server = await serve({
      status: () => {
        throw broken;
      },
      metrics: { page: () => Promise.reject(broken) },
      onError: (error) => told.push(error),
    });
    for (const path of ["/", "/metrics", "/"]) {
      const response = await fetch(`${server.url}${path}`);
      expect(response.status).toBe(500);
      expect(await response.text()).not.toContain("secret detail");
    }
    expect(told).toEqual([broken]);
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  });
});

describe("livez and readyz", () => {
  const down: Partial<HttpOptions> = {
    readyz: () => [
      { name: "store", ok: true },
      { name: "etcd", ok: false, why: "no member\nanswered at https://root:hunter2@10.0.0.11" },
    ],
  };

  test("say ok, and with ?verbose each check", async () => {
    await using server = await serve();
    expect(await (await fetch(`${server.url}/readyz`)).text()).toBe("ok\n");
    expect(await (await fetch(`${server.url}/livez?verbose`)).text()).toBe("[+]loop ok\nlivez check passed\n");
    expect(await (await fetch(`${server.url}/readyz?x&verbose=1`)).text()).toBe(
      "[+]store ok\n[+]etcd ok\nreadyz check passed\n",
    );
  });

  test("a failed check is 503 and says why in its own line and without secrets, asked for or not", async () => {
    await using server = await serve(down);
    for (const query of ["", "?verbose"]) {
      const response = await fetch(`${server.url}/readyz${query}`);
      expect(response.status).toBe(503);
      expect(await response.text()).toBe(
        "[+]store ok\n[-]etcd failed: no member\\nanswered at https://[redacted]@10.0.0.11\nreadyz check failed\n",
      );
    }
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  });
});

describe("an address that cannot be had is a configuration fault with its remedy", () => {
  const refusal = (options: Partial<HttpOptions>): Promise<unknown> =>
    serve(options).then(
      () => "listening",
      (error: unknown) => error,
    );

  test("a port that is taken", async () => {
    await using first = await serve();
    const fault = await refusal({ listen: { host: "127.0.0.1", port: portOf(first.url) } });
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({
      code: "config-invalid",
      message: `http.listen 127.0.0.1:${portOf(first.url)}: another process listens there`,
      hint: expect.stringContaining("http.listen") as string,
    });
  });

  test("an address of another host", async () => {
    expect(await refusal({ listen: { host: "192.0.2.1", port: 0 } })).toMatchObject({
      code: "config-invalid",
      message: "http.listen 192.0.2.1:0: the address is not one of this host",
    });
  });
});

test("IPv6 addresses are written as in a URL", async () => {
  await using server = await serve({ listen: { host: "::1", port: 0 } });
  expect(server.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
  expect((await fetch(`${server.url}/livez`)).status).toBe(200);
});

describe("whoever asks badly", () => {
  test("with a body is refused, and the body is not read", async () => {
    await using server = await serve();
    const head = "GET /metrics HTTP/1.1\r\nHost: x\r\n";
    expect(await raw(server.url, `${head}Content-Length: 1000000000\r\n\r\n`)).toMatch(/^HTTP\/1\.1 400 /);
    expect(await raw(server.url, `${head}Transfer-Encoding: chunked\r\n\r\n`)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("with large headers, a tunnel or nonsense is cut off", async () => {
    await using server = await serve();
    expect(await raw(server.url, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"a".repeat(9000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    );
    expect(await raw(server.url, "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")).toBe("");
    expect(
      await raw(server.url, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ).toBe("");
    expect(await raw(server.url, "\u0016\u0003\u0001\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  });

  test("a flood of scrapes makes one page at a time", async () => {
    let making = 0;
    let most = 0;
    let made = 0;
    const page = async () => {
      making += 1;
      most = Math.max(most, making);
      await new Promise((resolve) => setTimeout(resolve, 300));
      making -= 1;
      made += 1;
      return metricsPage;
    };
    await using server = await serve({ metrics: { page } });
    const answers = await Promise.all(
      Array.from({ length: 40 }, async () => (await fetch(`${server.url}/metrics`)).text()),
    );
    expect(new Set(answers)).toEqual(new Set([metricsPage.body]));
    expect(most).toBe(1);
    expect(made).toBeLessThan(20);
  });

  test("connections beyond the bound are closed, and those within are served", async () => {
    await using server = await serve();
    const sockets: Socket[] = [];
    let closed = 0;
    await Promise.all(
      Array.from(
        { length: 100 },
        () =>
          new Promise<void>((resolve) => {
            const socket = connect(portOf(server.url), "127.0.0.1", resolve);
            socket.on("error", () => resolve());
            socket.on("close", () => {
              closed += 1;
            });
            sockets.push(socket);
          }),
      ),
    );
    await expect.poll(() => closed).toBe(36);
    const first = sockets[0];
    if (first === undefined) throw new Error("no socket");
    const answer = new Promise<string>((resolve) => first.once("data", (data: Buffer) => resolve(data.toString())));
    first.write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await answer).toMatch(/^HTTP\/1\.1 200 /);
    for (const socket of sockets) socket.destroy();
  });

  test("a head that never ends is answered with 408 and closed", async () => {
    await using server = await serve({ limits: { ...limits, headMs: 300 } });
    expect(await raw(server.url, "GET / HTTP/1.1\r\nHost")).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a connection that says nothing is closed", async () => {
    await using server = await serve({ limits: { ...limits, idleMs: 200 } });
    expect(await raw(server.url, "")).toBe("");
  });

  test("a reader that stops, or reads for ever, does not keep its page", async () => {
    const large = { ...metricsPage, body: "x".repeat(40_000_000) };
    for (const bound of [{ idleMs: 300 }, { responseMs: 300 }]) {
      await using server = await serve({
        metrics: { page: () => Promise.resolve(large) },
        limits: { ...limits, ...bound },
      });
      const socket = connect(portOf(server.url), "127.0.0.1");
      let received = 0;
      let drinking = false;
      const gone = new Promise((resolve) => socket.on("close", resolve));
      socket.on("error", () => undefined); // it may be reset
      let sipped = (): void => undefined;
      const firstSip = new Promise<void>((resolve) => (sipped = resolve));
      socket.on("data", (data: Buffer) => {
        received += data.length;
        sipped();
        if (drinking) return;
        socket.pause(); // a sip now and then, or one and no more
        if ("responseMs" in bound) setTimeout(() => socket.resume(), 50);
      });
      socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
      await firstSip; // making a large page takes its time on a busy machine, and only then the bounds run
      await new Promise((resolve) => setTimeout(resolve, 1500));
      drinking = true;
      socket.resume(); // what the kernels hold still comes; the rest never does
      await gone;
      expect(received).toBeLessThan(large.body.length);
    }
  });

  test("who goes away in the middle of a page does no harm", async () => {
    const page = async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return { ...metricsPage, body: "x".repeat(5_000_000) };
    };
    await using server = await serve({ metrics: { page } });
    const gone = Array.from(
      { length: 10 },
      () =>
        new Promise<void>((resolve) => {
          const request = ask(`${server.url}/metrics`);
          request.on("error", () => resolve());
          request.end();
          setTimeout(() => request.destroy(), 20);
        }),
    );
    await Promise.all(gone);
    expect((await (await fetch(`${server.url}/metrics`)).text()).length).toBe(5_000_000);
  });
});

test("closing does not wait for a connection that stays open", async () => {
  const server = await serve();
  const socket = connect(portOf(server.url), "127.0.0.1");
  const gone = new Promise((resolve) => socket.on("close", resolve));
  socket.on("error", () => undefined); // it may be reset
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write("GET /livez HTTP/1.1\r\n");
  // Nothing but the server can end it within the test's time.
  await server[Symbol.asyncDispose]();
  await gone;
});
