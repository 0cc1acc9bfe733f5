import type { Clock } from "../clock.ts";
import type { Emit, OperationOutcome } from "../events.ts";
import { Fault, isFault, throwIfAborted } from "../faults.ts";
import type { Journal } from "./journal.ts";
import type { JsonObject, Outcome, RunbookMode, RunbookStep, StepCheck, StepContext, StepHandler } from "./runbook.ts";
import { standingOf, type Standing } from "./standing.ts";

export interface ExecuteDependencies {
  /** By kind of step. */
  readonly handlers: Readonly<Record<string, StepHandler>>;
  readonly emit: Emit;
  readonly clock: Clock;
  /** Ends the process at a named place, `STEP PLACE`, when a test asks for it. */
  readonly failpoint?: (place: string) => void;
  /** Which boot of a host this is, for the journal; undefined: not known. */
  readonly bootId?: (host: string, signal: AbortSignal) => Promise<string | undefined>;
  /** Asked when a host was lost in one of its steps: true goes on without it, and its steps are left. Absent: a lost host stops the run. */
  readonly lostHost?: (step: RunbookStep, fault: Fault, signal: AbortSignal) => Promise<boolean>;
  /** Asked before anything is undone; throws `rollback-too-late` where it may no longer be. */
  readonly mayRollBack?: (results: ReadonlyMap<string, JsonObject>, signal: AbortSignal) => Promise<void>;
}

/**
 * Executes the plan of a journal. `run` and `resume` walk forward: what is done stays, everything else is checked, performed and checked again. `rollback` walks backward and
 * undoes whatever was begun. Each of them may be interrupted at any instant and called again, also the other way.
 * Rejects with `runbook-refused` when it stopped before anything was changed, with `runbook-stopped` amid changes (also when it was interrupted), with
 * `rollback-too-late` as a handler says it, `journal-taken` when another machine went on with it, and with `interrupted`, `locked` and `paused` when nothing was changed yet. What is no Fault comes out as it is while nothing was changed.
 */
export async function execute(
  journal: Journal,
  mode: RunbookMode,
  deps: ExecuteDependencies,
  signal: AbortSignal,
): Promise<Outcome> {
  const { plan } = journal;
  const before = standingOf(plan, journal.entries);
  const finished: Outcome["kind"] = mode === "rollback" ? "rolled-back" : "done";
  // Hosts that were lost may be back.
  if (before.ended === finished && before.left.size === 0) return outcomeOf(journal, 0, finished);
  if (mode !== "rollback" && (before.ended === "rolled-back" || before.ended === "refused")) {
    const how = before.ended === "refused" ? "stopped before it changed anything" : "was rolled back";
    throw new Fault("runbook-refused", `operation ${plan.id} ${how}: there is nothing to resume`, {
      hint: `begin a new one: etcd-lifeboat ${plan.operation}`,
    });
  }
  for (const { kind } of plan.steps) {
    if (deps.handlers[kind] !== undefined) continue;
    throw new Fault(
      "journal-invalid",
      `operation ${plan.id} has steps of the kind ${kind}, which this version does not know`,
    );
  }
  const run: Run = { journal, deps, signal, performed: 0 };
  const { clock, emit } = deps;
  const startedMs = clock.elapsed();
  const told = { operation: plan.id, kind: plan.operation, mode };
  await journal.append({ kind: "opened", mode, timeMs: clock.now() });
  emit({ name: "operation.started", ...told, steps: plan.steps.length });
  const end = (outcome: OperationOutcome): void => {
    const left = [...standingOf(plan, journal.entries).left.keys()];
    emit({
      name: "operation.ended",
      ...told,
      outcome,
      performed: run.performed,
      left,
      durationMs: clock.elapsed() - startedMs,
    });
  };
  try {
    if (mode === "rollback") await goBack(run, before.ended === "done");
    else await goForward(run);
    await journal.append({ kind: "ended", outcome: finished, timeMs: clock.now() });
  } catch (error) {
    const { changed } = standingOf(plan, journal.entries);
    // Nothing is left to resume. (What cannot be written down cannot be ended either.)
    if (!changed && mode !== "rollback" && !isFault(error, "journal-failed", "journal-taken"))
      await journal.append({ kind: "ended", outcome: "refused", timeMs: clock.now() });
    end(changed ? "stopped" : "refused");
    throw stopFault(run, mode, changed, error);
  }
  end(finished);
  return outcomeOf(journal, run.performed, finished);
}

