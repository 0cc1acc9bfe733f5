import { Fault } from "../faults.ts";
import { escapeControls, formatBytes, formatDuration } from "../format.ts";
import { formatInstant } from "../repository/documents.ts";
import type { Manifest } from "../repository/manifest.ts";
import { proofRowOf, rowOf } from "../repository/row.ts";
import { previewBackup, runBackup, type BackupDependencies, type CommittedBackup } from "../snapshot/backup.ts";
import { warnOfSkew } from "../snapshot/skew.ts";
import { bringCopies, documentOf, isMissing, tellCopies, type CopyResult } from "./copy.ts";
import { describeBackup, describeRow } from "./describe.ts";
import { backupIfDue, type IfDue } from "./if-due.ts";
import { refuseClosed } from "./lock.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

export interface BackupOptions extends CommonOptions {
  readonly label?: string;
  readonly dryRun?: boolean;
  readonly schedule?: string;
  readonly ifDue?: boolean;
}

/** Takes one backup now, or with --dry-run says what it would do and why it would be refused. */
export async function backupCommand(environment: Environment, options: BackupOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const listener = environment.listen(console);
  try {
    for (const { about, message } of tools.loaded.warnings) listener.emit({ name: "warning", about, message });
    const deps = await tools.backup(listener.emit);
    await warnOfSkew(deps, signal);
    const schedule = scheduleOf(options);
    if (schedule !== undefined) {
      await sweepBefore(deps);
      const ended = await backupIfDue(tools, deps, schedule, signal);
      const copies = ended.kind === "committed" ? await copyOwn(tools, deps, ended.committed.manifest, signal) : [];
      listener.close();
      return reportIfDue(environment, schedule, ended, copies, options.json === true);
    }
    await refuseClosed(tools, signal);
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
    await sweepBefore(deps);
    const outcome = await runBackup(deps, { trigger: "demand", label: options.label }, signal);
    if (outcome.kind !== "committed") throw new Error("a backup on demand has a key of its own");
    const copies = await copyOwn(tools, deps, outcome.manifest, signal);
    listener.close();
    return reportCommitted(environment, outcome, copies, options.json === true);
  } finally {
    listener.close();
  }
}

/** The schedule whose slot is to be served; undefined: a backup on demand. */
function scheduleOf({ schedule, ifDue, label, dryRun }: BackupOptions): string | undefined {
  if (schedule === undefined && ifDue !== true) return undefined;
  const hint = "write: etcd-lifeboat backup --schedule NAME --if-due";
  if (schedule === undefined || ifDue !== true) {
    throw new Fault("usage", "--schedule and --if-due belong together: a slot is committed once", { hint });
  }
  if (label !== undefined || dryRun === true) {
    throw new Fault("usage", "--label and --dry-run are for a backup on demand, not for a schedule's", { hint });
  }
  return schedule;
}

/** The copies of a backup that was just committed, and of what they lack besides. It stands whatever becomes of them. */
export async function copyOwn(
  tools: Tools,
  deps: BackupDependencies,
  own: Manifest,
  signal: AbortSignal,
): Promise<readonly CopyResult[]> {
  return await bringCopies(tools, deps, await tools.copies(), own, signal);
}

async function sweepBefore({ spool, emit }: BackupDependencies): Promise<void> {
  const swept = await spool.sweep();
  if (swept.files > 0) emit({ name: "spool.swept", ...swept });
}

function reportIfDue(
  environment: Environment,
  schedule: string,
  ended: IfDue,
  copies: readonly CopyResult[],
  json: boolean,
): number {
  const { console } = environment;
  if (ended.kind === "committed") {
    if (ended.missed > 0) console.err(`${ended.missed} slots before it passed without a backup; it serves them\n`);
    return reportCommitted(environment, ended.committed, copies, json);
  }
  const slot = ended.slotMs === undefined ? null : formatInstant(ended.slotMs);
  const backup = ended.kind === "superseded" ? ended.backup : null;
  const next = ended.kind === "superseded" || ended.nextMs === undefined ? null : formatInstant(ended.nextMs);
  if (json)
    printJson(console, { schema: "etcd-lifeboat/if-due/v1", schedule, due: backup !== null, slot, backup, next });
  else if (backup === null)
    console.err(`not due: the newest slot, ${slot}, is committed; the next one is ${next ?? "never"}\n`);
  else {
    console.out(`${backup}\n`);
    console.err("somebody else committed this slot first: nothing is left to do\n");
  }
  return 0;
}

/** Prints a fresh backup and what members said of it. One that is only sealed is a success all the same, with a warning. */
function reportCommitted(
  environment: Environment,
  committed: CommittedBackup,
  copies: readonly CopyResult[],
  json: boolean,
): number {
  const { manifest, manifestSha256, finding, proof } = committed;
  const { verdict, reason, agreeing, diverged } = finding;
  const standing = describeRow(rowOf(manifest, manifestSha256), proof === undefined ? [] : [proofRowOf(proof)]);
  const status = report(environment, manifest, copies, json, { ...standing, reason, agreeing, diverged });
  const { console } = environment;
  if (verdict === "proven") {
    if (!json) console.err(`proven: ${escapeControls(reason)}\n`);
  } else console.err(`warning: sealed, not proven: ${escapeControls(reason)}\n`);
  return status;
}

/** Prints a fresh backup; the exit status says whether extras or a copy are missing. */
export function report(
  { console }: Environment,
  manifest: Manifest,
  copies: readonly CopyResult[],
  json: boolean,
  described: object = describeBackup(manifest),
): number {
  if (json) printJson(console, { schema: "etcd-lifeboat/backup/v1", ...described, copies: copies.map(documentOf) });
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
  if (!json || copies.some(isMissing)) tellCopies(console, copies);
  return manifest.extrasMissing.length > 0 || copies.some(isMissing) ? 3 : 0;
}
