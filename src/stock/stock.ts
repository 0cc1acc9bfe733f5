/**
 * etcd's own programs on this machine, as far as a snapshot is restored and started for a look with them. What they refuse is `boot-failed`; what keeps them
 * from being run at all is `tool-missing` or `failed`, and says nothing about the snapshot.
 */
export interface StockTools {
  /** The programs that restore and run snapshots of a minor such as `3.6`; `tool-missing` names what was looked for, where, and what was found instead. */
  find(minor: string, signal: AbortSignal): Promise<StockPrograms>;
}

/** etcd itself, without a tool. */
export interface StockServers {
  /** etcd of a minor such as `3.6`; faults as `find`. */
  findServer(minor: string, signal: AbortSignal): Promise<StockServer>;
}

export interface StockServer {
  /** With its version, such as `etcd 3.6.14`. */
  readonly name: string;

  /**
   * Starts it on a copy of a member's data directory, `data` in `directory`, as a cluster of its own (--force-new-cluster): it applies what its log knows to be committed, and throws
   * the rest of the log away. Otherwise as `StockPrograms.start`.
   */
  startAlone(directory: string, signal: AbortSignal): Promise<StockMember>;
}

/** etcd's own tool that makes data directories, without the server. */
export interface StockRestorers {
  /** etcdutl of the minor, and for 3.4 and 3.3 etcdutl 3.5 or else their etcdctl. Faults as `find`. */
  findRestorer(minor: string, signal: AbortSignal): Promise<StockRestorer>;
}

export interface StockRestorer {
  /** With its version, such as `etcdutl 3.6.14`. */
  readonly name: string;
  /** True: the members of the snapshot stay in the database beside the new ones, as with every etcdctl. */
  readonly keepsOldMembers: boolean;

  /**
   * Makes the data directory `data` of one member of a new cluster in `directory`. `etcd-unsupported` when revisions are to be bumped and this version cannot; `boot-failed` with the
   * tool's last words for what it refuses.
   */
  restoreMember(restore: MemberRestore, directory: string, signal: AbortSignal): Promise<string>;
}

export interface MemberRestore {
  readonly snapshotPath: string;
  /** Whether the snapshot ends with its seal, which is checked then. */
  readonly sealed: boolean;
  readonly name: string;
  readonly members: readonly { readonly name: string; readonly peerUrls: readonly string[] }[];
  readonly token: string;
  /** Added to the file's revision, everything before being marked as compacted. */
  readonly bump: bigint | undefined;
}

export interface StockPrograms {
  /** With their versions, such as `etcdutl 3.6.14`. */
  readonly names: readonly string[];

  /** Makes a data directory for one member in an empty `directory` from a snapshot with its seal, which the program checks. */
  restore(snapshotPath: string, directory: string, signal: AbortSignal): Promise<void>;

  /**
   * Starts the member that was restored into `directory`. Nobody but the directory's owner can reach it: it listens on Unix sockets in there. It does not outlive this
   * process, whatever ends that. Resolves when it was started, not when it serves.
   */
  start(directory: string, signal: AbortSignal): Promise<StockMember>;
}

/** A running member. Dispose it to kill it. */
export interface StockMember extends AsyncDisposable {
  /** The Unix socket of its client port. */
  readonly socket: string;

  /** What it says of itself to anybody, also with authentication on; undefined while it does not serve. `boot-failed` when it has ended. */
  look(signal: AbortSignal): Promise<StockLook | undefined>;

  /** Ends it in good order and gives the path of its database file, which is whole then. */
  stop(signal: AbortSignal): Promise<string>;
}

export interface StockLook {
  readonly revision: bigint;
  /** Live keys. */
  readonly keys: number;
  /** Of the log, up to which it has applied. */
  readonly appliedIndex: bigint;
}
