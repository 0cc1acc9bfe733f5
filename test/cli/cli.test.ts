import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import type { Environment } from "../../src/cli/tools.ts";
import { Fault, exitStatuses, faultKinds } from "../../src/faults.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";
import { calm } from "../snapshot/bytes.ts";
import { openRig, scanned, type Rig } from "../snapshot/rig.ts";
import { configOf, say, type Said } from "./console.ts";

const golden = (name: string): string => join(import.meta.dirname, "golden", name);
let rig: Rig;
let folder: string;
let on: (...argv: string[]) => Promise<Said>;
beforeEach(async () => {
  rig = await openRig();
  folder = mkdtempSync(join(tmpdir(), "cli-test-"));
  const config = configOf(rig);
  on = (...argv) => say(rig, ...argv, "--config", config);
});
afterEach(() => {
  rig[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

function commandsOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap((child) => commandsOf(child as Command))];
}
const pathOf = (command: Command): string[] =>
  command.parent === null ? [] : [...pathOf(command.parent), command.name()];
const allCommands = commandsOf(
  buildProgram(
    { console: { out: () => undefined, env: {} }, version: "1.2.3" } as unknown as Environment,
    () => undefined,
  ),
).map((command) => pathOf(command).join(" "));

describe("help", () => {
  test.each(allCommands)("of '%s' begins with examples, goes to stdout and ends with 0", async (command) => {
    const words = command.split(" ").filter((word) => word !== "");
    const { status, out, err } = await say(undefined, ...words, "--help");
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toMatch(/^Examples:\n {2}etcd-lifeboat /);
    await expect(out).toMatchFileSnapshot(golden(`help${words.map((word) => `-${word}`).join("")}.txt`));
  });

  test("the version goes to stdout", async () => {
    expect(await say(undefined, "--version")).toMatchObject({ status: 0, out: "1.2.3\n", err: "" });
  });
});

describe("wrong usage", () => {
  test.each<[string[], RegExp]>([
    [["frobnicate"], /unknown command 'frobnicate'/],
    [["backpu"], /unknown command 'backpu'/],
    [["list", "--yaml"], /unknown option '--yaml'/],
    [["list", "extra"], /too many arguments/],
    [["fetch", "latest"], /required option '-o, --output <file>' not specified/],
    [["show"], /missing required argument 'backup'/],
    [["verify", "--level"], /argument missing/],
    [["verify", "--level", "deepest"], /unknown level "deepest"/],
    [["config", "frob"], /unknown command 'frob'|too many arguments/],
    [[], /no command given/],
    [["config"], /no command given/],
  ])("%j ends with 2, says what is wrong, and hints", async (argv, message) => {
    const said = await say(undefined, ...argv);
    expect(said).toMatchObject({ status: 2, out: "", fault: "usage" });
    expect(said.err).toMatch(message);
    expect(said.hint).toMatch(/etcd-lifeboat|one of/);
  });
});

describe("exit statuses", () => {
  test("are published from the one table", async () => {
    const { status, out } = await say(undefined, "exit-statuses");
    expect(status).toBe(0);
    await expect(out).toMatchFileSnapshot(golden("exit-statuses.txt"));
    const document = JSON.parse((await say(undefined, "exit-statuses", "--json")).out) as {
      schema: string;
      faults: object[];
      statuses: object[];
    };
    expect(document.schema).toBe("etcd-lifeboat/exit-statuses/v1");
    expect(document.faults).toHaveLength(Object.keys(faultKinds).length);
    expect(document.statuses).toHaveLength(Object.keys(exitStatuses).length);
  });

  test("of faults come from the table", async () => {
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = true;
    expect(await on("backup")).toMatchObject({ status: 75, fault: "etcd-unreachable" });
    rig.store.trouble({ method: "read", fail: new Fault("store-denied", "access denied") });
    expect(await on("list")).toMatchObject({ status: 78, fault: "store-denied" });
  });

  test("3 where extras are missing from a backup that is stored", async () => {
    const { parseRecipient } = await import("../../src/snapshot/age.ts");
    const recipients = [parseRecipient("age1xc304nlqamdzcrsw3zzmtdle59637qjstsgg7fcgaz3c49d07v8qy5zrwc")];
    const encoder = { ...rig.deps.encoder, recipients, extras: ["/nonexistent"] };
    Object.assign(rig.deps, { encoder });
    const said = await on("backup");
    expect(said.status).toBe(3);
    expect(said.err).toContain("warning: extra /nonexistent is missing from the backup: ENOENT");
    expect((await on("list")).status).toBe(0);
    const damaged = await on("verify", "latest", "--level", "structure");
    expect(damaged).toMatchObject({ status: 4, out: expect.stringContaining("no identity is configured") as string });
  });
});

describe("commands", () => {
  test("backup, list, show, verify and fetch speak of the same backup", async () => {
    const made = await on("backup", "--label", "before upgrade");
    expect(made.status).toBe(0);
    const id = made.out.trim();
    expect(id).toMatch(/^20260301T120000Z\.demand\./);
    const listed = await on("list");
    expect(listed).toMatchObject({ status: 0, err: "" });
    expect(listed.out).toContain(id);
    expect(listed.out).toContain("before upgrade");
    expect((await on("show", id)).out).toContain("sealed: its bytes are what etcd sent");
    rig.facts.current = scanned({ probed: [{ main: 10n, sub: 0n, sha256: "a".repeat(64) }] });
    for (const level of ["manifest", "bytes", "structure"])
      expect((await on("verify", "--level", level)).status).toBe(0);
    const output = join(folder, "out.db");
    expect(await on("fetch", "latest", "--output", output)).toMatchObject({ status: 0, out: `${output}\n` });
    expect(existsSync(output)).toBe(true);
    expect(await on("fetch", "latest", "--output", output)).toMatchObject({ status: 2 });
  });

  test.each([
    ["backup/v1", ["backup", "--json"]],
    ["backup-preview/v1", ["backup", "--dry-run", "--json"]],
    ["list/v1", ["list", "--json"]],
    ["manifest/v1", ["show", "latest", "--json"]],
    ["verify/v1", ["verify", "--level", "bytes", "--json"]],
    ["status/v1", ["status", "--json"]],
    ["adopt/v1", ["adopt", "--json"]],
  ])("the JSON document %s stands alone on stdout", async (schema, argv) => {
    await on("backup");
    await rig.clock.advance(1000);
    const { status, out } = await on(...argv);
    expect(status).toBe(0);
    const document = JSON.parse(out) as { schema: string };
    expect(document.schema).toBe(`etcd-lifeboat/${schema}`);
    expect(Object.keys(document)[0]).toBe("schema");
  });

  test("fetch and import answer in JSON too", async () => {
    await on("backup");
    rig.facts.current = scanned({ probed: [{ main: 10n, sub: 0n, sha256: "a".repeat(64) }] });
    const output = join(folder, "out.db");
    expect(JSON.parse((await on("fetch", "latest", "-o", output, "--json")).out)).toMatchObject({
      schema: "etcd-lifeboat/fetch/v1",
      output,
    });
    writeFileSync(join(folder, "old.db"), fixtureBytes("3.6"));
    expect(JSON.parse((await on("import", join(folder, "old.db"), "--json")).out)).toMatchObject({
      schema: "etcd-lifeboat/backup/v1",
      state: "foreign",
    });
  });

  test("an empty repository: list ends with 10, show and verify say that there is nothing", async () => {
    expect(await on("list")).toMatchObject({ status: 10, out: "", err: "no backup in memory:\n" });
    expect(await on("show", "latest")).toMatchObject({ status: 10, fault: "not-found" });
    expect(await on("verify")).toMatchObject({ status: 10, fault: "not-found" });
  });

  test("a refused manifest is named by every command that reads the catalog, and list and verify end with 12", async () => {
    const { out } = await on("backup", "--json");
    const { lineage } = JSON.parse(out) as { lineage: string };
    await rig.store.create(`lineages/${lineage}/backups/20260301T130000Z.slot.hourly.json`, Buffer.from("{}"), calm);
    const refused = `refused: ${lineage}/20260301T130000Z.slot.hourly: `;
    for (const argv of [["list"], ["show", "latest"], ["fetch", "latest", "-o", join(folder, "x.db")]]) {
      expect((await on(...argv)).err).toContain(refused);
    }
    expect((await on("list")).status).toBe(12);
    expect(await on("verify", "--level", "manifest")).toMatchObject({
      status: 12,
      out: expect.stringContaining("FAILED") as string,
    });
    expect((await on("verify", "latest", "--level", "manifest")).status).toBe(0);
    expect(JSON.parse((await on("list", "--json")).out)).toMatchObject({
      backups: [{}],
      refused: [{ code: "manifest-invalid" }],
    });
  });

  test("damage: verify ends with 12 and names the object", async () => {
    await on("backup");
    const name = [...rig.store.objects.keys()].find((each) => each.endsWith(".db.zst")) ?? "";
    rig.store.objects.delete(name);
    const said = await on("verify", "--level", "manifest");
    expect(said.status).toBe(12);
    expect(said.out).toContain(`${name} is missing from memory:`);
  });

  test("text from the cluster cannot steer the terminal", async () => {
    rig.etcd.script.members.push({ name: "evil\u001b[2Jname", status: { errors: ["\u001b]0;x"] } });
    for (const argv of [["status"], ["backup", "--dry-run"], ["backup"], ["list"], ["show", "latest"]]) {
      const { out, err } = await rig.passing(on(...argv));
      expect(out + err).not.toContain("\u001b");
    }
  });

  test("backup says what members said of it: proven, or sealed with a warning and status 0", async () => {
    expect(await on("backup")).toMatchObject({
      status: 0,
      err: expect.stringContaining("proven: 2 of 3 voters agree, 2 are needed\n") as string,
    });
    expect(JSON.parse((await on("backup", "--json")).out)).toMatchObject({
      proof: "proven",
      alone: false,
      reason: "2 of 3 voters agree, 2 are needed",
      agreeing: ["etcd2", "etcd3"],
      diverged: [],
    });
    rig.etcd.member("etcd1").down = rig.etcd.member("etcd3").down = true;
    expect(await rig.passing(on("backup"))).toMatchObject({
      status: 0,
      err: expect.stringContaining("warning: sealed, not proven: too few voters answer: 1 of 3") as string,
    });
  });

  test("status names the newest proven backup and the members that hold other data", async () => {
    const first = JSON.parse((await on("backup", "--json")).out) as { backup: string };
    expect((await on("status")).out).toContain(`newest proven backup: ${first.backup}, `);
    await rig.clock.advance(5000);
    rig.etcd.member("etcd3").hash = 7;
    const diverged = await rig.passing(on("backup"));
    expect(diverged).toMatchObject({ status: 0, err: expect.stringContaining("proven: ") as string });
    expect((await on("status")).out).toContain("DIVERGED: etcd3 held other data than the majority (");
    const status = JSON.parse((await on("status", "--json")).out) as { repository: unknown };
    expect(status.repository).toMatchObject({ diverged: [{ member: "etcd3" }], newestProven: { revision: "50" } });
    rig.etcd.member("etcd3").hash = 1;
    await rig.clock.advance(5000);
    await rig.passing(on("backup"));
    expect((await on("status")).out).not.toContain("DIVERGED");
  });

  test("a dry run writes nothing", async () => {
    expect((await on("backup", "--dry-run")).status).toBe(0);
    expect(rig.store.objects.size).toBe(0);
  });

  test("adopt without the cluster's name typed writes nothing and ends with 4; with it, the next backup goes on", async () => {
    await on("backup");
    rig.etcd.script.clusterId = 999n;
    expect((await on("backup")).status).toBe(4);
    expect((await on("status")).status).toBe(4);
    const before = [...rig.store.objects.keys()];
    for (const argv of [["adopt"], ["adopt", "--confirm-cluster", "test"], ["adopt", "--json"]]) {
      expect(await on(...argv)).toMatchObject({
        status: 4,
        fault: "lineage-foreign",
        hint: expect.stringContaining("--confirm-cluster prod") as string,
      });
    }
    expect([...rig.store.objects.keys()]).toEqual(before);
    expect((await on("adopt", "--confirm-cluster", "prod")).status).toBe(0);
    await rig.clock.advance(1000);
    expect((await on("backup")).status).toBe(0);
    expect(await on("adopt")).toMatchObject({ status: 0, out: expect.stringContaining("nothing to adopt") as string });
  });

  test("run without schedules is refused, since it would never take a backup", async () => {
    expect(await on("run")).toMatchObject({ status: 78, fault: "config-invalid" });
  });

  test("config check, show and schema need no cluster and no store", async () => {
    const config = configOf(rig);
    expect(await say(undefined, "config", "check", "--config", config)).toMatchObject({
      status: 0,
      out: `${config}: ok\n`,
    });
    expect(JSON.parse((await say(undefined, "config", "show", "--json", "--config", config)).out)).toHaveProperty(
      "schema",
    );
    expect(JSON.parse((await say(undefined, "config", "schema")).out)).toHaveProperty("$schema");
    writeFileSync(config, readFileSync(config, "utf8").replace("cluster:", "clutser:"));
    expect(await say(undefined, "config", "check", "--config", config)).toMatchObject({
      status: 78,
      fault: "config-invalid",
    });
  });
});
