import { mkdir, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { withDeadline } from "../deadline.ts";
import { minorOf } from "../datadir/minors.ts";
import { Fault, isFault } from "../faults.ts";
import { execute } from "../runbook/execute.ts";
import type { Journal } from "../runbook/journal.ts";
import { standingOf, type StepStanding } from "../runbook/standing.ts";
import type { JsonObject, Outcome, RunbookMode, RunbookPlan } from "../runbook/runbook.ts";
import { refuseLateRollback } from "./cluster-steps.ts";
import type { Describe, HighWater, LoginFacts, RestoreFacts, RestoreRequest } from "./facts.ts";
import { judgeRestore, type Preflight } from "./gates.ts";
import { findingsOf, readHygiene } from "./hygiene.ts";
import { observeRestore } from "./observe.ts";
import { fingerprint, planRestore } from "./plan.ts";
import type { RestoreDependencies } from "./restore.ts";
import type { Fetched } from "./source.ts";
import { restoreSteps } from "./steps.ts";
import { RestoreWork } from "./work.ts";

/** A restore that was looked at from all sides, with nothing touched but the work directory. */
export interface PreparedRestore {
  readonly facts: RestoreFacts;
  readonly preflight: Preflight;
  /** Undefined when the preflight refused. */
  readonly plan: RunbookPlan | undefined;
  readonly fetched: Fetched;
}

/** The database is held twice: as it was fetched, and with its membership rewritten. */
const copies = 2;
const spareBytes = 64 * 1024 * 1024;

/**
 * The whole preflight: fetches the source and reads it, looks at the cluster and its hosts, and plans. Rejects with what the source rejects with (`key-missing`,
 * `object-damaged`, …) and with `restore-refused` where this machine has no room for it.
 */
export async function prepareRestore(
  deps: RestoreDependencies,
  request: RestoreRequest,
  highWater: readonly HighWater[],
  describe: Describe,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<PreparedRestore> {
  await requireRoom(deps, describe);
  const fetched = await deps.source.fetch(deps.workDirectory, onBytes, signal);
  const login = await proveLogin(deps, fetched, signal);
  const facts = await observeRestore(deps, fetched.facts, highWater, login, signal);
  const judged = judgeRestore(facts, request, describe);
  const preflight = judged.refusals.length > 0 ? judged : await judgeBuilder(deps, fetched, request, judged, signal);
  const plan = preflight.refusals.length === 0 ? planRestore(facts, request, preflight) : undefined;
  return { facts, preflight, plan, fetched };
}

/** Longer than any password takes whose hash is tried at all. */
const provesWithinMs = 120_000;

/** Asked of the database itself: today's password may not be that of its time, and nothing after the start works without one. */
async function proveLogin(
  { login: { username, by, passwordFile, prove } }: RestoreDependencies,
  { path, facts: { authEnabled } }: Fetched,
  signal: AbortSignal,
): Promise<LoginFacts> {
  if (!authEnabled) return { username, by, passwordFile, proof: undefined };
  using deadline = withDeadline(signal, provesWithinMs, "the users of the database could not be read");
  return { username, by, passwordFile, proof: await prove(path, deadline.signal) };
}

/** What the builder would refuse is said before anybody is stopped for it. */
async function judgeBuilder(
  { builder }: RestoreDependencies,
  { path }: Fetched,
  { token }: RestoreRequest,
  judged: Preflight,
  signal: AbortSignal,
): Promise<Preflight> {
  const { minor: text, targets: members, first } = judged;
  const minor = minorOf(text ?? "");
  if (minor === undefined) return judged;
  try {
    await builder.require(path, { minor, token, members, bump: first.bump }, signal);
    return judged;
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    const hint = error.hint ?? "take another backup (etcd-lifeboat list), or another builder: --builder etcdutl";
    return { ...judged, refusals: [{ message: `the new data cannot be built: ${error.message}`, hint }] };
  }
}

async function requireRoom({ workDirectory, source }: RestoreDependencies, describe: Describe): Promise<void> {
  if (source.bytes === undefined) return;
  await mkdir(workDirectory, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(dirname(workDirectory));
  const needBytes = copies * source.bytes + spareBytes;
  const freeBytes = bavail * bsize;
  if (freeBytes >= needBytes) return;
  throw new Fault(
    "restore-refused",
    `${dirname(workDirectory)} has ${describe.bytes(freeBytes)} free here, and the restore needs ${describe.bytes(needBytes)} to build in`,
    { hint: "make room there, or set operations.directory to a larger disk" },
  );
}

/** Looks again just before a run: refuses a plan that was made for another state of things, and whatever would be refused by now. */
export async function refuseStalePlan(
  deps: RestoreDependencies,
  { facts, plan }: PreparedRestore,
  request: RestoreRequest,
  describe: Describe,
  signal: AbortSignal,
): Promise<void> {
  const now = await observeRestore(deps, facts.source, facts.highWater, facts.login, signal);
  if (JSON.stringify(fingerprint(now)) !== JSON.stringify(fingerprint(facts)) || plan === undefined) {
    throw new Fault("plan-stale", "the cluster or its hosts are not what they were when this plan was made", {
      hint: "plan again: etcd-lifeboat restore --plan",
    });
  }
  const [refusal] = judgeRestore(now, request, describe).refusals;
  if (refusal !== undefined) throw new Fault("restore-refused", refusal.message, { hint: refusal.hint });
}

/**
 * Executes the plan of a journal: forward, or back. Rejects as `execute` does; whatever a later process needs is left then, the lock too. Otherwise only the old data
 * stays, aside, until a clean-up. A first run that fails while it makes things ready takes them back, and rejects with `restore-refused`.
 */
export async function executeRestore(
  deps: RestoreDependencies,
  journal: Journal,
  mode: RunbookMode,
  fetched: Fetched | undefined,
  onFailure: (facts: JsonObject) => Promise<void>,
  signal: AbortSignal,
): Promise<Outcome> {
  try {
    return await carryOut(deps, journal, mode, fetched, onFailure, signal);
  } catch (error) {
    if (mode !== "run" || signal.aborted || !isFault(error, "runbook-stopped") || !isOnlyPrepared(journal)) throw error;
    await carryOut(deps, journal, "rollback", undefined, onFailure, signal);
    const hint = isFault(error.cause) ? error.cause.hint : undefined;
    const message = `${error.message}; nothing of the cluster was touched, and what was made ready is gone again`;
    throw new Fault("restore-refused", message, { hint, cause: error });
  }
}

/** Neither a service nor the data of a member was touched yet. */
function isOnlyPrepared({ plan, entries }: Journal): boolean {
  const { steps } = standingOf(plan, entries);
  return plan.steps.every(({ id, phase }) => phase === "prepare" || steps.get(id)?.touched !== true);
}

async function carryOut(
  deps: RestoreDependencies,
  journal: Journal,
  mode: RunbookMode,
  fetched: Fetched | undefined,
  onFailure: (facts: JsonObject) => Promise<void>,
  signal: AbortSignal,
): Promise<Outcome> {
  const work = new RestoreWork(deps, journal.plan, fetched);
  const { hosts, emit, clock } = deps;
  try {
    if (mode === "rollback" && isGoingBack(journal)) await takeLockToGoBack(work, journal, signal);
    const outcome = await execute(
      journal,
      mode,
      {
        handlers: restoreSteps(work),
        emit,
        clock,
        failpoint: deps.failpoint,
        bootId: async (name, stop) => (await hosts.find(({ host }) => host.name === name)?.host.facts(stop))?.bootId,
        lostHost: async (step) => await Promise.resolve(mayGoWithout(work, journal, mode, step.host ?? "")),
        mayRollBack: async (results, stop) => {
          await refuseLate(work, journal, results, stop);
          // Not before: what is refused leaves a lock that was released as it is.
          await takeLockToGoBack(work, journal, stop);
        },
      },
      AbortSignal.any([signal, work.lost]),
    );
    await work.removeWork();
    if (outcome.kind === "done") tellHygiene(work, outcome);
    return outcome;
  } catch (error) {
    await work.abandon();
    if (isFault(error, "runbook-stopped")) {
      const { id, cluster, operation } = journal.plan;
      await onFailure({ operation, id, cluster, message: error.message });
    }
    if (isFault(error, "runbook-refused", "interrupted", "locked", "paused")) await work.removeWork();
    throw error;
  }
}

function tellHygiene({ deps, plan }: RestoreWork, { results }: Outcome): void {
  const built = results.get("build");
  const findings = findingsOf(plan, built);
  const objects = readHygiene(built)?.objects ?? 0;
  if (findings.length > 0) deps.emit({ name: "restore.hygiene", operation: plan.id, objects, findings });
}

/**
 * Whether an operation goes on without a host that was lost. Forward only from the first restored member on that may have run, since until then everything can be
 * taken back; backward only where none was started on that host, since it would go on beside the old ones. A majority of the members must be left in any case.
 */
function mayGoWithout(work: RestoreWork, { plan, entries }: Journal, mode: RunbookMode, host: string): boolean {
  const { steps, left } = standingOf(plan, entries);
  const carriers = work.facts.members.map((member) => member.host);
  const staying = carriers.filter((name) => name !== host && !left.has(name));
  if (staying.length * 2 <= carriers.length) return false;
  const started = plan.steps.filter(({ id, kind }) => kind === "start-etcd" && isBegun(steps.get(id)));
  return mode === "rollback" ? started.every((step) => step.host !== host) : started.length > 0;
}

function isBegun(standing: StepStanding | undefined): boolean {
  return standing?.touched === true || standing?.state === "done";
}

/** Once a restored member may have run, it, and not the journal, says who was answered. */
async function refuseLate(
  work: RestoreWork,
  { plan, entries }: Journal,
  results: ReadonlyMap<string, JsonObject>,
  signal: AbortSignal,
): Promise<void> {
  const { steps, left } = standingOf(plan, entries);
  const removed = plan.steps.find(({ id }) => steps.get(id)?.notes.some((note) => "removed" in note) === true);
  if (removed !== undefined)
    throw new Fault("rollback-too-late", `the old data of ${removed.host ?? ""} was removed by a clean-up`, {
      hint: "to go back to another state, restore a backup",
    });
  const begun = (kind: string): boolean => plan.steps.some((step) => step.kind === kind && isBegun(steps.get(step.id)));
  if (!begun("start-etcd")) return;
  // Whom a plan does not stop and start, it cannot keep away: from the healthy members on, they may be there.
  const clients = plan.steps.some(({ kind }) => kind === "start-service") ? begun("start-service") : begun("healthy");
  const finished = entries.some((entry) => entry.kind === "ended" && entry.outcome === "done");
  await refuseLateRollback(work, { results, left: new Set(left.keys()) }, clients || finished, signal);
}

/** Something was taken back already: nobody asks any more whether that may be. */
function isGoingBack({ plan, entries }: Journal): boolean {
  return [...standingOf(plan, entries).steps.values()].some(({ state }) => state === "undoing" || state === "undone");
}

/** The way back needs the lock as the way forth did: nobody else may be at work on the cluster. */
async function takeLockToGoBack(work: RestoreWork, { plan, entries }: Journal, signal: AbortSignal): Promise<void> {
  const lock = plan.steps.find(({ kind }) => kind === "lock");
  if (lock !== undefined && standingOf(plan, entries).steps.get(lock.id)?.touched === true)
    await work.takeLockAgain(signal);
}
