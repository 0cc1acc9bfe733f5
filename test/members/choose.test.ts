import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseSources } from "../../src/cluster/choose.ts";
import type { ClusterFacts, MemberFacts } from "../../src/cluster/observe.ts";
import { Fault } from "../../src/faults.ts";

interface Sketch {
  name: string;
  id?: bigint;
  leader?: boolean;
  learner?: boolean;
  down?: boolean;
  behind?: bigint;
  revision?: bigint;
  raftIndex?: bigint;
  errors?: string[];
  defragmenting?: boolean;
}

function facts(sketches: Sketch[], changes: Partial<ClusterFacts> = {}): ClusterFacts {
  const leader = sketches.findIndex((sketch) => sketch.leader === true);
  return {
    clusterId: 1n,
    members: sketches.map((sketch, at) => member(sketch, sketch.id ?? BigInt(at + 1), BigInt(leader + 1))),
    alarms: [],
    quorum: true,
    agreedRevision: 100n,
    highestRevision: 100n,
    highestRaftIndex: 10_000n,
    v2: { state: "no", why: "" },
    findings: [],
    ...changes,
  };
}

function member(sketch: Sketch, id: bigint, leader: bigint): MemberFacts {
  const about = {
    id,
    name: sketch.name,
    started: true,
    peerUrls: [],
    clientUrls: [],
    learner: sketch.learner === true,
  };
  if (sketch.down === true)
    return { ...about, seen: { up: false, fault: new Fault("etcd-unreachable", `${sketch.name} is down`) } };
  const raftIndex = sketch.raftIndex ?? 10_000n;
  return {
    ...about,
    seen: {
      up: true,
      address: { name: sketch.name, url: `http://${sketch.name}` },
      defragmenting: sketch.defragmenting,
      status: {
        clusterId: 1n,
        memberId: id,
        revision: sketch.revision ?? 100n,
        raftTerm: 2n,
        raftIndex,
        raftAppliedIndex: raftIndex - (sketch.behind ?? 0n),
        version: "3.6.0",
        storageVersion: "3.6.0",
        leader,
        learner: sketch.learner === true,
        dbBytes: 1,
        dbInUseBytes: 1,
        quotaBytes: undefined,
        errors: sketch.errors ?? [],
      },
    },
  };
}

const order = (given: ClusterFacts): string[] =>
  chooseSources(given).candidates.map(({ member: chosen }) => chosen.name);
const why = (given: ClusterFacts): Record<string, string> =>
  Object.fromEntries(chooseSources(given).rejected.map((each) => [each.member, each.why]));

describe("sources of a snapshot", () => {
  test("are followers, then learners, then the leader, each by name", () => {
    expect(
      order(facts([{ name: "d", leader: true }, { name: "c" }, { name: "l", learner: true }, { name: "b" }])),
    ).toEqual(["b", "c", "l", "d"]);
  });

  test("a follower far behind comes after the leader, one a little behind does not", () => {
    expect(
      order(
        facts([
          { name: "a", behind: 1001n },
          { name: "b", behind: 1000n },
          { name: "c", leader: true },
        ]),
      ),
    ).toEqual(["b", "c", "a"]);
  });

  test("a member with trouble of its own comes last, and its words are the reason", () => {
    const given = facts([
      { name: "a", id: 7n, errors: ["memberID:7 alarm:NOSPACE "] },
      { name: "b", leader: true },
    ]);
    expect(order(given)).toEqual(["b", "a"]);
    expect(chooseSources(given).candidates[1]?.reason).toBe(
      "no better member answered; it says: memberID:7 alarm:NOSPACE",
    );
  });

  test("an alarm of another member is no obstacle", () => {
    const errors = ["memberID:2 alarm:CORRUPT "];
    const given = facts(
      [
        { name: "a", errors },
        { name: "b", errors },
        { name: "c", leader: true, errors },
      ],
      {
        alarms: [{ memberId: 2n, kind: "CORRUPT" }],
      },
    );
    expect(order(given)).toEqual(["a", "c"]);
    expect(why(given)).toEqual({ b: "has a CORRUPT alarm" });
  });

  test.each([
    ["the alarm list", { alarms: [{ memberId: 1n, kind: "CORRUPT" as const }] }, []],
    ["its own status, where no alarm list could be read", { alarms: undefined }, ["memberID:1 alarm:CORRUPT"]],
    ["an alarm for the whole cluster", { alarms: [{ memberId: 0n, kind: "CORRUPT" as const }] }, []],
  ])("a member that is corrupt by %s is out, also without quorum", (_, changes, errors) => {
    for (const quorum of [true, false])
      expect(order(facts([{ name: "a", errors }], { ...changes, quorum }))).toEqual([]);
  });

  test("a member that is down or being defragmented is out, and it is said why", () => {
    const given = facts([
      { name: "a", down: true },
      { name: "b", defragmenting: true },
      { name: "c", leader: true },
    ]);
    expect(order(given)).toEqual(["c"]);
    expect(why(given)).toEqual({ a: "a is down", b: "is being defragmented" });
  });

  test("without quorum the highest revision wins, then the highest raft index, whoever holds it", () => {
    const given = facts(
      [
        { name: "a", revision: 99n },
        { name: "b", revision: 100n, raftIndex: 5n },
        { name: "c", revision: 100n, raftIndex: 9n, leader: true },
      ],
      { quorum: false },
    );
    expect(order(given)).toEqual(["c", "b", "a"]);
    expect(chooseSources(given).candidates[0]?.reason).toBe("no quorum: the highest revision that can be reached, 100");
  });

  test("do not depend on the order of the member list", () => {
    const sketch = fc.record({
      revision: fc.bigInt(98n, 100n),
      raftIndex: fc.bigInt(9998n, 10_000n),
      behind: fc.constantFrom(0n, 5000n),
      learner: fc.boolean(),
      down: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.array(sketch, { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        fc.infiniteStream(fc.nat()),
        (sketches, quorum, random) => {
          const named = facts(
            sketches.map((each, at) => ({ ...each, name: `m${at}` })),
            { quorum },
          );
          const shuffled = named.members
            .map((each) => ({ each, key: random.next().value }))
            .toSorted((a, b) => a.key - b.key)
            .map(({ each }) => each);
          expect(order({ ...named, members: shuffled })).toEqual(order(named));
        },
      ),
    );
  });
});
