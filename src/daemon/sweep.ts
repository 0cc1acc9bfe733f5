import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { isFault } from "../faults.ts";
import type { Spool } from "../snapshot/spool.ts";
import type { Store } from "../store/store.ts";

/** Interrupted uploads and temporary files of ours older than this are nobody's work any more. */
const staleUploadMs = 24 * 3_600_000;
/** A store that is down when an upload fails keeps its parts, and a daemon runs for months. */
const everyMs = 24 * 3_600_000;

/** Removes what dead runs left in the store, at once and then every day, until the signal is aborted; trouble is told, never thrown. */
export async function sweepForever(
  deps: { readonly store: Store; readonly clock: Clock; readonly emit: Emit },
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    // Ends when the signal is aborted: the sleep below rejects then.
    try {
      const uploads = await deps.store.sweep(staleUploadMs, signal);
      if (uploads > 0) deps.emit({ name: "uploads.swept", uploads });
    } catch (error) {
      if (!isFault(error)) throw error;
      const message = `stale uploads were not swept: ${error.message}`;
      if (!signal.aborted) deps.emit({ name: "warning", about: "store", message });
    }
    try {
      await deps.clock.sleep(everyMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
  }
}

/** Removes what dead runs left in the spool. What goes wrong is a warning here, and a failure of the backup that needs the spool. */
export async function sweepSpool(spool: Pick<Spool, "sweep">, emit: Emit): Promise<void> {
  try {
    const swept = await spool.sweep();
    if (swept.files > 0) emit({ name: "spool.swept", ...swept });
  } catch (error) {
    if (!isFault(error)) throw error;
    emit({ name: "warning", about: "spool", message: `what dead runs left was not removed: ${error.message}` });
  }
}
