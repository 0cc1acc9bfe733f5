import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pack, type Pack } from "tar-stream";

/** Files beside the database that a restored cluster needs (PKI, manifests), as one tar archive; only ever stored encrypted. */
export interface Extras {
  readonly tar: Uint8Array;
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  /** What was asked for and could not be read. The backup goes on without it, and says so. */
  readonly missing: readonly { readonly path: string; readonly why: string }[];
}

const totalBytesAtMost = 32 * 1024 * 1024;
const entriesAtMost = 10_000;
/** As JSON. The manifest names every path, and is a document that every store and reader bounds (`maximumDocumentBytes`). */
const pathBytesAtMost = 1024 * 1024;

interface Room {
  bytes: number;
  entries: number;
  pathBytes: number;
}

/**
 * Reads files and directories (recursively, symbolic links as links). What is beyond the bounds is missing like what cannot be read: a directory that has
 * grown too large must not keep the database from being backed up.
 */
export async function readExtras(paths: readonly string[]): Promise<Extras> {
  const archive = pack();
  const collected = Array.fromAsync(archive as AsyncIterable<Uint8Array>);
  const files: { path: string; bytes: number }[] = [];
  const missing: { path: string; why: string }[] = [];
  try {
    const room = { bytes: totalBytesAtMost, entries: entriesAtMost, pathBytes: pathBytesAtMost };
    for (const path of paths) await addPath(archive, path, files, missing, room);
    archive.finalize();
  } catch (error) {
    archive.destroy();
    await collected.catch(() => undefined); // ended by the line above; the first error is the one to tell
    throw error;
  }
  return { tar: Buffer.concat(await collected), files, missing };
}

async function addPath(
  archive: Pack,
  path: string,
  files: { path: string; bytes: number }[],
  missing: { path: string; why: string }[],
  room: Room,
): Promise<void> {
  if (room.entries === 0) return;
  room.entries -= 1;
  if (room.entries === 0) {
    missing.push({ path, why: `this and all that follows: more than ${entriesAtMost - 1} entries` });
    return;
  }
  room.pathBytes -= Buffer.byteLength(JSON.stringify(path));
  if (room.pathBytes < 0) {
    room.entries = 0;
    missing.push({
      path,
      why: `this and all that follows: their paths take more than ${pathBytesAtMost} bytes together`,
    });
    return;
  }
  try {
    const stats = await lstat(path);
    const header = {
      name: path.replace(/^\/+/, ""),
      mode: stats.mode & 0o7777,
      uid: stats.uid,
      gid: stats.gid,
      mtime: stats.mtime,
    };
    if (stats.isDirectory()) {
      for (const name of (await readdir(path)).toSorted())
        await addPath(archive, join(path, name), files, missing, room);
    } else if (stats.isSymbolicLink()) {
      archive.entry({ ...header, type: "symlink", linkname: await readlink(path), size: 0 });
      files.push({ path, bytes: 0 });
    } else if (stats.isFile()) {
      const content = stats.size > room.bytes ? undefined : await readFile(path);
      if (content === undefined || content.length > room.bytes) {
        missing.push({ path, why: `too large: extras are at most ${totalBytesAtMost} bytes together` });
        return;
      }
      room.bytes -= content.length;
      archive.entry(header, content);
      files.push({ path, bytes: content.length });
    } else {
      missing.push({ path, why: "neither a file, a directory nor a symbolic link" });
    }
  } catch (error) {
    missing.push({ path, why: (error as NodeJS.ErrnoException).code ?? String(error) });
  }
}
