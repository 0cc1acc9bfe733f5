import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { blocks, readPage } from "../docs/pages.ts";
import { checkMetrics } from "../telemetry/promtool.ts";
import { startDaemon } from "./daemon.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";

/** Backups of a real cluster in further stores, by the daemon and by hand. */

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await cluster.fill({ keys: 300, valueBytes: 300 });
});
afterAll(async () => await cluster[Symbol.asyncDispose]());

async function openCopied(...more: NonNullable<ConfigInput["repository"]["copies"]>): Promise<Site> {
  const site = await openSite({ cluster: { name: "prod", endpoints: [...cluster.endpoints] }, signed: true });
  const directory = join(site.directory, "offsite");
  await mkdir(directory);
  site.config.repository.copies = [{ name: "offsite", store: { directory } }, ...more];
  return site;
}

test("a daemon goes on by its schedule beside a copy that is dead, keeps the other one fresh, and says which is which", async () => {
  const s3 = { bucket: "nowhere", region: "us-east-1", endpoint: "http://127.0.0.1:9", pathStyle: true };
  await using site = await openCopied({ name: "dead", store: { s3 } });
  const env = { AWS_ACCESS_KEY_ID: "AKIANOBODY", AWS_SECRET_ACCESS_KEY: "nothing" };
  site.config.schedules = [{ name: "often", cron: "*/5 * * * * *" }];
  await using daemon = await startDaemon(site, { unbounded: true, env });
  const stored = await daemon.next("copy.stored");
  expect(stored).toMatchObject({ store: "offsite", schedule: "often" });
  await daemon.untilMetric("lifeboat_copy_failures_total", ['store="dead"'], (value) => (value ?? 0) > 0);
  // However long the dead one takes, slots go on to be committed, and copied.
  for (let count = 0; count < 2; count += 1) {
    const { backup } = await daemon.next("backup.committed");
    await daemon.next("copy.stored", (line) => line["backup"] === backup);
  }
  expect(await daemon.metric("lifeboat_copy_last_status", 'store="dead"')).toBe(0);
  expect(await daemon.metric("lifeboat_copy_last_status", 'store="offsite"')).toBe(1);
  const labels = ['store="offsite"', 'schedule="often"'];
  expect(await daemon.metric("lifeboat_copy_last_success_timestamp_seconds", ...labels)).toBeGreaterThan(1.7e9);
  const { body } = await daemon.page("/metrics");
  expect(checkMetrics(body)).toBe("");
  expect(daemon.lines.filter(({ event }) => event === "backup.failed")).toEqual([]);
  expect((await daemon.stop()).status).toBe(0);
  const one = await site.run(["backup"], { env });
  expect(one.status, one.stderr).toBe(3);
  expect(one.stderr).toContain("warning: copy dead: not up to date");
});

test("what docs/operating/copies.md shows is what happens, and the copy alone brings the database back", async () => {
  await using site = await openCopied();
  const [byHand = [], restore = []] = blocks(readPage("docs/operating/copies.md"))
    .filter(({ language }) => language === "sh")
    .map(({ code }) =>
      code
        .trim()
        .split("\n")
        .map((line) => line.split(" ").slice(1)),
    );
  expect(byHand.length).toBeGreaterThan(4);
  for (const words of byHand) {
    const ended = await site.run(words);
    expect(ended.status, `${words.join(" ")}: ${ended.stdout}${ended.stderr}`).toBe(0);
  }
  const [own] = (await site.json<{ backups: { backup: string }[] }>(["list"])).backups;
  await rename(site.store, `${site.store}-lost`);
  expect((await site.run(["list"])).status).toBe(78);
  const snapshot = join(site.directory, "snapshot.db");
  for (const words of restore) {
    const ended = await site.run(words.map((word) => word.replace(/^snapshot\.db$/, snapshot)));
    expect(ended.status, ended.stderr).toBe(0);
    expect(ended.stdout).toBe(`${snapshot}\n`);
  }
  // The copy becomes the first store, and the history goes on in it.
  const change = ({ repository }: ConfigInput): void => {
    repository.store = { directory: join(site.directory, "offsite") };
    repository.copies = [];
  };
  const next = await site.run(["backup"], { change });
  expect(next.status, next.stderr).toBe(0);
  const { backups } = await site.json<{ backups: { backup: string }[] }>(["list"], { change });
  expect(backups).toHaveLength(2);
  expect(backups[0]?.backup).toBe(own?.backup);
  expect((await site.run(["verify", "--level", "deep"], { change })).status).toBe(0);
});
