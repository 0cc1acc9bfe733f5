import type { core } from "zod";
import packageJson from "../../package.json" with { type: "json" };
import { nearest } from "./nearest.ts";
import { dotted, valueAt } from "./path.ts";
import type { Path } from "./path.ts";
import { kindOf, quote } from "./quote.ts";
import { notAReference, secretTitle } from "./fields.ts";
import { laterSections } from "./schema.ts";
import type { SchemaNode } from "./schema.ts";

/** Something that cannot be used, and whether its key or its value is to blame. `message` goes on after the path. */
export interface Problem {
  readonly path: Path;
  readonly message: string;
  readonly part: "key" | "value";
}

/** zod's issues in our own words. No message shows what stands where a secret belongs. */
export function problemsOf(issues: readonly core.$ZodIssue[], input: unknown, schema: SchemaNode): readonly Problem[] {
  return issues.flatMap((issue) => {
    const path = issue.path.map((step) => (typeof step === "number" ? step : String(step)));
    if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(path, key, schema));
    const value = valueAt(input, path);
    if (issue.code === "invalid_key") {
      return [{ path, message: issue.issues[0]?.message ?? "is no name", part: "key" as const }];
    }
    if (value === undefined) return [missing(path, schema)];
    if (value === null) return [{ path, message: "is empty; write a value, or remove the key", part: "key" as const }];
    return [{ path, message: wording(issue, value), part: "value" as const }];
  });
}

function unknownKey(path: Path, key: string, schema: SchemaNode): Problem {
  const section = nodeAt(schema, path);
  // What was written where a secret's reference belongs may be the secret, its keys as well.
  if (section?.title === secretTitle) return { path, message: notAReference, part: "key" };
  const full = [...path, key];
  if (laterSections.includes(dotted(full))) {
    const message = `not in this version of etcd-lifeboat (${packageJson.version}); remove the section`;
    return { path: full, message, part: "key" };
  }
  const known = Object.keys(section?.properties ?? {});
  const near = nearest(key, known);
  const elsewhere = near === undefined ? placesOf(schema, key) : [];
  const advice =
    near !== undefined
      ? `did you mean ${dotted([...path, near])}?`
      : elsewhere.length > 0
        ? `did you mean ${elsewhere.slice(0, 3).join(" or ")}?`
        : `known here: ${known.join(", ")}`;
  return { path: full, message: `unknown key; ${advice}`, part: "key" };
}

function missing(path: Path, schema: SchemaNode): Problem {
  const description = nodeAt(schema, path)?.description;
  return {
    path,
    message: description === undefined ? "is missing" : `is missing: ${lowerFirst(description)}`,
    part: "key",
  };
}

function wording(issue: core.$ZodIssue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type": {
      if (issue.expected === "int") return `must be a whole number, not ${quote(value)}`;
      const expected = expectedKinds.get(issue.expected) ?? issue.expected;
      // zod's own sentence is English for programmers; ours, where the schema gives one, says what to write.
      return issue.message.startsWith("must be ")
        ? `${issue.message}, not ${kindOf(value)}`
        : `must be ${expected}, not ${kindOf(value)}`;
    }
    case "invalid_value":
      return `must be one of ${issue.values.map(String).join(", ")}, not ${quote(value)}`;
    case "too_small":
      return issue.message.startsWith("is ")
        ? issue.message
        : `must be at least ${String(issue.minimum)}, not ${quote(value)}`;
    case "too_big":
      return issue.origin === "string" || issue.origin === "array"
        ? `is too long; at most ${String(issue.maximum)} ${issue.origin === "string" ? "characters" : "entries"}`
        : `must be at most ${String(issue.maximum)}, not ${quote(value)}`;
    default:
      return issue.message;
  }
}

const expectedKinds: ReadonlyMap<string, string> = new Map([
  ["string", "text (in quotes, where YAML would read something else)"],
  ["number", "a number"],
  ["boolean", "true or false"],
  ["array", "a list"],
  ["object", "a section"],
  ["record", "a section"],
]);

/** The schema's node at a path, through sections, lists and named entries. */
function nodeAt(schema: SchemaNode, path: Path): SchemaNode | undefined {
  let node: SchemaNode | undefined = schema;
  for (const step of path) {
    if (node === undefined) return undefined;
    node =
      typeof step === "number"
        ? node.items
        : (ownNode(node.properties, step) ?? (node.additionalProperties || undefined));
  }
  return node;
}

function ownNode(nodes: Readonly<Record<string, SchemaNode>> | undefined, key: string): SchemaNode | undefined {
  return nodes !== undefined && Object.hasOwn(nodes, key) ? nodes[key] : undefined;
}

/** Every path at which the schema knows a key of this name. */
function placesOf(schema: SchemaNode, key: string, path: Path = []): readonly string[] {
  const found: string[] = [];
  for (const [name, node] of Object.entries(schema.properties ?? {})) {
    if (name === key) found.push(dotted([...path, name]));
    if (node.title !== secretTitle) found.push(...placesOf(node, key, [...path, name]));
  }
  if (schema.items !== undefined) found.push(...placesOf(schema.items, key, [...path, 0]));
  return found;
}

function lowerFirst(text: string): string {
  const sentence = text.replace(/\.$/, "");
  return /^[A-Z][a-z]/.test(sentence) ? sentence.charAt(0).toLowerCase() + sentence.slice(1) : sentence;
}

/** Problems without repetitions: two rules may see one mistake. */
export function distinct(problems: readonly Problem[]): readonly Problem[] {
  const seen = new Map<string, Problem>();
  for (const problem of problems) seen.set(`${dotted(problem.path)}\n${problem.message}`, problem);
  return [...seen.values()];
}
