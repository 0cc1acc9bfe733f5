import { isFault, type Fault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import type { Belief } from "./catalog.ts";
import type { ListedBackup, ListedProof, Listing } from "./listing.ts";
import { proofName } from "./names.ts";
import { readProof, type Proof } from "./proof.ts";

/** A proof as read: either believed, or refused with the reason. A refused one proves nothing, but it is never hidden. */
export type ReadProof =
  { readonly listed: ListedProof; readonly proof: Proof; readonly refused?: undefined } | RefusedProof;
export interface RefusedProof {
  readonly listed: ListedProof;
  readonly proof?: undefined;
  readonly refused: Fault;
}

/** A believed manifest, to which its proofs are bound. */
export interface ProvenBy {
  readonly listed: Pick<ListedBackup, "lineage" | "backup">;
  readonly manifestSha256: string;
}

/** Reads one proof of a believed manifest. Faults of the store itself reject. */
export async function readListedProof(
  store: Store,
  listed: ListedProof,
  manifestSha256: string,
  { repository, trusted }: Belief,
  signal: AbortSignal,
): Promise<ReadProof> {
  const { lineage, proof } = listed;
  const name = proofName(lineage, proof);
  try {
    const subject = { repository, lineage, backup: proof.backup, manifestSha256 };
    return { listed, proof: readProof(name, await store.read(name, signal), subject, trusted) };
  } catch (error) {
    if (!isFault(error, "manifest-invalid", "manifest-untrusted", "store-object-missing", "store-damaged")) throw error;
    return { listed, refused: error };
  }
}

/** Reads all proofs of a backup, one after the other: those that are believed, newest last, and those that are refused. */
export async function readProofs(
  store: Store,
  listing: Pick<Listing, "proofs">,
  { listed, manifestSha256 }: ProvenBy,
  belief: Belief,
  signal: AbortSignal,
): Promise<{ readonly proofs: readonly Proof[]; readonly refused: readonly RefusedProof[] }> {
  const proofs: Proof[] = [];
  const refused: RefusedProof[] = [];
  for (const candidate of listing.proofs) {
    if (candidate.lineage !== listed.lineage || candidate.proof.backup !== listed.backup) continue;
    const read = await readListedProof(store, candidate, manifestSha256, belief, signal);
    if (read.proof === undefined) refused.push(read);
    else proofs.push(read.proof);
  }
  return { proofs, refused };
}
