import type { FaultCode } from "./faults.ts";

/**
 * Every fact worth telling, as one union. Features emit; logs, metrics, progress on a terminal and the status page listen.
 * Facts, not stories: numbers carry their unit in their name, 64-bit numbers are bigint, and nothing here is ever a secret.
 */
export type LifeboatEvent =
  | DaemonEvent
  | ConfigEvent
  | LockEvent
  | PingEvent
  | ScheduleEvent
  | BackupEvent
  | ProofEvent
  | ObservationEvent
  | RepositoryEvent
  | RetentionEvent
  | OperationEvent
  | CopyEvent
  | WarningEvent;

export type EventName = LifeboatEvent["name"];

/** Listeners must not throw and must not wait. */
export type Emit = (event: LifeboatEvent) => void;

/** By what a drain feels what writers feel: reads through the leader, and how long etcd's disk takes. */
export const paceSenses = ["probe", "wal-fsync", "backend-commit"] as const;
export type PaceSense = (typeof paceSenses)[number];
/** Why a drain has its pace; a sense: it was felt by that. */
export type PaceReason = PaceSense | "start" | "unfelt" | "unused";

/** What starts a backup. */
export type Trigger = "schedule" | "demand" | "import";

/** The phases of a backup, in their order; also the stages at which it can fail. `prove` runs beside those between scan and commit. */
export const phases = ["choose", "drain", "scan", "extras", "upload", "readback", "prove", "commit"] as const;
export type Phase = (typeof phases)[number];

/** What stores are asked for. */
export const storeOperations = ["create", "upload", "read", "download", "head", "list", "remove"] as const;
export type StoreOperation = (typeof storeOperations)[number];

export type DaemonEvent =
  | { readonly name: "daemon.started"; readonly version: string; readonly cluster: string; readonly store: string }
  | { readonly name: "daemon.ready"; readonly listen: string | undefined }
  /** The pages are served with this certificate from now on: at the start, and after a reload. Undefined: without TLS. */
  | { readonly name: "listener.guarded"; readonly certificateNotAfterMs: number | undefined }
  | { readonly name: "daemon.stopping"; readonly reason: string }
  | { readonly name: "daemon.stopped"; readonly exitStatus: number };

export type ConfigEvent =
  /** SIGHUP came: the configuration is read again. */
  | { readonly name: "config.reloading" }
  /** It is valid; it takes effect after the backup that runs, at once where none does. */
  | { readonly name: "config.accepted"; readonly path: string }
  /** The new configuration is in force, with these schedules and copies. */
  | {
      readonly name: "config.applied";
      readonly path: string;
      readonly schedules: readonly string[];
      readonly copies: readonly string[];
    }
  /** It cannot be used, or not without a restart: the old one stays in force as a whole. */
  | { readonly name: "config.refused"; readonly code: FaultCode; readonly message: string };

export type ScheduleEvent =
  /** What the repository says of a schedule: at start, and whenever it is read again. Freshness survives restarts through this. */
  | {
      readonly name: "schedule.read";
      readonly schedule: string;
      /** When the newest committed backup of the schedule was committed; undefined: never. */
      readonly lastSuccessMs: number | undefined;
      readonly lastSlotMs: number | undefined;
      /** When the newest backup of the schedule that is proven was committed; undefined: none is. */
      readonly lastProvenMs: number | undefined;
      readonly backups: number;
    }
  /** A schedule is served from now on, whatever the store and etcd do. */
  | {
      readonly name: "schedule.opened";
      readonly schedule: string;
      /** The longest distance between two neighbouring slots; undefined: it has not two. */
      readonly intervalMs: number | undefined;
    }
  | {
      readonly name: "schedule.planned";
      readonly schedule: string;
      readonly nextRunMs: number;
      /** The longest distance between two neighbouring slots, as the cron expression gives it. */
      readonly intervalMs: number;
    }
  /** Slots that passed while nobody ran (down, suspended, overlapped) and are served by one run. */
  | {
      readonly name: "schedule.missed";
      readonly schedule: string;
      readonly slots: number;
      readonly newestSlotMs: number;
    };

/** What a dead man's switch is told. */
export const pingTargets = ["start", "success", "failure"] as const;
export type PingTarget = (typeof pingTargets)[number];

