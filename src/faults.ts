/**
 * Every failure that is expected: its exit status, whether the same call may work later without anybody's help,
 * and one sentence for `etcd-lifeboat exit-statuses`. Anything that is not a Fault is a bug of ours and crashes loudly.
 */

/** Exit statuses of the command; "unknown means failed" for everything that is not listed. */
export const exitStatuses = {
  0: "done; also a backup that could only be sealed (with a warning) and a clean stop on SIGTERM",
  1: "failed",
  2: "wrong usage: a command, flag or argument that does not exist or does not fit",
  3: "the backup is stored, but extras are missing from it, or it is missing from a copy",
  4: "refused before anything was touched: a key is missing, the history is foreign, a precondition does not hold",
  5: "stopped amid changes and needs attention: the message says how to resume and how to roll back",
  10: "nothing found: no such backup, object or repository",
  11: "locked or paused: another operation or a pause stands in the way, and the message says whose",
  12: "integrity: bytes, structure, seal or signature are not what they must be",
  75: "temporary: etcd or the store cannot be reached now; the same command may work later",
  78: "configuration: a value, file, certificate, password or bucket is wrong and stays wrong until somebody mends it",
  130: "interrupted",
} as const;

export type ExitStatus = keyof typeof exitStatuses;

interface FaultKind {
  readonly exit: ExitStatus;
  readonly retryable: boolean;
  readonly means: string;
}

