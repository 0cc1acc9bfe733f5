import { secretTitle } from "./fields.ts";
import type { Filled } from "./fill.ts";
import { dotted, isSection } from "./path.ts";
import type { Path } from "./path.ts";
import type { SchemaNode } from "./schema.ts";

/** Where a value comes from. */
export type Origin =
  | { readonly kind: "file"; readonly line: number; readonly column: number }
  | { readonly kind: "env"; readonly name: string }
  | { readonly kind: "default" };

/** One effective value in the file's own terms (`2m`, not milliseconds); a secret as its reference. */
export interface Setting {
  /** Dotted path, such as `schedules[0].jitter`. */
  readonly path: string;
  readonly value: unknown;
  readonly secret: boolean;
}

/** Where in the file the key or the value at a path stands. */
export type PlaceOf = (
  path: Path,
  part: "key" | "value",
) => { readonly line: number; readonly column: number } | undefined;

/** The environment variable that gave the value at a path, or something around it. */
export function variableOf(filled: Filled, path: Path): string | undefined {
  for (let depth = path.length; depth > 0; depth--) {
    const variable = filled.variables.get(dotted(path.slice(0, depth)));
    if (variable !== undefined) return variable;
  }
  return undefined;
}

/** Every effective value, by a walk along the schema: what was written or filled in, else the default. */
export function settingsOf(
  schema: SchemaNode,
  filled: Filled,
  placeOf: PlaceOf,
): { readonly settings: readonly Setting[]; readonly origins: ReadonlyMap<string, Origin> } {
  const settings: Setting[] = [];
  const origins = new Map<string, Origin>();
  const walk = (node: SchemaNode, written: unknown, path: Path, defaulted: boolean): void => {
    const isDefault = defaulted || written === undefined;
    const value = written ?? computedDefault(path, filled.input) ?? node.default;
    if (value === undefined) return;
    const secret = node.title === secretTitle;
    if (!secret && node.properties !== undefined && isSection(value)) {
      for (const [key, child] of Object.entries(node.properties)) walk(child, value[key], [...path, key], isDefault);
      return;
    }
    if (!secret && isSection(value) && node.additionalProperties && Object.keys(value).length > 0) {
      for (const [key, entry] of Object.entries(value))
        walk(node.additionalProperties, entry, [...path, key], isDefault);
      return;
    }
    if (Array.isArray(value) && node.items !== undefined && value.length > 0) {
      for (const [index, entry] of value.entries()) walk(node.items, entry, [...path, index], isDefault);
      return;
    }
    const about = dotted(path);
    // An address that is a secret itself may stand in the file, and nowhere else.
    settings.push({ path: about, value: secret && typeof value === "string" ? "(not shown)" : value, secret });
    origins.set(about, isDefault ? { kind: "default" } : originOf(path, filled, placeOf));
  };
  walk(schema, filled.input, [], false);
  return { settings, origins };
}

/** Defaults that depend on another value; the JSON schema cannot say them. */
function computedDefault(path: Path, input: unknown): unknown {
  const isRegion = /^repository\.(?:store|copies\[\d+\]\.store)\.s3\.region$/.test(dotted(path));
  return isRegion && isSection(input) ? "us-east-1" : undefined;
}

function originOf(path: Path, filled: Filled, placeOf: PlaceOf): Origin {
  const variable = variableOf(filled, path);
  if (variable !== undefined) return { kind: "env", name: variable };
  const place = placeOf(path, "value");
  return place === undefined ? { kind: "default" } : { kind: "file", ...place };
}
