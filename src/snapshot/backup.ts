import { chooseSources } from "../cluster/choose.ts";
import { observeCluster, type ClusterFacts, type ObserveOptions } from "../cluster/observe.ts";
import type { Phase, Trigger } from "../events.ts";
import { Fault, abortFault, isFault } from "../faults.ts";
import { failpoint } from "../failpoints.ts";
import {
  listRepository,
  readEntries,
  readHistories,
  type Belief,
  type ListedBackup,
  type Listing,
} from "../repository/catalog.ts";
import { claimSlot, unclaimed, type Claimed, type ClaimScope, type ClaimTold } from "../repository/claims.ts";
import { formatId } from "../repository/documents.ts";
import { describeAuthor } from "../repository/gates.ts";
import { createRepository, readIdentity, type RepositoryIdentity } from "../repository/identity.ts";
import { createLineage, findContradiction, judgeHistory, type LineageHistory } from "../repository/lineage.ts";
import { labelLength, type Manifest } from "../repository/manifest.ts";
import { formatBackupName, type BackupName } from "../repository/names.ts";
import type { TrustedKeys } from "../repository/signature.ts";
import { commitBackup, type Commit, type CommitDependencies } from "./commit.ts";
import type { Drained } from "./drain.ts";
import { writeDraft } from "./draft.ts";
import { PhaseTimer } from "./phases.ts";
import type { Claim, Finding, ProveDependencies } from "./prove.ts";
import { startProving } from "./proving.ts";
import { recordFinding, tellFinding, type Committed, type Recorded } from "./record.ts";
import { startStoring, type Storing } from "./storing.ts";
import { noSource, spoolNeed, takeSnapshot, type Taken, type TakeDependencies } from "./take.ts";

export interface BackupDependencies extends TakeDependencies, CommitDependencies, ProveDependencies {
  /** `cluster.name` of the configuration. */
  readonly cluster: string;
  readonly observe: ObserveOptions;
  readonly trusted: TrustedKeys | undefined;
  readonly toolVersion: string;
  /** A new ULID. */
  readonly newId: () => string;
  /** Where slots are claimed, so that others need not do the same work; undefined: nobody else does. */
  readonly claims: ClaimScope | undefined;
  /** Takes over a backup that may be proven later, with its spool file; undefined: nobody asks again. */
  readonly keepUnproven: ((unproven: Unproven) => Promise<void>) | undefined;
}

/** A committed backup that is not proven yet, and what it needs to be. Whoever has it disposes it, which removes the spool file. */
export interface Unproven extends AsyncDisposable {
  readonly committed: Committed;
  readonly claim: Claim;
}

export type BackupRequest =
  | { readonly trigger: "schedule"; readonly schedule: string; readonly slotMs: number }
  | { readonly trigger: "demand"; readonly label: string | undefined };

/** A backup and what members said of it; proven only when that is recorded, too. */
export interface CommittedBackup extends Committed, Recorded {
  readonly kind: "committed";
}

export type BackupOutcome =
  | CommittedBackup
  /** Another daemon had committed the slot: `repeated` while this run worked for it, too. */
  | { readonly kind: "superseded"; readonly lineage: string; readonly backup: string; readonly repeated: boolean };

/**
 * Takes one backup from a live cluster and commits it. It resolves only after the manifest is in the store; every other end is a Fault, told as
 * `backup.failed` with the phase. Another history than the repository's is refused with `lineage-foreign`.
 */
export async function runBackup(
  deps: BackupDependencies,
  request: BackupRequest,
  signal: AbortSignal,
): Promise<BackupOutcome> {
  const outcome = await attemptBackup(deps, request, signal);
  if (outcome.kind === "failed") throw outcome.fault;
  return outcome;
}

/** A backup that failed, with where: a failure after the upload has left objects in the store that nothing names. */
export interface FailedBackup {
  readonly kind: "failed";
  readonly fault: Fault;
  readonly phase: Phase;
}

/**
 * `runBackup` for who must know where a run failed: a Fault is an outcome here, told as `backup.failed` all the same. `refused` is such a fault that was
 * met before the run could begin.
 */
