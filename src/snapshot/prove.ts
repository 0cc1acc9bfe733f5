import type { Clock } from "../clock.ts";
import { checkMember, observeCluster, type MemberFacts, type ObserveOptions } from "../cluster/observe.ts";
import { withDeadline } from "../deadline.ts";
import type { Etcd, MemberConnection } from "../etcd/etcd.ts";
import type { Emit } from "../events.ts";
import { Fault, abortFault, isFault } from "../faults.ts";
import { formatId, formatInstant } from "../repository/documents.ts";
import type { HeldLock } from "../repository/lock.ts";
import type { ProofAnswer } from "../repository/proof.ts";
import { judge, type Answer, type Conclusion, type Evidence, type Sealed } from "./verdict.ts";

/** Computes HashKV of a spooled snapshot at its revision, for each compaction revision (from the file's own up to the revision), off the event loop. */
export type HashSpool = (
  path: string,
  revision: bigint,
  compactRevisions: readonly bigint[],
  signal: AbortSignal,
) => Promise<readonly number[]>;

export interface ProveDependencies {
  readonly etcd: Etcd;
  readonly observe: ObserveOptions;
  readonly clock: Clock;
  readonly emit: Emit;
  readonly hashSpool: HashSpool;
  /** Keeps scans of several daemons apart: the lock, or why it cannot be had now; undefined: nobody else scans. */
  readonly holdScan: ((signal: AbortSignal) => Promise<HeldLock | Fault>) | undefined;
  readonly proof: {
    /** Whether the leader may be asked where followers are not enough: the scan holds up every writer of the cluster. */
    readonly allowLeader: boolean;
  };
}

/** What is to be proven: this file is the cluster at this revision. */
export interface Claim {
  readonly run: string;
  readonly clusterId: bigint;
  /** The member that the file came from. */
  readonly source: bigint;
  /** Of the file. */
  readonly revision: bigint;
  readonly compactRevision: bigint;
  /** HashKV of the file at both. */
  readonly hashKv: number;
  /** Live keys of the file. */
  readonly keys: number;
  /** The spooled snapshot; undefined where it is gone, so that it can only be compared at its own compaction revision. */
  readonly path: string | undefined;
}

/** What members said of a claim. */
export interface Finding {
  readonly verdict: "proven" | "sealed" | "source-diverged";
  /** Of a sealed one. */
  readonly why: Sealed["why"] | "unrecorded" | "unknown" | undefined;
  /** Of a sealed one: asking again later may prove it. */
  readonly passing: boolean;
  readonly reason: string;
  readonly voters: number;
  readonly needed: number;
  readonly alone: boolean;
  /** Names of members. */
  readonly agreeing: readonly string[];
  readonly diverged: readonly string[];
  readonly divergedIds: readonly bigint[];
  /** The compaction revision and hash that decided. */
  readonly compactRevision: bigint | undefined;
  readonly hash: number | undefined;
  readonly answers: readonly ProofAnswer[];
}

/** A scan of a few hundred MB takes a tenth of a second; on a cold slow disk it may run at this rate. */
const scanBytesPerSecond = 50e6;
const scanAtLeastMs = 5000;
/** How long a member may take to apply what the file already has. */
const catchUpMs = 10_000;
const pauseAtLeastMs = 100;

/**
 * Asks members for HashKV until a majority of all voters is known or cannot be had: one at a time, with a pause at least as long as the scan before it,
 * followers first. It changes nothing and rejects only when it is aborted or the file cannot be hashed; everything else is a finding.
 */
