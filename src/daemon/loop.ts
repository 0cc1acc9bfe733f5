import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { isFault, type Fault } from "../faults.ts";
import { readIdentity } from "../repository/identity.ts";
import { readEntries, type Belief } from "../repository/catalog.ts";
import { listRepository, type ListedBackup, type Listing } from "../repository/listing.ts";
import { newestProven, scheduledLineage } from "../repository/proven.ts";
import type { TrustedKeys } from "../repository/signature.ts";
import type { BackupOutcome, BackupRequest, FailedBackup } from "../snapshot/backup.ts";
import type { Store } from "../store/store.ts";
import { decideDue, longestRetryMs, retryDelay, stableDelay } from "./due.ts";
import { slotInterval, type CronFields } from "./slots.ts";

export interface Schedule {
  readonly name: string;
  readonly fields: CronFields;
  readonly timeZone: string;
  readonly jitterMs: number;
}

export interface LoopDependencies {
  readonly cluster: string;
  readonly schedules: readonly Schedule[];
  readonly store: Store;
  readonly trusted: TrustedKeys | undefined;
  readonly clock: Clock;
  readonly emit: Emit;
  /**
   * A run that failed is an outcome and has been told; what it throws is a bug, or the end. `refused`: it fails with this, and is told, before it begins.
   */
  readonly backup: (
    request: BackupRequest,
    signal: AbortSignal,
    refused?: Fault,
  ) => Promise<BackupOutcome | FailedBackup>;
  /** Why no backup may begin now: a pause, another operation, a damaged lock, or a store that does not answer; undefined: nothing stands against it. */
  readonly gate: (signal: AbortSignal) => Promise<Fault | undefined>;
  /** Called whenever the loop turns, so that liveness can tell a hung one. */
  readonly onTurn: () => void;
  /** Wraps what may take longer than a turn and is bounded by itself, a backup or the store's answers: the loop is alive meanwhile. */
  readonly during: <T>(work: () => Promise<T>) => Promise<T>;
  /** Aborted when the loop shall end between two backups: one that runs goes on to its end. */
  readonly retire?: AbortSignal;
}

/** Waking at least this often makes suspended machines and clock jumps harmless: the clock is looked at, never counted on. */
const turnMs = 15_000;
/** So soon after a pause or an operation the backups go on. */
const heldMs = 30_000;
/** What was read of the repository so lately need not be read again. */
const freshMs = 1000;
/** Clocks of several daemons differ a little; a slot further ahead than this is worth a warning. */
const futureMs = 3_600_000;

/** Runs all schedules until the signal is aborted or the loop is retired, one backup at a time. A failed backup is told, retried with growing pauses, and never ends the loop. */
export async function runSchedules(deps: LoopDependencies, signal: AbortSignal): Promise<void> {
  const states = deps.schedules.map((schedule) => openState(deps, schedule));
  const history: History = { lineage: undefined };
  for (const { schedule, intervalMs } of states) {
    const known = intervalMs === Infinity ? undefined : intervalMs;
    deps.emit({ name: "schedule.opened", schedule: schedule.name, intervalMs: known });
  }
  let repositoryRead = false;
  let storeFailures = 0;
  const idle = deps.retire === undefined ? signal : AbortSignal.any([signal, deps.retire]);
  while (!idle.aborted) {
    deps.onTurn();
    try {
      if (!repositoryRead) {
        await deps.during(() => readFreshness(deps, history, states, idle));
        repositoryRead = true;
        storeFailures = 0;
      }
    } catch (error) {
      if (idle.aborted) return;
      if (!isFault(error)) throw error;
      storeFailures += 1;
      deps.emit({ name: "store.observed", up: false, backups: undefined, oldestMs: undefined, message: error.message });
      await pause(deps.clock, Math.min(turnMs, retryDelay(storeFailures, 2 * turnMs)), idle);
      continue;
    }
    for (const state of states) {
      if (idle.aborted) return;
      await turn(deps, history, state, signal);
      // Another daemon was faster or slower than we knew: look again.
      if (state.stale) repositoryRead = false;
      state.stale = false;
    }
    if (repositoryRead) await pause(deps.clock, Math.min(turnMs, waitMs(states, deps.clock.now())), idle);
  }
}

/** Whose slots count. At the start the repository's newest; later what the runs say, since they have seen the cluster. */
interface History {
  lineage: string | undefined;
}

/** What the loop remembers of a schedule; all of it can be lost and read again. */
interface State {
  readonly schedule: Schedule;
  readonly delayMs: number;
  readonly intervalMs: number;
  /** Slots that are committed, ascending. A list, not only the newest: one that a wrong clock put into the future must not end all backups until then. */
  slots: readonly number[];
  /** Whose slots they are; undefined: no history is known yet. */
  lineage: string | undefined;
  starting: boolean;
  /** When the slots were read, by the clock that never goes back. */
  readAtMs: number;
  /** They were read again since slots seemed to be missed: once before each attempt, however long the reading takes. */
  lookedAgain: boolean;
  /** The last slot that was worked on: a failure tells of it. */
  triedSlotMs: number | undefined;
  /** What was last told as planned. */
  plannedMs: number;
  failures: number;
  /** Not before this time, after a failure. */
  retryAtMs: number;
  wakeAtMs: number;
  /** From then until it wakes, nothing can be due; undefined: it was not looked at since something changed. */
  idleFromMs: number | undefined;
  stale: boolean;
}

