import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkMetrics } from "../telemetry/promtool.ts";
import { startDaemon } from "./daemon.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";

/** Retention of real backups, by the daemon and by hand, with signed documents. */

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await cluster.fill({ keys: 500, valueBytes: 500 });
});
afterAll(async () => await cluster[Symbol.asyncDispose]());

interface Listed {
  readonly backups: readonly {
    readonly backup: string;
    readonly proof: string | null;
    readonly pinned: string | null;
  }[];
}

async function list(site: Site): Promise<Listed["backups"]> {
  return (await site.json<Listed>(["list"])).backups;
}

test("the daemon expires after its backup what the policy lets go, keeps pins and proven ones, and what stays verifies", async () => {
  await using site = await openSite({ cluster: { name: "prod", endpoints: [...cluster.endpoints] }, signed: true });
  for (let count = 0; count < 4; count += 1) expect((await site.run(["backup"])).status).toBe(0);
  const [first, second, third, fourth] = await list(site);
  expect([first, second, third, fourth].map((entry) => entry?.proof)).toEqual(Array(4).fill("proven"));
  expect((await site.run(["pin", first?.backup ?? "", "--reason", "audit"])).status).toBe(0);
  // One past slot, and none that comes while the test runs.
  const change = (config: ConfigInput): void => {
    config.schedules = [{ name: "yearly", cron: "0 0 0 1 1 *" }];
    config.retention = { last: 1, minProven: 1, expire: true };
  };
  {
    await using daemon = await startDaemon(site, { change });
    await daemon.next("backup.committed");
    expect(await daemon.next("backup.expired")).toMatchObject({ backup: second?.backup });
    expect(await daemon.next("backup.expired")).toMatchObject({ backup: third?.backup });
    expect(await daemon.next("retention.applied")).toMatchObject({ expired: 2, objects: 0, left: 0 });
    const { body } = await daemon.page("/metrics");
    expect(checkMetrics(body)).toBe("");
    expect(await daemon.metric("lifeboat_retention_backups", 'state="pinned"')).toBe(1);
    expect(await daemon.metric("lifeboat_retention_expired_total")).toBe(2);
    expect(await daemon.metric("lifeboat_retention_last_status")).toBe(1);
    expect(await daemon.stop()).toMatchObject({ status: 0 });
  }
  const left = await list(site);
  const slot = left.find(({ backup }) => backup.endsWith(".slot.yearly"));
  expect(new Set(left.map(({ backup }) => backup))).toEqual(new Set([first?.backup, fourth?.backup, slot?.backup]));
  expect(left.find(({ backup }) => backup === first?.backup)?.pinned).toBe("audit");
  expect((await site.run(["verify", "--level", "structure"])).status).toBe(0);

  // A day later.
  const then = new Date(Date.now() - 2 * 86_400_000);
  const marks = (await site.objects()).filter((name) => name.includes("/gone/"));
  expect(marks).toHaveLength(2);
  for (const mark of marks) await utimes(join(site.store, mark), then, then);
  const expired = await site.json<{ outcome: { objects: number } }>(["expire", "--yes"], { change });
  expect(expired.outcome.objects).toBe(4);
  const snapshots = (await site.objects()).filter((name) => name.includes("/snapshots/"));
  expect(snapshots).toHaveLength(6);
  expect((await site.run(["verify", "--level", "bytes"])).status).toBe(0);
});