export type PingEvent =
  | { readonly name: "ping.sent"; readonly target: PingTarget; readonly schedule: string }
  /** It was tried a few times; the backup itself knows nothing of it. */
  | {
      readonly name: "ping.failed";
      readonly target: PingTarget;
      readonly schedule: string;
      readonly host: string;
      readonly message: string;
    };

export type LockEvent =
  /** What the operation lock says; told at each look. */
  | {
      readonly name: "lock.observed";
      readonly paused: boolean;
      readonly pausedSinceMs: number | undefined;
      readonly pausedBy: string | undefined;
      readonly reason: string | undefined;
      /** The operation that holds it; undefined: nobody does. */
      readonly holder: string | undefined;
      readonly holderBy: string | undefined;
      readonly holderSinceMs: number | undefined;
      readonly holderAlive: boolean | undefined;
      /** Entries at the end of its log that cannot be read. */
      readonly damaged: number;
    }
  /** A backup is due and may not begin now; it is looked at again soon, and a later slot takes its place. */
  | {
      readonly name: "schedule.held";
      readonly schedule: string;
      readonly slotMs: number;
      readonly code: FaultCode;
      readonly message: string;
    };

/** Why a slot that another daemon had claimed is worked on all the same. */
export const takenOverWhys = ["given-up", "stale", "outlasted", "unreadable"] as const;
export type TakenOverWhy = (typeof takenOverWhys)[number];

export type BackupEvent =
  | {
      readonly name: "backup.started";
      readonly run: string;
      readonly trigger: Trigger;
      readonly schedule: string | undefined;
      readonly slotMs: number | undefined;
    }
  | {
      readonly name: "source.chosen";
      readonly run: string;
      readonly member: string;
      readonly reason: string;
      readonly rejected: readonly { readonly member: string; readonly why: string }[];
    }
  /** A source failed and the next one is tried. */
  | {
      readonly name: "source.failed";
      readonly run: string;
      readonly member: string;
      readonly code: FaultCode;
      readonly message: string;
    }
  /** How fast a drain may go by what writers feel: whenever it is slowed, else once a second. Rates in bytes per second. */
  | {
      readonly name: "drain.paced";
      readonly run: string;
      readonly member: string;
      /** What may be taken from now on. */
      readonly rate: number;
      /** What was taken since the last decision. */
      readonly takenRate: number;
      readonly reason: PaceReason;
      readonly slowed: boolean;
    }
  /** Bytes so far, at most a few times a second. `totalBytes` is undefined while unknown. */
  | {
      readonly name: "backup.progress";
      readonly run: string;
      readonly phase: Phase;
      readonly doneBytes: number;
      readonly totalBytes: number | undefined;
    }
  | {
      readonly name: "backup.phase";
      readonly run: string;
      readonly phase: Phase;
      readonly durationMs: number;
      readonly bytes: number | undefined;
    }
  | {
      readonly name: "backup.committed";
      readonly run: string;
      readonly trigger: Trigger;
      readonly schedule: string | undefined;
      readonly slotMs: number | undefined;
      readonly backup: string;
      readonly lineage: string;
      readonly member: string;
      readonly quorum: boolean;
      readonly revision: bigint;
      readonly keys: number;
      readonly plainBytes: number;
      readonly storedBytes: number;
      readonly committedMs: number;
      readonly durationMs: number;
      readonly extrasMissing: number;
    }
  /** Another daemon committed the slot first: no failure, and nothing to do. */
  | {
      readonly name: "backup.superseded";
      readonly run: string;
      readonly schedule: string | undefined;
      readonly slotMs: number | undefined;
      readonly backup: string;
      /** The work was done here, too, and for nothing. */
      readonly repeated: boolean;
    }
  /** Another daemon says that it works on the slot: this run waits for it. */
  | {
      readonly name: "claim.waiting";
      readonly run: string;
      readonly schedule: string | undefined;
      readonly slotMs: number | undefined;
      readonly by: string;
    }
  /** This run works on a slot that another one had claimed: it said that it gave up, was silent for too long, never came to an end, or left nonsense. */
  | {
      readonly name: "claim.taken";
      readonly run: string;
      readonly schedule: string | undefined;
      readonly slotMs: number | undefined;
      readonly why: TakenOverWhy;
      /** Undefined: the claim cannot be read. */
      readonly by: string | undefined;
    }
  | {
      readonly name: "backup.failed";
      readonly run: string;
      readonly trigger: Trigger;
      readonly schedule: string | undefined;
      readonly slotMs: number | undefined;
      readonly phase: Phase;
      readonly code: FaultCode;
      readonly message: string;
      readonly hint: string | undefined;
      readonly retryable: boolean;
      readonly durationMs: number;
    };

