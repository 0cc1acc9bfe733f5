import type { LifeboatEvent } from "../../src/events.ts";
import { execute, type ExecuteDependencies } from "../../src/runbook/execute.ts";
import { planSchema } from "../../src/runbook/runbook.ts";
import type { Outcome, RunbookMode, RunbookPlan, RunbookStep, StepHandler } from "../../src/runbook/runbook.ts";
import { standingOf } from "../../src/runbook/standing.ts";
import { fakeJournals } from "../fakes/journal.ts";
import { steeredClock } from "../fakes/clock.ts";

/** The process died here: nothing that it does afterwards counts. */
class Death extends Error {}

/** A step of a model plan: what it sets, in two movements, between which the process may die. */
export interface ModelStep {
  readonly group?: string;
  readonly host?: string;
  readonly harmless?: boolean;
  /** Index of the step until which it must hold. */
  readonly holdsUntil?: number;
  /** It is so before anything is done. */
  readonly already?: boolean;
  /** It is no more so after the process died while it still had to hold: the host was rebooted. */
  readonly lostAtDeath?: boolean;
}

export function modelPlan(steps: readonly ModelStep[]): RunbookPlan {
  return {
    schema: planSchema,
    operation: "restore",
    id: "01JD0000000000000000000000",
    cluster: "prod",
    createdAt: "2026-11-21T16:00:00.000Z",
    facts: {},
    warnings: [],
    steps: steps.map(({ group, host, harmless, holdsUntil }, index): RunbookStep => ({
      id: `s${index}`,
      kind: "model",
      title: `s${index} is so`,
      phase: "model",
      args: { index },
      ...(group === undefined ? {} : { group }),
      ...(host === undefined ? {} : { host }),
      ...(harmless === undefined ? {} : { harmless }),
      ...(holdsUntil === undefined ? {} : { holdsUntil: `s${holdsUntil}` }),
    })),
  };
}

/** A small world that outlives processes, and the journal that they write. */
export function openWorld(steps: readonly ModelStep[]) {
  const plan = modelPlan(steps);
  const original = steps.map(({ already }) => (already === true ? 2 : 0));
  /** 0: not so, 1: half, 2: so. */
  const world: (0 | 1 | 2)[] = steps.map(({ already }) => (already === true ? 2 : 0));
  const violations: string[] = [];
  const events: LifeboatEvent[] = [];
  let instants = 0;
  let deathAt = Number.POSITIVE_INFINITY;
  let dead = false;
  const instant = (): void => {
    if (dead) throw new Death();
    instants += 1;
    if (instants < deathAt) return;
    dead = true;
    throw new Death();
  };
  const journals = fakeJournals(instant);

  const handler: StepHandler = {
    check: async (step) => {
      instant();
      const value = world[indexOf(step)];
      await Promise.resolve();
      return { state: value === 2 ? "done" : "pending" };
    },
    perform: async (step, context) => {
      instant();
      const index = indexOf(step);
      for (const [other, { holdsUntil, harmless }] of steps.entries()) {
        if (other >= index || holdsUntil === undefined || holdsUntil < index || harmless === true) continue;
        if (steps[other]?.group !== undefined && steps[other]?.group === steps[index]?.group) continue;
        if (world[other] !== 2) violations.push(`s${index} was performed while s${other} did not hold`);
      }
      if (context.notes.length === 0) await context.note({ chose: index });
      world[index] = 1;
      instant();
      await Promise.resolve();
      instant();
      world[index] = 2;
      instant();
      return { index };
    },
    undo: async (step) => {
      instant();
      const index = indexOf(step);
      if (original[index] === 2) violations.push(`s${index}, which was so before, was taken back`);
      if (world[index] === 2) world[index] = 1;
      instant();
      await Promise.resolve();
      world[index] = 0;
      instant();
    },
    undoCheck: async (step) => {
      instant();
      await Promise.resolve();
      return { state: world[indexOf(step)] === 0 ? "done" : "pending" };
    },
  };

  /** One process: it runs until its end, or until it dies at the instant. */
  const process = async (
    mode: RunbookMode,
    dieAt?: number,
    more: Partial<ExecuteDependencies> = {},
  ): Promise<Outcome | "died"> => {
    instants = 0;
    dead = false;
    deathAt = dieAt ?? Number.POSITIVE_INFINITY;
    const before = await journals.list(new AbortController().signal);
    const journal = before.length === 0 ? journals.create(plan, signal) : journals.open(plan.id, signal);
    const opened = await journal;
    try {
      return await execute(
        opened,
        mode,
        {
          handlers: { model: handler },
          emit: (event) => events.push(event),
          clock: steeredClock(Date.UTC(2026, 10, 21)),
          failpoint: instant,
          ...more,
        },
        signal,
      );
    } catch (error) {
      if (!dead) throw error;
      // What must hold and does not outlive a reboot is gone.
      const standing = standingOf(plan, (await journals.read(plan.id, signal)).entries);
      const isDone = (index: number): boolean => standing.steps.get(`s${index}`)?.state === "done";
      for (const [index, { lostAtDeath, holdsUntil, already }] of steps.entries()) {
        if (lostAtDeath === true && already !== true && holdsUntil !== undefined && !isDone(holdsUntil))
          world[index] = 0;
      }
      return "died";
    } finally {
      await opened[Symbol.asyncDispose]();
    }
  };
  return {
    plan,
    world,
    original,
    violations,
    events,
    journals,
    process,
    handler,
    instants: () => instants,
    ended: async () => standingOf(plan, (await journals.read(plan.id, signal)).entries).ended,
  };
}

const { signal } = new AbortController();

function indexOf(step: RunbookStep): number {
  return Number(step.args["index"]);
}