export async function proveClaim(deps: ProveDependencies, claim: Claim, signal: AbortSignal): Promise<Finding> {
  const look = await lookAt(deps, claim, signal);
  if (look.facts === undefined) return unknown(look.why);
  const { members } = look.facts;
  const hashes = new Map([[claim.compactRevision, claim.hashKv]]);
  const answers: Answer[] = [];
  const recorded: ProofAnswer[] = [];
  let pauseMs = 0;
  await using turn = new AsyncDisposableStack();
  let asking: AbortSignal | undefined;
  for (;;) {
    // Ends by itself: the verdict asks each member a few times at most.
    const step = judge(gather(deps, claim, members, hashes, answers));
    if (step.kind === "hash") {
      const [hash] = await deps.hashSpool(claim.path ?? "", claim.revision, [step.compactRevision], signal);
      if (hash === undefined) throw new Fault("worker-failed", "the spool was hashed without a result");
      hashes.set(step.compactRevision, hash);
      continue;
    }
    if (step.kind !== "ask") {
      const finding = conclude(step, members, recorded);
      for (const member of finding.diverged) {
        const { reason } = finding;
        deps.emit({ name: "member.diverged", run: claim.run, member, revision: claim.revision, reason });
      }
      return finding;
    }
    const member = members.find(({ id }) => id === step.member);
    if (member === undefined) throw new TypeError("the verdict asks for a member that is no voter");
    if (asking === undefined) {
      const held = await deps.holdScan?.(signal);
      if (isFault(held)) return unknown(`members are not asked now: ${held.message}`);
      if (held !== undefined) turn.use(held);
      asking = held === undefined ? signal : AbortSignal.any([signal, held.lost]);
    }
    if (member.seen.up && pauseMs > 0) await deps.clock.sleep(pauseMs, asking);
    const { answer, record } = await ask(deps, claim, member, step.atHead, asking);
    answers.push(answer);
    recorded.push(record);
    if (member.seen.up) pauseMs = Math.max(pauseAtLeastMs, record.tookMs);
  }
}

/** How long one member with this much data may take to hash it. */
export function scanLimitMs(dbBytes: number): number {
  return scanAtLeastMs + Math.ceil((dbBytes / scanBytesPerSecond) * 1000);
}

/** Nothing was learned. */
export function unknown(reason: string): Finding {
  return {
    verdict: "sealed",
    why: "unknown",
    passing: true,
    reason,
    voters: 0,
    needed: 1,
    alone: false,
    agreeing: [],
    diverged: [],
    divergedIds: [],
    compactRevision: undefined,
    hash: undefined,
    answers: [],
  };
}

/** Who votes and who leads now: minutes may have passed since the source was chosen. */
async function lookAt(
  deps: ProveDependencies,
  claim: Claim,
  signal: AbortSignal,
): Promise<
  { readonly facts: Awaited<ReturnType<typeof observeCluster>> } | { readonly facts?: undefined; readonly why: string }
> {
  try {
    const facts = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
    if (facts.clusterId === claim.clusterId) return { facts };
    const [now, then] = [facts.clusterId, claim.clusterId].map(formatId);
    return { why: `the endpoints answer for cluster ${now}, and the backup is of ${then}` };
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (!isFault(error)) throw error;
    return { why: `the cluster cannot be looked at: ${error.message}` };
  }
}

/** The same few followers are not always the ones that are asked: a member that is never compared could differ for years. */
function inTurn<T>(members: readonly T[], revision: bigint): readonly T[] {
  const from = Number(revision % BigInt(Math.max(1, members.length)));
  return [...members.slice(from), ...members.slice(0, from)];
}

function gather(
  deps: ProveDependencies,
  claim: Claim,
  members: readonly MemberFacts[],
  hashes: Evidence["hashes"],
  answers: Evidence["answers"],
): Evidence {
  return {
    clusterId: claim.clusterId,
    source: claim.source,
    voters: inTurn(
      members
        .filter((member) => !member.learner)
        .map((member) => ({ id: member.id, name: member.name, leader: leads(member) })),
      claim.revision,
    ),
    allowLeader: deps.proof.allowLeader,
    revision: claim.revision,
    compactRevision: claim.compactRevision,
    keys: claim.keys,
    hashes,
    hashable: claim.path !== undefined,
    answers,
  };
}

function leads({ id, seen }: MemberFacts): boolean {
  return seen.up && seen.status.leader === id;
}