/** What comparing a backup with other members brings: of which backup, and how its file is known. */
interface ProofFacts {
  readonly run: string;
  readonly schedule: string | undefined;
  readonly backup: string;
  readonly lineage: string;
  readonly revision: bigint;
  readonly committedMs: number;
  readonly reason: string;
}

export type ProofEvent =
  /** A member computed HashKV; writers on it waited as long. */
  | {
      readonly name: "member.hashed";
      readonly run: string;
      readonly member: string;
      readonly leader: boolean;
      readonly durationMs: number;
    }
  /** A member that was asked for HashKV gave none. */
  | {
      readonly name: "member.unhashed";
      readonly run: string;
      readonly member: string;
      readonly code: FaultCode;
      readonly message: string;
    }
  /** A majority holds other data than this member, seen twice: it must be replaced. */
  | {
      readonly name: "member.diverged";
      readonly run: string;
      readonly member: string;
      readonly revision: bigint;
      readonly reason: string;
    }
  /** A committed backup is what a majority of the voters holds. */
  | ({
      readonly name: "backup.proven";
      /** Members whose data is that of the backup. */
      readonly agreeing: readonly string[];
      readonly diverged: readonly string[];
      /** A single member was compared with itself. */
      readonly alone: boolean;
    } & ProofFacts)
  /** A committed backup could not be shown to be what a majority holds. */
  | ({
      readonly name: "backup.sealed";
      readonly why: SealedWhy;
      /** It is tried again later. */
      readonly passing: boolean;
    } & ProofFacts);

/** Why a backup is only sealed: its bytes are what etcd sent, and nobody vouches for more. `source-diverged`: its member is in the minority, and no other could be had. `unrecorded`: it is proven, and the store did not take the proof. */
export const sealedWhys = [
  "compacted",
  "too-few",
  "disagree",
  "leader",
  "incomparable",
  "source-diverged",
  "unrecorded",
  "unknown",
] as const;
export type SealedWhy = (typeof sealedWhys)[number];

/** What a member is asked again and again to see how long it takes; the reads are of one key that does not exist. */
export const probeMethods = ["status", "range_serializable", "range_linearizable"] as const;
export type ProbeMethod = (typeof probeMethods)[number];

/** What one look at a member gave; a member that did not answer has only a name and a fault. */
export type ObservedMember =
  | {
      readonly member: string;
      readonly up: true;
      readonly leader: boolean;
      readonly learner: boolean;
      readonly version: string;
      readonly revision: bigint;
      readonly dbBytes: number;
      readonly dbInUseBytes: number | undefined;
      readonly quotaBytes: number | undefined;
      /** When the database will have reached it if it goes on as before; undefined: that is not known. */
      readonly quotaFullMs?: number | undefined;
      readonly alarms: readonly string[];
    }
  | { readonly member: string; readonly up: false; readonly code: FaultCode; readonly message: string };

/** What a disk is for: our spool, a member's data directory, its WAL. */
export type DiskRole = "spool" | "data" | "wal";

