import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import type { Stats } from "node:fs";
import { link, lstat, mkdir, open, realpath, stat, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault, throwIfAborted } from "../faults.ts";
import { unwrapSourceError } from "./source.ts";
import { isObjectName } from "./store.ts";

/** Where unfinished writes live; object names never start with a dot, so it can never be one. */
const temporaryDirectory = ".tmp";

/** The directory itself: finds paths inside it, publishes files in it, and says what goes wrong there. */
export class Root {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Its real path, so that symbolic links below it can be told from those above it. */
  async path(): Promise<string> {
    const path = await realpath(this.#directory);
    if (!(await stat(path)).isDirectory()) throw this.#missing("is not a directory");
    return path;
  }

  /** Runs `act` with the path of `name`, and turns what the file system says into faults. */
  async work<T>(
    verb: string,
    name: string | undefined,
    signal: AbortSignal,
    act: (path: string) => Promise<T>,
  ): Promise<T> {
    throwIfAborted(signal);
    if (name !== undefined && !isObjectName(name)) throw badName(name);
    try {
      return await act(join(await this.path(), name ?? ""));
    } catch (error) {
      if (error instanceof Fault || !isSystemError(error)) throw unwrapSourceError(error);
      if (error.code === "ENOENT" && error.path === this.#directory) throw this.#missing("does not exist", error);
      throw directoryFault(error, `cannot ${verb} ${name ?? "objects"} in ${this.#directory}`);
    }
  }

  #missing(what: string, cause?: unknown): Fault {
    return new Fault("store-missing", `store directory ${this.#directory} ${what}`, {
      hint: "is its file system mounted? create the directory yourself if it is new",
      cause,
    });
  }

  /** Opens an object for reading; a link in its place, or in the place of a directory above it, is not an object. */
  async openObject(path: string, name: string): Promise<FileHandle> {
    if ((await this.objectStat(path))?.isFile() !== true) throw notThere(name);
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  }

  /** lstat of an object; undefined when nothing is there, or only by way of a symbolic link. */
  async objectStat(path: string): Promise<Stats | undefined> {
    try {
      const parent = dirname(path);
      if ((await realpath(parent)) !== parent) return undefined;
      return await lstat(path);
    } catch (error) {
      if (isSystemError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR" || error.code === "ELOOP")) {
        await this.path();
        return undefined;
      }
      throw error;
    }
  }

  /** Writes a file by `fill` and gives it its name when that is free; false when it is taken. */
  async publish(path: string, signal: AbortSignal, fill: (file: FileHandle) => Promise<void>): Promise<boolean> {
    const temporary = join(await this.temporary(), randomUUID());
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      try {
        await fill(file);
        // Never retried: after a failed fsync the kernel may have dropped the pages, and a second one would say all is well.
        await file.sync();
      } finally {
        await file.close();
      }
      throwIfAborted(signal);
      await this.#makeParents(path);
      try {
        await link(temporary, path);
      } catch (error) {
        if (isSystemError(error) && error.code === "EEXIST") return false;
        throw error;
      }
    } finally {
      await unlink(temporary);
    }
    await syncDirectory(dirname(path));
    return true;
  }

  /** Our own directory for unfinished files, on the same file system as the objects. */
  async temporary(): Promise<string> {
    const path = join(await this.path(), temporaryDirectory);
    if (await made(path)) await syncDirectory(dirname(path));
    if (!(await lstat(path)).isDirectory())
      throw this.#missing(`holds a ${temporaryDirectory} that is not a directory`);
    return path;
  }

  async syncParents(path: string): Promise<void> {
    const root = await this.path();
    for (let parent = dirname(path); ; parent = dirname(parent)) {
      await syncDirectory(parent);
      if (parent === root) return;
    }
  }

  async #makeParents(path: string): Promise<void> {
    const root = await this.path();
    let parent = root;
    for (const segment of dirname(path).slice(root.length).split("/").filter(Boolean)) {
      const child = join(parent, segment);
      // Whoever made it, its name must be on the disk before an object below it counts as written.
      const found = (await made(child)) ? undefined : await lstat(child);
      if (found?.isDirectory() === false) {
        throw new Fault("store-exists", `${child} is in the way: it is not a directory`);
      }
      if (found === undefined) await syncDirectory(parent);
      parent = child;
    }
  }
}

/** Makes a directory; false when it was there. */
async function made(path: string): Promise<boolean> {
  try {
    await mkdir(path, 0o700);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === "EEXIST") return false;
    throw error;
  }
}

/** Puts the names in a directory on the disk. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await directory.sync();
}

/** What an errno means for the reader; exported for its test, since a full or failing disk is not at hand everywhere. */
export function directoryFault(error: NodeJS.ErrnoException, message: string): Fault {
  const options = { cause: error };
  switch (error.code) {
    case "ENOSPC":
      return new Fault("store-full", `${message}: no space left`, {
        ...options,
        hint: "free space, or shorten retention",
      });
    case "EDQUOT":
      return new Fault("store-full", `${message}: disk quota exceeded`, { ...options, hint: "raise the quota" });
    case "EACCES":
    case "EPERM":
      return new Fault("store-denied", `${message}: permission denied`, {
        ...options,
        hint: "the directory must belong to the user that etcd-lifeboat runs as",
      });
    case "EROFS":
      return new Fault("store-denied", `${message}: the file system is read-only`, {
        ...options,
        hint: "remount it; under systemd name the directory in ReadWritePaths=",
      });
    case "ENOENT":
    case "ELOOP":
      return new Fault("store-object-missing", `${message}: no such object`, options);
    default:
      return new Fault("store-refused", `${message}: ${error.code ?? "unknown error"}`, {
        ...options,
        ...(error.code === "EIO" ? { hint: "the disk reports errors; see the kernel's log" } : {}),
      });
  }
}

/** True for what a system call rejected with. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error && typeof error.code === "string" && "syscall" in error;
}

function notThere(name: string): Fault {
  return new Fault("store-object-missing", `${name} does not exist`);
}

function badName(name: string): Fault {
  return new Fault("store-refused", `not an object name: ${JSON.stringify(name.slice(0, 80))}`);
}
