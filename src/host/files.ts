import { constants, type BigIntStats } from "node:fs";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  statfs,
  unlink,
} from "node:fs/promises";
import { dirname, basename, join } from "node:path";
import { Fault, throwIfAborted } from "../faults.ts";
import { isErrno } from "./errors.ts";
import { maximumNames, type Owner, type PathFacts, type SpaceFacts, type WriteOptions } from "./host.ts";
import { readMountPoints } from "./proc.ts";

/** Files and directories of this machine, made and moved so that a power cut finds them as they were or as they shall be. Errors are the system's. */

export async function readSmall(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  let file;
  try {
    // A named pipe would wait for its writer for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
  await using opened = file;
  const facts = await opened.stat();
  if (!facts.isFile()) throw new Fault("host-failed", `${path} is no regular file`);
  // Files of /proc say that they are empty.
  const buffer = Buffer.alloc(Math.min(maxBytes, Math.max(facts.size, 64 * 1024)) + 1);
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await opened.read(buffer, length, buffer.length - length, null);
    if (bytesRead === 0) return buffer.subarray(0, length);
    length += bytesRead;
  }
  throw new Fault("host-failed", `${path} has more than ${buffer.length - 1} bytes`);
}

/** From an offset on, fewer where the file ends before. */
export async function readPart(path: string, offsetBytes: number, bytes: number): Promise<Uint8Array> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const buffer = Buffer.alloc(bytes);
  let length = 0;
  while (length < bytes) {
    const { bytesRead } = await file.read(buffer, length, bytes - length, offsetBytes + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

export async function writeDurably(path: string, bytes: Uint8Array, options: WriteOptions): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.etcd-lifeboat-new`);
  await rm(temporary, { force: true });
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await giveTo(file, options);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/** Sets owner before mode: a change of owner takes bits away. */
async function giveTo(
  file: { chmod(mode: number): Promise<void>; chown(uid: number, gid: number): Promise<void> },
  { mode, owner }: WriteOptions,
): Promise<void> {
  if (owner !== undefined) await file.chown(owner.uid, owner.gid);
  await file.chmod(mode);
}

export async function removeDurably(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return;
    throw error;
  }
  await syncDirectory(dirname(path));
}

export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await directory.sync();
}

export async function renameDurably(from: string, to: string): Promise<void> {
  if ((await lstatOrNothing(to)) !== undefined) throw new Fault("host-exists", `${to} is there already`);
  await rename(from, to);
  await syncDirectory(dirname(to));
  if (dirname(from) !== dirname(to)) await syncDirectory(dirname(from));
}

export async function makeDirectoryDurably(path: string, { mode, owner }: WriteOptions): Promise<void> {
  const missing: string[] = [];
  for (let at = path; (await lstatOrNothing(at)) === undefined; at = dirname(at)) missing.push(at);
  for (const directory of missing.toReversed()) {
    try {
      await mkdir(directory, 0o700);
    } catch (error) {
      // Somebody else made it meanwhile.
      if (!isErrno(error, "EEXIST")) throw error;
    }
    if (directory === path) await own(directory, { mode, owner });
    await syncDirectory(dirname(directory));
  }
  if (!(await lstat(await realpath(path))).isDirectory()) throw new Fault("host-exists", `${path} is no directory`);
}

/** Gives a file or directory its owner and mode. */
export async function own(
  path: string,
  { mode, owner }: { readonly mode: number; readonly owner?: Owner | undefined },
): Promise<void> {
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
  await chmod(path, mode);
}

export async function lstatOrNothing(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    throw error;
  }
}

export async function factsOf(path: string): Promise<Omit<PathFacts, "selinux"> | undefined> {
  const facts = await lstatOrNothing(path);
  if (facts === undefined) return undefined;
  const kind = facts.isFile() ? "file" : facts.isDirectory() ? "directory" : facts.isSymbolicLink() ? "link" : "other";
  return {
    kind,
    sizeBytes: Number(facts.size),
    mode: Number(facts.mode & 0o7777n),
    uid: Number(facts.uid),
    gid: Number(facts.gid),
    device: facts.dev.toString(),
    inode: facts.ino,
    isMountPoint: kind === "link" ? false : (await mountPoints()).has(await realpath(path)),
    target: kind === "link" ? await readlink(path) : undefined,
    modifiedMs: Number(facts.mtimeMs),
  };
}

export async function mountsBelow(path: string): Promise<readonly string[]> {
  if ((await lstatOrNothing(path)) === undefined) return [];
  const top = await realpath(path);
  const under = top === "/" ? "/" : `${top}/`;
  return [...(await mountPoints())].filter((point) => point.startsWith(under) && point !== top).toSorted();
}

async function mountPoints(): Promise<ReadonlySet<string>> {
  return readMountPoints(await readFile("/proc/self/mountinfo", "utf8"));
}

export async function namesIn(path: string): Promise<readonly string[] | undefined> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  if (names.length > maximumNames) throw new Fault("host-failed", `${path} has more than ${maximumNames} names`);
  return names.sort();
}

export async function bytesBelow(path: string, signal: AbortSignal): Promise<number> {
  const top = await lstat(path, { bigint: true });
  let blocks = 0n;
  const walk = async (at: string, facts: BigIntStats): Promise<void> => {
    throwIfAborted(signal);
    if (facts.dev !== top.dev) return;
    blocks += facts.blocks;
    if (!facts.isDirectory()) return;
    for (const name of await readdir(at)) {
      const inner = await lstatOrNothing(join(at, name));
      if (inner !== undefined) await walk(join(at, name), inner);
    }
  };
  await walk(path, top);
  return Number(blocks * 512n);
}

export async function spaceAt(path: string): Promise<SpaceFacts> {
  let at = path;
  let facts = await lstatOrNothing(at);
  while (facts === undefined) {
    at = dirname(at);
    facts = await lstatOrNothing(at);
  }
  const space = await statfs(at, { bigint: true });
  return {
    freeBytes: Number(space.bavail * space.bsize),
    freeInodes: space.files === 0n ? undefined : Number(space.ffree),
    device: facts.dev.toString(),
  };
}

/** Takes the name away first: a tree that is half removed never bears the name of a whole one. */
export async function removeTreeDurably(path: string): Promise<void> {
  const going = join(dirname(path), `.${basename(path)}.etcd-lifeboat-removed`);
  const facts = await lstatOrNothing(path);
  if (facts !== undefined) {
    const inside = [...(await mountPoints())].filter((point) => point === path || point.startsWith(`${path}/`));
    if (path === "/" || inside.length > 0) {
      throw new Fault("host-cross-device", `${path} is not removed: something is mounted at ${inside[0] ?? "/"}`);
    }
    await rm(going, { recursive: true, force: true });
    await rename(path, going);
    await syncDirectory(dirname(path));
  }
  // Also what an earlier call began.
  if ((await lstatOrNothing(going)) === undefined) return;
  await rm(going, { recursive: true, force: true });
  await syncDirectory(dirname(path));
}
