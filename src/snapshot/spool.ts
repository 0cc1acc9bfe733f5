import { constants } from "node:fs";
import {
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  statfs,
  unlink,
  utimes,
  type FileHandle,
} from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../faults.ts";

/**
 * The directory into which snapshots are drained: ours alone (0700), files 0600, never fsynced. A spool is scratch: when the machine dies the
 * backup is taken again, and one large fsync beside etcd's WAL is what its writers would feel (docs/decisions/no-fsync-of-the-spool.md).
 */
export interface Spool {
  readonly directory: string;
  /** Creates an empty file for one run; removed when disposed. */
  create(run: string): Promise<SpoolFile>;
  /** Creates an empty directory for one run; removed with all that is in it when disposed. */
  createDirectory(run: string): Promise<SpoolDirectory>;
  /** Free and total space where the spool lives, for writers without special rights. */
  space(): Promise<{ readonly freeBytes: number; readonly sizeBytes: number; readonly freeInodes: number }>;
  /** Throws `spool-space` unless `bytes` more fit and a twentieth of the disk, at most 1 GiB, stays free. */
  requireSpace(bytes: number): Promise<void>;
  /** Removes what dead runs left; a file of a process that still lives is left alone. */
  sweep(): Promise<{ readonly files: number; readonly bytes: number }>;
}

export interface SpoolFile extends AsyncDisposable {
  readonly path: string;
  readonly handle: FileHandle;
}

export interface SpoolDirectory extends AsyncDisposable {
  readonly path: string;
}

/** How often a living run touches its file, and for how long nobody may have touched one whose process cannot be seen from here. */
const usualBeatMs = 60_000;
const deadAfterMs = 15 * 60_000;

/** Opens the spool, creating the directory when it is missing; refuses one that is another user's or open to others. */
export async function openSpool(directory: string, beatMs = usualBeatMs): Promise<Spool> {
  await translated(directory, () => mkdir(directory, { recursive: true, mode: 0o700 }));
  const stats = await translated(directory, () => lstat(directory));
  if (!stats.isDirectory()) throw new Fault("config-invalid", `spool.directory ${directory} is not a directory`);
  const uid = process.geteuid?.();
  if (stats.uid !== uid) {
    throw new Fault(
      "config-invalid",
      `spool.directory ${directory} belongs to uid ${stats.uid}, and this runs as uid ${uid}: snapshots hold every secret of the cluster`,
      {
        hint: `give it to the user that runs etcd-lifeboat: chown ${uid} ${directory}; or name another one`,
      },
    );
  }
  if ((stats.mode & 0o077) !== 0) {
    throw new Fault(
      "config-invalid",
      `spool.directory ${directory} is open to others: snapshots hold every secret of the cluster`,
      {
        hint: `close it to them: chmod 700 ${directory}`,
      },
    );
  }
  return {
    directory,
    create: (run) => createFile(directory, run, beatMs),
    createDirectory: (run) => createDirectory(directory, run, beatMs),
    space: () => readSpace(directory),
    async requireSpace(bytes) {
      const { freeBytes, sizeBytes } = await readSpace(directory);
      // The disk may be etcd's own: a part of it is never ours.
      const reservedBytes = Math.min(1024 ** 3, Math.floor(sizeBytes / 20));
      if (freeBytes - reservedBytes >= bytes) return;
      const free = `${freeBytes} bytes free, ${reservedBytes} of them kept for others`;
      throw new Fault("spool-space", `${directory} has ${free}, and the snapshot needs ${bytes}`, {
        hint: spoolRemedies.space,
      });
    },
    sweep: () => sweep(directory),
  };
}

async function createFile(directory: string, run: string, beatMs: number): Promise<SpoolFile> {
  const path = join(directory, `${run}.${await ownMark()}.spool`);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await translated(path, () => open(path, flags, 0o600));
  const beat = startBeat((now) => handle.utimes(now, now), beatMs);
  return {
    path,
    handle,
    async [Symbol.asyncDispose]() {
      await beat.stop();
      try {
        await translated(path, () => handle.close());
      } finally {
        await removeFile(path);
      }
    },
  };
}

async function createDirectory(directory: string, run: string, beatMs: number): Promise<SpoolDirectory> {
  const path = join(directory, `${run}.${await ownMark()}.scratch`);
  await translated(path, () => mkdir(path, { mode: 0o700 }));
  const beat = startBeat((now) => utimes(path, now, now), beatMs);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await beat.stop();
      await removeTree(path);
    },
  };
}

/** Who made it, so that a sweep knows whether he lives. */
async function ownMark(): Promise<string> {
  return `${process.pid}.${await startOf(process.pid)}.${await pidNamespace()}`;
}

function startBeat(
  touch: (nowSeconds: number) => Promise<void>,
  beatMs: number,
): { readonly stop: () => Promise<void> } {
  let touched: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    // A file system that refuses it costs another container's patience at most, and will refuse the next write, too.
    touched = touch(Date.now() / 1000).catch(() => undefined);
  }, beatMs).unref();
  return {
    async stop() {
      clearInterval(timer);
      await touched;
    },
  };
}

