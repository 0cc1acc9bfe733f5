import { digestOf, formatInstant, toJson } from "../../src/repository/documents.ts";
import { writeManifest } from "../../src/repository/manifest.ts";
import {
  formatBackupName,
  lineageDocumentName,
  manifestName,
  proofName,
  repositoryDocumentName,
  snapshotObjects,
} from "../../src/repository/names.ts";
import { writeProof } from "../../src/repository/proof.ts";
import type { Signer } from "../../src/repository/signature.ts";
import { memoryStore } from "../fakes/store.ts";
import { lineageId, repositoryId, sampleManifest, sampleProof } from "../repository/sample.ts";

/** One object of a repository, and when it would have been made. */
export interface Filling {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly timeMs: number;
}

const hourMs = 3_600_000;
const startMs = Date.UTC(2025, 0, 1);

/**
 * A repository of cluster `prod` with an hourly backup for every hour: manifests of 2 to 100 KB (as many small ones as large ones, by size's logarithm),
 * each with a proof, all signed, and the data objects' names with a few bytes behind them. The same for the same count.
 */
export async function* fillCatalog(count: number, signer: Signer): AsyncGenerator<Filling, void, undefined> {
  const createdAt = formatInstant(startMs);
  const document = (name: string, value: object): Filling => ({
    name,
    bytes: Buffer.from(`${toJson(value)}\n`),
    timeMs: startMs,
  });
  yield document(repositoryDocumentName, {
    schema: "etcd-lifeboat/repository/v1",
    repository: repositoryId,
    cluster: "prod",
    createdAt,
    firstLineage: lineageId,
  });
  yield document(lineageDocumentName(lineageId), {
    schema: "etcd-lifeboat/lineage/v1",
    repository: repositoryId,
    lineage: lineageId,
    kind: "live",
    createdAt,
    clusterId: "cdf818194e3a8c32",
    parent: null,
    minimumRevision: "0",
    reason: "the first backup",
  });
  for (let index = 0; index < count; index += 1) yield* oneBackup(index, signer);
}

async function* oneBackup(index: number, signer: Signer): AsyncGenerator<Filling, void, undefined> {
  const timeMs = startMs + index * hourMs;
  const backup = formatBackupName({ kind: "slot", timeMs, schedule: "hourly" });
  const id = idOf(index);
  const objects = snapshotObjects(lineageId, id, false);
  const base = sampleManifest();
  // The golden ratio spreads them evenly in any order.
  const size = 2000 * 50 ** ((index * 0.618_034) % 1);
  const frames = Array.from({ length: Math.floor(size / 18) }, (_, n): [number, number] => [262_144, 70_000 + n]);
  const manifest = writeManifest(
    {
      ...base,
      backup,
      slot: { schedule: "hourly", time: formatInstant(timeMs) },
      startedAt: formatInstant(timeMs + 1000),
      committedAt: formatInstant(timeMs + 9000),
      content: { ...base.content, revision: BigInt(1000 + index * 1000) },
      data: { ...base.data, object: objects.data, compression: { format: "zstd", frames } },
      note: { ...base.note, object: objects.note },
    },
    signer,
  );
  yield { name: objects.data, bytes: Buffer.from("data"), timeMs };
  yield { name: objects.note, bytes: Buffer.from("note"), timeMs };
  yield { name: manifestName(lineageId, backup), bytes: manifest, timeMs };
  const proof = sampleProof({ backup, id, manifestSha256: digestOf(manifest), madeAt: formatInstant(timeMs + 11_000) });
  const store = memoryStore();
  await writeProof(store, proof, signer, new AbortController().signal);
  const name = proofName(lineageId, proof);
  yield { name, bytes: await store.read(name, new AbortController().signal), timeMs };
}

/** A ULID for a number. */
function idOf(index: number): string {
  return `01JQ${index.toString().padStart(22, "0")}`;
}
