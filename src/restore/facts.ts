import type { LoginProof } from "../bolt/auth.ts";

/** What a restore has seen before it plans: plain values, so that the plan is a pure function of them. */
export interface RestoreFacts {
  readonly cluster: string;
  /** Milliseconds since 1970; everything below was seen around it. */
  readonly nowMs: number;
  /** The same instant as RFC 3339 says it. */
  readonly now: string;
  readonly source: SourceFacts;
  /** Undefined when no member of the running cluster gave a member list. */
  readonly live: LiveFacts | undefined;
  /** Why nobody did. */
  readonly liveFault: string | undefined;
  /** Why the operation lock could not be had now; undefined where it could, and where there is no repository. */
  readonly lockedOut: string | undefined;
  /** Revisions that the cluster is known to have reached: by its repository, and by earlier restores of this machine. */
  readonly highWater: readonly HighWater[];
  readonly hosts: readonly HostFacts[];
  readonly login: LoginFacts;
  /** Client URLs that the configuration names, each once. */
  readonly endpoints: readonly string[];
}

/** The file that the cluster goes back to, as its own bytes say. */
export interface SourceFacts {
  readonly kind: "backup" | "file" | "member";
  /** `LINEAGE/BACKUP`, the path of the file, or `member NAME`. */
  readonly name: string;
  /** The lineage it belongs to; undefined for a file. */
  readonly lineage: string | undefined;
  /** Milliseconds since 1970 at which its snapshot was taken; undefined where nobody knows. */
  readonly takenMs: number | undefined;
  /** Why it is believed, or is not: undefined when it is proven. */
  readonly unproven: string | undefined;
  /** A newer backup that nobody named and that was not taken, since it is not proven. */
  readonly passedOver: string | undefined;
  readonly revision: bigint;
  readonly compactRevision: bigint;
  readonly hashKv: number;
  /** Of the database with its seal cut off. */
  readonly dbBytes: number;
  /** SHA-256 of the plain file, seal included: what a resumed restore must meet again. */
  readonly sha256: string;
  /** The server that made it, such as `3.6.16`; undefined for a file that does not say. */
  readonly serverVersion: string | undefined;
  readonly storageVersion: string | undefined;
  readonly clusterVersion: string | undefined;
  readonly downgradeTarget: string | undefined;
  readonly members: readonly ListedMember[];
  /** Of the cluster it was taken from; undefined where nobody knows. */
  readonly clusterId?: bigint | undefined;
  readonly alarms: readonly { readonly memberId: bigint; readonly kind: string }[];
  readonly authEnabled: boolean;
  readonly leases: number;
  readonly keys: number;
  /** Only of a member that survived. */
  readonly survivor?: SurvivorFacts | undefined;
}

/** Who will be asked for after the start, when the database has authentication on. */
export interface LoginFacts {
  readonly username: string | undefined;
  readonly by: "password" | "certificate" | "given";
  /** Of the given user; never what is in it. */
  readonly passwordFile: string | undefined;
  /** Undefined where the database has authentication off. */
  readonly proof: LoginProof | undefined;
}

/** How a member that survived gave its data, and where its log ended. */
export interface SurvivorFacts {
  readonly member: string;
  /** Its own live snapshot; its stopped database as it lay there; or that one with its log applied by a throw-away etcd. */
  readonly how: "live" | "stopped" | "replayed";
  /** With its version, where one was needed. */
  readonly tool: string | undefined;
  /** The entry of its log up to which the data goes. */
  readonly index: bigint;
  /** The last entry of its log. */
  readonly lastIndex: bigint;
  /** How many of the last entries it did not know to be committed: a client may have been told that they are, and may not. */
  readonly uncommitted: bigint;
  /** How many entries were only in its log, and were applied. */
  readonly replayed: bigint;
}

