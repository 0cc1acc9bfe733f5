import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { patiently } from "./cluster.ts";
import { startDaemon } from "./daemon.ts";
import { startCluster, type ClusterOptions, type TestCluster } from "./harness.ts";
import { openSite, type ConfigInput, type RunOptions, type Site } from "./site.ts";

/** Backups of real clusters are proven by HashKV of real members. */

interface Proven {
  readonly backup: string;
  readonly member: string;
  readonly revision: string;
  readonly compactRevision: string;
  readonly proof: string;
  readonly alone: boolean | null;
  readonly reason: string;
  readonly agreeing: readonly string[];
  readonly diverged: readonly string[];
}

interface Subject extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly site: Site;
  readonly backUp: (how?: RunOptions) => Promise<Proven>;
}

async function open(options: ClusterOptions): Promise<Subject> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(await startCluster(options));
  const { tls } = cluster;
  const site = stack.use(
    await openSite({
      cluster: {
        name: "prod",
        endpoints: [...cluster.endpoints],
        ...(tls === undefined ? {} : { tls: { ca: tls.ca, cert: tls.cert, key: tls.key } }),
      },
      signed: true,
    }),
  );
  const kept = stack.move();
  return {
    cluster,
    site,
    backUp: (how) => site.json<Proven>(["backup"], how),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Several rows of each key, and keys that are gone. */
async function write(cluster: TestCluster): Promise<void> {
  await cluster.fill({ keys: 300, valueBytes: 200 });
  await cluster.fill({ keys: 100, valueBytes: 100 });
  await patiently(() => cluster.etcdctl(["del", "fill/0000003", "--prefix"]));
}

async function compactAtHead(cluster: TestCluster): Promise<bigint> {
  const revision = await cluster.revision();
  await patiently(() => cluster.etcdctl(["compact", revision.toString(), "--physical"]));
  return revision;
}

describe.each([
  { minor: "3.3", members: 1 },
  { minor: "3.4", members: 1 },
  { minor: "3.4", members: 3, tls: true },
  { minor: "3.5", members: 1 },
  { minor: "3.6", members: 3 },
  { minor: "3.7", members: 1 },
] as const)("a quiet cluster of $members on etcd $minor", (options) => {
  let subject: Subject;

  beforeAll(async () => {
    subject = await open(options);
    await write(subject.cluster);
  });
  afterAll(async () => {
    await subject[Symbol.asyncDispose]();
  });

  const expectProven = (proven: Proven): void => {
    expect(proven).toMatchObject({ proof: "proven", alone: options.members === 1, diverged: [] });
    expect(proven.agreeing).toHaveLength(options.members === 1 ? 1 : 2);
    expect(proven.agreeing).toContain(proven.member);
  };

  test("is proven", async () => {
    const proven = await subject.backUp();
    expectProven(proven);
    expect(proven.compactRevision).toBe("-1");
  });

  test("is proven right after a compaction of everything, when some refuse its revision and others have a cached hash", async () => {
    for (const key of ["first", "second"]) {
      await subject.cluster.put(key, "value");
      const revision = await compactAtHead(subject.cluster);
      const proven = await subject.backUp();
      expectProven(proven);
      expect([proven.revision, proven.compactRevision]).toEqual([`${revision}`, `${revision}`]);
    }
  });

  test("says so in list, show and status", async () => {
    const { backup } = await subject.backUp();
    const list = await subject.site.json<{ backups: readonly Proven[] }>(["list"]);
    expect(list.backups.map(({ proof }) => proof)).toEqual(list.backups.map(() => "proven"));
    expect((await subject.site.run(["status"])).stdout).toContain(`newest proven backup: ${backup}, `);
  });
});

describe.each(["3.5", "3.6"] as const)(
  "a cluster on etcd %s that is written to and compacted all the while",
  (minor) => {
    test("is proven at a revision that is long past", async () => {
      await using subject = await open({ minor, members: 3 });
      const { cluster } = subject;
      await write(cluster);
      const stop = new AbortController();
      // A backup's revision is not below what the cluster had when it began, so that this much may go.
      let past = 0n;
      const writing = (async (): Promise<number> => {
        let compactions = 0;
        for (let compacted = 0n; !stop.signal.aborted;) {
          await cluster.fill({ keys: 400, valueBytes: 300 });
          await cluster.fill({ keys: 400, valueBytes: 50 });
          if (past - 1n > compacted) {
            compacted = past - 1n;
            await patiently(() => cluster.etcdctl(["compact", compacted.toString()]));
            compactions += 1;
          }
          await sleep(20);
        }
        return compactions;
      })();
      const ended = writing.catch(() => 0);
      try {
        for (let count = 0; count < 4; count += 1) {
          past = await cluster.revision();
          const proven = await subject.backUp();
          expect(proven).toMatchObject({ proof: "proven", alone: false, diverged: [] });
          expect(await cluster.revision()).toBeGreaterThan(BigInt(proven.revision));
        }
      } finally {
        stop.abort();
        await ended;
      }
      expect(await writing).toBeGreaterThan(0);
    });
  },
);

describe("a follower that is dead", () => {
  test("is left out: the leader is asked, or where that is not allowed the backup is sealed with the reason", async () => {
    await using subject = await open({ minor: "3.5", members: 3 });
    const { cluster, site } = subject;
    await write(cluster);
    const first = await subject.backUp();
    const [source, asked] = first.agreeing;
    const dead = cluster.members.find(({ name }) => name === asked);
    await dead?.stop("SIGKILL");
    await cluster.put("still", "written");
    const proven = await subject.backUp();
    expect(proven).toMatchObject({ proof: "proven", member: source });
    expect(proven.agreeing).not.toContain(asked);

    const sealed = await site.run(["backup"], {
      change: (config) => {
        config.proof = { allowLeader: false };
      },
    });
    expect(sealed).toMatchObject({ status: 0 });
    expect(sealed.stderr).toContain("warning: sealed, not proven: too few voters answer: 1 of 3 voters agree");
    expect(sealed.stderr).toContain("is the leader and proof.allowLeader is false");
  });
});

describe("a learner", () => {
  test("as the source proves nothing by itself: a majority of the voters has to agree", async () => {
    await using subject = await open({ minor: "3.6", members: 1 });
    const { cluster } = subject;
    await write(cluster);
    const learner = await cluster.addMember({ learner: true });
    await cluster.put("more", "rows");
    const proven = await subject.backUp();
    expect(proven).toMatchObject({ proof: "proven", alone: false, member: learner.name, agreeing: ["etcd1"] });
  });

  test("beside voters is never asked", async () => {
    await using subject = await open({ minor: "3.7", members: 3 });
    const { cluster } = subject;
    await write(cluster);
    const learner = await cluster.addMember({ learner: true });
    const proven = await subject.backUp();
    expect(proven).toMatchObject({ proof: "proven", alone: false });
    expect(proven.agreeing).not.toContain(learner.name);
  });
});

describe("a backup that nobody could vouch for in its run", () => {
  const followersOnly = (config: ConfigInput): void => {
    config.proof = { allowLeader: false };
    config.schedules = [{ name: "rare", cron: "0 0 1 1 *" }];
  };

  test("is proven by the daemon when its member is back, and by the next daemon, too", async () => {
    await using subject = await open({ minor: "3.6", members: 3 });
    const { cluster, site } = subject;
    await write(cluster);
    const [, asked] = (await subject.backUp()).agreeing;
    const follower = cluster.members.find(({ name }) => name === asked);
    await follower?.stop("SIGKILL");
    {
      await using daemon = await startDaemon(site, { change: followersOnly });
      const sealed = await daemon.next("backup.sealed");
      expect(sealed).toMatchObject({ why: "too-few", passing: true, schedule: "rare" });
      expect(await daemon.metric("lifeboat_proofs_total", 'schedule="rare"', 'verdict="sealed"')).toBe(1);
      await follower?.start();
      const proven = await daemon.next("backup.proven", undefined, 120_000);
      expect(proven).toMatchObject({ backup: sealed["backup"], revision: sealed["revision"], schedule: "rare" });
      expect(proven["agreeing"]).toContain(asked);
      expect(await daemon.metric("lifeboat_proof_last_proven_timestamp_seconds", 'schedule="rare"')).toBeGreaterThan(0);
      expect((await daemon.stop()).status).toBe(0);
    }

    await follower?.stop("SIGKILL");
    const sealed = await site.run(["backup", "--json"], { change: followersOnly });
    expect(JSON.parse(sealed.stdout)).toMatchObject({ proof: "sealed" });
    await follower?.start();
    const { backup } = JSON.parse(sealed.stdout) as Proven;
    await using daemon = await startDaemon(site, { change: followersOnly });
    expect(await daemon.next("schedule.read")).toHaveProperty("lastProvenMs");
    expect(await daemon.next("backup.proven", undefined, 120_000)).toMatchObject({ backup });
  });
});
