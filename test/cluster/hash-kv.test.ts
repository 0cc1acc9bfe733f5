import { copyFile, open } from "node:fs/promises";
import { join } from "node:path";
import { Etcd3, type IRequestOp } from "etcd3";
import { describe, expect, test } from "vitest";
import { openEtcd } from "../../src/etcd/connect.ts";
import type { HashKv, MemberConnection } from "../../src/etcd/etcd.ts";
import type { SnapshotFacts } from "../../src/bolt/facts.ts";
import { hashKv } from "../../src/bolt/hash-kv.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { isFault } from "../../src/faults.ts";
import { seededNumbers } from "../bolt/numbers.ts";
import { restoreCluster, startCluster, type Minor, type TestCluster } from "./harness.ts";
import { minors } from "./servers.ts";

type Numbers = ReturnType<typeof seededNumbers>;

/** Small batches make a compaction take a second or two, so that a snapshot falls into it. 3.3 has neither flag: its batches are of 10 000. */
const slowCompaction: Readonly<Record<Minor, readonly string[]>> = {
  "3.3": [],
  "3.4": ["--experimental-compaction-batch-limit=25"],
  "3.5": ["--experimental-compaction-batch-limit=25"],
  "3.6": ["--compaction-batch-limit=25"],
  "3.7": ["--compaction-batch-limit=25"],
};

const calm = new AbortController().signal;

describe.each(minors)("HashKV of a snapshot of etcd %s", { timeout: 180_000 }, (minor) => {
  test("is the live member's, before, during and after compaction, now and at past revisions", async () => {
    const numbers = seededNumbers(`HashKV of etcd ${minor}`);
    await using cluster = await startCluster({ minor, flags: slowCompaction[minor] });
    await using site = openSite(cluster);
    const { client, member, counts } = site;

    await history(client, numbers, 25);
    const plain = await site.compare("plain", numbers);
    expect(plain.compactRevision).toBe(-1n);

    // A compaction at a random revision, and more of everything on top of it.
    await compact(client, between(numbers, plain.revision / 2n, plain.revision), true);
    await history(client, numbers, 25);
    const compacted = await site.compare("compacted", numbers);
    expect(compacted.compactionFinished).toBe(compacted.compactRevision);

    // Thousands of rows that go, and a snapshot while they do.
    let during = compacted;
    for (let round = 0; round < 8 && during.compactionFinished === during.compactionScheduled; round++) {
      await churn(client, minor === "3.3" ? 260 : 30);
      await history(client, numbers, 5);
      const to = await compactTo(member, numbers);
      await compact(client, to, false);
      during = await site.compare(`during ${round}`, numbers);
      expect(during.compactionScheduled).toBe(to);
    }
    expect(during.compactionFinished).toBeLessThan(during.compactionScheduled ?? 0n);

    // A kill in the middle of another one: the file as it lies there, against the member that took up where it was.
    await churn(client, minor === "3.3" ? 260 : 30);
    await compact(client, await compactTo(member, numbers), false);
    await cluster.members[0]?.stop("SIGKILL");
    const crashed = join(cluster.directory, "crashed.db");
    await copyFile(join(cluster.members[0]?.dataDirectory ?? "", "member/snap/db"), crashed);
    await cluster.members[0]?.start();
    await using later = openSite(cluster);
    await later.check(crashed, scanSnapshot(crashed), numbers);

    // At rest and compacted at its very revision, where old servers refuse to say what they say of "now".
    const head = (await member.hashKv(0n, soon())).revision;
    await compact(later.client, head, true);
    const quiet = await later.compare("quiet", numbers);
    expect(quiet.compactRevision).toBe(quiet.revision);
    const asked = await member.hashKv(quiet.revision, soon()).catch((error: unknown) => error);
    if (minor === "3.3" || minor === "3.4") expect(isFault(asked, "etcd-compacted")).toBe(true);
    else expect(asked).toMatchObject({ revision: quiet.revision });

    // Of the many revisions that were asked for, some are gone, and old servers remember less.
    console.log(`HashKV of etcd ${minor}: ${JSON.stringify({ first: counts, second: later.counts })}`);
    expect(counts.equal).toBeGreaterThan(10);
    expect(counts.past).toBeGreaterThan(3);
    expect(counts.later).toBeGreaterThan(0);
  });
});

