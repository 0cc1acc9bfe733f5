import { Fault } from "../faults.ts";
import { escapeControls, formatBytes, formatTime } from "../format.ts";
import { adoptStrangers, executeCleanup, planCleanup, type CleanupPlan } from "../restore/cleanup.ts";
import type { Journals } from "../runbook/journal.ts";
import { standingOf } from "../runbook/standing.ts";
import { confirm, repositoryId, type Confirmation } from "./operation.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

export interface CleanupOptions extends CommonOptions, Confirmation {
  readonly plan?: boolean;
}

/** Removes the old data that restores moved aside: lists it, asks, removes it. */
export async function cleanupCommand(
  environment: Environment,
  operation: string | undefined,
  options: CleanupOptions,
): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const listener = environment.listen(console);
  try {
    const deps = await tools.hosts({ repository: await repositoryId(tools, signal), emit: listener.emit });
    const journals = tools.journals(listener.emit);
    await adoptStrangers(deps, journals, signal);
    const plan = await planCleanup(deps, journals, operation, signal);
    const { found, refusals } = plan;
    if (options.json !== true) console.err(describePlan(plan));
    const [refusal] = refusals;
    const removed: { host: string; path: string; bytes: number }[] = [];
    if (refusal === undefined && options.plan !== true && found.length > 0) {
      await confirm(console, options, tools.loaded.config.cluster.name);
      const onRemoved = (host: string, path: string, bytes: number): void => {
        removed.push({ host, path, bytes });
        if (options.json !== true) console.out(`removed ${escapeControls(path)} of ${host}, ${formatBytes(bytes)}\n`);
      };
      await executeCleanup(deps, journals, { plan, only: operation }, onRemoved, signal);
      const over = operation === undefined ? await finished(tools, journals, signal) : [operation];
      for (const { mirror, message } of await journals.removeCopies(over, signal))
        console.err(`warning: copies of the journals stay on ${mirror}: ${escapeControls(message)}\n`);
    }
    if (options.json === true) printJson(console, { schema: "etcd-lifeboat/cleanup/v1", ...documentOf(plan), removed });
    if (refusal !== undefined) throw new Fault("cleanup-refused", refusal.message, { hint: refusal.hint });
    return 0;
  } finally {
    listener.close();
  }
}

/** Operations that nobody goes on with: no copy of their journals is needed, and this machine's own stay. */
async function finished({ loaded }: Tools, journals: Journals, signal: AbortSignal): Promise<readonly string[]> {
  const { name } = loaded.config.cluster;
  return (await journals.list(signal)).flatMap(({ plan, entries }) => {
    const { ended, left } = standingOf(plan, entries);
    return plan.cluster === name && ended !== undefined && left.size === 0 ? [plan.id] : [];
  });
}

function describePlan({ found, strange, refusals, backup }: CleanupPlan): string {
  const lines: string[] = [];
  for (const { operation, command, leftMs, host, member, paths } of found) {
    for (const { path, removing, half, bytes } of paths) {
      const what = half ? `${removing}, half removed` : path;
      lines.push(
        `${formatBytes(bytes)} of ${member} on ${host}: ${what}, left by ${command} ${operation} at ${formatTime(leftMs)}`,
      );
    }
  }
  if (found.length === 0) lines.push("no old data is left on any host");
  else if (backup !== undefined) lines.push(`what runs now is backed up and proven: ${backup}`);
  for (const { host, path } of strange)
    lines.push(`${path} on ${host} stays: no operation that this machine knows of has left it`);
  for (const { message, hint } of refusals) lines.push(`REFUSED: ${message}`, `  ${hint}`);
  return lines.map((line) => `${escapeControls(line)}\n`).join("");
}

function documentOf({ found, strange, refusals, backup }: CleanupPlan): object {
  return {
    found: found.map(({ operation, command, leftMs, host, member, paths }) => ({
      operation,
      command,
      leftAt: new Date(leftMs).toISOString(),
      host,
      member,
      paths: paths.map(({ path, half, bytes }) => ({ path, half, bytes })),
    })),
    strange,
    backup: backup ?? null,
    refusals,
  };
}
