import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The real command as a child process, as people start it. */

/** Starting the command is most of what these tests do; compiled once, it takes half as long. */
const compileCache = join(tmpdir(), "lifeboat-compile-cache");

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Started {
  readonly child: ChildProcess;
  /** Resolves when it has ended and everything it said was read. */
  readonly ended: Promise<Ended>;
  readonly onError: (listen: (text: string) => void) => void;
}

export interface StartOptions {
  /** Nothing of the caller's environment gets through but its PATH. */
  readonly env?: Readonly<Record<string, string>>;
  /** Another program and its arguments that start the command, such as `setpriv`. */
  readonly wrap?: readonly string[];
  /** Let it run as long as it likes, as a daemon does. */
  readonly unbounded?: boolean;
}

/** Starts the command; it is killed when it takes longer than anything here may take. */
export function startCommand(
  args: readonly string[],
  { env = {}, wrap = [], unbounded = false }: StartOptions = {},
): Started {
  const [program = "", ...rest] = [...wrap, process.execPath, main, ...args];
  const child = spawn(program, rest, {
    env: { PATH: process.env["PATH"], HOME: tmpdir(), NODE_COMPILE_CACHE: compileCache, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(unbounded ? {} : { timeout: 240_000 }),
    killSignal: "SIGKILL",
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "close").then((event): Ended => {
    const [status, signal] = event as [number | null, NodeJS.Signals | null];
    return { status, signal, stdout, stderr };
  });
  return { child, ended, onError: (listen) => child.stderr.on("data", listen) };
}
