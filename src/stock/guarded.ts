import { spawn } from "node:child_process";
import { once } from "node:events";
import { Fault, abortFault } from "../faults.ts";

/** A program that runs under a guard, so that it never outlives us. */
export interface Guarded {
  /** Resolves when it is gone, and everything that it started in its process group. */
  readonly ended: Promise<{ readonly status: number | null; readonly output: string }>;
  /** SIGTERM reaches the program alone; SIGKILL all of its process group. */
  readonly kill: (signal: "SIGTERM" | "SIGKILL") => void;
}

/**
 * Holds a pipe from us: its end is ours, whatever ends us, also SIGKILL, which no handler sees. Node cannot ask the kernel for a death signal, and the small program
 * that could (setpriv) is not everywhere; a shell is.
 */
const guard = `
exec 3<&0
"$@" 3<&- </dev/null &
program=$!
trap 'kill -TERM "$program"' TERM
{ read -r _ <&3; kill -KILL "$program"; } &
watch=$!
exec 3<&-
wait "$program"
status=$?
while kill -0 "$program" 2>/dev/null; do wait "$program"; status=$?; done
trap '' TERM
kill "$watch" 2>/dev/null
exit "$status"
`;

/** How much of what it wrote last is kept for a message. */
const outputBytes = 64 * 1024;

/** 3.4 and older refuse every processor but one without being told that it is meant. */
const environment = {
  ETCDCTL_API: "3",
  ...(process.arch === "x64" ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch }),
};

/**
 * Starts a program in a directory, with nothing of our environment: etcd reads its flags from there, too. It is killed when the signal is aborted. Rejects with
 * `failed` when it cannot be started at all.
 */
export async function startGuarded(
  program: string,
  args: readonly string[],
  directory: string,
  signal: AbortSignal,
): Promise<Guarded> {
  if (signal.aborted) throw abortFault(signal);
  const child = spawn("/bin/sh", ["-c", guard, "sh", program, ...args], {
    cwd: directory,
    env: environment,
    // A process group of its own: a terminal's Ctrl-C is ours to handle, and all of it can be killed at once.
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  // The guard closes its end when the program is gone.
  child.stdin.on("error", () => undefined);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (output = (output + text).slice(-outputBytes)));
  }
  let gone = false;
  const kill: Guarded["kill"] = (how) => {
    if (how === "SIGTERM") child.kill(how);
    // Also where the guard itself was killed: its group lives on while the program does.
    else if (!gone && child.pid !== undefined) killGroup(child.pid);
  };
  const onAbort = (): void => kill("SIGKILL");
  signal.addEventListener("abort", onAbort, { once: true });
  const ended = new Promise<Awaited<Guarded["ended"]>>((resolve) => {
    child.once("close", (status) => {
      gone = true;
      signal.removeEventListener("abort", onAbort);
      resolve({ status, output });
    });
  });
  try {
    await once(child, "spawn");
  } catch (error) {
    signal.removeEventListener("abort", onAbort);
    throw new Fault("failed", `${program} cannot be started through /bin/sh in ${directory}`, { cause: error });
  }
  return { ended, kill };
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    // It ended by itself in this very moment.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
