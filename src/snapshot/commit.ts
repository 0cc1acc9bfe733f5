import { Fault, abortFault, isFault } from "../faults.ts";
import { failpoint } from "../failpoints.ts";
import type { Clock } from "../clock.ts";
import { formatInstant } from "../repository/documents.ts";
import { writeManifest, type Manifest } from "../repository/manifest.ts";
import { manifestName, snapshotObjects } from "../repository/names.ts";
import type { Signer } from "../repository/signature.ts";
import type { Store, Uploaded } from "../store/store.ts";
import type { AgeRecipient } from "./age.ts";
import { decodeStored, encodeBytes, encodeSpool, type Decryption, type Encoding } from "./encode.ts";
import { readExtras } from "./extras.ts";
import { writeRestoreNote } from "./note.ts";
import type { PhaseTimer } from "./phases.ts";
import { sealBytes } from "./seal.ts";
import { checkSeal, exhaust, readStored } from "./stored.ts";

/** How backups of a repository are encoded, verified and signed; from its configuration. */
export interface Encoder {
  readonly compressionLevel: number;
  /** Empty: not encrypted. */
  readonly recipients: readonly AgeRecipient[];
  /** Paths of extras; only with recipients. */
  readonly extras: readonly string[];
  readonly signer: Signer | undefined;
  /** Objects larger than this are checked by their full-object checksum where the store has one; undefined: always read back. */
  readonly readBackBelowBytes: number | undefined;
}

/** Everything a manifest says that was known before anything was stored. */
export type Draft = Omit<Manifest, "data" | "extras" | "extrasMissing" | "note" | "committedAt">;

export interface CommitDependencies {
  readonly store: Store;
  readonly clock: Clock;
  readonly encoder: Encoder;
}

/**
 * Makes a spooled snapshot a backup: data, extras and note are stored and verified, the manifest comes last and create-only.
 * `store-exists` means that another daemon committed this backup's key first; what was stored here is then an orphan, harmless and collected later.
 */
export async function commitBackup(
  deps: CommitDependencies,
  draft: Draft,
  spoolPath: string,
  snapshotId: string,
  phases: PhaseTimer,
  signal: AbortSignal,
): Promise<Manifest> {
  const { store, encoder, clock } = deps;
  const objects = snapshotObjects(draft.lineage, snapshotId, encoder.recipients.length > 0);
  const { extras, extrasMissing } = await phases.run("extras", () => storeExtras(deps, objects.extras, signal));
  failpoint("extras-stored");
  const plainBytes = draft.content.dbBytes + sealBytes;
  const encoding = encodeSpool(spoolPath, { compressionLevel: encoder.compressionLevel, recipients: encoder.recipients, plainBytes }, signal);
  const uploaded = await phases.run("upload", (progress) => {
    return store.upload(objects.data, counted(encoding.bytes, progress), signal);
  });
  failpoint("data-uploaded");
  const data: Omit<Manifest["data"], "verified"> = {
    object: objects.data,
    ...uploaded,
    plainBytes,
    compression: { format: "zstd", frames: encoding.facts().frames.map((frame) => [frame.plainBytes, frame.storedBytes]) },
    encryption: encoder.recipients.length === 0 ? null : { format: "age-v1", recipients: encoder.recipients.map(({ text }) => text) },
  };
  const verified = await phases.run("readback", (progress) => verifyStored(deps, data, draft, encoding, progress, signal));
  failpoint("data-read-back");
  return phases.run("commit", async () => {
    const document = { ...draft, data: { ...data, verified }, extras, extrasMissing, committedAt: formatInstant(clock.now()) };
    const note = await storeNote(store, objects.note, document, signal);
    const manifest: Manifest = { ...document, note };
    failpoint("note-stored");
    await store.create(manifestName(draft.lineage, draft.backup), writeManifest(manifest, encoder.signer), signal);
    failpoint("manifest-stored");
    return manifest;
  });
}

/** What was stored is read, decrypted and decoded again and must end in the seal; or, where allowed, the store's own checksum is compared. */
async function verifyStored(
  { store, encoder }: CommitDependencies,
  data: Omit<Manifest["data"], "verified">,
  draft: Draft,
  encoding: Encoding,
  progress: (doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
): Promise<Manifest["data"]["verified"]> {
  if (encoder.readBackBelowBytes !== undefined && data.storedBytes > encoder.readBackBelowBytes) {
    if (await matchesChecksum(store, data, signal)) return "checksum";
  }
  const encryption: Decryption =
    encoding.fileKey === undefined ? { kind: "none" } : { kind: "file-key", fileKey: encoding.fileKey };
  const plain = decodeStored(readStored(store, data, signal), { frames: encoding.facts().frames, encryption }, signal);
  await exhaust(checkSeal(data.object, plain, draft.content), (doneBytes) => progress(doneBytes, data.plainBytes));
  return "read-back";
}

/** False where the store vouches for no full-object checksum; a wrong one is damage. */
async function matchesChecksum(store: Store, data: Pick<Manifest["data"], "object"> & Uploaded, signal: AbortSignal): Promise<boolean> {
  const head = await store.head(data.object, signal);
  if (head?.crc32c === undefined) return false;
  if (head.crc32c === data.crc32c && head.storedBytes === data.storedBytes) return true;
  throw new Fault("object-damaged", `${data.object} is not what was uploaded: the store's checksum or size differs`);
}

async function storeExtras(
  { store, encoder }: CommitDependencies,
  object: string,
  signal: AbortSignal,
): Promise<Pick<Manifest, "extras" | "extrasMissing">> {
  if (encoder.extras.length === 0) return { extras: null, extrasMissing: [] };
  const { tar, files, missing } = await readExtras(encoder.extras);
  if (files.length === 0) return { extras: null, extrasMissing: [...missing] };
  const { stored, facts } = await encodeBytes(tar, encoder, signal);
  const uploaded = await store.upload(object, once(stored), signal);
  await exhaust(readStored(store, { object, ...uploaded }, signal));
  const frames = facts.frames.map((frame): [number, number] => [frame.plainBytes, frame.storedBytes]);
  return {
    extras: { object, storedBytes: uploaded.storedBytes, sha256: uploaded.sha256, plainBytes: tar.length, frames, files: [...files] },
    extrasMissing: [...missing],
  };
}

async function storeNote(store: Store, object: string, document: Omit<Manifest, "note">, signal: AbortSignal): Promise<Manifest["note"]> {
  const bytes = new TextEncoder().encode(writeRestoreNote(document, store.description));
  const { storedBytes, sha256 } = await store.upload(object, once(bytes), signal);
  return { object, storedBytes, sha256 };
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  progress: (doneBytes: number, totalBytes: number | undefined) => void,
): AsyncGenerator<Uint8Array, void, void> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    yield chunk;
    failpoint("data-half-uploaded");
    progress(bytes, undefined);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

/** True when a commit failed because somebody else's manifest stands under its key. */
export function wasSuperseded(error: unknown, signal: AbortSignal): boolean {
  if (signal.aborted) throw abortFault(signal);
  return isFault(error, "store-exists");
}
