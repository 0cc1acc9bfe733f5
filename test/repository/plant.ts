import { createHash } from "node:crypto";
import { digestOf, writeDocument } from "../../src/repository/documents.ts";
import { writeManifest, type Manifest } from "../../src/repository/manifest.ts";
import { formatBackupName, manifestName, proofName, snapshotObjects } from "../../src/repository/names.ts";
import { writeProof } from "../../src/repository/proof.ts";
import type { Signer } from "../../src/repository/signature.ts";
import { crc32c } from "../../src/crc32c.ts";
import type { Store } from "../../src/store/store.ts";
import { lineageId, repositoryId, sampleManifest, sampleProof } from "./sample.ts";

/** Repositories with backups whose objects are a few bytes, in any store: what retention works on. */

const signal = new AbortController().signal;
let count = 0;
/** ULIDs that sort by creation. */
export function nextId(): string {
  count += 1;
  return `01JR${String(count).padStart(22, "0")}`;
}

export async function plantRepository(store: Store, cluster = "prod"): Promise<void> {
  const createdAt = "2026-01-01T00:00:00.000Z";
  await store.create(
    "repository.json",
    writeDocument({
      schema: "etcd-lifeboat/repository/v1",
      repository: repositoryId,
      cluster,
      createdAt,
      firstLineage: lineageId,
    }),
    signal,
  );
}

export async function plantLineage(
  store: Store,
  lineage = lineageId,
  kind: "live" | "foreign" = "live",
): Promise<void> {
  const document = {
    schema: "etcd-lifeboat/lineage/v1",
    repository: repositoryId,
    lineage,
    kind,
    createdAt: "2026-01-01T00:00:00.000Z",
    clusterId: kind === "live" ? "cdf818194e3a8c32" : null,
    parent: null,
    minimumRevision: "0",
    reason: "planted",
  };
  await store.create(`lineages/${lineage}/lineage.json`, writeDocument(document), signal);
}

export interface Planted {
  readonly lineage: string;
  readonly backup: string;
  readonly snapshot: string;
  readonly manifest: Manifest;
  readonly manifestName: string;
  readonly objects: readonly string[];
  readonly proof: string | undefined;
}

export interface Planting {
  readonly lineage?: string;
  readonly timeMs: number;
  /** Undefined: on demand. */
  readonly schedule?: string | undefined;
  readonly imported?: boolean;
  readonly revision?: bigint;
  readonly proven?: boolean;
  readonly signer?: Signer | undefined;
  readonly dataBytes?: number;
}

/** The data objects alone, as a run leaves them that died before its commit. */
export async function plantData(
  store: Store,
  { lineage = lineageId, dataBytes = 1000 }: Pick<Planting, "lineage" | "dataBytes"> = {},
): Promise<{ readonly snapshot: string; readonly changes: Pick<Manifest, "data" | "note"> }> {
  const snapshot = nextId();
  const objects = snapshotObjects(lineage, snapshot, false);
  const put = async (
    object: string,
    bytes: Uint8Array,
  ): Promise<{ object: string; storedBytes: number; sha256: string }> => {
    await store.create(object, bytes, signal);
    return { object, storedBytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
  };
  const bytes = Buffer.alloc(dataBytes, snapshot);
  const { data } = sampleManifest();
  return {
    snapshot,
    changes: {
      data: {
        ...data,
        ...(await put(objects.data, bytes)),
        crc32c: crc32c(bytes),
        compression: { format: "zstd", frames: [[data.plainBytes, bytes.length]] },
      },
      note: await put(objects.note, Buffer.from(`how to restore ${snapshot}\n`)),
    },
  };
}

export async function plantBackup(store: Store, planting: Planting): Promise<Planted> {
  const { lineage = lineageId, timeMs, schedule, imported = false, signer } = planting;
  const { snapshot, changes } = await plantData(store, planting);
  return await plantManifest(store, { ...planting, lineage, timeMs, schedule, imported, signer }, snapshot, changes);
}

/** The manifest, and the proof, over data that is there. */
export async function plantManifest(
  store: Store,
  planting: Planting,
  snapshot: string,
  changes: Pick<Manifest, "data" | "note">,
): Promise<Planted> {
  const { lineage = lineageId, timeMs, schedule, imported = false, proven = true, signer } = planting;
  const { revision = BigInt(Math.floor(timeMs / 1000)) } = planting;
  const name =
    schedule === undefined
      ? ({ kind: "demand", timeMs, id: nextId() } as const)
      : ({ kind: "slot", timeMs, schedule } as const);
  const backup = formatBackupName(name);
  const sample = sampleManifest();
  const manifest = sampleManifest({
    lineage,
    backup,
    trigger: imported ? "import" : schedule === undefined ? "demand" : "schedule",
    slot: schedule === undefined ? null : { schedule, time: new Date(timeMs).toISOString() },
    startedAt: new Date(timeMs).toISOString(),
    committedAt: new Date(timeMs + 5000).toISOString(),
    content: { ...sample.content, revision },
    live: imported ? null : sample.live,
    source: imported ? null : sample.source,
    ...changes,
  });
  const bytes = writeManifest(manifest, signer);
  await store.create(manifestName(lineage, backup), bytes, signal);
  const proof = sampleProof({ lineage, backup, manifestSha256: digestOf(bytes), id: nextId(), revision });
  if (proven && !imported) await writeProof(store, proof, signer, signal);
  return {
    lineage,
    backup,
    snapshot,
    manifest,
    manifestName: manifestName(lineage, backup),
    objects: [manifest.data.object, manifest.note.object],
    proof: proven && !imported ? proofName(lineage, proof) : undefined,
  };
}

/** Everything under `lineages/`, by name. */
export async function namesIn(store: Store): Promise<readonly string[]> {
  return (await Array.fromAsync(store.list("lineages/", signal))).map(({ name }) => name);
}
