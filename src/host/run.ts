import { spawn } from "node:child_process";
import { Fault, abortFault } from "../faults.ts";
import { isErrno } from "./errors.ts";
import type { RunOptions, RunResult } from "./host.ts";

const defaultOutputBytes = 2 ** 20;
/** A daemon that left the group may hold our pipes for ever; what the program itself wrote is in them by then. */
const lateOutputMs = 1000;

const environment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8",
};

/** Runs a program of this machine as `Host.run` promises. No shell, no environment of ours, a process group of its own. */
export async function runProgram(
  host: string,
  argv: readonly [string, ...string[]],
  options: RunOptions,
  signal: AbortSignal,
): Promise<RunResult> {
  if (signal.aborted) throw abortFault(signal);
  const [program, ...args] = argv;
  if (argv.some((argument) => argument.includes("\0"))) {
    throw new Fault("host-failed", `an argument of ${program} on ${host} holds a NUL character`);
  }
  const { keepGroup = false, directory = "/", env = {}, maxOutputBytes = defaultOutputBytes } = options;
  // What stays behind must not die of a pipe that nobody reads.
  const output = keepGroup ? "ignore" : "pipe";
  const child = spawn(program, args, {
    cwd: directory,
    env: { ...environment, ...env },
    detached: true,
    stdio: [options.stdin === undefined ? "ignore" : "pipe", output, output],
  });
  const keep = options.keepEnd === true ? keepEnd : keepBeginning;
  const stdout = keep(child.stdout, maxOutputBytes);
  const stderr = keep(child.stderr, maxOutputBytes);
  // A program that does not read its input is judged by its status.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.stdin);
  let timedOut = false;
  return await new Promise<RunResult>((resolve, reject) => {
    let ended = false;
    let late: NodeJS.Timeout | undefined;
    const killAll = (): void => {
      if (child.pid !== undefined) killGroup(child.pid);
    };
    const timer = setTimeout(() => {
      timedOut = true;
      killAll();
    }, options.timeoutMs);
    const onAbort = (): void => killAll();
    signal.addEventListener("abort", onAbort, { once: true });
    const finish = (): void => {
      clearTimeout(timer);
      clearTimeout(late);
      signal.removeEventListener("abort", onAbort);
    };
    child.once("error", (error) => {
      if (ended) return;
      ended = true;
      finish();
      reject(startFault(host, program, directory, error));
    });
    child.once("exit", () => {
      if (!keepGroup || timedOut || signal.aborted) killAll();
      late = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, lateOutputMs);
    });
    child.once("close", (status, killedBy) => {
      if (ended) return;
      ended = true;
      finish();
      if (signal.aborted && !timedOut) {
        reject(abortFault(signal));
        return;
      }
      resolve({
        status: status ?? undefined,
        signal: killedBy ?? undefined,
        stdout: stdout.text(),
        stderr: stderr.text(),
        timedOut,
        truncated: stdout.truncated() || stderr.truncated(),
      });
    });
  });
}

interface Kept {
  readonly text: () => string;
  readonly truncated: () => boolean;
}

/** Reads a stream to its end and keeps its beginning. */
function keepBeginning(stream: NodeJS.ReadableStream | null, maxBytes: number): Kept {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let more = false;
  stream?.on("data", (chunk: Buffer) => {
    const room = maxBytes - bytes;
    if (chunk.length > room) more = true;
    if (room <= 0) return;
    const kept = chunk.subarray(0, room);
    bytes += kept.length;
    chunks.push(kept);
  });
  stream?.on("error", () => undefined);
  return { text: () => Buffer.concat(chunks).toString("utf8"), truncated: () => more };
}

/** Reads a stream to its end and keeps that. */
function keepEnd(stream: NodeJS.ReadableStream | null, maxBytes: number): Kept {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let more = false;
  stream?.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    // Whole chunks go first, so that at most one too many is held.
    while (bytes - (chunks[0]?.length ?? 0) >= maxBytes) {
      bytes -= chunks.shift()?.length ?? 0;
      more = true;
    }
    more ||= bytes > maxBytes;
  });
  stream?.on("error", () => undefined);
  return {
    text: () => {
      const kept = Buffer.concat(chunks).subarray(-maxBytes);
      // A character that was cut begins with bytes that can only continue one.
      const start = more ? kept.findIndex((byte) => (byte & 0xc0) !== 0x80) : 0;
      return kept.subarray(Math.max(0, start)).toString("utf8");
    },
    truncated: () => more,
  };
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    // All of it ended by itself.
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

function startFault(host: string, program: string, directory: string, error: Error): Fault {
  if (isErrno(error, "ENOENT", "ENOTDIR")) {
    return new Fault("host-program-missing", `${host} has no ${program}, or no directory ${directory} to run it in`, {
      cause: error,
    });
  }
  const code = isErrno(error, "EACCES", "EPERM") ? "host-denied" : "host-failed";
  const { code: why = error.message } = error as NodeJS.ErrnoException;
  return new Fault(code, `${host} could not start ${program}: ${why}`, { cause: error });
}
