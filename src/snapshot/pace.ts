import type { PaceReason, PaceSense } from "../events.ts";

/** What writers feel of a drain, measured where they write: how long something takes now, and how long without a drain. */
export interface Felt {
  readonly sense: PaceSense;
  readonly ms: number;
  readonly usualMs: number;
}

/** Bytes per second. */
export interface PaceLimits {
  /** Never less: a read transaction that stays open keeps etcd from reusing its pages. */
  readonly floorRate: number;
  /** Never more, whatever is felt. */
  readonly mostRate: number;
}

export interface Pace {
  /** Bytes per second that may be taken. */
  readonly rate: number;
  readonly reason: PaceReason;
  /** Growing fast until the first trouble; after one, step by step. */
  readonly starting: boolean;
  /** Decisions for which the rate does not grow yet. */
  readonly patience: number;
}

const mebi = 1024 ** 2;
const startRate = 64 * mebi;
const stepRate = 8 * mebi;
const leastFloorRate = 32 * mebi;
/** For longer than this no pace keeps a read transaction open. */
const longestMs = 300_000;

/** From here on it counts as felt, however usual it is, and below it nothing does: etcd's own advice for fsync is 10 ms, for a commit 25 ms (its FAQ). */
const bounds: Readonly<Record<PaceSense, { readonly leastMs: number; readonly mostMs: number }>> = {
  probe: { leastMs: 10, mostMs: 50 },
  "wal-fsync": { leastMs: 10, mostMs: 50 },
  "backend-commit": { leastMs: 25, mostMs: 100 },
};

/** The limits for a database of this size: 32 MiB/s, or what takes five minutes; a configured rate holds in any case. */
export function paceLimits(dbBytes: number, maxRate: number | undefined): PaceLimits {
  const mostRate = maxRate ?? Infinity;
  return { floorRate: Math.min(mostRate, Math.max(leastFloorRate, dbBytes / (longestMs / 1000))), mostRate };
}

/** The pace that a drain starts with, before anything was felt. */
export function startPace(limits: PaceLimits): Pace {
  return { rate: within(startRate, limits), reason: "start", starting: true, patience: 0 };
}

/**
 * The next pace: half of what was really taken when writers feel it, a step more when they do not. `takenRate` is what was taken since the last
 * decision; a pace that is not used up does not grow, or it would allow anything by the time it matters.
 */
export function nextPace(pace: Pace, felt: readonly Felt[], takenRate: number, limits: PaceLimits): Pace {
  const worst = felt.filter((each) => each.ms > toleratedMs(each)).toSorted((a, b) => excess(b) - excess(a))[0];
  if (worst !== undefined) {
    const rate = within(Math.min(pace.rate, Math.max(takenRate, pace.rate / 2)) / 2, limits);
    return { rate, reason: worst.sense, starting: false, patience: 2 };
  }
  if (pace.patience > 0) return { ...pace, patience: pace.patience - 1 };
  if (takenRate < pace.rate / 2) return { ...pace, reason: "unused" };
  const rate = within(pace.starting ? pace.rate * 1.5 : pace.rate + stepRate, limits);
  return { ...pace, rate, reason: "unfelt" };
}

/** Three times the usual, within what etcd's operators call slow. */
function toleratedMs({ sense, usualMs }: Felt): number {
  const { leastMs, mostMs } = bounds[sense];
  return Math.min(mostMs, Math.max(leastMs, 3 * usualMs));
}

function excess(felt: Felt): number {
  return felt.ms / toleratedMs(felt);
}

function within(rate: number, { floorRate, mostRate }: PaceLimits): number {
  return Math.min(mostRate, Math.max(floorRate, rate));
}
