import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { manifestsOf, openSite, type Site } from "./site.ts";

/** Daemons and commands that nobody watches: a pause, timers beside a daemon, a dead man's switch, signals. */

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await cluster.fill({ keys: 100, valueBytes: 100 });
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

async function openPlain(cron: string): Promise<Site> {
  return await openSite({
    cluster: { name: "prod", endpoints: [...cluster.endpoints] },
    schedules: [{ name: "often", cron }],
  });
}

/** A dead man's switch that hears everything, and answers only as long as it is awake. */
async function startSwitch(): Promise<
  AsyncDisposable & { readonly url: string; readonly heard: string[]; readonly sleep: () => void }
> {
  const heard: string[] = [];
  let awake = true;
  const server: Server = createServer((request, response) => {
    heard.push(String(request.url));
    if (awake) response.end("OK");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    heard,
    sleep: () => void (awake = false),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

describe("a pause", { timeout: 240_000 }, () => {
  test("stops the daemon and the command without a failure, is seen everywhere, and ends with one backup", async () => {
    await using site = await openPlain("*/5 * * * * *");
    await using daemon = await startDaemon(site, { unbounded: true });
    await daemon.next("backup.committed");
    expect((await site.run(["pause", "--reason", "disks are replaced"])).status).toBe(0);
    const held = await daemon.next("schedule.held");
    expect(held).toMatchObject({ level: "warn", code: "paused", schedule: "often" });
    expect(String(held["message"])).toContain("disks are replaced");
    expect(await daemon.metric("lifeboat_repository_paused")).toBe(1);
    expect((await daemon.page("/")).body).toContain("disks are replaced");
    const refused = await site.run(["backup"]);
    expect([refused.status, refused.stdout]).toEqual([11, ""]);
    expect(refused.stderr).toContain("disks are replaced");
    expect((await site.run(["status"])).stdout).toContain("PAUSED");
    const before = manifestsOf(await site.objects()).length;
    expect((await site.run(["resume"])).status).toBe(0);
    const missed = await daemon.next("schedule.missed");
    expect(Number(missed["slots"])).toBeGreaterThan(0);
    await daemon.next("backup.committed");
    expect(manifestsOf(await site.objects()).length).toBeGreaterThan(before);
    expect(await daemon.metric("lifeboat_repository_paused")).toBe(0);
    expect(daemon.lines.filter(({ event }) => event === "backup.failed")).toEqual([]);
    expect((await daemon.stop()).status).toBe(0);
  });
});

describe("backup --schedule --if-due", { timeout: 240_000 }, () => {
  test("by several processes at once, beside a daemon, commits each slot once, and all of them succeed", async () => {
    await using site = await openPlain("*/15 * * * * *");
    await using daemon = await startDaemon(site, { unbounded: true });
    await daemon.next("backup.committed");
    for (let round = 0; round < 3; round += 1) {
      const ends = await Promise.all(
        [1, 2, 3].map(() => site.run(["backup", "--schedule", "often", "--if-due", "--json"])),
      );
      for (const { status, stderr } of ends) expect(status, stderr).toBe(0);
    }
    expect((await daemon.stop()).status).toBe(0);
    const manifests = manifestsOf(await site.objects());
    expect(new Set(manifests).size).toBe(manifests.length);
    for (const manifest of manifests) expect(manifest).toMatch(/\/\d{8}T\d{4}(00|15|30|45)Z\.slot\.often\.json$/);
    expect((await site.run(["verify", "--level", "bytes"])).status).toBe(0);
  });
});

describe("a dead man's switch", { timeout: 240_000 }, () => {
  test("hears of a start and a success, its address is told to nobody else, and one that sleeps delays no backup", async () => {
    await using dead = await startSwitch();
    await using site = await openPlain("*/3 * * * * *");
    site.secrets.add("c0ffee");
    const address = `${dead.url}/c0ffee/{schedule}`;
    const change = (config: typeof site.config): void => {
      config.notify = { start: `${address}/start`, success: address, failure: `${address}/fail` };
    };
    await using daemon = await startDaemon(site, { unbounded: true, change });
    await daemon.next("backup.committed");
    await expect
      .poll(() => dead.heard.slice(0, 2), { timeout: 60_000 })
      .toEqual(["/c0ffee/often/start", "/c0ffee/often"]);
    expect((await site.run(["config", "show"], { change })).stdout).toContain("(not shown)");
    dead.sleep();
    await daemon.next("ping.failed");
    await daemon.next("backup.committed");
    await daemon.next("backup.committed");
    expect(await daemon.metric("lifeboat_pings_total", 'target="failure"', 'result="success"')).toBe(0);
    // It waits a few seconds for the last pings; the second signal does not.
    daemon.signal("SIGTERM");
    await daemon.next("daemon.stopping");
    const end = await daemon.stop("SIGTERM");
    expect(end.status).toBe(130);
  });

  test("is told by a timer's command before that ends", async () => {
    await using dead = await startSwitch();
    await using site = await openPlain("0 0 1 1 *");
    const change = (config: typeof site.config): void => {
      config.notify = { success: `${dead.url}/x` };
    };
    const once_ = await site.run(["backup", "--schedule", "often", "--if-due"], { change });
    expect([once_.status, dead.heard]).toEqual([0, ["/x"]]);
    const again = await site.run(["backup", "--schedule", "often", "--if-due"], { change });
    expect([again.status, dead.heard]).toEqual([0, ["/x"]]);
  });
});
