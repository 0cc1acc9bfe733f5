import type { Fault } from "../faults.ts";

/** The words of a runbook: a plan of steps, those who can check and perform them, and what came of it. Nothing here knows etcd. */

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** One condition that shall become true. */
export interface RunbookStep {
  /** Unique in its plan: 1 to 100 of A-Z, a-z, 0-9, `.`, `_`, `:` and `-`. */
  readonly id: string;
  /** Which handler knows it. */
  readonly kind: string;
  /** A condition: "etcd on cp1 is stopped". */
  readonly title: string;
  /** The host that it is about; when that host is lost and given up, the step is left. */
  readonly host?: string;
  /** Neighbours of one phase are shown together. */
  readonly phase: string;
  readonly args: JsonObject;
  /** Neighbours of one group are done at once. */
  readonly group?: string;
  /** Must stay true until this later step is done: until then a resumed run checks it again and performs it again. */
  readonly holdsUntil?: string;
  /** Performing it changes nothing outside: a wait, a proof. A failure before anything else was performed then still means that nothing was touched. */
  readonly harmless?: boolean;
  readonly expectedMs?: number;
}

export const planSchema = "etcd-lifeboat/plan/v1";

export interface RunbookPlan {
  readonly schema: typeof planSchema;
  /** The command that it belongs to, which resumes it and rolls it back: `restore`, `upgrade`. */
  readonly operation: string;
  /** ULID. */
  readonly id: string;
  readonly cluster: string;
  readonly createdAt: string;
  /** What was observed and decided, for people and for the handlers. Never a secret: it is mirrored to hosts and store. */
  readonly facts: JsonObject;
  readonly warnings: readonly string[];
  readonly steps: readonly RunbookStep[];
}

/** What a handler is told beside its step. */
export interface StepContext {
  readonly plan: RunbookPlan;
  /** Results of steps that are done, by step; empty for those that gave none. */
  readonly results: ReadonlyMap<string, JsonObject>;
  /** What was noted in this step so far, by earlier tries too, oldest first. */
  readonly notes: readonly JsonObject[];
  /** Hosts that were lost and given up. */
  readonly left: ReadonlySet<string>;
  /** Whether a step was ever begun in this operation, also when it was taken back since. */
  readonly begun: (step: string) => boolean;
  /** Writes something into the journal, durably, before it is acted on: a name that was chosen, what was found before it is changed. */
  readonly note: (facts: JsonObject) => Promise<void>;
}

export interface StepCheck {
  /** `unknown` stops the run: neither performing it nor passing over it is safe. */
  readonly state: "done" | "pending" | "unknown";
  readonly detail?: string | undefined;
  /** With `done`: what later steps may read. */
  readonly result?: JsonObject | undefined;
}

/**
 * How one kind of step is checked, performed and undone. Everything may be called again after an interruption at any point: `perform` finds its own half-done work.
 * A host that cannot be reached is told by a Fault `host-unreachable`.
 */
export interface StepHandler {
  check(step: RunbookStep, context: StepContext, signal: AbortSignal): Promise<StepCheck>;
  /** Makes the condition true; a check follows. Its result comes before the check's. */
  perform(step: RunbookStep, context: StepContext, signal: AbortSignal): Promise<JsonObject | undefined>;
  /** Whether a failure of the first `perform` means that it did nothing at all. Absent: it never means that. */
  didNothing?(fault: Fault): boolean;
  /** Takes back what `perform` did, or began. Absent: there is nothing to take back. Throws `rollback-too-late` where that may no longer be. */
  undo?(step: RunbookStep, context: StepContext, signal: AbortSignal): Promise<void>;
  /** Whether it is taken back; looked at after `undo`. Absent: `undo` is believed. */
  undoCheck?(step: RunbookStep, context: StepContext, signal: AbortSignal): Promise<StepCheck>;
}

export type RunbookMode = "run" | "resume" | "rollback";

export interface Outcome {
  readonly kind: "done" | "rolled-back";
  /** Hosts that were lost on the way and must be brought back by hand. */
  readonly left: readonly string[];
  /** Results by step. */
  readonly results: ReadonlyMap<string, JsonObject>;
  /** How many steps were performed, or undone, by this very call. */
  readonly performed: number;
}
