import { isAlias, isCollection, isMap, isNode, isScalar, LineCounter, parseDocument, visit } from "yaml";
import type { Document, Node, YAMLError } from "yaml";
import type { Path } from "./path.ts";

/** A position in the file, both numbers from 1. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A YAML file as data, with the place of everything in it. */
export interface ConfigDocument {
  readonly input: unknown;
  /** Place of the key or of the value at a path; of the nearest section around it where the path leads nowhere. */
  placeOf(path: Path, part: "key" | "value"): Place | undefined;
}

/** What keeps a text from being YAML; sentences of our own, since the parser's may quote the file, and so a secret. */
export interface SyntaxProblem {
  readonly place: Place;
  readonly message: string;
}

/** More aliases than any configuration needs, far less than an "alias bomb" unfolds to. */
const maximumAliases = 100;

/** Parses YAML 1.2 (one document, unique keys), or says why it is none. */
export function readDocument(text: string): ConfigDocument | { readonly problems: readonly SyntaxProblem[] } {
  const lines = new LineCounter();
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: "error" });
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    // One slip makes the parser stumble again and again on the same line; the first of each line is the one to mend.
    const firstOfLine = new Map<number, SyntaxProblem>();
    for (const error of broken) {
      const place = placeAt(error.pos[0]);
      if (!firstOfLine.has(place.line)) firstOfLine.set(place.line, { place, message: syntaxMessage(error) });
    }
    return { problems: [...firstOfLine.values()].slice(0, 5) };
  }
  const dangling: SyntaxProblem[] = [];
  visit(document, {
    Alias(_key, alias) {
      if (alias.resolve(document) !== undefined) return;
      const message = "an alias (*) without its anchor (&); text that starts with * must stand in quotes";
      dangling.push({ place: placeAt(alias.range?.[0] ?? 0), message });
    },
  });
  if (dangling.length > 0) return { problems: dangling.slice(0, 5) };
  let input: unknown;
  try {
    input = document.toJS({ maxAliasCount: maximumAliases });
  } catch (error) {
    // ReferenceError: too many aliases, or one inside of its own anchor; RangeError: the stack ended on an endless one.
    if (!(error instanceof ReferenceError || error instanceof RangeError)) throw error;
    return {
      problems: [{ place: { line: 1, column: 1 }, message: "aliases (*) unfold to too much; write the values out" }],
    };
  }
  return { input, placeOf: (path, part) => placeIn(document, path, part, placeAt) };
}

function placeIn(
  document: Document.Parsed,
  path: Path,
  part: "key" | "value",
  placeAt: (offset: number) => Place,
): Place | undefined {
  let node: unknown = document.contents;
  let key: unknown;
  let found = 0;
  for (const step of path) {
    const collection: unknown = isAlias(node) ? node.resolve(document) : node;
    if (!isCollection(collection)) break;
    if (isMap(collection)) {
      const pair = collection.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (pair === undefined) break;
      [key, node] = [pair.key, pair.value];
    } else {
      const item: unknown = collection.get(step, true);
      if (item === undefined) break;
      [key, node] = [item, item];
    }
    found++;
  }
  const wanted = found < path.length || part === "key" ? [key, node] : [node, key];
  const start = wanted.map(startOf).find((offset) => offset !== undefined);
  return start === undefined ? undefined : placeAt(start);
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? (node satisfies Node).range?.[0] : undefined;
}

function syntaxMessage(error: YAMLError): string {
  switch (error.code) {
    case "DUPLICATE_KEY":
      return "a key that this section has already";
    case "TAB_AS_INDENT":
      return "a tab as indentation; YAML wants spaces";
    case "BAD_ALIAS":
      return "text that starts with * or & must stand in quotes";
    case "BAD_SCALAR_START":
      return "text that starts with @ or ` must stand in quotes";
    case "MULTIPLE_DOCS":
      return "a second document (---); the configuration is one";
    case "RESOURCE_EXHAUSTION":
      return "nested too deeply";
    case "BAD_INDENT":
      return "not YAML: wrong indentation, or a bracket or brace that is not closed";
    case "BLOCK_AS_IMPLICIT_KEY":
    case "MULTILINE_IMPLICIT_KEY":
      return "not YAML: two keys on one line, or text that holds a colon and must stand in quotes";
    case "TAG_RESOLVE_FAILED":
      return "a tag (!) that is not known; text that starts with ! must stand in quotes";
    case "BAD_DQ_ESCAPE":
      return "not YAML: a backslash inside of \"...\" that escapes nothing; use '...'";
    default:
      return `not YAML (${error.code})`;
  }
}
