import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { link, lstat, open, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { Fault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import type { Store } from "../store/store.ts";
import { checkContent } from "./content.ts";
import type { Decryption } from "./encode.ts";
import { checkSizes } from "./sizes.ts";
import { translated, writeAll, type Remedies, type SpoolFile } from "./spool.ts";
import type { Scan } from "./take.ts";
import { checkSeal, decodeObject } from "./stored.ts";

/** Writes a backup's plain snapshot (database and seal) into an empty file, checking stored bytes, frames and seal on the way. */
export async function spoolPlain(
  store: Store,
  manifest: Manifest,
  encryption: Decryption,
  file: Pick<SpoolFile, "path" | "handle">,
  onBytes: (doneBytes: number) => void,
  signal: AbortSignal,
  remedies?: Remedies,
): Promise<void> {
  const { data, content } = manifest;
  const decoded = decodeObject(store, data, { frames: toFrames(data.compression.frames), encryption }, signal);
  let position = 0;
  for await (const chunk of checkSeal(data.object, decoded, content)) {
    await writeAll(file, chunk, position, remedies);
    position += chunk.length;
    onBytes(position);
  }
}

/**
 * Fetches a backup as a plain `.db` file with its seal, as `etcdctl snapshot save` writes it. The file appears under `output` only when it is
 * complete, durable and checked as `verify --level deep` checks it; an existing file is never replaced.
 */
export async function fetchBackup(
  { store, scan }: { readonly store: Store; readonly scan: Scan },
  manifest: Manifest,
  encryption: Decryption,
  output: string,
  onBytes: (doneBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  checkSizes(manifest);
  if (await exists(output)) throw taken(output);
  if (!(await exists(dirname(output)))) {
    throw new Fault("usage", `${dirname(output)} does not exist`, { hint: "create it, or give another --output" });
  }
  // Random, since pids repeat in containers: what a killed fetch left behind must not be in the way of the next one.
  const partial = `${output}.${randomBytes(6).toString("hex")}.partial`;
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await translated(partial, () => open(partial, flags, 0o600), outputRemedies);
  const remove = async (): Promise<void> => await translated(partial, () => unlink(partial), outputRemedies);
  try {
    try {
      await spoolPlain(store, manifest, encryption, { path: partial, handle }, onBytes, signal, outputRemedies);
      await checkContent(scan, manifest, partial, "deep", signal);
      await translated(partial, () => handle.sync(), outputRemedies);
    } catch (error) {
      await handle.close().catch(() => undefined); // the first trouble says more
      throw error;
    }
    await translated(partial, () => handle.close(), outputRemedies);
    await linkNew(partial, output);
  } catch (error) {
    await remove().catch(() => undefined); // the first trouble says more
    throw error;
  }
  await remove();
  const directory = await translated(output, () => open(dirname(output), constants.O_RDONLY), outputRemedies);
  try {
    await translated(output, () => directory.sync(), outputRemedies);
  } finally {
    await directory.close();
  }
}

const outputRemedies: Remedies = {
  space: "free space there, or give another --output",
  access: "give an --output in a directory that you may write to",
};

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    return translated(path, () => Promise.reject(error as Error), outputRemedies);
  }
}

function taken(output: string, cause?: unknown): Fault {
  return new Fault("usage", `${output} exists already`, {
    hint: "give another --output, or move that file away",
    cause,
  });
}

/** link(2) refuses an existing target where rename(2) would replace it. */
async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST")
      return translated(to, () => Promise.reject(error as Error), outputRemedies);
    throw taken(to, error);
  }
}

/** A manifest's list of frames as the decoder takes it. */
export function toFrames(
  frames: readonly (readonly [number, number])[],
): { plainBytes: number; storedBytes: number }[] {
  return frames.map(([plainBytes, storedBytes]) => ({ plainBytes, storedBytes }));
}
