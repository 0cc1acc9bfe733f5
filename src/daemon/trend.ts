/** How much there was of something that may fill up, and when. */
export interface Sample {
  readonly atMs: number;
  readonly value: number;
}

/** What is remembered of it: bounded, evenly spread over the whole time. Samples ascend by time. */
export interface History {
  readonly samples: readonly Sample[];
  /** Sooner after the last one nothing is remembered. */
  readonly everyMs: number;
}

const firstEveryMs = 60_000;
const mostSamples = 128;
/** From then on the oldest ones go: 128 of these are eleven days. */
const longestEveryMs = 128 * 60_000;

export const noHistory: History = { samples: [], everyMs: firstEveryMs };

/**
 * The history with one sample more. When it is full, every other one goes and the next ones come half as often. A clock that was put back begins a new
 * history, and so does, where `newAfterFall`, the loss of a tenth: a defragmentation says nothing about what comes after it.
 */
export function remember(history: History, sample: Sample, newAfterFall: boolean): History {
  const { samples, everyMs } = history;
  const last = samples.at(-1);
  if (last !== undefined && (sample.atMs < last.atMs || (newAfterFall && sample.value < 0.9 * last.value))) {
    return { ...noHistory, samples: [sample] };
  }
  if (last !== undefined && sample.atMs - last.atMs < everyMs) return history;
  const more = [...samples, sample];
  if (more.length <= mostSamples) return { samples: more, everyMs };
  if (everyMs >= longestEveryMs) return { samples: more.slice(1), everyMs };
  return { samples: more.filter((_, index) => index % 2 === 0), everyMs: everyMs * 2 };
}

const leastSamples = 12;
const leastSpanMs = 6 * 3_600_000;
/** Nothing is said about what is further ahead than so many times what was seen. */
const reach = 10;

/**
 * When `limit` will be reached if it goes on like that: Theil and Sen's estimate, the median of the slopes between all pairs of samples, from which a quarter
 * of wild samples cannot take it far. Undefined while too little was seen (twelve samples over six hours), when nothing grows, and beyond ten times the span of
 * what was seen.
 */
export function predictFull(samples: readonly Sample[], limit: number): number | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || samples.length < leastSamples) return undefined;
  const spanMs = last.atMs - first.atMs;
  if (spanMs < leastSpanMs) return undefined;
  const slope = medianSlope(samples);
  if (slope <= 0) return undefined;
  const level = median(samples.map(({ atMs, value }) => value + slope * (last.atMs - atMs)));
  const aheadMs = Math.max(0, (limit - level) / slope);
  return aheadMs > reach * spanMs ? undefined : last.atMs + aheadMs;
}

function medianSlope(samples: readonly Sample[]): number {
  const slopes = new Float64Array((samples.length * (samples.length - 1)) / 2);
  let filled = 0;
  samples.forEach((a, index) => {
    for (const b of samples.slice(index + 1)) {
      slopes[filled] = (b.value - a.value) / (b.atMs - a.atMs);
      filled += 1;
    }
  });
  return medianOf(slopes.sort());
}

function median(values: readonly number[]): number {
  return medianOf(Float64Array.from(values).sort());
}

function medianOf(sorted: Float64Array): number {
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}
