import type { Emit } from "../events.ts";
import { setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

/** Schedules, the store, the spool's disk, lineages and warnings. */
export function openRepositoryMetrics({ define, cluster, schedules: configured }: MetricScope): Emit {
  let schedules = configured;
  const perSchedule = ["cluster", "schedule"] as const;
  const interval = define.gauge(
    "backup_schedule_interval_seconds",
    "The longest distance between two neighbouring slots of the schedule.",
    perSchedule,
  );
  const nextRun = define.gauge(
    "backup_next_run_timestamp_seconds",
    "When the schedule's next backup starts.",
    perSchedule,
  );
  const missed = define.counter(
    "backup_missed_slots_total",
    "Slots that passed while nobody could run; one backup serves all of them.",
    perSchedule,
  );
  const kept = define.gauge(
    "schedule_backups",
    "Backups of the schedule in the repository when it was last read.",
    perSchedule,
  );
  const storeUp = define.gauge("store_up", "1 when the store answered the last look; absent: not looked yet.", [
    "cluster",
  ]);
  const storeBackups = define.gauge(
    "store_backups",
    "Backups in the repository at the last look; absent: the store did not say.",
    ["cluster"],
  );
  const diskLabels = ["cluster", "role"] as const;
  const diskSize = define.gauge("disk_size_bytes", "Size of the file system of that role.", diskLabels);
  const diskFree = define.gauge("disk_free_bytes", "Room on it that this process may use.", diskLabels);
  const diskInodes = define.gauge(
    "disk_inodes_free",
    "Free inodes on it; some file systems say 0 or nothing.",
    diskLabels,
  );
  const lineages = define.counter("lineages_created_total", "Histories of etcd that this process began to record.", [
    "cluster",
  ]);
  const warnings = define.counter("warnings_total", "Warnings; the log says which.", ["cluster"]);

  for (const schedule of schedules) missed.inc({ cluster, schedule }, 0);
  lineages.inc({ cluster }, 0);
  warnings.inc({ cluster }, 0);

  const labelsOf = (schedule: string) => ({ cluster, schedule: schedules.includes(schedule) ? schedule : "other" });
  const spool = { cluster, role: "spool" };

  return (event) => {
    switch (event.name) {
      case "config.applied":
        for (const schedule of schedules.filter((name) => !event.schedules.includes(name))) {
          for (const gauge of [interval, nextRun, kept]) gauge.remove({ cluster, schedule });
        }
        schedules = event.schedules;
        for (const schedule of schedules) missed.inc({ cluster, schedule }, 0);
        break;
      case "schedule.read":
        kept.set(labelsOf(event.schedule), event.backups);
        break;
      case "schedule.planned":
        interval.set(labelsOf(event.schedule), event.intervalMs / 1000);
        nextRun.set(labelsOf(event.schedule), event.nextRunMs / 1000);
        break;
      case "schedule.missed":
        missed.inc(labelsOf(event.schedule), event.slots);
        break;
      case "store.observed":
        storeUp.set({ cluster }, event.up ? 1 : 0);
        setOrRemove(storeBackups, { cluster }, event.backups);
        break;
      case "spool.observed":
        diskSize.set(spool, event.sizeBytes);
        diskFree.set(spool, event.freeBytes);
        diskInodes.set(spool, event.freeInodes);
        break;
      case "lineage.created":
        lineages.inc({ cluster });
        break;
      case "warning":
        warnings.inc({ cluster });
        break;
      default: // told elsewhere
    }
  };
}
