import type { LoginProof } from "../bolt/auth.ts";
import type { KubernetesFacts } from "../bolt/kubernetes.ts";
import type { Clock } from "../clock.ts";
import type { ObserveOptions } from "../cluster/observe.ts";
import type { DataDirectoryBuilder, WalTools } from "../datadir/datadir.ts";
import type { Etcd } from "../etcd/etcd.ts";
import type { Emit } from "../events.ts";
import type { Host } from "../host/host.ts";
import type { LockScope } from "../repository/lock.ts";
import type { JsonObject } from "../runbook/runbook.ts";
import type { Service } from "../service/service.ts";
import type { BackupDependencies } from "../snapshot/backup.ts";
import type { Source } from "./source.ts";

/** A host of the configuration, opened. */
export interface OpenHost {
  readonly host: Host;
  readonly etcd:
    | {
        readonly member: string;
        readonly service: Service;
        readonly dataDirectory: string;
        readonly walDirectory: string | undefined;
        /** Of a cluster that does not run yet. */
        readonly peerUrls?: readonly string[] | undefined;
      }
    | undefined;
  /** In the order of the configuration. */
  readonly services: readonly OpenService[];
}

export interface OpenService {
  readonly service: Service;
  /** Asks whether it is ready: undefined when it is, else why not in a few words. Absent where nothing can be asked. */
  readonly ready?: (signal: AbortSignal) => Promise<string | undefined>;
}

/** What every operation on the hosts of a cluster works with. */
export interface HostDependencies {
  readonly cluster: string;
  readonly etcd: Etcd;
  readonly observe: ObserveOptions;
  readonly hosts: readonly OpenHost[];
  /** The repository; undefined when the restore is from a file and none is configured. */
  readonly repository: RestoreRepository | undefined;
  /** Runs the hook of a phase with facts on its standard input; resolves with a warning where it gave one. */
  readonly hook: (phase: string, facts: JsonObject, signal: AbortSignal) => Promise<string | undefined>;
  readonly clock: Clock;
  readonly emit: Emit;
  /** Ends the process at a named place, `STEP PLACE`, when a test asks for it. */
  readonly failpoint: (place: string) => void;
  /** How long a service may take to be gone or ready, and members to agree, milliseconds. */
  readonly patienceMs: number;
}

/** Everything that a restore works with. */
export interface RestoreDependencies extends HostDependencies {
  readonly source: Source;
  readonly builder: DataDirectoryBuilder;
  /** Reads the log of a member that does not run. */
  readonly wal: Pick<WalTools, "read">;
  /** The same members as `etcd` reaches, once they are restored: who we are to them is for the restored database to say. */
  readonly restored: Etcd;
  readonly login: RestoredLogin;
  /** Reads what a database, given by its path, holds of Kubernetes. */
  readonly survey: (path: string, signal: AbortSignal) => Promise<KubernetesFacts>;
  /** A directory of ours for this operation: the fetched database and what is built of it. Made when it is first needed. */
  readonly workDirectory: string;
}

/** Who we are to restored members, where their database has authentication on. */
export interface RestoredLogin {
  /** Undefined: neither a user nor a client certificate is there. */
  readonly username: string | undefined;
  /** By the configured password, by the CN of the client certificate, or by what was given for this restore alone. */
  readonly by: "password" | "certificate" | "given";
  /** Where the given password is. */
  readonly passwordFile: string | undefined;
  /** Whether a database, given by its path, lets this user in as the steps after the start need it. */
  readonly prove: (path: string, signal: AbortSignal) => Promise<LoginProof>;
}

export interface RestoreRepository {
  /** ULID of the repository. */
  readonly id: string;
  readonly lock: LockScope;
  readonly backup: BackupDependencies;
}
