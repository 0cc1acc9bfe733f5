import { z } from "zod";
import { byteCount, int64Field, ulidField } from "./documents.ts";
import type { Manifest } from "./manifest.ts";
import { snapshotOf } from "./names.ts";
import type { Proof } from "./proof.ts";

/** What is shown of a backup among thousands: a few hundred bytes where its manifest has thousands, so that all rows can be held, and cached. */

const nullableText = z.string().nullable();

/**
 * Of a manifest that was believed. The schema is for a row that comes back from the cache: its texts were checked when it was made, and there are thousands,
 * so that only the kind of each value is looked at, and what names are made of.
 */
export const backupRowSchema = z.strictObject({
  lineage: z.string(),
  backup: z.string(),
  /** Of the stored bytes from which the row was made. */
  manifestSha256: z.string(),
  /** The id that its data objects share. */
  snapshot: ulidField,
  trigger: z.enum(["schedule", "demand", "import"]),
  schedule: nullableText,
  label: nullableText,
  startedAt: z.string(),
  committedAt: z.string(),
  revision: int64Field,
  compactRevision: int64Field,
  keys: byteCount,
  plainBytes: byteCount,
  storedBytes: byteCount,
  encrypted: z.boolean(),
  verified: z.enum(["read-back", "checksum"]),
  member: nullableText,
  etcdVersion: nullableText,
  quorum: z.boolean().nullable(),
  extrasMissing: byteCount,
});
export type BackupRow = z.output<typeof backupRowSchema>;

/** Of a proof that was believed; as above. */
export const proofRowSchema = z.strictObject({
  id: z.string(),
  /** The manifest to which it is bound. */
  manifestSha256: z.string(),
  madeAt: z.string(),
  kind: z.enum(["hashkv", "boot"]),
  verdict: z.enum(["proven", "sealed", "passed", "failed"]),
  /** Whether the only member was compared with itself. */
  alone: z.boolean(),
});
export type ProofRow = z.output<typeof proofRowSchema>;

export function rowOf(manifest: Manifest, manifestSha256: string): BackupRow {
  return {
    lineage: manifest.lineage,
    backup: manifest.backup,
    manifestSha256,
    snapshot: snapshotOf(manifest.data.object),
    trigger: manifest.trigger,
    schedule: manifest.slot?.schedule ?? null,
    label: manifest.label,
    startedAt: manifest.startedAt,
    committedAt: manifest.committedAt,
    revision: manifest.content.revision,
    compactRevision: manifest.content.compactRevision,
    keys: manifest.content.keys,
    plainBytes: manifest.data.plainBytes,
    storedBytes: manifest.data.storedBytes,
    encrypted: manifest.data.encryption !== null,
    verified: manifest.data.verified,
    member: manifest.source?.name ?? null,
    etcdVersion: manifest.source?.version ?? null,
    quorum: manifest.live?.quorum ?? null,
    extrasMissing: manifest.extrasMissing.length,
  };
}

export function proofRowOf(proof: Proof): ProofRow {
  const { id, manifestSha256, madeAt, kind, verdict } = proof;
  return { id, manifestSha256, madeAt, kind, verdict, alone: kind === "hashkv" && proof.alone };
}

/** What valid proofs, oldest first, say together. A backup is proven when one of them says so, however many do not. */
export interface Standing {
  /** Null: never compared, or nothing is known of it. */
  readonly proof: "proven" | "sealed" | null;
  /** When the first proof was found. */
  readonly provenAt: string | null;
  /** Whether it was proven by nothing but its own source, the cluster's only member; null unless proven. */
  readonly alone: boolean | null;
  /** What the newest restore of it ended with. */
  readonly boot: "passed" | "failed" | null;
}

export function standingOf(proofs: readonly Pick<ProofRow, "kind" | "verdict" | "madeAt" | "alone">[]): Standing {
  const proven = proofs.filter(({ verdict }) => verdict === "proven");
  const [first] = proven;
  const boot = proofs.findLast(({ kind }) => kind === "boot");
  return {
    proof: first !== undefined ? "proven" : proofs.some(({ verdict }) => verdict === "sealed") ? "sealed" : null,
    provenAt: first?.madeAt ?? null,
    alone: first === undefined ? null : proven.every(({ alone }) => alone),
    boot: boot === undefined ? null : boot.verdict === "passed" ? "passed" : "failed",
  };
}
