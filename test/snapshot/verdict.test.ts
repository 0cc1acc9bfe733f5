import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  judge,
  type Answer,
  type Conclusion,
  type Evidence,
  type HashOutcome,
  type RefusedOutcome,
} from "../../src/snapshot/verdict.ts";

const revision = 100n;
const compaction = 40n;

/** How a scripted member answers each time it is asked; the last entry repeats itself. */
type Manner = (atHead: boolean) => HashOutcome | RefusedOutcome;
interface Scripted {
  readonly name: string;
  readonly learner?: boolean;
  readonly manners: readonly Manner[];
}

const hashOf = (data: string, compactRevision: bigint): number =>
  Buffer.from(`${data}@${compactRevision}`).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7);
const holds =
  (data: string, changes: Partial<HashOutcome> = {}, id?: bigint): Manner =>
  () => {
    const at = changes.compactRevision ?? compaction;
    return {
      kind: "hash",
      clusterId: 7n,
      memberId: id ?? 0n,
      hash: hashOf(data, at),
      compactRevision: at,
      revision: 100n,
      hashRevision: undefined,
      ...changes,
    };
  };
const refuses =
  (why: RefusedOutcome["why"], message: string = why): Manner =>
  () => ({ kind: "refused", why, message });

interface Case {
  readonly members: readonly Scripted[];
  readonly source?: number;
  readonly leader?: number;
  readonly allowLeader?: boolean;
  readonly hashable?: boolean;
  /** Live keys of the file. */
  readonly keys?: number;
}

/** Asks as the prover does until there is a conclusion. */
function run({ members, source = 0, leader = -1, allowLeader = true, hashable = true, keys = 1 }: Case): {
  readonly end: Conclusion;
  readonly asked: readonly string[];
} {
  const voters = members.flatMap(({ name, learner }, index) =>
    learner === true ? [] : [{ id: BigInt(index + 1), name, leader: index === leader }],
  );
  const hashes = new Map([[compaction, hashOf("file", compaction)]]);
  const answers: Answer[] = [];
  const asked: string[] = [];
  for (let steps = 0; steps < 200; steps += 1) {
    const evidence: Evidence = {
      clusterId: 7n,
      source: BigInt(source + 1),
      voters,
      allowLeader,
      revision,
      compactRevision: compaction,
      hashes,
      hashable,
      keys,
      answers,
    };
    const step = judge(evidence);
    if (step.kind === "hash") {
      expect(hashable).toBe(true);
      expect(step.compactRevision >= compaction && step.compactRevision <= revision).toBe(true);
      hashes.set(step.compactRevision, hashOf("file", step.compactRevision));
    } else if (step.kind === "ask") {
      const member = members[Number(step.member) - 1]!;
      const before = answers.filter((answer) => answer.member === step.member).length;
      const outcome = (member.manners[before] ?? member.manners.at(-1)!)(step.atHead);
      asked.push(`${member.name}${step.atHead ? " at head" : ""}`);
      const own = outcome.kind === "hash" && outcome.memberId === 0n ? { ...outcome, memberId: step.member } : outcome;
      answers.push({ member: step.member, atHead: step.atHead, outcome: own });
    } else {
      return { end: step, asked };
    }
  }
  throw new Error("no conclusion after 200 steps");
}

const same = { manners: [holds("file")] };
const other = { manners: [holds("other")] };
const dead = { manners: [refuses("passing", "does not answer")] };
const three = (second: Partial<Scripted>, third: Partial<Scripted>): readonly Scripted[] => [
  { name: "a", ...same },
  { name: "b", ...same, ...second },
  { name: "c", ...same, ...third },
];

