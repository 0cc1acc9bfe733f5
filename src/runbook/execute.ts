import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import type { Fault } from "../faults.ts";
import type { JsonObject, RunbookStep, StepHandler } from "./runbook.ts";

export interface ExecuteDependencies {
  /** By kind of step. */
  readonly handlers: Readonly<Record<string, StepHandler>>;
  readonly emit: Emit;
  readonly clock: Clock;
  /** Ends the process at a named place when a test asks for it. */
  readonly failpoint?: (place: string) => void;
  /** Which boot of a host this is, for the journal; undefined: not known. */
  readonly bootId?: (host: string, signal: AbortSignal) => Promise<string | undefined>;
  /** Asked when a host was lost in one of its steps: true goes on without it, and its steps are left. Absent: a lost host stops the run. */
  readonly lostHost?: (step: RunbookStep, fault: Fault, signal: AbortSignal) => Promise<boolean>;
  /** Asked before anything is undone; throws `rollback-too-late` where it may no longer be. */
  readonly mayRollBack?: (results: ReadonlyMap<string, JsonObject>, signal: AbortSignal) => Promise<void>;
}
