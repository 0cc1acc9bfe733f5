import type { Emit } from "../events.ts";
import { isFault, throwIfAborted, type Fault } from "../faults.ts";
import { acquireLock, type HeldLock, type LockScope } from "./lock.ts";

/** Scans of members hold up their writers: those of several daemons, and of what needs the cluster for itself, are kept apart by the lock. */

/** A proof can be made later, a backup not: so long a scan waits for its turn. */
const waitMs = 20_000;
const pollMs = 2000;

/** The lock for one scan, or why it cannot be had within a while: a pause, another scan or operation, or a store that does not answer. */
export async function holdScan(scope: LockScope, emit: Emit, signal: AbortSignal): Promise<HeldLock | Fault> {
  for (let waitedMs = 0; ; waitedMs += pollMs) {
    // Ends: whoever waits gives up after a while.
    try {
      return quiet(await acquireLock(scope, "scan", true, signal), emit);
    } catch (error) {
      throwIfAborted(signal);
      if (!isFault(error)) throw error;
      if (error.code !== "locked" || waitedMs >= waitMs) return error;
    }
    await scope.clock.sleep(pollMs, signal);
  }
}

/** What was found is worth no less because the lock could not be given back: silent, it lapses by itself. */
function quiet(held: HeldLock, emit: Emit): HeldLock {
  return {
    lost: held.lost,
    async [Symbol.asyncDispose]() {
      try {
        await held[Symbol.asyncDispose]();
      } catch (error) {
        if (!isFault(error)) throw error;
        emit({
          name: "warning",
          about: "lock",
          message: `the lock of a scan lapses in some minutes, since it could not be released: ${error.message}`,
        });
      }
    },
  };
}
