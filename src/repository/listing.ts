import type { ObjectEntry, Store } from "../store/store.ts";
import {
  goneName,
  lineagesPrefix,
  parseObjectName,
  type BackupName,
  type ListedName,
  type ProofName,
} from "./names.ts";

/** What the names in a repository say; documents are read only where their content is needed. */
export interface Listing {
  /** By id, oldest first; also one of which only backups are there, whose own document was lost. */
  readonly lineages: readonly string[];
  /** Lineages whose own document is there. */
  readonly documents: readonly string[];
  /** By time, oldest first. */
  readonly backups: readonly ListedBackup[];
  /** In the order of their ids, which is that of their making. What a name claims is proven by nothing but the document itself. */
  readonly proofs: readonly ListedProof[];
  readonly pins: readonly ListedPin[];
  /** Snapshots whose data objects are given up. */
  readonly marks: readonly ListedMark[];
}

export interface ListedBackup {
  readonly lineage: string;
  readonly backup: string;
  readonly name: BackupName;
  /** Size of the manifest itself. */
  readonly manifestBytes: number;
  /** The manifest as the store lists it; absent where it was not listed. */
  readonly stored?: ObjectEntry;
  /** All marks by their object's name; absent where they were not listed. */
  readonly marks?: ReadonlyMap<string, ListedMark>;
}

export interface ListedPin {
  readonly lineage: string;
  readonly backup: string;
  readonly number: number;
  readonly stored: ObjectEntry;
}

export interface ListedMark {
  readonly lineage: string;
  readonly snapshot: string;
  readonly stored: ObjectEntry;
}

export interface ListedProof {
  readonly lineage: string;
  readonly proof: ProofName;
  readonly stored: ObjectEntry;
}

/** Lists the names under `lineages/`; what does not fit the grammar is left out. */
export async function listRepository(store: Store, signal: AbortSignal): Promise<Listing> {
  const lineages = new Set<string>();
  const lineageDocuments: string[] = [];
  const backups: ListedBackup[] = [];
  const proofs: ListedProof[] = [];
  const pins: ListedPin[] = [];
  const marks = new Map<string, ListedMark>();
  for await (const { parsed, entry } of documents(store, signal)) {
    if (parsed.kind === "proof") {
      proofs.push({ lineage: parsed.lineage, proof: parsed.proof, stored: entry });
      continue;
    }
    if (parsed.kind === "pin") {
      pins.push({ lineage: parsed.lineage, backup: parsed.backup, number: parsed.number, stored: entry });
      continue;
    }
    if (parsed.kind === "gone") {
      const { lineage, snapshot } = parsed;
      marks.set(goneName(lineage, snapshot), { lineage, snapshot, stored: entry });
      continue;
    }
    lineages.add(parsed.lineage);
    if (parsed.kind === "lineage") lineageDocuments.push(parsed.lineage);
    if (parsed.kind === "manifest") {
      backups.push({ ...parsed, manifestBytes: entry.storedBytes, stored: entry, marks });
    }
  }
  return {
    lineages: [...lineages].toSorted(),
    documents: lineageDocuments,
    backups: backups.toSorted((a, b) => a.name.timeMs - b.name.timeMs || (a.backup < b.backup ? -1 : 1)),
    proofs: proofs.toSorted((a, b) => (a.proof.id < b.proof.id ? -1 : 1)),
    pins,
    marks: [...marks.values()],
  };
}

/** As many names that say nothing are read on, a page of S3's; then it is cheaper to ask anew for what follows their folder. */
const patience = 1000;

/** The documents among the names. Folders of data (`lineages/<lineage>/snapshots/`) have as many names again, and are passed over. */
async function* documents(
  store: Store,
  signal: AbortSignal,
): AsyncGenerator<{ readonly parsed: ListedName; readonly entry: ObjectEntry }> {
  let after = "";
  for (;;) {
    const next: string | undefined = yield* untilDull(store, after, signal);
    // A store that does not know where to begin gives the same names again, which `list` drops: then it is read to its end.
    if (next === undefined || next <= after) return;
    after = next;
  }
}

/** The documents after a name. Returns what to go on after when many names in a row were none, and undefined at the end. */
async function* untilDull(
  store: Store,
  after: string,
  signal: AbortSignal,
): AsyncGenerator<{ readonly parsed: ListedName; readonly entry: ObjectEntry }, string | undefined> {
  let dull = 0;
  for await (const entry of store.list(after === "" ? lineagesPrefix : { prefix: lineagesPrefix, after }, signal)) {
    const parsed = parseObjectName(entry.name);
    if (parsed !== undefined) {
      dull = 0;
      yield { parsed, entry };
      continue;
    }
    dull += 1;
    // "~" sorts after every character of a name.
    const folder = /^lineages\/[^/]+\/[^/]+\//.exec(entry.name)?.[0];
    if (dull >= patience && folder !== undefined) return `${folder}~`;
  }
  return undefined;
}
