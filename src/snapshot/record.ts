import { abortFault, isFault } from "../faults.ts";
import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { formatInstant } from "../repository/documents.ts";
import type { Manifest } from "../repository/manifest.ts";
import { proofSchemaId, writeProof, type HashkvProof } from "../repository/proof.ts";
import type { Store } from "../store/store.ts";
import type { Encoder } from "./commit.ts";
import type { Finding } from "./prove.ts";

export interface RecordDependencies {
  readonly store: Store;
  readonly clock: Clock;
  readonly emit: Emit;
  readonly encoder: Pick<Encoder, "signer">;
  readonly toolVersion: string;
  readonly newId: () => string;
}

/** A committed backup, as its proofs name it. */
export interface Committed {
  readonly manifest: Manifest;
  /** Of its stored bytes. */
  readonly manifestSha256: string;
}

/** What was found of a backup, and the document that says so; undefined where the store did not take it. */
export interface Recorded {
  readonly finding: Finding;
  readonly proof: HashkvProof | undefined;
}

/**
 * Stores what was found of a committed backup beside it. It never rejects for the store's sake: the backup stands, and what is not recorded is not
 * proven, so the finding that results says so.
 */
export async function recordFinding(
  deps: RecordDependencies,
  committed: Committed,
  finding: Finding,
  signal: AbortSignal,
): Promise<Recorded> {
  const proof = describe(deps, committed, finding);
  try {
    await writeProof(deps.store, proof, deps.encoder.signer, signal);
    return { finding, proof };
  } catch (error) {
    const fault = signal.aborted ? abortFault(signal) : error;
    if (!isFault(fault)) throw fault;
    const reason = `the proof of ${committed.manifest.backup} could not be stored: ${fault.message}`;
    deps.emit({ name: "warning", about: "proof", message: reason });
    if (finding.verdict !== "proven") return { finding, proof: undefined };
    return { finding: { ...finding, verdict: "sealed", why: "unrecorded", passing: true, reason }, proof: undefined };
  }
}

/** Tells what became of a committed backup's proof. */
export function tellFinding(
  emit: Emit,
  run: string,
  { manifest }: Committed,
  { verdict, why, passing, reason, agreeing, diverged, alone }: Finding,
): void {
  const about = {
    run,
    schedule: manifest.slot?.schedule,
    backup: manifest.backup,
    lineage: manifest.lineage,
    revision: manifest.content.revision,
    committedMs: Date.parse(manifest.committedAt),
    reason,
  };
  if (verdict === "proven") emit({ name: "backup.proven", ...about, agreeing, diverged, alone });
  else emit({ name: "backup.sealed", ...about, why: verdict === "sealed" ? (why ?? "unknown") : verdict, passing });
}

/** What proofs of every kind say first: whose they are, and who made them when. */
export function proofHead(
  { clock, newId, toolVersion }: Pick<RecordDependencies, "clock" | "newId" | "toolVersion">,
  { manifest: { repository, lineage, backup }, manifestSha256 }: Committed,
): Pick<HashkvProof, "schema" | "tool" | "repository" | "lineage" | "backup" | "manifestSha256" | "id" | "madeAt"> {
  return {
    schema: proofSchemaId,
    tool: { name: "etcd-lifeboat", version: toolVersion },
    repository,
    lineage,
    backup,
    manifestSha256,
    id: newId(),
    madeAt: formatInstant(clock.now()),
  };
}

function describe(deps: RecordDependencies, committed: Committed, finding: Finding): HashkvProof {
  const { source, content } = committed.manifest;
  return {
    ...proofHead(deps, committed),
    kind: "hashkv",
    verdict: finding.verdict === "proven" ? "proven" : "sealed",
    reason: finding.reason,
    voters: finding.voters,
    needed: finding.needed,
    agreeing: [...finding.agreeing],
    diverged: [...finding.diverged],
    alone: finding.alone,
    source: source === null ? null : { memberId: source.memberId, name: source.name, learner: source.learner },
    revision: content.revision,
    compactRevision: finding.compactRevision ?? null,
    hash: finding.hash ?? null,
    answers: [...finding.answers],
  };
}
