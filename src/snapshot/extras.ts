import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { pack, type Pack } from "tar-stream";
import { Fault } from "../faults.ts";

/** Files beside the database that a restored cluster needs (PKI, manifests), as one tar archive; only ever stored encrypted. */
export interface Extras {
  readonly tar: Uint8Array;
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  /** What was asked for and could not be read. The backup goes on without it, and says so. */
  readonly missing: readonly { readonly path: string; readonly why: string }[];
}

const totalBytesAtMost = 32 * 1024 * 1024;
const filesAtMost = 10_000;

/** Reads files and directories (recursively, symbolic links as links). Rejects with `config-invalid` when they are far too many or too large. */
export async function readExtras(paths: readonly string[]): Promise<Extras> {
  const archive = pack();
  const collected = Array.fromAsync(archive as AsyncIterable<Uint8Array>);
  const files: { path: string; bytes: number }[] = [];
  const missing: { path: string; why: string }[] = [];
  try {
    for (const path of paths) await addPath(archive, path, files, missing);
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
): Promise<void> {
  try {
    const stats = await lstat(path);
    const header = { name: path.replace(/^\/+/, ""), mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid, mtime: stats.mtime };
    if (stats.isDirectory()) {
      for (const name of (await readdir(path)).toSorted()) await addPath(archive, join(path, name), files, missing);
    } else if (stats.isSymbolicLink()) {
      archive.entry({ ...header, type: "symlink", linkname: await readlink(path), size: 0 });
      files.push({ path, bytes: 0 });
    } else if (stats.isFile()) {
      checkBounds(files, path, stats.size);
      const content = await readFile(path);
      checkBounds(files, path, content.length);
      archive.entry(header, content);
      files.push({ path, bytes: content.length });
    } else {
      missing.push({ path, why: "neither a file, a directory nor a symbolic link" });
    }
  } catch (error) {
    if (error instanceof Fault) throw error;
    missing.push({ path, why: (error as NodeJS.ErrnoException).code ?? String(error) });
  }
}

function checkBounds(files: readonly { readonly bytes: number }[], path: string, bytes: number): void {
  const total = files.reduce((sum, file) => sum + file.bytes, bytes);
  if (total <= totalBytesAtMost && files.length < filesAtMost) return;
  throw new Fault("config-invalid", `repository.extras are too much at ${path}: more than ${totalBytesAtMost} bytes or ${filesAtMost} files`, {
    hint: "extras are for keys and manifests; name smaller directories",
  });
}
