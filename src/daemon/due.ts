import { slotAfter, slotBefore, type CronFields } from "./slots.ts";

/** What the decision needs to know of a schedule. */
export interface ScheduleFacts {
  readonly fields: CronFields;
  readonly timeZone: string;
  /** Added to each slot; the same for every daemon of a cluster. Slots keep their own time as their key. */
  readonly delayMs: number;
  /** The newest slot that was committed; undefined: none yet. */
  readonly newestSlotMs: number | undefined;
  /** The last slot that this process worked on, whatever came of it; undefined: none yet. */
  readonly triedSlotMs?: number | undefined;
  /** True until the daemon has looked once: a slot that passed before is served at once, without the delay. */
  readonly starting: boolean;
}

export type Due =
  /** A backup for this slot is due now; `missed` slots before it passed without one, nor with a try, and are served by it. */
  | { readonly kind: "due"; readonly slotMs: number; readonly missed: number }
  | { readonly kind: "wait"; readonly untilMs: number }
  /** No slot lies in the past or the near future. */
  | { readonly kind: "never" };

/** Counting further back than this says nothing more. */
const missedAtMost = 1000;

/**
 * Decides from the newest committed slot and the clock whether a backup is due: first start, late, missed while down, clock jumps and daylight saving
 * are all the same question. Many missed slots make one backup, under the key of the latest.
 */
export function decideDue(schedule: ScheduleFacts, nowMs: number): Due {
  const { fields, timeZone, newestSlotMs } = schedule;
  const delayMs = schedule.starting ? 0 : schedule.delayMs;
  const slotMs = slotBefore(fields, timeZone, nowMs - delayMs);
  if (slotMs !== undefined && (newestSlotMs === undefined || newestSlotMs < slotMs)) {
    return { kind: "due", slotMs, missed: countMissed(schedule, slotMs) };
  }
  const next = slotAfter(fields, timeZone, nowMs - schedule.delayMs);
  return next === undefined ? { kind: "never" } : { kind: "wait", untilMs: next + schedule.delayMs };
}

function countMissed(schedule: ScheduleFacts, slotMs: number): number {
  const { newestSlotMs = -Infinity, triedSlotMs = -Infinity } = schedule;
  const sinceMs = triedSlotMs <= slotMs ? Math.max(newestSlotMs, triedSlotMs) : newestSlotMs;
  if (sinceMs === -Infinity) return 0;
  let missed = 0;
  let at = slotBefore(schedule.fields, schedule.timeZone, slotMs - 1);
  while (at !== undefined && at > sinceMs && missed < missedAtMost) {
    missed += 1;
    at = slotBefore(schedule.fields, schedule.timeZone, at - 1);
  }
  return missed;
}

/** A share of the jitter that every daemon of a cluster computes alike (FNV-1a over the name), so that clusters spread and daemons do not. */
export function stableDelay(cluster: string, schedule: string, jitterMs: number): number {
  let hash = 0x811c9dc5;
  for (const character of `${cluster}/${schedule}`) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  }
  return Math.floor((hash / 2 ** 32) * jitterMs);
}

/** No pause is longer than this; the loop also judges by it whether a clock was put back. */
export const longestRetryMs = 3_600_000;

/**
 * How long to wait after so many failures in a row: doubling from 5 s up to 10 minutes, and never past half of a short interval. A run that failed
 * after its upload has left a whole database behind that nothing collects, so its pauses begin at a minute and go up to an hour, whatever the interval.
 */
export function retryDelay(failures: number, intervalMs: number, uploaded = false): number {
  const doublings = Math.min(failures - 1, 10);
  if (uploaded) return Math.min(longestRetryMs, 60_000 * 2 ** doublings);
  return Math.max(1000, Math.min(600_000, 5000 * 2 ** doublings, intervalMs / 2));
}
