import { looksSecret } from "./quote.ts";

/** Where a value stands: keys of sections, indexes of lists. */
export type Path = readonly (string | number)[];

/** `cluster.endpoints[0]`; keys that are no plain words are quoted: `cluster.members["cp2.example.org"]`. */
export function dotted(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else if (looksSecret(step)) text += "[(a secret key, not shown)]";
    else if (/^[A-Za-z_][A-Za-z0-9_-]{0,80}$/.test(step)) text += text === "" ? step : `.${step}`;
    else text += `[${JSON.stringify(step.length > 80 ? `${step.slice(0, 77)}...` : step)}]`;
  }
  return text;
}

/** True for what YAML calls a map. */
export function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value at a path, undefined where the path leads nowhere; only own keys count. */
export function valueAt(input: unknown, path: Path): unknown {
  let value = input;
  for (const step of path) {
    if (typeof step === "number") value = Array.isArray(value) ? (value[step] as unknown) : undefined;
    else value = isSection(value) && Object.hasOwn(value, step) ? value[step] : undefined;
  }
  return value;
}

/** Where stores are configured: the first one, and those of the copies. */
export function storePaths(input: unknown): readonly Path[] {
  const copies = valueAt(input, ["repository", "copies"]);
  const indexes = Array.isArray(copies) ? [...copies.keys()] : [];
  return [["repository", "store"], ...indexes.map((index) => ["repository", "copies", index, "store"] as const)];
}
