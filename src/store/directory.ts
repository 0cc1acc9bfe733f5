import { createHash, randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, readdir, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault, throwIfAborted } from "../faults.ts";
import { crc32c } from "../crc32c.ts";
import { Root, isSystemError, syncDirectory } from "./directory-root.ts";
import { pull } from "./source.ts";
import { isObjectName, maximumDocumentBytes } from "./store.ts";
import type { NameRange, ObjectEntry, ObjectHead, Store, Uploaded } from "./store.ts";

export interface DirectoryStoreOptions {
  /** Must exist; it is never created, since a missing one is usually a file system that is not mounted. */
  readonly directory: string;
}

const pieceBytes = 1024 * 1024;

/**
 * Objects as files (0600) under one directory. Create-only is link(2) of a synced temporary file, since rename(2) overwrites;
 * an object is reported as written only when its bytes, its name and every directory above it are on the disk.
 */
export function openDirectoryStore({ directory }: DirectoryStoreOptions): Store {
  const root = new Root(directory);
  return {
    description: `directory:${directory}`,

    async create(name, body, signal) {
      await root.work("write", name, signal, async (path) => {
        if (body.length > maximumDocumentBytes) throw tooLarge(name, body.length);
        const published = await root.publish(path, signal, async (file) => await writeFully(file, body));
        if (!published && !(await sameBytes(path, body))) throw exists(name);
        // Also after "the same bytes are there": the attempt that wrote them may have died before it synced.
        if (!published) await root.syncParents(path);
      });
    },

    async upload(name, source, signal) {
      return await root.work("write", name, signal, async (path) => {
        let uploaded: Uploaded | undefined;
        const published = await root.publish(path, signal, async (file) => {
          uploaded = await writeStream(file, source, signal);
        });
        if (!published || uploaded === undefined) throw exists(name);
        return uploaded;
      });
    },

    async read(name, signal) {
      return await root.work("read", name, signal, async (path) => {
        await using file = await root.openObject(path, name);
        const { size } = await file.stat();
        if (size > maximumDocumentBytes) throw tooLarge(name, size);
        return await file.readFile();
      });
    },

    async *download(name, signal) {
      const file = await root.work("read", name, signal, async (path) => await root.openObject(path, name));
      try {
        const { size } = await root.work("read", name, signal, async () => await file.stat());
        let gone = 0;
        for (;;) {
          // A buffer for each piece, since the consumer may keep it.
          const piece = Buffer.allocUnsafeSlow(Math.max(1, Math.min(pieceBytes, size - gone)));
          const { bytesRead } = await root.work(
            "read",
            name,
            signal,
            async () => await file.read(piece, 0, piece.length),
          );
          if (bytesRead === 0 && gone === size) return;
          gone += bytesRead;
          if (bytesRead === 0 || gone > size) {
            throw new Fault("store-damaged", `${name} changed its size from ${size} bytes while it was read`);
          }
          yield piece.subarray(0, bytesRead);
        }
      } finally {
        await file.close();
      }
    },

    async head(name, signal) {
      return await root.work("look at", name, signal, async (path): Promise<ObjectHead | undefined> => {
        const found = await root.objectStat(path);
        return found?.isFile() === true ? { storedBytes: found.size, crc32c: undefined } : undefined;
      });
    },

    async *list(range, signal) {
      const top = await root.work("list", undefined, signal, async () => await root.path());
      yield* listUnder(root, top, "", typeof range === "string" ? { prefix: range, after: "" } : range, signal);
    },

    async remove(name, signal) {
      await root.work("remove", name, signal, async (path) => {
        const found = await root.objectStat(path);
        if (found?.isFile() !== true) return;
        await unlink(path);
        await syncDirectory(dirname(path));
      });
    },

    async sweep(olderThanMs, signal) {
      return await root.work("sweep", undefined, signal, async () => await sweepTemporary(root, olderThanMs, signal));
    },

    async now(signal) {
      return await root.work("date", undefined, signal, async () => await dateNow(await root.temporary()));
    },
  };
}