async function readSpace(directory: string): Promise<{ freeBytes: number; sizeBytes: number; freeInodes: number }> {
  const stats = await translated(directory, () => statfs(directory));
  return { freeBytes: stats.bavail * stats.bsize, sizeBytes: stats.blocks * stats.bsize, freeInodes: stats.ffree };
}

async function sweep(directory: string): Promise<{ files: number; bytes: number }> {
  let files = 0;
  let bytes = 0;
  const own = await pidNamespace();
  for (const name of await translated(directory, () => readdir(directory))) {
    const match = /^[0-9A-Z]{26}\.(\d{1,10})\.(\d{1,20})\.(\d{1,20})\.(spool|scratch)$/.exec(name);
    if (match === null) continue;
    const path = join(directory, name);
    const [, pid, start, namespace, kind] = match;
    const alive = namespace === own ? await lives(Number(pid), start, path) : await isYoung(path);
    if (alive) continue;
    const size = kind === "scratch" ? await removeTree(path) : await removeFile(path);
    if (size === undefined) continue;
    files += 1;
    bytes += size;
  }
  return { files, bytes };
}

/** Removes a spool file and returns its size; undefined when somebody else (another sweep, tmpfiles) was faster. */
async function removeFile(path: string): Promise<number | undefined> {
  try {
    const { size } = await lstat(path);
    await unlink(path);
    return size;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw translate(path, error, spoolRemedies);
  }
}

/** The same for a directory and all that is in it. */
async function removeTree(path: string): Promise<number | undefined> {
  try {
    const bytes = await treeBytes(path);
    // What was written a moment ago by a process that is being killed is in the way once, not for ever.
    await rm(path, { recursive: true, maxRetries: 5 });
    return bytes;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw translate(path, error, spoolRemedies);
  }
}

async function treeBytes(path: string): Promise<number> {
  let bytes = 0;
  try {
    for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) bytes += (await lstat(join(entry.parentPath, entry.name))).size;
    }
  } catch (error) {
    // For the report only: another sweep, or what still writes there, may be faster.
    if (!isGone(error)) throw error;
  }
  return bytes;
}

/**
 * Whether the process still runs that made a file. systemd's ProtectProc= hides processes from /proc, with PrivateUsers= even those of the same user;
 * a signal reaches them all the same. When such a one started is not to be known, so there its file tells.
 */
async function lives(pid: number, start: string | undefined, path: string): Promise<boolean> {
  const started = await startOf(pid);
  if (started !== undefined) return started === start;
  return isReached(pid) && (await isYoung(path));
}

function isReached(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // Refused is there, too.
    return !isGone(error);
  }
}

/** A container that shares the directory, or the one that we ran in before, has processes that we cannot see; its files count as dead when nobody touches them. */
async function isYoung(path: string): Promise<boolean> {
  try {
    return Date.now() - (await lstat(path)).mtimeMs < deadAfterMs;
  } catch (error) {
    if (isGone(error)) return true;
    throw translate(path, error, spoolRemedies);
  }
}

/** Which processes a pid is counted among: the inode of the pid namespace. */
async function pidNamespace(): Promise<string> {
  return /\d+/.exec(await readlink("/proc/self/ns/pid"))?.[0] ?? "0";
}

/** When a process started, in clock ticks since boot (proc(5), field 22), so that a reused pid is not mistaken; undefined when it is gone. */
async function startOf(pid: number): Promise<string | undefined> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  // The second field is the command in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ESRCH";
}

/** What to do about a file that cannot be written. */
export interface Remedies {
  readonly space: string;
  readonly access: string;
}

const spoolRemedies: Remedies = {
  space: "free space there, or set spool.directory to a larger file system",
  access: "spool.directory must belong to the user that runs etcd-lifeboat",
};

/** Runs a file operation; its errors become faults that name the path. */
export async function translated<T>(
  path: string,
  operation: () => Promise<T>,
  remedies: Remedies = spoolRemedies,
): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw translate(path, error, remedies);
  }
}

/** Writes all bytes at a position; a write may take fewer than it is given. */
export async function writeAll(
  file: { readonly path: string; readonly handle: Pick<FileHandle, "write"> },
  bytes: Uint8Array,
  position: number,
  remedies: Remedies = spoolRemedies,
): Promise<void> {
  for (let from = 0; from < bytes.length;) {
    const { bytesWritten } = await translated(
      file.path,
      () => file.handle.write(bytes, from, bytes.length - from, position + from),
      remedies,
    );
    if (bytesWritten === 0) throw new Fault("spool-failed", `${file.path} takes no more bytes`);
    from += bytesWritten;
  }
}

function translate(path: string, error: unknown, remedies: Remedies): unknown {
  const { code } = error as NodeJS.ErrnoException;
  switch (code) {
    case undefined:
      return error;
    case "ENOSPC":
    case "EDQUOT":
      return new Fault("spool-space", `no space left for ${path}`, { hint: remedies.space, cause: error });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new Fault("spool-failed", `${path} cannot be written: ${code}`, { hint: remedies.access, cause: error });
    default:
      return new Fault("spool-failed", `${path}: ${code}`, { cause: error });
  }
}