interface Run {
  readonly journal: Journal;
  readonly deps: ExecuteDependencies;
  readonly signal: AbortSignal;
  performed: number;
}

function outcomeOf({ plan, entries }: Journal, performed: number, kind: Outcome["kind"]): Outcome {
  const standing = standingOf(plan, entries);
  return { kind, left: [...standing.left.keys()], results: resultsOf(standing), performed };
}

async function goForward(run: Run): Promise<void> {
  for (const group of groupsOf(run.journal.plan.steps)) {
    await atOnce(group, async (step) => await forward(run, step));
  }
}

async function goBack(run: Run, wasDone: boolean): Promise<void> {
  const { journal, deps, signal } = run;
  const standing = standingOf(journal.plan, journal.entries);
  // Once something was taken back it is too late to ask.
  const begun = [...standing.steps.values()].some(({ state }) => state === "undoing" || state === "undone");
  if (!begun || wasDone) await deps.mayRollBack?.(resultsOf(standing), signal);
  for (const group of groupsOf(journal.plan.steps).toReversed()) {
    await atOnce(group, async (step) => await backward(run, step));
  }
}

/** Neighbours of one group and phase. */
function groupsOf(steps: readonly RunbookStep[]): readonly (readonly RunbookStep[])[] {
  const groups: RunbookStep[][] = [];
  for (const step of steps) {
    const last = groups.at(-1);
    const [first] = last ?? [];
    const together = step.group !== undefined && first?.group === step.group && first.phase === step.phase;
    if (last !== undefined && together) last.push(step);
    else groups.push([step]);
  }
  return groups;
}

