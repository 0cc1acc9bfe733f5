import { writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { expireHourly } from "../../src/daemon/expire.ts";
import { Fault } from "../../src/faults.ts";
import { namesIn, plantBackup, plantLineage, plantRepository, type Planted } from "../repository/plant.ts";
import { lineageId } from "../repository/sample.ts";
import { freshKeys } from "../repository/keys.ts";
import { calm } from "../snapshot/bytes.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, say, type Said } from "./console.ts";

const hourMs = 3_600_000;
const noon = Date.UTC(2026, 2, 1, 12);
const foreignLineage = "01JQFFFFFFFFFFFFFFFFFFFFFF";

let rig: Rig;
let planted: Planted[];
let imported: Planted;
let on: (...argv: string[]) => Promise<Said>;
beforeEach(async () => {
  rig = await openRig();
  const { store } = rig;
  await plantRepository(store);
  await plantLineage(store);
  await plantLineage(store, foreignLineage, "foreign");
  imported = await plantBackup(store, { timeMs: noon - 900 * hourMs, lineage: foreignLineage, imported: true });
  planted = [];
  for (let index = 4; index >= 0; index -= 1)
    planted.push(await plantBackup(store, { timeMs: noon - index * hourMs, schedule: "hourly" }));
  const config = configOf(rig, "retention: { last: 2 }\n");
  on = (...argv) => say(rig, ...argv, "--config", config);
});
afterEach(() => rig[Symbol.dispose]());

interface Shown {
  readonly schema: string;
  readonly backups: readonly { readonly backup: string; readonly keep: boolean; readonly reasons: readonly string[] }[];
  readonly outcome: { readonly expired: number } | null;
}

describe("expire", () => {
  test("shows each backup with its reasons, and removes nothing", async () => {
    const before = await namesIn(rig.store);
    const said = await on("expire");
    expect(said).toMatchObject({ status: 0, fault: undefined });
    const proven = "minProven: one of the newest proven";
    expect(said.out.split("\n").map((line) => line.split(/ {2,}/).slice(3).join(" | "))).toEqual([
      "PROOF | ACTION | LINEAGE | WHY",
      `- | keep | ${foreignLineage} | imported: goes by name only`,
      `proven | GO | ${lineageId} | last: number 5 of hourly, and 2 are kept`,
      `proven | GO | ${lineageId} | last: number 4 of hourly, and 2 are kept`,
      `proven | keep | ${lineageId} | ${proven}`,
      `proven | keep | ${lineageId} | ${proven}; last: number 2 of 2 of hourly`,
      `proven | keep | ${lineageId} | the newest backup; ${proven}; last: number 1 of 2 of hourly`,
      "",
    ]);
    expect(said.err).toContain("2 of 6 backups go");
    expect(said.err).toContain("--yes");
    expect(await namesIn(rig.store)).toEqual(before);
  });

  test("with --yes removes what it shows, and the second time nothing", async () => {
    const said = await on("expire", "--yes", "--json");
    const document = JSON.parse(said.out) as Shown;
    expect(document.schema).toBe("etcd-lifeboat/expire/v1");
    expect(document.outcome).toMatchObject({ expired: 2, objects: 0, left: 0, lockedUntil: null });
    const listed = JSON.parse((await on("list", "--json")).out) as Shown;
    expect(listed.backups.map(({ backup }) => backup)).toEqual(
      document.backups.filter(({ keep }) => keep).map(({ backup }) => backup),
    );
    expect((JSON.parse((await on("expire", "--yes", "--json")).out) as Shown).outcome?.expired).toBe(0);
  });

  test("removes an imported file by its name, and nothing else by name", async () => {
    const { backup = "" } = planted[0] ?? {};
    expect(await on("expire", backup, "--yes")).toMatchObject({ status: 2, fault: "usage" });
    expect(await on("expire", "nothing", "--yes")).toMatchObject({ status: 10 });
    expect((await on("expire", imported.backup)).err).toContain("nothing was removed");
    expect(await namesIn(rig.store)).toContain(imported.manifestName);
    expect(await on("expire", `${foreignLineage}/${imported.backup}`, "--yes")).toMatchObject({ status: 0 });
    expect(await namesIn(rig.store)).not.toContain(imported.manifestName);
    expect((await namesIn(rig.store)).filter((name) => name.includes("/backups/"))).toHaveLength(5);
  });

  test("is refused while the repository is paused, without a retention, and without a repository", async () => {
    expect((await on("pause", "--reason", "audit")).status).toBe(0);
    expect(await on("expire", "--yes")).toMatchObject({ status: 11, fault: "paused" });
    expect((await on("expire")).status).toBe(0);
    const bare = configOf(rig);
    expect(await say(rig, "expire", "--config", bare)).toMatchObject({ status: 78, fault: "config-invalid" });
    using empty = await openRig();
    const config = configOf(empty, "retention: { last: 2 }\n");
    expect(await say(empty, "expire", "--config", config)).toMatchObject({ status: 10, fault: "not-found" });
  });

  test("warns of a clock that is years off, and refuses --yes then", async () => {
    const { clock } = rig;
    const wrong = { ...clock, now: () => clock.now() + 5 * 366 * 24 * hourMs };
    Object.assign(rig.deps, { clock: wrong });
    const said = await on("expire");
    expect(said.status).toBe(0);
    expect(said.err).toContain("ahead of the store's");
    expect(said.err).toContain("2 of 6 backups go");
    expect(await on("expire", "--yes")).toMatchObject({ status: 4, fault: "clock-skewed" });
    expect((await namesIn(rig.store)).filter((name) => name.includes("/backups/"))).toHaveLength(6);
  });
});

describe("pin and unpin", () => {
  test("keep a backup from retention, and show in list and show until they do not", async () => {
    const { backup = "" } = planted[0] ?? {};
    expect(await on("pin", backup, "--reason", " ")).toMatchObject({ status: 2 });
    expect(await on("unpin", backup)).toMatchObject({ status: 0, err: `${backup} is not pinned\n` });
    expect(await on("pin", backup, "--reason", "before the\nmigration")).toMatchObject({
      status: 0,
      out: `${backup} is pinned: before the\\nmigration\n`,
    });
    expect((await on("list")).out).toMatch(new RegExp(`${backup}.*sealed, pinned`));
    expect((await on("show", backup)).out).toContain("pinned           before the\\nmigration\n");
    expect(JSON.parse((await on("show", backup, "--json")).out)).toMatchObject({ pinned: "before the\nmigration" });
    const { outcome } = JSON.parse((await on("expire", "--yes", "--json")).out) as Shown;
    expect(outcome?.expired).toBe(1);
    expect(JSON.parse((await on("unpin", backup, "--json")).out)).toMatchObject({
      schema: "etcd-lifeboat/pin-state/v1",
      pinned: false,
    });
    expect((await on("list")).out).not.toContain("pinned");
    expect((JSON.parse((await on("expire", "--yes", "--json")).out) as Shown).outcome?.expired).toBe(1);
  });

  test("say it when nobody would believe them", async () => {
    const { signer, trusted } = freshKeys();
    const signed = await plantBackup(rig.store, { timeMs: noon + 1000, signer });
    Object.assign(rig.deps, { trusted });
    expect(await on("pin", signed.backup, "--reason", "audit")).toMatchObject({ fault: "config-invalid" });
    Object.assign(rig.deps, { encoder: { ...rig.deps.encoder, signer } });
    expect((await on("pin", signed.backup, "--reason", "audit")).status).toBe(0);
    expect((await on("list")).out).toContain("pinned");
  });

  test("keep an imported file from being expired by its name", async () => {
    expect((await on("pin", imported.backup, "--reason", "evidence")).status).toBe(0);
    expect(await on("expire", imported.backup, "--yes")).toMatchObject({
      status: 2,
      hint: expect.stringContaining("unpin") as string,
    });
  });
});

describe("the daemon", () => {
  const policy = {
    last: 2,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    withinMs: 0,
    maxBytes: undefined,
    minProven: 1,
    schedules: ["hourly"],
  };
  const open = (changes: object = {}): ((signal: AbortSignal) => Promise<void>) => {
    const { deps } = rig;
    const { cluster, store, clock, emit, trusted } = deps;
    const catalogDirectory = `${rig.spoolDirectory}/catalog`;
    return expireHourly({
      cluster,
      store,
      clock,
      emit,
      trusted,
      signer: undefined,
      catalogDirectory,
      policy,
      coordination: "coordination",
      gate: async () => undefined,
      ...changes,
    });
  };
  /** A store that takes its time to remove anything. */
  const removing =
    ({ store, clock }: Rig): typeof store.remove =>
    async (name, signal) => {
      await clock.sleep(31_000, signal);
      await store.remove(name, signal);
    };
  const names = (): string[] => rig.events.map(({ name }) => name).filter((name) => /^retention|expired/.test(name));

  test("expires after a backup, at most once an hour", async () => {
    const expire = open();
    await expire(calm);
    const expired = ["backup.expired", "backup.expired", "backup.expired"];
    expect(names()).toEqual(["retention.surveyed", ...expired, "retention.applied"]);
    await plantBackup(rig.store, { timeMs: noon + hourMs / 2, schedule: "hourly" });
    await expire(calm);
    expect(names().filter((name) => name === "retention.applied")).toHaveLength(1);
    await rig.clock.advance(hourMs);
    await expire(calm);
    expect(names().filter((name) => name === "backup.expired")).toHaveLength(4);
  });

  test("does nothing without being told to, and while something stands against it, which it tells", async () => {
    await open({ policy: undefined })(calm);
    expect(names()).toEqual([]);
    const gate = { closed: new Fault("paused", "paused") as Fault | undefined };
    const expire = open({ gate: async () => gate.closed });
    await expire(calm);
    expect(names()).toEqual(["retention.held"]);
    gate.closed = undefined;
    await expire(calm);
    expect(names()).toContain("retention.applied");
  });

  test("stops in the middle when the repository is paused or an operation begins, and goes on afterwards", async () => {
    let looks = 0;
    const slow = { ...rig.store, remove: removing(rig) };
    const expire = open({
      store: slow,
      gate: async () => ((looks += 1) < 3 ? undefined : new Fault("locked", "a restore has it")),
    });
    await rig.passing(expire(calm));
    expect(names().filter((name) => name === "backup.expired")).toHaveLength(1);
    expect(rig.events.at(-1)).toMatchObject({ name: "retention.held", code: "locked" });
    looks = -Infinity;
    await rig.passing(expire(calm));
    expect(names().filter((name) => name === "backup.expired")).toHaveLength(3);
  });

  test("says where nothing of the catalog can be kept, and expires all the same", async () => {
    await open()(calm);
    expect(rig.events.filter(({ name }) => name === "warning")).toEqual([]);
    const catalogDirectory = `${rig.spoolDirectory}/in-the-way`;
    writeFileSync(catalogDirectory, "");
    await open({ catalogDirectory })(calm);
    expect(rig.events.find(({ name }) => name === "warning")).toMatchObject({
      about: "catalog",
      message: `each manifest is read anew every time: ${catalogDirectory} is not a directory`,
    });
    expect(rig.events.at(-1)?.name).toBe("retention.applied");
  });

  test("tells trouble and goes on", async () => {
    const struck = rig.store.trouble({ method: "remove", fail: new Fault("store-denied", "AccessDenied") });
    await open()(calm);
    expect(struck()).toBe(1);
    expect(rig.events.at(-1)).toMatchObject({ name: "retention.failed", code: "store-denied" });
    const wrong = { ...rig.clock, now: () => rig.clock.now() - 9 * 366 * 24 * hourMs };
    await open({ clock: wrong })(calm);
    expect(rig.events.at(-1)).toMatchObject({ name: "retention.failed", code: "clock-skewed" });
  });
});
