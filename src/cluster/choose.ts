import type { ClusterFacts, MemberFacts } from "./observe.ts";

/** A member that may be the source of a snapshot, best first, with the reason in words. */
export interface Candidate {
  readonly member: MemberFacts;
  readonly reason: string;
}

export interface Choice {
  readonly candidates: readonly Candidate[];
  readonly rejected: readonly { readonly member: string; readonly why: string }[];
}

/** A follower further behind than this many raft entries is asked only after the leader. */
const closeEnough = 1000n;

/**
 * Orders the members by how fit they are as a source: followers that keep up, learners that keep up, the leader, then those that lag.
 * Without quorum the highest revision wins, whoever holds it. Members with a CORRUPT alarm, in defragmentation or without an answer are out.
 */
export function chooseSources(facts: ClusterFacts): Choice {
  const judged = facts.members.map((member) => ({ member, verdict: judge(member, facts) }));
  const candidates = judged
    .flatMap(({ member, verdict }) => (verdict.fit ? [{ member, reason: verdict.reason, rank: verdict.rank }] : []))
    .toSorted(
      (a, b) =>
        a.rank - b.rank || compareHeight(b.member, a.member, facts.quorum) || compareText(a.member.name, b.member.name),
    )
    .map(({ member, reason }) => ({ member, reason }));
  const rejected = judged.flatMap(({ member, verdict }) =>
    verdict.fit ? [] : [{ member: member.name, why: verdict.why }],
  );
  return { candidates, rejected };
}

type Verdict =
  | { readonly fit: true; readonly rank: number; readonly reason: string }
  | { readonly fit: false; readonly why: string };

function judge(member: MemberFacts, facts: ClusterFacts): Verdict {
  if (!member.seen.up) return { fit: false, why: member.seen.fault.message };
  const { status, defragmenting } = member.seen;
  const corrupt = facts.alarms?.find(
    ({ memberId, kind }) => kind === "CORRUPT" && (memberId === member.id || memberId === 0n),
  );
  if (corrupt !== undefined || status.errors.some((error) => isCorruptAlarm(error, member.id))) {
    return { fit: false, why: "has a CORRUPT alarm" };
  }
  if (defragmenting === true) return { fit: false, why: "is being defragmented" };
  if (!facts.quorum) {
    return { fit: true, rank: 0, reason: `no quorum: the highest revision that can be reached, ${status.revision}` };
  }
  const trouble = status.errors.filter((error) => !isForeignAlarm(error, member.id));
  const behind = facts.highestRaftIndex - (status.raftAppliedIndex ?? status.raftIndex);
  const leads = status.leader === member.id;
  if (behind > closeEnough)
    return { fit: true, rank: 3, reason: `${behind} entries behind, and no better member answered` };
  if (trouble.length > 0)
    return { fit: true, rank: 3, reason: `no better member answered; it says: ${trouble.join("; ").trim()}` };
  if (leads) return { fit: true, rank: 2, reason: "the leader: no follower that keeps up answered" };
  if (status.learner) return { fit: true, rank: 1, reason: "a learner that keeps up: no voting follower does" };
  return { fit: true, rank: 0, reason: `a follower that keeps up (${behind} entries behind)` };
}

/** Status.errors carries alarms as text such as `memberID:1234 alarm:CORRUPT` (etcd ≥ 3.4; spacing differs by minor). */
function isCorruptAlarm(error: string, member: bigint): boolean {
  const match = /memberID:(\d+)\s+alarm:CORRUPT/.exec(error);
  return match !== null && (BigInt(match[1] ?? "0") === member || match[1] === "0");
}

/** An alarm of another member stands in every member's list; it says nothing against this one. */
function isForeignAlarm(error: string, member: bigint): boolean {
  const match = /memberID:(\d+)\s+alarm:/.exec(error);
  return match !== null && BigInt(match[1] ?? "0") !== member;
}

/** By revision where only the highest counts, else by how much was applied. */
function compareHeight(a: MemberFacts, b: MemberFacts, quorum: boolean): number {
  if (quorum || !a.seen.up || !b.seen.up) return 0;
  return (
    compareBigint(a.seen.status.revision, b.seen.status.revision) ||
    compareBigint(a.seen.status.raftIndex, b.seen.status.raftIndex)
  );
}

function compareBigint(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
