import type { Store } from "../store/store.ts";
import { readEntries, type Belief } from "./catalog.ts";
import type { ListedBackup, Listing } from "./listing.ts";
import type { Manifest } from "./manifest.ts";
import { readProofs } from "./proofs.ts";

/** Names that claim a proof and have none are passed over, but not for years. */
const looksBack = 10;

/** The newest of these backups (oldest first) that is proven: its manifest and a proof of it are believed, not only named. Undefined: none of the last few. */
export async function newestProven(
  store: Store,
  listing: Pick<Listing, "proofs">,
  among: readonly ListedBackup[],
  belief: Belief,
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  const proofs = listing.proofs.filter(({ proof }) => proof.kind === "hashkv" && proof.verdict === "proven");
  const claimed = new Set(proofs.map(({ lineage, proof }) => `${lineage}/${proof.backup}`));
  const claiming = among.filter(({ lineage, backup }) => claimed.has(`${lineage}/${backup}`));
  for (const listed of claiming.slice(-looksBack).toReversed()) {
    const [entry] = await readEntries(store, [listed], belief, signal);
    if (entry?.manifest === undefined) continue;
    const read = await readProofs(store, { proofs }, entry, belief, signal);
    if (read.proofs.some(({ verdict }) => verdict === "proven")) return entry.manifest;
  }
  return undefined;
}
