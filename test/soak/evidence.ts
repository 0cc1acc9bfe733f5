import type { RetentionPolicy } from "../../src/snapshot/keep.ts";
import type { Look } from "./looks.ts";

/** What a soak saw, as its checker needs it. */
export interface Evidence {
  readonly policy: RetentionPolicy;
  readonly schedules: readonly ScheduleEvidence[];
  /** Oldest first. */
  readonly looks: readonly Look[];
  /** Of all daemons, by time. */
  readonly lines: readonly Line[];
  readonly lives: readonly LifeEvidence[];
  /** When something was wrong with members or the store, with the time it needs to be well again. */
  readonly troubles: readonly Span[];
}

export interface ScheduleEvidence {
  readonly name: string;
  /** The slots that had to be served, ascending. */
  readonly slots: readonly number[];
}

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** One process of a daemon. */
export interface LifeEvidence {
  readonly process: string;
  /** Undefined: it never was. */
  readonly readyMs: number | undefined;
  readonly endedMs: number;
  /** While it was stopped by a signal. */
  readonly paused: readonly Span[];
  /** It was given no chance to say anything at its end. */
  readonly killed: boolean;
}

/** A line of a daemon's log. */
export interface Line {
  /** Which daemon, and which process of it. */
  readonly process: string;
  readonly atMs: number;
  readonly level: string;
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Reads a line of the log; what is none becomes an event of its own. */
export function parseLine(process: string, text: string): Line {
  try {
    const { time, level, event, ...fields } = JSON.parse(text) as Record<string, unknown>;
    if (typeof time === "string" && typeof level === "string" && typeof event === "string")
      return { process, atMs: Date.parse(time), level, event, fields };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { process, atMs: 0, level: "error", event: noLine, fields: { text } };
}

export const noLine = "no line of the log";