export async function attemptBackup(
  deps: BackupDependencies,
  request: BackupRequest,
  signal: AbortSignal,
  refused?: Fault,
): Promise<BackupOutcome | FailedBackup> {
  if (request.trigger === "demand") checkLabel(request.label);
  const run = deps.newId();
  const phases = new PhaseTimer(run, deps.clock, deps.emit);
  const startedMs = deps.clock.now();
  const beganMs = deps.clock.elapsed();
  const about = describe(request);
  deps.emit({ name: "backup.started", run, ...about });
  // Told before members are waited for: a dead man's switch must not wait for a member that hangs.
  const tell = (manifest: Manifest): void =>
    deps.emit({
      name: "backup.committed",
      run,
      ...about,
      ...committedFacts(manifest),
      committedMs: Date.parse(manifest.committedAt),
      durationMs: Math.round(deps.clock.elapsed() - beganMs),
    });
  try {
    if (refused !== undefined) throw refused;
    const outcome = await attempt(deps, request, { run, startedMs, tell }, phases, signal);
    if (outcome.kind === "superseded") {
      deps.emit({
        name: "backup.superseded",
        run,
        schedule: about.schedule,
        slotMs: about.slotMs,
        backup: outcome.backup,
        repeated: outcome.repeated,
      });
    } else {
      tellFinding(deps.emit, run, outcome, outcome.finding);
    }
    return outcome;
  } catch (error) {
    const fault = signal.aborted ? abortFault(signal) : error;
    if (fault instanceof Fault) {
      deps.emit({
        name: "backup.failed",
        run,
        ...about,
        phase: phases.current,
        code: fault.code,
        message: fault.message,
        hint: fault.hint,
        retryable: fault.retryable,
        durationMs: Math.round(deps.clock.elapsed() - beganMs),
      });
    }
    if (!(fault instanceof Fault)) throw fault;
    return { kind: "failed", fault, phase: phases.current };
  }
}

/** What a backup would do now; made by the same code path as the run, up to the point where it would begin to write. */
export interface BackupPreview {
  readonly member: string;
  readonly reason: string;
  readonly rejected: readonly { readonly member: string; readonly why: string }[];
  readonly revision: bigint;
  readonly quorum: boolean;
  /** Null: the repository has none yet, and the backup would create it. */
  readonly lineage: string | null;
  readonly store: string;
  readonly encrypted: boolean;
  readonly neededBytes: number;
  readonly freeBytes: number;
  readonly findings: readonly string[];
}

/** Looks at everything a backup depends on and writes nothing. Rejects as the backup would. */
export async function previewBackup(deps: BackupDependencies, signal: AbortSignal): Promise<BackupPreview> {
  const facts = await observeCluster(deps.etcd, deps.observe, signal);
  const identity = await readIdentity(deps.store, deps.cluster, signal);
  const histories =
    identity === undefined
      ? []
      : await readHistories(
          deps.store,
          await listRepository(deps.store, signal),
          believe(deps, identity),
          deps.clock.now(),
          signal,
        );
  const judgement = judgeHistory(histories, liveHistory(facts));
  if (judgement.kind === "foreign") throw foreign(judgement.seen);
  const { candidates, rejected } = chooseSources(facts);
  const [source] = candidates;
  if (source === undefined) throw noSource(rejected);
  const neededBytes = source.member.seen.up ? spoolNeed(source.member.seen.status.dbBytes) : 0;
  await deps.spool.requireSpace(neededBytes);
  return {
    member: source.member.name,
    reason: source.reason,
    rejected,
    revision: facts.highestRevision,
    quorum: facts.quorum,
    lineage: judgement.kind === "continues" ? judgement.history.lineage.lineage : null,
    store: deps.store.description,
    encrypted: deps.encoder.recipients.length > 0,
    neededBytes,
    freeBytes: (await deps.spool.space()).freeBytes,
    findings: facts.findings.map(({ message }) => message),
  };
}

/** A label that no manifest can hold is refused before anything is done. */
export function checkLabel(label: string | undefined): void {
  if (label === undefined || label.length <= labelLength) return;
  throw new Fault("usage", `the label has ${label.length} characters, and at most ${labelLength} can be kept`, {
    hint: "give a shorter --label",
  });
}

/** What every event of a run says of its request. */
function describe(request: BackupRequest): {
  readonly trigger: Trigger;
  readonly schedule: string | undefined;
  readonly slotMs: number | undefined;
} {
  return request.trigger === "schedule"
    ? { trigger: "schedule", schedule: request.schedule, slotMs: request.slotMs }
    : { trigger: "demand", schedule: undefined, slotMs: undefined };
}