export interface ListedMember {
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

export interface LiveMember extends ListedMember {
  readonly id: bigint;
  readonly up: boolean;
  readonly version: string | undefined;
  /** Undefined where it is not up. */
  readonly revision: bigint | undefined;
}

/** The cluster as it runs now. */
export interface LiveFacts {
  readonly clusterId: bigint;
  readonly quorum: boolean;
  readonly members: readonly LiveMember[];
  readonly highestRevision: bigint;
}

export interface HighWater {
  readonly revision: bigint;
  /** Milliseconds since 1970 at which it was seen. */
  readonly seenMs: number;
  /** The backup, lineage or restore that says so. */
  readonly backup: string;
}

/** A host of the configuration as it was found. */
export interface HostFacts {
  readonly name: string;
  /** Why it cannot be reached, or what runs there cannot be told; everything else about it is unknown then. */
  readonly fault: string | undefined;
  /** What helps, where the host itself answered. */
  readonly remedy?: string | undefined;
  readonly bootId: string;
  readonly etcd: EtcdHostFacts | undefined;
  /** In the order in which they are stopped. */
  readonly services: readonly ServiceFacts[];
}

export interface EtcdHostFacts {
  readonly member: string;
  readonly service: ServiceFacts;
  readonly dataDirectory: string;
  readonly walDirectory: string | undefined;
  /** As the configuration has them, for a cluster that does not run yet. */
  readonly peerUrls: readonly string[] | undefined;
  /** Undefined when the directory is not there, or is a symbolic link. */
  readonly owner: { readonly uid: number; readonly gid: number; readonly mode: number } | undefined;
  readonly hasMember: boolean;
  readonly hasWal: boolean;
  /** Milliseconds since 1970 at which its database was written last; undefined where there is none. */
  readonly writtenMs: number | undefined;
  /** On the file system of the data directory; undefined where it cannot be told. */
  readonly freeBytes: number | undefined;
  readonly walFreeBytes: number | undefined;
  /** Names of peer URLs that this host cannot turn into an address. */
  readonly unresolved: readonly string[];
  /** `member` itself is a file system of its own, and cannot be renamed. */
  readonly memberIsMountPoint: boolean;
  /** Mount points inside `member`: they would travel with it when it is renamed, and be mounted over the new data after a reboot. */
  readonly mountsInside: readonly string[];
  /** The data directory, `member` and what etcd keeps in it, where one is a symbolic link. */
  readonly links: readonly { readonly path: string; readonly target: string }[];
  /** What its service itself gives etcd; undefined where that cannot be read. */
  readonly settings: SettingsFacts | undefined;
  /** Its etcd runs and can be seen, and does not have `member/snap/db` open: it works in another directory. */
  readonly servesElsewhere: boolean;
  /** Data and WAL share a file system. */
  readonly sameDisk: boolean;
  /** The new data is built by this machine on the file system of the data directory, or of the WAL, before a copy of it is brought there. */
  readonly builtOnDisk: boolean;
  readonly builtOnWalDisk: boolean;
  /** How far its data has come, where its etcd does not run; undefined where it does, or has no data. */
  readonly stopped?: StoppedFacts | undefined;
}

/** What the files of a member say that does not run. */
export interface StoppedFacts {
  /** Of its database; undefined where that cannot be read. */
  readonly revision: bigint | undefined;
  /** Entries of its log that its database lacks, committed or not, each of which may stand for one more revision. */
  readonly logEntries: bigint;
  /** Milliseconds since 1970 at which they were written last. */
  readonly writtenMs: number;
  /** What could not be read, and what that means; empty where all is well. */
  readonly broken: readonly string[];
}

/** What a service starts etcd with, beside what the configuration says of the same. */
export interface SettingsFacts {
  /** Where it is written, such as the path of a manifest. */
  readonly from: string;
  readonly name: string | undefined;
  readonly data: PlaceFacts;
  /** Undefined: in the data directory. */
  readonly wal: PlaceFacts | undefined;
  readonly forceNewCluster: boolean;
}

export interface PlaceFacts {
  /** As etcd itself calls it. */
  readonly inside: string;
  /** Where that is on the host; undefined where it is gone with a container. */
  readonly onHost: string | undefined;
  /** It is the very directory of the configuration, by whatever path. */
  readonly isConfigured: boolean;
}

export interface ServiceFacts {
  readonly name: string;
  readonly role: "etcd" | "api-server" | "controller" | "client";
  /** How it is run, such as `etcd.service`; another text for another way. */
  readonly way: string;
  readonly running: boolean;
  /** The operation that holds it. */
  readonly heldBy: string | undefined;
  readonly canHold: boolean;
  readonly boots: "yes" | "no" | "unknown";
  /** Once it was held it is enabled, however it was. */
  readonly releaseEnables?: boolean | undefined;
  readonly detail: string;
  /** Whether it can be asked, once it runs, if it is ready. */
  readonly tellsReady: boolean;
}

/** What the operator asked for. */
export interface RestoreRequest {
  /** ULID of the operation. */
  readonly id: string;
  /** The restored cluster is another one than the backup's, which goes on. */
  readonly asNew: boolean;
  readonly acceptUnproven: boolean;
  /** A reboot may start what cannot be held: the operator said so. */
  readonly acceptRebootRisk: boolean;
  /** Seconds of silence that prove that nobody talks to etcd. */
  readonly quietMs: number;
  /** New and unique, so that no old member can join. */
  readonly token: string;
  /** ULID of the repository; undefined where there is none. */
  readonly repository: string | undefined;
  /** There may be one, and it is neither asked nor told: its store is gone. */
  readonly withoutRepository: boolean;
  /** The lineage that the restored cluster begins; undefined where there is no repository. */
  readonly lineage: string | undefined;
  /** Who writes the data directories. */
  readonly builder: string;
  /** Minor of the etcd that is installed, where nobody answers and the backup does not tell. */
  readonly minor: string | undefined;
  /** Those that are configured. */
  readonly hooks: readonly HookPhase[];
}

export type HookPhase =
  | "before-stop-api-servers"
  | "after-stop-api-servers"
  | "before-stop-etcd"
  | "after-stop-etcd"
  | "before-start-etcd"
  | "after-start-etcd"
  | "before-start-api-servers"
  | "after-start-api-servers";

/** How numbers are said to people; a pure file formats nothing itself. */
export interface Describe {
  readonly bytes: (bytes: number) => string;
  readonly time: (ms: number) => string;
  readonly duration: (ms: number) => string;
}
