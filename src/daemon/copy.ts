import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { abortFault, isFault, type Fault } from "../faults.ts";
import { copyRepository, type CopyDependencies } from "../snapshot/copy.ts";
import { retryDelay } from "./due.ts";

export interface CopiesDependencies {
  readonly copies: readonly CopyDependencies[];
  readonly schedules: readonly string[];
  readonly clock: Clock;
  readonly emit: Emit;
  /** Why nothing may be written now; undefined: nothing stands against it. */
  readonly gate: (signal: AbortSignal) => Promise<Fault | undefined>;
  /** Lets retention work on a copy that was just brought up to date; told, never thrown. */
  readonly expire: (copy: CopyDependencies, signal: AbortSignal) => Promise<void>;
}

/** Copies of backups after their commit, each in a queue of its own: a copy that is slow or dead delays nobody else. */
export interface Copies {
  /** This process has committed a backup: it is copied at once, without waiting. */
  readonly committed: (backup: { readonly lineage: string; readonly backup: string }) => void;
  /** Copies until the signal is aborted, which ends what is under way: it goes on after the next start. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

/** What others committed, what came later (proofs, pins), and what was missed is looked for this often. */
const everyMs = 15 * 60_000;
/** Whoever committed a backup copies it. After so long, anybody does. */
const graceMs = 10 * 60_000;
/** So soon after a pause or an operation copies go on. */
const heldMs = 30_000;
/** More commits than a daemon has within the grace. */
const mostOwn = 1000;

/** Opens what `run` and the backups share. */
export function openCopies(deps: CopiesDependencies): Copies {
  const own = new Set<string>();
  let wake = new AbortController();
  return {
    committed({ lineage, backup }) {
      own.add(`${lineage}/${backup}`);
      for (const oldest of own) if (own.size > mostOwn) own.delete(oldest);
      const before = wake;
      wake = new AbortController();
      before.abort();
    },
    async run(signal) {
      await Promise.all(deps.copies.map((copy) => follow(deps, copy, own, () => wake.signal, signal)));
    },
  };
}

async function follow(
  deps: CopiesDependencies,
  copy: CopyDependencies,
  own: ReadonlySet<string>,
  woken: () => AbortSignal,
  signal: AbortSignal,
): Promise<void> {
  const settled = new Set<string>();
  let failures = 0;
  // Ends when the signal is aborted.
  while (!signal.aborted) {
    // Taken before the look: a commit after it wakes the next round.
    const woke = woken();
    let waitMs = everyMs;
    try {
      const closed = await deps.gate(signal);
      if (isFault(closed, "paused", "locked", "lock-damaged")) waitMs = heldMs;
      else {
        const failed = await abandonable(round(deps, copy, own, settled, signal), signal);
        failures = failed > 0 ? failures + 1 : 0;
      }
    } catch (error) {
      if (signal.aborted && isFault(error)) return;
      if (!isFault(error)) throw error;
      failures += 1;
      const { code, message, hint } = error;
      deps.emit({ name: "copy.failed", store: copy.target.name, backup: undefined, code, message, hint });
    }
    if (failures > 0) waitMs = retryDelay(failures, everyMs);
    // After a failure only time helps: a store that is dead is not asked at each commit.
    await pause(deps.clock, waitMs, failures > 0 ? signal : AbortSignal.any([signal, woke]));
  }
}

/** Resolves with how many backups could not be copied. */
async function round(
  deps: CopiesDependencies,
  copy: CopyDependencies,
  own: ReadonlySet<string>,
  settled: Set<string>,
  signal: AbortSignal,
): Promise<number> {
  const nowMs = deps.clock.now();
  const outcome = await copyRepository(
    copy,
    {
      schedules: deps.schedules,
      settled,
      postponed: ({ lineage, backup, stored }) =>
        !own.has(`${lineage}/${backup}`) && stored !== undefined && Math.abs(nowMs - stored.modifiedMs) < graceMs,
    },
    signal,
  );
  if (outcome === undefined) return 0;
  // Only what is a copy of the first store is ever expired, by what both have now.
  if (outcome.failed.length === 0) await deps.expire(copy, signal);
  return outcome.failed.length;
}

/** A network file system that hangs lets nobody go: the end of the daemon does not wait for it. */
async function abandonable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(abortFault(signal));
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    // Whoever was abandoned may still fail, which is nobody's concern.
    work.catch(() => undefined);
  }
}

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!signal.aborted || !isFault(error)) throw error;
  }
}
