import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { isFault } from "../faults.ts";
import { formatInstant } from "../repository/documents.ts";
import type { Store } from "../store/store.ts";

/** Clocks that differ more make every date of a backup doubtful. */
const mostMs = 5 * 60_000;

/** What is wrong between our clock and the store's, in words; undefined: nothing. */
export function describeSkew(storeNowMs: number, nowMs: number): string | undefined {
  const aheadMs = nowMs - storeNowMs;
  if (Math.abs(aheadMs) <= mostMs) return undefined;
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  return `the clock of this host is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} the store's (${formatInstant(storeNowMs)})`;
}

/** Warns before a backup of a clock that would misdate it; the backup is taken all the same. */
export async function warnOfSkew(
  { store, clock, emit }: { readonly store: Store; readonly clock: Clock; readonly emit: Emit },
  signal: AbortSignal,
): Promise<void> {
  let storeNowMs: number | undefined;
  try {
    storeNowMs = await store.now(signal);
  } catch (error) {
    // The backup needs the same store at once, and says what is wrong with it.
    if (isFault(error)) return;
    throw error;
  }
  const skew = storeNowMs === undefined ? undefined : describeSkew(storeNowMs, clock.now());
  if (skew === undefined) return;
  emit({ name: "warning", about: "clock", message: `${skew}: the backup will be misdated, and nothing expires` });
}
