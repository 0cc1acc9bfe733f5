import type { Emit } from "../events.ts";
import { isFault } from "../faults.ts";

/** Calls the listener at each SIGHUP; disposed, it does not any more. */
export type OnReload = (listener: () => void) => Disposable;

export interface ReloadDependencies<T> {
  /** Reads the configuration again and opens what it means. Rejects with a Fault when it cannot be used, or not in place of what is in force. */
  readonly load: (current: T) => Promise<T>;
  /** Works by a configuration until `retire` is aborted and what runs is done, or until `stop` is aborted, which waits for nothing. */
  readonly work: (current: T, retire: AbortSignal, stop: AbortSignal) => Promise<void>;
  readonly close: (given: T) => Promise<void>;
  readonly describe: (given: T) => {
    readonly path: string;
    readonly schedules: readonly string[];
    readonly copies: readonly string[];
  };
  readonly onReload: OnReload;
  readonly emit: Emit;
}

/**
 * Works by one configuration after another until the signal is aborted, and closes each. A new one is opened as a whole before the old one is given
 * up, takes over between two backups, and one that cannot be used changes nothing.
 */
export async function workReloading<T>(deps: ReloadDependencies<T>, first: T, outer: AbortSignal): Promise<void> {
  const broken = new AbortController();
  const stop = AbortSignal.any([outer, broken.signal]);
  const state: State<T> = { current: first, next: undefined, retire: new AbortController() };
  let loading: Promise<void> = Promise.resolve();
  let asked = 0;
  const subscription = deps.onReload(() => {
    deps.emit({ name: "config.reloading" });
    asked += 1;
    const own = asked;
    loading = loading
      .then(async () => {
        // Somebody who asks again while the file is read means the file as it is then.
        if (own === asked && !stop.aborted) await loadNext(deps, state);
      })
      .catch((error: unknown) => broken.abort(error));
  });
  try {
    for (;;) {
      await deps.work(state.current, state.retire.signal, stop);
      if (broken.signal.aborted) throw broken.signal.reason;
      if (stop.aborted || state.next === undefined) return;
      await deps.close(state.current);
      state.current = state.next;
      state.next = undefined;
      state.retire = new AbortController();
      deps.emit({ name: "config.applied", ...deps.describe(state.current) });
    }
  } finally {
    subscription[Symbol.dispose]();
    await loading;
    await deps.close(state.current);
    if (state.next !== undefined) await deps.close(state.next);
  }
}

interface State<T> {
  current: T;
  /** Accepted, and waits for the backup that runs. */
  next: T | undefined;
  retire: AbortController;
}

async function loadNext<T>(deps: ReloadDependencies<T>, state: State<T>): Promise<void> {
  let next: T;
  try {
    next = await deps.load(state.current);
  } catch (error) {
    if (!isFault(error)) throw error;
    deps.emit({ name: "config.refused", code: error.code, message: error.message });
    return;
  }
  // One that waits and was never in force gives way.
  if (state.next !== undefined) await deps.close(state.next);
  state.next = next;
  deps.emit({ name: "config.accepted", path: deps.describe(next).path });
  state.retire.abort();
}
