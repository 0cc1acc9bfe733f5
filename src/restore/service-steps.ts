import { Fault, isFault } from "../faults.ts";
import type { JsonObject, RunbookStep, StepCheck, StepContext, StepHandler } from "../runbook/runbook.ts";
import type { Service, ServiceState } from "../service/service.ts";
import type { HostWork } from "./host-work.ts";

/** Services of the control plane and etcd itself: stopped and held, released and started. A stopped one must stay so across a reboot. */

/** Between two looks, milliseconds. */
const lookEveryMs = 300;

export function stopService(work: HostWork): StepHandler {
  return {
    async check(step, _context, signal) {
      return stoppedCheck(serviceOf(work, step), await serviceOf(work, step).state(signal), work.plan.id);
    },
    async perform(step, _context, signal) {
      await bringDown(work, serviceOf(work, step), signal);
      return undefined;
    },
    async undo(step, _context, signal) {
      await bringBack(work, serviceOf(work, step), step, signal);
    },
  };
}

export function startService(
  work: HostWork,
  refuseLate: (context: StepContext, signal: AbortSignal) => Promise<void>,
): StepHandler {
  const ready = async (step: RunbookStep, signal: AbortSignal): Promise<StepCheck> => {
    const { service, ready: ask } = work.service(step.host ?? "", textOf(step, "service"));
    const { running, heldBy, detail } = await service.state(signal);
    if (heldBy !== undefined) return { state: "pending", detail: `held by ${heldBy}` };
    if (step.args["runs"] !== true) return { state: "done", detail: "it is disabled, and did not run before either" };
    if (!running) return { state: "pending", detail };
    const why = await ask?.(signal);
    return why === undefined ? { state: "done", detail } : { state: "pending", detail: `not ready: ${why}` };
  };
  return {
    check: async (step, _context, signal) => await ready(step, signal),
    async perform(step, _context, signal) {
      const { service } = work.service(step.host ?? "", textOf(step, "service"));
      await service.release(signal);
      if (step.args["runs"] === true) await service.start(signal);
      await waitFor(work, `${service.name} on ${step.host ?? ""} is ready`, () => ready(step, signal), signal);
      return undefined;
    },
    async undo(step, context, signal) {
      await bringDown(work, serviceOf(work, step), signal);
      // It may have been answered after the rollback was permitted, and before it was gone.
      await refuseLate(context, signal);
    },
  };
}

export function stopEtcd(work: HostWork): StepHandler {
  const check = async (step: RunbookStep, signal: AbortSignal): Promise<StepCheck> => {
    const { service } = work.etcdOf(step.host ?? "");
    const stopped = stoppedCheck(service, await service.state(signal), work.plan.id);
    if (stopped.state !== "done") return stopped;
    // A process that nobody listed, of a forgotten unit or a container, would write into what is moved.
    const holders = await work.host(step.host ?? "").host.holders(`${textOf(step, "data")}/member/snap/db`, signal);
    if (holders.length === 0) return stopped;
    return { state: "pending", detail: `process ${holders.join(", ")} still has the database open` };
  };
  return {
    check: async (step, _context, signal) => await check(step, signal),
    async perform(step, _context, signal) {
      const { service } = work.etcdOf(step.host ?? "");
      await bringDown(work, service, signal);
      await waitFor(work, `etcd on ${step.host ?? ""} is stopped`, () => check(step, signal), signal);
      return undefined;
    },
    async undo(step, _context, signal) {
      await bringBack(work, work.etcdOf(step.host ?? "").service, step, signal);
    },
  };
}

export function startEtcd(work: HostWork): StepHandler {
  const check = async (step: RunbookStep, signal: AbortSignal): Promise<StepCheck> => {
    const { running, heldBy, detail } = await work.etcdOf(step.host ?? "").service.state(signal);
    if (heldBy !== undefined) return { state: "pending", detail: `held by ${heldBy}` };
    return { state: running ? "done" : "pending", detail };
  };
  return {
    check: async (step, _context, signal) => await check(step, signal),
    async perform(step, { results }, signal) {
      await requireClientsStopped(work, step.host ?? "", results, signal);
      const { service } = work.etcdOf(step.host ?? "");
      await service.release(signal);
      await service.start(signal);
      await waitFor(work, `etcd on ${step.host ?? ""} runs`, () => check(step, signal), signal);
      return undefined;
    },
    async undo(step, _context, signal) {
      const { service } = work.etcdOf(step.host ?? "");
      await bringDown(work, service, signal);
    },
  };
}