/** What `backup.committed` says of a manifest. */
export function committedFacts(manifest: Manifest): {
  readonly backup: string;
  readonly lineage: string;
  readonly member: string;
  readonly quorum: boolean;
  readonly revision: bigint;
  readonly keys: number;
  readonly plainBytes: number;
  readonly storedBytes: number;
  readonly extrasMissing: number;
} {
  return {
    backup: manifest.backup,
    lineage: manifest.lineage,
    member: manifest.source?.name ?? "",
    quorum: manifest.live?.quorum ?? false,
    revision: manifest.content.revision,
    keys: manifest.content.keys,
    plainBytes: manifest.data.plainBytes,
    storedBytes: manifest.data.storedBytes,
    extrasMissing: manifest.extrasMissing.length,
  };
}

async function attempt(
  deps: BackupDependencies,
  request: BackupRequest,
  began: Pick<Turn, "run" | "startedMs" | "tell">,
  phases: PhaseTimer,
  signal: AbortSignal,
): Promise<BackupOutcome> {
  let looked = await look(deps, request, began, phases, signal);
  if (looked.earlier !== undefined)
    return await superseded(deps, looked.position.identity, looked.earlier, false, signal);
  await using claim = await claimFor(deps, request, began.run, looked, signal);
  if (claim.kind === "done") return await superseded(deps, looked.position.identity, listedOf(looked), false, signal);
  if (claim.waited) {
    // Minutes may have passed: another member may lead, and somebody may have adopted another history.
    looked = await look(deps, request, began, phases, signal);
    if (looked.earlier !== undefined) claim.settle();
    if (looked.earlier !== undefined)
      return await superseded(deps, looked.position.identity, looked.earlier, false, signal);
  }
  const { facts, position, backup } = looked;
  const avoid = new Set<bigint>();
  for (let retakes = 0; ; retakes += 1) {
    // Ends: the last turn takes whatever it gets.
    const last = retakes === retakesAtMost;
    const turn = { request, ...began, settle: claim.settle, backup, facts, position, avoid, last };
    const commit = await takeAndCommit(deps, turn, phases, signal);
    if (commit.kind === "committed") return commit;
    if (commit.kind === "taken") return await superseded(deps, position.identity, listedOf(looked), true, signal);
    for (const member of commit.diverged) avoid.add(member);
  }
}

/** What a run knows before it begins to work. */
interface Looked {
  readonly facts: ClusterFacts;
  readonly position: Position;
  readonly name: BackupName;
  readonly backup: string;
  /** The slot is committed already. */
  readonly earlier: ListedBackup | undefined;
}

async function look(
  deps: BackupDependencies,
  request: BackupRequest,
  { run, startedMs }: Pick<Turn, "run" | "startedMs">,
  phases: PhaseTimer,
  signal: AbortSignal,
): Promise<Looked> {
  const facts = await phases.run("choose", () => observeCluster(deps.etcd, deps.observe, signal));
  const position = await openHistory(deps, facts, signal);
  const name: BackupName =
    request.trigger === "schedule"
      ? { kind: "slot", timeMs: request.slotMs, schedule: request.schedule }
      : { kind: "demand", timeMs: startedMs, id: run };
  const backup = formatBackupName(name);
  const { lineage } = position.history.lineage;
  const earlier = position.listing.backups.find((listed) => listed.lineage === lineage && listed.backup === backup);
  return { facts, position, name, backup, earlier };
}

function listedOf({ position, backup, name }: Looked): ListedBackup {
  return { lineage: position.history.lineage.lineage, backup, name, manifestBytes: 0 };
}

/** Waits where another daemon works on the slot; a backup on demand is nobody else's. */
async function claimFor(
  deps: BackupDependencies,
  request: BackupRequest,
  run: string,
  { position, backup }: Looked,
  signal: AbortSignal,
): Promise<Claimed & AsyncDisposable> {
  const { claims, emit } = deps;
  if (claims === undefined || request.trigger !== "schedule") return { kind: "ours", waited: false, ...unclaimed };
  const { schedule, slotMs } = request;
  const slot = { repository: position.identity.id, lineage: position.history.lineage.lineage, backup };
  const told: ClaimTold = {
    waiting: (by) => emit({ name: "claim.waiting", run, schedule, slotMs, by: describeAuthor(by) }),
    takenOver: (why, by) =>
      emit({ name: "claim.taken", run, schedule, slotMs, why, by: by === undefined ? undefined : describeAuthor(by) }),
    trouble: (message) => emit({ name: "warning", about: "claim", message }),
  };
  return await claimSlot(claims, slot, told, signal);
}