async function writeStream(
  file: FileHandle,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Uploaded> {
  const sha256 = createHash("sha256");
  let storedBytes = 0;
  let crc = 0;
  for await (const chunk of pull(source, signal)) {
    sha256.update(chunk);
    crc = crc32c(chunk, crc);
    await writeFully(file, chunk);
    storedBytes += chunk.length;
  }
  return { storedBytes, sha256: sha256.digest("hex"), crc32c: crc };
}

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done);
    done += bytesWritten;
  }
}

async function sameBytes(path: string, body: Uint8Array): Promise<boolean> {
  const found = await lstat(path);
  if (!found.isFile() || found.size !== body.length) return false;
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const same = body.length === found.size && Buffer.compare(await file.readFile(), body) === 0;
  if (same) await file.sync();
  return same;
}

/** Files below `parent` in byte order of their full names; at most one directory's entries per level are held. */
async function* listUnder(
  root: Root,
  top: string,
  parent: string,
  range: NameRange,
  signal: AbortSignal,
): AsyncGenerator<ObjectEntry> {
  const entries = await root.work("list", undefined, signal, async () => await entriesOf(join(top, parent)));
  for (const { name, isDirectory } of entries) {
    throwIfAborted(signal);
    const full = parent + name;
    const { prefix, after } = range;
    // All names below a directory that sorts before `after`, and is not above it, do so too.
    if (full <= after && !(isDirectory && after.startsWith(full))) continue;
    if (isDirectory) {
      if (full.startsWith(prefix) || prefix.startsWith(full)) yield* listUnder(root, top, full, range, signal);
    } else if (full.startsWith(prefix) && isObjectName(full)) {
      const found = await root.work("list", undefined, signal, async () => await root.objectStat(join(top, full)));
      if (found?.isFile() !== true) continue;
      // The change time, which nobody can set, and which file it is.
      const tag = `${found.ino}.${found.ctimeMs}`;
      yield { name: full, storedBytes: found.size, modifiedMs: Math.floor(found.mtimeMs), tag };
    }
  }
}

/** A directory sorts as its name with a slash: `a-b` < `a.b` < `a/c` < `a0`, as in a flat list of full names. */
async function entriesOf(path: string): Promise<{ name: string; isDirectory: boolean }[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries
      .filter((entry) => isObjectName(entry.name) && (entry.isDirectory() || entry.isFile()))
      .map((entry) => ({ name: entry.isDirectory() ? `${entry.name}/` : entry.name, isDirectory: entry.isDirectory() }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return [];
    throw error;
  }
}

/** The file system's own "now" is the date of a file just made: a network file system may have another clock than we. */
async function dateNow(directory: string): Promise<number> {
  const probe = join(directory, randomUUID());
  await (await open(probe, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)).close();
  const { mtimeMs } = await lstat(probe);
  await unlink(probe);
  return mtimeMs;
}

async function sweepTemporary(root: Root, olderThanMs: number, signal: AbortSignal): Promise<number> {
  const directory = await root.temporary();
  const names = await readdir(directory);
  if (names.length === 0) return 0;
  const nowMs = await dateNow(directory);
  let swept = 0;
  for (const name of names) {
    throwIfAborted(signal);
    if (await removeStale(join(directory, name), nowMs - olderThanMs)) swept += 1;
  }
  return swept;
}

/** Two sweepers may meet: what the other one removed is gone, not an error. */
async function removeStale(path: string, beforeMs: number): Promise<boolean> {
  try {
    const found = await lstat(path);
    if (found.isDirectory() || found.mtimeMs > beforeMs) return false;
    await unlink(path);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return false;
    throw error;
  }
}

function exists(name: string): Fault {
  return new Fault("store-exists", `${name} exists already`);
}

function tooLarge(name: string, bytes: number): Fault {
  return new Fault("store-damaged", `${name} has ${bytes} bytes, a document has at most ${maximumDocumentBytes}`);
}
