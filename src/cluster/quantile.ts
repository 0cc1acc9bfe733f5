/** What a histogram of Prometheus counted so far. */
export interface Counted {
  readonly count: number;
  readonly seconds: number;
  /** Ascending by their bound, the last one Infinity: how many took no longer. */
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
}

/**
 * How long the slowest of the things took that were counted between two looks, but for the part above `q`: in seconds, by a straight line within the
 * bucket, as Prometheus' histogram_quantile does it; the bound of the last finite bucket for what is beyond it. Undefined where nothing was counted, or
 * where the two are not of one count: the process began anew, or has other buckets.
 */
export function quantileBetween(before: Counted, after: Counted, q: number): number | undefined {
  const buckets = countedBetween(before, after);
  const total = buckets?.at(-1)?.count ?? 0;
  if (buckets === undefined || total <= 0) return undefined;
  const rank = q * total;
  const index = buckets.findIndex(({ count }) => count >= rank && count > 0);
  const bucket = buckets[index];
  if (bucket === undefined) return undefined;
  const below = buckets[index - 1] ?? { le: 0, count: 0 };
  if (bucket.le === Infinity) return index === 0 ? undefined : below.le;
  return below.le + ((bucket.le - below.le) * (rank - below.count)) / (bucket.count - below.count);
}

/** Seconds on average of what was counted between two looks; undefined as above. */
export function meanBetween(
  before: Pick<Counted, "count" | "seconds">,
  after: Pick<Counted, "count" | "seconds">,
): number | undefined {
  const count = after.count - before.count;
  const seconds = after.seconds - before.seconds;
  return count > 0 && seconds >= 0 ? seconds / count : undefined;
}

function countedBetween(before: Counted, after: Counted): Counted["buckets"] | undefined {
  if (before.buckets.length !== after.buckets.length || after.buckets.at(-1)?.le !== Infinity) return undefined;
  const between = after.buckets.map(({ le, count }, index) => ({
    le,
    count: before.buckets[index]?.le === le ? count - (before.buckets[index]?.count ?? 0) : Number.NaN,
  }));
  // Also what fell: the first one is compared with 0.
  const ordered = between.every(({ count }, index) => count >= (between[index - 1]?.count ?? 0));
  return ordered ? between : undefined;
}
