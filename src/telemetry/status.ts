import type { Emit, LifeboatEvent, ObservedMember } from "../events.ts";
import { formatTime } from "../format.ts";
import { redact } from "./redact.ts";

/** What is known of the cluster, the schedules and the store, as the events so far say. */
export interface Status {
  readonly cluster: string;
  readonly version: string;
  readonly schedules: readonly ScheduleStatus[];
  /** undefined: not looked yet, or nobody answered. */
  readonly quorum: boolean | undefined;
  readonly members: readonly ObservedMember[];
  /** Members that hold other data than the majority, by the newest comparison of each. */
  readonly diverged: readonly string[];
  readonly store: { readonly up: boolean; readonly backups: number | undefined; readonly message: string } | undefined;
  /** In the order of the configuration. */
  readonly copies: readonly CopyStatus[];
  /** Disks of this machine, in the order in which they were seen first. */
  readonly disks: readonly DiskStatus[];
  /** The runs that are going on, oldest first. */
  readonly running: readonly { readonly run: string; readonly schedule: string | undefined }[];
  /** What keeps backups from being taken, in words; undefined: nothing. */
  readonly held: string | undefined;
  /** Why the configuration of the last reload is not in force; undefined: it is. */
  readonly refused: string | undefined;
  /** What went wrong lately, newest first. */
  readonly troubles: readonly Trouble[];
}

export interface ScheduleStatus {
  readonly name: string;
  readonly lastSuccessMs: number | undefined;
  readonly lastBackup: string | undefined;
  /** When the newest proven backup was committed; undefined: none is known. */
  readonly lastProvenMs: number | undefined;
  /** Why the newest backup is only sealed; undefined: it is proven, or none is known. */
  readonly unproven: string | undefined;
  readonly storedBytes: number | undefined;
  readonly nextRunMs: number | undefined;
  readonly intervalMs: number | undefined;
  /** Of the newest run of this process; undefined: none ended yet. */
  readonly lastFailure: string | undefined;
}

export interface CopyStatus {
  readonly name: string;
  /** undefined: not looked yet. */
  readonly backups: number | undefined;
  readonly missing: number | undefined;
  /** When the newest backup that it has was committed to the first store; undefined: none is known. */
  readonly newestMs: number | undefined;
  /** Of the last round; undefined: it went well, or none ended yet. */
  readonly lastFailure: string | undefined;
}

export interface DiskStatus {
  /** `spool`, or a member's. */
  readonly role: string;
  readonly member: string | undefined;
  readonly freeBytes: number;
  readonly sizeBytes: number;
  /** When it will be full if it goes on as before; undefined: that is not known. */
  readonly fullMs: number | undefined;
}

export interface Trouble {
  readonly atMs: number;
  readonly about: string;
  readonly message: string;
}

const mostTroubles = 10;
const mostRuns = 32;
const mostDiverged = 64;
const mostDisks = 64;

export interface StatusOptions {
  readonly cluster: string;
  readonly version: string;
  readonly schedules: readonly string[];
  /** Names of the configured copies. */
  readonly copies: readonly string[];
  readonly now: () => number;
}

