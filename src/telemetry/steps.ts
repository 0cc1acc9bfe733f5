import type { Clock } from "../clock.ts";
import type { Emit, LifeboatEvent } from "../events.ts";
import { escapeControls, formatDuration } from "../format.ts";

/** A step that takes longer is told while it lasts; all others when they are over. */
const patienceMs = 3_000;

export interface StepLines {
  readonly listen: Emit;
  /** Forgets what is under way; nothing is written after it. */
  readonly close: () => void;
}

/** Tells people what an operation does, step by step, with or without a terminal: one line when a step is over, and one before when it lasts. */
export function openStepLines(write: (line: string) => void, clock: Pick<Clock, "sleep">): StepLines {
  const waits = new Map<string, AbortController>();
  const say = (line: string): void => write(`${escapeControls(line)}\n`);
  const begin = (step: string, title: string, expectedMs: number | undefined): void => {
    const wait = new AbortController();
    waits.set(step, wait);
    const about = expectedMs === undefined ? "" : ` (about ${formatDuration(expectedMs)})`;
    const tell = (): void => say(`  [>] ${title}${about}`);
    // Rejected by what ended the step, or the whole operation.
    clock.sleep(patienceMs, wait.signal).then(tell, () => undefined);
  };
  const end = (step: string): void => {
    waits.get(step)?.abort();
    waits.delete(step);
  };
  const close = (): void => {
    for (const step of waits.keys()) end(step);
  };
  return {
    listen: (event) => {
      if (event.name === "step.started") begin(event.step, event.title, event.expectedMs);
      if (event.name === "step.done" || event.name === "step.failed" || event.name === "step.undone") end(event.step);
      const line = lineOf(event);
      if (line !== undefined) say(line);
      if (event.name === "restore.hygiene") for (const finding of event.findings) say(`look after: ${finding}`);
      if (event.name === "operation.ended") close();
    },
    close,
  };
}

function lineOf(event: LifeboatEvent): string | undefined {
  switch (event.name) {
    case "step.done":
      return `  [x] ${event.title}${event.performed ? ` (${formatDuration(event.durationMs)})` : " (nothing to do)"}`;
    case "step.failed":
      return `  [!] ${event.title}: ${event.message}`;
    case "step.undone":
      return `  [-] taken back: ${event.title} (${formatDuration(event.durationMs)})`;
    case "host.left":
      return `  [?] ${event.host ?? "a host"} was lost, and it goes on without it: ${event.message}`;
    case "host.rebooted":
      return `  [?] ${event.host} was booted meanwhile`;
    // What another one printed is in its warning or failure.
    case "hook.ended":
      return event.outcome === "passed" && event.output !== "" ? `      ${event.hook}: ${event.output}` : undefined;
    default:
      return undefined;
  }
}
