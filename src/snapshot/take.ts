import type { Clock } from "../clock.ts";
import { chooseSources, type Candidate, type Choice } from "../cluster/choose.ts";
import { checkMember, type ClusterFacts } from "../cluster/observe.ts";
import { withDeadline } from "../deadline.ts";
import type { Etcd, MemberConnection, MemberStatus } from "../etcd/etcd.ts";
import type { Emit } from "../events.ts";
import { Fault, abortFault, isFault } from "../faults.ts";
import { failpoint } from "../failpoints.ts";
import type { SnapshotFacts } from "../bolt/facts.ts";
import { drainSnapshot, type Drained, type DrainLimits } from "./drain.ts";
import { openPacer, type PaceMode } from "./pacer.ts";
import type { PhaseTimer } from "./phases.ts";
import type { Spool, SpoolFile } from "./spool.ts";

export interface TakeDependencies {
  readonly etcd: Etcd;
  readonly spool: Spool;
  readonly clock: Clock;
  readonly emit: Emit;
  /** Reads facts off the event loop; rejects with `bolt-corrupt`. */
  readonly scan: Scan;
  readonly limits: DrainLimits;
  readonly pace: PaceMode;
}

/** Scans a spooled snapshot with its seal; `probe` names rows of earlier backups to look up. */
export type Scan = (
  path: string,
  probe: readonly { readonly main: bigint; readonly sub: bigint }[],
  signal: AbortSignal,
) => Promise<SnapshotFacts>;

/** A snapshot in the spool whose seal was checked and whose structure was read. Dispose it to remove the spool file. */
export interface Taken<Begun = unknown> extends AsyncDisposable {
  readonly path: string;
  readonly drained: Drained;
  readonly facts: SnapshotFacts;
  readonly source: Candidate;
  /** What the source said of itself on the same connection, just before the stream. */
  readonly before: MemberStatus;
  /** What was begun beside the scan. */
  readonly begun: Begun;
}

/** Begins with a spooled snapshot while it is scanned; disposed when its member is given up, or with what was taken. */
export type Begin<Begun> = (path: string, drained: Drained) => Begun;

/** How many members are tried in one run. */
const sourcesAtMost = 3;
/** How long a follower may take to reach the revision that the cluster had agreed on when the run began. */
const catchUpMs = 15_000;
const statusMs = 10_000;
/** The database can grow between Status and the stream; a little air besides. */
const growthFactor = 1.1;
const airBytes = 16 * 1024 * 1024;

/**
 * Takes one snapshot from the fittest member, and from the next one when that fails; from one of `avoid` only where others fail. The result is complete, sealed and readable; anything less
 * rejects: with `no-source` when no member is fit, else with the last member's fault.
 */
export async function takeSnapshot<Begun extends AsyncDisposable | undefined>(
  deps: TakeDependencies,
  facts: ClusterFacts,
  probe: Parameters<Scan>[1],
  avoid: ReadonlySet<bigint>,
  run: string,
  begin: Begin<Begun>,
  phases: PhaseTimer,
  signal: AbortSignal,
): Promise<Taken<Begun>> {
  const choice = preferOthers(chooseSources(facts), avoid);
  let last: Fault | undefined;
  for (const candidate of choice.candidates.slice(0, sourcesAtMost)) {
    const { name } = candidate.member;
    deps.emit({ name: "source.chosen", run, member: name, reason: candidate.reason, rejected: choice.rejected });
    try {
      return await takeFrom(deps, facts, candidate, probe, run, begin, phases, signal);
    } catch (error) {
      if (signal.aborted) throw abortFault(signal);
      // A full spool is full for every member.
      if (!isFault(error) || error.code === "spool-space" || error.code === "spool-failed") throw error;
      deps.emit({ name: "source.failed", run, member: name, code: error.code, message: error.message });
      last = error;
    }
  }
  if (last !== undefined) throw last;
  throw noSource(choice.rejected);
}

/** A member that holds other data than the majority is still a source where there is no other: its file is all there is. */
function preferOthers({ candidates, rejected }: Choice, avoid: ReadonlySet<bigint>): Choice {
  const others = candidates.filter(({ member }) => !avoid.has(member.id));
  const minority = candidates.filter(({ member }) => avoid.has(member.id));
  const why = "holds other data than the majority";
  return {
    candidates: [...others.slice(0, sourcesAtMost - 1), ...minority, ...others.slice(sourcesAtMost - 1)],
    rejected: [
      ...rejected,
      ...(others.length === 0 ? [] : minority.map(({ member }) => ({ member: member.name, why }))),
    ],
  };
}

