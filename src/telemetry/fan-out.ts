import type { Emit } from "../events.ts";

/**
 * One Emit for many listeners, told in their order. A listener that throws is a bug of ours: the others still hear the event,
 * the feature that emitted it goes on, and the error is thrown again outside of it, where it ends the process loudly.
 */
export function fanOut(listeners: readonly Emit[]): Emit {
  return (event) => {
    for (const listener of listeners) {
      try {
        listener(event);
      } catch (error) {
        process.nextTick(() => {
          throw error;
        });
      }
    }
  };
}