/** Remembers what the status page shows; bounded, whatever is told. */
export function openStatus(options: StatusOptions): { readonly listen: Emit; readonly read: () => Status } {
  let status: Status = {
    cluster: options.cluster,
    version: options.version,
    schedules: options.schedules.map((name) => ({ ...unknownSchedule, name })),
    quorum: undefined,
    members: [],
    diverged: [],
    store: undefined,
    copies: options.copies.map((name) => ({ ...unknownCopy, name })),
    disks: [],
    running: [],
    held: undefined,
    refused: undefined,
    troubles: [],
  };

  function onSchedule(name: string | undefined, change: Partial<ScheduleStatus>): void {
    const schedules = status.schedules.map((schedule) =>
      schedule.name === name ? { ...schedule, ...change } : schedule,
    );
    status = { ...status, schedules };
  }
  function onCopy(name: string, change: (copy: CopyStatus) => Partial<CopyStatus>): void {
    const copies = status.copies.map((copy) => (copy.name === name ? { ...copy, ...change(copy) } : copy));
    status = { ...status, copies };
  }
  function onTrouble(about: string, message: string): void {
    const trouble = { atMs: options.now(), about, message: redact(message) };
    // What repeats itself is shown once, with its newest time.
    const others = status.troubles.filter((other) => other.about !== about || other.message !== trouble.message);
    status = { ...status, troubles: [trouble, ...others].slice(0, mostTroubles) };
  }
  function onEnd(run: string): void {
    status = { ...status, running: status.running.filter((other) => other.run !== run) };
  }

  const listen: Emit = (event) => {
    switch (event.name) {
      case "config.accepted":
        status = { ...status, refused: undefined };
        break;
      case "config.applied":
        status = {
          ...status,
          schedules: event.schedules.map(
            (name) => status.schedules.find((known) => known.name === name) ?? { ...unknownSchedule, name },
          ),
          copies: event.copies.map(
            (name) => status.copies.find((known) => known.name === name) ?? { ...unknownCopy, name },
          ),
        };
        break;
      case "lock.observed":
        status = { ...status, held: holdOf(event) };
        break;
      case "ping.failed":
        onTrouble(`ping ${event.target}`, `${event.host}: ${event.message}`);
        break;
      case "schedule.held":
        onTrouble(`schedule ${event.schedule}`, `no backup now: ${event.message}`);
        break;
      case "config.refused":
        status = { ...status, refused: redact(event.message) };
        onTrouble("configuration", event.message);
        break;
      case "schedule.read":
        onSchedule(event.schedule, { lastSuccessMs: event.lastSuccessMs, lastProvenMs: event.lastProvenMs });
        break;
      case "schedule.opened":
        onSchedule(event.schedule, { intervalMs: event.intervalMs });
        break;
      case "schedule.planned":
        onSchedule(event.schedule, { nextRunMs: event.nextRunMs, intervalMs: event.intervalMs });
        break;
      case "schedule.missed":
        onTrouble(`schedule ${event.schedule}`, `${event.slots} slots passed while nobody could run`);
        break;
      case "backup.started":
        status = {
          ...status,
          running: [...status.running, { run: event.run, schedule: event.schedule }].slice(-mostRuns),
        };
        break;
      case "source.failed":
        onTrouble(`member ${event.member}`, event.message);
        break;
      case "backup.committed":
        onEnd(event.run);
        onSchedule(event.schedule, {
          lastSuccessMs: event.committedMs,
          lastBackup: event.backup,
          storedBytes: event.storedBytes,
          lastFailure: undefined,
        });
        break;
      case "backup.superseded":
        onEnd(event.run);
        onSchedule(event.schedule, { lastFailure: undefined });
        break;
      case "backup.failed":
        onEnd(event.run);
        onSchedule(event.schedule, { lastFailure: redact(event.message) });
        onTrouble(event.schedule === undefined ? "backup" : `schedule ${event.schedule}`, event.message);
        break;
      case "member.diverged":
        status = {
          ...status,
          diverged: [...without(status.diverged, [event.member]), event.member].slice(-mostDiverged),
        };
        onTrouble(`member ${event.member}`, `holds other data than the majority: ${event.reason}`);
        break;
      case "backup.proven": {
        const { schedule, committedMs } = event;
        const known = status.schedules.find(({ name }) => name === schedule)?.lastProvenMs;
        // One that is proven late says nothing about the newest.
        if (known === undefined || committedMs >= known) {
          onSchedule(schedule, { lastProvenMs: committedMs, unproven: undefined });
        }
        status = { ...status, diverged: without(status.diverged, event.agreeing) };
        break;
      }
      case "backup.sealed":
        onSchedule(event.schedule, { unproven: redact(event.reason) });
        onTrouble(event.schedule === undefined ? "proof" : `schedule ${event.schedule}`, `not proven: ${event.reason}`);
        break;
      case "cluster.observed": {
        const listed = event.members.map(({ member }) => member);
        const diverged = status.diverged.filter((member) => listed.includes(member));
        status = { ...status, quorum: event.quorum, members: event.members, diverged };
        break;
      }
      case "cluster.unobserved": {
        const members = status.members.map(({ member }) => ({
          member,
          up: false as const,
          code: event.code,
          message: event.message,
        }));
        status = { ...status, quorum: undefined, members };
        onTrouble("cluster", event.message);
        break;
      }
      case "store.observed":
        status = { ...status, store: { up: event.up, backups: event.backups, message: event.message } };
        if (!event.up) onTrouble("store", event.message);
        break;
      case "store.probed":
        if (!event.up && status.store?.up !== false) onTrouble("store", event.message);
        // A look at the lock says nothing about how many backups there are.
        if (status.store !== undefined || !event.up)
          status = { ...status, store: { up: event.up, backups: status.store?.backups, message: event.message } };
        break;
      case "disk.observed": {
        const { role, member, freeBytes, sizeBytes, fullMs } = event;
        const disk = { role, member, freeBytes, sizeBytes, fullMs };
        const at = status.disks.findIndex((other) => other.role === role && other.member === member);
        const disks = at < 0 ? [...status.disks, disk].slice(-mostDisks) : status.disks.with(at, disk);
        status = { ...status, disks };
        break;
      }
      case "copy.compared":
        onCopy(event.store, () => ({
          backups: event.backups,
          missing: event.missing,
          newestMs: newest(event.schedules.map(({ lastSuccessMs }) => lastSuccessMs)),
        }));
        break;
      case "copy.stored":
        onCopy(event.store, ({ backups, missing, newestMs }) => ({
          backups: (backups ?? 0) + 1,
          missing: Math.max(0, (missing ?? 0) - 1),
          newestMs: newest([newestMs, event.committedMs]),
        }));
        break;
      case "copy.finished":
        onCopy(event.store, () => ({ missing: event.missing, lastFailure: undefined }));
        break;
      case "copy.failed":
        onCopy(event.store, () => ({ lastFailure: redact(event.message) }));
        onTrouble(`copy ${event.store}`, event.message);
        break;
      case "copy.expired":
        onCopy(event.store, ({ backups }) => ({ backups: Math.max(0, (backups ?? 0) - event.expired) }));
        break;
      case "warning":
        onTrouble(event.about, event.message);
        break;
      default: // not on the page
    }
  };
  return { listen, read: () => status };
}

