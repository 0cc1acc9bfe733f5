import type { Emit } from "../events.ts";
import type { MetricScope } from "./metrics-define.ts";

/** What retention keeps, and what it removed. */
export function openRetentionMetrics({ define, cluster, clock }: MetricScope): Emit {
  const byState = ["cluster", "state"] as const;
  const backups = define.gauge(
    "retention_backups",
    "Backups in the repository by what retention last decided; pinned ones are among the others. Absent: it did not run yet.",
    byState,
  );
  const bytes = define.gauge(
    "retention_bytes",
    "Stored bytes by what retention last decided; orphaned: data that no backup names, of expired ones and of runs that died.",
    byState,
  );
  const expired = define.counter("retention_expired_total", "Backups that this process expired.", ["cluster"]);
  const freed = define.counter("retention_freed_bytes_total", "Bytes of data that this process removed.", ["cluster"]);
  const failures = define.counter("retention_failures_total", "Runs of retention that failed; the log says why.", [
    "cluster",
  ]);
  const status = define.gauge(
    "retention_last_status",
    "1 when the last run of retention succeeded, 0 when it failed; absent: none yet.",
    ["cluster"],
  );
  const success = define.gauge(
    "retention_last_success_timestamp_seconds",
    "When retention last ran to its end; absent: not since this process started.",
    ["cluster"],
  );
  const locked = define.gauge(
    "retention_locked_objects",
    "Objects that the last run could not remove, since the store keeps them under a lock.",
    ["cluster"],
  );
  for (const counter of [expired, freed, failures]) counter.inc({ cluster }, 0);

  return (event) => {
    switch (event.name) {
      case "retention.surveyed": {
        const { kept, going, pinned, foreign, refused, storedBytes, expiringBytes, orphanBytes } = event;
        for (const [state, value] of Object.entries({ kept, going, pinned, foreign, refused }))
          backups.set({ cluster, state }, value);
        for (const [state, value] of Object.entries({ kept: storedBytes, going: expiringBytes, orphaned: orphanBytes }))
          bytes.set({ cluster, state }, value);
        break;
      }
      case "backup.expired":
        expired.inc({ cluster });
        break;
      case "retention.applied":
        freed.inc({ cluster }, event.freedBytes);
        locked.set({ cluster }, event.locked);
        status.set({ cluster }, 1);
        success.set({ cluster }, clock.now() / 1000);
        break;
      case "retention.failed":
        failures.inc({ cluster });
        status.set({ cluster }, 0);
        break;
      default: // told elsewhere
    }
  };
}
