import type { EventName, LifeboatEvent } from "../events.ts";
import { redact } from "./redact.ts";

export type Level = "error" | "warn" | "info" | "debug";

/** What a log line says, before it has a form: only allow-listed fields, bigint as strings, absent ones left out. */
export interface Told {
  readonly level: Level;
  readonly event: string;
  readonly fields: readonly ToldField[];
}

export interface ToldField {
  readonly key: string;
  readonly kind: Kind;
  readonly value: ToldValue;
}

export type ToldValue = string | number | boolean | readonly string[] | readonly (readonly ToldField[])[];

/** How a field is checked at run time, and how it looks to people. */
export type Kind = "text" | "number" | "bytes" | "time" | "duration" | "flag" | "wide" | "names" | "rows";

type Keys<T> = T extends unknown ? keyof T : never;
type ValueOf<T, K> = T extends unknown ? (K extends keyof T ? NonNullable<T[K]> : never) : never;
type KindOf<V> = [V] extends [string]
  ? "text"
  : [V] extends [number]
    ? "number" | "bytes" | "time" | "duration"
    : [V] extends [boolean]
      ? "flag"
      : [V] extends [bigint]
        ? "wide"
        : [V] extends [readonly string[]]
          ? "names"
          : [V] extends [readonly (infer Row)[]]
            ? Fields<Row>
            : never;
/** Every field of T, so that a new one does not compile until somebody decided how it is told. */
type Fields<T> = { readonly [K in Exclude<Keys<T>, "name">]: KindOf<ValueOf<T, K>> };
type AnyFields = { readonly [key: string]: Kind | AnyFields };

type EventOf<N extends EventName> = Extract<LifeboatEvent, { readonly name: N }>;
interface Rule<E> {
  /** "never": not a line of a log at any level. */
  readonly level: Level | "never" | ((event: E) => Level);
  readonly fields: Fields<E>;
  /** For what is told over and over: lines of one topic whose state did not change are debug. */
  readonly watched?: (event: E) => { readonly topic: string; readonly state: string };
}

const fault = { code: "text", message: "text" } as const;
const proof = {
  run: "text",
  schedule: "text",
  backup: "text",
  lineage: "text",
  revision: "wide",
  committedMs: "time",
  reason: "text",
} as const;
const step = { operation: "text", step: "text", title: "text", phase: "text", host: "text" } as const;
const run = { run: "text", trigger: "text", schedule: "text", slotMs: "time" } as const;

