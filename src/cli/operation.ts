import type { Emit } from "../events.ts";
import { Fault, isFault } from "../faults.ts";
import { escapeControls } from "../format.ts";
import { describeHolder, judgeLock } from "../repository/gates.ts";
import { readIdentity } from "../repository/identity.ts";
import { readLock } from "../repository/lock.ts";
import { refuseBehind } from "../restore/behind.ts";
import { refuseOtherCluster, refuseOtherPlaces, refuseStrangeFacts } from "../restore/bound.ts";
import { storeAway } from "../restore/host-work.ts";
import type { HostDependencies } from "../restore/restore.ts";
import type { FoundJournal, HearsayJournal, Journal, SilentCopy } from "../runbook/journal.ts";
import { renderStanding } from "../runbook/render.ts";
import type { JsonObject, Outcome, RunbookMode, RunbookPlan } from "../runbook/runbook.ts";
import { isUnfinished } from "../runbook/standing.ts";
import type { Console, Environment, Tools } from "./tools.ts";

/** What the commands share that plan, confirm and execute an operation on the hosts. */

/** Flags that stand for the name that is otherwise typed. */
export interface Confirmation {
  readonly yes?: boolean;
  readonly confirmCluster?: string;
}

/** Flags of whoever goes on with an operation, or takes it back. */
export interface Continuing extends Confirmation {
  readonly takeOver?: boolean;
}

/** For a look that tells nothing on the way. */
const quiet = (): void => undefined;

/** Nothing new is begun beside what was not finished, here or on another machine; fault `journal-unfinished`. */
export async function refuseUnfinished({ console, signal }: Environment, tools: Tools): Promise<void> {
  const { found, refused, silent, hearsay } = await tools.journals(quiet).find(undefined, signal);
  for (const one of silent) console.err(saySilent(one));
  for (const one of hearsay) console.err(sayHearsay(one));
  for (const { fault } of refused) {
    // Two machines went on with one operation: a third beginning would make it worse.
    if (fault.code === "journal-disagrees") throw fault;
    console.err(`warning: ${escapeControls(fault.message)}\n`);
  }
  const [unfinished] = unfinishedOf(tools, found);
  if (unfinished === undefined) return;
  const { id, operation } = unfinished.record.plan;
  const again = `go on: etcd-lifeboat ${operation} --resume ${id}; or go back: etcd-lifeboat ${operation} --rollback ${id}`;
  if (!unfinished.elsewhere)
    throw new Fault("journal-unfinished", `the ${operation} ${id} was begun and not finished`, { hint: again });
  const message = `the ${operation} ${id} was begun on another machine and not finished: ${unfinished.record.place} tells so`;
  throw new Fault("journal-unfinished", message, {
    hint: `it may be at work there: etcd-lifeboat lock show; where it is not, ${again}`,
  });
}

/** How one kind of operation goes on, or back. */
export interface Continuation<Deps extends HostDependencies> {
  readonly operation: "restore" | "restore-member";
  readonly mode: Exclude<RunbookMode, "run">;
  /** ULID; true for the one that was not finished. */
  readonly wanted: string | true;
  /** `elsewhere`: the plan came from a host or a store. */
  /** Refuses flags that do not go with the plan. */
  readonly check?: (plan: RunbookPlan) => void;
  readonly open: (plan: RunbookPlan, emit: Emit, elsewhere: boolean) => Promise<Deps>;
  readonly execute: (deps: Deps, journal: Journal, onFailure: OnFailure, signal: AbortSignal) => Promise<Outcome>;
}

/** Goes on with an operation that stopped, or takes it back: shows where it stands, asks, executes. */
export async function continueOperation<Deps extends HostDependencies>(
  { console, listen, signal }: Environment,
  tools: Tools,
  options: Continuing,
  { operation, mode, wanted, check, open, execute }: Continuation<Deps>,
): Promise<{ readonly plan: RunbookPlan; readonly outcome: Outcome }> {
  const found = await findOperation(console, tools, wanted, signal);
  const { record, elsewhere } = found;
  const { plan } = record;
  if (plan.operation !== operation) {
    throw new Fault("usage", `operation ${plan.id} is no ${operation}`, {
      hint: `etcd-lifeboat ${plan.operation} --${mode} ${plan.id}`,
    });
  }
  check?.(plan);
  if (elsewhere) {
    refuseStrangeFacts(plan);
    await refuseOtherRepository(tools, plan, signal);
  }
  await refuseLiving(tools, found, options.takeOver === true, signal);
  const listener = listen(console);
  try {
    const deps = await open(plan, listener.emit, elsewhere);
    refuseOtherPlaces(record, deps);
    if (elsewhere) await refuseBehind(record, deps, signal);
    console.err(renderStanding(record));
    await confirm(console, options, tools.loaded.config.cluster.name);
    const journals = tools.journals(listener.emit);
    if (elsewhere) await journals.adopt(found, signal);
    await using journal = await journals.open(plan.id, signal);
    const outcome = await execute(deps, journal, hookOnFailure(tools, listener.emit), signal);
    return { plan, outcome };
  } finally {
    listener.close();
  }
}

/** Of this configuration's cluster: another one's are none of its business. */
export function unfinishedOf({ loaded }: Tools, found: readonly FoundJournal[]): readonly FoundJournal[] {
  const { name } = loaded.config.cluster;
  return found.filter(({ record }) => record.plan.cluster === name && isUnfinished(record));
}