async function ask(
  deps: ProveDependencies,
  claim: Claim,
  member: MemberFacts,
  atHead: boolean,
  signal: AbortSignal,
): Promise<{ readonly answer: Answer; readonly record: ProofAnswer }> {
  const { id, name, seen } = member;
  const askedAt = formatInstant(deps.clock.now());
  const beganMs = deps.clock.elapsed();
  const record = (outcome: ProofAnswer["outcome"]): ProofAnswer => ({
    member: name,
    memberId: formatId(id),
    role: leads(member) ? "leader" : "follower",
    askedAt,
    tookMs: Math.round(deps.clock.elapsed() - beganMs),
    outcome,
  });
  try {
    if (!seen.up) throw seen.fault;
    await using connection = deps.etcd.connect(seen.address);
    const dbBytes = await reach(deps, claim, connection, id, signal);
    using deadline = withDeadline(signal, scanLimitMs(dbBytes), `${name} did not hash its data`);
    const startedMs = deps.clock.elapsed();
    const said = await connection.hashKv(atHead ? 0n : claim.revision, deadline.signal);
    const { hash, compactRevision, revision } = said;
    const scanMs = Math.round(deps.clock.elapsed() - startedMs);
    deps.emit({ name: "member.hashed", run: claim.run, member: name, leader: leads(member), durationMs: scanMs });
    return {
      answer: { member: id, atHead, outcome: { kind: "hash", ...said } },
      record: record({ kind: "hash", hash, compactRevision, revision }),
    };
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (!isFault(error)) throw error;
    const { code, message } = error;
    deps.emit({ name: "member.unhashed", run: claim.run, member: name, code, message });
    return {
      answer: {
        member: id,
        atHead,
        outcome: { kind: "refused", why: lasts(error), message: `cannot tell: ${message}` },
      },
      record: record({ kind: "refused", code, message }),
    };
  }
}

function lasts(fault: Fault): "compacted" | "passing" | "lasting" {
  if (fault.code === "etcd-compacted") return "compacted";
  return fault.retryable || fault.code === "member-mismatch" ? "passing" : "lasting";
}

/** Waits briefly until the member has applied the file's revision, and checks who it is; resolves with the size of its database. */
async function reach(
  deps: ProveDependencies,
  { clusterId, revision }: Claim,
  connection: MemberConnection,
  memberId: bigint,
  signal: AbortSignal,
): Promise<number> {
  const { name } = connection.address;
  using deadline = withDeadline(signal, catchUpMs, `${name} did not answer`);
  const untilMs = deps.clock.elapsed() + catchUpMs;
  for (;;) {
    // Ends with the deadline above, or with the clock's.
    const status = await connection.status(deadline.signal);
    checkMember(connection.address, { clusterId, memberId }, status);
    if (status.revision >= revision) return status.dbBytes;
    if (deps.clock.elapsed() >= untilMs)
      throw new Fault("etcd-timeout", `${name} lags: it is at revision ${status.revision}, not yet at ${revision}`);
    await deps.clock.sleep(pauseAtLeastMs, deadline.signal);
  }
}

function conclude(end: Conclusion, members: readonly MemberFacts[], answers: readonly ProofAnswer[]): Finding {
  const named = (ids: readonly bigint[]): readonly string[] =>
    ids.map((id) => members.find((member) => member.id === id)?.name ?? formatId(id));
  return {
    verdict: end.kind,
    why: end.kind === "sealed" ? end.why : undefined,
    passing: end.kind === "sealed" && end.passing,
    reason: end.reason,
    voters: members.filter(({ learner }) => !learner).length,
    needed: end.needed,
    alone: end.kind === "proven" && end.alone,
    agreeing: named(end.agreeing),
    diverged: named(end.diverged),
    divergedIds: end.diverged,
    compactRevision: end.kind === "sealed" ? undefined : end.compactRevision,
    hash: end.kind === "sealed" ? undefined : end.hash,
    answers,
  };
}
