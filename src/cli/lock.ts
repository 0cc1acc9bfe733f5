import { Fault } from "../faults.ts";
import { escapeControls, formatDuration, formatTime } from "../format.ts";
import { formatInstant } from "../repository/documents.ts";
import {
  closedGate,
  describeAuthor,
  describeHolder,
  describePause,
  judgeLock,
  type Judgement,
} from "../repository/gates.ts";
import { readIdentity } from "../repository/identity.ts";
import { pauseRepository, readLock, resumeRepository, unlockRepository, type LockScope } from "../repository/lock.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

const describe = { time: formatTime, duration: formatDuration };

export interface PauseOptions extends CommonOptions {
  readonly reason?: string;
}

/** Stops backups, expiry and scans of every daemon until `resume`. A pause that is there already stays as it is. */
export async function pauseCommand(environment: Environment, options: PauseOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const scope = await openLock(tools, signal);
  const already = await pauseRepository(scope, options.reason ?? "", signal);
  if (options.json === true) {
    const { paused } = judgeLock(await readLock(scope, signal), tools.clock.now());
    printJson(console, { schema: "etcd-lifeboat/pause/v1", changed: already === undefined, ...pauseDocument(paused) });
    return 0;
  }
  const said = already === undefined ? "paused" : `already paused ${escapeControls(describePause(already, describe))}`;
  console.out(`${said}\n`);
  console.err("no daemon takes a backup or expires one until: etcd-lifeboat resume\n");
  return 0;
}

/** Ends a pause; the daemons catch up with one backup per schedule. */
export async function resumeCommand(environment: Environment, options: CommonOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const ended = await resumeRepository(await openLock(tools, signal), signal);
  if (options.json === true) {
    const changed = ended !== undefined;
    printJson(console, { schema: "etcd-lifeboat/resume/v1", changed, ended: pauseDocument(ended).paused });
  } else if (ended === undefined) console.out("not paused\n");
  else console.out(`resumed; it was paused ${escapeControls(describePause(ended, describe))}\n`);
  return 0;
}

/** Says who holds the lock, whether the repository is paused, and what of the lock's log cannot be read. */
export async function lockShowCommand(environment: Environment, options: CommonOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const judgement = await look(tools, signal);
  if (options.json === true) printJson(console, { schema: "etcd-lifeboat/lock-state/v1", ...lockDocument(judgement) });
  else console.out(lockLines(judgement).join(""));
  return 0;
}

export interface UnlockOptions extends CommonOptions {
  readonly yes?: boolean;
  readonly confirmCluster?: string;
}

/** Takes the lock from whoever holds it, after the cluster's name was typed. */
export async function unlockCommand(environment: Environment, options: UnlockOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const scope = await openLock(tools, signal);
  const log = await readLock(scope, signal);
  const judgement = judgeLock(log, tools.clock.now());
  const held = judgement.holder !== undefined || judgement.lapsed !== undefined || judgement.damaged.length > 0;
  if (held) {
    if (options.json !== true) console.err(lockLines(judgement).join(""));
    await confirm(environment, options, scope.cluster, judgement);
    await unlockRepository(scope, log, signal);
  }
  if (options.json === true) {
    printJson(console, { schema: "etcd-lifeboat/unlock/v1", changed: held, before: lockDocument(judgement) });
  } else console.out(held ? "unlocked\n" : "nobody holds the lock\n");
  if (judgement.paused !== undefined) console.err("the repository stays paused; end that with: etcd-lifeboat resume\n");
  return 0;
}

/** The name is typed at a terminal, or given together with --yes. */
async function confirm(
  { console }: Environment,
  options: UnlockOptions,
  cluster: string,
  { holder }: Judgement,
): Promise<void> {
  const alive = holder?.alive === true;
  const given =
    options.yes === true && options.confirmCluster !== undefined
      ? options.confirmCluster
      : await console.ask?.(
          `${alive ? "ITS HOLDER SEEMS TO WORK. " : ""}To take the lock away, type the cluster's name: `,
        );
  if (given === cluster) return;
  const why = given === undefined ? "nobody confirmed it" : `"${given}" is not the cluster's name`;
  throw new Fault("locked", `not unlocked: ${why}${alive ? ", and the lock's holder seems to work" : ""}`, {
    hint: `if nothing works on the cluster: etcd-lifeboat unlock --yes --confirm-cluster ${cluster}`,
  });
}

/** The lock of this cluster's repository, not of another one's that the configuration names by mistake. */
async function openLock(tools: Tools, signal: AbortSignal): Promise<LockScope> {
  await readIdentity(await tools.store(), tools.loaded.config.cluster.name, signal);
  return await tools.lock();
}

/** Throws `paused`, `locked` or `lock-damaged` when no backup may begin now. */
export async function refuseClosed(tools: Tools, signal: AbortSignal): Promise<void> {
  // Another cluster's repository is named as that, before its lock is found to be another's.
  await readIdentity(await tools.store(), tools.loaded.config.cluster.name, signal);
  const closed = closedGate(await look(tools, signal), "backup", describe);
  if (closed !== undefined) throw closed;
}

/** What the lock says now; for `status`, too. */
export async function look(tools: Tools, signal: AbortSignal): Promise<Judgement> {
  return judgeLock(await readLock(await tools.lock(), signal), tools.clock.now());
}

/** The lock as people read it, a line for each thing. */
export function lockLines({ holder, lapsed, paused, damaged, unreadableUntilMs }: Judgement): readonly string[] {
  const lines: string[] = [];
  if (holder !== undefined) lines.push(`held ${describeHolder(holder, describe)}`);
  if (lapsed !== undefined) {
    lines.push(`free; a ${lapsed.operation} of ${describeAuthor(lapsed.by)} never released it and has lapsed`);
  }
  if (paused !== undefined) lines.push(`PAUSED ${describePause(paused, describe)}`);
  for (const { name, why } of damaged) lines.push(`UNREADABLE ${name}: ${why}`);
  if (unreadableUntilMs !== undefined)
    lines.push(`nobody works before ${formatTime(unreadableUntilMs)}, or until: etcd-lifeboat unlock`);
  if (lines.length === 0) lines.push("free, and not paused");
  return lines.map((line) => `${escapeControls(line)}\n`);
}

function pauseDocument(paused: Judgement["paused"]) {
  return {
    paused:
      paused === undefined ? null : { since: formatInstant(paused.sinceMs), by: paused.by, reason: paused.reason },
  };
}

/** The lock as JSON documents show it. */
export function lockDocument({ holder, lapsed, paused, damaged, unreadableUntilMs }: Judgement): object {
  const shown = holder ?? lapsed;
  return {
    holder:
      shown === undefined
        ? null
        : {
            operation: shown.operation,
            by: shown.by,
            since: formatInstant(shown.sinceMs),
            renewed: formatInstant(shown.renewedMs),
            alive: holder?.alive ?? false,
            lapsed: lapsed !== undefined,
          },
    ...pauseDocument(paused),
    damaged: damaged.map(({ name, why }) => ({ name, why })),
    closedUntil: unreadableUntilMs === undefined ? null : formatInstant(unreadableUntilMs),
  };
}
