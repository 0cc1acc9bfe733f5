import type { JsonObject, RunbookMode, RunbookPlan } from "./runbook.ts";

/** One line of a journal after the first, which is the plan. Times are milliseconds since 1970 by the writer's clock, for people alone. */
export type JournalEntry = { readonly timeMs: number } &
  /** A process took the journal up. */
  (
    | { readonly kind: "opened"; readonly mode: RunbookMode }
    /** A step is about to be performed: from here on it may have been. */
    | { readonly kind: "start"; readonly step: string; readonly bootId?: string }
    | { readonly kind: "note"; readonly step: string; readonly facts: JsonObject }
    /** Its condition was seen to be true; `performed` is false where that was so before anything was done. */
    | { readonly kind: "done"; readonly step: string; readonly performed: boolean; readonly result?: JsonObject }
    | { readonly kind: "failed"; readonly step: string; readonly code: string; readonly message: string }
    /** A host was lost and given up. */
    | { readonly kind: "left"; readonly host: string; readonly step: string; readonly message: string }
    | { readonly kind: "undo-start"; readonly step: string; readonly bootId?: string }
    | { readonly kind: "undone"; readonly step: string }
    | { readonly kind: "undo-failed"; readonly step: string; readonly code: string; readonly message: string }
    /** Nothing follows but a rollback of what is done. `refused`: it stopped before it changed anything. */
    | { readonly kind: "ended"; readonly outcome: "done" | "rolled-back" | "refused" }
  );

/** A journal that this process alone executes; dispose it to let others. */
export interface Journal extends AsyncDisposable {
  readonly plan: RunbookPlan;
  /** All that was written so far, by earlier processes too. */
  readonly entries: readonly JournalEntry[];
  /** Resolves when the entry is durable, in the order of the calls; rejects with `journal-failed`. */
  append(entry: JournalEntry): Promise<void>;
}

/** A journal as it is read, whoever executes it now. */
export interface JournalRecord {
  readonly plan: RunbookPlan;
  readonly entries: readonly JournalEntry[];
  /** The process that executes it now; undefined: none does. */
  readonly executing: string | undefined;
  /** For people: a path. */
  readonly place: string;
}

/** The journals of a machine. */
export interface Journals {
  /** Begins a journal with its plan and takes it up; no operation may be unfinished (`journal-unfinished`) or executed (`journal-locked`). */
  create(plan: RunbookPlan, signal: AbortSignal): Promise<Journal>;
  /** Takes a journal up to execute it; `journal-locked` while another process does, `not-found` when there is none. */
  open(id: string, signal: AbortSignal): Promise<Journal>;
  read(id: string, signal: AbortSignal): Promise<JournalRecord>;
  /** All of them, the oldest first. */
  list(signal: AbortSignal): Promise<readonly JournalRecord[]>;
}

/** A second place that the lines of a journal go to, so that a lost operator's machine is no lost operation. Best effort and bounded; never waited for. */
export interface JournalMirror {
  /** For messages: `host cp1`, `store`. */
  readonly name: string;
  /** Line `number` of operation `id` (0 is the plan), without its newline; called in order, one at a time. */
  append(id: string, number: number, line: string, signal: AbortSignal): Promise<void>;
}