/** How often a snapshot is taken anew because its member is in the minority. */
const retakesAtMost = 2;

interface Turn {
  readonly request: BackupRequest;
  readonly run: string;
  readonly startedMs: number;
  /** Called once, when the manifest is in the store. */
  readonly tell: (manifest: Manifest) => void;
  /** Called when the key of the manifest is taken, by whomever. */
  readonly settle: () => void;
  readonly backup: string;
  readonly facts: ClusterFacts;
  readonly position: Position;
  /** Members that hold other data than the majority. */
  readonly avoid: ReadonlySet<bigint>;
  /** Commit what comes, also from a member in the minority. */
  readonly last: boolean;
}

/** One snapshot, stored while members are asked about it. `retake`: its member is in the minority, nothing was committed, and another member can be taken. */
async function takeAndCommit(
  deps: BackupDependencies,
  turn: Turn,
  phases: PhaseTimer,
  signal: AbortSignal,
): Promise<
  CommittedBackup | { readonly kind: "taken" } | { readonly kind: "retake"; readonly diverged: readonly bigint[] }
> {
  const { request, run, startedMs, backup, facts, position, avoid } = turn;
  await using stack = new AsyncDisposableStack();
  const { lineage } = position.history.lineage;
  // Encoding and uploading begin while the file is scanned: on two cores that saves most of the scan's time.
  const begin = (path: string, drained: Drained): Storing =>
    startStoring(deps, { lineage, snapshotId: deps.newId() }, path, drained);
  const samples = position.newest?.samples ?? [];
  const taken = stack.use(await takeSnapshot(deps, facts, samples, avoid, run, begin, phases, signal));
  refuseContradiction(deps, position, taken);
  const draft = writeDraft(deps, request, { ...position, backup, facts, taken, startedMs });
  const source = taken.source.member.id;
  const others = chooseSources(facts).candidates.some(({ member }) => member.id !== source && !avoid.has(member.id));
  const retakes = !turn.last && others && !avoid.has(source);
  const claim = claimOf(run, facts, taken);
  await using proving = startProving(deps, claim, taken.drained.dbBytes, retakes, phases, signal);
  let commit: Commit;
  try {
    commit = await commitBackup(deps, draft, taken.begun, proving.settled, phases, proving.signal, proving.late);
  } catch (error) {
    if (!proving.late.aborted || signal.aborted || !isFault(error)) throw error;
    return { kind: "retake", diverged: (await proving.finding).divergedIds };
  }
  turn.settle();
  if (commit.kind === "taken") return commit;
  turn.tell(commit.manifest);
  const found = withDiverged(await proving.finding, facts, avoid);
  const recorded = await recordFinding(deps, commit, found, proving.late);
  const { finding } = recorded;
  if (finding.verdict === "sealed" && finding.passing && deps.keepUnproven !== undefined) {
    const kept = stack.move();
    await deps.keepUnproven({ committed: commit, claim, [Symbol.asyncDispose]: () => kept.disposeAsync() });
  }
  return { ...commit, ...recorded };
}

/** A member whose snapshot was given up is named by the proof of the one that was taken instead. */
function withDiverged(finding: Finding, { members }: ClusterFacts, avoid: ReadonlySet<bigint>): Finding {
  if (finding.verdict !== "proven") return finding;
  const given = members.filter(({ id }) => avoid.has(id)).map(({ name }) => name);
  const named = new Set([...finding.agreeing, ...finding.diverged]);
  return { ...finding, diverged: [...finding.diverged, ...given.filter((name) => !named.has(name))] };
}

function claimOf(run: string, facts: ClusterFacts, taken: Taken): Claim {
  return {
    run,
    clusterId: facts.clusterId,
    source: taken.source.member.id,
    revision: taken.facts.revision,
    compactRevision: taken.facts.compactRevision,
    hashKv: taken.facts.hashKv,
    keys: taken.facts.keys,
    path: taken.path,
  };
}

