import { resolve } from "node:path";
import { formatBytes } from "../format.ts";
import { findBackup } from "../repository/catalog.ts";
import { fetchBackup } from "../snapshot/fetch.ts";
import { decryptionFor } from "../snapshot/verify.ts";
import { openAt, type StoreOptions } from "./copy.ts";
import { openCatalog, tellRefused } from "./list.ts";
import { printJson, type Environment } from "./tools.ts";

export interface FetchOptions extends StoreOptions {
  readonly output: string;
}

/** Fetches a backup as a plain .db file with its seal, ready for `etcdutl snapshot restore`. */
export async function fetchCommand(environment: Environment, wanted: string, options: FetchOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = openAt(environment, options);
  const { catalog, store } = await openCatalog(tools, [wanted], signal);
  tellRefused(console, catalog);
  const manifest = findBackup(catalog, wanted);
  const encryption = await decryptionFor(manifest, tools.identities);
  const output = resolve(options.output);
  const listener = environment.listen(console);
  try {
    const totalBytes = manifest.data.plainBytes;
    const onBytes = (doneBytes: number): void =>
      listener.emit({ name: "backup.progress", run: manifest.backup, phase: "readback", doneBytes, totalBytes });
    await fetchBackup({ store, scan: tools.scan }, manifest, encryption, output, onBytes, signal);
  } finally {
    listener.close();
  }
  const { revision, seal } = manifest.content;
  if (options.json === true) {
    const { backup, lineage } = manifest;
    printJson(console, {
      schema: "etcd-lifeboat/fetch/v1",
      backup,
      lineage,
      output,
      plainBytes: manifest.data.plainBytes,
      revision,
      seal,
    });
  } else {
    console.out(`${output}\n`);
    console.err(`revision ${revision}, ${formatBytes(manifest.data.plainBytes)}, seal ${seal} checked\n`);
  }
  return 0;
}
