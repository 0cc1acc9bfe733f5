import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Script, createContext } from "node:vm";
import { transform } from "esbuild";
import { describe, expect, test } from "vitest";
import { exitStatuses } from "../src/faults.ts";

const entry = new URL("../src/etcd-lifeboat.cjs", import.meta.url);

/** Runs the entry where `process` says that it is another Node; what would be loaded afterwards is not. */
async function startUnder(version: string): Promise<{ readonly said: string; readonly status: number | undefined }> {
  const ended = new Error("ended");
  let said = "";
  let status: number | undefined;
  const process = {
    version: `v${version}`,
    versions: { node: version },
    stderr: { write: (text: string) => (said += text) },
    exit: (code: number) => {
      status = code;
      throw ended;
    },
  };
  const source = (await readFile(entry, "utf8")).replace(/^#!.*/, "").replace("import(", "load(");
  try {
    new Script(source).runInContext(createContext({ process, load: () => undefined }));
  } catch (error) {
    if (error !== ended) throw error;
  }
  return { said, status };
}

describe("the command's entry", () => {
  test.each(["0.12.18", "8.17.0", "18.19.0", "20.20.2", "23.11.1"])(
    "under Node %s tells in one line what it needs",
    async (version) => {
      const { said, status } = await startUnder(version);
      expect(said).toMatch(
        new RegExp(`^etcd-lifeboat needs Node 24 or newer, this is v${version.replaceAll(".", "\\.")}: [^\\n]+\\n$`),
      );
      expect(exitStatuses[status as keyof typeof exitStatuses]).toMatch(/^configuration/);
    },
  );

  test.each(["24.0.0", "26.10.0", "100.0.0"])("under Node %s says nothing and loads the program", async (version) => {
    expect(await startUnder(version)).toEqual({ said: "", status: undefined });
  });

  test("needs what package.json says", async () => {
    const { engines } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8")) as {
      engines: { node: string };
    };
    expect(await readFile(entry, "utf8")).toContain(`var needed = ${/\d+/.exec(engines.node)?.[0]};`);
  });

  test("is in syntax that an old Node can read", async () => {
    const source = await readFile(entry, "utf8");
    // esbuild refuses, or rewrites, what the target does not know.
    const { code, warnings } = await transform(source, { target: "node13.2", loader: "js" });
    expect(warnings).toEqual([]);
    expect(code).toContain('import("./main.ts")');
    expect(code).not.toContain("`");
  });
});

describe("what the command writes", () => {
  const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
  const run = (args: string): { readonly status: number | null; readonly stderr: string } =>
    spawnSync("sh", ["-c", `exec '${process.execPath}' '${main}' ${args}`], { encoding: "utf8" });

  test("to standard error does not change how it ends where that cannot be written", () => {
    const { status } = run("list --config /nowhere/at-all.yaml");
    expect(exitStatuses[status as keyof typeof exitStatuses]).toMatch(/^configuration/);
    expect(run("list --config /nowhere/at-all.yaml 2>/dev/full").status).toBe(status);
  });

  test("to standard output and cannot is a failure that says so, unless its reader went away", () => {
    expect(run("config schema >/dev/full")).toMatchObject({
      status: 1,
      stderr: "error: standard output cannot be written: ENOSPC\n",
    });
    expect(run("config schema | head -c 10 >/dev/null")).toMatchObject({ status: 0, stderr: "" });
  });
});
