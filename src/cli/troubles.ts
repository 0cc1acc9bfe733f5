import { judgeTolerance, type Tolerance } from "../cluster/tolerance.ts";
import type { ClusterFacts } from "../cluster/observe.ts";
import { formatBytes, formatDuration } from "../format.ts";
import { formatId } from "../repository/documents.ts";
import type { Judgement } from "../repository/gates.ts";
import type { CopyFacts, Overview, RepositoryFacts, ScheduleFacts } from "./overview.ts";

/** Something that is not as it must be, with what helps. `unknown`: it could not be looked at. */
export interface Trouble {
  readonly severity: "critical" | "warning" | "unknown";
  readonly about: string;
  readonly message: string;
  /** A command, or what to do where there is none. */
  readonly help: string;
}

/** From when on the age of a schedule's newest backup, and of its newest proven one, is trouble. Undefined: never. */
export interface AgeLimits {
  readonly warningMs: number | undefined;
  readonly criticalMs: number | undefined;
  readonly proofWarningMs: number | undefined;
  readonly proofCriticalMs: number | undefined;
}

/** The limits of the alerts in config/prometheus; a warning comes half an interval earlier. */
export function usualLimits(intervalMs: number | undefined): AgeLimits {
  if (intervalMs === undefined) return noLimits;
  return {
    warningMs: 1.5 * intervalMs + 600_000,
    criticalMs: 2 * intervalMs + 600_000,
    proofWarningMs: 4 * intervalMs + 3_600_000,
    proofCriticalMs: undefined,
  };
}

const noLimits = {
  warningMs: undefined,
  criticalMs: undefined,
  proofWarningMs: undefined,
  proofCriticalMs: undefined,
};

/** Beyond this share of its quota, a database needs somebody. */
const nearQuota = 0.8;

