import { escapeControls } from "../format.ts";
import { findBackup } from "../repository/catalog.ts";
import { Fault, isFault } from "../faults.ts";
import { verifyBackup, verifyLevels } from "../snapshot/verify.ts";
import { openCatalog, tellRefused } from "./list.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Environment } from "./tools.ts";

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
  const { catalog, store } = await openCatalog(tools, wanted.length === 0 ? undefined : wanted, signal);
  if (wanted.length > 0) tellRefused(console, catalog);
  const entries =
    wanted.length === 0
      ? catalog.entries
      : wanted.map((id) => {
          const manifest = findBackup(catalog, id);
          return { listed: { lineage: manifest.lineage, backup: manifest.backup }, manifest, refused: undefined };
        });
  if (entries.length === 0)
    throw new Fault("not-found", `no backup in ${store.description}`, { hint: "run: etcd-lifeboat backup" });
  const deps = { store, spool: tools.spool, scan: tools.scan, identities: tools.identities, newId: tools.newId };
  const results: { lineage: string; backup: string; ok: boolean; code: string | null; message: string | null }[] = [];
  let worst = 0;
  for (const { listed, manifest, refused } of entries) {
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

/** Damage outranks everything; otherwise the first failure's status stays. */
function worse(status: number, fault: Fault): number {
  if (fault.exitStatus === 12) return 12;
  return status === 0 ? fault.exitStatus : status;
}
