import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { formatBytes, formatDuration } from "../format.ts";

export interface ProgressOptions {
  readonly stream: { write(text: string): unknown };
  /** Without a terminal nothing is written at all. */
  readonly isTTY: boolean;
  readonly env: { readonly NO_COLOR?: string | undefined; readonly TERM?: string | undefined };
  /** The terminal's width, asked at each drawing, since it changes. */
  readonly columns: () => number | undefined;
  readonly clock?: Clock;
}

export interface Progress {
  readonly listen: Emit;
  /** Takes the unfinished line off the terminal, for whoever writes something else; the next event draws it again. */
  readonly clear: () => void;
  /** Clears the line; events after it are not shown. */
  readonly close: () => void;
}

const redrawMs = 100;
/** The rate is that of the last seconds: the average since the start hides a stall, the last two events jump. */
const rateWindowMs = 5000;
const nameWidth = 9;

interface Phase {
  readonly run: string;
  readonly name: string;
  /** Where it was within the window of the rate, oldest first. */
  readonly samples: { readonly atMs: number; readonly doneBytes: number }[];
}

/** Draws the phases of a backup on a terminal: one line each with bytes, rate, percentage and time left; finished ones stay. */
export function openProgress(options: ProgressOptions): Progress {
  const clock = options.clock ?? systemClock;
  const color = (options.env.NO_COLOR ?? "") === "";
  // A dumb terminal cannot take a line back: it gets the finished ones only.
  const redraws = options.env.TERM !== "dumb";
  let current: Phase | undefined;
  let drawnMs = Number.NEGATIVE_INFINITY;
  let drawn = false;
  let closed = !options.isTTY;

  function clear(): void {
    if (drawn) options.stream.write("\r\u001b[2K");
    drawn = false;
  }
  function leave(): void {
    clear();
    current = undefined;
    drawnMs = Number.NEGATIVE_INFINITY;
  }
  function line(name: string, parts: readonly string[]): string {
    const width = Math.max(20, (options.columns() ?? 80) - 1);
    const text = parts.join("  ").slice(0, width - nameWidth - 1);
    const head = name.padEnd(nameWidth);
    return `${color && redraws ? `\u001b[36m${head}\u001b[39m` : head} ${text}`;
  }
  function onProgress(run: string, name: string, doneBytes: number, totalBytes: number | undefined): void {
    const nowMs = clock.elapsed();
    const last = current?.samples.at(-1);
    // Another phase, another run, or the same one from its start again (another source): nothing measured so far holds.
    if (current?.run !== run || current.name !== name || (last !== undefined && doneBytes < last.doneBytes)) {
      current = { run, name, samples: [] };
    }
    const { samples } = current;
    samples.push({ atMs: nowMs, doneBytes });
    while (samples.length > 2 && nowMs - (samples[1]?.atMs ?? nowMs) >= rateWindowMs) samples.shift();
    if (!redraws || nowMs - drawnMs < redrawMs) return;
    drawnMs = nowMs;
    const text = line(name, progressParts(current, doneBytes, totalBytes));
    options.stream.write(`${drawn ? "\r\u001b[2K" : ""}${text}`);
    drawn = true;
  }
  function onPhase(name: string, durationMs: number, bytes: number | undefined): void {
    leave();
    const rate = bytes === undefined || durationMs <= 0 ? [] : [`${formatBytes((bytes / durationMs) * 1000)}/s`];
    const size = bytes === undefined ? [] : [formatBytes(bytes)];
    options.stream.write(`${line(name, [...size, ...rate, formatDuration(durationMs)])}\n`);
  }

  return {
    listen: (event) => {
      if (closed) return;
      if (event.name === "backup.progress") onProgress(event.run, event.phase, event.doneBytes, event.totalBytes);
      if (event.name === "backup.phase") onPhase(event.phase, event.durationMs, event.bytes);
      if (event.name === "backup.failed" || event.name === "backup.committed" || event.name === "backup.superseded")
        leave();
    },
    clear,
    close: () => {
      leave();
      closed = true;
    },
  };
}

function progressParts(phase: Phase, doneBytes: number, totalBytes: number | undefined): readonly string[] {
  const rate = bytesPerMs(phase);
  const speed = rate === undefined ? [] : [`${formatBytes(rate * 1000)}/s`];
  if (totalBytes === undefined || totalBytes <= 0) return [formatBytes(doneBytes), ...speed];
  // A total may be an estimate: never more than 100, and 100 only at the end.
  const percent = doneBytes >= totalBytes ? 100 : Math.min(99, Math.floor((doneBytes / totalBytes) * 100));
  const left =
    rate === undefined || rate <= 0 ? [] : [`${formatDuration(Math.max(0, totalBytes - doneBytes) / rate)} left`];
  return [`${percent}%`.padStart(4), `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`, ...speed, ...left];
}

function bytesPerMs({ samples }: Phase): number | undefined {
  const first = samples[0];
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.atMs <= first.atMs) return undefined;
  return (last.doneBytes - first.doneBytes) / (last.atMs - first.atMs);
}
