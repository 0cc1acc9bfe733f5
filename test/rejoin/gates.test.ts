import { expect, test } from "vitest";
import type { RejoinFacts, RejoinRequest } from "../../src/rejoin/facts.ts";
import { judgeRejoin, type RejoinVerdict } from "../../src/rejoin/gates.ts";
import { fingerprint, planRejoin } from "../../src/rejoin/plan.ts";
import type { RunbookPlan } from "../../src/runbook/runbook.ts";
import { etcdOn, hostOf, service } from "../restore/facts.ts";

function facts(changes: Partial<RejoinFacts> = {}, count = 3): RejoinFacts {
  return {
    cluster: "prod",
    now: "2026-11-21T12:00:00.000Z",
    clusterId: 0xabcn,
    quorum: true,
    members: Array.from({ length: count }, (_, index) => ({
      id: BigInt(index + 1),
      name: `m${index + 1}`,
      peerUrls: [`https://m${index + 1}.example:2380`],
      learner: false,
      up: index !== 1,
      version: index === 1 ? undefined : "3.6.16",
    })),
    host: hostOf("h2", "m2", { services: [] }),
    joining: { how: "the file says so" },
    walIsMountPoint: false,
    ...changes,
  };
}

function request(changes: Partial<RejoinRequest> = {}): RejoinRequest {
  return {
    id: "01JQ000000000000000000000Z",
    member: "m2",
    acceptRebootRisk: false,
    repository: "01JQ000000000000000000000R",
    ...changes,
  };
}

function refused({ refusals }: RejoinVerdict): string {
  return refusals.map(({ message, hint }) => `${message} | ${hint}`).join("\n");
}

function down(seen: RejoinFacts, ...names: readonly string[]): RejoinFacts["members"] {
  return seen.members.map((member) =>
    names.includes(member.name) ? { ...member, up: false, version: undefined } : member,
  );
}

function plan(seen = facts(), asked = request()): RunbookPlan {
  const verdict = judgeRejoin(seen, asked);
  expect(refused(verdict)).toBe("");
  return planRejoin(seen, asked, verdict, verdict.target!);
}

test("one of three that is down may join anew as a learner, and the margin is said", () => {
  const verdict = judgeRejoin(facts(), request());
  expect(refused(verdict)).toBe("");
  expect(verdict.target).toMatchObject({ id: 2n, asLearner: true, minor: "3.6" });
  expect(verdict.warnings).toEqual([
    "until m2 has joined, the cluster cannot lose another member: 2 voters are needed, and 2 answer",
  ]);
});

test("on etcd 3.3 it joins as a voter at once, which needs more of the others", () => {
  const of = (count: number): RejoinFacts =>
    facts({
      members: facts({}, count).members.map((member) => ({ ...member, version: member.up ? "3.3.27" : undefined })),
    });
  expect(judgeRejoin(of(3), request())).toMatchObject({ refusals: [], target: { asLearner: false } });
  // Four voters, three of them left with one down: enough of three, too few of four.
  const four = of(4);
  expect(refused(judgeRejoin({ ...four, members: down(four, "m3") }, request()))).toContain(
    "without m2 there are 3 voters, 3 of them must answer until it has joined, and 2 do | bring m3 back first",
  );
});

test("quorum that would be lost is refused with the numbers", () => {
  const five = facts({}, 5);
  expect(refused(judgeRejoin({ ...five, members: down(five, "m3") }, request()))).toBe("");
  expect(refused(judgeRejoin({ ...five, members: down(five, "m3", "m4") }, request()))).toContain(
    "without m2 there are 4 voters, 3 of them must answer until it has joined, and 2 do | bring m3, m4 back first",
  );
  expect(refused(judgeRejoin(facts({ quorum: false }), request()))).toContain("restore --from-member");
  expect(refused(judgeRejoin(facts({}, 1), request({ member: "m1" })))).toContain("m1 is the only voter");
});