/** The one table of what is logged: level and fields of every event. */
const rules: { readonly [N in EventName]: Rule<EventOf<N>> } = {
  "daemon.started": { level: "info", fields: { version: "text", cluster: "text", store: "text" } },
  "daemon.ready": { level: "info", fields: { listen: "text" } },
  "listener.guarded": { level: "debug", fields: { certificateNotAfterMs: "time" } },
  "daemon.stopping": { level: "info", fields: { reason: "text" } },
  "daemon.stopped": { level: (e) => (e.exitStatus === 0 ? "info" : "error"), fields: { exitStatus: "number" } },

  "config.reloading": { level: "info", fields: {} },
  "config.accepted": { level: "info", fields: { path: "text" } },
  "config.applied": { level: "info", fields: { path: "text", schedules: "names", copies: "names" } },
  "config.refused": { level: "error", fields: fault },

  "schedule.read": {
    level: "info",
    fields: { schedule: "text", lastSuccessMs: "time", lastSlotMs: "time", lastProvenMs: "time", backups: "number" },
    watched: (e) => ({ topic: `schedule ${e.schedule}`, state: e.lastSuccessMs === undefined ? "never" : "some" }),
  },
  "schedule.opened": { level: "debug", fields: { schedule: "text", intervalMs: "duration" } },
  "schedule.planned": { level: "info", fields: { schedule: "text", nextRunMs: "time", intervalMs: "duration" } },
  "schedule.missed": { level: "warn", fields: { schedule: "text", slots: "number", newestSlotMs: "time" } },

  "ping.sent": { level: "debug", fields: { target: "text", schedule: "text" } },
  "ping.failed": { level: "warn", fields: { target: "text", schedule: "text", host: "text", message: "text" } },

  "lock.observed": {
    level: (e) => (e.paused || e.damaged > 0 || e.holder !== undefined ? "warn" : "info"),
    fields: {
      paused: "flag",
      pausedSinceMs: "time",
      pausedBy: "text",
      reason: "text",
      holder: "text",
      holderBy: "text",
      holderSinceMs: "time",
      holderAlive: "flag",
      damaged: "number",
    },
    watched: (e) => ({
      topic: "lock",
      state: JSON.stringify([e.paused, e.pausedSinceMs, e.holder, e.holderSinceMs, e.holderAlive, e.damaged]),
    }),
  },
  "schedule.held": {
    level: "warn",
    fields: { schedule: "text", slotMs: "time", ...fault },
    watched: (e) => ({ topic: `held ${e.schedule}`, state: `${e.code} ${e.slotMs}` }),
  },

  "backup.started": { level: "info", fields: run },
  "source.chosen": {
    level: "info",
    fields: { run: "text", member: "text", reason: "text", rejected: { member: "text", why: "text" } },
  },
  "source.failed": { level: "warn", fields: { run: "text", member: "text", ...fault } },
  "drain.paced": {
    level: "debug",
    fields: { run: "text", member: "text", rate: "bytes", takenRate: "bytes", reason: "text", slowed: "flag" },
  },
  "backup.progress": {
    level: "never",
    fields: { run: "text", phase: "text", doneBytes: "bytes", totalBytes: "bytes" },
  },
  "backup.phase": { level: "debug", fields: { run: "text", phase: "text", durationMs: "duration", bytes: "bytes" } },
  "backup.committed": {
    level: (e) => (e.extrasMissing > 0 || !e.quorum ? "warn" : "info"),
    fields: {
      ...run,
      backup: "text",
      lineage: "text",
      member: "text",
      quorum: "flag",
      revision: "wide",
      keys: "number",
      plainBytes: "bytes",
      storedBytes: "bytes",
      committedMs: "time",
      durationMs: "duration",
      extrasMissing: "number",
    },
  },
  "backup.superseded": {
    level: "info",
    fields: { run: "text", schedule: "text", slotMs: "time", backup: "text", repeated: "flag" },
  },
  "claim.waiting": { level: "debug", fields: { run: "text", schedule: "text", slotMs: "time", by: "text" } },
  "claim.taken": {
    level: (e) => (e.why === "given-up" ? "info" : "warn"),
    fields: { run: "text", schedule: "text", slotMs: "time", why: "text", by: "text" },
  },
  "backup.failed": {
    level: "error",
    fields: { ...run, phase: "text", ...fault, hint: "text", retryable: "flag", durationMs: "duration" },
  },

  "member.hashed": { level: "debug", fields: { run: "text", member: "text", leader: "flag", durationMs: "duration" } },
  "member.unhashed": { level: "info", fields: { run: "text", member: "text", ...fault } },
  "member.diverged": { level: "error", fields: { run: "text", member: "text", revision: "wide", reason: "text" } },
  "backup.proven": {
    level: (e) => (e.diverged.length > 0 ? "warn" : "info"),
    fields: { ...proof, agreeing: "names", diverged: "names", alone: "flag" },
  },
  "backup.sealed": {
    level: (e) => (e.why === "disagree" || e.why === "source-diverged" ? "error" : "warn"),
    fields: { ...proof, why: "text", passing: "flag" },
  },

  "cluster.observed": {
    level: (e) => (e.quorum && e.members.every((m) => m.up && m.alarms.length === 0) ? "info" : "warn"),
    fields: {
      members: {
        member: "text",
        up: "flag",
        leader: "flag",
        learner: "flag",
        version: "text",
        revision: "wide",
        dbBytes: "bytes",
        dbInUseBytes: "bytes",
        quotaBytes: "bytes",
        quotaFullMs: "time",
        alarms: "names",
        ...fault,
      },
      quorum: "flag",
    },
    watched: (e) => ({
      topic: "cluster",
      state: JSON.stringify([
        e.quorum,
        e.members.map((m) => (m.up ? [m.member, m.leader, m.learner, m.version, m.alarms] : [m.member, m.code])),
      ]),
    }),
  },
  "cluster.unobserved": { level: "warn", fields: fault, watched: (e) => ({ topic: "cluster", state: e.code }) },
  "member.probed": {
    level: "debug",
    fields: {
      member: "text",
      calls: { method: "text", durationMs: "duration" },
      certificateNotAfterMs: "time",
      raftTerm: "wide",
      raftIndex: "wide",
      raftAppliedIndex: "wide",
      residentBytes: "bytes",
      cpuMs: "duration",
      leaderChanges: "number",
      heartbeatFailures: "number",
      walFsyncP99Ms: "duration",
      backendCommitP99Ms: "duration",
      peers: { peer: "text", roundTripMs: "duration" },
    },
  },
  "certificates.observed": { level: "debug", fields: { clientNotAfterMs: "time", caNotAfterMs: "time" } },
  "disk.observed": {
    level: "debug",
    fields: {
      role: "text",
      member: "text",
      freeBytes: "bytes",
      sizeBytes: "bytes",
      freeInodes: "number",
      inodes: "number",
      fullMs: "time",
    },
  },
  "pressure.observed": { level: "debug", fields: { waitingMs: "duration", stalledMs: "duration" } },
  // Thousands in a run: metrics alone.
  "store.requested": {
    level: "never",
    fields: { store: "text", operation: "text", ok: "flag", durationMs: "duration" },
  },
  "store.probed": {
    level: (e) => (e.up ? "info" : "warn"),
    fields: { up: "flag", durationMs: "duration", message: "text" },
    watched: (e) => ({ topic: "store", state: e.up ? "up" : "down" }),
  },
  "store.observed": {
    level: (e) => (e.up ? "info" : "warn"),
    fields: { up: "flag", backups: "number", oldestMs: "time", message: "text" },
    watched: (e) => ({ topic: "store", state: e.up ? "up" : "down" }),
  },

  "repository.created": { level: "info", fields: { repository: "text", cluster: "text" } },
  "lineage.created": { level: "info", fields: { lineage: "text", reason: "text", clusterId: "text" } },
  "spool.swept": { level: "info", fields: { files: "number", bytes: "bytes" } },
  "uploads.swept": { level: "info", fields: { uploads: "number" } },

  "retention.surveyed": {
    level: "debug",
    fields: {
      kept: "number",
      storedBytes: "bytes",
      going: "number",
      expiringBytes: "bytes",
      pinned: "number",
      foreign: "number",
      refused: "number",
      orphanBytes: "bytes",
      oldestMs: "time",
    },
  },
  "backup.expired": {
    level: "info",
    fields: { backup: "text", lineage: "text", reasons: "names", storedBytes: "bytes" },
  },
  "retention.applied": {
    level: (e) => (e.expired + e.objects + e.orphans > 0 ? "info" : "debug"),
    fields: {
      expired: "number",
      objects: "number",
      freedBytes: "bytes",
      orphans: "number",
      locked: "number",
      lockedUntilMs: "time",
      left: "number",
    },
  },
  "retention.held": {
    level: "warn",
    fields: fault,
    watched: (e) => ({ topic: "retention", state: e.code }),
  },
  // Every hour the same: said once, and reminded of.
  "retention.failed": {
    level: "error",
    fields: { ...fault, hint: "text" },
    watched: (e) => ({ topic: "retention", state: e.code }),
  },

  "operation.started": {
    level: "info",
    fields: { operation: "text", kind: "text", mode: "text", steps: "number" },
  },
  "step.started": { level: "info", fields: { ...step, expectedMs: "duration" } },
  "step.done": {
    level: (e) => (e.performed ? "info" : "debug"),
    fields: { ...step, performed: "flag", durationMs: "duration" },
  },
  "step.failed": { level: "error", fields: { ...step, ...fault, hint: "text", durationMs: "duration" } },
  "step.undone": { level: "info", fields: { ...step, durationMs: "duration" } },
  "host.left": { level: "error", fields: { ...step, message: "text" } },
  "host.rebooted": { level: "warn", fields: { operation: "text", host: "text" } },
  "operation.ended": {
    level: (e) => (e.outcome === "stopped" ? "error" : e.outcome === "refused" || e.left.length > 0 ? "warn" : "info"),
    fields: {
      operation: "text",
      kind: "text",
      mode: "text",
      outcome: "text",
      performed: "number",
      left: "names",
      durationMs: "duration",
    },
  },
  "restore.hygiene": { level: "warn", fields: { operation: "text", objects: "number", findings: "names" } },
  "journal.behind": { level: "warn", fields: { operation: "text", mirror: "text", lines: "number", message: "text" } },
  "hook.ended": {
    level: (e) => (e.outcome === "passed" ? "info" : "warn"),
    fields: {
      operation: "text",
      hook: "text",
      outcome: "text",
      status: "number",
      timedOut: "flag",
      durationMs: "duration",
      output: "text",
    },
  },

  "copy.compared": {
    level: "debug",
    fields: {
      store: "text",
      backups: "number",
      missing: "number",
      schedules: { schedule: "text", lastSuccessMs: "time" },
    },
  },
  "copy.stored": {
    level: "info",
    fields: {
      store: "text",
      backup: "text",
      lineage: "text",
      schedule: "text",
      committedMs: "time",
      storedBytes: "bytes",
      durationMs: "duration",
    },
  },
  "copy.finished": {
    level: "info",
    fields: { store: "text", copied: "number", missing: "number" },
    watched: (e) => ({ topic: `copy ${e.store}`, state: "up to date" }),
  },
  // Tried every few minutes: said once, and reminded of.
  "copy.failed": {
    level: "error",
    fields: { store: "text", backup: "text", ...fault, hint: "text" },
    watched: (e) => ({ topic: `copy ${e.store}`, state: `${e.code} ${e.backup ?? ""}` }),
  },
  "copy.expired": {
    level: (e) => (e.expired + e.objects > 0 ? "info" : "debug"),
    fields: { store: "text", expired: "number", objects: "number", freedBytes: "bytes", locked: "number" },
  },

  warning: { level: "warn", fields: { about: "text", message: "text" } },
};

