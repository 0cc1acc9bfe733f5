import type { Clock } from "../clock.ts";
import { isFault } from "../faults.ts";
import type { Store } from "./store.ts";

/** One request to a store, as whoever asked felt it. */
export interface StoreRequest {
  readonly operation: "create" | "upload" | "read" | "download" | "head" | "list" | "remove";
  /** False: it was not answered as a store must; a name that is taken, or that is not there, is an answer. */
  readonly ok: boolean;
  /** Waits for the store alone: neither for what is uploaded nor for whoever reads what is downloaded or listed. */
  readonly durationMs: number;
}

/** The same store; tells of every request when it has ended, but for those that somebody gave up. */
export function timed(store: Store, clock: Clock, tell: (request: StoreRequest) => void): Store {
  async function once<T>(operation: StoreRequest["operation"], ask: () => Promise<T>, others?: Stopwatch): Promise<T> {
    const startedMs = clock.elapsed();
    const end = (ok: boolean): void =>
      tell({ operation, ok, durationMs: Math.max(0, clock.elapsed() - startedMs - (others?.totalMs() ?? 0)) });
    try {
      const answer = await ask();
      end(true);
      return answer;
    } catch (error) {
      if (isAnswer(error)) end(true);
      else if (isStoreFault(error)) end(false);
      throw error;
    }
  }
  async function* each<T>(operation: StoreRequest["operation"], parts: AsyncIterable<T>): AsyncGenerator<T> {
    const waits = openStopwatch(clock);
    let ok: boolean | undefined = true;
    try {
      for await (const part of waits.around(parts)) yield part;
    } catch (error) {
      ok = isAnswer(error) ? true : isStoreFault(error) ? false : undefined;
      throw error;
    } finally {
      if (ok !== undefined) tell({ operation, ok, durationMs: waits.totalMs() });
    }
  }
  return {
    description: store.description,
    create: (name, body, signal) => once("create", () => store.create(name, body, signal)),
    upload(name, source, signal) {
      const waits = openStopwatch(clock);
      return once("upload", () => store.upload(name, waits.around(source), signal), waits);
    },
    read: (name, signal) => once("read", () => store.read(name, signal)),
    download: (name, signal) => each("download", store.download(name, signal)),
    head: (name, signal) => once("head", () => store.head(name, signal)),
    list: (range, signal) => each("list", store.list(range, signal)),
    remove: (name, signal) => once("remove", () => store.remove(name, signal)),
    sweep: (olderThanMs, signal) => store.sweep(olderThanMs, signal),
    now: (signal) => store.now(signal),
  };
}

/** How long it was waited for the parts of something. */
interface Stopwatch {
  readonly around: <T>(parts: AsyncIterable<T>) => AsyncGenerator<T>;
  readonly totalMs: () => number;
}

function openStopwatch(clock: Clock): Stopwatch {
  let totalMs = 0;
  return {
    async *around(parts) {
      let sinceMs = clock.elapsed();
      const stop = (): void => {
        totalMs += clock.elapsed() - sinceMs;
      };
      try {
        for await (const part of parts) {
          stop();
          yield part;
          sinceMs = clock.elapsed();
        }
        stop();
      } catch (error) {
        stop();
        throw error;
      }
    },
    totalMs: () => totalMs,
  };
}

/** The store answered, and the answer is no. */
function isAnswer(error: unknown): boolean {
  return isFault(error, "store-exists", "store-object-missing");
}

/** What a source throws comes out of an upload as it is, and a request that was given up says nothing about the store. */
function isStoreFault(error: unknown): boolean {
  return isFault(error) && error.code.startsWith("store-");
}
