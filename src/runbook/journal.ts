import type { Fault } from "../faults.ts";
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
  /**
   * Resolves when the entry is durable here and in every copy that is not behind, in the order of the calls; rejects with `journal-failed`, and with `journal-taken`
   * where a copy shows that somebody else goes on with the operation. Nothing may be done that the entry speaks of before.
   */
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
  /** Takes a journal up to execute it; `journal-locked` while another process does, `not-found` when there is none, `journal-taken` when a copy of it went on. */
  open(id: string, signal: AbortSignal): Promise<Journal>;
  read(id: string, signal: AbortSignal): Promise<JournalRecord>;
  /** All of them, the oldest first. */
  list(signal: AbortSignal): Promise<readonly JournalRecord[]>;
}

/** The journals of a machine, and what the copies of journals tell of operations that other machines have begun. */
export interface MirroredJournals extends Journals {
  /** Looks for the operation of that id, or for all that no copy says to have ended, here and in every copy. */
  find(wanted: string | undefined, signal: AbortSignal): Promise<FoundJournals>;
  /** Writes down here what only copies hold, so that the operation can be taken up on this machine. */
  adopt(found: FoundJournal, signal: AbortSignal): Promise<void>;
  /** Removes the copies of these operations; gives what could not be asked. */
  removeCopies(ids: readonly string[], signal: AbortSignal): Promise<readonly SilentCopy[]>;
}

export interface FoundJournals {
  /** The oldest first. */
  readonly found: readonly FoundJournal[];
  /** Operations whose journal cannot be told: copies that contradict each other, or make no sense. */
  readonly refused: readonly { readonly id: string; readonly fault: Fault }[];
  /** Places that may hold copies, and did not answer. */
  readonly silent: readonly SilentCopy[];
  /** Operations of which a place alone tells that is not believed. */
  readonly hearsay: readonly HearsayJournal[];
}

/** The longest that there is of a journal, of which every other copy is a beginning. */
export interface FoundJournal {
  readonly record: JournalRecord;
  readonly lines: readonly string[];
  /** This machine lacks a part of it, or all. */
  readonly elsewhere: boolean;
}

/** What somebody says of whom nobody knows what he may write: a sign to look at, and nothing to act on. */
export interface HearsayJournal {
  readonly id: string;
  /** Name of the mirror. */
  readonly mirror: string;
}

export interface SilentCopy {
  /** Name of the mirror. */
  readonly mirror: string;
  readonly message: string;
}

/**
 * A second place that the lines of a journal go to, so that a lost operator's machine is no lost operation. What it gives is untrusted. Ids are ULIDs, a line is without
 * its newline, and the first, number 0, is the plan. Every method rejects with a Fault and honours its signal.
 */
export interface JournalMirror {
  /** For messages: `host cp1`, `store`. */
  readonly name: string;
  /**
   * Whether a journal from there may be executed: only who is root on the cluster's hosts anyway can write there. What others can write is a record for people, and
   * never stops, or begins, anything.
   */
  readonly believed: boolean;
  /** Whether the journal of such a plan belongs there at all. */
  accepts(plan: RunbookPlan): boolean;
  /** The operations that it holds, with the last line of each. */
  list(signal: AbortSignal): Promise<readonly { readonly id: string; readonly last: string }[]>;
  /** All lines of an operation; none where it is not known. `journal-invalid` for what is no text, or too much. */
  read(id: string, signal: AbortSignal): Promise<readonly string[]>;
  /**
   * Makes lines durable that follow the first `from` ones, which were all that was there when somebody looked, or wrote, last. Resolves also when they, or some of them,
   * were there already; `journal-taken` when there are others: of two that write at the same place, one does.
   */
  append(id: string, from: number, lines: readonly string[], signal: AbortSignal): Promise<void>;
  /** Resolves also when there is nothing of it. */
  remove(id: string, signal: AbortSignal): Promise<void>;
}