export type ObservationEvent =
  | { readonly name: "cluster.observed"; readonly members: readonly ObservedMember[]; readonly quorum: boolean }
  | { readonly name: "cluster.unobserved"; readonly code: FaultCode; readonly message: string }
  /** What one member answered when it was asked by itself; of what is undefined nothing is known. */
  | {
      readonly name: "member.probed";
      readonly member: string;
      /** How long each kind of call took; undefined: it failed, or gave no answer in time. What was not asked is missing. */
      readonly calls: readonly { readonly method: ProbeMethod; readonly durationMs: number | undefined }[];
      readonly certificateNotAfterMs: number | undefined;
      readonly raftTerm: bigint | undefined;
      readonly raftIndex: bigint | undefined;
      readonly raftAppliedIndex: bigint | undefined;
      /** From here on: by its own metrics. What is counted began anew when its process started. */
      readonly residentBytes: number | undefined;
      readonly cpuMs: number | undefined;
      readonly leaderChanges: number | undefined;
      readonly heartbeatFailures: number | undefined;
      /** Of the last minute or so: 99 of 100 took no longer. */
      readonly walFsyncP99Ms: number | undefined;
      readonly backendCommitP99Ms: number | undefined;
      /** The mean of the last minutes, to each member that etcd measured meanwhile. */
      readonly peers: readonly { readonly peer: string; readonly roundTripMs: number }[];
    }
  /** Until when the certificates in our own files are valid; the CA that ends first. Undefined without TLS files, or where they cannot be read. */
  | {
      readonly name: "certificates.observed";
      readonly clientNotAfterMs: number | undefined;
      readonly caNotAfterMs: number | undefined;
    }
  /** A disk of this machine. */
  | {
      readonly name: "disk.observed";
      readonly role: DiskRole;
      /** The member whose disk it is; undefined: ours. */
      readonly member: string | undefined;
      readonly freeBytes: number;
      readonly sizeBytes: number;
      readonly freeInodes: number;
      /** 0 where the file system does not count them. */
      readonly inodes: number;
      /** When it will be full if it goes on as before; undefined: that is not known. */
      readonly fullMs: number | undefined;
    }
  /** How long, since this machine started, some of its tasks waited for disks, and all of them did. */
  | { readonly name: "pressure.observed"; readonly waitingMs: number; readonly stalledMs: number }
  /** Whether the store answered a small request, and how long that took. */
  /** One request to a store ended; `store` is the name of a copy, undefined: the first store. */
  | {
      readonly name: "store.requested";
      readonly store: string | undefined;
      readonly operation: StoreOperation;
      readonly ok: boolean;
      readonly durationMs: number;
    }
  | { readonly name: "store.probed"; readonly up: boolean; readonly durationMs: number; readonly message: string }
  | {
      readonly name: "store.observed";
      readonly up: boolean;
      readonly backups: number | undefined;
      /** The time in the name of the oldest one; undefined: there is none, or the store did not say. */
      readonly oldestMs: number | undefined;
      readonly message: string;
    };

export type RepositoryEvent =
  | { readonly name: "repository.created"; readonly repository: string; readonly cluster: string }
  | { readonly name: "lineage.created"; readonly lineage: string; readonly reason: string; readonly clusterId: string }
  | { readonly name: "spool.swept"; readonly files: number; readonly bytes: number }
  | { readonly name: "uploads.swept"; readonly uploads: number };

export type RetentionEvent =
  /** What retention decided of the whole repository; backups of this cluster's own histories, but for the last four. */
  | {
      readonly name: "retention.surveyed";
      readonly kept: number;
      readonly storedBytes: number;
      readonly going: number;
      readonly expiringBytes: number;
      readonly pinned: number;
      readonly foreign: number;
      readonly refused: number;
      /** Data that no backup names: of expired ones, and what nobody committed. */
      readonly orphanBytes: number;
      /** The time in the name of the oldest one that stays; undefined: none does. */
      readonly oldestMs: number | undefined;
    }
  /** A backup's manifest was removed; its data follows after a grace. */
  | {
      readonly name: "backup.expired";
      readonly backup: string;
      readonly lineage: string;
      readonly reasons: readonly string[];
      readonly storedBytes: number;
    }
  | {
      readonly name: "retention.applied";
      readonly expired: number;
      /** Data objects that were removed. */
      readonly objects: number;
      readonly freedBytes: number;
      /** Snapshots that nobody committed and that are given up now. */
      readonly orphans: number;
      /** Objects that the store keeps under a lock, and until when the first of them. */
      readonly locked: number;
      readonly lockedUntilMs: number | undefined;
      /** Backups that go at the next time. */
      readonly left: number;
    }
  /** The repository is paused, or an operation has the cluster for itself: nothing more is removed until that has ended. */
  | { readonly name: "retention.held"; readonly code: FaultCode; readonly message: string }
  | {
      readonly name: "retention.failed";
      readonly code: FaultCode;
      readonly message: string;
      readonly hint: string | undefined;
    };

