import { escapeControls, formatBytes, formatDuration } from "../format.ts";
import type { Manifest } from "../repository/manifest.ts";
import { previewBackup, runBackup } from "../snapshot/backup.ts";
import { describeBackup } from "./describe.ts";
import { printJson, type CommonOptions, type Environment } from "./tools.ts";

export interface BackupOptions extends CommonOptions {
  readonly label?: string;
  readonly dryRun?: boolean;
}

/** Takes one backup now, or with --dry-run says what it would do and why it would be refused. */
export async function backupCommand(environment: Environment, options: BackupOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const listener = environment.listen(console);
  try {
    for (const { about, message } of tools.loaded.warnings) listener.emit({ name: "warning", about, message });
    const deps = await tools.backup(listener.emit);
    if (options.dryRun === true) {
      const preview = await previewBackup(deps, signal);
      listener.close();
      if (options.json === true) printJson(console, { schema: "etcd-lifeboat/backup-preview/v1", ...preview });
      else {
        console.out(
          [
            `source    ${escapeControls(preview.member)}: ${escapeControls(preview.reason)}`,
            `revision  ${preview.revision} now`,
            `lineage   ${preview.lineage ?? "a new one: the repository has none yet"}`,
            `spool     ${formatBytes(preview.neededBytes)} needed, ${formatBytes(preview.freeBytes)} free`,
            `store     ${preview.store}`,
            `encrypted ${preview.encrypted ? "yes" : "no"}`,
            "",
          ].join("\n"),
        );
        for (const finding of preview.findings) console.err(`warning: ${escapeControls(finding)}\n`);
      }
      return 0;
    }
    const swept = await deps.spool.sweep();
    if (swept.files > 0) listener.emit({ name: "spool.swept", ...swept });
    const outcome = await runBackup(deps, { trigger: "demand", label: options.label }, signal);
    listener.close();
    if (outcome.kind !== "committed") throw new Error("a backup on demand has a key of its own");
    return report(environment, outcome.manifest, options.json === true);
  } finally {
    listener.close();
  }
}

/** Prints a fresh backup; the exit status says whether extras are missing. */
export function report({ console }: Environment, manifest: Manifest, json: boolean): number {
  if (json) printJson(console, { schema: "etcd-lifeboat/backup/v1", ...describeBackup(manifest) });
  else {
    const took = Date.parse(manifest.committedAt) - Date.parse(manifest.startedAt);
    console.out(`${manifest.backup}\n`);
    console.err(
      `committed at revision ${manifest.content.revision}: ${manifest.content.keys} keys, ${formatBytes(manifest.data.plainBytes)}, ` +
        `stored as ${formatBytes(manifest.data.storedBytes)}, in ${formatDuration(took)}\n`,
    );
  }
  if (manifest.live?.quorum === false)
    console.err("warning: the cluster had no quorum; this is the highest member that answered\n");
  for (const { path, why } of manifest.extrasMissing) {
    console.err(`warning: extra ${escapeControls(path)} is missing from the backup: ${escapeControls(why)}\n`);
  }
  return manifest.extrasMissing.length > 0 ? 3 : 0;
}
