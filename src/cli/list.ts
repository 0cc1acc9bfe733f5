import { escapeControls, formatAge, formatBytes } from "../format.ts";
import { readCatalog, type Catalog } from "../repository/catalog.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Store } from "../store/store.ts";
import { describeBackup } from "./describe.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Console, type Environment, type Tools } from "./tools.ts";

/** Lists every backup that can be believed, oldest first; what cannot is told on stderr and fails the command with 12. */
export async function listCommand(environment: Environment, options: CommonOptions): Promise<number> {
  const { console } = environment;
  await using tools = environment.open(options.config);
  const { catalog, store } = await openCatalog(tools, undefined, environment.signal);
  const backups = catalog.entries.flatMap(({ manifest }) => (manifest === undefined ? [] : [manifest]));
  const refused = catalog.entries.flatMap(({ listed, refused }) =>
    refused === undefined ? [] : [{ listed, refused }],
  );
  if (options.json === true) {
    printJson(console, {
      schema: "etcd-lifeboat/list/v1",
      cluster: tools.loaded.config.cluster.name,
      store: store.description,
      lineages: catalog.lineages.map(({ schema: _, ...lineage }) => lineage),
      backups: backups.map(describeBackup),
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
    const rows = backups.map((manifest) => {
      const shown = describeBackup(manifest);
      return [
        shown.backup,
        formatAge(Date.parse(shown.committedAt), nowMs),
        shown.revision.toString(),
        shown.keys.toString(),
        formatBytes(shown.plainBytes),
        formatBytes(shown.storedBytes),
        `${shown.state}${shown.encrypted ? ", encrypted" : ""}${shown.quorum === false ? ", no quorum" : ""}`,
        ...(several ? [shown.lineage] : []),
        shown.label ?? "",
      ];
    });
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
  tellRefused(console, catalog);
  if (refused.length > 0 || catalog.refusedLineages.length > 0) return 12;
  return backups.length === 0 ? 10 : 0;
}

/** The catalog of the configured repository, or what these names need of it; `not-found` never, since an empty store is an empty catalog. */
export async function openCatalog(
  tools: Tools,
  names: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<{ readonly catalog: Catalog; readonly store: Store }> {
  const store = await tools.store();
  const identity = await readIdentity(store, tools.loaded.config.cluster.name, signal);
  if (identity === undefined) return { catalog: { lineages: [], refusedLineages: [], entries: [] }, store };
  const belief = { repository: identity.id, trusted: await tools.trusted() };
  const only = names === undefined ? undefined : { names, nowMs: tools.clock.now() };
  return { catalog: await readCatalog(store, belief, only, signal), store };
}

/** What looks like a backup and is none is never silently passed over. */
export function tellRefused(console: Console, catalog: Catalog): void {
  for (const { lineage, refused } of catalog.refusedLineages)
    console.err(`refused: lineage ${lineage}: ${escapeControls(refused.message)}\n`);
  for (const { listed, refused } of catalog.entries) {
    if (refused !== undefined)
      console.err(`refused: ${listed.lineage}/${listed.backup}: ${escapeControls(refused.message)}\n`);
  }
}
