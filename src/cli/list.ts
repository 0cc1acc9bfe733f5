import { escapeControls, formatAge, formatBytes } from "../format.ts";
import {
  openWholeCatalog,
  readCatalog,
  type Belief,
  type Catalog,
  type CatalogEntry,
  type CatalogOf,
} from "../repository/catalog.ts";
import type { Fault } from "../faults.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Store } from "../store/store.ts";
import { describeBackup, type BackupDocument } from "./describe.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Console, type Environment, type Tools } from "./tools.ts";

/** Lists every backup that can be believed, oldest first; what cannot is told on stderr and fails the command with 12. */
export async function listCommand(environment: Environment, options: CommonOptions): Promise<number> {
  const { console } = environment;
  await using tools = environment.open(options.config);
  const { catalog, store } = await openWhole(tools, 8, environment.signal);
  const backups: BackupDocument[] = [];
  const refused: RefusedEntry[] = [];
  for await (const entry of catalog.entries) {
    // Of a manifest only what is shown is kept: all of them together can be gigabytes.
    if (entry.manifest === undefined) refused.push(entry);
    else backups.push(describeBackup(entry.manifest));
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
      `${shown.state}${shown.encrypted ? ", encrypted" : ""}${shown.quorum === false ? ", no quorum" : ""}`,
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
        ...(several ? ["LINEAGE"] : []),
        "LABEL",
      ];
      console.out(formatTable([head, ...rows]));
    }
  }
  tellRefused(console, { ...catalog, entries: refused });
  if (refused.length > 0 || catalog.refusedLineages.length > 0) return 12;
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

const emptyCatalog: Catalog = { lineages: [], refusedLineages: [], entries: [] };

/** The belief is undefined where there is no repository yet. */
async function openRepository(
  tools: Tools,
  signal: AbortSignal,
): Promise<{ readonly store: Store; readonly belief: Belief | undefined }> {
  const store = await tools.store();
  const identity = await readIdentity(store, tools.loaded.config.cluster.name, signal);
  return { store, belief: identity && { repository: identity.id, trusted: await tools.trusted() } };
}

type RefusedEntry = Extract<CatalogEntry, { readonly refused: Fault }>;

/** What looks like a backup and is none is never silently passed over. */
export function tellRefused(console: Console, catalog: Catalog): void {
  for (const { lineage, refused } of catalog.refusedLineages)
    console.err(`refused: lineage ${lineage}: ${escapeControls(refused.message)}\n`);
  for (const { listed, refused } of catalog.entries) {
    if (refused !== undefined)
      console.err(`refused: ${listed.lineage}/${listed.backup}: ${escapeControls(refused.message)}\n`);
  }
}
