import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A page of the documentation; `path` is relative to the checkout. */
export interface Page {
  readonly path: string;
  readonly text: string;
}

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** README.md and everything below docs/. */
export function readPages(): readonly Page[] {
  const below = readdirSync(`${root}docs`, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".md"),
  );
  return ["README.md", ...below.toSorted().map((name) => `docs/${name}`)].map(readPage);
}

export function readPage(path: string): Page {
  return { path, text: readFileSync(`${root}${path}`, "utf8") };
}

/** Fenced blocks with their language. */
export function blocks({ text }: Page): readonly { readonly language: string; readonly code: string }[] {
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = "", code = ""]) => ({ language, code }));
}

/** What the shell blocks below a heading of the second level say, each block by itself; throws when there are none. */
export function commandsIn(page: Page, heading: string): readonly string[] {
  const [, after = ""] = page.text.split(`\n## ${heading}\n`);
  const [section = ""] = after.split("\n## ");
  const found = blocks({ ...page, text: section }).flatMap(({ language, code }) =>
    language === "sh" ? [code.trim()] : [],
  );
  if (found.length === 0) throw new Error(`${page.path} has no commands below "${heading}"`);
  return found;
}

/** The page without its fenced blocks. */
export function prose({ text }: Page): string {
  return text.replaceAll(/^```.*?^```$/gms, "");
}

/** Text in backticks. */
export function spans(page: Page): readonly string[] {
  return [...prose(page).matchAll(/`([^`\n]+)`/g)].map(([, span = ""]) => span);
}

/** The anchors that a forge makes of headings. */
export function anchors(page: Page): ReadonlySet<string> {
  const headings = [...prose(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\s-]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
}
