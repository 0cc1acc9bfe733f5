import { constants } from "node:fs";
import { link, open, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { Fault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import type { Store } from "../store/store.ts";
import { decodeStored, type Decryption } from "./encode.ts";
import type { SpoolFile } from "./spool.ts";
import { translated } from "./spool.ts";
import { checkSeal, readStored } from "./stored.ts";

/** Writes a backup's plain snapshot (database and seal) into an empty file, checking stored bytes, frames and seal on the way. */
export async function spoolPlain(
  store: Store,
  manifest: Manifest,
  encryption: Decryption,
  file: Pick<SpoolFile, "path" | "handle">,
  onBytes: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const { data, content } = manifest;
  const decoded = decodeStored(readStored(store, data, signal), { frames: toFrames(data.compression.frames), encryption }, signal);
  let position = 0;
  for await (const chunk of checkSeal(data.object, decoded, content)) {
    for (let from = 0; from < chunk.length; ) {
      const { bytesWritten } = await translated(file.path, () => file.handle.write(chunk, from, chunk.length - from, position));
      from += bytesWritten;
      position += bytesWritten;
    }
    onBytes(position);
  }
}

/**
 * Fetches a backup as a plain `.db` file with its seal, as `etcdctl snapshot save` writes it. The file appears under `output` only when it is
 * complete, checked and durable; an existing file is never replaced.
 */
export async function fetchBackup(
  store: Store,
  manifest: Manifest,
  encryption: Decryption,
  output: string,
  onBytes: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const partial = `${output}.${process.pid}.partial`;
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await translated(partial, () => open(partial, flags, 0o600));
  try {
    try {
      await spoolPlain(store, manifest, encryption, { path: partial, handle }, onBytes, signal);
      await translated(partial, () => handle.sync());
    } finally {
      await handle.close();
    }
    await linkNew(partial, output);
  } finally {
    await unlink(partial);
  }
  const directory = await translated(output, () => open(dirname(output), constants.O_RDONLY));
  try {
    await translated(output, () => directory.sync());
  } finally {
    await directory.close();
  }
}

/** link(2) refuses an existing target where rename(2) would replace it. */
async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") return translated(to, () => Promise.reject(error as Error));
    throw new Fault("usage", `${to} exists already`, { hint: "give another --output, or move that file away", cause: error });
  }
}

/** A manifest's list of frames as the decoder takes it. */
export function toFrames(frames: readonly (readonly [number, number])[]): { plainBytes: number; storedBytes: number }[] {
  return frames.map(([plainBytes, storedBytes]) => ({ plainBytes, storedBytes }));
}
