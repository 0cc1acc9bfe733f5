import type { JournalEntry } from "./journal.ts";
import type { JsonObject, RunbookMode, RunbookPlan } from "./runbook.ts";

/** Where a step stands by its journal. `started`: it may have been performed, wholly or in part. `undoing`: it may have been taken back. */
export type StepState = "pending" | "started" | "failed" | "done" | "undoing" | "undone" | "left";

export interface StepStanding {
  readonly state: StepState;
  /** It was begun and not wholly taken back: something of it may be there. */
  readonly touched: boolean;
  /** The last one, also of a step that was taken back. */
  readonly result: JsonObject | undefined;
  readonly notes: readonly JsonObject[];
  /** Why it failed, or was left. */
  readonly message: string | undefined;
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
}

export interface Standing {
  readonly steps: ReadonlyMap<string, StepStanding>;
  /** Hosts that were lost and given up, with the reason. */
  readonly left: ReadonlyMap<string, string>;
  readonly ended: "done" | "rolled-back" | "refused" | undefined;
  /** Something outside may be other than it was before. */
  readonly changed: boolean;
  /** How it was executed last; undefined: never. */
  readonly mode: RunbookMode | undefined;
  /** The boot of each host when the operation last touched it. */
  readonly bootIds: ReadonlyMap<string, string>;
}

const untouched: StepStanding = {
  state: "pending",
  touched: false,
  result: undefined,
  notes: [],
  message: undefined,
  startedMs: undefined,
  endedMs: undefined,
};

/** What a plan and the lines of its journal add up to. Lines about steps that the plan does not have say nothing. */
export function standingOf(plan: RunbookPlan, entries: readonly JournalEntry[]): Standing {
  const steps = new Map<string, StepStanding>(plan.steps.map(({ id }) => [id, untouched]));
  const byId = new Map(plan.steps.map((step, index) => [step.id, { step, index }]));
  const left = new Map<string, string>();
  const bootIds = new Map<string, string>();
  let ended: Standing["ended"];
  let mode: RunbookMode | undefined;
  const change = (id: string, changes: Partial<StepStanding>): void => {
    const before = steps.get(id);
    if (before !== undefined) steps.set(id, { ...before, ...changes });
  };
  const boot = (id: string, bootId: string | undefined): void => {
    const host = byId.get(id)?.step.host;
    if (host !== undefined && bootId !== undefined) bootIds.set(host, bootId);
  };
  /** What followed a step that is taken back is no longer known to be so. */
  const forgetAfter = (id: string): void => {
    const from = byId.get(id)?.index ?? plan.steps.length;
    for (const { id: later } of plan.steps.slice(from + 1)) {
      // Neither what was noted of it: a step that reads its notes as done would be passed over.
      if (steps.get(later)?.state === "done") change(later, { state: "pending", notes: [] });
    }
  };
  for (const entry of entries) {
    switch (entry.kind) {
      case "opened":
        mode = entry.mode;
        ended = undefined;
        // Whoever takes it up tries hosts that were lost again.
        left.clear();
        for (const [id, { state }] of steps) if (state === "left") change(id, { state: "pending", message: undefined });
        break;
      case "start":
        boot(entry.step, entry.bootId);
        change(entry.step, {
          state: "started",
          touched: true,
          message: undefined,
          startedMs: entry.timeMs,
          endedMs: undefined,
        });
        break;
      case "note":
        change(entry.step, { notes: [...(steps.get(entry.step)?.notes ?? []), entry.facts] });
        break;
      case "done":
        change(entry.step, { state: "done", message: undefined, endedMs: entry.timeMs, result: entry.result });
        break;
      case "failed":
        change(entry.step, { state: "failed", message: entry.message, endedMs: entry.timeMs });
        break;
      case "left":
        left.set(entry.host, entry.message);
        for (const { id, host } of plan.steps) {
          const state = steps.get(id)?.state;
          if (host === entry.host && state !== "done") change(id, { state: "left", message: entry.message });
        }
        break;
      case "undo-start":
        boot(entry.step, entry.bootId);
        change(entry.step, { state: "undoing", message: undefined, startedMs: entry.timeMs, endedMs: undefined });
        forgetAfter(entry.step);
        break;
      case "undone":
        change(entry.step, { state: "undone", touched: false, message: undefined, endedMs: entry.timeMs, notes: [] });
        forgetAfter(entry.step);
        break;
      case "undo-failed":
        change(entry.step, { message: entry.message, endedMs: entry.timeMs });
        break;
      case "ended":
        ended = entry.outcome;
        break;
    }
  }
  const changed = plan.steps.some(({ id, harmless }) => harmless !== true && steps.get(id)?.touched === true);
  return { steps, left, ended, changed, mode, bootIds };
}

/** True for an operation that was begun, may have changed something, and was neither finished nor taken back. */
export function isUnfinished({
  plan,
  entries,
}: Pick<{ plan: RunbookPlan; entries: readonly JournalEntry[] }, "plan" | "entries">): boolean {
  const { ended, changed } = standingOf(plan, entries);
  return ended === undefined && changed;
}

/** Hosts that were lost and given up, and are not joined again. */
export function needsRejoin({
  plan,
  entries,
}: Pick<{ plan: RunbookPlan; entries: readonly JournalEntry[] }, "plan" | "entries">): readonly string[] {
  return [...standingOf(plan, entries).left.keys()];
}
