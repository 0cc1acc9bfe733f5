import type { EventName, LifeboatEvent } from "../../src/events.ts";

const run = { run: "01RUN", trigger: "schedule", schedule: "hourly", slotMs: Date.UTC(2026, 2, 1, 6) } as const;

export const upMember = {
  member: "etcd1",
  up: true,
  leader: true,
  learner: false,
  version: "3.6.16",
  revision: 9_007_199_254_740_993n,
  dbBytes: 1_080_000_000,
  dbInUseBytes: 700_000_000,
  quotaBytes: 2_147_483_648,
  alarms: [],
} as const;

/** One event of every name, so that what is promised of all of them can be asked of all of them. */
export const samples: { readonly [N in EventName]: Extract<LifeboatEvent, { readonly name: N }> } = {
  "daemon.started": { name: "daemon.started", version: "0.1.0", cluster: "prod", store: "s3 etcd-backups/prod" },
  "daemon.ready": { name: "daemon.ready", listen: "http://127.0.0.1:9979" },
  "daemon.stopping": { name: "daemon.stopping", reason: "SIGTERM" },
  "daemon.stopped": { name: "daemon.stopped", exitStatus: 0 },
  "schedule.read": {
    name: "schedule.read",
    schedule: "hourly",
    lastSuccessMs: Date.UTC(2026, 2, 1, 5, 0, 9),
    lastSlotMs: Date.UTC(2026, 2, 1, 5),
    backups: 24,
  },
  "schedule.planned": {
    name: "schedule.planned",
    schedule: "hourly",
    nextRunMs: Date.UTC(2026, 2, 1, 6),
    intervalMs: 3_600_000,
  },
  "schedule.missed": { name: "schedule.missed", schedule: "hourly", slots: 3, newestSlotMs: Date.UTC(2026, 2, 1, 5) },
  "backup.started": { name: "backup.started", ...run },
  "source.chosen": {
    name: "source.chosen",
    run: "01RUN",
    member: "etcd2",
    reason: "a healthy follower",
    rejected: [{ member: "etcd3", why: "it does not answer" }],
  },
  "source.failed": {
    name: "source.failed",
    run: "01RUN",
    member: "etcd2",
    code: "snapshot-stalled",
    message: "etcd2 sent nothing for 30 s",
  },
  "backup.progress": { name: "backup.progress", run: "01RUN", phase: "drain", doneBytes: 1024, totalBytes: 4096 },
  "backup.phase": { name: "backup.phase", run: "01RUN", phase: "drain", durationMs: 2600, bytes: 1_080_000_000 },
  "backup.committed": {
    name: "backup.committed",
    ...run,
    backup: "20260301T060000Z.slot.hourly",
    lineage: "01LINEAGE",
    member: "etcd2",
    quorum: true,
    revision: 9_007_199_254_740_993n,
    keys: 75_000,
    plainBytes: 1_080_000_000,
    storedBytes: 412_000_000,
    committedMs: Date.UTC(2026, 2, 1, 6, 0, 7),
    durationMs: 5700,
    extrasMissing: 0,
  },
  "backup.superseded": {
    name: "backup.superseded",
    run: "01RUN",
    schedule: "hourly",
    slotMs: run.slotMs,
    backup: "20260301T060000Z.slot.hourly",
  },
  "backup.failed": {
    name: "backup.failed",
    ...run,
    phase: "upload",
    code: "store-unreachable",
    message: "no connection to s3.example.org",
    hint: "look at the store's address",
    retryable: true,
    durationMs: 31_000,
  },
  "cluster.observed": {
    name: "cluster.observed",
    members: [upMember, { member: "etcd3", up: false, code: "etcd-unreachable", message: "connection refused" }],
    quorum: true,
  },
  "cluster.unobserved": { name: "cluster.unobserved", code: "etcd-unreachable", message: "no member answered" },
  "spool.observed": { name: "spool.observed", freeBytes: 2e9, sizeBytes: 4e9, freeInodes: 1000 },
  "store.observed": { name: "store.observed", up: true, backups: 24, message: "ok" },
  "repository.created": { name: "repository.created", repository: "01REPOSITORY", cluster: "prod" },
  "lineage.created": { name: "lineage.created", lineage: "01LINEAGE", reason: "first backup", clusterId: "f00d" },
  "spool.swept": { name: "spool.swept", files: 1, bytes: 4096 },
  "uploads.swept": { name: "uploads.swept", uploads: 2 },
  warning: { name: "warning", about: "encryption", message: "backups are not encrypted" },
};

export const allSamples: readonly LifeboatEvent[] = Object.values(samples);
