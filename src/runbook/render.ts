import { escapeControls, formatDuration, formatTime } from "../format.ts";
import type { JournalRecord } from "./journal.ts";
import type { RunbookPlan, RunbookStep } from "./runbook.ts";
import { isUnfinished, standingOf, type StepStanding } from "./standing.ts";

/** The plan as people read it before they say yes: warnings, then every step by phase, steps that are done at once under one number. */
export function renderPlan(plan: Pick<RunbookPlan, "steps" | "warnings">): string {
  const lines = plan.warnings.map((warning) => `warning: ${warning}`);
  const numbers = numberSteps(plan);
  let before: RunbookStep | undefined;
  for (const step of plan.steps) {
    if (step.phase !== before?.phase) lines.push(step.phase);
    const number = numbers.get(step.id) ?? 0;
    const together = before !== undefined && numbers.get(before.id) === number;
    lines.push(`  ${together ? "   " : `${number}.`.padStart(3)} ${step.title}`);
    before = step;
  }
  return text(lines);
}

/** The number of each step, from 1, as people read it; steps that are done at once have one. */
export function numberSteps({ steps }: Pick<RunbookPlan, "steps">): ReadonlyMap<string, number> {
  const numbers = new Map<string, number>();
  let number = 0;
  let before: RunbookStep | undefined;
  for (const step of steps) {
    if (step.group === undefined || step.group !== before?.group || step.phase !== before.phase) number += 1;
    numbers.set(step.id, number);
    before = step;
  }
  return numbers;
}

/** Where an operation stands, step by step, and what can be done about it. */
export function renderStanding(record: JournalRecord): string {
  const { plan, entries, executing, place } = record;
  const { steps, left, ended, changed } = standingOf(plan, entries);
  const lines = [
    `${plan.operation} ${plan.id} of ${plan.cluster}, planned ${formatTime(Date.parse(plan.createdAt))}: ${sayEnd(record, ended, changed)}`,
  ];
  for (const step of plan.steps) {
    const standing = steps.get(step.id);
    if (standing !== undefined) lines.push(`  ${marks[standing.state]} ${step.title}${sayStep(step, standing)}`);
  }
  for (const [host, why] of left) lines.push(`  ${host} was lost and must be joined again (needs-rejoin): ${why}`);
  const later = `etcd-lifeboat ${plan.operation} ${ended === "rolled-back" ? "--rollback" : "--resume"} ${plan.id}`;
  if (left.size > 0 && ended !== undefined) lines.push(`  when it is back: ${later}`);
  if (executing !== undefined) lines.push(`  executed by ${executing}`);
  else if (isUnfinished(record)) {
    const again = `etcd-lifeboat ${plan.operation}`;
    lines.push(`  go on: ${again} --resume ${plan.id}`, `  go back: ${again} --rollback ${plan.id}`);
  }
  lines.push(`  journal: ${place}`);
  return text(lines);
}

const marks = {
  pending: "[ ]",
  started: "[>]",
  failed: "[!]",
  done: "[x]",
  undoing: "[<]",
  undone: "[-]",
  left: "[?]",
} as const satisfies Record<StepStanding["state"], string>;

function sayEnd({ executing }: JournalRecord, ended: ReturnType<typeof standingOf>["ended"], changed: boolean): string {
  if (executing !== undefined) return "at work";
  if (ended === "done") return "done";
  if (ended === "rolled-back") return "rolled back";
  if (ended === "refused") return "stopped before anything was changed";
  return changed ? "NOT FINISHED" : "stopped before anything was changed";
}

function sayStep({ host }: RunbookStep, { state, message, startedMs, endedMs }: StepStanding): string {
  const took =
    startedMs !== undefined && endedMs !== undefined ? ` (${formatDuration(Math.max(0, endedMs - startedMs))})` : "";
  const why = message === undefined ? "" : `: ${message}`;
  const where = state === "failed" && host !== undefined ? ` [${host}]` : "";
  return `${took}${where}${why}`;
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${escapeControls(line)}\n`).join("");
}
