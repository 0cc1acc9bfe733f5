import { z } from "zod";
import { byteCount, hexId, int64Field, sha256Field, timeField, uint64Field, ulidField } from "./documents.ts";
import { Fault } from "../faults.ts";
import { isObjectName } from "../store/store.ts";
import { isScheduleName, isSnapshotObject, parseBackupName, snapshotOf } from "./names.ts";
import type { Signer, TrustedKeys } from "./signature.ts";
import { readSigned, signedJsonSchema, writeSigned } from "./signed.ts";

/**
 * The commit record of a backup, format 1 (docs/formats/manifest-v1.md). It is written last and never changes; a backup without one does not exist.
 * 64-bit numbers are strings in JSON and bigint here; member and cluster IDs are hexadecimal as etcd prints them.
 */
export const manifestSchemaId = "etcd-lifeboat/manifest/v1";

const maximumFrames = 1_000_000;

/** Characters of a label at most. */
export const labelLength = 200;

const objectField = z.string().refine(isObjectName, "not an object name");

const memberField = z.strictObject({
  id: hexId,
  name: z.string(),
  peerUrls: z.array(z.string()),
  clientUrls: z.array(z.string()),
  learner: z.boolean(),
});

const alarmField = z.strictObject({ memberId: hexId, kind: z.enum(["NOSPACE", "CORRUPT", "UNKNOWN"]) });

/** The member whose database this is, as it described itself just before the stream. */
const sourceField = z.strictObject({
  memberId: hexId,
  name: z.string(),
  url: z.string(),
  version: z.string(),
  learner: z.boolean(),
  leader: z.boolean(),
  raftTerm: uint64Field,
  raftIndex: uint64Field,
  /** Why this member, in words. */
  reason: z.string(),
});

/** What was seen of the live cluster while the backup was taken. */
const liveField = z.strictObject({
  /** False: no linearizable read succeeded; the source was the highest member that could be reached. */
  quorum: z.boolean(),
  /** The highest revision ever seen of this lineage: a restore must start above it. */
  highestRevision: int64Field,
  highestRaftIndex: uint64Field,
  members: z.array(memberField),
  alarms: z.array(alarmField),
  v2: z.strictObject({ state: z.enum(["yes", "no", "unknown"]), why: z.string() }),
});

/** What the database file itself says; read from the spool, never from a separate request. */
const contentField = z.strictObject({
  revision: int64Field,
  compactRevision: int64Field,
  /** What etcd's HashKV answers at that revision and compaction, computed from the file: every member must say the same. */
  hashKv: z.int().min(0).max(0xffff_ffff),
  consistentIndex: uint64Field,
  term: uint64Field.nullable(),
  storageVersion: z.string().nullable(),
  clusterVersion: z.string().nullable(),
  keys: byteCount,
  rows: byteCount,
  leases: byteCount,
  authEnabled: z.boolean(),
  dbBytes: byteCount,
  logicalBytes: byteCount,
  members: z.array(memberField),
  alarms: z.array(alarmField),
  /** SHA-256 of the database bytes, as etcd sent it after them. */
  seal: sha256Field,
});

const { $schema: _, ...framesJsonSchema } = z.toJSONSchema(z.array(z.tuple([byteCount, byteCount])).max(maximumFrames));

/**
 * One pair per independent frame: plain bytes, compressed bytes. They are most of a manifest, and are checked by hand: by schema it took half of the
 * time of reading one.
 */
const framesField = z
  .any()
  .refine(isFrames, "not a list of pairs of byte counts")
  .meta(framesJsonSchema) as unknown as z.ZodType<[number, number][]>;

function isFrames(value: unknown): boolean {
  if (!Array.isArray(value) || value.length > maximumFrames) return false;
  return value.every((pair: unknown) => Array.isArray(pair) && pair.length === 2 && pair.every(isByteCount));
}

function isByteCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

const sampleField = z.strictObject({ main: int64Field, sub: int64Field, sha256: sha256Field });

