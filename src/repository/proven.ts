import type { Store } from "../store/store.ts";
import { readEntries, type Belief } from "./catalog.ts";
import type { ListedBackup, Listing } from "./listing.ts";
import type { Manifest } from "./manifest.ts";
import type { HashkvProof } from "./proof.ts";
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

/** The newest of these backups (oldest first) whose manifest is believed. Undefined: none of the last few. */
export async function newestBelieved(
  store: Store,
  among: readonly ListedBackup[],
  belief: Belief,
  signal: AbortSignal,
): Promise<Manifest | undefined> {
  for (const listed of among.slice(-looksBack).toReversed()) {
    const [entry] = await readEntries(store, [listed], belief, signal);
    if (entry?.manifest !== undefined) return entry.manifest;
  }
  return undefined;
}

/**
 * The newest lineage in which a schedule has committed: what is fresh, and which slots are served, is asked of the present history alone. Imported files are none
 * of a schedule. Undefined: there is none, or none whose manifests are believed.
 */
export async function scheduledLineage(
  store: Store,
  listing: Pick<Listing, "backups">,
  belief: Belief,
  signal: AbortSignal,
): Promise<string | undefined> {
  const lineages = Map.groupBy(
    listing.backups.filter(({ name }) => name.kind === "slot"),
    ({ lineage }) => lineage,
  );
  // Ids sort by creation.
  for (const [lineage, backups] of [...lineages].toSorted(([a], [b]) => (a < b ? 1 : -1))) {
    if ((await newestBelieved(store, backups, belief, signal)) !== undefined) return lineage;
  }
  return undefined;
}

/** A member that held other data than the majority when it was last compared, and by which proof that is known. */
export interface Diverged {
  readonly member: string;
  readonly backup: string;
  readonly madeAt: string;
}

/** So many backups are looked at: a member that is not asked any more is forgotten some day. */
const comparedAtMost = 5;

/** What the newest backups' proofs say of members, each by the newest proof that names it. */
export async function divergedMembers(
  store: Store,
  listing: Pick<Listing, "proofs" | "backups">,
  belief: Belief,
  signal: AbortSignal,
): Promise<readonly Diverged[]> {
  const compared = new Set(
    listing.proofs.flatMap(({ lineage, proof }) => (proof.kind === "hashkv" ? [`${lineage}/${proof.backup}`] : [])),
  );
  const newest = listing.backups.filter(({ lineage, backup }) => compared.has(`${lineage}/${backup}`));
  const documents: HashkvProof[] = [];
  for (const entry of await readEntries(store, newest.slice(-comparedAtMost), belief, signal)) {
    if (entry.manifest === undefined) continue;
    const { proofs } = await readProofs(store, listing, entry, belief, signal);
    documents.push(...proofs.filter((proof) => proof.kind === "hashkv"));
  }
  const standing = new Map<string, Diverged | undefined>();
  for (const { agreeing, diverged, backup, madeAt } of documents.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
    for (const member of agreeing) standing.set(member, undefined);
    for (const member of diverged) standing.set(member, { member, backup, madeAt });
  }
  return [...standing.values()].filter((one) => one !== undefined);
}
