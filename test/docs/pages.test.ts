import { existsSync, statSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";
import { compose } from "../../src/compose.ts";
import { runProgram } from "../../src/cli/program.ts";
import { loadConfig } from "../../src/config/load.ts";
import { exitStatuses, faultKinds } from "../../src/faults.ts";
import { anchors, blocks, prose, readPage, readPages, root, type Page } from "./pages.ts";

const pages = readPages();
const configurations = pages.flatMap((page) =>
  blocks(page)
    .filter(({ language, code }) => language === "yaml" && /^cluster:/m.test(code))
    .map(({ code }, index) => ({ page: page.path, number: index + 1, code })),
);

test.each(configurations)("configuration $number of $page can be used", async ({ code }) => {
  await using directory = await scratch();
  const path = join(directory.path, "config.yaml");
  await writeFile(path, code);
  expect(loadConfig({ path, env: {}, files: false }).config.cluster.name).not.toBe("");
});

test("the pages show configurations at all", () => {
  expect(configurations.length).toBeGreaterThan(2);
});

test.each(pages)("$path: every link leads somewhere", (page) => {
  expect(links(page).flatMap((link) => broken(page, link))).toEqual([]);
});

test("every page can be reached from README.md", () => {
  const reached = new Set(["README.md"]);
  // Grows while it is walked: a Set hands out what was added meanwhile.
  for (const path of reached) {
    for (const { file } of links(readPage(path))) {
      if (file !== "" && file.endsWith(".md")) reached.add(normalize(join(dirname(path), file)));
    }
  }
  // How the stored documents look is told by its own folder.
  const lost = pages.filter(({ path }) => !reached.has(path) && !path.startsWith("docs/formats/"));
  expect(lost.map(({ path }) => path)).toEqual([]);
});

test("every fault has an entry in docs/troubles.md, and no entry is left over", () => {
  const entries = [...readPage("docs/troubles.md").text.matchAll(/^### (.+)$/gm)].map(([, heading]) => heading);
  expect(new Set(entries)).toEqual(new Set(Object.keys(faultKinds)));
});

test("every exit status stands in the table of docs/troubles.md", () => {
  const rows = [...readPage("docs/troubles.md").text.matchAll(/^\| (\d+) +\|/gm)].map(([, status]) => Number(status));
  expect(rows.toSorted((a, b) => a - b)).toEqual(Object.keys(exitStatuses).map(Number));
});

test("docs/json.md describes exactly the documents that commands print", async () => {
  const files = (await readdir(`${root}src/cli`)).map((name) => `${root}src/cli/${name}`);
  files.push(`${root}src/main.ts`, `${root}src/config/render.ts`, `${root}src/repository/manifest.ts`);
  const sources = await Promise.all(files.map((file) => readFile(file, "utf8")));
  const printed = new Set(sources.flatMap((source) => source.match(/etcd-lifeboat\/[a-z-]+\/v\d+/g) ?? []));
  const described = [...readPage("docs/json.md").text.matchAll(/^## (\S+)$/gm)].map(([, heading]) => heading);
  expect(new Set(described)).toEqual(printed);
});

test.each([
  { argv: ["list"], status: 10 },
  { argv: ["config", "check"], status: 0 },
  { argv: ["config", "show"], status: 0 },
  { argv: ["exit-statuses"], status: 0 },
])("docs/json.md names every field that $argv prints", async ({ argv, status }) => {
  await using directory = await scratch();
  const config = join(directory.path, "config.yaml");
  await writeFile(
    config,
    `cluster: { name: dev, endpoints: ["http://127.0.0.1:1"] }\nrepository: { store: { directory: ${directory.path} } }\n`,
  );
  let text = "";
  const out = (more: string): void => void (text += more);
  const console = {
    out,
    err: () => undefined,
    interactive: false,
    columns: () => undefined,
    env: { LIFEBOAT_CONFIG: config },
  };
  const environment = compose("0.0.0", console, new AbortController().signal, () => new DisposableStack());
  expect(await runProgram(environment, [...argv, "--json"])).toBe(status);
  const document = JSON.parse(text) as { readonly schema: string };
  const fields = Object.keys(document).filter((field) => field !== "schema");
  expect(fields.filter((field) => !section(document.schema).includes(`\`${field}\``))).toEqual([]);
});

function section(heading: string): string {
  const { text } = readPage("docs/json.md");
  return text.slice(text.indexOf(`## ${heading}\n`)).split(/^## /m)[1] ?? "";
}

interface Link {
  readonly file: string;
  readonly anchor: string | undefined;
}

/** Links inside the checkout. */
function links(page: Page): readonly Link[] {
  return [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = ""]) => target)
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => {
      const [file = "", anchor] = target.split("#");
      return { file, anchor };
    });
}

function broken(page: Page, { file, anchor }: Link): readonly string[] {
  const path = file === "" ? page.path : normalize(join(dirname(page.path), file));
  if (!existsSync(`${root}${path}`)) return [`${path} does not exist`];
  if (anchor === undefined || statSync(`${root}${path}`).isDirectory()) return [];
  return anchors(readPage(path)).has(anchor) ? [] : [`${path} has no heading for #${anchor}`];
}

async function scratch(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "docs-test-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}
