import type { Emit } from "../events.ts";
import { setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

/** Why a backup that is due does not begin. */
const heldWhys = ["paused", "locked", "lock-damaged"] as const;

/** Schedules, the store, lineages and warnings. */
export function openRepositoryMetrics({ define, cluster, schedules: configured }: MetricScope): Emit {
  let schedules = configured;
  let backups: number | undefined;
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
    "Backups in the repository when it was last read, with those that this process took and expired since; absent: the store did not say.",
    ["cluster"],
  );
  const oldest = define.gauge(
    "store_oldest_backup_timestamp_seconds",
    "The time in the name of the oldest backup that there is or that retention keeps: how far back one can go; absent: there is none, or the store did not say.",
    ["cluster"],
  );
  const held = define.counter(
    "backups_held_total",
    "How often a due backup was looked at and could not begin, by why; twice a minute or so while that lasts.",
    [...perSchedule, "why"],
  );
  const uploadsSwept = define.counter(
    "store_uploads_swept_total",
    "Uploads that somebody had given up and that were removed from the store.",
    ["cluster"],
  );
  const storeLatency = define.histogram(
    "store_probe_duration_seconds",
    "How long the store took to say what the operation lock holds, once a minute; a few small requests. Those that failed are not in it.",
    ["cluster"],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  );
  const lineages = define.counter("lineages_created_total", "Histories of etcd that this process began to record.", [
    "cluster",
  ]);
  const warnings = define.counter("warnings_total", "Warnings; the log says which.", ["cluster"]);

  zeroSchedules();
  storeLatency.zero({ cluster });
  lineages.inc({ cluster }, 0);
  uploadsSwept.inc({ cluster }, 0);
  warnings.inc({ cluster }, 0);

  function zeroSchedules(): void {
    for (const schedule of schedules) {
      missed.inc({ cluster, schedule }, 0);
      for (const why of heldWhys) held.inc({ cluster, schedule, why }, 0);
    }
  }
  const labelsOf = (schedule: string) => ({ cluster, schedule: schedules.includes(schedule) ? schedule : "other" });

  return (event) => {
    switch (event.name) {
      case "config.applied":
        for (const schedule of schedules.filter((name) => !event.schedules.includes(name))) {
          for (const gauge of [interval, nextRun, kept]) gauge.remove({ cluster, schedule });
        }
        schedules = event.schedules;
        zeroSchedules();
        break;
      case "schedule.held":
        for (const why of heldWhys) if (why === event.code) held.inc({ ...labelsOf(event.schedule), why });
        break;
      case "schedule.read":
        kept.set(labelsOf(event.schedule), event.backups);
        break;
      case "schedule.opened":
        setOrRemove(
          interval,
          labelsOf(event.schedule),
          event.intervalMs === undefined ? undefined : event.intervalMs / 1000,
        );
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
        backups = event.backups;
        setOrRemove(storeBackups, { cluster }, backups);
        if (event.up) setOrRemove(oldest, { cluster }, seconds(event.oldestMs));
        break;
      // The repository is read again only when somebody else did something: what this process does is counted on.
      case "backup.committed":
      case "backup.expired":
        if (backups === undefined) break;
        backups = Math.max(0, backups + (event.name === "backup.committed" ? 1 : -1));
        storeBackups.set({ cluster }, backups);
        break;
      case "retention.surveyed":
        setOrRemove(oldest, { cluster }, seconds(event.oldestMs));
        break;
      case "uploads.swept":
        uploadsSwept.inc({ cluster }, event.uploads);
        break;
      case "store.probed":
        storeUp.set({ cluster }, event.up ? 1 : 0);
        if (event.up) storeLatency.observe({ cluster }, event.durationMs / 1000);
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

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
