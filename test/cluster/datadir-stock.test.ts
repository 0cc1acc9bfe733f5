import { execFile } from "node:child_process";
import { copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { inspectDatabase } from "../../src/bolt/inspect.ts";
import { rewriteDatabase } from "../../src/bolt/rewrite.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { planDatabase } from "../../src/datadir/database.ts";
import { etcdutlBuilder } from "../../src/datadir/etcdutl.ts";
import { identify } from "../../src/datadir/identity.ts";
import { lifeboatBuilder } from "../../src/datadir/lifeboat.ts";
import { openLocalTools } from "../../src/stock/local.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";
import { History } from "../bolt/history.ts";
import { readModel } from "../bolt/model.ts";
import { seededNumbers } from "../bolt/numbers.ts";
import { readGolden, requests, restoreWithStock } from "../datadir/golden.ts";
import { never, requestFor } from "../datadir/rig.ts";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { runProgram } from "./processes.ts";
import { etcdProgram, minors, toolProgram } from "./servers.ts";

/** What we build, held against etcd's own tools. */

const everyTool = dirname(dirname(etcdProgram("3.6", "etcd")));

async function scratch(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await makeDirectory("datadir");
  return { path, [Symbol.asyncDispose]: () => discardDirectory(path) };
}

describe.each(minors)("of etcd %s", (minor) => {
  test("the stock tool still makes what the fixtures say", async () => {
    await using place = await scratch();
    const snapshot = join(place.path, "snapshot.db");
    await writeFile(snapshot, fixtureBytes(minor));
    for (const [number, name] of ["one", "five, bumped", "odd"].entries()) {
      const directory = join(place.path, String(number));
      const made = await restoreWithStock(etcdProgram(minor, "etcdutl"), snapshot, directory, name);
      const wanted = readGolden(minor).directories.find((one) => one.name === name)!;
      expect({ ...made, snap: "" }).toEqual({ ...wanted, snap: "" });
      // From 3.6 on, members come into it in an order that is by chance.
      const isByChance = requests[name]!.members.length > 1 && (minor === "3.6" || minor === "3.7");
      if (!isByChance) expect(made.snap).toBe(wanted.snap);
    }
  });

  test("the stock builder builds the same cluster as ours, with its alarms", async () => {
    await using place = await scratch();
    const snapshot = join(place.path, "snapshot.db");
    const [stock, own] = [join(place.path, "stock"), join(place.path, "own")];
    await writeFile(snapshot, fixtureBytes(minor));
    await mkdir(stock);
    await mkdir(own);
    const request = requestFor(3, { minor, bump: 1000n });
    const tools = openLocalTools({ directory: everyTool, path: "" });
    const theirs = await etcdutlBuilder(tools).build(snapshot, stock, request, never);
    const ours = await lifeboatBuilder().build(snapshot, own, request, never);
    const { alarmsRemoved } = ours;
    expect({ ...theirs, members: [] }).toEqual({ ...ours, members: [], alarmsRemoved: [], alarmsLeft: alarmsRemoved });
    expect(alarmsRemoved).toHaveLength(1);
    const shapeOf = ({ members }: typeof ours): unknown =>
      members.map(({ name, memberId, data, wal }) => ({
        name,
        memberId,
        files: [...data, ...wal].map(({ path, mode }) => `${path} ${mode.toString(8)}`),
        wal: wal.map(({ sha256 }) => sha256),
      }));
    expect(shapeOf(theirs)).toEqual(shapeOf(ours));
  });
});

test.each(["3.3", "3.4"] as const)(
  "where there is no etcdutl, the etcdctl of %s builds, and says when it cannot bump",
  async (minor) => {
    await using place = await scratch();
    const [folder, work, other] = ["tools", "work", "other"].map((name) => join(place.path, name));
    for (const directory of [folder, work, other]) await mkdir(directory!);
    await symlink(etcdProgram(minor, "etcdctl"), join(folder!, "etcdctl"));
    const snapshot = join(place.path, "snapshot.db");
    // Without a seal, which such a tool would want to see.
    await writeFile(snapshot, fixtureBytes(minor).subarray(0, -32));
    const builder = etcdutlBuilder(openLocalTools({ directory: folder, path: "" }));
    const built = await builder.build(snapshot, work!, requestFor(2, { minor }), never);
    expect(built).toMatchObject({ revision: scanSnapshot(snapshot).revision, alarmsLeft: [{ kind: "NOSPACE" }] });
    // It can from 3.4.27 on.
    const bumping = builder.build(snapshot, other!, requestFor(2, { minor, bump: 1000n }), never);
    await expect(bumping).rejects.toMatchObject({
      code: "etcd-unsupported",
      message: expect.stringContaining("cannot bump revisions"),
    });
  },
);

test("the stock builder says what it needs, and what etcd's tool refuses", async () => {
  await using place = await scratch();
  const snapshot = join(place.path, "snapshot.db");
  const flipped = Buffer.from(fixtureBytes("3.6"));
  flipped[flipped.length - 1] = flipped.at(-1)! ^ 1;
  await writeFile(snapshot, flipped);
  const nowhere = etcdutlBuilder(openLocalTools({ directory: undefined, path: "" }));
  const work = join(place.path, "work");
  await mkdir(work);
  await expect(nowhere.build(snapshot, work, requestFor(1), never)).rejects.toMatchObject({
    code: "tool-missing",
    message: expect.stringContaining("etcdutl 3.6"),
  });
  const here = etcdutlBuilder(openLocalTools({ directory: everyTool, path: "" }));
  await expect(here.build(snapshot, work, requestFor(1), never)).rejects.toMatchObject({
    code: "boot-failed",
    hint: expect.stringContaining("sha256"),
  });
});

test("a rewritten tree of any shape passes bbolt's own check, and etcdutl reads in it what we read", async () => {
  const numbers = seededNumbers("rewritten trees for the stock tools");
  await using place = await scratch();
  for (let round = 0; round < 12; round++) {
    const history = new History();
    for (let change = numbers.below(4) * 200; change > 0; change--) {
      const key = `key-${numbers.below(150)}`;
      const bytes = numbers.below(20) === 0 ? 9000 : 200;
      history.change(numbers.below(4) === 0 ? { key } : { key, value: "v".repeat(1 + numbers.below(bytes)) });
    }
    const source = join(place.path, "snapshot.db");
    const { db } = history.file({ finished: numbers.below(2) === 0 ? history.revision / 2n + 1n : undefined });
    await writeFile(source, db);
    const request = requestFor(3, { bump: 1_000_000n });
    const plan = planDatabase(inspectDatabase(source), identify(request), request);
    const path = join(place.path, `built-${round}.db`);
    rewriteDatabase(source, path, plan.changes);
    const rows = readModel(await readFile(path)).rows.get("key") ?? [];
    expect(rows).toHaveLength((readModel(db).rows.get("key") ?? []).length + 1);
    const { stdout } = await promisify(execFile)(toolProgram("bbolt"), ["check", path]);
    expect(stdout.trim()).toBe("OK");
    const copy = join(place.path, "status.db");
    await copyFile(path, copy);
    const told = await runProgram(etcdProgram("3.6", "etcdutl"), ["snapshot", "status", copy, "-w", "json"]);
    expect(JSON.parse(told)).toMatchObject({ revision: Number(plan.revision) });
  }
});

test("bbolt writes on where we wrote: a file with a freelist is opened, compacted and sound", async () => {
  await using place = await scratch();
  const [source, copy, compacted] = ["source.db", "copy.db", "compacted.db"].map((name) => join(place.path, name));
  await writeFile(source!, fixtureBytes("3.7"));
  rewriteDatabase(source!, copy!, { replace: [{ bucket: "alarm", rows: [] }], append: undefined });
  await promisify(execFile)(toolProgram("bbolt"), ["compact", "-o", compacted!, copy!]);
  const before = readModel((await readFile(source!)).subarray(0, -32));
  const after = readModel(await readFile(compacted!));
  expect(after.rows.get("key")).toEqual(before.rows.get("key"));
});