function without(members: readonly string[], gone: readonly string[]): readonly string[] {
  return members.filter((member) => !gone.includes(member));
}

function newest(times: readonly (number | undefined)[]): number | undefined {
  const known = times.flatMap((timeMs) => timeMs ?? []);
  return known.length === 0 ? undefined : Math.max(...known);
}

const unknownCopy = { backups: undefined, missing: undefined, newestMs: undefined, lastFailure: undefined };

const unknownSchedule = {
  lastSuccessMs: undefined,
  lastBackup: undefined,
  lastProvenMs: undefined,
  unproven: undefined,
  storedBytes: undefined,
  nextRunMs: undefined,
  intervalMs: undefined,
  lastFailure: undefined,
};

function holdOf(event: Extract<LifeboatEvent, { readonly name: "lock.observed" }>): string | undefined {
  const says: string[] = [];
  if (event.paused) {
    const reason = event.reason === undefined || event.reason === "" ? "" : `: ${event.reason}`;
    says.push(
      `paused since ${formatTime(event.pausedSinceMs ?? Number.NaN)} by ${event.pausedBy ?? "unknown"}${reason}`,
    );
  }
  if (event.holder !== undefined) {
    const silent = event.holderAlive === false ? ", which seems to be dead" : "";
    says.push(`the lock is held by ${event.holder} (${event.holderBy ?? "unknown"})${silent}`);
  }
  if (event.damaged > 0)
    says.push(`unreadable entries of the lock: ${event.damaged}; look with: etcd-lifeboat lock show`);
  return says.length === 0 ? undefined : redact(says.join("; "));
}