/** The fault when no member is fit, with the reason of each. */
export function noSource(rejected: readonly { readonly member: string; readonly why: string }[]): Fault {
  const why = rejected.map(({ member, why: reason }) => `${member}: ${reason}`).join("; ");
  return new Fault("no-source", `no member can be a source: ${why === "" ? "the member list is empty" : why}`, {
    hint: "run: etcd-lifeboat status",
  });
}

/** Free bytes that the spool must have before a database of this size is drained into it. */
export function spoolNeed(dbBytes: number): number {
  return Math.ceil(dbBytes * growthFactor) + airBytes;
}

async function takeFrom<Begun extends AsyncDisposable | undefined>(
  deps: TakeDependencies,
  facts: ClusterFacts,
  source: Candidate,
  probe: Parameters<Scan>[1],
  run: string,
  begin: Begin<Begun>,
  phases: PhaseTimer,
  signal: AbortSignal,
): Promise<Taken<Begun>> {
  const { seen } = source.member;
  if (!seen.up) throw seen.fault;
  const expected = { clusterId: facts.clusterId, memberId: source.member.id };
  await using connection = deps.etcd.connect(seen.address);
  const before = await phases.run("choose", () =>
    readySource(deps, connection, expected, facts.agreedRevision, signal),
  );
  await deps.spool.requireSpace(spoolNeed(before.dbBytes));
  const limits = { ...deps.limits, mostBytes: (await deps.spool.space()).freeBytes };
  await using stack = new AsyncDisposableStack();
  const file: SpoolFile = stack.use(await deps.spool.create(run));
  failpoint("spool-created");
  const drained = await phases.run("drain", async (progress) => {
    const { dbBytes } = before;
    const paced = { run, member: source.member.name, dbBytes, maxRate: limits.maxRate };
    await using pacer = await openPacer(deps, facts, seen.address, paced, signal);
    const pace = pacer && ((doneBytes: number) => pacer.rate(doneBytes));
    const result = await drainSnapshot(connection, file, { ...limits, pace }, deps.clock, progress, signal);
    await checkSameProcess(connection, expected, signal);
    return result;
  });
  failpoint("spool-drained");
  const begun = begin(file.path, drained);
  stack.use(begun);
  const scanned = await phases.run("scan", () => deps.scan(file.path, probe, signal));
  failpoint("snapshot-scanned");
  // The source had reached what the cluster agreed on, and said so, before the stream began: a file below that is not what was asked for.
  if (scanned.revision < before.revision) {
    throw new Fault(
      "snapshot-broken",
      `${source.member.name} sent revision ${scanned.revision}, but was at ${before.revision} before`,
    );
  }
  const owned = stack.move();
  return {
    path: file.path,
    drained,
    facts: scanned,
    source,
    before,
    begun,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Waits, within bounds, until the member has applied what the cluster agreed on; checks that it is the member that was meant. */
async function readySource(
  deps: TakeDependencies,
  connection: MemberConnection,
  expected: Parameters<typeof checkMember>[1],
  agreedRevision: bigint | undefined,
  signal: AbortSignal,
): Promise<MemberStatus> {
  const { name } = connection.address;
  using deadline = withDeadline(signal, catchUpMs, `${name} did not reach revision ${agreedRevision ?? 0n}`);
  for (;;) {
    // Ends with the deadline above.
    const status = await connection.status(deadline.signal);
    checkMember(connection.address, expected, status);
    if (agreedRevision === undefined || status.revision >= agreedRevision) {
      if ((await connection.defragmenting(deadline.signal)) === true) {
        throw new Fault("no-source", `${name} is being defragmented`);
      }
      return status;
    }
    await deps.clock.sleep(100, deadline.signal);
  }
}

/** Snapshot answers without a header, so only Status on the same unbroken connection says whose bytes these were. */
async function checkSameProcess(
  connection: MemberConnection,
  expected: Parameters<typeof checkMember>[1],
  signal: AbortSignal,
): Promise<void> {
  using deadline = withDeadline(signal, statusMs, `${connection.address.name} did not answer after its snapshot`);
  checkMember(connection.address, expected, await connection.status(deadline.signal));
  if (connection.connections !== 1) {
    throw new Fault(
      "snapshot-broken",
      `the connection to ${connection.address.name} was replaced during the snapshot`,
      {
        hint: "the member or a load balancer closed it; address members directly",
      },
    );
  }
}
