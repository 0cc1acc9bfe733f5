import { join } from "node:path";
import { expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { fill } from "./fill.ts";
import { startCluster, type TestCluster, type TestMember } from "./harness.ts";
import { manifestsOf, openSite, type Site } from "./site.ts";

/** Several daemons, and clusters that are not, or only seem to be, what the repository knows: never mixed, never pruned by each other. */

const cron = "*/3 * * * * *";
const slow = { timeout: 360_000 };

async function openPlace({ endpoints }: TestCluster): Promise<Site> {
  return await openSite({ cluster: { name: "prod", endpoints: [...endpoints] }, schedules: [{ name: "often", cron }] });
}

/** What somebody does who knows etcd's tools alone: an old snapshot under the same name, addresses and token. */
async function restoreBehindOurBack(cluster: TestCluster, snapshotFile: string): Promise<void> {
  const [member] = cluster.members;
  if (member === undefined) throw new Error("one member was expected");
  const flags = ["name", "data-dir", "initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls"];
  const kept = member.argv.filter((arg) => flags.some((flag) => arg.startsWith(`--${flag}=`)));
  expect(kept).toHaveLength(flags.length);
  await cluster.destroy();
  await cluster.etcdutl(["snapshot", "restore", snapshotFile, ...kept]);
  await member.start();
}

/** A follower stands still while the others go on by more than its sockets hold. */
async function leaveBehind(
  cluster: TestCluster,
): Promise<{ readonly lagging: TestMember; readonly others: readonly TestMember[] }> {
  const { members } = cluster;
  // Both are mangled alike by JSON, so that equal stays equal.
  const answers = JSON.parse(await cluster.etcdctl(["endpoint", "status", "--write-out=json"])) as readonly {
    readonly Endpoint: string;
    readonly Status: { readonly leader: bigint; readonly header: { readonly member_id: bigint } };
  }[];
  const follower = answers.find(({ Status }) => Status.leader !== Status.header.member_id)?.Endpoint;
  const lagging = members.find(({ clientUrl }) => clientUrl === follower);
  if (lagging === undefined) throw new Error("no follower was found");
  const others = members.filter((member) => member !== lagging);
  lagging.pause();
  const endpoints = others.map(({ clientUrl }) => clientUrl);
  await fill({ endpoints }, { keys: 500, valueBytes: 50_000, seed: 2 });
  return { lagging, others };
}

const lineageOf = (name: string): string => name.split("/")[1] ?? "";

test(
  "a restore behind the backs of two daemons, and a second cluster in their place, are refused by each until one adopts; no history touches another",
  slow,
  async () => {
    await using cluster = await startCluster();
    await cluster.fill({ keys: 200, valueBytes: 100 });
    await using site = await openPlace(cluster);
    const snapshot = join(site.directory, "old.db");
    await cluster.etcdctl(["snapshot", "save", snapshot]);
    await cluster.fill({ keys: 200, valueBytes: 100, seed: 2 });
    await using other = await startCluster();
    await other.fill({ keys: 900, valueBytes: 100, seed: 3 });

    await using one = await startDaemon(site);
    const { lineage: first } = await one.next("backup.committed");
    await using two = await startDaemon(site);
    // The same file on a host whose address leads to another cluster.
    await using stranger = await startDaemon(site, {
      change: (config) => (config.cluster.endpoints = [...other.endpoints]),
    });
    expect(await stranger.next("backup.failed")).toMatchObject({
      level: "error",
      code: "lineage-foreign",
      message: expect.stringContaining("the cluster's ID is"),
    });
    await two.next(["backup.committed", "backup.superseded"]);

    await restoreBehindOurBack(cluster, snapshot);
    for (const daemon of [one, two]) {
      daemon.skip();
      expect(await daemon.next("backup.failed", ({ code }) => code === "lineage-foreign")).toMatchObject({
        level: "error",
        message: expect.stringMatching(/went back/),
      });
    }
    const old = manifestsOf(await site.objects());
    expect(new Set(old.map(lineageOf))).toEqual(new Set([first]));

    const { lineage: second } = await site.json<{ lineage: string }>(["adopt", "--confirm-cluster", "prod"]);
    for (const daemon of [one, two]) daemon.skip();
    // One of them commits a slot and the other learns of that, in whatever order.
    await Promise.all([one, two].map((daemon) => daemon.next(["backup.committed", "backup.superseded"])));
    await Promise.any([one, two].map((daemon) => daemon.next("backup.committed", ({ lineage }) => lineage === second)));
    stranger.skip();
    await stranger.next("backup.failed", ({ code }) => code === "lineage-foreign");
    expect(stranger.lines.filter(({ event }) => event === "backup.committed")).toEqual([]);
    for (const daemon of [one, two, stranger]) expect((await daemon.stop()).status).toBe(0);

    const all = manifestsOf(await site.objects());
    expect(all.filter((name) => lineageOf(name) === first)).toEqual(old);
    const later = all.filter((name) => lineageOf(name) === second);
    expect(later.length).toBeGreaterThan(0);
    expect(old.length + later.length).toBe(all.length);
    // Each is judged by itself: the last one of each history stays, however new the other one is.
    const expired = await site.json<{ outcome: unknown }>(["expire", "--yes"], {
      change: (config) => (config.retention = { last: 1, minProven: 1 }),
    });
    expect(expired.outcome).toMatchObject({ left: 0 });
    const kept = manifestsOf(await site.objects());
    expect(kept).toContain(old.at(-1));
    expect(kept).toContain(later.at(-1));
    expect((await site.run(["verify", "--level", "bytes"])).status).toBe(0);
  },
);

test(
  "a member that stands alone with an old log only looks like a step back: without quorum nobody is refused, and with it the same history goes on",
  slow,
  async () => {
    await using cluster = await startCluster({ members: 3 });
    await cluster.fill({ keys: 100, valueBytes: 100 });
    await using site = await openPlace(cluster);
    const { lagging, others } = await leaveBehind(cluster);
    await using daemon = await startDaemon(site);
    const before = await daemon.next("backup.committed", ({ quorum }) => quorum === true, 120_000);

    await Promise.all(others.map((member) => member.stop("SIGKILL")));
    lagging.resume();
    const alone = await daemon.next("backup.committed", ({ quorum }) => quorum === false, 120_000);
    expect(alone).toMatchObject({ lineage: before["lineage"], member: lagging.name, level: "warn" });
    expect(BigInt(String(alone["revision"])) < BigInt(String(before["revision"]))).toBe(true);

    await Promise.all(others.map((member) => member.start()));
    const after = await daemon.next("backup.committed", ({ quorum }) => quorum === true, 120_000);
    expect(after["lineage"]).toBe(before["lineage"]);
    expect(BigInt(String(after["revision"])) >= BigInt(String(before["revision"]))).toBe(true);
    expect(daemon.lines.filter(({ code }) => code === "lineage-foreign")).toEqual([]);
    // What was taken alone is older than what was there: it is not what `latest` means, and the newest proven backup stays.
    expect((await daemon.stop()).status).toBe(0);
    const { backup } = await site.json<{ backup: string }>(["show", "latest"]);
    expect(backup).not.toBe(alone["backup"]);
  },
);
