import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Etcd, MemberAddress, MemberConnection, SnapshotMessage } from "../../src/etcd/etcd.ts";
import { Fault } from "../../src/faults.ts";

/** A running cluster and what a test may do to it from outside. */
export interface EtcdSubject extends AsyncDisposable {
  readonly etcd: Etcd;
  /** Every voter. */
  readonly voters: readonly MemberAddress[];
  /** Undefined where the minor has no learners. */
  readonly learner: MemberAddress | undefined;
  /** False for etcd 3.4 before 3.4.28. */
  readonly learnerSnapshots: boolean;
  /** An address where nobody listens. */
  readonly down: MemberAddress;
  /** 6 for etcd 3.6. */
  readonly minor: number;
  /** Writes a key and resolves with the revision of the write. */
  put(key: string, value: string): Promise<bigint>;
  compact(revision: bigint): Promise<void>;
  /** Lets a client read a key from this member. */
  call(member: MemberAddress): Promise<void>;
  /** Raises the alarm NOSPACE for one member. */
  raiseNoSpace(memberId: bigint): Promise<void>;
}

/** What every Etcd keeps, the fake like the real adapter on every minor. The tests share one cluster and run in order. */
export function etcdContract(name: string, start: () => Promise<EtcdSubject>, startMs = 30_000): void {
  describe(name, () => {
    let subject: EtcdSubject;
    const signal = (): AbortSignal => AbortSignal.timeout(60_000);
    const first = (): MemberAddress => subject.voters[0] ?? subject.down;

    beforeAll(async () => {
      subject = await start();
    }, startMs);
    afterAll(async () => {
      await subject[Symbol.asyncDispose]();
    }, startMs);

    test("the member list names every member, and the one that answered", async () => {
      const list = await subject.etcd.members(signal());
      const addresses = [...subject.voters, ...(subject.learner === undefined ? [] : [subject.learner])];
      expect(list.members.map((member) => member.name).sort()).toEqual(addresses.map((each) => each.name).sort());
      expect(list.members.flatMap((member) => member.clientUrls).sort()).toEqual(
        addresses.map((each) => each.url).sort(),
      );
      expect(list.members.map((member) => member.id)).toContain(list.answeredBy);
      expect(list.members.filter((member) => member.learner).map((member) => member.name)).toEqual(
        subject.learner === undefined ? [] : [subject.learner.name],
      );
      expect(list.clusterId).not.toBe(0n);
    });

    test("each member's Status is its own, of this cluster, with the fields of its minor", async () => {
      const list = await subject.etcd.members(signal());
      for (const address of subject.voters) {
        await using member = subject.etcd.connect(address);
        const status = await member.status(signal());
        expect(list.members.find((each) => each.id === status.memberId)?.name).toBe(address.name);
        expect(status.clusterId).toBe(list.clusterId);
        expect(list.members.map((each) => each.id)).toContain(status.leader);
        expect(status.version).toMatch(new RegExp(`^3\\.${subject.minor}\\.`));
        expect(status.raftAppliedIndex !== undefined).toBe(subject.minor >= 4);
        expect(status.dbInUseBytes !== undefined).toBe(subject.minor >= 4);
        // Storage version and quota appear a moment after the first start.
        if (subject.minor < 6) expect(status.storageVersion).toBe(undefined);
        expect(status.dbBytes).toBeGreaterThan(0);
        expect(status.learner).toBe(false);
        expect(status.errors).toEqual([]);
      }
    });

    test("a linearizable read sees the newest revision and writes nothing", async () => {
      await using member = subject.etcd.connect(first());
      const revision = await subject.put("contract/read", "1");
      expect(await member.linearizableRead(signal())).toBe(revision);
      expect(await member.linearizableRead(signal())).toBe(revision);
    });

    test("a serializable read is each member's own, also a learner's", async () => {
      const revision = await subject.put("contract/serializable", "1");
      for (const address of [...subject.voters, ...(subject.learner === undefined ? [] : [subject.learner])]) {
        await using member = subject.etcd.connect(address);
        // Others hear of a write a moment later.
        await expect.poll(() => member.serializableRead(signal()), { timeout: 30_000 }).toBe(revision);
      }
    });

    test("members that agree give the same HashKV at the same revision", async () => {
      const revision = await subject.put("contract/hash", "1");
      await subject.put("contract/hash", "2");
      const hashes = [];
      for (const address of subject.voters) {
        await using member = subject.etcd.connect(address);
        await member.linearizableRead(signal());
        const answer = await member.hashKv(revision, signal());
        expect(answer.revision).toBeGreaterThan(revision);
        expect(answer.hashRevision).toBe(subject.minor >= 6 ? revision : undefined);
        hashes.push([answer.hash, answer.compactRevision, answer.clusterId]);
        expect((await member.hashKv(0n, signal())).revision).toBe(answer.revision);
      }
      expect(new Set(hashes.map(String)).size).toBe(1);
    });

    test("HashKV before a compaction is etcd-compacted, of the future etcd-refused", async () => {
      const old = await subject.put("contract/compact", "1");
      const kept = await subject.put("contract/compact", "2");
      await subject.compact(kept);
      await using member = subject.etcd.connect(first());
      await member.linearizableRead(signal());
      await expect(member.hashKv(old, signal())).rejects.toMatchObject({ code: "etcd-compacted" });
      await expect(member.hashKv(kept + 1000n, signal())).rejects.toMatchObject({ code: "etcd-refused" });
    });

    test("a snapshot is the database in full and its SHA-256, and the connection is still the first one afterwards", async () => {
      const { learner, learnerSnapshots } = subject;
      for (const address of learner === undefined || !learnerSnapshots ? [first()] : [first(), learner]) {
        await using member = subject.etcd.connect(address);
        expect(member.connections).toBe(0);
        const before = await member.status(signal());
        const messages = await drain(member, signal());
        const data = messages.slice(0, -1);
        const total = Number(messages[0]?.remainingBytes ?? 0n) + (messages[0]?.blob.length ?? 0);
        const db = Buffer.concat(data.map((message) => message.blob));
        expect(db.length).toBe(total);
        expect(db.length % 4096).toBe(0);
        expect(data.at(-1)?.remainingBytes).toBe(0n);
        expect(Buffer.from(messages.at(-1)?.blob ?? []).toString("hex")).toBe(
          createHash("sha256").update(db).digest("hex"),
        );
        expect((await member.status(signal())).memberId).toBe(before.memberId);
        expect(member.connections).toBe(1);
      }
    });

    test("a snapshot that is left early leaves the connection usable", async () => {
      await using member = subject.etcd.connect(first());
      for await (const batch of member.snapshot(signal())) {
        expect(batch.length).toBeGreaterThan(0);
        break;
      }
      await expect(member.status(signal())).resolves.toBeDefined();
      expect(member.connections).toBe(1);
    });

    test("a learner gives its Status and snapshots, and says what it cannot do", async () => {
      if (subject.learner === undefined) {
        expect(subject.minor).toBeLessThan(4);
        return;
      }
      await using member = subject.etcd.connect(subject.learner);
      expect((await member.status(signal())).learner).toBe(true);
      await expect(member.alarms(signal())).rejects.toMatchObject({ code: "etcd-unsupported" });
      await expect(member.hashKv(0n, signal())).rejects.toMatchObject({ code: "etcd-unsupported" });
      if (!subject.learnerSnapshots) {
        await expect(drain(member, signal())).rejects.toMatchObject({ code: "etcd-unsupported" });
      }
    });

    test("a call with an aborted signal is interrupted and reaches nobody", async () => {
      const aborted = AbortSignal.abort();
      await using member = subject.etcd.connect(first());
      await expect(subject.etcd.members(aborted)).rejects.toMatchObject({ code: "interrupted" });
      await expect(member.status(aborted)).rejects.toMatchObject({ code: "interrupted" });
      await expect(member.hashKv(0n, aborted)).rejects.toMatchObject({ code: "interrupted" });
      await expect(drain(member, aborted)).rejects.toMatchObject({ code: "interrupted" });
      expect(member.connections).toBe(0);
    });

    test("a member that is down is etcd-unreachable, and the message names its URL", async () => {
      await using member = subject.etcd.connect(subject.down);
      const unreachable = { code: "etcd-unreachable", message: expect.stringContaining(subject.down.url) as string };
      await expect(member.status(signal())).rejects.toMatchObject(unreachable);
      await expect(drain(member, signal())).rejects.toMatchObject(unreachable);
      expect(member.connections).toBe(0);
    });

    test("v2 content is answered with a reason, and there is none from 3.6 on", async () => {
      await using member = subject.etcd.connect(first());
      const content = await member.v2Content(signal());
      expect(content.why).not.toBe("");
      // 3.3 serves the v2 API by default, 3.4 and 3.5 do not.
      if (subject.minor >= 6 || subject.minor === 3) expect(content.state).toBe("no");
      else expect(content.state).toBe("unknown");
    });

    test("no defragmentation runs", async () => {
      await using member = subject.etcd.connect(first());
      expect(await member.defragmenting(signal())).toBe(subject.minor >= 4 ? false : undefined);
    });

    test("what the disk took grows with what is written", async () => {
      await using member = subject.etcd.connect(first());
      const before = await member.diskTimes(signal());
      await subject.put("disk/times", "x");
      const after = await member.diskTimes(signal());
      expect(after?.walFsync.count).toBeGreaterThan(before?.walFsync.count ?? Infinity);
      expect(after?.walFsync.seconds).toBeGreaterThan(before?.walFsync.seconds ?? Infinity);
      expect(after?.backendCommit.count).toBeGreaterThanOrEqual(before?.backendCommit.count ?? Infinity);
    });

    test("a member that was added is in the list without a name, is not promoted before it runs, and can be removed again", async () => {
      await using member = subject.etcd.connect(first());
      const { members: before } = await member.members(signal());
      // etcd takes one learner at a time, and refuses any change for some seconds after a start.
      const asLearner = subject.minor >= 4 && subject.learner === undefined;
      let id = 0n;
      const peerUrls = ["http://127.0.0.1:1"];
      await expect
        .poll(async () => (id = await member.addMember(peerUrls, asLearner, signal())), { timeout: 30_000 })
        .not.toBe(0n);
      const { members } = await member.members(signal());
      expect(members.find((each) => each.id === id)).toMatchObject({
        name: "",
        peerUrls,
        clientUrls: [],
        learner: asLearner,
      });
      await expect(member.addMember(peerUrls, asLearner, signal())).rejects.toMatchObject({ code: "etcd-refused" });
      if (subject.minor >= 4)
        await expect(member.promoteMember(id, signal())).rejects.toMatchObject({ code: "etcd-refused" });
      await member.removeMember(id, signal());
      expect((await member.members(signal())).members.map((each) => each.id)).toEqual(before.map((each) => each.id));
      await expect(member.removeMember(id, signal())).rejects.toMatchObject({ code: "etcd-refused" });
    });

    test("a member's own list of members is the cluster's", async () => {
      await using member = subject.etcd.connect(first());
      const own = await member.members(signal());
      const { clusterId, members } = await subject.etcd.members(signal());
      expect(own.clusterId).toBe(clusterId);
      expect(new Set(own.members.map(({ id }) => id))).toEqual(new Set(members.map(({ id }) => id)));
      expect(own.answeredBy).toBe((await member.status(signal())).memberId);
    });

    test("calls of clients are counted, and looks at the member's health are not", async () => {
      await using member = subject.etcd.connect(first());
      const before = await member.clientCalls(signal());
      await member.status(signal());
      await member.hashKv(0n, signal());
      await member.alarms(signal());
      await member.members(signal());
      const after = await member.clientCalls(signal());
      expect(after?.calls).toBe(before?.calls ?? -1);
      expect(after).toMatchObject({ startedSeconds: before?.startedSeconds ?? -1, openStreams: 0, watchers: 0 });
      await subject.call(first());
      expect((await member.clientCalls(signal()))?.calls).toBeGreaterThan(after?.calls ?? Infinity);
    });

    test("to cancel a downgrade that nobody enabled changes nothing", async () => {
      await using member = subject.etcd.connect(first());
      if (subject.minor >= 6) await member.cancelDowngrade(signal());
      else await expect(member.cancelDowngrade(signal())).rejects.toBeInstanceOf(Fault);
    });

    test("every member says whether authentication is on", async () => {
      for (const address of subject.voters) {
        await using member = subject.etcd.connect(address);
        const { enabled, revision } = await member.authStatus(signal());
        expect(enabled).toBe(false);
        expect(revision === undefined).toBe(subject.minor < 5);
      }
    });

    test("a member's metrics tell its process, its disks, its leaders and its peers", async () => {
      const list = await subject.etcd.members(signal());
      for (const address of subject.voters) {
        await using member = subject.etcd.connect(address);
        const before = await member.serverMetrics(signal());
        await subject.put("disk/buckets", "x");
        await expect
          .poll(async () => (await member.serverMetrics(signal()))?.walFsync?.count ?? 0, { timeout: 30_000 })
          .toBeGreaterThan(before?.walFsync?.count ?? Infinity);
        // A peer is there from the first round trip on, which etcd measures after half a minute.
        const metrics = await member.serverMetrics(signal());
        const ids = list.members.map(({ id }) => id);
        for (const peer of metrics?.peerRoundTrips.keys() ?? []) expect(ids).toContain(peer);
        expect(metrics?.startedMs).toBeGreaterThan(Date.UTC(2020, 0, 1));
        expect(metrics?.residentBytes).toBeGreaterThan(1e6);
        expect(metrics?.cpuSeconds).toBeGreaterThan(0);
        expect(metrics?.leaderChanges).toBeGreaterThan(0);
        expect(metrics?.heartbeatFailures).toBeGreaterThanOrEqual(0);
        expect(metrics?.quotaBytes).toBe(2 * 2 ** 30);
        for (const histogram of [metrics?.walFsync, metrics?.backendCommit]) {
          const counts = (histogram?.buckets ?? []).map(({ count }) => count);
          expect(counts.length).toBeGreaterThan(3);
          expect(counts).toEqual(counts.toSorted((a, b) => a - b));
          expect(histogram?.buckets.at(-1)).toEqual({ le: Infinity, count: histogram?.count });
        }
      }
    });

    test("without TLS nobody shows a certificate, and we have none", async () => {
      await using member = subject.etcd.connect(first());
      expect(await member.serverCertificate(signal())).toBe(undefined);
      expect(await subject.etcd.certificates()).toEqual({ client: undefined, ca: [] });
    });

    test("an alarm is told with its member, and stands in that member's Status", async () => {
      await using member = subject.etcd.connect(first());
      expect(await member.alarms(signal())).toEqual([]);
      const { memberId } = await member.status(signal());
      await subject.raiseNoSpace(memberId);
      expect(await member.alarms(signal())).toEqual([{ memberId, kind: "NOSPACE" }]);
      if (subject.minor >= 4) expect((await member.status(signal())).errors.join()).toContain("NOSPACE");
      await member.disarm({ memberId: memberId + 1n, kind: "NOSPACE" }, signal());
      expect(await member.alarms(signal())).toEqual([{ memberId, kind: "NOSPACE" }]);
      await member.disarm({ memberId, kind: "NOSPACE" }, signal());
      expect(await member.alarms(signal())).toEqual([]);
    });
  });
}

async function drain(member: MemberConnection, signal: AbortSignal): Promise<SnapshotMessage[]> {
  const messages: SnapshotMessage[] = [];
  for await (const batch of member.snapshot(signal)) messages.push(...batch);
  return messages;
}
