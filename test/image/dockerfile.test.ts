import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";

/** What can be said of the Dockerfile without a container engine. */

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Instruction {
  readonly name: string;
  readonly rest: string;
  readonly stage: number;
}

let instructions: readonly Instruction[];
let last: readonly Instruction[];

beforeAll(async () => {
  const text = (await readFile(join(root, "Dockerfile"), "utf8")).replaceAll(/\\\n/g, " ");
  let stage = -1;
  instructions = text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [name = "", ...rest] = line.split(/\s+/);
      if (name === "FROM") stage += 1;
      return { name, rest: rest.join(" "), stage };
    });
  last = instructions.filter((instruction) => instruction.stage === stage);
});

function all(name: string, within: readonly Instruction[] = instructions): readonly string[] {
  return within.filter((instruction) => instruction.name === name).map(({ rest }) => rest);
}

describe("the Dockerfile", () => {
  test("builds in one stage and runs in another, on the major of Node that is needed", async () => {
    const { engines } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { engines: { node: string } };
    const major = /\d+/.exec(engines.node)?.[0];
    expect(all("FROM")).toEqual([`node:${major}-slim AS build`, `node:${major}-slim`]);
  });

  test("everything that it copies from the checkout exists, and .dockerignore lets it through", async () => {
    const ignore = (await readFile(join(root, ".dockerignore"), "utf8")).split("\n");
    expect(ignore).toContain("*");
    const copied = all("COPY")
      .filter((rest) => !rest.startsWith("--from"))
      .flatMap((rest) => rest.split(" ").slice(0, -1));
    expect(copied.length).toBeGreaterThan(3);
    expect(copied.filter((path) => !existsSync(join(root, path)))).toEqual([]);
    expect(copied.filter((path) => !ignore.includes(`!${path}`))).toEqual([]);
  });

  test("nothing but the release and its licences gets into the image", () => {
    const brought = all("COPY", last).flatMap((rest) =>
      rest
        .split(" ")
        .filter((word) => !word.startsWith("--"))
        .slice(0, -1),
    );
    expect(brought).toEqual(["/build/dist/etcd-lifeboat.cjs", "/build/dist/LICENSES.txt", "/build/LICENSE"]);
    expect(all("ADD")).toEqual([]);
  });

  test("the build makes what the image takes", async () => {
    const build = await readFile(join(root, "scripts/build.ts"), "utf8");
    expect(build).toContain('join(root, "dist", "etcd-lifeboat.cjs")');
    expect(build).toContain('join(root, "dist", "LICENSES.txt")');
    expect(all("RUN")).toContain("npm run build");
  });

  test("it runs as a numbered user that is not root", () => {
    expect(all("USER", last)).toEqual(["65532:65532"]);
    const order = last.map(({ name }) => name);
    expect(order.indexOf("USER")).toBeGreaterThan(order.lastIndexOf("RUN"));
  });

  test("no secret is baked in", () => {
    expect([...all("ENV"), ...all("ARG")]).toEqual([]);
  });

  test("it asks the page that says whether the daemon turns, at the address that is the default", async () => {
    const [check = ""] = all("HEALTHCHECK", last);
    const [, listen = "", page] = /http:\/\/([^/]+)(\/\w+)/.exec(check) ?? [];
    expect(page).toBe("/livez");
    expect(await readFile(join(root, "config/etcd-lifeboat.schema.json"), "utf8")).toContain(`"${listen}"`);
  });
});