/** What does not change is told again after this long, so that trouble of a week is not one line at its start. */
const remindMs = 3_600_000;

/** Turns events into what a log says of them; undefined: nothing. It remembers what was told last of each watched topic. */
export function openTelling(): (event: LifeboatEvent, nowMs: number) => Told | undefined {
  const last = new Map<string, { readonly state: string; readonly toldMs: number }>();
  return (event, nowMs) => {
    // The table's type binds each rule to its event; one lookup by name loses that bond, and this gives it back.
    const rule = rules[event.name] as unknown as Rule<LifeboatEvent> & { readonly fields: AnyFields };
    if (rule.level === "never") return undefined;
    let level: Level = typeof rule.level === "function" ? rule.level(event) : rule.level;
    const watched = rule.watched?.(event);
    if (watched !== undefined) {
      const before = last.get(watched.topic);
      if (before?.state === watched.state && Math.abs(nowMs - before.toldMs) < remindMs) level = "debug";
      else last.set(watched.topic, { state: watched.state, toldMs: nowMs });
    }
    return { level, event: event.name, fields: allowed(event, rule.fields) };
  };
}

/** Lists are cut: a log line is for reading. */
const longestList = 64;

function allowed(source: unknown, fields: AnyFields): readonly ToldField[] {
  const values = new Map<string, unknown>(typeof source === "object" && source !== null ? Object.entries(source) : []);
  const told: ToldField[] = [];
  for (const [key, kind] of Object.entries(fields)) {
    const value = values.get(key);
    if (value !== undefined) told.push(field(key, kind, value));
  }
  return told;
}

/** A value that is not of its kind is named, never printed: whatever it is (an Error with its causes?), nobody allowed it. */
function field(key: string, kind: Kind | AnyFields, value: unknown): ToldField {
  if (typeof kind === "object") {
    if (!Array.isArray(value)) return unfit(key, value);
    return { key, kind: "rows", value: value.slice(0, longestList).map((row) => allowed(row, kind)) };
  }
  if (kind === "names") {
    if (!Array.isArray(value)) return unfit(key, value);
    const names = value.slice(0, longestList).map((name) => (typeof name === "string" ? redact(name) : "[unfit]"));
    return { key, kind, value: names };
  }
  if (kind === "text") return typeof value === "string" ? { key, kind, value: redact(value) } : unfit(key, value);
  if (kind === "flag") return typeof value === "boolean" ? { key, kind, value } : unfit(key, value);
  if (kind === "wide") return typeof value === "bigint" ? { key, kind, value: value.toString() } : unfit(key, value);
  return typeof value === "number" ? { key, kind, value } : unfit(key, value);
}

function unfit(key: string, value: unknown): ToldField {
  return { key, kind: "text", value: `[unfit: ${Array.isArray(value) ? "array" : typeof value}]` };
}