describe("a verdict", () => {
  test("of three members: one follower is enough, and the leader is left in peace", () => {
    const { end, asked } = run({ members: three({}, {}), leader: 1 });
    expect(end).toMatchObject({ kind: "proven", alone: false, needed: 2, agreeing: [1n, 3n], diverged: [] });
    expect(asked).toEqual(["c"]);
  });

  test("of five members: two followers", () => {
    const members = ["a", "b", "c", "d", "e"].map((name) => ({ name, ...same }));
    const { end, asked } = run({ members, leader: 4 });
    expect(end).toMatchObject({ kind: "proven", needed: 3, agreeing: [1n, 2n, 3n] });
    expect(asked).toEqual(["b", "c"]);
  });

  test("of a learner's file needs a majority of the voters, and no learner is ever asked", () => {
    const members = [{ name: "l", learner: true, ...same }, ...three({}, {}), { name: "m", learner: true, ...other }];
    const { end, asked } = run({ members, leader: 1 });
    expect(end).toMatchObject({ kind: "proven", needed: 2, agreeing: [3n, 4n] });
    expect(asked).toEqual(["b", "c"]);
  });

  test("of a single member compares it with itself and says that this is all there is", () => {
    const { end, asked } = run({ members: [{ name: "a", ...same }], leader: 0, allowLeader: false });
    expect(end).toMatchObject({ kind: "proven", alone: true, needed: 1, agreeing: [1n] });
    expect(asked).toEqual(["a"]);
  });

  test("names another member in the minority, after it was asked twice", () => {
    const { end, asked } = run({ members: three(other, {}), leader: 2 });
    expect(end).toMatchObject({ kind: "proven", agreeing: [1n, 3n], diverged: [2n] });
    expect(asked).toEqual(["b", "b", "c"]);
  });

  test("names nobody for a difference that was gone when it was looked at again", () => {
    const { end } = run({ members: three({ manners: [holds("other"), holds("file")] }, {}) });
    expect(end).toMatchObject({ kind: "proven", agreeing: [1n, 2n, 3n], diverged: [] });
  });

  test("names nobody whose difference could not be looked at again", () => {
    const { end } = run({ members: three({ manners: [holds("other"), refuses("passing")] }, {}) });
    expect(end).toMatchObject({ kind: "proven", agreeing: [1n, 3n], diverged: [] });
  });

  test("of a source in the minority is no seal: the others agree on something else", () => {
    const { end } = run({ members: three(other, other), leader: 1 });
    expect(end).toMatchObject({ kind: "source-diverged", needed: 2, diverged: [1n] });
  });

  test("accuses nobody where no key is left: which rows etcd hashes then depends on how many a compaction has removed", () => {
    const { end } = run({ members: three(other, other), keys: 0 });
    expect(end).toMatchObject({ kind: "sealed", why: "incomparable", passing: false, diverged: [] });
    expect(end.reason).toMatch(/b cannot be compared: no key is left, .*; c cannot be compared: no key is left/);
    expect(run({ members: three({}, other), keys: 0 }).end).toMatchObject({ kind: "proven", diverged: [] });
    expect(run({ members: [{ name: "a", ...other }], keys: 0 }).end).toMatchObject({ kind: "sealed", diverged: [] });
  });

  test("of members that all differ is sealed, and may be asked again", () => {
    const { end } = run({ members: three(other, { manners: [holds("third")] }) });
    expect(end).toMatchObject({ kind: "sealed", why: "disagree", passing: true });
    expect((end as { reason: string }).reason).toBe(
      "members disagree: 1 of 3 voters agree, 2 are needed; b differs; c differs",
    );
  });

  test("of two members that differ finds no majority either way", () => {
    const { end } = run({ members: three(other, {}).slice(0, 2) });
    expect(end).toMatchObject({ kind: "sealed", why: "disagree", diverged: [] });
  });

  test("without enough voters that answer is sealed and names them", () => {
    const { end } = run({ members: three(dead, dead), leader: 1 });
    expect(end).toMatchObject({ kind: "sealed", why: "too-few", passing: true });
    expect((end as { reason: string }).reason).toBe(
      "too few voters answer: 1 of 3 voters agree, 2 are needed; b does not answer; c does not answer",
    );
  });

  test("goes on to the next member when one is dead, the leader last", () => {
    const { end, asked } = run({ members: three({}, dead), leader: 1 });
    expect(end).toMatchObject({ kind: "proven", agreeing: [1n, 2n] });
    expect(asked).toEqual(["c", "b"]);
  });

  test("never asks the leader where that is not allowed, and says that only it could tell", () => {
    const lasting = { manners: [refuses("lasting")] };
    const { end, asked } = run({ members: three({}, lasting), leader: 1, allowLeader: false });
    expect(end).toMatchObject({ kind: "sealed", why: "leader", passing: false });
    expect(asked).toEqual(["c"]);
  });

  test("does not ask a leader whose word could decide nothing", () => {
    const members = ["a", "b", "c", "d", "e"].map((name, index) => ({ name, ...(index > 0 ? dead : same) }));
    const { asked } = run({ members, leader: 4 });
    expect(asked).toEqual(["b", "c", "d"]);
  });

  test("compacted past the revision is sealed for good", () => {
    const compacted = {
      manners: [(atHead: boolean) => (atHead ? holds("file", { revision: 130n })(true) : refuses("compacted")(false))],
    };
    const { end, asked } = run({ members: three(compacted, compacted) });
    expect(end).toMatchObject({ kind: "sealed", why: "compacted", passing: false });
    expect(asked).toEqual(["b", "c", "b at head", "c at head"]);
  });

  test("of an old minor that refuses its compaction revision comes from the newest one while nobody writes", () => {
    const quiet = {
      manners: [
        (atHead: boolean) =>
          atHead ? holds("file", { compactRevision: revision })(true) : refuses("compacted")(false),
      ],
    };
    const { end, asked } = run({ members: three(quiet, dead) });
    expect(end).toMatchObject({ kind: "proven", compactRevision: revision });
    expect(asked).toEqual(["b", "c", "b at head"]);
  });

  test("of a cached answer for an earlier compaction comes from the newest revision as well", () => {
    const cached = { manners: [(atHead: boolean) => holds("file", atHead ? {} : { compactRevision: 10n })(atHead)] };
    expect(run({ members: three(cached, dead) }).end).toMatchObject({ kind: "proven", compactRevision: compaction });
  });

  test("of a member whose compaction lags behind the file's is none", () => {
    const lags = { manners: [holds("file", { compactRevision: 10n })] };
    const { end } = run({ members: three(lags, dead) });
    expect(end).toMatchObject({ kind: "sealed", why: "too-few", passing: true });
  });

  test("hashes the file where the cluster was compacted meanwhile", () => {
    const later = { manners: [holds("file", { compactRevision: 70n })] };
    expect(run({ members: three(later, dead) }).end).toMatchObject({ kind: "proven", compactRevision: 70n });
  });

  test("says so where the file is gone that would have to be hashed", () => {
    const later = { manners: [holds("file", { compactRevision: 70n })] };
    const { end } = run({ members: three(later, later), hashable: false });
    expect(end).toMatchObject({ kind: "sealed", why: "incomparable", passing: false });
  });

  test("asks again those that differ at different compactions, before it gives up", () => {
    const first = { manners: [holds("other"), holds("other"), holds("other", { compactRevision: 60n })] };
    const second = { manners: [holds("other", { compactRevision: 60n })] };
    expect(run({ members: three(first, second) }).end).toMatchObject({
      kind: "source-diverged",
      compactRevision: 60n,
    });
  });

  test.each([
    ["another cluster", { clusterId: 8n }, "answers for cluster 8, not 7"],
    ["another member", { memberId: 9n }, "is answered by member 9"],
    ["another revision", { hashRevision: 99n }, "hashed revision 99, not 100"],
    ["a compaction ahead of it", { compactRevision: 101n }, "has compacted up to 101, past 100"],
  ])("an answer for %s counts nothing and is named", (_what, changes, words) => {
    const odd = { manners: [holds("file", changes)] };
    const { end } = run({ members: three(odd, odd) });
    expect(end).toMatchObject({ kind: "sealed", agreeing: [1n] });
    expect((end as { reason: string }).reason).toContain(`b ${words}`);
  });

  test("is only ever what a majority of all voters bears out, whatever members answer", () => {
    const manner = fc.oneof(
      { weight: 6, arbitrary: fc.constant(holds("file")) },
      { weight: 3, arbitrary: fc.constant(holds("other")) },
      { weight: 1, arbitrary: fc.constant(holds("third")) },
      {
        weight: 2,
        arbitrary: fc.constantFrom(holds("file", { compactRevision: 70n }), holds("other", { compactRevision: 70n })),
      },
      {
        weight: 1,
        arbitrary: fc.constantFrom(holds("file", { compactRevision: 10n }), holds("file", { clusterId: 8n })),
      },
      { weight: 1, arbitrary: fc.constantFrom(holds("file", { memberId: 9n }), holds("file", { hashRevision: 99n })) },
      { weight: 3, arbitrary: fc.constantFrom<Manner>(refuses("passing"), refuses("lasting"), refuses("compacted")) },
    );
    const scripted = fc.record({
      learner: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      manners: fc.oneof(
        manner.map((one) => [one]),
        fc.array(manner, { minLength: 1, maxLength: 4 }),
      ),
    });
    fc.assert(
      fc.property(
        fc.array(scripted, { minLength: 1, maxLength: 7 }),
        fc.nat(6),
        fc.nat(6),
        fc.boolean(),
        fc.boolean(),
        (scripts, source, leader, allowLeader, hashable) => {
          const members = scripts.map((script, index) => ({ ...script, name: `m${index}` }));
          const at = source % members.length;
          const voters = members.filter(({ learner }) => !learner);
          if (voters.length === 0) return;
          const { end, asked } = run({ members, source: at, leader: leader % members.length, allowLeader, hashable });
          const majority = Math.floor(voters.length / 2) + 1;
          expect(end.needed).toBe(majority);
          const names = asked.map((who) => who.split(" ")[0]!);
          const alone = voters.length === 1 && voters[0] === members[at];
          for (const { name, learner } of members) {
            const times = names.filter((each) => each === name).length;
            expect(times).toBeLessThanOrEqual(learner ? 0 : 4);
          }
          if (!alone) expect(names).not.toContain(`m${at}`);
          const lead = members[leader % members.length]!;
          if (!allowLeader && !alone) expect(names).not.toContain(lead.name);
          const saidFile = (id: bigint): boolean =>
            members[Number(id) - 1]!.manners.some((each) => {
              const said = each(false);
              return said.kind === "hash" && said.hash === hashOf("file", said.compactRevision);
            });
          const saidOther = (id: bigint): boolean =>
            members[Number(id) - 1]!.manners.some((each) => {
              const said = each(false);
              return said.kind === "hash" && said.hash !== hashOf("file", said.compactRevision);
            });
          if (end.kind === "proven") {
            expect(new Set(end.agreeing).size).toBeGreaterThanOrEqual(majority);
            for (const id of end.agreeing) {
              expect(members[Number(id) - 1]!.learner).toBe(false);
              expect((Number(id) - 1 === at && !alone) || saidFile(id)).toBe(true);
            }
            for (const id of end.diverged) {
              expect(saidOther(id)).toBe(true);
              expect(names.filter((each) => each === `m${Number(id) - 1}`).length).toBeGreaterThan(1);
              expect(end.agreeing).not.toContain(id);
            }
            expect(end.hash).toBe(hashOf("file", end.compactRevision));
          }
          if (end.kind === "source-diverged") {
            expect(end.hash).not.toBe(hashOf("file", end.compactRevision));
            const against = voters.filter((member) => saidOther(BigInt(members.indexOf(member) + 1)));
            expect(against.length).toBeGreaterThanOrEqual(majority);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