test("with an even number of voters it still counts while its removal is agreed on, and is stopped by then", () => {
  const four = facts({}, 4);
  const all = { ...four, members: four.members.map((member) => ({ ...member, up: true, version: "3.6.16" })) };
  expect(refused(judgeRejoin(all, request()))).toBe("");
  expect(refused(judgeRejoin({ ...all, members: down(all, "m3") }, request()))).toContain(
    "without m2 there are 3 voters, 3 of them must answer until it has joined, and 2 do | bring m3 back first",
  );
  const two = facts({}, 2);
  const both = { ...two, members: two.members.map((member) => ({ ...member, up: true, version: "3.6.16" })) };
  expect(refused(judgeRejoin(both, request()))).toContain("there are 1 voters, 2 of them must answer");
  expect(refused(judgeRejoin(both, request()))).toContain("etcdctl member add");
});

test("a member or host that nobody knows, another learner, mixed minors and an etcd that cannot be told to join are refused", () => {
  expect(refused(judgeRejoin(facts(), request({ member: "m9" })))).toContain('no member "m9" | there are: m1, m2, m3');
  expect(refused(judgeRejoin(facts({ host: undefined }), request()))).toContain(
    "no host of the configuration carries m2",
  );
  const { members } = facts();
  const learner = { ...members[2]!, id: 9n, name: "m4", learner: true };
  expect(refused(judgeRejoin(facts({ members: [...members, learner] }), request()))).toContain(
    "has a learner already, m4",
  );
  const mixed = members.map((member) => (member.name === "m3" ? { ...member, version: "3.5.30" } : member));
  expect(refused(judgeRejoin(facts({ members: mixed }), request()))).toContain("different minors: 3.5, 3.6");
  const joining = { fault: "the unit gives it as a flag", hint: "use a file" };
  expect(refused(judgeRejoin(facts({ joining }), request()))).toContain("the unit gives it as a flag | use a file");
});

test("directories that cannot be renamed, a held service and a reboot are refused", () => {
  const on = (changes: Parameters<typeof etcdOn>[1], others: Partial<RejoinFacts> = {}): string =>
    refused(judgeRejoin(facts({ host: hostOf("h2", "m2", { etcd: etcdOn("m2", changes) }), ...others }), request()));
  expect(on({ mountsInside: ["/var/lib/etcd/member/wal"] })).toContain("member/wal of h2 is a file system of its own");
  expect(on({ links: [{ path: "/var/lib/etcd", target: "/x" }], owner: undefined })).toContain("link to /x");
  expect(on({ memberIsMountPoint: true })).toContain("/var/lib/etcd/member of h2 is a file system of its own");
  expect(on({ walDirectory: "/wal" }, { walIsMountPoint: true })).toContain("/wal of h2 is a file system of its own");
  expect(on({ owner: undefined })).toContain("does not exist on h2");
  expect(on({ service: service("etcd", "etcd", { heldBy: "01X" }) })).toContain("held by the operation 01X");
  expect(on({ service: service("etcd", "etcd", { canHold: false }) })).toContain("--accept-reboot-risk");
});

test("the old data is aside before the member is removed, and the lock is held around all of it", () => {
  expect(plan().steps.map(({ id }) => id)).toEqual([
    "lock",
    "stop-etcd.h2",
    "aside.h2",
    "remove",
    "add",
    "join-settings",
    "start-etcd.h2",
    "joined",
    "promote",
    "agreed",
    "settings-back",
    "unlock",
  ]);
  expect(plan(facts(), request({ repository: undefined })).steps.some(({ kind }) => /lock/.test(kind))).toBe(false);
  expect(JSON.parse(JSON.stringify(plan()))).toEqual(plan());
});

test("the fingerprint sees members come and go", () => {
  const then = JSON.stringify(fingerprint(facts()));
  expect(JSON.stringify(fingerprint(facts({ members: down(facts(), "m3") })))).not.toBe(then);
  expect(JSON.stringify(fingerprint(facts({ now: "later" })))).toBe(then);
});