function openState(deps: LoopDependencies, schedule: Schedule): State {
  return {
    schedule,
    delayMs: stableDelay(deps.cluster, schedule.name, schedule.jitterMs),
    intervalMs: slotInterval(schedule.fields, schedule.timeZone, deps.clock.now()) ?? Infinity,
    slots: [],
    lineage: undefined,
    starting: true,
    readAtMs: -Infinity,
    lookedAgain: false,
    triedSlotMs: undefined,
    plannedMs: -Infinity,
    failures: 0,
    retryAtMs: 0,
    wakeAtMs: 0,
    idleFromMs: undefined,
    stale: false,
  };
}

/** Reads from the repository what was committed before this process, so that a restart forgets nothing. */
async function readFreshness(
  deps: LoopDependencies,
  history: History,
  states: readonly State[],
  signal: AbortSignal,
): Promise<void> {
  const belief = await readBelief(deps, signal);
  const listing = belief === undefined ? undefined : await listRepository(deps.store, signal);
  const all = listing?.backups ?? [];
  const oldestMs = all[0]?.name.timeMs;
  deps.emit({ name: "store.observed", up: true, backups: all.length, oldestMs, message: "" });
  if (listing !== undefined && belief !== undefined)
    history.lineage ??= await scheduledLineage(deps.store, listing, belief, signal);
  const { lineage } = history;
  const nowMs = deps.clock.now();
  for (const state of states) {
    const { name } = state.schedule;
    const ever = all.filter((backup) => backup.name.kind === "slot" && backup.name.schedule === name);
    const own = ever.filter((backup) => lineage === undefined || backup.lineage === lineage);
    const past = own.filter((backup) => backup.name.timeMs <= nowMs);
    // What this process knows to be committed stays known, whatever a listing says.
    state.idleFromMs = undefined;
    state.readAtMs = deps.clock.elapsed();
    if (lineage !== undefined) enter(state, lineage);
    state.slots = remember(
      state.slots,
      own.map((backup) => backup.name.timeMs),
    );
    warnOfFuture(deps, name, state.slots, nowMs);
    deps.emit({
      name: "schedule.read",
      schedule: name,
      lastSlotMs: past.at(-1)?.name.timeMs,
      lastSuccessMs: belief === undefined ? undefined : await lastCommitted(deps, belief, past, signal),
      lastProvenMs: listing === undefined ? undefined : await lastProven(deps, belief, listing, past, signal),
      backups: ever.length,
    });
  }
}

/** Undefined where there is no repository yet, a damaged one, or another cluster's: then no slot is committed, and the backup itself says why it is refused. */
async function readBelief(deps: LoopDependencies, signal: AbortSignal): Promise<Belief | undefined> {
  try {
    const identity = await readIdentity(deps.store, deps.cluster, signal);
    return identity === undefined ? undefined : { repository: identity.id, trusted: deps.trusted };
  } catch (error) {
    if (isFault(error, "repository-foreign", "manifest-invalid", "store-damaged")) return undefined;
    throw error;
  }
}

function warnOfFuture(deps: LoopDependencies, schedule: string, slots: readonly number[], nowMs: number): void {
  const newest = slots.at(-1);
  if (newest === undefined || newest <= nowMs + futureMs) return;
  const message = `schedule ${schedule} has a backup for ${new Date(newest).toISOString()}, which lies in the future: a clock was or is wrong`;
  deps.emit({ name: "warning", about: "clock", message });
}

/** When the newest believed manifest was committed; refused ones are told, since they look like backups and are none. */
async function lastCommitted(
  deps: LoopDependencies,
  belief: Belief,
  own: readonly ListedBackup[],
  signal: AbortSignal,
): Promise<number | undefined> {
  const looksBack = 10;
  for (const listed of own.slice(-looksBack).toReversed()) {
    const [entry] = await readEntries(deps.store, [listed], belief, signal);
    if (entry?.manifest !== undefined) return Date.parse(entry.manifest.committedAt);
    if (entry?.refused !== undefined) deps.emit({ name: "warning", about: "manifest", message: entry.refused.message });
  }
  return undefined;
}

/** When the newest proven backup was committed. */
async function lastProven(
  deps: LoopDependencies,
  belief: Belief | undefined,
  listing: Listing,
  own: readonly ListedBackup[],
  signal: AbortSignal,
): Promise<number | undefined> {
  const manifest = belief === undefined ? undefined : await newestProven(deps.store, listing, own, belief, signal);
  return manifest === undefined ? undefined : Date.parse(manifest.committedAt);
}