describe.each(["3.6", "3.7"] as const)("HashKV of a restored snapshot of etcd %s", { timeout: 180_000 }, (minor) => {
  test("is that of the cluster whose revision was raised, empty row and all", async () => {
    const numbers = seededNumbers(`HashKV of a restored etcd ${minor}`);
    await using cluster = await startCluster({ minor });
    await using site = openSite(cluster);
    await history(site.client, numbers, 30);
    await compact(site.client, await compactTo(site.member, numbers), true);
    await history(site.client, numbers, 10);
    const { revision } = await site.compare("before", numbers);

    const snapshotFile = join(cluster.directory, "before.db");
    await using restored = await restoreCluster({ minor, snapshotFile, bump: 1_000_000_000n });
    await using there = openSite(restored);
    const facts = await there.compare("restored", numbers);
    expect(facts.revision).toBeGreaterThan(1_000_000_000n);
    expect(facts.compactRevision).toBe(revision + 1_000_000_000n);
    await history(there.client, numbers, 10);
    await there.compare("written", numbers);
    await compact(there.client, await compactTo(there.member, numbers), true);
    await there.compare("compacted", numbers);
  });
});

interface Site extends AsyncDisposable {
  readonly client: Etcd3;
  readonly member: MemberConnection;
  /** Answers that were compared, of these for past revisions, of these as of a later compaction than the file's; and refusals. */
  readonly counts: { equal: number; past: number; later: number; refused: number };
  /** Takes a snapshot and compares. */
  compare(name: string, numbers: Numbers): Promise<SnapshotFacts>;
  check(path: string, facts: SnapshotFacts, numbers: Numbers): Promise<void>;
}

function openSite(cluster: TestCluster): Site {
  const [url = ""] = cluster.endpoints;
  const client = new Etcd3({ hosts: [url] });
  const etcd = openEtcd({ endpoints: [url] });
  const member = etcd.connect({ name: "etcd1", url });
  const counts = { equal: 0, past: 0, later: 0, refused: 0 };
  const ask = async (path: string, facts: SnapshotFacts, revision: bigint): Promise<HashKv | undefined> => {
    const live = await member.hashKv(revision, soon()).catch((error: unknown) => {
      if (!isFault(error, "etcd-compacted")) throw error;
      counts.refused++;
      return undefined;
    });
    if (live === undefined) return undefined;
    const at = revision === 0n ? live.revision : revision;
    // The file may lie a little behind a member that was killed.
    if (at > facts.revision) return live;
    if (live.compactRevision < facts.compactRevision) {
      // It remembers what it said before the compaction that the file has seen.
      expect(() => hashKv(path, at, [live.compactRevision])).toThrow("is compacted at");
      return undefined;
    }
    const [hash, ifCompactedThere] = hashKv(path, at, [live.compactRevision, at]);
    const where = `revision ${at}, compacted at ${live.compactRevision}; the file: ${facts.revision}, compacted at ${facts.compactRevision}`;
    expect(hash, where).toBe(live.hash);
    expect(ifCompactedThere).toBeTypeOf("number");
    if (at === facts.revision && live.compactRevision === facts.compactRevision) expect(facts.hashKv).toBe(live.hash);
    counts.equal++;
    counts.past += Number(at < facts.revision);
    counts.later += Number(live.compactRevision > facts.compactRevision);
    return live;
  };
  const check = async (path: string, facts: SnapshotFacts, numbers: Numbers): Promise<void> => {
    const now = await ask(path, facts, 0n);
    if (now === undefined) throw new Error("a member refuses to hash its own revision");
    expect(now.revision).toBeGreaterThanOrEqual(facts.revision);
    await ask(path, facts, facts.revision);
    for (let i = 0; i < 6; i++) {
      const from = facts.compactRevision < 1n ? 1n : facts.compactRevision;
      await ask(path, facts, i === 0 ? from : between(numbers, from, facts.revision));
    }
    // The same file as of a compaction that comes after it.
    if (facts.revision - facts.compactRevision > 4n && !path.includes("during")) {
      const to = between(numbers, facts.compactRevision + 1n, facts.revision - 1n);
      await compact(client, to < 1n ? 1n : to, false);
      await ask(path, facts, facts.revision);
      await ask(path, facts, between(numbers, to + 1n, facts.revision));
    }
  };
  return {
    client,
    member,
    counts,
    check,
    async compare(name, numbers) {
      const path = join(cluster.directory, `${name.replaceAll(" ", "-")}.db`);
      const file = await open(path, "w");
      try {
        for await (const batch of member.snapshot(calm)) for (const { blob } of batch) await file.write(blob);
      } finally {
        await file.close();
      }
      const facts = scanSnapshot(path, { expectSeal: true });
      await check(path, facts, numbers);
      return facts;
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await member[Symbol.asyncDispose]();
      await etcd[Symbol.asyncDispose]();
    },
  };
}

