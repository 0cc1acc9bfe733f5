import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { crc32c } from "../../src/crc32c.ts";
import { readEntry, type Belief, type CatalogEntry } from "../../src/repository/catalog.ts";
import { writeManifest, type Manifest } from "../../src/repository/manifest.ts";
import { formatBackupName, manifestName, snapshotObjects } from "../../src/repository/names.ts";
import type { Signer } from "../../src/repository/signature.ts";
import { createAge, type AgeRecipient } from "../../src/snapshot/age.ts";
import { writeContent } from "../../src/snapshot/draft.ts";
import { writeRestoreNote } from "../../src/snapshot/note.ts";
import { compressFrames, type Frame } from "../../src/snapshot/zstd.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { lineageId, repositoryId, sampleManifest } from "../repository/sample.ts";
import { calm, chunked, collect, seededBytes } from "./bytes.ts";

/** A whole backup of a real database in a store: many small frames, extras and a note, made with what makes the real ones. */

export interface ArtifactOptions {
  /** A database with its seal. */
  readonly snapshot: Uint8Array;
  readonly recipients: readonly AgeRecipient[];
  readonly signer: Signer | undefined;
  /** Of its data; another number is another backup. */
  readonly number: number;
}

export interface Artifact {
  readonly manifest: Manifest;
  /** The database and its seal. */
  readonly plain: Buffer;
  /** The frames, before encryption. */
  readonly compressed: Buffer;
  readonly objects: MemoryStore["objects"];
  readonly listed: CatalogEntry["listed"];
}

/** Small, so that a small database has many. */
const artifactFrameBytes = 64 * 1024;
const sealBytes = 32;

export async function makeArtifact({ snapshot, recipients, signer, number }: ArtifactOptions): Promise<Artifact> {
  const plain = Buffer.from(snapshot);
  const name = {
    kind: "demand",
    timeMs: Date.UTC(2026, 2, 1, 12, number),
    id: `01JQDDDDDDDDDDDDDDDDDDDD${10 + number}`,
  } as const;
  const backup = formatBackupName(name);
  const names = snapshotObjects(lineageId, `01JQEEEEEEEEEEEEEEEEEEEE${10 + number}`, recipients.length > 0);
  const facts = factsOf(plain);
  const objects: Artifact["objects"] = new Map();
  const put = (object: string, bytes: Uint8Array): Digests & { readonly object: string } => {
    objects.set(object, { bytes, modifiedMs: 0 });
    return { object, ...digests(bytes) };
  };
  const encoded = await encodeFrames(plain, recipients);
  const tar = Buffer.alloc(10_240, "extras of this backup ");
  const extras = await encodeFrames(tar, recipients);
  const { crc32c: _, ...storedExtras } = put(names.extras, extras.stored);
  const draft = {
    ...sampleManifest({
      backup,
      trigger: "demand",
      slot: null,
      content: writeContent({
        facts,
        drained: { dbBytes: facts.dbBytes, seal: sealOf(plain).toString("hex"), version: "" },
      }),
      samples: [...facts.samples],
    }),
    data: {
      ...put(names.data, encoded.stored),
      plainBytes: plain.length,
      compression: { format: "zstd" as const, frames: pairs(encoded.frames) },
      encryption:
        recipients.length === 0 ? null : { format: "age-v1" as const, recipients: recipients.map(({ text }) => text) },
      verified: "read-back" as const,
    },
    extras:
      recipients.length === 0
        ? null
        : {
            ...storedExtras,
            plainBytes: tar.length,
            frames: pairs(extras.frames),
            files: [{ path: "/etc/kubernetes/pki/ca.crt", bytes: 1100 }],
          },
  };
  if (recipients.length === 0) objects.delete(names.extras);
  const { crc32c: __, ...note } = put(names.note, Buffer.from(writeRestoreNote(draft, "memory:")));
  const manifest: Manifest = { ...draft, note };
  const bytes = writeManifest(manifest, signer);
  objects.set(manifestName(lineageId, backup), { bytes, modifiedMs: 0 });
  return {
    manifest,
    plain,
    compressed: encoded.compressed,
    objects,
    listed: { lineage: lineageId, backup, name, manifestBytes: bytes.length },
  };
}

/** What is stored under names, as a store. */
export function storeOf(objects: Artifact["objects"]): MemoryStore {
  const store = memoryStore(() => 0);
  for (const [name, entry] of objects) store.objects.set(name, entry);
  return store;
}

export function readArtifact(
  store: MemoryStore,
  { listed }: Artifact,
  trusted: Belief["trusted"],
): Promise<CatalogEntry> {
  return readEntry(store, listed, { repository: repositoryId, trusted }, calm);
}

interface Digests {
  readonly storedBytes: number;
  readonly sha256: string;
  readonly crc32c: number;
}

/** What a manifest says of stored bytes. */
export function digests(bytes: Uint8Array): Digests {
  return { storedBytes: bytes.length, sha256: sha256(bytes).toString("hex"), crc32c: crc32c(bytes) };
}

export async function encodeFrames(
  plain: Uint8Array,
  recipients: readonly AgeRecipient[],
): Promise<{ readonly stored: Buffer; readonly compressed: Buffer; readonly frames: readonly Frame[] }> {
  const compressed = compressFrames(chunked(plain), { level: 1, frameBytes: artifactFrameBytes }, calm);
  const bytes = await collect(compressed.bytes);
  return { stored: await encrypt(bytes, recipients), compressed: bytes, frames: compressed.frames };
}

export async function encrypt(bytes: Uint8Array, recipients: readonly AgeRecipient[]): Promise<Buffer> {
  return recipients.length === 0 ? Buffer.from(bytes) : collect(createAge(recipients).encrypt(chunked(bytes), calm));
}

export function pairs(frames: readonly Frame[]): [number, number][] {
  return frames.map(({ plainBytes, storedBytes }) => [plainBytes, storedBytes]);
}

/** The same database in a file that bbolt has grown ahead, with what the disk had there: it does not compress away. */
export function grown(snapshot: Uint8Array): Buffer {
  const ahead = seededBytes(512 * 1024, 7);
  return sealAgain(Buffer.concat([snapshot.subarray(0, -sealBytes), ahead, Buffer.alloc(sealBytes)]));
}

/** The same database with a seal that fits it. */
export function sealAgain(plain: Uint8Array): Buffer {
  const database = plain.subarray(0, -sealBytes);
  return Buffer.concat([database, sha256(database)]);
}

export function sealOf(plain: Uint8Array): Buffer {
  return Buffer.from(plain.subarray(-sealBytes));
}

function factsOf(plain: Uint8Array): ReturnType<typeof scanSnapshot> {
  const folder = mkdtempSync(join(tmpdir(), "artifact-"));
  try {
    const path = join(folder, "snapshot.db");
    writeFileSync(path, plain);
    return scanSnapshot(path, { expectSeal: true });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
