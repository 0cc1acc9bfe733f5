import type { Clock } from "../../src/clock.ts";
import { abortFault } from "../../src/faults.ts";

export interface SteeredClock extends Clock {
  /** Lets time pass: sleepers wake in the order of their ends, each with the clock at its end, and whatever they start meanwhile counts too. */
  advance(ms: number): Promise<void>;
  /** A machine that was suspended, or a clock that was set: the wall clock jumps (back too), nobody's sleep is shortened by it. */
  jump(ms: number): void;
  readonly sleepers: () => number;
}

/** A clock that stands still until it is told otherwise. */
export function steeredClock(startMs: number): SteeredClock {
  let elapsedMs = 0;
  let wallMs = startMs;
  let counter = 0;
  const sleepers = new Set<{ readonly atMs: number; readonly order: number; readonly wake: () => void }>();
  return {
    now: () => wallMs,
    elapsed: () => elapsedMs,
    sleepers: () => sleepers.size,
    jump(ms) {
      wallMs += ms;
    },
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) {
          reject(abortFault(signal));
          return;
        }
        const onAbort = (): void => {
          sleepers.delete(sleeper);
          reject(abortFault(signal));
        };
        const sleeper = {
          atMs: elapsedMs + Math.max(0, ms),
          order: counter++,
          wake: () => {
            signal.removeEventListener("abort", onAbort);
            sleepers.delete(sleeper);
            resolve();
          },
        };
        sleepers.add(sleeper);
        signal.addEventListener("abort", onAbort, { once: true });
      }),
    async advance(ms) {
      const endMs = elapsedMs + ms;
      for (;;) {
        await settle();
        const [next] = [...sleepers].toSorted((a, b) => a.atMs - b.atMs || a.order - b.order);
        if (next === undefined || next.atMs > endMs) break;
        wallMs += next.atMs - elapsedMs;
        elapsedMs = next.atMs;
        next.wake();
      }
      wallMs += endMs - elapsedMs;
      elapsedMs = endMs;
      await settle();
    },
  };
}

/** Everything that can go on without time passing goes on first. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
