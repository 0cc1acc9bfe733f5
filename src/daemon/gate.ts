import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { isFault, type Fault } from "../faults.ts";
import { closedGate, describeAuthor, judgeLock, type Judgement } from "../repository/gates.ts";
import { readLock, type LockScope } from "../repository/lock.ts";

/** A pause is seen in the metrics this soon, also where no backup is due for days. */
const everyMs = 60_000;

/** Looks at the operation lock, tells what it says, and gives why no backup may begin now; a lock that cannot be looked at is such a reason, too. */
export async function readGate(scope: LockScope, emit: Emit, signal: AbortSignal): Promise<Fault | undefined> {
  try {
    const judgement = judgeLock(await readLock(scope, signal), scope.clock.now());
    emit(observed(judgement));
    return closedGate(judgement, "backup", scope.describe);
  } catch (error) {
    if (!isFault(error)) throw error;
    return error;
  }
}

/** Looks at the lock once a minute until the signal is aborted, and tells whether the store answered and how long it took. */
export async function watchGate(
  scope: LockScope,
  { clock, emit }: { readonly clock: Clock; readonly emit: Emit },
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    // Ends when the signal is aborted: the sleep below rejects then.
    const startedMs = clock.elapsed();
    const closed = await readGate(scope, emit, signal);
    if (!signal.aborted) {
      const { code, message } = closed ?? { code: undefined, message: "" };
      // What the lock says keeps backups waiting, and is an answer.
      const up = code === undefined || code === "paused" || code === "locked" || code === "lock-damaged";
      emit({ name: "store.probed", up, durationMs: clock.elapsed() - startedMs, message: up ? "" : message });
    }
    try {
      await clock.sleep(everyMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
  }
}

function observed({ holder, paused, damaged }: Judgement): Parameters<Emit>[0] {
  return {
    name: "lock.observed",
    paused: paused !== undefined,
    pausedSinceMs: paused?.sinceMs,
    pausedBy: paused === undefined ? undefined : describeAuthor(paused.by),
    reason: paused?.reason,
    holder: holder?.operation,
    holderBy: holder === undefined ? undefined : describeAuthor(holder.by),
    holderSinceMs: holder?.sinceMs,
    holderAlive: holder?.alive,
    damaged: damaged.length,
  };
}
