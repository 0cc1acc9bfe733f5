/**
 * A machine of the cluster, as far as restore and upgrade touch it: run a program, move directories, see who runs. Nothing here needs shared memory with it, so a
 * host is reached as well through ssh. Every method rejects with a Fault (`host-*`), already free of the system's words; with `host-unreachable` when the host itself
 * cannot be reached. Paths are absolute, without `..` and NUL; arguments are arrays, and no shell runs. Everything is bounded.
 */
export interface Host {
  /** As the configuration names it. */
  readonly name: string;

  facts(signal: AbortSignal): Promise<HostFacts>;

  /**
   * Runs a program in a process group of its own and waits for its end. When the time is over or the signal is aborted, the whole group is killed. What it leaves
   * behind in its group is killed, too, when `keepGroup` is not set. A status other than 0 is a result, not a fault; `host-program-missing` when there is no such program.
   */
  run(argv: readonly [string, ...string[]], options: RunOptions, signal: AbortSignal): Promise<RunResult>;

  /** A small file, whole; undefined when it is not there. `host-failed` when it has more than `maxBytes`. */
  readFile(path: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Writes a file, or replaces it, in one step: a name with a dot in the same directory, fsync, rename, fsync of the directory. */
  writeFile(path: string, bytes: Uint8Array, options: WriteOptions, signal: AbortSignal): Promise<void>;
  /** Resolves also when it is not there; what it removed stays removed after a power cut. */
  removeFile(path: string, signal: AbortSignal): Promise<void>;
  /** What is at a path, a symbolic link as such; undefined when nothing is. */
  stat(path: string, signal: AbortSignal): Promise<PathFacts | undefined>;
  /** Where file systems are mounted below a path, however deep, sorted; the path itself is none of them, and one that is not there has none. */
  mountsBelow(path: string, signal: AbortSignal): Promise<readonly string[]>;
  /** Names in a directory, sorted; undefined when it is not there. `host-failed` above `maximumNames`. */
  list(path: string, signal: AbortSignal): Promise<readonly string[] | undefined>;
  /** Bytes on disk of all that is below a path, which must exist. Other file systems below it are not entered. */
  treeSize(path: string, signal: AbortSignal): Promise<number>;
  /** The file system of a path, which need not exist: then its nearest parent's. Free for those who are not root. */
  space(path: string, signal: AbortSignal): Promise<SpaceFacts>;

  /**
   * Renames and makes that durable in both directories. `host-exists` when there is something at `to`, `host-cross-device` between file systems and for a mount point.
   * It looks before it renames (Node has no RENAME_NOREPLACE), so `to` must be a name of ours that nobody else makes; a directory that is not empty is never replaced.
   */
  rename(from: string, to: string, signal: AbortSignal): Promise<void>;
  /** Makes a directory and its missing parents (mode 0700, root's or ours) durably; resolves when it is there already, and leaves its mode and owner then. */
  makeDirectory(path: string, options: WriteOptions, signal: AbortSignal): Promise<void>;
  /**
   * Brings a tree of files to a directory that must not exist yet (`host-exists`): each is written, fsynced, read back from disk and compared with its SHA-256
   * (`host-damaged`). The directory appears under its name only when all of it is there and durable; a try that was interrupted leaves `partOf(directory)`, which
   * the next one removes first. Files may share parents in any order; parents get the directory's mode and owner.
   */
  receive(
    directory: string,
    files: AsyncIterable<SentFile>,
    options: ReceiveOptions,
    signal: AbortSignal,
  ): Promise<void>;
  /** The bytes of a file from an offset on, of a large one also: fewer where it ends before, none past its end. `host-missing` when it is not there. */
  readAt(path: string, offsetBytes: number, bytes: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Streams a file from the host; `host-missing` when it is not there. */
  send(path: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Removes a tree; resolves when it is not there. For clean-up and for what we made ourselves; refuses a mount point and `/`. */
  removeTree(path: string, signal: AbortSignal): Promise<void>;

  /** Every process but kernel threads and those that ended meanwhile. */
  processes(signal: AbortSignal): Promise<readonly ProcessFacts[]>;
  /** Processes that have the very file at this path open, whatever they call it, in a container too; empty when it is not there. An etcd has its `member/snap/db` open. */
  holders(path: string, signal: AbortSignal): Promise<readonly number[]>;
  /** TCP ports that are listened on. `pid` where it can be seen. */
  listeners(signal: AbortSignal): Promise<readonly ListenerFacts[]>;
  /** Established TCP connections to a local port: who still talks to what listens there. */
  connections(port: number, signal: AbortSignal): Promise<readonly ConnectionFacts[]>;
}

/** A directory with more names than this is none of etcd's. */
export const maximumNames = 100_000;

/** Where `receive` builds a directory before it has its name. */
export function partOf(directory: string): string {
  const slash = directory.lastIndexOf("/");
  return `${directory.slice(0, slash)}/.${directory.slice(slash + 1)}.etcd-lifeboat-part`;
}

export interface HostFacts {
  /** Another one after every boot. */
  readonly bootId: string;
  readonly hostname: string;
  /** As whom we work there. */
  readonly uid: number;
  readonly kernel: string;
}

export interface RunOptions {
  readonly stdin?: Uint8Array | undefined;
  readonly timeoutMs: number;
  /** The whole environment but for PATH and LANG=C.UTF-8, which have defaults: nothing of ours is inherited. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly directory?: string | undefined;
  /** Most that is kept of each of stdout and stderr, their beginning; default 1 MiB. */
  readonly maxOutputBytes?: number | undefined;
  /** Their end is kept instead, from the first whole character on. */
  readonly keepEnd?: boolean | undefined;
  /** What the program started and left running in its group stays alive after its end: for commands that start services. */
  readonly keepGroup?: boolean | undefined;
}

export interface RunResult {
  /** Undefined when a signal ended it. */
  readonly status: number | undefined;
  /** The name of the signal that ended it, such as SIGKILL. */
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** Something was written beyond `maxOutputBytes`. */
  readonly truncated: boolean;
}

/** Numbers, since names differ from host to host. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface WriteOptions {
  /** Permission bits, such as 0o600. */
  readonly mode: number;
  /** Default: ours. */
  readonly owner?: Owner | undefined;
}

export interface ReceiveOptions extends WriteOptions {
  /** SELinux context for all of it; undefined: what the host gives by itself. */
  readonly selinux?: string | undefined;
}

export interface SentFile {
  /** Below the directory: segments of [A-Za-z0-9._-] that do not start with a dot, joined by slashes. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly mode: number;
  /** Lower-case hex. */
  readonly sha256: string;
  content(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface PathFacts {
  readonly kind: "file" | "directory" | "link" | "other";
  readonly sizeBytes: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Equal for two paths exactly when a rename between them is possible, but for mount points. */
  readonly device: string;
  readonly inode: bigint;
  readonly isMountPoint: boolean;
  /** What a symbolic link says; undefined for anything else. */
  readonly target: string | undefined;
  /** Undefined where SELinux is off. */
  readonly selinux: string | undefined;
  readonly modifiedMs: number;
}

export interface SpaceFacts {
  readonly freeBytes: number;
  /** Undefined where the file system does not count them. */
  readonly freeInodes: number | undefined;
  readonly device: string;
}

export interface ProcessFacts {
  readonly pid: number;
  /** With `pid`, who it is: clock ticks after boot when it started. */
  readonly startTicks: bigint;
  readonly parent: number;
  /** At most 15 characters. */
  readonly comm: string;
  /** May hold secrets: who prints it redacts it. Cut after 64 KiB. */
  readonly argv: readonly string[];
  /** ETCD_NAME, ETCD_DATA_DIR, ETCD_WAL_DIR and ETCD_CONFIG_FILE of its environment, where it can be read; nothing else of it. */
  readonly etcdEnvironment: Readonly<Record<string, string>>;
  /** Undefined where it cannot be seen. */
  readonly directory: string | undefined;
  /** The control group as systemd names it, such as `/system.slice/etcd.service`. */
  readonly controlGroup: string | undefined;
  /** A zombie runs no more. */
  readonly zombie: boolean;
}

export interface ListenerFacts {
  readonly port: number;
  /** `0.0.0.0` and `::` are all of them. */
  readonly address: string;
  readonly pid: number | undefined;
}

export interface ConnectionFacts {
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** The process on this side. */
  readonly pid: number | undefined;
}
