import { randomBytes } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { lstat, mkdir, open, readdir, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";

/**
 * Files that may be lost at any time, in a directory of ours (0700, files 0600). Whatever another user could have put or changed there is not read.
 * Nothing here is a failure of what is done with it: it is told why there is no file, and everything works without.
 */

/** Names of files in such a directory are these, and nothing else in it is touched. */
const ownFile = /^[0-9A-Z]{26}\.[0-9a-f]{16}\.json$/;
const unfinishedFile = /^[0-9A-Z]{26}\.[0-9a-f]{16}\.json\.[0-9a-f]{12}$/;

export const maximumCacheBytes = 64 * 1024 * 1024;
/** Files that are kept, one for each repository; the ones written longest ago go first. */
const maximumFiles = 4;
const deadAfterMs = 60 * 60_000;

/** Why there is none; undefined where there was never one. */
export type CacheRead =
  { readonly bytes: Buffer } | { readonly bytes: undefined; readonly problem: string | undefined };

export async function readCacheFile(directory: string, name: string): Promise<CacheRead> {
  const path = join(directory, name);
  try {
    const unsafe = (await problemOf(dirname(directory))) ?? (await problemOf(directory));
    if (unsafe !== undefined) return { bytes: undefined, problem: unsafe };
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = await file.stat();
    const problem = stats.isFile() ? unsafeStats(path, stats) : `${path} is not a regular file`;
    if (problem !== undefined) return { bytes: undefined, problem };
    if (stats.size > maximumCacheBytes) return { bytes: undefined, problem: `${path} is larger than it may be` };
    return { bytes: await file.readFile() };
  } catch (error) {
    return { bytes: undefined, problem: isMissing(error) ? undefined : `${path} cannot be read: ${codeOf(error)}` };
  }
}

/** Replaces a file at once, so that who reads it meanwhile sees the old one or the new one. Resolves with what went wrong, if anything did. */
export async function writeCacheFile(directory: string, name: string, bytes: Uint8Array): Promise<string | undefined> {
  const path = join(directory, name);
  const unfinished = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    // The directory above belongs to others to make: one that is made by the wrong user is refused by the daemon.
    const unsafeParent = await problemOf(dirname(directory));
    if (unsafeParent !== undefined) return unsafeParent;
    await mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
      if (codeOf(error) !== "EEXIST") throw error;
    });
    const unsafe = await problemOf(directory);
    if (unsafe !== undefined) return unsafe;
    await prune(directory, name);
    try {
      await using file = await open(unfinished, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
      await file.writeFile(bytes);
    } catch (error) {
      await unlink(unfinished).catch(() => undefined); // maybe it was never there; the first error is the one that counts
      throw error;
    }
    // Not synced: a checksum in it tells when the machine died in between.
    await rename(unfinished, path);
    return undefined;
  } catch (error) {
    return `${path} cannot be written: ${codeOf(error)}`;
  }
}

/** Removes what dead writers left, and the files of repositories that nobody has looked at for longest. */
async function prune(directory: string, keep: string): Promise<void> {
  const kept: { path: string; mtimeMs: number }[] = [];
  for (const name of await readdir(directory)) {
    if (name === keep || !(ownFile.test(name) || unfinishedFile.test(name))) continue;
    const path = join(directory, name);
    try {
      const { mtimeMs } = await lstat(path);
      if (ownFile.test(name)) kept.push({ path, mtimeMs });
      else if (Date.now() - mtimeMs > deadAfterMs) await unlink(path);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  const surplus = kept.toSorted((a, b) => b.mtimeMs - a.mtimeMs).slice(maximumFiles - 1);
  await Promise.all(surplus.map(({ path }) => unlink(path).catch(() => undefined))); // another process was faster
}

async function problemOf(directory: string): Promise<string | undefined> {
  const stats = await lstat(directory);
  return stats.isDirectory() ? unsafeStats(directory, stats) : `${directory} is not a directory`;
}

function unsafeStats(path: string, stats: Stats): string | undefined {
  const uid = process.geteuid?.();
  if (stats.uid !== uid) return `${path} belongs to uid ${stats.uid}, and this runs as uid ${uid}`;
  return (stats.mode & 0o077) === 0 ? undefined : `${path} is open to others`;
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === "ENOENT";
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
