import { failpoint } from "../failpoints.ts";
import { Fault, isFault, throwIfAborted } from "../faults.ts";
import { readEntry } from "../repository/catalog.ts";
import { digestOf } from "../repository/documents.ts";
import type { ListedBackup } from "../repository/listing.ts";
import type { Manifest } from "../repository/manifest.ts";
import { goneName, lineageDocumentName, manifestName, pinName, proofName, snapshotOf } from "../repository/names.ts";
import { refuseLate } from "./commit.ts";
import type { CopyDependencies, CopySurvey } from "./copy.ts";
import { exhaust, readStored } from "./stored.ts";

/**
 * Copies one backup. `settled`: there is nothing to copy, since it cannot be believed, or the copy has given it up, by its own retention or as nobody's.
 */
export async function copyBackup(
  deps: CopyDependencies,
  { belief, copy }: CopySurvey,
  listed: ListedBackup,
  signal: AbortSignal,
): Promise<"copied" | "settled"> {
  const { store, target, clock, emit } = deps;
  const { lineage, backup } = listed;
  const beganMs = clock.elapsed();
  const entry = await readEntry(store, listed, belief, signal);
  if (entry.manifest === undefined) {
    // It went while we looked; anything else is told by those who read the first store.
    const { refused } = entry;
    if (refused.code === "store-damaged") throw refused;
    return "settled";
  }
  const { manifest } = entry;
  const snapshot = snapshotOf(manifest.data.object);
  const mark = goneName(lineage, snapshot);
  if (copy.marks.some((known) => goneName(known.lineage, known.snapshot) === mark)) return "settled";
  for (const object of objectsOf(manifest)) await copyObject(deps, object, signal);
  failpoint("copy-objects-stored");
  const name = manifestName(lineage, backup);
  const bytes = await store.read(name, signal);
  if (digestOf(bytes) !== entry.manifestSha256)
    throw new Fault("store-damaged", `${name} was replaced while it was copied`);
  await copyDocument(deps, name, bytes, signal);
  failpoint("copy-manifest-stored");
  await refuseLate(target.store, lineage, snapshot, manifest.data.object, signal);
  emit({
    name: "copy.stored",
    store: target.name,
    backup,
    lineage,
    schedule: manifest.slot?.schedule,
    committedMs: Date.parse(manifest.committedAt),
    storedBytes: objectsOf(manifest).reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    durationMs: Math.round(clock.elapsed() - beganMs),
  });
  return "copied";
}

/** An object as its manifest names it; only data has a checksum there. */
interface CopiedObject {
  readonly object: string;
  readonly storedBytes: number;
  readonly sha256: string;
  readonly crc32c?: number;
}

/** Data last: without it, nothing else is of use, and with it, nothing is missing. */
function objectsOf({ data, extras, note }: Manifest): readonly CopiedObject[] {
  return [note, ...(extras === null ? [] : [extras]), data];
}

/** Bytes come from the first store and are compared with the manifest on the way; what stands there in the end is read back, or its checksum is asked for. */
async function copyObject(deps: CopyDependencies, object: CopiedObject, signal: AbortSignal): Promise<void> {
  const { store, target } = deps;
  const name = object.object;
  // Looked for first: an upload is refused only at its end.
  const before = await target.store.head(name, signal);
  if (before === undefined) {
    try {
      await target.store.upload(name, readStored(store, object, signal), signal);
    } catch (error) {
      if (isFault(error, "object-damaged"))
        throw new Fault("object-damaged", `${error.message} (in ${store.description})`, {
          hint: error.hint,
          cause: error,
        });
      // Another daemon was faster: what it stored is as good, if it is the same.
      if (!isFault(error, "store-exists")) throw error;
    }
    failpoint("copy-object-uploaded");
  }
  const after = before ?? (await target.store.head(name, signal));
  const asked = object.crc32c !== undefined && object.storedBytes > (deps.readBackBelowBytes ?? Infinity);
  if (asked && after?.crc32c !== undefined) {
    if (after.crc32c === object.crc32c && after.storedBytes === object.storedBytes) return;
    throw takenFault(target, name);
  }
  try {
    await exhaust(readStored(target.store, object, signal));
  } catch (error) {
    if (isFault(error, "object-damaged")) throw takenFault(target, name, error);
    throw error;
  }
}

/** Something else has the name of what is to be copied. */
export function takenFault(target: CopyDependencies["target"], name: string, cause?: unknown): Fault {
  return new Fault("store-exists", `${name} stands in the copy ${target.name} with other bytes`, {
    hint: `nothing is ever rewritten: look whose it is, and remove it from ${target.store.description}; it is copied then`,
    cause,
  });
}

/** A document's bytes as they are; the very same ones may be there already. */
async function copyDocument(
  deps: CopyDependencies,
  name: string,
  bytes: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  try {
    await deps.target.store.create(name, bytes, signal);
  } catch (error) {
    if (!isFault(error, "store-exists")) throw error;
    throw takenFault(deps.target, name, error);
  }
}

/** Histories of the first store that the copy does not know. */
export async function copyLineages(
  deps: CopyDependencies,
  { source, copy }: CopySurvey,
  signal: AbortSignal,
): Promise<void> {
  // A lineage is listed by its backups, too: only its document counts.
  const there = new Set(copy.documents);
  for (const lineage of source.documents) {
    if (there.has(lineage)) continue;
    const name = lineageDocumentName(lineage);
    await copyDocument(deps, name, await deps.store.read(name, signal), signal);
  }
}

/** Proofs and pins of what the copy has, also of what it had before: they come later than their backup. */
export async function copyBesides(
  deps: CopyDependencies,
  { source, copy }: CopySurvey,
  copied: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const there = new Set([...copy.proofs, ...copy.pins].map(({ stored }) => stored.name));
  const now = new Set([...copy.backups.map(nameOf), ...copied]);
  const names = [
    ...source.proofs.flatMap(({ lineage, proof }) =>
      now.has(`${lineage}/${proof.backup}`) ? [proofName(lineage, proof)] : [],
    ),
    ...source.pins.flatMap(({ lineage, backup, number }) =>
      now.has(`${lineage}/${backup}`) ? [pinName(lineage, backup, number)] : [],
    ),
  ].filter((name) => !there.has(name));
  for (const name of names) {
    throwIfAborted(signal);
    try {
      await copyDocument(deps, name, await deps.store.read(name, signal), signal);
    } catch (error) {
      // It may have expired since it was listed.
      if (!isFault(error, "store-object-missing")) throw error;
    }
  }
}

/** What finds a backup in two stores. */
export function nameOf({ lineage, backup }: { readonly lineage: string; readonly backup: string }): string {
  return `${lineage}/${backup}`;
}
