import { resolve } from "node:path";
import { importSnapshot } from "../snapshot/import.ts";
import { copyOwn, report } from "./backup.ts";
import type { CommonOptions, Environment } from "./tools.ts";

export interface ImportOptions extends CommonOptions {
  readonly label?: string;
}

/** Makes an etcdctl snapshot file a backup in a lineage of its own, marked foreign. */
export async function importCommand(environment: Environment, file: string, options: ImportOptions): Promise<number> {
  await using tools = environment.open(options.config);
  const listener = environment.listen(environment.console);
  try {
    const deps = await tools.backup(listener.emit);
    const manifest = await importSnapshot(deps, resolve(file), options.label, environment.signal);
    const copies = await copyOwn(tools, deps, manifest, environment.signal);
    listener.close();
    return report(environment, manifest, copies, options.json === true);
  } finally {
    listener.close();
  }
}
