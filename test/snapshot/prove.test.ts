import { describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import type { HeldLock } from "../../src/repository/lock.ts";
import { proveClaim, scanLimitMs, type Claim, type Finding } from "../../src/snapshot/prove.ts";
import type { FakeScript } from "../fakes/etcd.ts";
import { calm } from "./bytes.ts";
import { openRig, type Rig } from "./rig.ts";

const claim: Claim = {
  run: "run",
  clusterId: 100n,
  source: 2n,
  revision: 50n,
  compactRevision: 40n,
  hashKv: 1,
  keys: 40,
  path: "the spool",
};
const quiet: Partial<FakeScript> = { compactRevision: 40n };

const prove = (rig: Rig, changes: Partial<Claim> = {}, signal = calm): Promise<Finding> =>
  rig.passing(proveClaim(rig.deps, { ...claim, ...changes }, signal));
const asked = (rig: Rig): readonly string[] =>
  rig.etcd.calls.filter((call) => call.startsWith("hashKv")).map((call) => call.slice(7));

describe("members are asked under the lock", () => {
  test("and not at all while it cannot be had: that is no verdict, and it is asked again", async () => {
    using rig = await openRig(quiet);
    const holdScan = async (): Promise<Fault> => new Fault("locked", "the lock is held by restore");
    const finding = await rig.passing(proveClaim({ ...rig.deps, holdScan }, claim, calm));
    expect(finding).toMatchObject({
      verdict: "sealed",
      passing: true,
      reason: "members are not asked now: the lock is held by restore",
    });
    expect(asked(rig)).toEqual([]);
  });

  test("which is given back when they have answered, and once it is lost nobody else is asked", async () => {
    using rig = await openRig({ ...quiet, members: ["a", "b", "c", "d", "e"].map((name) => ({ name })) });
    const lost = new AbortController();
    let held = 0;
    const holdScan = async (): Promise<HeldLock> => {
      held += 1;
      return { lost: lost.signal, [Symbol.asyncDispose]: async () => void (held -= 1) };
    };
    const deps = { ...rig.deps, holdScan };
    expect(await rig.passing(proveClaim(deps, claim, calm))).toMatchObject({ verdict: "proven" });
    expect([held, asked(rig).length]).toEqual([0, 2]);
    lost.abort(new Fault("locked", "the lock was taken away from this operation"));
    await expect(rig.passing(proveClaim(deps, claim, calm))).rejects.toMatchObject({ code: "locked" });
    expect([held, asked(rig).length]).toEqual([0, 2]);
  });
});

describe("members are asked", () => {
  test("followers first: of three, one is enough, and nobody is asked in vain", async () => {
    using rig = await openRig(quiet);
    expect(await prove(rig)).toMatchObject({
      verdict: "proven",
      voters: 3,
      needed: 2,
      agreeing: ["etcd2", "etcd3"],
      diverged: [],
      compactRevision: 40n,
      hash: 1,
      answers: [{ member: "etcd3", memberId: "3", role: "follower", outcome: { kind: "hash", hash: 1 } }],
    });
    expect(asked(rig)).toEqual(["etcd3"]);
    expect(rig.etcd.open()).toBe(0);
  });

  test("one at a time, with a pause at least as long as the scan before it", async () => {
    using rig = await openRig({ members: ["a", "b", "c", "d", "e"].map((name) => ({ name })) });
    const spans: { readonly from: number; readonly to: number }[] = [];
    const { connect } = rig.etcd;
    let busy = 0;
    const etcd = {
      ...rig.etcd,
      connect: (at: Parameters<typeof connect>[0]) => {
        const connection = connect(at);
        return {
          ...connection,
          connections: 1,
          [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
          hashKv: async (revision: bigint, signal: AbortSignal) => {
            expect((busy += 1), "two at once").toBe(1);
            const from = rig.clock.elapsed();
            await rig.clock.sleep(3000, signal);
            const said = await connection.hashKv(revision, signal);
            spans.push({ from, to: rig.clock.elapsed() });
            busy -= 1;
            return said;
          },
        };
      },
    };
    const finding = await rig.passing(proveClaim({ ...rig.deps, etcd }, { ...claim, compactRevision: -1n }, calm));
    expect(finding).toMatchObject({ verdict: "proven", agreeing: ["b", "c", "d"] });
    expect(spans).toHaveLength(2);
    expect(spans[1]!.from - spans[0]!.to).toBeGreaterThanOrEqual(3000);
  });

  test("the next one when one is dead, hangs, or dies while it hashes", async () => {
    for (const [trouble, code] of [
      [{ down: true }, "etcd-unreachable"],
      [{ fail: { hashKv: new Fault("etcd-timeout", "etcd3 did not answer HashKV in time") } }, "etcd-timeout"],
      [{ fail: { hashKv: new Fault("etcd-unreachable", "etcd3 cannot be reached: ECONNRESET") } }, "etcd-unreachable"],
    ] as const) {
      using rig = await openRig(quiet);
      Object.assign(rig.etcd.member("etcd3"), trouble);
      const finding = await prove(rig);
      expect(finding).toMatchObject({ verdict: "proven", agreeing: ["etcd2", "etcd1"] });
      expect(finding.answers).toMatchObject([
        { member: "etcd3", outcome: { kind: "refused", code } },
        { member: "etcd1", role: "leader", outcome: { kind: "hash" } },
      ]);
      expect(rig.events).toContainEqual(expect.objectContaining({ name: "member.unhashed", member: "etcd3", code }));
    }
  });

  test("no longer than a slow disk may take for so much data", async () => {
    expect(scanLimitMs(0)).toBe(5000);
    expect(scanLimitMs(2_000_000_000)).toBe(45_000);
    using rig = await openRig(quiet);
    const stuck = rig.etcd.member("etcd3");
    stuck.delayMs = { hashKv: 60_000 };
    const running = prove(rig);
    await expect.poll(() => asked(rig)).toEqual(["etcd3"]);
    const finding = await running;
    expect(finding).toMatchObject({ verdict: "proven", agreeing: ["etcd2", "etcd1"] });
    expect(finding.answers[0]?.outcome).toMatchObject({ code: "etcd-timeout" });
  });

  test("not before they have applied the file's revision, and not for ever", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd3").status = { revision: 49n };
    const running = proveClaim(rig.deps, claim, calm);
    while (rig.clock.sleepers() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(asked(rig)).toEqual([]);
    rig.etcd.member("etcd3").status = {};
    expect(await rig.passing(running)).toMatchObject({ agreeing: ["etcd2", "etcd3"] });

    rig.etcd.member("etcd3").status = { revision: 49n };
    expect(await prove(rig)).toMatchObject({ verdict: "proven", agreeing: ["etcd2", "etcd1"] });
  });

  test("never a learner, nor the leader where that is not allowed", async () => {
    using rig = await openRig({
      ...quiet,
      members: [{ name: "etcd1" }, { name: "etcd2" }, { name: "etcd3", down: true }, { name: "etcd4", learner: true }],
    });
    const deps = { ...rig.deps, proof: { allowLeader: false } };
    const finding = await rig.passing(proveClaim(deps, claim, calm));
    expect(finding).toMatchObject({ verdict: "sealed", why: "too-few", passing: true, voters: 3 });
    expect(finding.reason).toContain("etcd1 is the leader and proof.allowLeader is false");
    expect(asked(rig)).toEqual([]);
  });

  test("as many voters as are a majority where a learner was the source", async () => {
    using rig = await openRig({
      ...quiet,
      members: [...["etcd1", "etcd2", "etcd3"].map((name) => ({ name })), { name: "etcd4", learner: true }],
    });
    expect(await prove(rig, { source: 4n })).toMatchObject({ verdict: "proven", agreeing: ["etcd3", "etcd2"] });
  });

  test("alone, with itself", async () => {
    using rig = await openRig({ ...quiet, members: [{ name: "etcd1" }] });
    const deps = { ...rig.deps, proof: { allowLeader: false } };
    const finding = await rig.passing(proveClaim(deps, { ...claim, source: 1n }, calm));
    expect(finding).toMatchObject({ verdict: "proven", alone: true, agreeing: ["etcd1"], needed: 1 });
  });

  test("not any more when the run is aborted", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd3").delayMs = { hashKv: 60_000 };
    const controller = new AbortController();
    const running = proveClaim(rig.deps, claim, controller.signal);
    await expect.poll(() => asked(rig)).toEqual(["etcd3"]);
    controller.abort();
    await expect(running).rejects.toMatchObject({ code: "interrupted" });
    expect(rig.etcd.open()).toBe(0);
  });
});

describe("what members hold", () => {
  test("a member in the minority is named, after it was asked twice", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd3").hash = 7;
    expect(await prove(rig)).toMatchObject({
      verdict: "proven",
      agreeing: ["etcd2", "etcd1"],
      diverged: ["etcd3"],
      divergedIds: [3n],
    });
    expect(asked(rig).filter((name) => name === "etcd3")).toHaveLength(2);
    expect(rig.events).toContainEqual(
      expect.objectContaining({ name: "member.diverged", member: "etcd3", revision: 50n }),
    );
  });

  test("a source in the minority is named", async () => {
    using rig = await openRig(quiet);
    for (const name of ["etcd1", "etcd3"]) rig.etcd.member(name).hash = 7;
    expect(await prove(rig)).toMatchObject({ verdict: "source-diverged", diverged: ["etcd2"], hash: 7 });
    expect(rig.events).toContainEqual(expect.objectContaining({ name: "member.diverged", member: "etcd2" }));
  });

  test("members that all differ are sealed as such, and nobody is named", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd1").hash = 7;
    rig.etcd.member("etcd3").hash = 8;
    expect(await prove(rig)).toMatchObject({ verdict: "sealed", why: "disagree", passing: true, diverged: [] });
    expect(rig.events.some(({ name }) => name === "member.diverged")).toBe(false);
  });

  test("an answer of another cluster or member counts nothing", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd3").hashKv = { clusterId: 101n };
    rig.etcd.member("etcd1").hashKv = { memberId: 9n };
    const finding = await prove(rig);
    expect(finding).toMatchObject({ verdict: "sealed", why: "too-few", agreeing: ["etcd2"] });
    expect(finding.reason).toContain("etcd3 answers for cluster 65, not 64");
    expect(finding.reason).toContain("etcd1 is answered by member 9");
  });

  test("a member that was restored from another cluster is not asked", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd3").status = { clusterId: 101n };
    const finding = await prove(rig);
    expect(finding).toMatchObject({ verdict: "proven", agreeing: ["etcd2", "etcd1"] });
    expect(asked(rig)).toEqual(["etcd1"]);
  });

  test("another cluster behind the endpoints proves nothing", async () => {
    using rig = await openRig({ ...quiet, clusterId: 200n });
    expect(await prove(rig)).toMatchObject({ verdict: "sealed", why: "unknown", passing: true });
    expect(asked(rig)).toEqual([]);
  });
});

