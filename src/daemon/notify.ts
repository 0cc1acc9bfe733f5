import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Clock } from "../clock.ts";
import type { Emit, LifeboatEvent } from "../events.ts";
import { isFault } from "../faults.ts";
import { escapeControls, formatBytes, formatTime } from "../format.ts";

/**
 * What systemd is told (sd_notify(3)): READY, STATUS lines, RELOADING, STOPPING, and the watchdog. Node opens no datagram sockets of Unix, so
 * each message is one call of systemd-notify, which is on every host with systemd; the unit needs NotifyAccess=all for that.
 */

/** Sends one message of `NAME=value` assignments; rejects when systemd was not told. */
export type SendToSystemd = (assignments: readonly string[]) => Promise<void>;

export interface Notifier extends AsyncDisposable {
  readonly listen: Emit;
  /** Feeds systemd's watchdog for as long as `alive` says so, until the signal is aborted; returns at once where there is none. */
  readonly watch: (signal: AbortSignal) => Promise<void>;
}

export interface NotifierOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pid: number;
  readonly clock: Clock;
  /** The loop that schedules still turns. */
  readonly alive: () => boolean;
  /** Told once for each time that systemd cannot be told, until it can. */
  readonly onTrouble: (message: string) => void;
  readonly send?: SendToSystemd;
}

const longestSendMs = 10_000;
/** STATUS lines follow the phases of a backup, and a process is started for each. */
const statusEveryMs = 1000;

/** Does nothing where no systemd listens (NOTIFY_SOCKET is not set). Never throws: a daemon that systemd does not hear still takes backups. */
export function openNotifier(options: NotifierOptions): Notifier {
  const { env, clock } = options;
  const socket = env["NOTIFY_SOCKET"];
  if (socket === undefined || socket === "") {
    return { listen: () => undefined, watch: () => Promise.resolve(), [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const send = options.send ?? sendBy(socket, env);
  const closing = new AbortController();
  const status = openStatusLine();
  let last = "";
  let trouble = false;
  let queue: Promise<void> = Promise.resolve();
  let showing: Promise<void> | undefined;

  function tell(...assignments: readonly string[]): Promise<void> {
    queue = queue.then(async () => {
      try {
        await send(assignments);
        trouble = false;
      } catch (error) {
        if (!trouble) options.onTrouble(`systemd was not told ${assignments.join(" ")}: ${whyNot(error)}`);
        trouble = true;
      }
    });
    return queue;
  }
  /** At most one line a second, and the newest in the end. */
  async function show(): Promise<void> {
    for (;;) {
      const line = status.line(clock.now());
      if (line === last) return;
      last = line;
      await tell(`STATUS=${line}`);
      try {
        await clock.sleep(statusEveryMs, closing.signal);
      } catch (error) {
        if (!isFault(error)) throw error;
        return;
      }
    }
  }
  function wake(): void {
    if (closing.signal.aborted) return;
    showing ??= show().finally(() => {
      showing = undefined;
      // What came between its last look and its end.
      if (status.line(clock.now()) !== last) wake();
    });
  }
  function told(...assignments: readonly string[]): void {
    last = status.line(clock.now());
    void tell(...assignments, `STATUS=${last}`);
  }

  return {
    listen(event) {
      status.listen(event);
      switch (event.name) {
        case "daemon.ready":
        case "config.accepted":
        case "config.refused":
          told("READY=1");
          return;
        case "config.reloading":
          told("RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
          return;
        case "daemon.stopping":
          told("STOPPING=1");
          return;
        default:
          wake();
      }
    },
    async watch(signal) {
      const everyMs = watchdogMs(env, options.pid) / 3;
      if (!Number.isFinite(everyMs)) return;
      for (;;) {
        // Ends when the signal is aborted: the sleep below rejects then.
        if (options.alive()) await tell("WATCHDOG=1");
        try {
          await clock.sleep(everyMs, signal);
        } catch (error) {
          if (signal.aborted) return;
          throw error;
        }
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await showing;
      await queue;
    },
  };
}

/** How long systemd waits for a sign of life; Infinity: it does not. As sd_watchdog_enabled(3) reads it. */
function watchdogMs(env: NotifierOptions["env"], pid: number): number {
  const usec = Number(env["WATCHDOG_USEC"]);
  const meant = env["WATCHDOG_PID"];
  return usec > 0 && (meant === undefined || meant === `${pid}`) ? usec / 1000 : Infinity;
}

function sendBy(socket: string, env: NotifierOptions["env"]): SendToSystemd {
  return async (assignments) => {
    await promisify(execFile)("systemd-notify", [...assignments], {
      env: { PATH: env["PATH"] ?? "/usr/bin:/bin", NOTIFY_SOCKET: socket },
      timeout: longestSendMs,
      killSignal: "SIGKILL",
    });
  };
}

function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && error.code === "ENOENT") return "there is no systemd-notify on the PATH";
  if ("killed" in error && error.killed === true) return `systemd-notify did not end in ${longestSendMs / 1000} s`;
  return error.message.trim();
}

interface StatusLine {
  readonly listen: Emit;
  readonly line: (nowMs: number) => string;
}

/** One line for `systemctl status`: what runs, or what comes next and how the last run ended. */
function openStatusLine(): StatusLine {
  const planned = new Map<string, number>();
  let running: { readonly run: string; readonly what: string; readonly phase: string } | undefined;
  let last = "no backup yet";
  let stopping = false;
  let held = "";
  let refused = false;

  function listen(event: LifeboatEvent): void {
    switch (event.name) {
      case "schedule.planned":
        planned.set(event.schedule, event.nextRunMs);
        break;
      case "backup.started":
        running = { run: event.run, what: event.schedule ?? event.trigger, phase: "choose" };
        break;
      case "backup.phase":
        if (running?.run === event.run) running = { ...running, phase: `${event.phase} done` };
        break;
      case "backup.committed":
        running = undefined;
        last = `last backup ${formatTime(event.committedMs)} (${event.schedule ?? event.trigger}, ${formatBytes(event.storedBytes)})`;
        break;
      case "backup.superseded":
        running = undefined;
        break;
      case "backup.failed":
        running = undefined;
        last = `last run of ${event.schedule ?? event.trigger} FAILED in ${event.phase}: ${event.code}`;
        break;
      case "lock.observed":
        held = event.paused ? "PAUSED; " : event.damaged > 0 ? "LOCK UNREADABLE; " : "";
        if (event.holder !== undefined) held = `${held}locked by ${event.holder}; `;
        break;
      case "daemon.stopping":
        stopping = true;
        break;
      case "config.refused":
        refused = true;
        break;
      case "config.accepted":
        refused = false;
        break;
      case "config.applied":
        planned.clear();
        break;
      default: // not in the line
    }
  }
  function now(nowMs: number): string {
    if (stopping) return "stopping";
    if (running !== undefined) return `backing up ${running.what}: ${running.phase}; ${last}`;
    const [next] = [...planned].filter(([, atMs]) => atMs > nowMs).toSorted(([, a], [, b]) => a - b);
    return next === undefined ? `${held}${last}` : `${held}next backup ${formatTime(next[1])} (${next[0]}); ${last}`;
  }
  return {
    listen,
    line: (nowMs) => escapeControls(`${now(nowMs)}${refused ? "; RELOAD REFUSED, the old configuration stays" : ""}`),
  };
}
