import { isMainThread } from "node:worker_threads";
import { Fault, isFault } from "./faults.ts";
import { escapeControls } from "./format.ts";
import { tuneHeap } from "./heap.ts";
import "./workers/worker.ts";

/**
 * The edge: argv, signals, exit status; the only process.exit. In a bundle this file is also what worker threads load, so it starts only in the main
 * one, and everything that a worker does not need is imported when it starts: a worker would pay 30 MB for it.
 */
if (isMainThread) {
  tuneHeap(process.argv[2] === "list");
  void main();
}

async function main(): Promise<void> {
  const [{ runProgram }, { compose }, { version }] = await Promise.all([
    import("./cli/program.ts"),
    import("./compose.ts"),
    import("./version.ts"),
  ]);
  const controller = new AbortController();
  const argv = process.argv.slice(2);
  let stoppedBy: NodeJS.Signals | undefined;
  const stop = (name: NodeJS.Signals): void => {
    if (stoppedBy === undefined) {
      stoppedBy = name;
      controller.abort(new Fault("interrupted", `interrupted by ${name}`));
    } else if (name !== "SIGHUP") {
      // The second signal does not wait for anything. (A terminal that closes may well send two.)
      process.exit(130);
    }
  };
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, stop);
  const onReload = (listener: () => void): Disposable => {
    process.off("SIGHUP", stop);
    process.on("SIGHUP", listener);
    return { [Symbol.dispose]: () => void process.off("SIGHUP", listener).on("SIGHUP", stop) };
  };
  // A terminal that is gone, or a disk that is full: nobody can be told, and what is being done is not stopped for it.
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that went away (`| head`) is no failure of ours.
    if (error.code === "EPIPE") return;
    process.stderr.write(`error: standard output cannot be written: ${error.code ?? error.message}\n`);
    process.exit(1);
  });
  const console = {
    out: (text: string) => void process.stdout.write(text),
    err: (text: string) => void process.stderr.write(text),
    interactive: process.stderr.isTTY,
    ...(process.stdin.isTTY && process.stderr.isTTY
      ? { ask: (question: string) => ask(question, controller.signal) }
      : {}),
    columns: () => process.stderr.columns,
    env: process.env,
  };
  try {
    process.exitCode = await runProgram(compose(version, console, controller.signal, onReload), argv);
  } catch (error) {
    if (!isFault(error)) throw error;
    process.exitCode = error.exitStatus;
    if (argv.includes("--json")) {
      const { code, message, hint, exitStatus } = error;
      console.err(
        `${JSON.stringify({ schema: "etcd-lifeboat/error/v1", code, message, hint: hint ?? null, exitStatus })}\n`,
      );
      return;
    }
    console.err(`error: ${error.message.split("\n").map(escapeControls).join("\n")}\n`);
    if (error.hint !== undefined) console.err(`hint: ${escapeControls(error.hint)}\n`);
  } finally {
    // Everything is closed by now; a handle that some library forgot must not keep a finished command alive.
    setTimeout(() => process.exit(), 3000).unref();
  }
}

/** One line from the terminal; undefined when it ends before. */
async function ask(question: string, signal: AbortSignal): Promise<string | undefined> {
  const { createInterface } = await import("node:readline/promises");
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await terminal.question(question, { signal })).trim();
  } catch (error) {
    // Ctrl-C and Ctrl-D are no answers.
    if (signal.aborted || (error instanceof Error && error.name === "AbortError")) return undefined;
    throw error;
  } finally {
    terminal.close();
  }
}