/** Transactions of up to 128 puts and deletes on few keys, some with a lease, some empty; now and then a whole range goes. */
async function history(client: Etcd3, numbers: Numbers, transactions: number): Promise<void> {
  const lease = (await client.leaseClient.leaseGrant({ TTL: "86400", ID: "0" })).ID;
  for (let n = 0; n < transactions; n++) {
    const success = new Map<string, IRequestOp>();
    for (let i = numbers.below(4) === 0 ? 128 : 1 + numbers.below(12); i > 0; i--) {
      const name = `/registry/kind-${numbers.below(5)}/name-${numbers.below(60)}`;
      const key = Buffer.from(name);
      const value = Buffer.alloc(numbers.below(5) === 0 ? 0 : numbers.below(numbers.below(20) === 0 ? 9000 : 200), "v");
      success.set(
        name,
        numbers.below(4) === 0
          ? { request_delete_range: { key } }
          : { request_put: { key, value, lease: numbers.below(8) === 0 ? lease : "0" } },
      );
    }
    await client.kv.txn({ compare: [], success: [...success.values()], failure: [] });
    if (numbers.below(25) === 0) {
      const kind = numbers.below(5);
      await client.kv.deleteRange({
        key: Buffer.from(`/registry/kind-${kind}/`),
        range_end: Buffer.from(`/registry/kind-${kind}0`),
      });
    }
  }
  // What hangs on a lease goes with it.
  if (numbers.below(2) === 0) await client.leaseClient.leaseRevoke({ ID: lease });
}

/** As many transactions of 128 rows on the same keys, of which a compaction leaves one each. */
async function churn(client: Etcd3, transactions: number): Promise<void> {
  for (let n = 0; n < transactions; n++) {
    const success = Array.from({ length: 128 }, (_, i) => ({
      request_put: { key: Buffer.from(`/churn/${i}`), value: Buffer.from(`${n}`) },
    }));
    await client.kv.txn({ compare: [], success, failure: [] });
  }
}

/** Not asked twice: the second time it is compacted already. */
async function compact(client: Etcd3, revision: bigint, physical: boolean): Promise<void> {
  await client.kv.compact({ revision: String(revision), physical }).catch((error: unknown) => {
    if (!String(error).includes("has been compacted")) throw error;
  });
}

/** A little below the member's revision. */
async function compactTo(member: MemberConnection, numbers: Numbers): Promise<bigint> {
  return (await member.hashKv(0n, soon())).revision - BigInt(1 + numbers.below(4));
}

function between(numbers: Numbers, from: bigint, to: bigint): bigint {
  return from + BigInt(numbers.below(Number(to - from) + 1));
}

function soon(): AbortSignal {
  return AbortSignal.timeout(60_000);
}
