import { afterEach, beforeEach, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, say, type Said } from "./console.ts";

let rig: Rig;
let offsite: MemoryStore;
let config: string;
beforeEach(async () => {
  rig = await openRig();
  config = configOf(rig, "schedules: [{ name: yearly, cron: '0 0 1 1 *' }]\n");
  offsite = { ...memoryStore(() => rig.clock.now()), description: "memory:offsite" };
  rig.copies.push({ name: "offsite", store: offsite });
});
afterEach(() => rig[Symbol.dispose]());

const run = async (...args: string[]): Promise<Said> => await rig.passing(say(rig, ...args, "--config", config));
const dead = new Fault("store-unreachable", "memory:offsite does not answer", { hint: "look at its address" });

test("backup copies what it has committed, says so, and ends with 0", async () => {
  const said = await run("backup");
  expect(said).toMatchObject({ status: 0 });
  expect(said.err).toContain("copy offsite: 1 backups copied to memory:offsite\n");
  expect([...offsite.objects.keys()].filter((name) => name.includes("/backups/"))).toHaveLength(1);
});

test("backup ends with 3 when it is stored and a copy cannot be had, names the copy and the reason, and the next one copies both", async () => {
  const struck = offsite.trouble({ method: "read", nth: 1, fail: dead });
  const said = await run("backup");
  expect(struck()).toBe(1);
  expect(said).toMatchObject({ status: 3, fault: undefined });
  expect(said.out).toMatch(/^20260301T12.*\.demand\./);
  expect(said.err).toContain("warning: copy offsite: not up to date: memory:offsite does not answer\n");
  rig.clock.jump(3_600_000);
  expect((await run("backup")).err).toContain("copy offsite: 2 backups copied");
});

test("backup --if-due, import and --json tell of the copies, too", async () => {
  const due = await run("backup", "--schedule", "yearly", "--if-due", "--json");
  expect(JSON.parse(due.out)).toMatchObject({
    schema: "etcd-lifeboat/backup/v1",
    copies: [{ name: "offsite", store: "memory:offsite", ok: true, copied: 1, failed: [], code: null }],
  });
  const idle = await run("backup", "--schedule", "yearly", "--if-due");
  expect(idle).toMatchObject({ status: 0 });
  offsite.trouble({ method: "read", fail: dead });
  const failed = await run("backup", "--json");
  expect(failed.status).toBe(3);
  expect(JSON.parse(failed.out)).toMatchObject({ copies: [{ ok: false, copied: null, code: "store-unreachable" }] });
});

test("copy brings everything up to date; 3 with the fault of what is missing", async () => {
  offsite.trouble({ method: "read", nth: 1, fail: dead });
  await run("backup");
  expect(await run("copy")).toMatchObject({ status: 0, err: "copy offsite: 1 backups copied to memory:offsite\n" });
  expect(await run("copy", "--store", "offsite", "--json")).toMatchObject({ status: 0 });
  const data = [...offsite.objects.keys()].find((name) => name.endsWith(".db.zst")) ?? "";
  const manifest = [...offsite.objects.keys()].find((name) => name.includes("/backups/")) ?? "";
  offsite.objects.delete(manifest);
  offsite.objects.set(data, { bytes: Buffer.from("other"), modifiedMs: 0 });
  const said = await run("copy");
  expect(said.status).toBe(3);
  expect(said.err).toMatch(/warning: copy offsite: \S+ is missing: .* stands in the copy offsite with other bytes\n/);
  expect(said.err).toContain("nothing is ever rewritten");
});

test("copy is refused while the repository is paused, and where no copy is configured", async () => {
  await run("backup");
  await run("pause", "--reason", "disks");
  expect(await run("copy")).toMatchObject({ status: 11, fault: "paused" });
  await run("resume");
  rig.copies.length = 0;
  expect(await run("copy")).toMatchObject({ status: 78, fault: "config-invalid" });
});

test("list, show, verify and expire read a copy when the first store is dead", async () => {
  await run("backup");
  for (const method of ["read", "list", "head", "download"] as const)
    rig.store.trouble({ method, fail: new Fault("store-unreachable", "the first store is gone") });
  expect(await run("list")).toMatchObject({ status: 75 });
  expect((await run("list", "--store", "offsite")).out).toContain(".demand.");
  expect((await run("show", "latest", "--store", "offsite")).out).toContain("memory:offsite");
  expect(await run("verify", "--store", "offsite", "--level", "bytes")).toMatchObject({ status: 0 });
  config = configOf(rig, "retention: { last: 1 }\n");
  expect((await run("expire", "--store", "offsite")).err).toContain("0 of 1 backups go");
});

test("a name that no copy has is a wrong usage, and says which there are", async () => {
  expect(await run("list", "--store", "onsite")).toMatchObject({
    status: 2,
    fault: "usage",
    hint: "there is: offsite",
  });
});
