import { abortFault } from "./faults.ts";

/** Time as features see it, so that a test can steer it. */
export interface Clock {
  /** Wall clock, milliseconds since 1970-01-01 UTC. */
  now(): number;
  /** Milliseconds that never go back, for durations only. */
  elapsed(): number;
  /** Resolves after `ms` milliseconds; rejects with the signal's fault when it is aborted first. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** setTimeout fires at once for anything larger (Node), so longer sleeps are cut into pieces. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * How far a test wants this process's wall clock to be off, as where nobody synchronises it. Zero unless LIFEBOAT_FAILPOINTS is "on" as well, so that a
 * stray variable on a host does nothing.
 */
const offsetMs =
  process.env["LIFEBOAT_FAILPOINTS"] === "on" ? Number(process.env["LIFEBOAT_CLOCK_OFFSET_MS"] ?? "0") || 0 : 0;

/** How many times shorter a test wants this process's pauses to be, to see in seconds what takes a daemon minutes. One, as above. */
const haste =
  process.env["LIFEBOAT_FAILPOINTS"] === "on" ? Math.max(1, Number(process.env["LIFEBOAT_CLOCK_HASTE"]) || 1) : 1;

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now() + offsetMs,
  elapsed: () => performance.now(),
  async sleep(ms, signal) {
    let leftMs = Math.max(0, ms) / haste;
    do {
      const pieceMs = Math.min(leftMs, longestTimerMs);
      await sleepPiece(pieceMs, signal);
      leftMs -= pieceMs;
    } while (leftMs > 0);
  },
};

function sleepPiece(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortFault(signal));
    };
    if (signal.aborted) {
      reject(abortFault(signal));
      return;
    }
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