const dataField = z.strictObject({
  object: objectField,
  storedBytes: byteCount,
  /** SHA-256 of the stored bytes. */
  sha256: sha256Field,
  crc32c: z.int().min(0).max(0xffff_ffff),
  /** Bytes of the plain file: the database and its 32-byte seal, as `etcdctl snapshot save` writes it. */
  plainBytes: byteCount,
  compression: z.strictObject({
    format: z.literal("zstd"),
    frames: framesField,
  }),
  encryption: z.strictObject({ format: z.literal("age-v1"), recipients: z.array(z.string()) }).nullable(),
  /** How the stored bytes were verified before this manifest was written. */
  verified: z.enum(["read-back", "checksum"]),
});

const extrasField = z.strictObject({
  object: objectField,
  storedBytes: byteCount,
  sha256: sha256Field,
  plainBytes: byteCount,
  frames: z.array(z.tuple([byteCount, byteCount])),
  files: z.array(z.strictObject({ path: z.string(), bytes: byteCount })),
});

const bodySchema = z.strictObject({
  schema: z.literal(manifestSchemaId),
  tool: z.strictObject({ name: z.literal("etcd-lifeboat"), version: z.string() }),
  repository: ulidField,
  lineage: ulidField,
  backup: z.string().refine((text) => parseBackupName(text) !== undefined, "not a backup id"),
  trigger: z.enum(["schedule", "demand", "import"]),
  slot: z.strictObject({ schedule: z.string().refine(isScheduleName), time: timeField }).nullable(),
  label: z.string().max(labelLength).nullable(),
  startedAt: timeField,
  committedAt: timeField,
  cluster: z.strictObject({ name: z.string(), id: hexId.nullable() }),
  source: sourceField.nullable(),
  live: liveField.nullable(),
  content: contentField,
  samples: z.array(sampleField).max(64),
  data: dataField,
  extras: extrasField.nullable(),
  /** Extras that were configured and could not be read. */
  extrasMissing: z.array(z.strictObject({ path: z.string(), why: z.string() })),
  note: z.strictObject({ object: objectField, storedBytes: byteCount, sha256: sha256Field }),
});

export type Manifest = z.output<typeof bodySchema>;
export type ManifestMember = z.output<typeof memberField>;

/** The bytes to commit, signed when there is a signer. Refuses to write what it could not read again. */
export function writeManifest(manifest: Manifest, signer: Signer | undefined): Uint8Array {
  return writeSigned(`the manifest of ${manifest.backup}`, manifest, bodySchema, signer);
}

/**
 * Parses and checks a manifest that stands under `name` in a store. Rejects with `manifest-invalid` for anything that is not one, also
 * for one that was copied from another place, and with `manifest-untrusted` when keys are trusted and none of them signed it.
 */
export function readManifest(
  name: string,
  bytes: Uint8Array,
  expected: { readonly repository: string; readonly lineage: string; readonly backup: string },
  trusted: TrustedKeys | undefined,
): Manifest {
  const manifest = readSigned(name, bytes, bodySchema, trusted);
  if (manifest.lineage !== expected.lineage || manifest.backup !== expected.backup) {
    throw new Fault("manifest-invalid", `${name} holds the manifest of ${manifest.lineage}/${manifest.backup}`, {
      hint: "an object was copied or renamed inside the store",
    });
  }
  if (manifest.repository !== expected.repository) {
    throw new Fault(
      "manifest-invalid",
      `${name} is a manifest of cluster "${manifest.cluster.name}" in repository ${manifest.repository}, and this is ${expected.repository}`,
      {
        hint: "the backups of another cluster were copied here; keep each cluster in a prefix or directory of its own",
      },
    );
  }
  for (const { object } of [manifest.data, manifest.note, ...(manifest.extras === null ? [] : [manifest.extras])]) {
    // All of one snapshot: they are kept, given up and removed together.
    if (!isSnapshotObject(manifest.lineage, object) || snapshotOf(object) !== snapshotOf(manifest.data.object))
      throw new Fault("manifest-invalid", `${name} names ${object}, which is no object of its lineage and snapshot`);
  }
  return manifest;
}

/** JSON Schema of format 1, published in docs/formats. */
export function manifestJsonSchema(): unknown {
  return signedJsonSchema(bodySchema);
}
