import { dateBlurMs } from "../repository/gone.ts";
import type { ListedBackup, ListedMark, Listing } from "../repository/listing.ts";
import { goneName, isSnapshotObject, pinName, proofName, snapshotOf, snapshotsPrefix } from "../repository/names.ts";
import type { CatalogRow } from "../repository/rows.ts";
import type { ObjectEntry, Store } from "../store/store.ts";

/** What of a repository belongs to nothing, and what may be done about it: every date is the store's. */

export interface CollectBounds {
  /** What no manifest names for so long, nobody will commit any more. */
  readonly orphanMs: number;
  /** Between the mark and the removal of data: for those who read it, and for those who commit late. */
  readonly graceMs: number;
  /** A mark stays so long, for daemons that sleep. */
  readonly markMs: number;
}

const dayMs = 86_400_000;
export const collectBounds: CollectBounds = { orphanMs: 7 * dayMs, graceMs: dayMs, markMs: 90 * dayMs };

/** The data objects of one snapshot, committed or not. */
export interface Unit {
  readonly lineage: string;
  readonly snapshot: string;
  readonly objects: readonly ObjectEntry[];
  readonly storedBytes: number;
  readonly newestMs: number;
}

/** By the name of its mark. */
export type Units = ReadonlyMap<string, Unit>;

export async function listUnits(store: Store, lineages: readonly string[], signal: AbortSignal): Promise<Units> {
  const units = new Map<string, { lineage: string; snapshot: string; objects: ObjectEntry[] }>();
  for (const lineage of lineages) {
    for await (const entry of store.list(snapshotsPrefix(lineage), signal)) {
      if (!isSnapshotObject(lineage, entry.name)) continue;
      const snapshot = snapshotOf(entry.name);
      const name = goneName(lineage, snapshot);
      const unit = units.get(name) ?? { lineage, snapshot, objects: [] };
      unit.objects.push(entry);
      units.set(name, unit);
    }
  }
  return new Map([...units].map(([name, unit]) => [name, { ...unit, ...sumOf(unit.objects) }]));
}

function sumOf(objects: readonly ObjectEntry[]): Pick<Unit, "storedBytes" | "newestMs"> {
  return {
    storedBytes: objects.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    newestMs: objects.reduce((newest, { modifiedMs }) => Math.max(newest, modifiedMs), 0),
  };
}

export interface Collection {
  /** Nobody's for longer than the bound: to be marked. */
  readonly orphans: readonly Unit[];
  /** Marked, and a grace has passed: to be removed, once the mark is believed. */
  readonly due: readonly (Unit & { readonly mark: ListedMark; readonly blocked: boolean })[];
  /** Marked, and the grace has not passed. */
  readonly waiting: readonly Unit[];
  /** Marks whose data has been gone for long. */
  readonly spent: readonly ListedMark[];
  /** Marks of snapshots that a manifest had named before: to be taken back. */
  readonly overlooked: readonly ListedMark[];
  /** Manifests that were stored after the mark of their data. */
  readonly late: readonly ListedBackup[];
  /** Names of proofs and pins of backups that are not there. */
  readonly beside: readonly string[];
  /** Lineages in which no orphan is told from data, since a manifest there cannot be read. */
  readonly blocked: readonly string[];
}

/** Decides from a listing, and the rows that were read of it, what may be collected. Nothing is, where somebody might still name it. */
export function decideCollect(
  listing: Listing,
  rows: readonly CollectRow[],
  units: Units,
  bounds: CollectBounds,
  storeNowMs: number,
): Collection {
  const marks = new Map(listing.marks.map((mark) => [goneName(mark.lineage, mark.snapshot), mark]));
  const named = new Set(
    rows.flatMap(({ listed, snapshot }) => (snapshot === undefined ? [] : [goneName(listed.lineage, snapshot)])),
  );
  const blocked = new Set(rows.filter(({ snapshot }) => snapshot === undefined).map(({ listed }) => listed.lineage));
  const nobodys = [...units].filter(([name]) => !named.has(name));
  const ageOf = (stored: ObjectEntry): number => storeNowMs - stored.modifiedMs;
  const marked = nobodys.flatMap(([name, unit]) => {
    const mark = marks.get(name);
    return mark === undefined ? [] : [{ ...unit, mark, blocked: blocked.has(unit.lineage) }];
  });
  const orphans = nobodys.filter(
    ([name, unit]) => !marks.has(name) && !blocked.has(unit.lineage) && storeNowMs - unit.newestMs > bounds.orphanMs,
  );
  const backups = new Set(listing.backups.map(({ lineage, backup }) => `${lineage}/${backup}`));
  const beside = [
    ...listing.proofs.map(({ lineage, proof, stored }) => ({ lineage, backup: proof.backup, stored })),
    ...listing.pins,
  ].filter(({ lineage, backup, stored }) => !backups.has(`${lineage}/${backup}`) && ageOf(stored) > bounds.orphanMs);
  return {
    orphans: orphans.map(([, unit]) => unit),
    due: marked.filter(({ mark }) => ageOf(mark.stored) > bounds.graceMs),
    waiting: marked.filter(({ mark }) => ageOf(mark.stored) <= bounds.graceMs),
    spent: [...marks].flatMap(([name, mark]) =>
      units.has(name) || named.has(name) || ageOf(mark.stored) <= bounds.markMs ? [] : [mark],
    ),
    // A believed manifest of a marked snapshot stood there before: otherwise it would not be believed.
    overlooked: rows.flatMap(({ listed, snapshot, late }) => {
      const mark = late || snapshot === undefined ? undefined : marks.get(goneName(listed.lineage, snapshot));
      return mark === undefined ? [] : [mark];
    }),
    late: rows.flatMap(({ listed, snapshot, late }) => {
      const mark = late && snapshot !== undefined ? marks.get(goneName(listed.lineage, snapshot)) : undefined;
      if (mark === undefined || listed.stored === undefined || ageOf(listed.stored) <= bounds.graceMs) return [];
      return listed.stored.modifiedMs > mark.stored.modifiedMs + dateBlurMs ? [listed] : [];
    }),
    beside: beside.map(({ stored }) => stored.name),
    blocked: [...blocked],
  };
}

/** What collecting has to know of a manifest. */
export interface CollectRow {
  readonly listed: ListedBackup;
  /** Undefined: it cannot be read, and may name anything. */
  readonly snapshot: string | undefined;
  /** True: its data had been given up before it was stored. */
  readonly late: boolean;
}

export function collectRow(row: CatalogRow): CollectRow {
  if (row.row !== undefined) return { listed: row.listed, snapshot: row.row.snapshot, late: false };
  return { listed: row.listed, snapshot: row.late, late: row.late !== undefined };
}

/** Names of the proofs and pins of one backup. */
export function besides(listing: Pick<Listing, "proofs" | "pins">, lineage: string, backup: string): readonly string[] {
  return [
    ...listing.proofs
      .filter((listed) => listed.lineage === lineage && listed.proof.backup === backup)
      .map(({ proof }) => proofName(lineage, proof)),
    ...listing.pins
      .filter((pin) => pin.lineage === lineage && pin.backup === backup)
      .map(({ number }) => pinName(lineage, backup, number)),
  ];
}
