import { noHistory, predictFull, remember, type History, type Sample } from "./trend.ts";

/**
 * When something will be full by all that was told of it so far; undefined while that is not known. `about` names it, `limit` is what it can hold.
 * With `newAfterFall` what came before a great fall says nothing any more.
 */
export type Forecast = (about: string, sample: Sample, limit: number, newAfterFall: boolean) => number | undefined;

/** More things than a cluster has members and a host has disks are not remembered. */
const mostThings = 256;

/** Remembers a bounded history of each thing; the estimate is made anew only when a sample joins it. */
export function openForecast(): Forecast {
  const known = new Map<string, { history: History; limit: number; fullMs: number | undefined }>();
  return (about, sample, limit, newAfterFall) => {
    const before = known.get(about);
    const history = remember(before?.history ?? noHistory, sample, newAfterFall);
    if (before?.history === history && before.limit === limit) return before.fullMs;
    const fullMs = predictFull(history.samples, limit);
    if (before !== undefined || known.size < mostThings) known.set(about, { history, limit, fullMs });
    return fullMs;
  };
}
