import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

/** A server of ours. It is killed when this process ends, however it ends. */
export interface ServerProcess {
  readonly pid: number;
  readonly running: boolean;
  /** Asks with the signal (SIGTERM by default), and kills after ten seconds. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  pause(): void;
  resume(): void;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** Starts a program whose output is appended to a log file, with an environment of its own. */
export async function startServer(
  program: string,
  args: readonly string[],
  options: { readonly log: string; readonly cwd: string; readonly env?: Record<string, string> },
): Promise<ServerProcess> {
  const [command, ...rest] = guarded([program, ...args]);
  const log = await open(options.log, "a");
  const env = { PATH: process.env["PATH"] ?? "", ...options.env };
  const child = spawn(command ?? program, rest, { cwd: options.cwd, env, stdio: ["ignore", log.fd, log.fd] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  try {
    await once(child, "spawn");
  } finally {
    await log.close();
  }
  living.add(child);
  child.once("exit", () => living.delete(child));
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} has no process ID`);
  const running = (): boolean => child.exitCode === null && child.signalCode === null;
  return {
    pid,
    get running() {
      return running();
    },
    async stop(signal = "SIGTERM") {
      if (!running()) return;
      child.kill(signal);
      // A paused process hears nothing but SIGKILL until it goes on.
      child.kill("SIGCONT");
      const patience = new AbortController();
      await Promise.race([ended, sleep(10_000, undefined, { signal: patience.signal })]);
      patience.abort();
      if (running()) child.kill("SIGKILL");
      await ended;
    },
    pause: () => void child.kill("SIGSTOP"),
    resume: () => void child.kill("SIGCONT"),
  };
}

/**
 * Through setpriv the kernel itself kills the server when the thread that started it dies, also by SIGKILL. It execs,
 * so the process ID is the server's. Where util-linux is missing, the exit hook above is what there is.
 */
function guarded(command: readonly string[]): readonly string[] {
  const setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));
  return setpriv === undefined ? command : [setpriv, "--pdeathsig", "KILL", ...command];
}

/** Runs a program to its end, at most for a minute, and gives its standard output. */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly env?: Record<string, string>; readonly cwd?: string } = {},
): Promise<string> {
  const settings = {
    env: { PATH: process.env["PATH"] ?? "", ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    timeout: 60_000,
    maxBuffer: 256 * 1024 * 1024,
  };
  return await new Promise((resolve, reject) => {
    const child = execFile(program, args, settings, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else
        reject(
          new Error(`${program} ${args.join(" ")} failed: ${stderr || stdout || error.message}`, { cause: error }),
        );
    });
    // A program that ends without reading its input is judged by its exit status.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(options.input ?? "");
  });
}

/** The end of a log, for the message of an error. */
export async function logTail(path: string, lines = 15): Promise<string> {
  const text = await readFile(path, "utf8");
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}
