import type { Fault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import type { CatalogCache } from "./cache.ts";
import { readEntry, readLineages, type Belief, type CatalogOf } from "./catalog.ts";
import { refuseGone } from "./gone.ts";
import { listRepository, type ListedBackup, type ListedPin, type ListedProof, type Listing } from "./listing.ts";
import { readPin, type PinState } from "./pin.ts";
import { readListedProof, type RefusedProof } from "./proofs.ts";
import { proofRowOf, rowOf, type BackupRow, type ProofRow } from "./row.ts";

/** A backup as a list shows it, with what its valid proofs say; or refused, with the reason. */
export type CatalogRow =
  | {
      readonly listed: ListedBackup;
      readonly row: BackupRow;
      /** Oldest first. */
      readonly proofs: readonly ProofRow[];
      readonly refusedProofs: readonly RefusedProof[];
      /** Undefined: it was never pinned. */
      readonly pin: PinState | undefined;
      readonly refused?: undefined;
    }
  | { readonly listed: ListedBackup; readonly row?: undefined; readonly refused: Fault; readonly late?: string };

/** Opens the whole catalog as rows, which can be iterated once; no more than `atOnce` backups are read at a time, and none that the cache still knows. */
export async function openRows(
  store: Store,
  belief: Belief,
  cache: CatalogCache,
  atOnce: number,
  signal: AbortSignal,
): Promise<CatalogOf<AsyncIterable<CatalogRow>>> {
  const listing = await listRepository(store, signal);
  const lineages = await readLineages(store, listing, belief, signal);
  const { proofs, pins } = listing;
  return { ...lineages, proofs, pins, entries: eachRow(store, listing, belief, cache, atOnce, signal) };
}

/** The rows of a listing; as `openRows`. */
export async function* eachRow(
  store: Store,
  listing: Listing,
  belief: Belief,
  cache: CatalogCache,
  atOnce: number,
  signal: AbortSignal,
): AsyncGenerator<CatalogRow, void, undefined> {
  const proofs = Map.groupBy(listing.proofs, ({ lineage, proof }) => `${lineage}/${proof.backup}`);
  const pins = Map.groupBy(listing.pins, ({ lineage, backup }) => `${lineage}/${backup}`);
  const read = (listed: ListedBackup): Promise<CatalogRow> => {
    const name = `${listed.lineage}/${listed.backup}`;
    const beside = { proofs: proofs.get(name) ?? [], pins: pins.get(name) ?? [] };
    return readRow(store, listed, beside, belief, cache, signal);
  };
  let complete = false;
  try {
    for (let from = 0; from < listing.backups.length; from += atOnce) {
      yield* await Promise.all(listing.backups.slice(from, from + atOnce).map(read));
    }
    complete = true;
  } finally {
    // What was read before somebody lost patience is not read again.
    await cache.save(complete);
  }
}

async function readRow(
  store: Store,
  listed: ListedBackup,
  beside: { readonly proofs: readonly ListedProof[]; readonly pins: readonly ListedPin[] },
  belief: Belief,
  cache: CatalogCache,
  signal: AbortSignal,
): Promise<CatalogRow> {
  let row = cache.backup(listed);
  if (row === undefined) {
    const entry = await readEntry(store, listed, belief, signal);
    if (entry.manifest === undefined) return entry;
    row = rowOf(entry.manifest, entry.manifestSha256);
    cache.keepBackup(listed, row);
  } else {
    const refused = await refuseGone(store, listed, row.snapshot, belief, signal);
    if (refused !== undefined) return { listed, refused, late: row.snapshot };
  }
  const proofs: ProofRow[] = [];
  const refusedProofs: RefusedProof[] = [];
  for (const candidate of beside.proofs) {
    const known = cache.proof(candidate, row.manifestSha256);
    if (known !== undefined) {
      proofs.push(known);
      continue;
    }
    const read = await readListedProof(store, candidate, row.manifestSha256, belief, signal);
    if (read.proof === undefined) {
      refusedProofs.push(read);
      continue;
    }
    const proofRow = proofRowOf(read.proof);
    cache.keepProof(candidate, proofRow);
    proofs.push(proofRow);
  }
  const pin = await readPin(store, beside.pins, belief, signal);
  return { listed, row, proofs, refusedProofs, pin };
}