/** All of them come to their end; then the first failure, in the order of the plan, is told. */
async function atOnce(group: readonly RunbookStep[], act: (step: RunbookStep) => Promise<void>): Promise<void> {
  const results = await Promise.allSettled(group.map(async (step) => await act(step)));
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

async function forward(run: Run, step: RunbookStep): Promise<void> {
  const { journal, deps, signal } = run;
  const { clock, emit } = deps;
  const standing = standingOf(journal.plan, journal.entries);
  if (step.host !== undefined && standing.left.has(step.host)) return;
  const before = standing.steps.get(step.id);
  if (before?.state === "done" && !mustStillHold(standing, step)) return;
  throwIfAborted(signal);
  const about = aboutStep(run, step);
  const startedMs = clock.elapsed();
  const point = (place: string): void => deps.failpoint?.(`${step.id} ${place}`);
  const done = async (performed: boolean, result: JsonObject | undefined): Promise<void> => {
    point("before done");
    await journal.append({
      kind: "done",
      step: step.id,
      performed,
      timeMs: clock.now(),
      ...(result === undefined ? {} : { result }),
    });
    point("after done");
    emit({ name: "step.done", ...about, performed, durationMs: clock.elapsed() - startedMs });
  };
  try {
    const handler = handlerOf(run, step);
    const context = contextOf(run, step);
    point("before check");
    const check = await handler.check(step, context, signal);
    refuseUnknown(step, check);
    if (check.state === "done") {
      // Still so: what was noted of it stays.
      if (before?.state !== "done") await done(false, check.result);
      return;
    }
    const bootId = await bootOf(run, step, standing);
    emit({ name: "step.started", ...about, expectedMs: step.expectedMs });
    point("before start");
    await journal.append({ kind: "start", step: step.id, timeMs: clock.now(), ...bootId });
    point("after start");
    run.performed += 1;
    const result = await handler.perform(step, context, signal);
    point("after perform");
    const after = await handler.check(step, contextOf(run, step), signal);
    refuseUnknown(step, after);
    if (after.state !== "done") {
      throw new Fault("failed", `it was done, and it is still not so that ${step.title}${because(after)}`);
    }
    await done(true, result ?? after.result);
  } catch (error) {
    if (await giveHostUp(run, step, error)) return;
    const failure = await failed(run, step, "failed", error, clock.elapsed() - startedMs);
    const untouched = before?.touched !== true && isFault(error) && deps.handlers[step.kind]?.didNothing?.(error);
    if (untouched === true) await journal.append({ kind: "undone", step: step.id, timeMs: clock.now() });
    throw failure;
  }
}

async function backward(run: Run, step: RunbookStep): Promise<void> {
  const { journal, deps, signal } = run;
  const { clock, emit } = deps;
  const standing = standingOf(journal.plan, journal.entries);
  if (standing.steps.get(step.id)?.touched !== true) return;
  const handler = handlerOf(run, step);
  if (handler.undo === undefined) return;
  throwIfAborted(signal);
  const startedMs = clock.elapsed();
  const point = (place: string): void => deps.failpoint?.(`${step.id} ${place}`);
  try {
    const context = contextOf(run, step);
    point("before undo check");
    const check = await handler.undoCheck?.(step, context, signal);
    if (check !== undefined) refuseUnknown(step, check);
    if (check?.state !== "done") {
      const bootId = await bootOf(run, step, standing);
      point("before undo start");
      await journal.append({ kind: "undo-start", step: step.id, timeMs: clock.now(), ...bootId });
      point("after undo start");
      run.performed += 1;
      await handler.undo(step, context, signal);
      point("after undo");
      const after = await handler.undoCheck?.(step, contextOf(run, step), signal);
      if (after !== undefined && after.state !== "done") {
        throw new Fault("failed", `it was taken back, and it is still so that ${step.title}${because(after)}`);
      }
    }
    point("before undone");
    await journal.append({ kind: "undone", step: step.id, timeMs: clock.now() });
    point("after undone");
    emit({ name: "step.undone", ...aboutStep(run, step), durationMs: clock.elapsed() - startedMs });
  } catch (error) {
    if (await giveHostUp(run, step, error)) return;
    throw await failed(run, step, "undo-failed", error, clock.elapsed() - startedMs);
  }
}

function mustStillHold({ steps }: Standing, { holdsUntil }: RunbookStep): boolean {
  return holdsUntil !== undefined && steps.get(holdsUntil)?.state !== "done";
}

function refuseUnknown(step: RunbookStep, check: StepCheck): void {
  if (check.state !== "unknown") return;
  throw new Fault("failed", `it cannot be said whether ${step.title}${because(check)}`, {
    hint: "find out, and put right what cannot be seen",
  });
}

function because({ detail }: StepCheck): string {
  return detail === undefined ? "" : `: ${detail}`;
}

function handlerOf({ deps }: Run, { kind }: RunbookStep): StepHandler {
  const handler = deps.handlers[kind];
  if (handler === undefined) throw new Error(`no handler of ${kind}`);
  return handler;
}

function contextOf({ journal, deps }: Run, step: RunbookStep): StepContext {
  const standing = standingOf(journal.plan, journal.entries);
  return {
    plan: journal.plan,
    results: resultsOf(standing),
    notes: standing.steps.get(step.id)?.notes ?? [],
    left: new Set(standing.left.keys()),
    begun: (id) => journal.entries.some((entry) => entry.kind === "start" && entry.step === id),
    note: async (facts) => {
      deps.failpoint?.(`${step.id} before note`);
      await journal.append({ kind: "note", step: step.id, facts, timeMs: deps.clock.now() });
      deps.failpoint?.(`${step.id} after note`);
    },
  };
}

function resultsOf({ steps }: Standing): ReadonlyMap<string, JsonObject> {
  const results = new Map<string, JsonObject>();
  for (const [id, { result, state }] of steps) {
    if (result !== undefined || state === "done") results.set(id, result ?? {});
  }
  return results;
}

/** The boot of the step's host, as fields of an entry; tells when it is another one than before. */
async function bootOf(
  { journal, deps, signal }: Run,
  { host }: RunbookStep,
  { bootIds }: Standing,
): Promise<{ bootId?: string }> {
  const bootId = host === undefined ? undefined : await deps.bootId?.(host, signal);
  if (host === undefined || bootId === undefined) return {};
  const before = bootIds.get(host);
  if (before !== undefined && before !== bootId) deps.emit({ name: "host.rebooted", operation: journal.plan.id, host });
  return { bootId };
}

/** Whether the host was lost, and the operation goes on without it. */
async function giveHostUp(run: Run, step: RunbookStep, error: unknown): Promise<boolean> {
  const { journal, deps, signal } = run;
  if (step.host === undefined || deps.lostHost === undefined || !isFault(error, "host-unreachable")) return false;
  if (!(await deps.lostHost(step, error, signal))) return false;
  const { message } = error;
  await journal.append({ kind: "left", host: step.host, step: step.id, message, timeMs: deps.clock.now() });
  deps.emit({ name: "host.left", ...aboutStep(run, step), message });
  return true;
}

async function failed(
  run: Run,
  step: RunbookStep,
  kind: "failed" | "undo-failed",
  error: unknown,
  durationMs: number,
): Promise<StepFailure> {
  const code = isFault(error) ? error.code : "bug";
  const message = error instanceof Error ? error.message : String(error);
  await run.journal.append({ kind, step: step.id, code, message, timeMs: run.deps.clock.now() });
  const hint = isFault(error) ? error.hint : undefined;
  run.deps.emit({ name: "step.failed", ...aboutStep(run, step), code, message, hint, durationMs });
  return new StepFailure(step, error);
}

function aboutStep(
  { journal }: Run,
  { id, title, phase, host }: RunbookStep,
): { operation: string; step: string; title: string; phase: string; host: string | undefined } {
  return { operation: journal.plan.id, step: id, title, phase, host };
}

/** A failure on its way up, with the step that it belongs to. */
class StepFailure extends Error {
  readonly step: RunbookStep;
  readonly reason: unknown;

  constructor(step: RunbookStep, reason: unknown) {
    super(`${step.id} failed`, { cause: reason });
    this.step = step;
    this.reason = reason;
  }
}

/** What the caller gets: how it stands, why, and what to do next. */
function stopFault({ journal }: Run, mode: RunbookMode, changed: boolean, thrown: unknown): unknown {
  const { plan } = journal;
  const step = thrown instanceof StepFailure ? thrown.step : undefined;
  const reason = thrown instanceof StepFailure ? thrown.reason : thrown;
  // Whoever was passed over has nothing to resume and nothing to roll back.
  if (isFault(reason, "rollback-too-late", "journal-taken")) return reason;
  // Amid changes even a bug of ours must say what to do next.
  if (!isFault(reason) && !changed) return reason;
  // Whoever has to wait is told that he has to, and not that something failed.
  if (!changed && isFault(reason, "interrupted", "locked", "paused")) return reason;
  const what = mode === "rollback" ? `the rollback of ${plan.operation} ${plan.id}` : `${plan.operation} ${plan.id}`;
  const where = step === undefined ? "" : ` before ${step.title}`;
  const again = `etcd-lifeboat ${plan.operation}`;
  const next = changed ? `go on: ${again} --resume ${plan.id}; or go back: ${again} --rollback ${plan.id}` : undefined;
  const message = reason instanceof Error ? reason.message : String(reason);
  const hint = [isFault(reason) ? reason.hint : undefined, next].filter((part) => part !== undefined).join("; then ");
  return new Fault(
    changed ? "runbook-stopped" : "runbook-refused",
    `${what} stopped${where}: ${message}${changed ? "" : " (nothing was changed)"}`,
    { hint: hint === "" ? undefined : hint, cause: reason },
  );
}