async function turn(deps: LoopDependencies, history: History, state: State, signal: AbortSignal): Promise<void> {
  const { schedule } = state;
  const nowMs = deps.clock.now();
  // A clock that was put back is another matter, and every look of a rare schedule costs a walk through years.
  if (state.idleFromMs !== undefined && state.idleFromMs <= nowMs && nowMs < state.wakeAtMs) return;
  const { delayMs, starting, triedSlotMs } = state;
  const newestSlotMs = newestSlot(state.slots, nowMs);
  const due = decideDue({ ...schedule, delayMs, newestSlotMs, triedSlotMs, starting }, nowMs);
  state.idleFromMs = due.kind === "due" ? undefined : nowMs;
  if (due.kind === "never") {
    state.wakeAtMs = Infinity;
    return;
  }
  if (due.kind === "wait") {
    state.starting = false;
    state.wakeAtMs = due.untilMs;
    if (state.plannedMs !== due.untilMs) {
      deps.emit({
        name: "schedule.planned",
        schedule: schedule.name,
        nextRunMs: due.untilMs,
        intervalMs: state.intervalMs,
      });
    }
    state.plannedMs = due.untilMs;
    return;
  }
  // A clock that was put back must not freeze the retries.
  if (state.failures > 0 && nowMs < state.retryAtMs && state.retryAtMs - nowMs <= longestRetryMs) {
    state.wakeAtMs = state.retryAtMs;
    return;
  }
  // While this process slept, others may have served what seems to be missed.
  if (due.missed > 0 && !state.lookedAgain && deps.clock.elapsed() - state.readAtMs > freshMs) {
    state.lookedAgain = true;
    state.stale = true;
    return;
  }
  const closed = await deps.during(() => deps.gate(signal));
  if (signal.aborted) return;
  if (isFault(closed, "paused", "locked", "lock-damaged")) {
    const { code, message } = closed;
    deps.emit({ name: "schedule.held", schedule: schedule.name, slotMs: due.slotMs, code, message });
    state.wakeAtMs = nowMs + heldMs;
    return;
  }
  if (due.missed > 0) {
    deps.emit({ name: "schedule.missed", schedule: schedule.name, slots: due.missed, newestSlotMs: due.slotMs });
  }
  state.triedSlotMs = due.slotMs;
  state.lookedAgain = false;
  // A store that cannot even be asked for the lock is no pause: the slot has failed, and is told so.
  await serve(deps, history, state, due.slotMs, closed, signal);
}

/** From now on the slots of this lineage count; those of another one are forgotten. */
function enter(state: State, lineage: string): void {
  if (state.lineage !== undefined && state.lineage !== lineage) state.slots = [];
  state.lineage = lineage;
}

/** A daemon runs for years; what is older than so many slots decides nothing any more. */
const slotsKept = 10_000;

function remember(slots: readonly number[], more: readonly number[]): readonly number[] {
  const newest = slots.at(-1);
  // The usual case, and the only one that happens often.
  if (more.length === 1 && (newest === undefined || (more[0] ?? 0) > newest))
    return [...slots, ...more].slice(-slotsKept);
  return [...new Set([...slots, ...more])].toSorted((a, b) => a - b).slice(-slotsKept);
}

/** The newest committed slot that does not lie in the future. */
function newestSlot(slots: readonly number[], nowMs: number): number | undefined {
  return slots.findLast((slotMs) => slotMs <= nowMs);
}

async function serve(
  deps: LoopDependencies,
  history: History,
  state: State,
  slotMs: number,
  refused: Fault | undefined,
  signal: AbortSignal,
): Promise<void> {
  // It may take hours, and what follows it a while: the loop is not hung.
  const request = { trigger: "schedule", schedule: state.schedule.name, slotMs } as const;
  const outcome = await deps.during(() => deps.backup(request, signal, refused));
  if (outcome.kind === "failed") {
    if (signal.aborted) return;
    state.failures += 1;
    const uploaded = outcome.phase === "readback" || outcome.phase === "commit";
    state.retryAtMs = deps.clock.now() + retryDelay(state.failures, state.intervalMs, uploaded);
    state.wakeAtMs = state.retryAtMs;
    return;
  }
  const { lineage } = outcome.kind === "committed" ? outcome.manifest : outcome;
  // Slots of a history that is over serve nobody: those of the present one are read, for the other schedules, too.
  const another = history.lineage !== undefined && history.lineage !== lineage;
  history.lineage = lineage;
  enter(state, lineage);
  state.slots = remember(state.slots, [slotMs]);
  state.failures = 0;
  state.starting = false;
  state.stale = another || outcome.kind === "superseded";
  state.wakeAtMs = 0;
}

function waitMs(states: readonly State[], nowMs: number): number {
  return Math.max(0, Math.min(...states.map(({ wakeAtMs }) => wakeAtMs - nowMs), turnMs));
}

/** Sleeps; being aborted is the way to wake up for good, not a failure. */
async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!signal.aborted || !isFault(error)) throw error;
  }
}
