import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { Fault, isFault } from "../faults.ts";
import type { JsonObject } from "./runbook.ts";

/** A program of the site that is told of a phase. */
export interface Hook {
  readonly argv: readonly [string, ...string[]];
  readonly timeoutMs: number;
}

export interface HookDependencies {
  /** Runs it in a process group of its own, which is killed when the time is over, and keeps the end of what it prints. Rejects with `host-*` when it cannot be started. */
  readonly run: (
    hook: Hook,
    options: { readonly stdin: Uint8Array; readonly maxOutputBytes: number },
    signal: AbortSignal,
  ) => Promise<HookRun>;
  /** The text without what looks like a secret, uncut. */
  readonly redact: (text: string) => string;
  readonly emit: Emit;
  readonly clock: Pick<Clock, "elapsed">;
}

export interface HookRun {
  /** Undefined when a signal ended it. */
  readonly status: number | undefined;
  readonly signal: string | undefined;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
  /** Something was printed before what is kept. */
  readonly truncated: boolean;
}

/** Exit statuses with which a hook says something; 0 is consent. */
const warns = 62;
const stops = 63;
/** Of each of its outputs; what is told is the end of it. */
const keptBytes = 64 * 1024;
const toldCharacters = 1000;

/**
 * Runs a hook with facts as JSON on its standard input. Resolves with its warning, if it gave one; rejects with `hook-stopped` when it says that the operation must not
 * go on, and with `hook-failed` for everything else that is no consent. The end of what it printed is told without what looks like a secret.
 */
export async function runHook(
  name: string,
  hook: Hook,
  facts: JsonObject,
  deps: HookDependencies,
  signal: AbortSignal,
): Promise<string | undefined> {
  const startedMs = deps.clock.elapsed();
  const what = `the hook ${name} (${hook.argv[0]})`;
  const stdin = new TextEncoder().encode(
    `${JSON.stringify({ schema: "etcd-lifeboat/hook/v1", hook: name, ...facts })}\n`,
  );
  const ended = await deps.run(hook, { stdin, maxOutputBytes: keptBytes }, signal).catch((error: unknown) => {
    if (!isFault(error) || !error.code.startsWith("host-")) throw error;
    throw new Fault("hook-failed", `${what} could not be started: ${error.message}`, {
      hint: `see that ${hook.argv[0]} is there and may be executed`,
      cause: error,
    });
  });
  const output = sayEnd(ended, deps.redact);
  const { status, timedOut } = ended;
  const outcome = timedOut || status === undefined ? "failed" : outcomeOf(status);
  deps.emit({
    name: "hook.ended",
    operation: typeof facts["id"] === "string" ? facts["id"] : "",
    hook: name,
    outcome,
    status,
    timedOut,
    durationMs: deps.clock.elapsed() - startedMs,
    output,
  });
  const said = output === "" ? "" : `: ${output}`;
  switch (outcome) {
    case "passed":
      return undefined;
    case "warned":
      return `${what} warns${said}`;
    case "stopped":
      throw new Fault("hook-stopped", `${what} says that the operation must not go on${said}`, {
        hint: "do what it wants",
      });
    case "failed":
      throw new Fault("hook-failed", `${what} ${sayHow(hook, ended)}${said}`, {
        hint: "run it by hand with the same facts on its standard input, and mend it",
      });
  }
}

function outcomeOf(status: number): "passed" | "warned" | "stopped" | "failed" {
  if (status === 0) return "passed";
  if (status === warns) return "warned";
  return status === stops ? "stopped" : "failed";
}

function sayHow({ timeoutMs }: Hook, { status, signal, timedOut }: HookRun): string {
  if (timedOut) return `took longer than ${timeoutMs / 1000} s, and was killed with all that it had started`;
  return status === undefined ? `was ended by ${signal ?? "a signal"}` : `exited with ${status}`;
}

/** The last lines of both outputs. They are cleaned before they are cut, so that no cut hides where a secret began. */
function sayEnd({ stdout, stderr, truncated }: HookRun, redact: (text: string) => string): string {
  const both = [stdout, stderr].map((text) => redact(truncated ? withoutTorn(text) : text).trim());
  const text = both.filter((part) => part !== "").join("\n");
  if (text.length <= toldCharacters) return text;
  const tail = text.slice(-toldCharacters);
  const line = tail.indexOf("\n");
  return `... ${line === -1 ? "(one long line)" : tail.slice(line + 1)}`;
}

/** Without what may be the end of something whose beginning is not kept: a line, a private key. */
function withoutTorn(text: string): string {
  const lines = text.slice(text.indexOf("\n") + 1);
  const end = /-----END [^\n]*-----/.exec(lines);
  const begin = lines.indexOf("-----BEGIN");
  return end === null || (begin !== -1 && begin < end.index) ? lines : lines.slice(end.index + end[0].length);
}