/** What this operation stopped must still be so: a client that came back would be answered by members that nobody has verified yet. */
export async function requireClientsStopped(
  work: HostWork,
  here: string,
  results: ReadonlyMap<string, JsonObject>,
  signal: AbortSignal,
): Promise<void> {
  for (const step of work.plan.steps) {
    // On a host that was lost meanwhile members are started while the others serve clients again.
    if (step.kind !== "stop-service" || results.has(step.holdsUntil ?? "")) continue;
    const service = serviceOf(work, step);
    try {
      const { running, detail } = await service.state(signal);
      if (running) throw runsAgain("clients-talk", `${service.name} on ${step.host ?? ""}`, detail);
    } catch (error) {
      // That is the business of that host's own steps.
      if (step.host === here || !isFault(error, "host-unreachable")) throw error;
    }
  }
}

/** Nobody may write into what is moved: neither the member's own service nor a process that nobody listed. */
export async function requireEtcdStopped(work: HostWork, step: RunbookStep, signal: AbortSignal): Promise<void> {
  const host = step.host ?? "";
  const { running, detail } = await work.etcdOf(host).service.state(signal);
  if (running) throw runsAgain("service-failed", `etcd on ${host}`, detail);
  const holders = await work.host(host).host.holders(`${textOf(step, "data")}/member/snap/db`, signal);
  if (holders.length > 0)
    throw runsAgain("service-failed", `etcd on ${host}`, `process ${holders.join(", ")} has the database open`);
}

function runsAgain(code: "clients-talk" | "service-failed", what: string, detail: string): Fault {
  return new Fault(code, `${what} runs again, and must not: ${detail}`, {
    hint: "find out who started it, and stop it",
  });
}

/** For the way back, on which a member that was started by somebody else is in the way as well. */
export async function bringEtcdDown(work: HostWork, step: RunbookStep, signal: AbortSignal): Promise<void> {
  const { service } = work.etcdOf(step.host ?? "");
  if ((await service.state(signal)).running) await bringDown(work, service, signal);
  await requireEtcdStopped(work, step, signal);
}

function serviceOf(work: HostWork, step: RunbookStep): Service {
  return work.service(step.host ?? "", textOf(step, "service")).service;
}

function stoppedCheck(service: Service, { running, heldBy, detail }: ServiceState, operation: string): StepCheck {
  if (running) return { state: "pending", detail };
  if (service.canHold && heldBy !== operation)
    return { state: "pending", detail: "it does not run, and nothing keeps it so" };
  return { state: "done", detail };
}

export async function bringDown(work: HostWork, service: Service, signal: AbortSignal): Promise<void> {
  // Held first: between a stop and a hold somebody could start it again.
  if (service.canHold) await service.hold(work.plan.id, signal);
  await service.stop(signal);
  const gone = async (): Promise<StepCheck> => stoppedCheck(service, await service.state(signal), work.plan.id);
  await waitFor(work, `${service.name} is stopped`, gone, signal);
}

async function bringBack(work: HostWork, service: Service, step: RunbookStep, signal: AbortSignal): Promise<void> {
  await service.release(signal);
  const wasRunning = step.args["wasRunning"] === true;
  if (!wasRunning && step.args["runs"] !== true) return;
  await service.start(signal);
  // What fell over again and again while etcd was dead may do so still: it is as it was found.
  if (!wasRunning) return;
  const runs = async (): Promise<StepCheck> => {
    const { running, detail } = await service.state(signal);
    return { state: running ? "done" : "pending", detail };
  };
  await waitFor(work, `${service.name} runs`, runs, signal);
}

/** Looks until it is so; says at the end what it was like instead. */
export async function waitFor(
  { deps }: HostWork,
  what: string,
  look: () => Promise<StepCheck>,
  signal: AbortSignal,
  patienceMs = deps.patienceMs,
): Promise<StepCheck> {
  const { clock } = deps;
  const sinceMs = clock.elapsed();
  for (;;) {
    const seen = await look();
    if (seen.state === "done") return seen;
    if (clock.elapsed() - sinceMs > patienceMs) {
      throw new Fault(
        "service-failed",
        `waited ${Math.round(patienceMs / 1000)} s in vain until ${what}: ${seen.detail ?? seen.state}`,
        {
          hint: "mend it and resume, or roll back",
        },
      );
    }
    await clock.sleep(lookEveryMs, signal);
  }
}

/** An argument of a step that plan.ts wrote as text. */
export function textOf({ id, args }: RunbookStep, name: string): string {
  const value = args[name];
  if (typeof value === "string") return value;
  throw new Fault("journal-invalid", `step ${id} of the plan has no ${name}`);
}
