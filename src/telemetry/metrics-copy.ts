import type { Emit } from "../events.ts";
import { setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

/** Copies of backups in further stores: how fresh each is, what it lacks, and what went wrong. */
export function openCopyMetrics(scope: MetricScope): Emit {
  const { define, cluster } = scope;
  let { schedules, copies } = scope;
  const perStore = ["cluster", "store"] as const;
  const success = define.gauge(
    "copy_last_success_timestamp_seconds",
    "When the newest backup of the schedule that the copy has was committed to the first store, also by other processes and before a restart; absent: it has none, or was not read yet.",
    ["cluster", "schedule", "store"],
  );
  const status = define.gauge(
    "copy_last_status",
    "1 when the last round of copying ended with nothing wrong, 0 when not; absent: none yet.",
    perStore,
  );
  const missing = define.gauge(
    "copy_missing_backups",
    "Backups of the first store that the copy lacks, as of the last look; absent: the copy could not be looked at since the start.",
    perStore,
  );
  const held = define.gauge("copy_backups", "Backups in the copy at the last look.", perStore);
  const stored = define.counter("copy_stored_total", "Backups that this process copied.", perStore);
  const bytes = define.counter("copy_stored_bytes_total", "Bytes of the backups that this process copied.", perStore);
  const failures = define.counter(
    "copy_failures_total",
    "Copies of a backup, and rounds of copying, that failed; the log says why.",
    perStore,
  );
  const expired = define.counter("copy_expired_total", "Backups that this process expired from the copy.", perStore);
  const gauges = [status, missing, held];
  const counters = [stored, bytes, failures, expired];
  const newestMs = new Map<string, number>();
  zeroCounters();

  function zeroCounters(): void {
    for (const store of copies) for (const counter of counters) counter.inc({ cluster, store }, 0);
  }
  function labelOf(schedule: string): string {
    return schedules.includes(schedule) ? schedule : "other";
  }
  function storeOf(name: string): string {
    return copies.includes(name) ? name : "other";
  }
  /** Older ones are copied after the newest. */
  function showCopied(store: string, schedule: string, committedMs: number): void {
    const key = JSON.stringify([store, schedule]);
    const ms = Math.max(committedMs, newestMs.get(key) ?? -Infinity);
    newestMs.set(key, ms);
    success.set({ cluster, store, schedule }, ms / 1000);
  }
  function forget(store: string, schedule: string): void {
    newestMs.delete(JSON.stringify([store, schedule]));
    success.remove({ cluster, store, schedule });
  }

  return (event) => {
    switch (event.name) {
      case "config.applied": {
        const gone = copies.filter((name) => !event.copies.includes(name));
        for (const store of gone) for (const gauge of gauges) gauge.remove({ cluster, store });
        for (const store of gone) for (const schedule of [...schedules, "other", ""]) forget(store, schedule);
        for (const schedule of schedules.filter((name) => !event.schedules.includes(name)))
          for (const store of copies) forget(store, schedule);
        ({ schedules, copies } = event);
        zeroCounters();
        break;
      }
      case "copy.compared": {
        const labels = { cluster, store: storeOf(event.store) };
        held.set(labels, event.backups);
        missing.set(labels, event.missing);
        for (const { schedule, lastSuccessMs } of event.schedules) {
          // What the store says counts: a copy may have lost what it had.
          newestMs.delete(JSON.stringify([storeOf(event.store), labelOf(schedule)]));
          if (lastSuccessMs !== undefined) showCopied(storeOf(event.store), labelOf(schedule), lastSuccessMs);
          else setOrRemove(success, { ...labels, schedule: labelOf(schedule) }, undefined);
        }
        break;
      }
      case "copy.stored": {
        const labels = { cluster, store: storeOf(event.store) };
        stored.inc(labels);
        bytes.inc(labels, event.storedBytes);
        held.inc(labels);
        missing.dec(labels);
        showCopied(
          storeOf(event.store),
          event.schedule === undefined ? "" : labelOf(event.schedule),
          event.committedMs,
        );
        break;
      }
      case "copy.finished":
        status.set({ cluster, store: storeOf(event.store) }, 1);
        missing.set({ cluster, store: storeOf(event.store) }, event.missing);
        break;
      case "copy.failed":
        failures.inc({ cluster, store: storeOf(event.store) });
        status.set({ cluster, store: storeOf(event.store) }, 0);
        break;
      case "copy.expired":
        expired.inc({ cluster, store: storeOf(event.store) }, event.expired);
        held.dec({ cluster, store: storeOf(event.store) }, event.expired);
        break;
      default: // told elsewhere
    }
  };
}