export type CopyEvent =
  /** A copy was compared with the first store. */
  | {
      readonly name: "copy.compared";
      readonly store: string;
      /** In the copy. */
      readonly backups: number;
      /** In the first store, and not in the copy; also those that another daemon copies just now. */
      readonly missing: number;
      /** When the newest backup of each schedule in the copy was committed to the first store; undefined: there is none. */
      readonly schedules: readonly { readonly schedule: string; readonly lastSuccessMs: number | undefined }[];
    }
  /** A backup is in the copy, verified there. */
  | {
      readonly name: "copy.stored";
      readonly store: string;
      readonly backup: string;
      readonly lineage: string;
      readonly schedule: string | undefined;
      /** To the first store. */
      readonly committedMs: number;
      readonly storedBytes: number;
      readonly durationMs: number;
    }
  /** The copy is as whole as the first store; what is missing is on its way by another daemon. */
  | { readonly name: "copy.finished"; readonly store: string; readonly copied: number; readonly missing: number }
  /** It is not, and is tried again. `backup`: only this one could not be copied. */
  | {
      readonly name: "copy.failed";
      readonly store: string;
      readonly backup: string | undefined;
      readonly code: FaultCode;
      readonly message: string;
      readonly hint: string | undefined;
    }
  /** Retention removed from the copy what it lets go. */
  | {
      readonly name: "copy.expired";
      readonly store: string;
      readonly expired: number;
      readonly objects: number;
      readonly freedBytes: number;
      readonly locked: number;
    };

export type WarningEvent = { readonly name: "warning"; readonly about: string; readonly message: string };

/** A step of an operation, as its plan names it. */
interface StepFacts {
  /** The operation's id. */
  readonly operation: string;
  readonly step: string;
  /** The condition that shall become true. */
  readonly title: string;
  readonly phase: string;
  readonly host: string | undefined;
}

/** How an operation is executed, and how one call of that ended. */
export type OperationMode = "run" | "resume" | "rollback";
export type OperationOutcome = "done" | "rolled-back" | "refused" | "stopped";

export type OperationEvent =
  | {
      readonly name: "operation.started";
      readonly operation: string;
      readonly kind: string;
      readonly mode: OperationMode;
      readonly steps: number;
    }
  | ({ readonly name: "step.started"; readonly expectedMs: number | undefined } & StepFacts)
  /** Its condition is true; `performed` is false where it was so already. */
  | ({ readonly name: "step.done"; readonly performed: boolean; readonly durationMs: number } & StepFacts)
  | ({
      readonly name: "step.failed";
      readonly code: FaultCode | "bug";
      readonly message: string;
      readonly hint: string | undefined;
      readonly durationMs: number;
    } & StepFacts)
  /** What it changed is taken back. */
  | ({ readonly name: "step.undone"; readonly durationMs: number } & StepFacts)
  /** A host was lost, and the operation goes on without it: it must be brought back by hand. */
  | ({ readonly name: "host.left"; readonly message: string } & StepFacts)
  /** A host was booted since the operation last touched it. */
  | { readonly name: "host.rebooted"; readonly operation: string; readonly host: string }
  | {
      readonly name: "operation.ended";
      readonly operation: string;
      readonly kind: string;
      readonly mode: OperationMode;
      readonly outcome: OperationOutcome;
      /** Steps that were performed, or undone, by this very call. */
      readonly performed: number;
      readonly left: readonly string[];
      readonly durationMs: number;
    }
  /** What no restore can put right, for people to look after; told at its end, where there is something. */
  | {
      readonly name: "restore.hygiene";
      readonly operation: string;
      /** Live keys of the Kubernetes that is restored. */
      readonly objects: number;
      readonly findings: readonly string[];
    }
  /** A copy of the journal lacks lines; the journal itself is whole. */
  | {
      readonly name: "journal.behind";
      readonly operation: string;
      readonly mirror: string;
      readonly lines: number;
      readonly message: string;
    }
  /** A program of the site has ended, or was ended. */
  | {
      readonly name: "hook.ended";
      readonly operation: string;
      readonly hook: string;
      readonly outcome: "passed" | "warned" | "stopped" | "failed";
      /** Undefined when it was killed. */
      readonly status: number | undefined;
      readonly timedOut: boolean;
      readonly durationMs: number;
      /** The end of what it printed, without what looks like a secret. */
      readonly output: string;
    };
