import { escapeControls, formatAge, formatBytes } from "../format.ts";
import {
  openWholeCatalog,
  readCatalog,
  type Belief,
  type Catalog,
  type CatalogEntry,
  type CatalogOf,
  type ListedBackup,
} from "../repository/catalog.ts";
import type { Fault } from "../faults.ts";
import { openCatalogCache, type CatalogCache } from "../repository/cache.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Store } from "../store/store.ts";
import { openRows, type CatalogRow } from "../repository/rows.ts";
import type { RefusedProof } from "../repository/proofs.ts";
import { openAt, type StoreOptions } from "./copy.ts";
import { describeRow, formatStanding, type BackupDocument } from "./describe.ts";
import { formatTable } from "./table.ts";
import { printJson, type Console, type Environment, type Tools } from "./tools.ts";

/** Lists every backup that can be believed, oldest first; what cannot is told on stderr and fails the command with 12. */
export async function listCommand(environment: Environment, options: StoreOptions): Promise<number> {
  const { console } = environment;
  await using tools = openAt(environment, options);
  const { catalog, store, cache } = await openList(tools, environment.signal);
  const backups: BackupDocument[] = [];
  const refused: RefusedEntry[] = [];
  const refusedProofs: RefusedProof[] = [];
  for await (const entry of catalog.entries) {
    if (entry.row === undefined) {
      refused.push(entry);
      continue;
    }
    backups.push(describeRow(entry.row, entry.proofs, entry.pin));
    refusedProofs.push(...entry.refusedProofs);
  }
  if (options.json === true) {
    printJson(console, {
      schema: "etcd-lifeboat/list/v1",
      cluster: tools.loaded.config.cluster.name,
      store: store.description,
      lineages: catalog.lineages.map(({ schema: _, ...lineage }) => lineage),
      backups,
      refusedLineages: catalog.refusedLineages.map(({ lineage, refused: fault }) => ({
        lineage,
        code: fault.code,
        message: fault.message,
      })),
      refused: refused.map(({ listed, refused: fault }) => ({
        lineage: listed.lineage,
        backup: listed.backup,
        code: fault.code,
        message: fault.message,
      })),
      refusedProofs: refusedProofs.map(({ listed, refused: fault }) => ({
        lineage: listed.lineage,
        backup: listed.proof.backup,
        id: listed.proof.id,
        code: fault.code,
        message: fault.message,
      })),
    });
  } else {
    const nowMs = tools.clock.now();
    const several = catalog.lineages.length > 1;
    const rows = backups.map((shown) => [
      shown.backup,
      formatAge(Date.parse(shown.committedAt), nowMs),
      shown.revision.toString(),
      shown.keys.toString(),
      formatBytes(shown.plainBytes),
      formatBytes(shown.storedBytes),
      `${shown.state}${shown.encrypted ? ", encrypted" : ""}${shown.quorum === false ? ", no quorum" : ""}${shown.pinned === null ? "" : ", pinned"}`,
      formatStanding(shown),
      ...(several ? [shown.lineage] : []),
      shown.label ?? "",
    ]);
    if (rows.length === 0) console.err(`no backup in ${store.description}\n`);
    else {
      const head = [
        "BACKUP",
        "AGE",
        "REVISION",
        "KEYS",
        "SIZE",
        "STORED",
        "STATE",
        "PROOF",
        ...(several ? ["LINEAGE"] : []),
        "LABEL",
      ];
      console.out(formatTable([head, ...rows]));
    }
  }
  tellRefused(console, { ...catalog, entries: refused });
  tellRefusedProofs(console, refusedProofs);
  // With few backups nobody waits, and it is nobody's concern.
  if (cache?.problem !== undefined && backups.length >= manyBackups)
    console.err(
      `note: every manifest is read each time, since nothing can be kept of them: ${escapeControls(cache.problem)}\n`,
    );
  if (refused.length + refusedProofs.length + catalog.refusedLineages.length > 0) return 12;
  return backups.length === 0 ? 10 : 0;
}

/** What these names need of the catalog of the configured repository; `not-found` never, since an empty store is an empty catalog. */
export async function openCatalog(
  tools: Tools,
  names: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly catalog: Catalog; readonly store: Store }> {
  const { store, belief } = await openRepository(tools, signal);
  if (belief === undefined) return { catalog: emptyCatalog, store };
  return { catalog: await readCatalog(store, belief, { names, nowMs: tools.clock.now() }, signal), store };
}

/** The whole catalog of the configured repository; as it is iterated, no more than `atOnce` manifests are held. */
export async function openWhole(
  tools: Tools,
  atOnce: number,
  signal: AbortSignal,
): Promise<{
  readonly catalog: CatalogOf<Iterable<CatalogEntry> | AsyncIterable<CatalogEntry>>;
  readonly store: Store;
}> {
  const { store, belief } = await openRepository(tools, signal);
  if (belief === undefined) return { catalog: emptyCatalog, store };
  return { catalog: await openWholeCatalog(store, belief, atOnce, signal), store };
}

/** The whole catalog as rows, with the help of what was read before. */
async function openList(
  tools: Tools,
  signal: AbortSignal,
): Promise<{
  readonly catalog: CatalogOf<Iterable<CatalogRow> | AsyncIterable<CatalogRow>>;
  readonly store: Store;
  readonly cache: CatalogCache | undefined;
}> {
  const { store, belief } = await openRepository(tools, signal);
  if (belief === undefined) return { catalog: { ...emptyCatalog, entries: [] }, store, cache: undefined };
  const cache = await openCatalogCache(
    tools.catalogDirectory,
    { ...belief, store: store.description },
    tools.clock.now(),
  );
  return { catalog: await openRows(store, belief, cache, 8, signal), store, cache };
}

const emptyCatalog: Catalog = { lineages: [], refusedLineages: [], proofs: [], pins: [], entries: [] };

/** The belief is undefined where there is no repository yet. */
async function openRepository(
  tools: Tools,
  signal: AbortSignal,
): Promise<{ readonly store: Store; readonly belief: Belief | undefined }> {
  const store = await tools.store();
  const identity = await readIdentity(store, tools.loaded.config.cluster.name, signal);
  return { store, belief: identity && { repository: identity.id, trusted: await tools.trusted() } };
}

/** From so many on, it is told why `list` is slow. */
const manyBackups = 500;

type RefusedEntry = Pick<CatalogEntry, "listed"> & { readonly refused: Fault };

/** What looks like a backup and is none is never silently passed over. */
export function tellRefused(
  console: Console,
  catalog: Pick<Catalog, "refusedLineages"> & {
    readonly entries: readonly { readonly listed: ListedBackup; readonly refused?: Fault | undefined }[];
  },
): void {
  for (const { lineage, refused } of catalog.refusedLineages)
    console.err(`refused: lineage ${lineage}: ${escapeControls(refused.message)}\n`);
  for (const { listed, refused } of catalog.entries) {
    if (refused !== undefined)
      console.err(`refused: ${listed.lineage}/${listed.backup}: ${escapeControls(refused.message)}\n`);
  }
}

/** A document beside a backup that proves nothing, though its name says so. */
export function tellRefusedProofs(console: Console, refused: readonly RefusedProof[]): void {
  for (const { listed, refused: fault } of refused) {
    const { backup, kind, id } = listed.proof;
    console.err(`refused: ${kind} proof ${id} of ${listed.lineage}/${backup}: ${escapeControls(fault.message)}\n`);
  }
}