/** The one table of expected failures. Codes are stable: they appear in events, metrics and JSON documents. */
export const faultKinds = {
  usage: { exit: 2, retryable: false, means: "the command line does not fit" },
  interrupted: { exit: 130, retryable: true, means: "stopped by a signal" },
  failed: { exit: 1, retryable: true, means: "failed for a reason that the message gives" },
  "not-found": { exit: 10, retryable: false, means: "no such backup, object or repository" },

  "config-invalid": { exit: 78, retryable: false, means: "the configuration cannot be used" },
  "secret-unreadable": { exit: 78, retryable: false, means: "a secret that the configuration names cannot be read" },

  "etcd-unreachable": { exit: 75, retryable: true, means: "no connection to an etcd member" },
  "etcd-timeout": { exit: 75, retryable: true, means: "an etcd member did not answer in time" },
  "etcd-tls": { exit: 78, retryable: false, means: "the TLS handshake with an etcd member fails" },
  "etcd-auth": { exit: 78, retryable: false, means: "etcd refuses the user, password, token or role" },
  "etcd-not-etcd": { exit: 78, retryable: false, means: "the endpoint answers, but is no etcd client port" },
  "etcd-unsupported": { exit: 4, retryable: false, means: "the member's etcd version or role cannot do what is asked" },
  "etcd-compacted": { exit: 1, retryable: true, means: "the revision that was asked for has been compacted" },
  "etcd-refused": { exit: 1, retryable: true, means: "etcd answered a request with an error" },
  "member-mismatch": { exit: 78, retryable: false, means: "another member answered at a member's address" },
  "no-source": { exit: 75, retryable: true, means: "no member can be a source for a snapshot now" },

  "snapshot-stalled": { exit: 75, retryable: true, means: "the snapshot stream made no progress" },
  "snapshot-broken": { exit: 12, retryable: true, means: "the snapshot stream is truncated, altered or malformed" },
  "spool-space": { exit: 4, retryable: true, means: "not enough room for the spool" },
  "spool-failed": { exit: 1, retryable: true, means: "the spool cannot be written or read" },
  "bolt-corrupt": { exit: 12, retryable: false, means: "the database file is damaged" },
  "datadir-refused": { exit: 4, retryable: false, means: "our builder does not know what it would have to write" },
  "datadir-damaged": { exit: 12, retryable: false, means: "a data directory or WAL is not what it must be" },
  "worker-failed": { exit: 1, retryable: true, means: "a worker thread ended without an answer" },

  "store-unreachable": { exit: 75, retryable: true, means: "no connection to the store, or it does not answer" },
  "store-tls": { exit: 78, retryable: false, means: "the store's certificate is not trusted" },
  "store-denied": { exit: 78, retryable: false, means: "the store refuses the credentials or the access" },
  "store-missing": { exit: 78, retryable: false, means: "the bucket or directory does not exist" },
  "store-region": { exit: 78, retryable: false, means: "the bucket lives in another region" },
  "store-exists": { exit: 1, retryable: false, means: "an object of that name exists already" },
  "store-object-missing": { exit: 10, retryable: false, means: "the store has no object of that name" },
  "store-damaged": { exit: 12, retryable: true, means: "the store gave or kept other bytes than were written" },
  "store-locked": { exit: 4, retryable: true, means: "the store keeps an object under a lock" },
  "store-full": { exit: 1, retryable: true, means: "the store has no room" },
  "store-refused": { exit: 1, retryable: true, means: "the store answered a request with an error" },

  "object-damaged": { exit: 12, retryable: false, means: "a stored object is not what its manifest says" },
  "manifest-invalid": { exit: 12, retryable: false, means: "a manifest cannot be read" },
  "manifest-untrusted": { exit: 12, retryable: false, means: "a manifest has no signature of a trusted key" },
  "repository-foreign": { exit: 4, retryable: false, means: "the repository belongs to another cluster" },
  "lineage-foreign": { exit: 4, retryable: false, means: "the cluster's history is not the one the repository knows" },
  paused: { exit: 11, retryable: true, means: "the repository is paused: nobody takes or expires backups" },
  locked: { exit: 11, retryable: true, means: "another operation holds the cluster's lock" },
  "lock-damaged": { exit: 12, retryable: true, means: "the newest entry of the lock's log cannot be read" },
  "backup-late": { exit: 1, retryable: true, means: "a backup was committed after its data had been given up" },
  "clock-skewed": {
    exit: 4,
    retryable: true,
    means: "the clocks of this host and of the store differ too much to expire",
  },
  "key-missing": {
    exit: 4,
    retryable: false,
    means: "the identity that could decrypt this is not configured or does not fit",
  },
  "tool-missing": { exit: 4, retryable: false, means: "a program of etcd's that this needs is not installed here" },
  "boot-failed": { exit: 12, retryable: false, means: "a backup was restored and started, and is not what it must be" },
  unproven: { exit: 4, retryable: false, means: "members of the cluster could not be compared with the backup" },
  "cluster-differs": { exit: 12, retryable: false, means: "members of the cluster have other data than the backup" },
  "host-unreachable": { exit: 75, retryable: true, means: "a host of the cluster cannot be reached" },
  "host-failed": { exit: 1, retryable: true, means: "a host could not do what it was asked for" },
  "host-denied": { exit: 78, retryable: false, means: "a host does not permit what it was asked for" },
  "host-missing": { exit: 1, retryable: false, means: "a file or directory of a host is not there" },
  "host-exists": { exit: 1, retryable: false, means: "a file or directory of a host is in the way" },
  "host-cross-device": {
    exit: 4,
    retryable: false,
    means: "a rename on a host would cross file systems, or move a mount point",
  },
  "host-space": { exit: 1, retryable: true, means: "a host's disk has no room" },
  "host-damaged": { exit: 12, retryable: true, means: "a host's disk gave back other bytes than were written" },
  "host-program-missing": { exit: 4, retryable: false, means: "a host has no such program" },
  "service-unknown": { exit: 1, retryable: true, means: "whether a service runs cannot be said" },
  "service-failed": { exit: 1, retryable: true, means: "a service could not be held, stopped, released or started" },
  "service-unholdable": { exit: 4, retryable: false, means: "nothing can keep a service from coming back" },
  "service-unjoinable": { exit: 4, retryable: false, means: "nothing can tell etcd to join a cluster that runs" },
  "service-held": { exit: 4, retryable: true, means: "an operation holds the service" },
  "runbook-refused": { exit: 4, retryable: true, means: "an operation stopped before it changed anything" },
  "runbook-stopped": { exit: 5, retryable: true, means: "an operation stopped amid changes" },
  "rollback-too-late": { exit: 4, retryable: false, means: "an operation can no longer be taken back" },
  "journal-failed": { exit: 1, retryable: true, means: "the journal of an operation cannot be written or read" },
  "journal-invalid": { exit: 12, retryable: false, means: "the journal of an operation makes no sense" },
  "journal-locked": { exit: 11, retryable: true, means: "another process executes the operation" },
  "journal-taken": { exit: 11, retryable: false, means: "somebody else went on with the operation" },
  "journal-disagrees": {
    exit: 12,
    retryable: false,
    means: "the copies of an operation's journal contradict each other",
  },
  "journal-behind": { exit: 4, retryable: false, means: "the copies of an operation's journal lack what was done" },
  "journal-unfinished": { exit: 11, retryable: false, means: "an operation was begun and not ended" },
  "clients-talk": { exit: 1, retryable: true, means: "a client still talks to etcd where nobody may" },
  "old-member-answers": {
    exit: 1,
    retryable: true,
    means: "a member of the old cluster answers beside the restored one",
  },
  "restore-differs": { exit: 12, retryable: false, means: "a restored member holds other data than was restored" },
  "restore-refused": { exit: 4, retryable: false, means: "a restore cannot begin as things are" },
  "cleanup-refused": { exit: 4, retryable: false, means: "old data may not be removed as things are" },
  "plan-stale": { exit: 4, retryable: true, means: "the cluster changed since the restore was planned" },
  "hook-failed": { exit: 1, retryable: true, means: "a hook failed, was killed, or ran too long" },
  "hook-stopped": { exit: 4, retryable: true, means: "a hook said that the operation must not go on" },
  "extras-unreadable": { exit: 3, retryable: true, means: "the backup is stored, but extras are missing from it" },
} as const satisfies Record<string, FaultKind>;

export type FaultCode = keyof typeof faultKinds;

export interface FaultOptions {
  /** What the reader should do next; names a command, key or file. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** An expected failure. `message` names the thing, `hint` the remedy. */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: FaultCode;
  readonly hint: string | undefined;

  constructor(code: FaultCode, message: string, options: FaultOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }

  get exitStatus(): ExitStatus {
    return faultKinds[this.code].exit;
  }

  /** True when the same call may succeed later without a change by anybody. */
  get retryable(): boolean {
    return faultKinds[this.code].retryable;
  }
}

/** True for a Fault, optionally one of the given codes. */
export function isFault(error: unknown, ...codes: readonly FaultCode[]): error is Fault {
  return error instanceof Fault && (codes.length === 0 || codes.includes(error.code));
}

/** The fault that an aborted signal stands for: its own reason when that is a Fault, else `interrupted`. */
export function abortFault(signal: AbortSignal): Fault {
  const reason: unknown = signal.reason;
  return reason instanceof Fault ? reason : new Fault("interrupted", "interrupted", { cause: reason });
}

/** Throws `abortFault` when the signal is aborted. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw abortFault(signal);
}
