import { Fault, isFault, throwIfAborted } from "../faults.ts";
import { failpoint } from "../failpoints.ts";
import type { Clock } from "../clock.ts";
import { digestOf, formatInstant } from "../repository/documents.ts";
import { writeManifest, type Manifest } from "../repository/manifest.ts";
import { goneName, manifestName, snapshotObjects } from "../repository/names.ts";
import type { Signer } from "../repository/signature.ts";
import type { Store, Uploaded } from "../store/store.ts";
import type { AgeRecipient } from "./age.ts";
import { encodeBytes, type Decryption } from "./encode.ts";
import { readExtras } from "./extras.ts";
import { writeRestoreNote } from "./note.ts";
import type { PhaseTimer } from "./phases.ts";
import { checkSeal, decodeObject, exhaust, readStored } from "./stored.ts";
import type { Stored, Storing } from "./storing.ts";

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

export type Commit =
  | {
      readonly kind: "committed";
      readonly manifest: Manifest;
      /** Of its stored bytes: what its proofs are bound to. */
      readonly manifestSha256: string;
    }
  /** The manifest's key is taken. What was stored here is then an orphan, harmless and collected later. */
  | { readonly kind: "taken" };

/**
 * Makes a spooled snapshot a backup: data, extras and note are stored and verified, the manifest comes last and create-only. `settled` is waited for
 * before that. What ends while data is on its way ends at `signal`; from then on, when nearly all is done, at `late`.
 */
export async function commitBackup(
  deps: CommitDependencies,
  draft: Draft,
  storing: Storing,
  settled: (() => Promise<unknown>) | undefined,
  phases: PhaseTimer,
  signal: AbortSignal,
  late: AbortSignal,
): Promise<Commit> {
  const { store, encoder, clock } = deps;
  const { snapshotId } = storing.target;
  const objects = snapshotObjects(draft.lineage, snapshotId, encoder.recipients.length > 0);
  const { extras, extrasMissing } = await phases.run("extras", () => storeExtras(deps, objects.extras, signal));
  failpoint("extras-stored");
  const { recipients } = encoder;
  const stored = await phases.run("upload", (progress) => storing.finish(progress, signal));
  failpoint("data-uploaded");
  const data: Omit<Manifest["data"], "verified"> = {
    object: stored.object,
    ...stored.uploaded,
    plainBytes: storing.plainBytes,
    compression: {
      format: "zstd",
      frames: stored.encoding.facts().frames.map((frame) => [frame.plainBytes, frame.storedBytes]),
    },
    encryption: recipients.length === 0 ? null : { format: "age-v1", recipients: recipients.map(({ text }) => text) },
  };
  const verified = await phases.run("readback", (progress) => verifyStored(deps, data, draft, stored, progress, late));
  failpoint("data-read-back");
  await settled?.();
  throwIfAborted(late);
  return phases.run("commit", async () => {
    const document = {
      ...draft,
      data: { ...data, verified },
      extras,
      extrasMissing,
      committedAt: formatInstant(clock.now()),
    };
    const note = await storeNote(store, objects.note, document, late);
    const manifest: Manifest = { ...document, note };
    const bytes = writeManifest(manifest, encoder.signer);
    failpoint("note-stored");
    try {
      await store.create(manifestName(draft.lineage, draft.backup), bytes, late);
    } catch (error) {
      if (!isFault(error, "store-exists")) throw error;
      return { kind: "taken" };
    }
    failpoint("manifest-stored");
    await refuseLate(store, draft.lineage, snapshotId, objects.data, late);
    return { kind: "committed", manifest, manifestSha256: digestOf(bytes) };
  });
}

/**
 * A daemon that slept for days may find its data given up, and removed, by an expiry that knew nothing of it. The mark comes before anything is removed and
 * goes long after, so: mark first, then data. What was committed so late is refused by every reader (`refuseGone`), and here it is told.
 */
export async function refuseLate(
  store: Store,
  lineage: string,
  snapshot: string,
  data: string,
  signal: AbortSignal,
): Promise<void> {
  const marked = (await store.head(goneName(lineage, snapshot), signal)) !== undefined;
  if (!marked && (await store.head(data, signal)) !== undefined) return;
  throw new Fault("backup-late", "the backup was committed after its data had been given up as nobody's: it is none", {
    hint: "this run took days, or was suspended; take a new one: etcd-lifeboat backup",
  });
}

/** What was stored is read, decrypted and decoded again and must end in the seal; or, where allowed, the store's own checksum is compared. */
async function verifyStored(
  { store, encoder }: CommitDependencies,
  data: Omit<Manifest["data"], "verified">,
  draft: Draft,
  { encoding, encoded }: Stored,
  progress: (doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
): Promise<Manifest["data"]["verified"]> {
  if (encoded !== undefined && data.storedBytes > (encoder.readBackBelowBytes ?? Infinity)) {
    const problem = encoded.problem();
    if (problem !== undefined)
      throw new Fault("spool-failed", `the spool gave other bytes than were drained into it: ${problem}`);
    if (await matchesChecksum(store, data, signal)) return "checksum";
  }
  const encryption: Decryption =
    encoding.fileKey === undefined ? { kind: "none" } : { kind: "file-key", fileKey: encoding.fileKey };
  const plain = decodeObject(store, data, { frames: encoding.facts().frames, encryption }, signal);
  await exhaust(checkSeal(data.object, plain, draft.content), (doneBytes) => progress(doneBytes, data.plainBytes));
  return "read-back";
}

/** False where the store vouches for no full-object checksum; a wrong one is damage. */
async function matchesChecksum(
  store: Store,
  data: Pick<Manifest["data"], "object"> & Uploaded,
  signal: AbortSignal,
): Promise<boolean> {
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
  // The configuration refuses this already; private keys in the clear are worth a second look.
  if (encoder.recipients.length === 0) throw new Fault("config-invalid", "extras would be stored unencrypted");
  const { tar, files, missing } = await readExtras(encoder.extras);
  if (files.length === 0) return { extras: null, extrasMissing: [...missing] };
  const { stored, facts } = await encodeBytes(tar, encoder, signal);
  const uploaded = await store.upload(object, once(stored), signal);
  await exhaust(readStored(store, { object, ...uploaded }, signal));
  const frames = facts.frames.map((frame): [number, number] => [frame.plainBytes, frame.storedBytes]);
  return {
    extras: {
      object,
      storedBytes: uploaded.storedBytes,
      sha256: uploaded.sha256,
      plainBytes: tar.length,
      frames,
      files: [...files],
    },
    extrasMissing: [...missing],
  };
}

async function storeNote(
  store: Store,
  object: string,
  document: Omit<Manifest, "note">,
  signal: AbortSignal,
): Promise<Manifest["note"]> {
  const bytes = new TextEncoder().encode(writeRestoreNote(document, store.description));
  const { storedBytes, sha256 } = await store.upload(object, once(bytes), signal);
  await exhaust(readStored(store, { object, storedBytes, sha256 }, signal));
  return { object, storedBytes, sha256 };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}
