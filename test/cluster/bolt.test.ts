import { execFile } from "node:child_process";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { SnapshotFacts } from "../../src/bolt/facts.ts";
import { runTask } from "../../src/workers/worker.ts";
import { seededNumbers } from "../bolt/numbers.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { minors, toolProgram } from "./servers.ts";

const never = new AbortController().signal;

describe.each(minors)("a snapshot of a live etcd %s", (minor) => {
  const newer = minor === "3.6" || minor === "3.7";

  it("reads as the stock tools and the cluster itself say, after any history", async () => {
    const numbers = seededNumbers(`history for etcd ${minor}`);
    await using cluster = await startCluster({ minor, flags: ["--quota-backend-bytes=33554432"] });

    // Three histories on top of each other: plain, compacted and defragmented, and until the quota ends it.
    await randomHistory(cluster, numbers, 25);
    let last = await compare(cluster, "one");
    expect(last.compactRevision).toBe(-1n);
    expect(last.rows).toBeGreaterThan(last.keys);

    const compacted = last.revision - 5n;
    await cluster.etcdctl(["compact", "--physical", String(compacted)]);
    await cluster.etcdctl(["defrag"]);
    await randomHistory(cluster, numbers, 25);
    if (minor !== "3.3") await cluster.addMember({ learner: true });
    await cluster.fill({ keys: 3000, valueBytes: 700, seed: numbers.below(1000) });
    const earlier = last;
    last = await compare(cluster, "two", earlier);
    expect(last.compactRevision).toBe(compacted);
    expect(last.members.filter(({ learner }) => learner)).toHaveLength(minor === "3.3" ? 0 : 1);

    const tooLarge = Buffer.alloc(1_400_000, "large ");
    let refused = "";
    for (let i = 0; i < 60 && !refused.includes("database space exceeded"); i++) {
      refused = await cluster.etcdctl(["put", `large/${i}`], { input: tooLarge }).then(
        () => "",
        (error: unknown) => String(error),
      );
    }
    expect(refused).toContain("database space exceeded");
    await cluster.etcdctl(["del", "large/0"]);
    last = await compare(cluster, "three", last);
    expect(new Set(last.alarms.map(({ kind }) => kind))).toEqual(new Set(["NOSPACE"]));
  });

  /** Takes a snapshot and holds what we read against everybody else's word; the rows sampled before must still be the same rows. */
  async function compare(cluster: TestCluster, name: string, before?: SnapshotFacts): Promise<SnapshotFacts> {
    const path = join(cluster.directory, `${name}.db`);
    const [endpoint = ""] = cluster.endpoints;
    await expect.poll(async () => await decidedVersion(endpoint)).toBe(`${minor}.0`);
    const alarmsBefore = await alarms(cluster);
    await cluster.etcdctl(["snapshot", "save", path], { endpoints: [endpoint] });
    const facts = await runTask({ kind: "scan-snapshot", path, probe: before?.samples ?? [], expectSeal: true }, never);

    // Some releases write to the file that they are shown.
    await copyFile(path, `${path}.copy`);
    const checked = await promisify(execFile)(toolProgram("bbolt"), ["check", `${path}.copy`]);
    expect(checked.stdout.trim()).toBe("OK");
    const status = JSON.parse(await cluster.etcdutl(["snapshot", "status", `${path}.copy`, "-w", "json"])) as Record<
      string,
      number
    >;
    expect(facts.revision).toBe(BigInt(status["revision"] ?? 0));
    expect(facts.dbBytes).toBe(status["totalSize"]);
    if (newer) expect(facts.keys).toBe(status["totalKey"]);
    else expect(facts.rows).toBeLessThan(status["totalKey"] ?? 0);

    const listed = await cluster.etcdctl(["get", "", "--prefix", "--keys-only", "-w", "json"]);
    expect(facts.keys).toBe(Number(/"count":\s*"?(\d+)/.exec(listed)?.[1]));
    expect(facts.revision).toBe(await cluster.revision());
    const members = (await cluster.etcdctl(["member", "list"])).trim().split("\n");
    expect(facts.members.map(({ id }) => id.toString(16)).toSorted()).toEqual(
      members.map((line) => line.split(",", 1).join()).toSorted(),
    );
    // Every member raises its own, also the learner that stops at the quota a moment later.
    const found = facts.alarms.map(({ memberId, kind }) => `memberID:${memberId} alarm:${kind}`);
    expect(found).toEqual(expect.arrayContaining(alarmsBefore));
    expect(await alarms(cluster)).toEqual(expect.arrayContaining(found));
    expect(facts.clusterVersion).toBe(`${minor}.0`);
    const leases = (await cluster.etcdctl(["lease", "list"])).trim().split("\n");
    expect(facts.leases).toBe(leases.length - 1);
    expect(facts.brokenMeta).toBeUndefined();
    expect(facts.logicalBytes).toBeLessThanOrEqual(facts.dbBytes);

    const kept = (before?.samples ?? []).filter((sample) =>
      facts.probed.some((row) => row.main === sample.main && row.sub === sample.sub),
    );
    expect(facts.probed).toEqual(kept);
    if (before !== undefined) expect(kept.length).toBeGreaterThan(0);
    return facts;
  }
});

async function alarms(cluster: TestCluster): Promise<string[]> {
  return (await cluster.etcdctl(["alarm", "list"])).split("\n").flatMap((line) => line.trim() || []);
}

/** What the members agreed on, which takes them a moment after the start. */
async function decidedVersion(endpoint: string): Promise<unknown> {
  const response = await fetch(new URL("/version", endpoint), { signal: AbortSignal.timeout(10_000) });
  return ((await response.json()) as { readonly etcdcluster?: unknown }).etcdcluster;
}

/** Transactions of puts and deletes on few keys, so that most have a history; some keys with a lease, some with long values. */
async function randomHistory(
  cluster: TestCluster,
  numbers: ReturnType<typeof seededNumbers>,
  transactions: number,
): Promise<void> {
  const lease = /lease ([0-9a-f]+) granted/.exec(await cluster.etcdctl(["lease", "grant", "86400"]))?.[1] ?? "";
  for (let n = 0; n < transactions; n++) {
    const touched = new Set<string>();
    const lines: string[] = [];
    for (let i = 0; i < 1 + numbers.below(40); i++) {
      const key = `/registry/kind-${numbers.below(7)}/name-${numbers.below(40)}`;
      if (touched.has(key)) continue;
      touched.add(key);
      const value = "v".repeat(1 + numbers.below(numbers.below(20) === 0 ? 20_000 : 300));
      lines.push(
        numbers.below(4) === 0
          ? `del ${key}`
          : `put ${key} ${value}${numbers.below(8) === 0 ? ` --lease=${lease}` : ""}`,
      );
    }
    await cluster.etcdctl(["txn"], { input: `\n${lines.join("\n")}\n\n\n` });
  }
}