/** Everything that is wrong, worst first. Pure. `limitsOf` says from when on a schedule is late. */
export function findTroubles(overview: Overview, limitsOf: (schedule: ScheduleFacts) => AgeLimits): readonly Trouble[] {
  const { cluster, repository, lock, schedules, spool } = overview;
  const found: Trouble[] = [];
  if (cluster.fault !== undefined) {
    const { message, hint, code } = cluster.fault;
    const gone = code === "etcd-unreachable" || code === "etcd-timeout";
    found.push({
      severity: gone ? "critical" : "unknown",
      about: "etcd",
      message,
      help: hint ?? "etcd-lifeboat doctor",
    });
  } else found.push(...clusterTroubles(cluster.value));
  if (repository.fault !== undefined) {
    const { message, hint } = repository.fault;
    found.push({ severity: "unknown", about: "repository", message, help: hint ?? "etcd-lifeboat doctor" });
  } else {
    found.push(...repositoryTroubles(repository.value));
    for (const schedule of schedules) found.push(...scheduleTroubles(schedule, limitsOf(schedule), overview.nowMs));
    for (const copy of overview.copies) found.push(...copyTroubles(copy, schedules));
  }
  if (lock !== undefined) found.push(...lockTroubles(lock));
  if (spool !== undefined) found.push(...spoolTroubles(spool, cluster.value));
  const order = ["critical", "unknown", "warning"];
  return found.toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

/** The voters that are there and that answer. */
export function toleranceOf({ members }: ClusterFacts): Tolerance {
  return judgeTolerance(members.map(({ name, learner, seen }) => ({ name, learner, up: seen.up })));
}

function clusterTroubles(facts: ClusterFacts): readonly Trouble[] {
  const found: Trouble[] = [];
  const tolerance = toleranceOf(facts);
  if (!facts.quorum) {
    const message = `no quorum: ${tolerance.votersUp} of ${tolerance.voters} voters answer, ${tolerance.needed} are needed`;
    found.push({ severity: "critical", about: "etcd", message, help: "start the members that are down" });
  }
  for (const { name, id, started, seen, learner } of facts.members) {
    if (!seen.up) {
      const severity = learner ? "warning" : facts.quorum && tolerance.tolerates === 0 ? "critical" : "warning";
      const next = facts.quorum && tolerance.tolerates === 0 && !learner ? ", and no further failure is survived" : "";
      found.push({
        severity,
        about: `member ${name}`,
        message: started ? `does not answer: ${seen.fault.message}${next}` : `has never started${next}`,
        help: `start it; if it is lost: etcdctl member remove ${formatId(id)}, then member add`,
      });
      continue;
    }
    const { dbBytes, dbInUseBytes, quotaBytes } = seen.status;
    if (quotaBytes !== undefined && dbBytes > nearQuota * quotaBytes) {
      const fragmented = dbInUseBytes !== undefined && dbInUseBytes < dbBytes / 2;
      found.push({
        severity: "warning",
        about: `member ${name}`,
        message: `its database has ${formatBytes(dbBytes)} of a quota of ${formatBytes(quotaBytes)}`,
        help: fragmented
          ? `etcdctl defrag --endpoints=${seen.address.url}`
          : "find what grows and compact, or raise --quota-backend-bytes",
      });
    }
  }
  for (const { about, member, message } of facts.findings) {
    // The others are members that do not answer, told above.
    if (about !== "member-mismatch") continue;
    const help = `correct its --advertise-client-urls, or set cluster.members.${member}.url`;
    found.push({ severity: "warning", about: `member ${member}`, message, help });
  }
  for (const { kind, memberId } of facts.alarms ?? []) {
    const name = facts.members.find(({ id }) => id === memberId)?.name ?? "the cluster";
    const help =
      kind === "NOSPACE"
        ? "compact, defragment each member, then: etcdctl alarm disarm"
        : kind === "CORRUPT"
          ? "find the member whose data differs, and replace it: etcdctl member remove, then member add"
          : "etcdctl alarm list";
    found.push({ severity: "critical", about: `alarm ${kind}`, message: `raised for ${name}`, help });
  }
  return found;
}

function repositoryTroubles(repository: RepositoryFacts): readonly Trouble[] {
  const found: Trouble[] = [];
  const { foreign, newest, diverged } = repository;
  if (foreign !== undefined) {
    const message = `backups are refused, the cluster has another history: ${foreign}`;
    found.push({ severity: "critical", about: "repository", message, help: "etcd-lifeboat adopt" });
  }
  if (newest === undefined) {
    const message = "there is no backup of a live cluster";
    found.push({ severity: "critical", about: "repository", message, help: "etcd-lifeboat backup" });
  }
  for (const { member, backup } of diverged) {
    const message = `held other data than the majority (${backup})`;
    found.push({
      severity: "critical",
      about: `member ${member}`,
      message,
      help: "replace it: etcdctl member remove, then member add",
    });
  }
  return found;
}

function scheduleTroubles(schedule: ScheduleFacts, limits: AgeLimits, nowMs: number): readonly Trouble[] {
  const about = `schedule ${schedule.name}`;
  const { committedMs, provenMs, due } = schedule;
  if (committedMs === undefined) {
    // One that was only just written down has no slot behind it.
    if (!due) return [];
    return [{ severity: "critical", about, message: "no backup of it is known", help: backupHelp(schedule) }];
  }
  const found: Trouble[] = [];
  const late = severityOf(nowMs - committedMs, limits.warningMs, limits.criticalMs);
  if (late !== undefined) {
    const message = `no backup for ${formatDuration(nowMs - committedMs)}${every(schedule)}`;
    found.push({ severity: late, about, message, help: backupHelp(schedule) });
  }
  const help = "etcd-lifeboat verify latest --live";
  if (provenMs === undefined) {
    const asked = limits.proofWarningMs !== undefined || limits.proofCriticalMs !== undefined;
    if (asked) found.push({ severity: "warning", about, message: "no backup of it was ever proven", help });
    return found;
  }
  const unproven = severityOf(nowMs - provenMs, limits.proofWarningMs, limits.proofCriticalMs);
  if (unproven !== undefined) {
    const message = `no backup was proven for ${formatDuration(nowMs - provenMs)}`;
    found.push({ severity: unproven, about, message, help });
  }
  return found;
}

/** As LifeboatCopyBehind of the alerts has it. */
function copyTroubles({ name, compared }: CopyFacts, schedules: readonly ScheduleFacts[]): readonly Trouble[] {
  const about = `copy ${name}`;
  const help = `etcd-lifeboat copy --store ${name}`;
  if (compared.fault !== undefined) {
    const { message, hint } = compared.fault;
    return [{ severity: "warning", about, message, help: hint ?? "etcd-lifeboat doctor" }];
  }
  const found: Trouble[] = [];
  if (compared.value === undefined) return found;
  const { differing, committedMs } = compared.value;
  if (differing > 0) {
    const message = `${differing} backups stand there with other bytes`;
    const look = `compare: etcd-lifeboat list --store ${name}`;
    found.push({ severity: "warning", about, message, help: look });
  }
  for (const schedule of schedules) {
    if (schedule.committedMs === undefined) continue;
    const copiedMs = committedMs.get(schedule.name);
    const limitMs = schedule.intervalMs === undefined ? Infinity : 2 * schedule.intervalMs + 3_600_000;
    const behindMs = copiedMs === undefined ? undefined : schedule.committedMs - copiedMs;
    if (behindMs !== undefined && behindMs <= limitMs) continue;
    const message =
      behindMs === undefined
        ? `no backup of schedule ${schedule.name} is there`
        : `the newest backup of schedule ${schedule.name} there is ${formatDuration(behindMs)} older than in the first store`;
    found.push({ severity: "warning", about, message, help });
  }
  return found;
}

function every({ intervalMs }: ScheduleFacts): string {
  return intervalMs === undefined ? "" : `, one is due every ${formatDuration(intervalMs)}`;
}

function backupHelp({ name }: ScheduleFacts): string {
  return `etcd-lifeboat backup --schedule ${name} --if-due; is the daemon running: systemctl status etcd-lifeboat`;
}

function severityOf(
  ageMs: number,
  warningMs: number | undefined,
  criticalMs: number | undefined,
): "critical" | "warning" | undefined {
  if (criticalMs !== undefined && ageMs > criticalMs) return "critical";
  return warningMs !== undefined && ageMs > warningMs ? "warning" : undefined;
}

function lockTroubles({ holder, paused, damaged, unreadableUntilMs }: Judgement): readonly Trouble[] {
  const found: Trouble[] = [];
  if (unreadableUntilMs !== undefined) {
    const message = `the lock cannot be read: ${damaged[0]?.why ?? "damaged"}`;
    found.push({ severity: "critical", about: "lock", message, help: "etcd-lifeboat lock show" });
  }
  if (holder !== undefined && !holder.alive) {
    const message = `held by ${holder.operation}, which has been silent for ${formatDuration(holder.silentMs)}`;
    found.push({ severity: "warning", about: "lock", message, help: "etcd-lifeboat unlock" });
  }
  if (paused !== undefined) {
    const reason = paused.reason === "" ? "" : `: ${paused.reason}`;
    const message = `backups are paused by ${paused.by.user} on ${paused.by.host}${reason}`;
    found.push({ severity: "warning", about: "pause", message, help: "etcd-lifeboat resume" });
  }
  return found;
}

function spoolTroubles(
  { directory, freeBytes, sizeBytes }: NonNullable<Overview["spool"]>,
  facts: ClusterFacts | undefined,
): readonly Trouble[] {
  const largest = Math.max(0, ...(facts?.members ?? []).map(({ seen }) => (seen.up ? seen.status.dbBytes : 0)));
  // As the spool itself keeps room for others.
  const reserved = Math.min(1024 ** 3, Math.floor(sizeBytes / 20));
  if (freeBytes - reserved >= largest) return [];
  const message = `${directory} has ${formatBytes(freeBytes)} free (${formatBytes(reserved)} of it kept for others), and a snapshot needs ${formatBytes(largest)}`;
  return [{ severity: "critical", about: "spool", message, help: "free space there, or set spool.directory" }];
}
