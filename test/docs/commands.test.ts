import { CommanderError, type Command } from "commander";
import { expect, test } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import type { Environment } from "../../src/cli/tools.ts";
import { blocks, readPage, readPages, spans, type Page } from "./pages.ts";

const shown = readPages().flatMap((page) => commandLines(page).map((line) => ({ page: page.path, line })));

test("the pages show command lines at all, so that the next test says something", () => {
  expect(shown.length).toBeGreaterThan(30);
});

test.each(shown)("$page: $line is understood", async ({ line }) => {
  const { program } = openProgram();
  try {
    await program.parseAsync(words(line).slice(1), { from: "user" });
  } catch (error) {
    // --help and --version end like this, with status 0.
    if (!(error instanceof CommanderError) || error.exitCode !== 0) throw error;
  }
});

test("README.md shows every command", async () => {
  const { program, called } = openProgram();
  for (const line of commandLines(readPage("README.md"))) {
    await program.parseAsync(words(line).slice(1), { from: "user" });
  }
  // Two of them stand beside `config check` in the table, in words.
  const leaves = commandsOf(program).filter((name) => !/ (schema|show)$/.test(name));
  expect(leaves.filter((name) => !called.has(name))).toEqual([]);
});

/** The real tree of commands, with actions that only remember that they were called. */
function openProgram(): { readonly program: Command; readonly called: ReadonlySet<string> } {
  const called = new Set<string>();
  const unused = (): never => {
    throw new Error("no command runs in this test");
  };
  const environment: Environment = {
    console: { out: () => undefined, err: () => undefined, interactive: false, columns: () => undefined, env: {} },
    version: "0.0.0",
    signal: new AbortController().signal,
    open: unused,
    listen: unused,
    daemon: unused,
  };
  const program = buildProgram(environment, () => undefined);
  const silence = (command: Command, name: string): void => {
    if (acts(command)) command.action(() => void called.add(name));
    for (const child of command.commands) silence(child, `${name} ${child.name()}`.trim());
  };
  silence(program, "");
  return { program, called };
}

function commandsOf(command: Command, name = ""): readonly string[] {
  const children = command.commands.flatMap((child) => commandsOf(child, `${name} ${child.name()}`.trim()));
  return acts(command) ? [name, ...children] : children;
}

/** `restore` does something itself, and has a command below it. */
function acts(command: Command): boolean {
  return command.commands.length === 0 || command.name() === "restore";
}

/** Command lines of this program in shell blocks, and in backticks. */
function commandLines(page: Page): readonly string[] {
  const inBlocks = blocks(page)
    .filter(({ language }) => language === "sh" || language === "console")
    .flatMap(({ code }) => code.split("\n"));
  return [...inBlocks, ...spans(page)]
    .map((line) => line.replace(/^\$ /, ""))
    .filter((line) => /^etcd-lifeboat \S/.test(line));
}

/** The words up to a comment, a redirection or the next command; quotes do not occur in what we show. */
function words(line: string): string[] {
  const all = line.trim().split(/\s+/);
  const end = all.findIndex((word) => /^(#|&|\||\d?>)/.test(word));
  return end === -1 ? all : all.slice(0, end);
}
