import { paceSenses, phases, takenOverWhys } from "../events.ts";
import type { BackupEvent, Emit, Phase, Trigger } from "../events.ts";
import { setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

const triggers = ["schedule", "demand", "import"] as const satisfies readonly Trigger[];
const results = ["success", "failure", "superseded"] as const;
type Result = (typeof results)[number];

/** Peers' largest bucket is 131 s, too low for some gigabytes to a far S3. */
const durationBuckets = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
const phaseBuckets = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 300, 1800,
];

/** Runs that are followed at once; one that ends without an event of its own must not be remembered for ever. */
const mostRuns = 32;

interface Run {
  readonly startedMs: number;
  /** Bytes of the phases that are counted, as far as they are counted. */
  readonly counted: Map<Phase, number>;
}

/** Backups: how many, how long, how far, and when the last one succeeded. */
export function openBackupMetrics({ define, cluster, schedules: configured, clock }: MetricScope): Emit {
  let schedules = configured;
  const perSchedule = ["cluster", "schedule"] as const;
  const backups = define.counter("backups_total", "Backups that ended, by what started them and how they ended.", [
    ...perSchedule,
    "trigger",
    "result",
  ]);
  const failures = define.counter("backup_failures_total", "Backups that failed, by the phase in which they did.", [
    ...perSchedule,
    "phase",
  ]);
  const duration = define.histogram(
    "backup_duration_seconds",
    "Duration of a backup from its start to its commit or failure.",
    ["cluster", "result"],
    durationBuckets,
  );
  const phaseDuration = define.histogram(
    "backup_phase_duration_seconds",
    "Duration of a phase that was completed.",
    ["cluster", "phase"],
    phaseBuckets,
  );
  const lastAttempt = define.gauge(
    "backup_last_attempt_timestamp_seconds",
    "When this process last started a backup; absent: not since it started.",
    perSchedule,
  );
  const lastSuccess = define.gauge(
    "backup_last_success_timestamp_seconds",
    "When the newest backup in the repository was committed, also by other processes and before a restart; absent: never, or not read yet.",
    perSchedule,
  );
  const lastStatus = define.gauge(
    "backup_last_status",
    "1 when the last backup of this process succeeded, 0 when it failed; absent: none ended since it started.",
    perSchedule,
  );
  const lastSize = define.gauge("backup_last_size_bytes", "Size of the last committed backup of this process.", [
    ...perSchedule,
    "kind",
  ]);
  const lastRevision = define.gauge(
    "backup_last_revision",
    "etcd revision of the last committed backup of this process.",
    perSchedule,
  );
  const lastKeys = define.gauge(
    "backup_last_keys",
    "Live keys in the last committed backup of this process.",
    perSchedule,
  );
  const lastExtrasMissing = define.gauge(
    "backup_last_extras_missing",
    "Configured extra files that the last committed backup of this process lacks.",
    perSchedule,
  );
  const sourceFailures = define.counter(
    "backup_source_failures_total",
    "Members that failed as the source of a snapshot, so that another one was tried.",
    ["cluster"],
  );
  const repeated = define.counter(
    "backups_repeated_total",
    "Scheduled backups that were done here and had been committed by another daemon meanwhile: work for nothing.",
    ["cluster"],
  );
  const takenOver = define.counter(
    "claims_taken_over_total",
    "Slots that another daemon had claimed and that were worked on here all the same, by why.",
    ["cluster", "why"],
  );
  const received = define.counter("snapshot_received_bytes_total", "Snapshot bytes received from etcd.", ["cluster"]);
  const paceRate = define.gauge(
    "drain_pace_bytes_per_second",
    "How fast the running drain may go by what writers feel; absent: none runs, or it is not paced.",
    ["cluster"],
  );
  const paceSlowed = define.counter(
    "drain_slowed_total",
    "How often a drain was slowed since writers felt it, by what told so.",
    ["cluster", "sense"],
  );
  const uploaded = define.counter("store_uploaded_bytes_total", "Bytes of backups sent to the store.", ["cluster"]);
  const inProgress = define.gauge("operation_in_progress", "1 while an operation runs in this process.", [
    "cluster",
    "operation",
  ]);
  const startedAt = define.gauge(
    "operation_start_timestamp_seconds",
    "When the longest running operation started; absent: none runs.",
    ["cluster", "operation"],
  );

  zeroCounters();
  for (const result of results) duration.zero({ cluster, result });
  for (const phase of phases) phaseDuration.zero({ cluster, phase });
  for (const sense of paceSenses) paceSlowed.inc({ cluster, sense }, 0);
  for (const why of takenOverWhys) takenOver.inc({ cluster, why }, 0);
  for (const counter of [sourceFailures, repeated, received, uploaded]) counter.inc({ cluster }, 0);

  const runs = new Map<string, Run>();
  const operation = { cluster, operation: "backup" };
  const bytesOf: Partial<Record<Phase, typeof received>> = { drain: received, upload: uploaded };
  showRuns();

  function zeroCounters(): void {
    for (const trigger of triggers) {
      for (const schedule of trigger === "schedule" ? schedules : [""]) {
        for (const result of results) backups.inc({ cluster, schedule, trigger, result }, 0);
        for (const phase of phases) failures.inc({ cluster, schedule, phase }, 0);
      }
    }
  }
  /** What is said of a schedule that is gone would be overdue for ever; what was counted stays counted. */
  function reschedule(names: readonly string[]): void {
    for (const schedule of schedules.filter((name) => !names.includes(name))) {
      const gone = { cluster, schedule };
      for (const gauge of [lastAttempt, lastSuccess, lastStatus, lastRevision, lastKeys, lastExtrasMissing]) {
        gauge.remove(gone);
      }
      for (const kind of ["plain", "stored"]) lastSize.remove({ ...gone, kind });
    }
    schedules = names;
    zeroCounters();
  }
  /** Only configured names become labels; a backup without a schedule has the empty label, which no schedule can have. */
  function labelsOf(schedule: string | undefined): { cluster: string; schedule: string } {
    if (schedule === undefined) return { cluster, schedule: "" };
    return { cluster, schedule: schedules.includes(schedule) ? schedule : "other" };
  }
  function showRuns(): void {
    const [oldest] = runs.values();
    inProgress.set(operation, oldest === undefined ? 0 : 1);
    setOrRemove(startedAt, operation, oldest === undefined ? undefined : oldest.startedMs / 1000);
  }
  function start(run: string): void {
    if (runs.size >= mostRuns) for (const oldest of [...runs.keys()].slice(0, 1)) runs.delete(oldest);
    runs.set(run, { startedMs: clock.now(), counted: new Map() });
    showRuns();
  }
  function end(run: string, schedule: string | undefined, trigger: Trigger, result: Result): void {
    runs.delete(run);
    paceRate.remove({ cluster });
    showRuns();
    backups.inc({ ...labelsOf(schedule), trigger, result });
    // An imported file says nothing about how fresh the backups of this cluster are.
    if (trigger !== "import") lastStatus.set(labelsOf(schedule), result === "failure" ? 0 : 1);
  }
  /** Progress says how much so far; less than before means that the phase began anew (another source, a retry). */
  function count(run: string, phase: Phase, doneBytes: number): void {
    const counter = bytesOf[phase];
    const counted = runs.get(run)?.counted;
    if (counter === undefined || counted === undefined) return;
    const before = counted.get(phase) ?? 0;
    counter.inc({ cluster }, doneBytes >= before ? doneBytes - before : doneBytes);
    counted.set(phase, doneBytes);
  }
  function committed(event: Extract<BackupEvent, { name: "backup.committed" }>): void {
    end(event.run, event.schedule, event.trigger, "success");
    duration.observe({ cluster, result: "success" }, event.durationMs / 1000);
    if (event.trigger === "import") return;
    const labels = labelsOf(event.schedule);
    lastSuccess.set(labels, event.committedMs / 1000);
    lastSize.set({ ...labels, kind: "plain" }, event.plainBytes);
    lastSize.set({ ...labels, kind: "stored" }, event.storedBytes);
    lastRevision.set(labels, Number(event.revision));
    lastKeys.set(labels, event.keys);
    lastExtrasMissing.set(labels, event.extrasMissing);
  }

  return (event) => {
    switch (event.name) {
      case "config.applied":
        reschedule(event.schedules);
        break;
      case "schedule.read":
        setOrRemove(lastSuccess, labelsOf(event.schedule), seconds(event.lastSuccessMs));
        break;
      case "backup.started":
        start(event.run);
        if (event.trigger !== "import") lastAttempt.set(labelsOf(event.schedule), clock.now() / 1000);
        break;
      case "source.failed":
        sourceFailures.inc({ cluster });
        break;
      case "backup.progress":
        count(event.run, event.phase, event.doneBytes);
        break;
      case "drain.paced":
        paceRate.set({ cluster }, event.rate);
        if (event.slowed)
          for (const sense of paceSenses) if (sense === event.reason) paceSlowed.inc({ cluster, sense });
        break;
      case "backup.phase":
        if (event.phase === "drain") paceRate.remove({ cluster });
        phaseDuration.observe({ cluster, phase: event.phase }, event.durationMs / 1000);
        if (event.bytes !== undefined) count(event.run, event.phase, event.bytes);
        break;
      case "backup.committed":
        committed(event);
        break;
      case "backup.superseded": {
        const startedMs = runs.get(event.run)?.startedMs;
        // Only slots can be superseded.
        end(event.run, event.schedule, "schedule", "superseded");
        if (event.repeated) repeated.inc({ cluster });
        if (startedMs !== undefined) {
          duration.observe({ cluster, result: "superseded" }, Math.max(0, clock.now() - startedMs) / 1000);
        }
        break;
      }
      case "claim.taken":
        takenOver.inc({ cluster, why: event.why });
        break;
      case "backup.failed":
        end(event.run, event.schedule, event.trigger, "failure");
        failures.inc({ ...labelsOf(event.schedule), phase: event.phase });
        duration.observe({ cluster, result: "failure" }, event.durationMs / 1000);
        break;
      default: // told elsewhere
    }
  };
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