describe("compaction", () => {
  test("that went on is followed by hashing the file anew", async () => {
    using rig = await openRig({ compactRevision: 45n, revision: 60n });
    const hashed: unknown[] = [];
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).hash = (at) => Number(at);
    const deps: typeof rig.deps = {
      ...rig.deps,
      hashSpool: async (path, revision, compactRevisions) => {
        hashed.push([path, revision, ...compactRevisions]);
        return compactRevisions.map(Number);
      },
    };
    const finding = await rig.passing(proveClaim(deps, claim, calm));
    expect(finding).toMatchObject({ verdict: "proven", compactRevision: 45n, hash: 45 });
    expect(hashed).toEqual([["the spool", 50n, 45n]]);
  });

  test("that went on cannot be followed where the file is gone", async () => {
    using rig = await openRig({ compactRevision: 45n, revision: 60n });
    expect(await prove(rig, { path: undefined })).toMatchObject({
      verdict: "sealed",
      why: "incomparable",
      passing: false,
    });
  });

  test("past the revision seals for good", async () => {
    using rig = await openRig({ compactRevision: 55n, revision: 60n });
    expect(await prove(rig)).toMatchObject({ verdict: "sealed", why: "compacted", passing: false });
  });

  test("at the revision itself proves a quiet cluster of an old minor, which refuses to hash it by number", async () => {
    for (const version of ["3.3.25", "3.4.23", "3.4.26", "3.5.9"]) {
      using rig = await openRig({ compactRevision: 50n, version });
      const finding = await prove(rig, { compactRevision: 50n });
      expect(finding, version).toMatchObject({ verdict: "proven", compactRevision: 50n });
      expect(finding.answers.map(({ outcome }) => outcome.kind)).toContain("refused");
    }
  });

  test("at the revision itself is not proven by an old minor's newest revision once somebody wrote", async () => {
    using rig = await openRig({ compactRevision: 50n, version: "3.4.23", revision: 51n });
    expect(await prove(rig, { compactRevision: 50n })).toMatchObject({ verdict: "sealed", why: "compacted" });
  });

  test("is no trouble for later patches", async () => {
    for (const version of ["3.4.27", "3.5.10", "3.6.0"]) {
      using rig = await openRig({ compactRevision: 50n, version });
      expect(await prove(rig, { compactRevision: 50n })).toMatchObject({ verdict: "proven" });
      expect(asked(rig)).toEqual(["etcd3"]);
    }
  });

  test("that lags on a member makes it no witness", async () => {
    using rig = await openRig(quiet);
    rig.etcd.member("etcd3").compactRevision = 30n;
    expect(await prove(rig)).toMatchObject({ verdict: "proven", agreeing: ["etcd2", "etcd1"] });
  });
});
