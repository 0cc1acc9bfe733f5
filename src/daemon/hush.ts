import type { Emit } from "../events.ts";

/** Whether a restore or an upgrade listens for clients of etcd, and must not hear this daemon. */
export interface Hush {
  /** Told what the operation lock says. */
  readonly hear: Emit;
  readonly hushed: () => boolean;
}

/**
 * Our own looks at the members read a key, and etcd counts that as a client's call: beside a restore they would be taken for an API server that nobody stopped,
 * and for a client that was answered from restored data. Until the lock was read for the first time it may be held: a daemon can be started at any moment.
 */
export function openHush(): Hush {
  let hushed = true;
  return {
    hear(event) {
      if (event.name === "lock.observed") hushed = event.holder === "restore" || event.holder === "upgrade";
    },
    hushed: () => hushed,
  };
}
