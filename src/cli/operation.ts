import type { Emit } from "../events.ts";
import { Fault, isFault } from "../faults.ts";
import { readIdentity } from "../repository/identity.ts";
import { refuseOtherCluster, refuseOtherPlaces } from "../restore/bound.ts";
import type { HostDependencies } from "../restore/restore.ts";
import type { Journal, JournalRecord } from "../runbook/journal.ts";
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

/** For a look that tells nothing on the way. */
const quiet = (): void => undefined;

/** Nothing new is begun beside what was not finished; fault `journal-unfinished`. */
export async function refuseUnfinished(tools: Tools, signal: AbortSignal): Promise<void> {
  const [unfinished] = await findUnfinished(tools, signal);
  if (unfinished === undefined) return;
  const { id, operation } = unfinished.plan;
  throw new Fault("journal-unfinished", `the ${operation} ${id} was begun and not finished`, {
    hint: `go on: etcd-lifeboat ${operation} --resume ${id}; or go back: etcd-lifeboat ${operation} --rollback ${id}`,
  });
}

/** How one kind of operation goes on, or back. */
export interface Continuation<Deps extends HostDependencies> {
  readonly operation: "restore" | "restore-member";
  readonly mode: Exclude<RunbookMode, "run">;
  /** ULID; true for the one that was not finished. */
  readonly wanted: string | true;
  readonly open: (plan: RunbookPlan, emit: Emit) => Promise<Deps>;
  readonly execute: (deps: Deps, journal: Journal, onFailure: OnFailure, signal: AbortSignal) => Promise<Outcome>;
}

/** Goes on with an operation that stopped, or takes it back: shows where it stands, asks, executes. */
export async function continueOperation<Deps extends HostDependencies>(
  { console, listen, signal }: Environment,
  tools: Tools,
  options: Confirmation,
  { operation, mode, wanted, open, execute }: Continuation<Deps>,
): Promise<{ readonly plan: RunbookPlan; readonly outcome: Outcome }> {
  const record = await findRecord(tools, wanted, signal);
  const { plan } = record;
  if (plan.operation !== operation) {
    throw new Fault("usage", `operation ${plan.id} is no ${operation}`, {
      hint: `etcd-lifeboat ${plan.operation} --${mode} ${plan.id}`,
    });
  }
  const listener = listen(console);
  try {
    const deps = await open(plan, listener.emit);
    refuseOtherPlaces(record, deps);
    console.err(renderStanding(record));
    await confirm(console, options, tools.loaded.config.cluster.name);
    await using journal = await tools.journals(listener.emit).open(plan.id, signal);
    const outcome = await execute(deps, journal, hookOnFailure(tools, listener.emit), signal);
    return { plan, outcome };
  } finally {
    listener.close();
  }
}

/** Of this configuration's cluster: another one's are none of its business. */
async function findUnfinished(tools: Tools, signal: AbortSignal): Promise<readonly JournalRecord[]> {
  const { name } = tools.loaded.config.cluster;
  const records = await tools.journals(quiet).list(signal);
  return records.filter((record) => record.plan.cluster === name && isUnfinished(record));
}

/** The named operation, or the one that was not finished. */
async function findRecord(tools: Tools, wanted: string | true, signal: AbortSignal): Promise<JournalRecord> {
  const journals = tools.journals(quiet);
  if (wanted !== true) {
    const record = await journals.read(wanted, signal);
    refuseOtherCluster(record, tools.loaded.config.cluster.name);
    return record;
  }
  const [found, second] = await findUnfinished(tools, signal);
  if (found === undefined) {
    throw new Fault("not-found", "no operation was begun and not finished", {
      hint: "see: etcd-lifeboat restore status",
    });
  }
  if (second !== undefined) {
    throw new Fault("usage", `more than one operation is not finished: ${found.plan.id}, ${second.plan.id}`, {
      hint: "name the one that is meant",
    });
  }
  return found;
}

/** ULID of the repository of this cluster; undefined where there is none yet. */
export async function repositoryId(tools: Tools, signal: AbortSignal): Promise<string | undefined> {
  return (await readIdentity(await tools.store(), tools.loaded.config.cluster.name, signal))?.id;
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
