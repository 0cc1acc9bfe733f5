import { Fault, isFault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { digestOf } from "./documents.ts";
import { readLineage, type Lineage, type LineageHistory } from "./lineage.ts";
import { readManifest, type Manifest } from "./manifest.ts";
import { refuseGone } from "./gone.ts";
import { listRepository, type ListedBackup, type ListedPin, type ListedProof, type Listing } from "./listing.ts";
import { manifestName, snapshotOf } from "./names.ts";
import type { TrustedKeys } from "./signature.ts";

export { listRepository, type ListedBackup, type ListedProof, type Listing } from "./listing.ts";

/** A manifest as read: either believed, or refused with the reason. A refused one is no backup, but it is never hidden. */
export type CatalogEntry =
  | BelievedEntry
  | {
      readonly listed: ListedBackup;
      readonly manifest?: undefined;
      readonly refused: Fault;
      /** The snapshot that it names, when it is refused only because that had been given up before. */
      readonly late?: string;
    };

export interface BelievedEntry {
  readonly listed: ListedBackup;
  readonly manifest: Manifest;
  /** Of its stored bytes: what its proofs are bound to. */
  readonly manifestSha256: string;
  readonly refused?: undefined;
}

/** What a document must be to be believed. */
export interface Belief {
  /** Id of the repository that is being read. */
  readonly repository: string;
  /** Undefined: manifests need no signature. */
  readonly trusted: TrustedKeys | undefined;
}

/** Manifests that are read at the same time. */
const readAtOnce = 8;

/** Reads the manifests of the given backups, in their order. Faults of the store itself reject. All are held: for a few backups. */
export async function readEntries(
  store: Store,
  listed: readonly ListedBackup[],
  belief: Belief,
  signal: AbortSignal,
): Promise<readonly CatalogEntry[]> {
  return await Array.fromAsync(eachEntry(store, listed, belief, readAtOnce, signal));
}

/**
 * As `readEntries`, but holds no more than `atOnce` manifests: one has 0.1 MB for each GB of database, and a year of backups has thousands.
 */
export async function* eachEntry(
  store: Store,
  listed: readonly ListedBackup[],
  belief: Belief,
  atOnce: number,
  signal: AbortSignal,
): AsyncGenerator<CatalogEntry, void, undefined> {
  for (let from = 0; from < listed.length; from += atOnce) {
    const batch = listed.slice(from, from + atOnce).map((backup) => readEntry(store, backup, belief, signal));
    yield* await Promise.all(batch);
  }
}

/** Reads one manifest; as `readEntries`. */
export async function readEntry(
  store: Store,
  listed: ListedBackup,
  { repository, trusted }: Belief,
  signal: AbortSignal,
): Promise<CatalogEntry> {
  const name = manifestName(listed.lineage, listed.backup);
  try {
    const bytes = await store.read(name, signal);
    const manifest = readManifest(name, bytes, { ...listed, repository }, trusted);
    const snapshot = snapshotOf(manifest.data.object);
    const refused = await refuseGone(store, listed, snapshot, { repository, trusted }, signal);
    return refused === undefined
      ? { listed, manifest, manifestSha256: digestOf(bytes) }
      : { listed, refused, late: snapshot };
  } catch (error) {
    if (isFault(error, "manifest-invalid", "manifest-untrusted", "store-object-missing", "store-damaged")) {
      return { listed, refused: error };
    }
    throw error;
  }
}

/** Lineages and backups: those that were asked for, or all of them, which are read only as they are iterated. */
export interface CatalogOf<Entries> {
  /** By id, oldest first. */
  readonly lineages: readonly Lineage[];
  /** Lineages whose own document cannot be read. Their backups are listed all the same: on the worst day they may be the ones that are needed. */
  readonly refusedLineages: readonly { readonly lineage: string; readonly refused: Fault }[];
  /** All there are by their names, also of other backups. */
  readonly proofs: readonly ListedProof[];
  readonly pins: readonly ListedPin[];
  readonly entries: Entries;
}
export type Catalog = CatalogOf<readonly CatalogEntry[]>;
export type WholeCatalog = CatalogOf<AsyncIterable<CatalogEntry>>;

/** What a catalog is read for, as `findBackup` takes it: an hourly schedule makes thousands of manifests a year, and a restore must not wait for all. */
export interface Wanted {
  readonly names: readonly string[];
  readonly nowMs: number;
}

/** Opens the whole catalog; its entries can be iterated once, and hold no more than `atOnce` manifests. */
export async function openWholeCatalog(
  store: Store,
  belief: Belief,
  atOnce: number,
  signal: AbortSignal,
): Promise<WholeCatalog> {
  const listing = await listRepository(store, signal);
  const lineages = await readLineages(store, listing, belief, signal);
  const { proofs, pins } = listing;
  return { ...lineages, proofs, pins, entries: eachEntry(store, listing.backups, belief, atOnce, signal) };
}

/** Reads no more of the catalog than `findBackup` needs for these names. */
export async function readCatalog(store: Store, belief: Belief, only: Wanted, signal: AbortSignal): Promise<Catalog> {
  const listing = await listRepository(store, signal);
  const { lineages, refusedLineages } = await readLineages(store, listing, belief, signal);
  const read = (listed: readonly ListedBackup[]): Promise<readonly CatalogEntry[]> =>
    readEntries(store, listed, belief, signal);
  const found = [...(await read(listing.backups.filter((backup) => only.names.some((name) => isNamed(backup, name)))))];
  if (only.names.includes("latest")) {
    for (const lineage of newestFirst(lineages)) {
      const entries = await readUpToBelieved(listing, lineage, only.nowMs, read);
      found.push(...entries);
      if (entries.some(({ manifest }) => manifest !== undefined)) break;
    }
  }
  const byName = new Map(found.map((entry) => [entry.listed, entry]));
  return {
    lineages,
    refusedLineages,
    proofs: listing.proofs,
    pins: listing.pins,
    entries: listing.backups.flatMap((listed) => byName.get(listed) ?? []),
  };
}

/** Reads the documents of all lineages; those that cannot be believed are told apart. */
export async function readLineages(
  store: Store,
  listing: Listing,
  belief: Belief,
  signal: AbortSignal,
): Promise<Pick<Catalog, "lineages" | "refusedLineages">> {
  const lineages: Lineage[] = [];
  const refusedLineages: { lineage: string; refused: Fault }[] = [];
  const read = async (id: string): Promise<Lineage | { readonly lineage: string; readonly refused: Fault }> => {
    try {
      return await readLineage(store, belief.repository, id, signal);
    } catch (error) {
      if (!isFault(error, "manifest-invalid", "store-object-missing", "store-damaged")) throw error;
      return { lineage: id, refused: error };
    }
  };
  // Each import is one: there can be hundreds.
  for (let from = 0; from < listing.lineages.length; from += readAtOnce) {
    for (const found of await Promise.all(listing.lineages.slice(from, from + readAtOnce).map(read))) {
      if ("refused" in found) refusedLineages.push(found);
      else lineages.push(found);
    }
  }
  return { lineages, refusedLineages };
}

/** The ids of the live lineages. */
function newestFirst(lineages: readonly Lineage[]): readonly string[] {
  const live = lineages.filter(({ kind }) => kind === "live").map(({ lineage }) => lineage);
  return live.toSorted().toReversed();
}

/** The one backup that `wanted` names: an id, `LINEAGE/id`, or `latest` (the highest revision of the newest live lineage that has a backup). */
export function findBackup(catalog: Catalog, wanted: string): Manifest {
  return findEntry(catalog, wanted).manifest;
}

/** As `findBackup`, with what binds its proofs to it. */
export function findEntry(catalog: Catalog, wanted: string): BelievedEntry {
  const entries = wanted === "latest" ? latest(catalog) : matching(catalog, wanted);
  const [entry, second] = entries;
  if (entry === undefined) {
    throw new Fault("not-found", wanted === "latest" ? "the repository has no backup" : `no backup "${wanted}"`, {
      hint: "run: etcd-lifeboat list",
    });
  }
  if (second !== undefined) {
    const names = entries.map(({ listed }) => `${listed.lineage}/${listed.backup}`).join(", ");
    throw new Fault("usage", `"${wanted}" names more than one backup: ${names}`, { hint: "give the lineage too" });
  }
  if (entry.manifest === undefined) throw entry.refused;
  return entry;
}

function matching(catalog: Catalog, wanted: string): readonly CatalogEntry[] {
  return catalog.entries.filter(({ listed }) => isNamed(listed, wanted));
}

function isNamed({ lineage, backup }: ListedBackup, wanted: string): boolean {
  return backup === wanted || `${lineage}/${backup}` === wanted;
}

function latest(catalog: Catalog): readonly CatalogEntry[] {
  // A lineage that cannot be read may be the newest: an older backup is never handed out in its place.
  const unreadable = catalog.refusedLineages.at(-1);
  for (const lineage of newestFirst(catalog.lineages)) {
    if (unreadable !== undefined && unreadable.lineage > lineage) break;
    const [first, ...others] = catalog.entries.filter(
      ({ listed, manifest }) => listed.lineage === lineage && manifest !== undefined,
    );
    // Not the latest by its name alone: one wrong clock would hand out the same old backup for years. Of equals the last one, they are in order.
    if (first !== undefined)
      return [others.reduce((best, entry) => (height(entry) >= height(best) ? entry : best), first)];
  }
  if (unreadable !== undefined) throw unreadable.refused;
  return [];
}

function height({ manifest }: CatalogEntry): bigint {
  return manifest?.content.revision ?? -1n;
}

/**
 * What each lineage has lived through, from its newest manifests: each records the highest revision seen before it, so a few are enough. What is dated
 * after `nowMs` is read besides: a clock was or is wrong, and neither may hide the others.
 * A lineage whose newest manifests are all refused is judged by older ones; none left means only its own document speaks.
 */
export async function readHistories(
  store: Store,
  listing: Listing,
  belief: Belief,
  nowMs: number,
  signal: AbortSignal,
): Promise<readonly (LineageHistory & { readonly newest: Manifest | undefined })[]> {
  const histories: (LineageHistory & { readonly newest: Manifest | undefined })[] = [];
  for (const id of listing.lineages) {
    const lineage = await readLineage(store, belief.repository, id, signal);
    const read = (listed: readonly ListedBackup[]): Promise<readonly CatalogEntry[]> =>
      readEntries(store, listed, belief, signal);
    const entries = await readUpToBelieved(listing, id, nowMs, read);
    const manifests = entries.flatMap(({ manifest }) => (manifest === undefined ? [] : [manifest]));
    histories.push({
      lineage,
      newest: manifests[0],
      highestRevision: highest(
        manifests.map((manifest) => manifest.live?.highestRevision ?? manifest.content.revision),
      ),
      highestRaftIndex: highest(manifests.map((manifest) => manifest.live?.highestRaftIndex ?? 0n)),
    });
  }
  return histories;
}

/**
 * The newest manifests of a lineage up to the third that is believed, newest first, and after them the newest of those that are dated after `nowMs`.
 */
async function readUpToBelieved(
  listing: Listing,
  lineage: string,
  nowMs: number,
  read: (listed: readonly ListedBackup[]) => Promise<readonly CatalogEntry[]>,
): Promise<readonly CatalogEntry[]> {
  const wanted = 3;
  const own = listing.backups.filter((backup) => backup.lineage === lineage).toReversed();
  const { past = [], ahead = [] } = Object.groupBy(own, ({ name }) => (name.timeMs <= nowMs ? "past" : "ahead"));
  const found: CatalogEntry[] = [];
  for (const group of [past, ahead]) {
    let believed = 0;
    for (let from = 0; from < group.length && believed < wanted; from += wanted) {
      const entries = await read(group.slice(from, from + wanted));
      found.push(...entries);
      believed += entries.filter(({ manifest }) => manifest !== undefined).length;
    }
  }
  return found;
}

function highest(values: readonly bigint[]): bigint {
  return values.reduce((top, value) => (value > top ? value : top), 0n);
}
