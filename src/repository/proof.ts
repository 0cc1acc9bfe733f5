import { z } from "zod";
import { Fault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { byteCount, hexId, int64Field, sha256Field, timeField, ulidField } from "./documents.ts";
import { parseBackupName, parseObjectName, proofName } from "./names.ts";
import type { Signer, TrustedKeys } from "./signature.ts";
import { readSigned, signedJsonSchema, writeSigned } from "./signed.ts";

/**
 * What was found when a backup was compared with its cluster, or booted: format 1 (docs/formats/proof-v1.md). It is written beside the manifest, bound to
 * its bytes, signed like it, and never changes; a backup can have several.
 */
export const proofSchemaId = "etcd-lifeboat/proof/v1";

const uint32Field = z.int().min(0).max(0xffff_ffff);
const tookField = z.number().nonnegative();

const common = {
  schema: z.literal(proofSchemaId),
  tool: z.strictObject({ name: z.literal("etcd-lifeboat"), version: z.string() }),
  repository: ulidField,
  lineage: ulidField,
  backup: z.string().refine((text) => parseBackupName(text) !== undefined, "not a backup id"),
  /** Of the manifest's bytes as they are stored. */
  manifestSha256: sha256Field,
  id: ulidField,
  madeAt: timeField,
};

const answerField = z.strictObject({
  member: z.string(),
  memberId: hexId,
  role: z.enum(["leader", "follower", "learner"]),
  askedAt: timeField,
  tookMs: tookField,
  outcome: z.discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("hash"),
      hash: uint32Field,
      /** What the member had compacted to when it hashed. */
      compactRevision: int64Field,
      revision: int64Field,
    }),
    z.strictObject({ kind: z.literal("refused"), code: z.string(), message: z.string() }),
  ]),
});

const hashkvBody = z.strictObject({
  ...common,
  kind: z.literal("hashkv"),
  verdict: z.enum(["proven", "sealed"]),
  /** Why, in words. */
  reason: z.string(),
  /** Members that may vote, and how many of them are a majority. */
  voters: byteCount,
  needed: byteCount,
  /** Names of the voters whose data is that of the backup, the source among them when it is a voter. */
  agreeing: z.array(z.string()).max(1000),
  /** Names of the members in the minority. */
  diverged: z.array(z.string()).max(1000),
  /** True where there is one member only, which was compared with itself. */
  alone: z.boolean(),
  source: z.strictObject({ memberId: hexId, name: z.string(), learner: z.boolean() }).nullable(),
  revision: int64Field,
  /** The compaction revision that decided; null when none did. */
  compactRevision: int64Field.nullable(),
  /** HashKV of the file at both. */
  hash: uint32Field.nullable(),
  answers: z.array(answerField).max(10_000),
});

const bootBody = z.strictObject({
  ...common,
  kind: z.literal("boot"),
  verdict: z.enum(["passed", "failed"]),
  reason: z.string(),
  /** Of the etcd that was started. */
  minor: z.string(),
  /** The stock programs that restored and ran it, with their versions. */
  programs: z.array(z.string()).max(100),
  revision: int64Field,
  /** What the throw-away member answered; null where it never did. */
  hash: uint32Field.nullable(),
  keys: byteCount.nullable(),
  tookMs: tookField,
});

const proofSchema = z.discriminatedUnion("kind", [hashkvBody, bootBody]).superRefine((proof, context) => {
  const problem = contradiction(proof);
  if (problem !== undefined) context.addIssue({ code: "custom", path: ["verdict"], message: problem });
});

export type Proof = z.output<typeof proofSchema>;
export type HashkvProof = Extract<Proof, { readonly kind: "hashkv" }>;
export type BootProof = Extract<Proof, { readonly kind: "boot" }>;
export type ProofAnswer = HashkvProof["answers"][number];

/** A good verdict that its own facts do not bear out is none, whoever signed it. */
function contradiction(proof: z.output<typeof hashkvBody> | z.output<typeof bootBody>): string | undefined {
  if (proof.kind === "boot") {
    return proof.verdict === "passed" && (proof.hash === null || proof.keys === null)
      ? "passed, but the member's answer is missing"
      : undefined;
  }
  if (proof.verdict === "sealed") return undefined;
  if (proof.hash === null || proof.compactRevision === null) return "proven, but by no hash";
  if (proof.needed * 2 <= proof.voters) return `proven, but ${proof.needed} of ${proof.voters} voters is no majority`;
  const agreeing = proof.agreeing.length;
  return agreeing < proof.needed ? `proven, but by ${agreeing} voters where ${proof.needed} are needed` : undefined;
}

/** Whose proof it is; the manifest's SHA-256 is that of its stored bytes. */
export interface ProofSubject {
  readonly repository: string;
  readonly lineage: string;
  readonly backup: string;
  readonly manifestSha256: string;
}

/** Stores a proof under its own name, create-only. Rejects with `manifest-invalid`, before anything is stored, what could not be read again. */
export async function writeProof(
  store: Store,
  proof: Proof,
  signer: Signer | undefined,
  signal: AbortSignal,
): Promise<void> {
  const bytes = writeSigned(`the ${proof.kind} proof of ${proof.backup}`, proof, proofSchema, signer);
  await store.create(proofName(proof.lineage, proof), bytes, signal);
}

/**
 * Parses and checks a proof that stands under `name` in a store. Rejects with `manifest-invalid` for anything that is not one, also one of another backup,
 * of another manifest, or whose name says something else; with `manifest-untrusted` when keys are trusted and none of them signed it.
 */
export function readProof(
  name: string,
  bytes: Uint8Array,
  expected: ProofSubject,
  trusted: TrustedKeys | undefined,
): Proof {
  const proof = readSigned(name, bytes, proofSchema, trusted);
  const named = parseObjectName(name);
  const { lineage, backup, manifestSha256, repository, kind, verdict, id } = proof;
  if (
    named?.kind !== "proof" ||
    lineage !== expected.lineage ||
    backup !== expected.backup ||
    proofName(lineage, proof) !== name
  ) {
    throw new Fault("manifest-invalid", `${name} holds the ${kind} proof ${id} (${verdict}) of ${lineage}/${backup}`, {
      hint: "an object was copied or renamed inside the store",
    });
  }
  if (repository !== expected.repository) {
    throw new Fault(
      "manifest-invalid",
      `${name} is a proof of repository ${repository}, and this is ${expected.repository}`,
      {
        hint: "proofs of another cluster were copied here; keep each cluster in a prefix or directory of its own",
      },
    );
  }
  if (manifestSha256 !== expected.manifestSha256) {
    throw new Fault("manifest-invalid", `${name} proves another manifest than the one that is stored`, {
      hint: "the manifest or its proof was replaced; verify the backup: etcd-lifeboat verify",
    });
  }
  return proof;
}

/** JSON Schema of format 1, published in docs/formats. */
export function proofJsonSchema(): unknown {
  return signedJsonSchema(hashkvBody, bootBody);
}