/** Somebody else's manifest stands under this backup's key. Only one that can be believed makes the work superfluous: anything else is a failure. */
async function superseded(
  deps: BackupDependencies,
  identity: RepositoryIdentity,
  listed: ListedBackup,
  repeated: boolean,
  signal: AbortSignal,
): Promise<BackupOutcome> {
  const { lineage, backup } = listed;
  const [entry] = await readEntries(deps.store, [listed], believe(deps, identity), signal);
  if (entry?.manifest !== undefined) return { kind: "superseded", lineage, backup, repeated };
  const { code, message, hint } = entry?.refused ?? new Fault("store-damaged", "it cannot be read back");
  throw new Fault(code, `the key of ${backup} is taken by what is no backup: ${message}`, {
    hint,
    cause: entry?.refused,
  });
}

/** What this repository's documents must be to be believed. */
export function believe(deps: Pick<BackupDependencies, "trusted">, identity: RepositoryIdentity): Belief {
  return { repository: identity.id, trusted: deps.trusted };
}

export interface Position {
  readonly identity: RepositoryIdentity;
  readonly listing: Listing;
  readonly history: LineageHistory;
  /** The newest believed manifest of the lineage. */
  readonly newest: Manifest | undefined;
}

/** Finds the lineage that the live cluster continues, creating repository and first lineage where there are none. */
async function openHistory(deps: BackupDependencies, facts: ClusterFacts, signal: AbortSignal): Promise<Position> {
  const identity = (await readIdentity(deps.store, deps.cluster, signal)) ?? (await create(deps, signal));
  const listing = await listRepository(deps.store, signal);
  const histories = await readHistories(deps.store, listing, believe(deps, identity), deps.clock.now(), signal);
  const judgement = judgeHistory(histories, liveHistory(facts));
  switch (judgement.kind) {
    case "continues": {
      const newest = histories.find(({ lineage }) => lineage.lineage === judgement.history.lineage.lineage)?.newest;
      return { identity, listing, history: judgement.history, newest };
    }
    case "first": {
      const lineage = await createLineage(
        deps.store,
        {
          repository: identity.id,
          lineage: identity.firstLineage,
          kind: "live",
          clusterId: formatId(facts.clusterId),
          parent: null,
          minimumRevision: 0n,
          reason: "the first backup of this cluster",
        },
        deps.clock.now(),
        signal,
      );
      failpoint("lineage-created");
      deps.emit({
        name: "lineage.created",
        lineage: lineage.lineage,
        reason: lineage.reason,
        clusterId: lineage.clusterId ?? "",
      });
      const again = judgeHistory([{ lineage, highestRevision: 0n, highestRaftIndex: 0n }], liveHistory(facts));
      if (again.kind !== "continues")
        throw foreign(again.kind === "foreign" ? again.seen : "its first lineage cannot be read back");
      return { identity, listing, history: again.history, newest: undefined };
    }
    case "foreign":
      throw foreign(judgement.seen);
  }
}

async function create(deps: BackupDependencies, signal: AbortSignal): Promise<RepositoryIdentity> {
  const ids = { repository: deps.newId(), firstLineage: deps.newId() };
  const { identity, created } = await createRepository(deps.store, deps.cluster, ids, deps.clock.now(), signal);
  failpoint("repository-created");
  if (created) deps.emit({ name: "repository.created", repository: identity.id, cluster: identity.cluster });
  return identity;
}

export function liveHistory(facts: ClusterFacts): {
  readonly clusterId: string;
  readonly revision: bigint;
  readonly raftIndex: bigint;
  readonly quorum: boolean;
} {
  return {
    clusterId: formatId(facts.clusterId),
    revision: facts.highestRevision,
    raftIndex: facts.highestRaftIndex,
    quorum: facts.quorum,
  };
}

function refuseContradiction(deps: BackupDependencies, position: Position, taken: Taken): void {
  const samples = position.newest?.samples ?? [];
  const contradiction = findContradiction(samples, taken.facts.probed);
  if (contradiction !== undefined) throw foreign(contradiction);
  if (samples.length >= manySamples && taken.facts.probed.length === 0) {
    const message = `no row that ${position.newest?.backup} sampled is left: cluster ID, revision and raft index fit, but no row confirms that it is the same history`;
    deps.emit({ name: "warning", about: "history", message });
  }
}

/** So many samples seldom vanish together by compaction alone. */
const manySamples = 16;

function foreign(seen: string): Fault {
  return new Fault("lineage-foreign", `another history than the repository's: ${seen}`, {
    hint: "if the cluster was restored or made anew on purpose, run: etcd-lifeboat adopt",
  });
}
