import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { isFault } from "../faults.ts";
import { collectBounds } from "../snapshot/collect.ts";
import type { CopyDependencies } from "../snapshot/copy.ts";
import { applyRetention, openExpiry, surveyRetention, type ExpirySource } from "../snapshot/expire.ts";
import type { RetentionPolicy } from "../snapshot/keep.ts";

/** A look at the whole repository is not for every minute. */
const everyMs = 3_600_000;
/** What goes at once: a mistake in the policy shows in the log before all is gone. */
const mostAtOnce = 100;

export interface ExpiryDependencies extends Omit<ExpirySource, "policy" | "bounds"> {
  /** Undefined: the daemon removes nothing. */
  readonly policy: RetentionPolicy | undefined;
  readonly clock: Clock;
  readonly emit: Emit;
}

/** Returns what is called after a committed backup: it expires what is too old, at most once an hour. Trouble is told, never thrown. */
export function expireHourly(deps: ExpiryDependencies): (signal: AbortSignal) => Promise<void> {
  const { policy, clock, emit } = deps;
  let lastMs = -Infinity;
  return async (signal) => {
    if (policy === undefined || clock.elapsed() - lastMs < everyMs) return;
    try {
      const closed = await deps.gate(signal);
      if (closed !== undefined) throw closed;
      const expiry = await openExpiry({ ...deps, policy, bounds: collectBounds }, signal);
      lastMs = clock.elapsed();
      if (expiry === undefined) return;
      const survey = await surveyRetention(expiry, signal);
      const { problem } = expiry.cache;
      if (problem !== undefined)
        emit({ name: "warning", about: "catalog", message: `each manifest is read anew every time: ${problem}` });
      await applyRetention(expiry, survey, mostAtOnce, signal);
    } catch (error) {
      if (!isFault(error)) throw error;
      const { code, message, hint } = error;
      if (signal.aborted) return;
      // No failure: it goes on when the repository is free again, after the next backup.
      if (isFault(error, "paused", "locked", "lock-damaged")) {
        lastMs = -Infinity;
        emit({ name: "retention.held", code, message });
      } else emit({ name: "retention.failed", code, message, hint });
    }
  };
}

/**
 * Returns what is called when a copy was brought up to date: it is expired by the same rules, by itself, at most once an hour. A backup that only the copy has is
 * judged like any other, so that who removes everything from the first store removes nothing from its copies.
 */
export function expireCopies(
  deps: Omit<ExpiryDependencies, "store">,
): (copy: CopyDependencies, signal: AbortSignal) => Promise<void> {
  const hourly = new Map<string, (signal: AbortSignal) => Promise<void>>();
  return async ({ target }, signal) => {
    let expire = hourly.get(target.name);
    if (expire === undefined) {
      expire = expireHourly({ ...deps, store: target.store, emit: tellingOf(target.name, deps.emit) });
      hourly.set(target.name, expire);
    }
    await expire(signal);
  };
}

/** What an expiry tells, as a copy's: sums of the first store are not overwritten. */
function tellingOf(store: string, emit: Emit): Emit {
  return (event) => {
    if (event.name === "retention.applied") {
      const { expired, objects, freedBytes, locked } = event;
      emit({ name: "copy.expired", store, expired, objects, freedBytes, locked });
    } else if (event.name === "retention.failed") {
      const { code, message, hint } = event;
      emit({ name: "copy.failed", store, backup: undefined, code, message: `its retention failed: ${message}`, hint });
    } else if (event.name === "warning") emit({ ...event, message: `copy ${store}: ${event.message}` });
  };
}
