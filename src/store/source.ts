import { abortFault, throwIfAborted } from "../faults.ts";

/** Wraps what a caller's source threw, so that a store's adapter does not take it for trouble of its own; see `unwrapSourceError`. */
class SourceError extends Error {
  constructor(cause: unknown) {
    super("the source failed", { cause });
  }
}

/** What the source itself threw when `error` came out of `pull`, else `error`. */
export function unwrapSourceError(error: unknown): unknown {
  return error instanceof SourceError ? error.cause : error;
}

/** The source's chunks. An aborted signal ends the wait for one, even when the source never answers again. */
export async function* pull(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let waiting = false;
  let ended = false;
  try {
    for (;;) {
      throwIfAborted(signal);
      waiting = true;
      const next = await orAborted(iterator.next(), signal);
      waiting = false;
      if (next.done === true) {
        ended = true;
        return;
      }
      yield next.value;
    }
  } finally {
    if (!ended) {
      const returned = iterator.return?.().catch(() => undefined); // the first error is the one that counts
      // A generator that is busy answers only when it is no longer busy: maybe never.
      if (!waiting) await returned;
    }
  }
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(abortFault(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    promise
      .then(resolve, (error: unknown) => reject(new SourceError(error)))
      .finally(() => {
        signal.removeEventListener("abort", onAbort);
      });
  });
}
