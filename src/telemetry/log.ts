import { fstatSync } from "node:fs";
import { Writable } from "node:stream";

import winston from "winston";

import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { LifeboatEvent } from "../events.ts";
import { jsonLine, textLine } from "./lines.ts";
import { openTelling } from "./told.ts";
import type { Level, Told } from "./told.ts";

export interface LogOptions {
  readonly level: Level;
  readonly format: "json" | "text";
  /** Where the lines go; standard error by default. It is not closed. */
  readonly destination?: Writable;
  /** Text for journald, which has its own clock and levels; by default when systemd connected standard error to it. */
  readonly journal?: boolean;
  readonly clock?: Clock;
}

export interface Log extends AsyncDisposable {
  readonly listen: (event: LifeboatEvent) => void;
  /** From now on lines of at least this level are written. */
  readonly setLevel: (level: Level) => void;
  /** Lines that could not be written since the start: the destination failed or is too slow. */
  readonly lostLines: () => number;
  /** Resolves when every line so far is written or lost, at the latest after two seconds. Never rejects. */
  readonly flush: () => Promise<void>;
}

const severities: Record<Level, number> = { error: 0, warn: 1, info: 2, debug: 3 };

/** What may wait for a slow destination; lines beyond it are lost and counted, since backups do not wait for a log. */
const mostWaitingBytes = 1 << 20;
const longestFlushMs = 2000;

/**
 * Writes events as one line each, through winston. No destination can hurt: one that fails (EPIPE, ENOSPC) or does not drain loses
 * lines, which are counted and, when it works again, said.
 */
export function openLog(options: LogOptions): Log {
  const clock = options.clock ?? systemClock;
  const destination = options.destination ?? process.stderr;
  const journal = options.journal ?? (options.destination === undefined && standardErrorIsJournal(process.env));
  const sink = openSink(destination);
  const logger = winston.createLogger({
    level: options.level,
    levels: severities,
    format: winston.format.printf((info) => lineOf(info["told"] as Told, Number(info["timeMs"]))),
    transports: [new winston.transports.Stream({ stream: sink.stream, eol: "\n" })],
  });
  const telling = openTelling();
  let leastLevel = options.level;
  let toldLost = 0;

  function lineOf(told: Told, timeMs: number): string {
    return options.format === "json" ? jsonLine(told, timeMs) : textLine(told, journal ? undefined : timeMs);
  }
  function write(told: Told, timeMs: number): void {
    if (severities[told.level] > severities[leastLevel]) return;
    sink.expect();
    logger.log({ level: told.level, message: told.event, told, timeMs });
  }

  return {
    listen(event) {
      const nowMs = clock.now();
      const told = telling(event, nowMs);
      if (told === undefined) return;
      if (sink.lost() > toldLost && sink.works()) {
        const lines = sink.lost() - toldLost;
        toldLost += lines;
        write({ level: "warn", event: "log.lost", fields: [{ key: "lines", kind: "number", value: lines }] }, nowMs);
      }
      write(told, nowMs);
    },
    setLevel(level) {
      leastLevel = level;
      logger.level = level;
    },
    lostLines: sink.lost,
    flush: sink.flush,
    async [Symbol.asyncDispose]() {
      await sink.flush();
      logger.close();
      sink.detach();
    },
  };
}

interface Sink {
  readonly stream: Writable;
  /** A line is on its way. */
  readonly expect: () => void;
  readonly lost: () => number;
  /** True when the destination took the last line and has room for the next. */
  readonly works: () => boolean;
  readonly flush: () => Promise<void>;
  readonly detach: () => void;
}

function openSink(destination: Writable): Sink {
  let pending = 0;
  let lost = 0;
  let failing = false;
  const waiters = new Set<() => void>();

  function settle(failed: boolean): void {
    failing = failed;
    if (failed) lost += 1;
    pending -= 1;
    if (pending === 0) for (const wake of waiters) wake();
  }
  const stream = new Writable({
    decodeStrings: false,
    write(line: string, _encoding, done) {
      if (destination.writableLength > mostWaitingBytes) settle(true);
      else destination.write(line, (error) => settle(error !== undefined && error !== null));
      done();
    },
  });
  // Every line's own callback counts it; this listener only keeps a broken destination from ending the process.
  const onError = (): void => {
    failing = true;
  };
  destination.on("error", onError);

  return {
    stream,
    expect: () => {
      pending += 1;
    },
    lost: () => lost,
    works: () => !failing && destination.writableLength <= mostWaitingBytes,
    flush: () =>
      new Promise((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          waiters.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, longestFlushMs);
        if (pending === 0) wake();
        else waiters.add(wake);
      }),
    detach: () => destination.off("error", onError),
  };
}

/** True when systemd says (JOURNAL_STREAM=device:inode) that it connected standard error, and nobody redirected it since: systemd.exec(5). */
export function standardErrorIsJournal(env: { readonly JOURNAL_STREAM?: string | undefined }, descriptor = 2): boolean {
  if (env.JOURNAL_STREAM === undefined) return false;
  try {
    const { dev, ino } = fstatSync(descriptor, { bigint: true });
    return env.JOURNAL_STREAM === `${dev}:${ino}`;
  } catch {
    return false; // no such descriptor: then it is no journal either
  }
}
