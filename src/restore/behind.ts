import { Fault, isFault } from "../faults.ts";
import { partOf, type Host } from "../host/host.ts";
import { readLock } from "../repository/lock.ts";
import type { JournalRecord } from "../runbook/journal.ts";
import type { RunbookPlan, RunbookStep } from "../runbook/runbook.ts";
import { standingOf, type Standing, type StepStanding } from "../runbook/standing.ts";
import type { Service } from "../service/service.ts";
import type { HostDependencies, OpenHost } from "./restore.ts";
import { textOf } from "./service-steps.ts";

/**
 * Whether a copy of a journal tells all that was done. Each line is in every copy that is not behind before anything is done that it speaks of; a copy that was behind
 * when the machine with the journal was lost may lack any number of lines, and going on by it would do, or take back, what is otherwise by now. What an operation does to
 * a host bears its id, or is held by it, so the hosts tell.
 */

/** Refuses with `journal-behind` a record that lacks what the hosts, or the lock, show to have been done. Hosts that cannot be reached tell nothing. */
export async function refuseBehind(record: JournalRecord, deps: HostDependencies, signal: AbortSignal): Promise<void> {
  const { plan, entries } = record;
  const standing = standingOf(plan, entries);
  for (const open of deps.hosts) {
    let seen: string | undefined;
    try {
      seen = await lookAt(open, plan, standing, signal);
    } catch (error) {
      if (signal.aborted || !isFault(error, "host-unreachable")) throw error;
    }
    if (seen !== undefined) throw behind(record, `on ${open.host.name} ${seen}`);
  }
  const lock = plan.steps.find(({ kind }) => kind === "lock");
  if (lock === undefined || deps.repository === undefined || standing.steps.get(lock.id)?.touched === true) return;
  const { holder } = await readLock(deps.repository.lock, signal);
  if (holder?.id === plan.id) throw behind(record, "the operation holds the lock");
}

async function lookAt(
  open: OpenHost,
  plan: RunbookPlan,
  standing: Standing,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { host } = open;
  const own = plan.steps.filter((step) => step.host === host.name);
  const boot = standing.bootIds.get(host.name);
  const rebooted = boot !== undefined && boot !== (await host.facts(signal)).bootId;
  for (const step of own) {
    const seen = await lookAtStep(open, step, own, { plan, standing, rebooted }, signal);
    if (seen !== undefined) return seen;
  }
  return undefined;
}

interface Known {
  readonly plan: RunbookPlan;
  readonly standing: Standing;
  /** Since the operation last touched the host. */
  readonly rebooted: boolean;
}

async function lookAtStep(
  open: OpenHost,
  step: RunbookStep,
  own: readonly RunbookStep[],
  known: Known,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { steps } = known.standing;
  const at = steps.get(step.id);
  switch (step.kind) {
    case "stop-etcd": {
      const start = own.find(({ kind }) => kind === "start-etcd" || kind === "start-joining");
      return await lookAtService("etcd", open.etcd?.service, at, start && steps.get(start.id), known, signal);
    }
    case "stop-service": {
      const name = textOf(step, "service");
      const start = own.find(({ id }) => id === step.holdsUntil);
      const service = open.services.find((one) => one.service.name === name)?.service;
      return await lookAtService(name, service, at, start && steps.get(start.id), known, signal);
    }
    case "place": {
      const swap = own.find(({ kind }) => kind === "swap");
      return await lookAtData(open.host, step, at, swap && steps.get(swap.id), signal);
    }
    case "aside":
      if (at?.touched === true) return undefined;
      return await firstThere(open.host, namesOf(step, "aside").old, signal, "is aside already");
    default:
      return undefined;
  }
}

/** A service is held from its stop to its start, and at no other time. */
async function lookAtService(
  name: string,
  service: Service | undefined,
  stop: StepStanding | undefined,
  start: StepStanding | undefined,
  { plan, rebooted }: Known,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (service === undefined) return undefined;
  const { running, heldBy, holdBegun } = await service.state(signal);
  const isHeld = heldBy === plan.id;
  if (stop?.touched !== true)
    return isHeld ? `${name} is held` : holdBegun === plan.id ? `${name} was about to be held` : undefined;
  if (start?.state === "done") return isHeld ? `${name} is held again` : undefined;
  if (stop.state !== "done" || start?.touched === true) return undefined;
  if (service.canHold) return isHeld && !running ? undefined : `${name} ${running ? "runs" : "is not held any more"}`;
  return running && !rebooted ? `${name} runs` : undefined;
}

/** The new data lies beside the old until both change places; what is aside bears the operation's id. */
async function lookAtData(
  host: Host,
  step: RunbookStep,
  place: StepStanding | undefined,
  swap: StepStanding | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { fresh, part, old } = namesOf(step, "place");
  if (place?.touched !== true) return await firstThere(host, [...fresh, ...part, ...old], signal, "is there already");
  if (swap?.touched !== true) {
    if (place.state === "done") {
      const gone = await firstGone(host, fresh, signal);
      if (gone !== undefined) return `${gone} is not there any more`;
    }
    return await firstThere(host, old, signal, "is there already");
  }
  if (swap.state !== "done" || swap.notes.some((note) => "removed" in note)) return undefined;
  const [data] = old;
  if (step.args["hadMember"] === true && data !== undefined && (await host.stat(data, signal)) === undefined)
    return `${data} is not there any more`;
  return await firstThere(host, fresh, signal, "is there again");
}

/** Paths by the names that a plan of the operation gives them. */
function namesOf(
  { args: { data, wal, newName, oldName } }: RunbookStep,
  kind: "place" | "aside",
): { readonly fresh: readonly string[]; readonly part: readonly string[]; readonly old: readonly string[] } {
  const between = kind === "place" ? "/" : ".";
  const named = (name: unknown): readonly string[] =>
    typeof data !== "string" || typeof name !== "string"
      ? []
      : [`${data}/member.${name}`, ...(typeof wal === "string" ? [`${wal}${between}${name}`] : [])];
  const fresh = named(newName);
  return { fresh, part: fresh.map(partOf), old: named(oldName) };
}

async function firstThere(
  host: Host,
  paths: readonly string[],
  signal: AbortSignal,
  how: string,
): Promise<string | undefined> {
  for (const path of paths) if ((await host.stat(path, signal)) !== undefined) return `${path} ${how}`;
  return undefined;
}

async function firstGone(host: Host, paths: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  for (const path of paths) if ((await host.stat(path, signal)) === undefined) return path;
  return undefined;
}

function behind({ plan, place }: JournalRecord, seen: string): Fault {
  return new Fault(
    "journal-behind",
    `the journal of ${plan.operation} ${plan.id} as ${place} tells it lacks what was done: ${seen}`,
    {
      hint: "its other copies were not reached, or were behind, too: bring back a host or the store that holds a longer one, or the machine on which it was begun, and go on from there",
    },
  );
}
