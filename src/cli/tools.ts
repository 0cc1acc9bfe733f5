import type { Clock } from "../clock.ts";
import type { LoadedConfig } from "../config/load.ts";
import type { Etcd } from "../etcd/etcd.ts";
import type { Emit } from "../events.ts";
import type { LockScope } from "../repository/lock.ts";
import type { Signer, TrustedKeys } from "../repository/signature.ts";
import type { HostDependencies, RestoreDependencies } from "../restore/restore.ts";
import type { Source } from "../restore/source.ts";
import type { MirroredJournals } from "../runbook/journal.ts";
import type { JsonObject } from "../runbook/runbook.ts";
import type { AgeIdentity } from "../snapshot/age.ts";
import type { BackupDependencies } from "../snapshot/backup.ts";
import type { CopyTarget } from "../snapshot/copy.ts";
import type { BootDependencies } from "../snapshot/boot.ts";
import type { Spool } from "../snapshot/spool.ts";
import type { Scan } from "../snapshot/take.ts";
import type { ExamineBucket, Store } from "../store/store.ts";

/** What a command can ask for; each part is opened when it is first asked for, so that `list` never talks to etcd. */
export interface Tools extends AsyncDisposable {
  readonly loaded: LoadedConfig;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly scan: Scan;
  readonly store: () => Promise<Store>;
  /** The further stores, in the order of the configuration. */
  readonly copies: () => Promise<readonly CopyTarget[]>;
  readonly trusted: () => Promise<TrustedKeys | undefined>;
  /** Undefined where no key to sign with is configured. */
  readonly signer: () => Promise<Signer | undefined>;
  readonly spool: () => Promise<Spool>;
  /** Where what was read of the catalog is kept; need not exist. */
  readonly catalogDirectory: string;
  /** Empty where no identity is configured. */
  readonly identities: () => Promise<readonly AgeIdentity[]>;
  /** The operation lock of the repository. */
  readonly lock: () => Promise<LockScope>;
  /** Tells what the bucket is like; undefined where the store is none. */
  readonly examineBucket: ExamineBucket | undefined;
  /** Starts throw-away members with etcd's own programs, from a directory or from PATH. */
  readonly boot: (directory: string | undefined) => BootDependencies;
  readonly backup: (emit: Emit) => Promise<BackupDependencies>;
  /** The members as the configuration reaches them, asked as another user. */
  readonly etcdAs: (login: GivenLogin) => Etcd;
  /** As `scan`, also of a file without a seal. */
  readonly scanAny: Scan;
  /** Processes of this machine that have the very file open. */
  readonly holders: (path: string, signal: AbortSignal) => Promise<readonly number[]>;
  /** The operations that this machine has begun. */
  readonly journals: (emit: Emit, copies?: "hosts-only") => MirroredJournals;
  readonly restore: (parts: RestoreParts) => Promise<RestoreDependencies>;
  /** The hosts of the cluster, for an operation that restores no backup. */
  readonly hosts: (parts: HostParts) => Promise<HostDependencies>;
  /** The data of a member that survived its cluster. */
  readonly survivor: (parts: SurvivorParts, signal: AbortSignal) => Promise<Source>;
  /** Runs a hook of the configuration with facts on its standard input; resolves with its warning, if it gave one. */
  readonly hook: (phase: string, facts: JsonObject, emit: Emit, signal: AbortSignal) => Promise<string | undefined>;
  /** Removes what a restore that was not begun had fetched. */
  readonly removeWork: (id: string) => Promise<void>;
}

/** What a command decides of an operation on the hosts; the rest is configured. */
export interface HostParts {
  /** ULID of the repository; undefined where there is none. */
  readonly repository: string | undefined;
  readonly emit: Emit;
}

export interface RestoreParts extends HostParts {
  /** ULID of the operation. */
  readonly id: string;
  readonly source: Source;
  /** Who asks the restored members, where that is not who is configured. */
  readonly login: GivenLogin | undefined;
  /** Undefined: ours. */
  readonly builder: string | undefined;
  /** Where etcd's own programs are; then PATH. */
  readonly toolDirectory: string | undefined;
}

/** A user that a command names, and the file that holds its password. */
export interface GivenLogin {
  readonly username: string;
  readonly passwordFile: string;
}

export interface SurvivorParts {
  readonly member: string;
  /** Of the etcd that is installed, where the data does not tell it. */
  readonly minor: string | undefined;
  /** Where etcd's own programs are; then PATH. */
  readonly toolDirectory: string | undefined;
}

/** Where a command speaks: data on `out`, everything else on `err`. */
export interface Console {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether `err` is a terminal. */
  readonly interactive: boolean;
  /** Asks at a terminal; absent where nobody sits at one. Undefined: no answer. */
  readonly ask?: (question: string) => Promise<string | undefined>;
  readonly columns: () => number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What main gives the commands; compose makes the parts. */
export interface Environment {
  readonly console: Console;
  readonly version: string;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  readonly open: (configPath: string) => Tools;
  /** Progress on a terminal and warnings as lines; closes before the last words are printed. */
  readonly listen: (console: Console) => { readonly emit: Emit; readonly close: () => void };
  /** Runs the daemon until the signal is aborted; resolves with its exit status. */
  readonly daemon: (tools: Tools, signal: AbortSignal) => Promise<void>;
}

/** What every command shares. */
export interface CommonOptions {
  readonly config: string;
  readonly json?: boolean;
}

/** Prints one JSON document; bigint as decimal strings, fields in their order. */
export function printJson(console: Console, document: object): void {
  const text = JSON.stringify(
    document,
    (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value),
    2,
  );
  console.out(`${text}\n`);
}