/** The named operation, or the one that was not finished; its journal is here, or copies of it are elsewhere. */
async function findOperation(
  console: Console,
  tools: Tools,
  wanted: string | true,
  signal: AbortSignal,
): Promise<FoundJournal> {
  const looked = await tools.journals(quiet).find(wanted === true ? undefined : wanted, signal);
  const [refused] = looked.refused;
  const those = wanted === true ? unfinishedOf(tools, looked.found) : looked.found;
  const [found, second] = those;
  if (found === undefined || found.elsewhere) for (const silent of looked.silent) console.err(saySilent(silent));
  if (found === undefined) for (const one of looked.hearsay) console.err(sayHearsay(one));
  if (found === undefined && refused !== undefined) throw refused.fault;
  if (found === undefined) {
    const what = wanted === true ? "no operation was begun and not finished" : `there is no operation ${wanted}`;
    throw new Fault("not-found", what, { hint: "see: etcd-lifeboat restore status" });
  }
  if (second !== undefined) {
    const ids = `${found.record.plan.id}, ${second.record.plan.id}`;
    throw new Fault("usage", `more than one operation is not finished: ${ids}`, { hint: "name the one that is meant" });
  }
  refuseOtherCluster(found.record, tools.loaded.config.cluster.name);
  return found;
}

/** What to know of a place that may hold a copy of a journal, and was not heard. */
export function saySilent({ mirror, message }: SilentCopy): string {
  return `warning: whether ${mirror} has a copy of a journal is not known: ${escapeControls(message)}\n`;
}

/** What a place tells that nobody goes on by. */
export function sayHearsay({ id, mirror }: HearsayJournal): string {
  return `warning: ${mirror} alone tells of an operation ${id} that is not finished, and is not believed: others than this program may write there. One that was begun has copies on its hosts: bring one of them back\n`;
}

/** The machine that an operation runs on may be alive and at work: its lock tells. This machine's own processes are told apart by the journal itself. */
async function refuseLiving(
  tools: Tools,
  { record: { plan }, elsewhere }: FoundJournal,
  takeOver: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (takeOver) return;
  const hint =
    "look at that machine; when it is certain that it does not work on it any more, and never will again: --take-over";
  if (!plan.steps.some(({ kind }) => kind === "lock")) {
    if (!elsewhere) return;
    throw new Fault("locked", `nothing tells whether the machine that began operation ${plan.id} still works on it`, {
      hint,
    });
  }
  let log;
  let scope;
  try {
    scope = await tools.lock();
    log = await readLock(scope, signal);
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    // The lock is no reason to leave a cluster half-changed where it was begun.
    if (!elsewhere) return;
    throw new Fault("locked", `whether another machine works on operation ${plan.id} is not known: ${error.message}`, {
      hint,
      cause: error,
    });
  }
  const { holder } = judgeLock(log, tools.clock.now());
  if (holder?.id !== plan.id) return;
  // From elsewhere a silent one counts as well: it may work on without the store. Nor is a name of a machine one machine's alone.
  if (!elsewhere && (!holder.alive || holder.by.host === scope.author.host)) return;
  throw new Fault("locked", `operation ${plan.id} is held ${describeHolder(holder, scope.describe)}`, { hint });
}

/** ULID of the repository of this cluster; undefined where there is none yet. */
export async function repositoryId(tools: Tools, signal: AbortSignal): Promise<string | undefined> {
  return (await readIdentity(await tools.store(), tools.loaded.config.cluster.name, signal))?.id;
}

/** A plan that came from elsewhere is of the repository that is configured here; a store that does not answer tells nothing. */
async function refuseOtherRepository(tools: Tools, { id, facts }: RunbookPlan, signal: AbortSignal): Promise<void> {
  const { repository } = facts;
  if (typeof repository !== "string") return;
  try {
    if ((await repositoryId(tools, signal)) === repository) return;
  } catch (error) {
    if (isFault(error, ...storeAway)) return;
    throw error;
  }
  throw new Fault("journal-invalid", `operation ${id} was planned with another repository than the one here`, {
    hint: "set repository.store as it was on the machine that began it",
  });
}

/** The name is typed at a terminal, or given together with --yes. */
export async function confirm(console: Console, { yes, confirmCluster }: Confirmation, cluster: string): Promise<void> {
  const given =
    yes === true && confirmCluster !== undefined
      ? confirmCluster
      : await console.ask?.("To do this, type the cluster's name: ");
  if (given === cluster) return;
  const why = given === undefined ? "nobody confirmed it" : `"${given}" is not the cluster's name`;
  throw new Fault("restore-refused", `nothing was done: ${why}`, {
    hint: `without a terminal: --yes --confirm-cluster ${cluster}`,
  });
}

/** Told what an operation stopped with. */
export type OnFailure = (facts: JsonObject) => Promise<void>;

/** The hook for failures. Nothing that it says or does changes what came of the operation. */
export function hookOnFailure(tools: Tools, emit: Emit): OnFailure {
  const warn = (message: string): void => emit({ name: "warning", about: "hook on-failure", message });
  return async (facts) => {
    try {
      const warning = await tools.hook("on-failure", facts, emit, AbortSignal.timeout(86_400_000));
      if (warning !== undefined) warn(warning);
    } catch (error) {
      if (!isFault(error)) throw error;
      warn(error.message);
    }
  };
}
