import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { LogLine } from "../cluster/daemon.ts";

/** A daemon as a service manager would start it, over and over: the real command, its log in one file over all its lives. */

export interface SoakDaemonOptions {
  readonly name: string;
  /** The configuration file. */
  readonly config: string;
  /** Nothing of the caller's environment gets through but its PATH. */
  readonly env: Readonly<Record<string, string>>;
  /** Appended to; standard error of the process, so a daemon that is stopped never waits for us. */
  readonly logFile: string;
}

export interface SoakDaemon extends AsyncDisposable {
  readonly name: string;
  /** How often it was started. */
  readonly lives: number;
  readonly state: "running" | "paused" | "ended";
  /** Starts it, with more environment for this life alone; resolves when it says that it is ready. */
  start(env?: Readonly<Record<string, string>>): Promise<void>;
  pause(): void;
  resume(): void;
  signal(name: NodeJS.Signals): void;
  /** SIGKILL, at once. */
  kill(): Promise<void>;
  /** SIGTERM, after it was resumed; resolves with the exit status, or the signal that ended it. */
  stop(): Promise<number | NodeJS.Signals | null>;
  /** Every line of all its lives so far. */
  lines(): Promise<readonly LogLine[]>;
  /** Waits for a line of this event that was written after the call. */
  next(event: string, fits?: (line: LogLine) => boolean, withinMs?: number): Promise<LogLine>;
}

const repository = fileURLToPath(new URL("../..", import.meta.url));
const program = join(repository, "src/etcd-lifeboat.cjs");
/** Starting is most of what a killed daemon costs. */
const compileCache = join(tmpdir(), "lifeboat-compile-cache");
const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** Plans a daemon; `start` starts it. It is killed when this process ends, however it ends. */
export function openSoakDaemon({ name, config, env, logFile }: SoakDaemonOptions): SoakDaemon {
  let child: ChildProcess | undefined;
  let ended: Promise<number | NodeJS.Signals | null> = Promise.resolve(null);
  let paused = false;
  let lives = 0;
  const log = followLog(logFile);
  const running = (): boolean => child?.exitCode === null && child.signalCode === null;

  const daemon: SoakDaemon = {
    name,
    get lives() {
      return lives;
    },
    get state() {
      return running() ? (paused ? "paused" : "running") : "ended";
    },
    async start(more = {}) {
      if (running()) throw new Error(`${name} runs already`);
      const ready = daemon.next("daemon.ready");
      // Whoever gives up before waiting for it must not be ended by it.
      ready.catch(() => undefined);
      const [command = "", ...args] = guarded([process.execPath, program, "run", "--config", config]);
      const output = await open(logFile, "a");
      const started = spawn(command, args, {
        env: { PATH: process.env["PATH"], HOME: tmpdir(), NODE_COMPILE_CACHE: compileCache, ...env, ...more },
        stdio: ["ignore", output.fd, output.fd],
      });
      child = started;
      paused = false;
      lives += 1;
      living.add(started);
      ended = new Promise((resolve) => {
        started.once("exit", (status, signal) => {
          living.delete(started);
          resolve(status ?? signal);
        });
      });
      await output.close();
      const end = await Promise.race([ready, ended]);
      if (typeof end !== "object" || end === null) {
        throw new Error(`${name} ended with ${end} before it was ready:\n${await tail(logFile)}`);
      }
    },
    pause() {
      paused = child?.kill("SIGSTOP") ?? false;
    },
    resume() {
      child?.kill("SIGCONT");
      paused = false;
    },
    signal: (signal) => void child?.kill(signal),
    async kill() {
      if (running()) child?.kill("SIGKILL");
      await ended;
    },
    async stop() {
      if (running()) {
        daemon.resume();
        child?.kill("SIGTERM");
      }
      return await ended;
    },
    lines: async () => await log.read(),
    async next(event, fits = () => true, withinMs = 300_000) {
      let seen = (await daemon.lines()).length;
      const untilMs = performance.now() + withinMs;
      for (;;) {
        const lines = await daemon.lines();
        const found = lines.slice(seen).find((line) => line.event === event && fits(line));
        if (found !== undefined) return found;
        seen = lines.length;
        if (performance.now() > untilMs) {
          throw new Error(`${name}: no ${event} in ${withinMs} ms:\n${await tail(logFile)}`);
        }
        await sleep(100);
      }
    },
    [Symbol.asyncDispose]: () => daemon.kill(),
  };
  return daemon;
}

/** Through setpriv the kernel ends the daemon with whoever started it; where util-linux is missing, the exit hook above is what there is. */
function guarded(command: readonly string[]): readonly string[] {
  const setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));
  return setpriv === undefined ? command : [setpriv, "--pdeathsig", "KILL", ...command];
}

/** Reads what was appended since the last time; a line that is not whole yet waits for its end. */
function followLog(path: string): { readonly read: () => Promise<readonly LogLine[]> } {
  const lines: LogLine[] = [];
  let at = 0;
  let partial = "";
  let reading: Promise<unknown> = Promise.resolve();
  const readOn = async (): Promise<readonly LogLine[]> => {
    if (!existsSync(path)) return lines;
    await using file = await open(path, "r");
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - at), 0, size - at, at);
    at += bytesRead;
    const parts = `${partial}${buffer.toString("latin1", 0, bytesRead)}`.split("\n");
    partial = parts.pop() ?? "";
    lines.push(...parts.filter((part) => part !== "").map((part) => parseLine(Buffer.from(part, "latin1").toString())));
    return lines;
  };
  return {
    read() {
      const next = reading.then(readOn);
      reading = next.catch(() => undefined);
      return next;
    },
  };
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    // Killed while it wrote, or it said something that is no line of the log: the checker looks at these.
    return { time: "", level: "error", event: "not a line of the log", text };
  }
}

async function tail(path: string): Promise<string> {
  return (await readFile(path, "utf8")).split("\n").slice(-20).join("\n");
}
