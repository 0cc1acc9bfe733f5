import { escapeControls } from "../format.ts";
import { findBackup, type CatalogEntry } from "../repository/catalog.ts";
import { Fault, isFault } from "../faults.ts";
import { verifyBackup, verifyLevels } from "../snapshot/verify.ts";
import type { Store } from "../store/store.ts";
import { openCatalog, openWhole, tellRefused } from "./list.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Console, type Environment, type Tools } from "./tools.ts";

export interface VerifyOptions extends CommonOptions {
  readonly level: string;
}

/** Verifies the named backups, or all of them; 12 when one is damaged, 4 when a level cannot be done for want of a key. */
export async function verifyCommand(
  environment: Environment,
  wanted: readonly string[],
  options: VerifyOptions,
): Promise<number> {
  const { console, signal } = environment;
  const level = verifyLevels.find((known) => known === options.level);
  if (level === undefined) {
    throw new Fault("usage", `unknown level "${options.level}"`, { hint: `one of: ${verifyLevels.join(", ")}` });
  }
  await using tools = environment.open(options.config);
  const { entries, store } = await openEntries(tools, wanted, console, signal);
  const deps = { store, spool: tools.spool, scan: tools.scan, identities: tools.identities, newId: tools.newId };
  const results: { lineage: string; backup: string; ok: boolean; code: string | null; message: string | null }[] = [];
  let worst = 0;
  for await (const { listed, manifest, refused } of entries) {
    let fault: Fault | undefined = refused;
    if (manifest !== undefined) {
      try {
        await verifyBackup(deps, manifest, level, signal);
      } catch (error) {
        if (!isFault(error) || error.code === "interrupted") throw error;
        fault = error;
      }
    }
    const { lineage, backup } = listed;
    results.push({
      lineage,
      backup,
      ok: fault === undefined,
      code: fault?.code ?? null,
      message: fault?.message ?? null,
    });
    if (fault !== undefined) worst = worse(worst, fault);
  }
  if (results.length === 0)
    throw new Fault("not-found", `no backup in ${store.description}`, { hint: "run: etcd-lifeboat backup" });
  if (options.json === true) printJson(console, { schema: "etcd-lifeboat/verify/v1", level, results });
  else {
    const rows = results.map(({ backup, ok, message }) => [
      backup,
      ok ? "ok" : "FAILED",
      ok ? level : escapeControls(message ?? ""),
    ]);
    console.out(formatTable([["BACKUP", "RESULT", "LEVEL OR REASON"], ...rows]));
  }
  return worst;
}

type Entry = Pick<CatalogEntry, "manifest" | "refused"> & {
  readonly listed: { readonly lineage: string; readonly backup: string };
};

/** The named backups, or all: these are read one by one, since all manifests together can be gigabytes. */
async function openEntries(
  tools: Tools,
  wanted: readonly string[],
  console: Console,
  signal: AbortSignal,
): Promise<{ readonly entries: Iterable<Entry> | AsyncIterable<Entry>; readonly store: Store }> {
  if (wanted.length === 0) {
    const { catalog, store } = await openWhole(tools, 1, signal);
    return { entries: catalog.entries, store };
  }
  const { catalog, store } = await openCatalog(tools, wanted, signal);
  tellRefused(console, catalog);
  const entries = wanted.map((id) => {
    const manifest = findBackup(catalog, id);
    return { listed: { lineage: manifest.lineage, backup: manifest.backup }, manifest, refused: undefined };
  });
  return { entries, store };
}

/** Damage outranks everything; otherwise the first failure's status stays. */
function worse(status: number, fault: Fault): number {
  if (fault.exitStatus === 12) return 12;
  return status === 0 ? fault.exitStatus : status;
}
