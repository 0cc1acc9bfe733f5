import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, readFile, statfs, unlink, type FileHandle } from "node:fs/promises";
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
  /** Free and total space where the spool lives, for writers without special rights. */
  space(): Promise<{ readonly freeBytes: number; readonly sizeBytes: number; readonly freeInodes: number }>;
  /** Throws `spool-space` unless `bytes` more fit. */
  requireSpace(bytes: number): Promise<void>;
  /** Removes what dead runs left; a file of a process that still lives is left alone. */
  sweep(): Promise<{ readonly files: number; readonly bytes: number }>;
}

export interface SpoolFile extends AsyncDisposable {
  readonly path: string;
  readonly handle: FileHandle;
}

/** Opens the spool, creating the directory when it is missing; refuses one that others can write to. */
export async function openSpool(directory: string): Promise<Spool> {
  await translated(directory, () => mkdir(directory, { recursive: true, mode: 0o700 }));
  const stats = await translated(directory, () => lstat(directory));
  if (!stats.isDirectory()) throw new Fault("config-invalid", `spool.directory ${directory} is not a directory`);
  if ((stats.mode & 0o077) !== 0 || stats.uid !== process.geteuid?.()) {
    throw new Fault("config-invalid", `spool.directory ${directory} is open to others: snapshots hold every secret of the cluster`, {
      hint: `give it to the user that runs etcd-lifeboat, alone: chmod 700 ${directory}`,
    });
  }
  return {
    directory,
    create: (run) => createFile(directory, run),
    space: () => readSpace(directory),
    async requireSpace(bytes) {
      const { freeBytes } = await readSpace(directory);
      if (freeBytes >= bytes) return;
      throw new Fault("spool-space", `${directory} has ${freeBytes} bytes free, and the snapshot needs ${bytes}`, {
        hint: "free space there, or set spool.directory to a larger file system",
      });
    },
    sweep: () => sweep(directory),
  };
}

async function createFile(directory: string, run: string): Promise<SpoolFile> {
  const path = join(directory, `${run}.${process.pid}.${await startOf(process.pid)}.spool`);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await translated(path, () => open(path, flags, 0o600));
  return {
    path,
    handle,
    async [Symbol.asyncDispose]() {
      await handle.close();
      await unlink(path);
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
  for (const name of await translated(directory, () => readdir(directory))) {
    const match = /^[0-9A-Z]{26}\.(\d{1,10})\.(\d{1,20})\.spool$/.exec(name);
    if (match === null) continue;
    if ((await startOf(Number(match[1]))) === match[2]) continue;
    const path = join(directory, name);
    const { size } = await translated(path, () => lstat(path));
    await translated(path, () => unlink(path));
    files += 1;
    bytes += size;
  }
  return { files, bytes };
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

/** Runs a file operation; its errors become faults that name the path. */
export async function translated<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw translate(path, error);
  }
}

function translate(path: string, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  switch (code) {
    case undefined:
      return error;
    case "ENOSPC":
    case "EDQUOT":
      return new Fault("spool-space", `no space left for ${path}`, {
        hint: "free space there, or set spool.directory to a larger file system",
        cause: error,
      });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new Fault("spool-failed", `${path} cannot be written: ${code}`, {
        hint: "spool.directory must belong to the user that runs etcd-lifeboat",
        cause: error,
      });
    default:
      return new Fault("spool-failed", `${path}: ${code}`, { cause: error });
  }
}
