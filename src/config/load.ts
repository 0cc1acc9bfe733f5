import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { readDocument } from "./document.ts";
import { checkFiles } from "./files.ts";
import { fillFromEnvironment } from "./fill.ts";
import type { Environment, Filled } from "./fill.ts";
import { dotted } from "./path.ts";
import { distinct, problemsOf } from "./problems.ts";
import type { Problem } from "./problems.ts";
import { brokenRules, doubts } from "./rules.ts";
import type { ConfigWarning } from "./rules.ts";
import { configJsonSchema, configSchema } from "./schema.ts";
import type { Config } from "./schema.ts";
import { whyUnreadable } from "./secrets.ts";
import { settingsOf, variableOf } from "./settings.ts";
import type { Origin, PlaceOf, Setting } from "./settings.ts";
import { Fault } from "../faults.ts";

export interface LoadedConfig {
  /** The file it was read from. */
  readonly path: string;
  readonly config: Config;
  /** Every effective value in the order of the schema; each has an origin. */
  readonly settings: readonly Setting[];
  readonly origins: ReadonlyMap<string, Origin>;
  readonly warnings: readonly ConfigWarning[];
}

/** One thing to mend, ready to print or to put into a JSON document. */
export interface ConfigProblem {
  /** Dotted path; empty when it concerns the file as a whole. */
  readonly about: string;
  readonly message: string;
  /** Undefined where the value came from the environment, or nothing of the section is in the file. */
  readonly line: number | undefined;
  readonly column: number | undefined;
  /** The environment variable that the value came from. */
  readonly variable: string | undefined;
}

export type ExaminedConfig =
  | { readonly kind: "loaded"; readonly loaded: LoadedConfig }
  | { readonly kind: "broken"; readonly problems: readonly ConfigProblem[] };

export interface ConfigSource {
  readonly path: string;
  readonly env: Environment;
  /** False leaves the files and secrets that the configuration names alone; true by default. */
  readonly files?: boolean;
}

/** Reads the configuration. Throws `config-invalid` with all problems in its message, each with line, column, path and remedy. */
export function loadConfig(source: ConfigSource): LoadedConfig {
  const examined = examineConfig(source);
  if (examined.kind === "loaded") return examined.loaded;
  throw new Fault("config-invalid", describeProblems(source.path, examined.problems), {
    hint: `mend it and run: etcd-lifeboat config check --config ${source.path}`,
  });
}

/** Like `loadConfig`, with the problems as data; still throws `config-invalid` for a file that cannot be read at all. */
export function examineConfig({ path, env, files = true }: ConfigSource): ExaminedConfig {
  const document = readDocument(readConfigFile(path));
  if ("problems" in document) {
    const problems = document.problems.map(({ place, message }) => ({
      about: "",
      message,
      ...place,
      variable: undefined,
    }));
    return { kind: "broken", problems };
  }
  const filled = fillFromEnvironment(document.input, env);
  const placeOf: PlaceOf = (where, part) => document.placeOf(where, part);
  const locate = (problems: readonly Problem[]): ExaminedConfig => ({
    kind: "broken",
    problems: inOrder(problems.map((problem) => located(problem, filled, placeOf))),
  });
  const schema = configJsonSchema();
  const parsed = configSchema.safeParse(filled.input);
  const problems = distinct([
    ...problemsOf(parsed.error?.issues ?? [], filled.input, schema),
    ...brokenRules(filled.input),
  ]);
  if (parsed.data === undefined || problems.length > 0) return locate(problems);

  const config = parsed.data;
  const findings = files ? checkFiles(config, env) : { problems: [], warnings: [] };
  if (findings.problems.length > 0) return locate(findings.problems);

  const { settings, origins } = settingsOf(schema, filled, placeOf);
  const warnings = [...doubts(config), ...findings.warnings];
  return { kind: "loaded", loaded: deepFreeze({ path, config, settings, origins, warnings }) };
}

/** Problems as people read them; one line each, the file in front. */
export function describeProblems(path: string, problems: readonly ConfigProblem[]): string {
  const from = ({ variable, line, column }: ConfigProblem): string =>
    variable !== undefined ? `from ${variable}` : line === undefined ? "-" : `${line}:${column ?? 1}`;
  const text = ({ about, message }: ConfigProblem): string => (about === "" ? message : `${about}: ${message}`);
  const [only] = problems;
  if (problems.length === 1 && only !== undefined) {
    const place = only.line === undefined ? `${path}: ` : `${path}:${from(only)}: `;
    return `${place}${text(only)}${only.variable === undefined ? "" : ` (from ${only.variable})`}`;
  }
  const width = Math.max(...problems.map((problem) => from(problem).length));
  const lines = problems.map((problem) => `  ${from(problem).padEnd(width)}  ${text(problem)}`);
  return [`${path}: ${problems.length} problems`, ...lines].join("\n");
}

function located(problem: Problem, filled: Filled, placeOf: PlaceOf): ConfigProblem {
  const { path, message, part } = problem;
  const variable = variableOf(filled, path);
  const place = variable === undefined ? placeOf(path, part) : undefined;
  return { about: dotted(path), message, line: place?.line, column: place?.column, variable };
}

function inOrder(problems: readonly ConfigProblem[]): readonly ConfigProblem[] {
  const position = ({ line, column }: ConfigProblem): number => (line ?? 0) * 1e7 + (column ?? 0);
  return problems.toSorted((a, b) => position(a) - position(b));
}

const maximumConfigBytes = 1024 * 1024;

function readConfigFile(path: string): string {
  const unusable = (why: string, hint: string, cause?: unknown): Fault =>
    new Fault("config-invalid", `configuration ${path} ${why}`, { hint, cause });
  const otherFile = "name the file with --config PATH; the schema is printed by: etcd-lifeboat config schema";
  let bytes: Uint8Array;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(descriptor);
      if (stats.isDirectory()) throw unusable("is a directory", otherFile);
      if (!stats.isFile()) throw unusable("is not a regular file", otherFile);
      bytes = readAtMost(descriptor, maximumConfigBytes + 1);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error instanceof Fault) throw error;
    const why = whyUnreadable(error);
    const hint = why.startsWith("may not") ? `let that user read it: chmod, chown or setfacl ${path}` : otherFile;
    throw unusable(why, hint, error);
  }
  if (bytes.length > maximumConfigBytes) throw unusable("is larger than 1 MiB, so no configuration", otherFile);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw unusable("is not UTF-8 text", "save it as UTF-8", error);
  }
}

function readAtMost(descriptor: number, maximumBytes: number): Uint8Array {
  const buffer = Buffer.alloc(maximumBytes);
  let length = 0;
  while (length < maximumBytes) {
    const read = readSync(descriptor, buffer, length, maximumBytes - length, null);
    if (read === 0) break;
    length += read;
  }
  return buffer.subarray(0, length);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
