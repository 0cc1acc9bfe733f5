import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { openCatalogCache } from "../../src/repository/cache.ts";
import { listRepository, openWholeCatalog } from "../../src/repository/catalog.ts";
import { markGone } from "../../src/repository/gone.ts";
import { goneName, pinName } from "../../src/repository/names.ts";
import { readPin, writePin } from "../../src/repository/pin.ts";
import { openRows } from "../../src/repository/rows.ts";
import type { TrustedKeys } from "../../src/repository/signature.ts";
import { runBackup } from "../../src/snapshot/backup.ts";
import { collectBounds } from "../../src/snapshot/collect.ts";
import {
  applyRetention,
  surveyRetention,
  type ExpireDependencies,
  type RetentionOutcome,
  type RetentionSurvey,
} from "../../src/snapshot/expire.ts";
import type { RetentionPolicy } from "../../src/snapshot/keep.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { freshKeys } from "../repository/keys.ts";
import {
  namesIn,
  nextId,
  plantBackup,
  plantData,
  plantLineage,
  plantManifest,
  plantRepository,
  type Planted,
} from "../repository/plant.ts";
import { lineageId, repositoryId } from "../repository/sample.ts";
import { calm } from "./bytes.ts";
import { demand, openRig } from "./rig.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const noon = Date.UTC(2026, 2, 1, 12);
const policy: RetentionPolicy = {
  last: 2,
  hourly: 0,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
  withinMs: 0,
  maxBytes: undefined,
  minProven: 1,
  schedules: [],
};

let folder: string;
let clock: SteeredClock;
let store: MemoryStore;
let events: LifeboatEvent[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "expire-test-"));
  clock = steeredClock(noon);
  store = memoryStore(() => clock.now());
  events = [];
  await plantRepository(store);
  await plantLineage(store);
});
afterEach(() => rmSync(folder, { recursive: true }));

async function depsOf(changes: Partial<ExpireDependencies> = {}, trusted?: TrustedKeys): Promise<ExpireDependencies> {
  const belief = { repository: repositoryId, trusted };
  return {
    store,
    clock,
    emit: (event) => events.push(event),
    belief,
    signer: undefined,
    cache: await openCatalogCache(join(folder, "cache"), { ...belief, store: "memory:" }, clock.now()),
    policy,
    bounds: collectBounds,
    coordination: "coordination",
    gate: async () => undefined,
    ...changes,
  };
}

async function expire(changes: Partial<ExpireDependencies> = {}, trusted?: TrustedKeys): Promise<RetentionOutcome> {
  const deps = await depsOf(changes, trusted);
  return await applyRetention(deps, await surveyRetention(deps, calm), 1000, calm);
}
async function survey(): Promise<RetentionSurvey> {
  return await surveyRetention(await depsOf(), calm);
}

/** Oldest first, an hour apart; the last of them at noon. */
async function plantHours(count: number, changes: object = {}): Promise<Planted[]> {
  const planted: Planted[] = [];
  for (let index = count - 1; index >= 0; index -= 1)
    planted.push(await plantBackup(store, { timeMs: noon - index * hourMs, schedule: "hourly", ...changes }));
  return planted;
}

async function refusedNow(trusted?: TrustedKeys): Promise<readonly string[]> {
  const belief = { repository: repositoryId, trusted };
  const catalog = await openWholeCatalog(store, belief, 4, calm);
  const refused: string[] = [];
  for await (const entry of catalog.entries) if (entry.refused !== undefined) refused.push(entry.refused.message);
  return refused;
}

describe("expiry", () => {
  test("removes the manifest with its proofs and pins first, its data a day later, and the mark after three months", async () => {
    const [old, second, third] = (await plantHours(3)) as [Planted, Planted, Planted];
    const pin = { repository: repositoryId, lineage: lineageId, backup: old.backup, reason: "", id: nextId() };
    await writePin(store, { ...pin, pinned: true, madeAt: "2026-03-01T12:00:00.000Z" }, undefined, calm);
    await writePin(store, { ...pin, pinned: false, madeAt: "2026-03-01T12:00:01.000Z" }, undefined, calm);
    const kept = [second, third].flatMap((planted) => [planted.manifestName, planted.proof ?? "", ...planted.objects]);
    const mark = goneName(lineageId, old.snapshot);
    const lineageDocument = `lineages/${lineageId}/lineage.json`;

    expect(await expire()).toMatchObject({ expired: 1, objects: 0, left: 0 });
    expect(await namesIn(store)).toEqual([...kept, ...old.objects, mark, lineageDocument].toSorted());
    expect(events).toContainEqual({
      name: "backup.expired",
      backup: old.backup,
      lineage: lineageId,
      reasons: ["last: number 3 of hourly, and 2 are kept"],
      storedBytes: 1000 + `how to restore ${old.snapshot}\n`.length,
    });
    clock.jump(dayMs - 1000);
    expect(await expire()).toMatchObject({ expired: 0, objects: 0 });
    clock.jump(2000);
    expect(await expire()).toMatchObject({ expired: 0, objects: 2 });
    expect(await namesIn(store)).toEqual([...kept, mark, lineageDocument].toSorted());
    clock.jump(88 * dayMs);
    await expire();
    expect(await namesIn(store)).toContain(mark);
    clock.jump(2 * dayMs);
    await expire();
    expect(await namesIn(store)).toEqual([...kept, lineageDocument].toSorted());
  });

  test("removes no more than is allowed at once, the oldest first", async () => {
    const planted = await plantHours(10);
    const deps = await depsOf();
    expect(await applyRetention(deps, await surveyRetention(deps, calm), 3, calm)).toMatchObject({
      expired: 3,
      left: 5,
    });
    const left = (await listRepository(store, calm)).backups.map(({ backup }) => backup);
    expect(left).toEqual(planted.slice(3).map(({ backup }) => backup));
  });

  test("leaves alone what was pinned after it looked, and what is pinned by what cannot be believed", async () => {
    const [old, other] = (await plantHours(4)) as [Planted, Planted];
    const found = await survey();
    const pin = { repository: repositoryId, lineage: lineageId, backup: old.backup, reason: "audit", id: nextId() };
    await writePin(store, { ...pin, pinned: true, madeAt: "2026-03-01T12:00:00.000Z" }, undefined, calm);
    await store.create(pinName(lineageId, other.backup, 3), Buffer.from("nonsense"), calm);
    expect(await applyRetention(await depsOf(), found, 100, calm)).toMatchObject({ expired: 0 });
    const { verdicts } = await survey();
    expect(verdicts.find(({ held }) => held.backup === old.backup)?.reasons[0]).toBe("pinned: audit");
    expect(verdicts.find(({ held }) => held.backup === other.backup)?.reasons[0]).toContain("cannot be believed");
  });

  test("ends in the same, wherever it was killed and however often", async () => {
    const plant = async (): Promise<void> => {
      await plantHours(6);
      await plantData(store);
      await plantData(store);
      clock.jump(8 * dayMs);
    };
    const finish = async (): Promise<string[]> => {
      for (let round = 0; round < 3; round += 1) {
        await expire();
        clock.jump(2 * dayMs);
      }
      return (await namesIn(store)).map((name) => name.replaceAll(/01JR\d{22}/g, "ID")).toSorted();
    };
    await plant();
    const whole = await finish();
    let kills = 0;
    for (const method of ["create", "remove"] as const) {
      for (let nth = 1; ; nth += 1) {
        clock = steeredClock(noon);
        store = memoryStore(() => clock.now());
        await plantRepository(store);
        await plantLineage(store);
        await plant();
        const before = store.calls.filter((call) => call.method === method).length;
        const killed = new Error("killed");
        const struck = store.trouble({ method, nth, loseReply: killed });
        for (let round = 0; round < 2 && struck() === 0; round += 1) {
          await expire().catch((error: unknown) => {
            if (error !== killed) throw error;
          });
          if (struck() === 0) clock.jump(2 * dayMs);
        }
        if (struck() === 0) {
          expect(before).toBeGreaterThanOrEqual(0);
          break;
        }
        kills += 1;
        expect(await finish(), `${method} ${nth}`).toEqual(whole);
      }
    }
    expect(kills).toBeGreaterThan(15);
  });

  test("is refused where our clock and the store's differ, whoever is wrong, and where the store tells no time", async () => {
    await plantHours(5);
    for (const aheadMs of [3 * 365 * dayMs, 6 * 60_000, -6 * 60_000, -10 * 365 * dayMs]) {
      const wrong = { ...clock, now: () => clock.now() + aheadMs };
      await expect(expire({ clock: wrong })).rejects.toMatchObject({ code: "clock-skewed" });
    }
    const mute = { ...store, now: async () => undefined };
    await expect(expire({ store: mute })).rejects.toMatchObject({ code: "clock-skewed" });
    expect(store.calls.filter(({ method }) => method === "remove")).toEqual([]);
    expect(await expire({ clock: { ...clock, now: () => clock.now() + 200_000 } })).toMatchObject({ expired: 3 });
  });

  test("says at once when it may remove nothing, and has removed nothing then", async () => {
    await plantHours(5);
    const names = await namesIn(store);
    const struck = store.trouble({ method: "remove", fail: new Fault("store-denied", "AccessDenied") });
    await expect(expire()).rejects.toMatchObject({
      code: "store-denied",
      hint: expect.stringContaining("DeleteObject") as string,
    });
    expect(struck()).toBe(1);
    expect(await namesIn(store)).toEqual(names);
  });

  test("takes a lock for no error, keeps a backup whole under it, and does not ask for all of many", async () => {
    await plantHours(60);
    const names = await namesIn(store);
    const untilMs = noon + 30 * dayMs;
    const struck = store.trouble({ method: "remove", fail: new Fault("store-denied", "AccessDenied") });
    const locked = { ...store, head: async () => ({ storedBytes: 1, crc32c: undefined, lockedUntilMs: untilMs }) };
    expect(await expire({ store: locked })).toMatchObject({ expired: 0, locked: 10, lockedUntilMs: untilMs, left: 58 });
    expect(struck()).toBe(10);
    expect(await namesIn(store)).toEqual(names);
  });
});

describe("orphans", () => {
  test("are given up after a week, removed a day later, and younger ones are left alone", async () => {
    await plantHours(2);
    const old = await plantData(store);
    clock.jump(7 * dayMs - hourMs);
    const young = await plantData(store);
    expect(await expire()).toMatchObject({ orphans: 0 });
    clock.jump(2 * hourMs);
    expect(await expire()).toMatchObject({ orphans: 1, objects: 0 });
    clock.jump(dayMs + 1000);
    expect(await expire()).toMatchObject({ orphans: 0, objects: 2 });
    const names = await namesIn(store);
    expect(names.filter((name) => name.includes(old.snapshot))).toEqual([goneName(lineageId, old.snapshot)]);
    expect(names.filter((name) => name.includes(young.snapshot))).toHaveLength(2);
  });

  test("are nobody's to judge in a lineage with a manifest that cannot be read, which may name them", async () => {
    await plantHours(2);
    await store.create(
      `lineages/${lineageId}/backups/20260301T110000Z.slot.future.json`,
      Buffer.from('{"schema":"etcd-lifeboat/manifest/v9"}'),
      calm,
    );
    await plantData(store);
    const other = "01JQFFFFFFFFFFFFFFFFFFFFFF";
    await plantLineage(store, other);
    const elsewhere = await plantData(store, { lineage: other });
    clock.jump(8 * dayMs);
    expect(await expire()).toMatchObject({ expired: 0, orphans: 1 });
    clock.jump(2 * dayMs);
    expect(await expire()).toMatchObject({ objects: 2 });
    expect((await namesIn(store)).filter((name) => name.includes(elsewhere.snapshot))).toHaveLength(1);
    expect((await survey()).collection.blocked).toEqual([lineageId]);
  });

  test("among proofs and pins go as well, when their backup is not there for a week", async () => {
    const [old] = (await plantHours(1)) as [Planted];
    await store.remove(old.manifestName, calm);
    await expire();
    expect(await namesIn(store)).toContain(old.proof);
    clock.jump(8 * dayMs);
    await expire();
    expect(await namesIn(store)).not.toContain(old.proof);
  });
});

describe("a daemon that slept past the bound and then commits", () => {
  test.each([
    ["after the mark", 1],
    ["after its data was removed", 2],
  ])("fails loudly %s, no reader believes it, and what is left of it goes", async (_, rounds) => {
    using rig = await openRig();
    ({ clock, store } = rig);
    expect(await runBackup(rig.deps, demand, calm)).toMatchObject({ kind: "committed" });
    const { repository } = JSON.parse(Buffer.from(await store.read("repository.json", calm)).toString()) as {
      repository: string;
    };
    const belief = { repository, trusted: undefined };
    const deps = async (): Promise<ExpireDependencies> => ({
      ...(await depsOf()),
      belief,
      cache: await openCatalogCache(join(folder, "cache"), { ...belief, store: "memory:" }, clock.now()),
    });
    const collect = async (): Promise<RetentionOutcome> => {
      const current = await deps();
      return await applyRetention(current, await surveyRetention(current, calm), 100, calm);
    };
    let wake = (): void => undefined;
    let asleep = (): void => undefined;
    const sleeping = new Promise<void>((resolve) => (asleep = resolve));
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const drowsy: MemoryStore = {
      ...store,
      async create(name, body, signal) {
        if (name.includes("/backups/")) {
          asleep();
          await woken;
        }
        await store.create(name, body, signal);
      },
    };
    const run = runBackup({ ...rig.deps, store: drowsy }, demand, calm).catch((error: unknown) => error);
    await sleeping;
    clock.jump(8 * dayMs);
    expect(await collect()).toMatchObject({ orphans: 1 });
    clock.jump(2 * dayMs);
    if (rounds === 2) expect(await collect()).toMatchObject({ objects: 2 });
    wake();
    expect(await run).toMatchObject({ code: "backup-late" });
    const catalog = await openWholeCatalog(store, belief, 4, calm);
    const entries = await Array.fromAsync(catalog.entries);
    expect(entries.map(({ refused }) => refused?.code)).toEqual([undefined, "manifest-invalid"]);
    const { cache } = await deps();
    const rows = await Array.fromAsync((await openRows(store, belief, cache, 4, calm)).entries);
    expect(rows.map(({ refused }) => refused?.code)).toEqual([undefined, "manifest-invalid"]);
    // A day later what is left of it goes, and its data after it.
    clock.jump(2 * dayMs);
    await collect();
    await collect();
    const names = await namesIn(store);
    expect(names.filter((name) => name.includes("/backups/"))).toHaveLength(1);
    expect(names.filter((name) => name.includes("/snapshots/"))).toHaveLength(2);
  });

  test("is believed when it had committed before the mark, which is taken back", async () => {
    const data = await plantData(store);
    clock.jump(8 * dayMs);
    const found = await survey();
    const { manifestName: name } = await plantManifest(
      store,
      { timeMs: noon, schedule: "hourly" },
      data.snapshot,
      data.changes,
    );
    clock.jump(10_000);
    // Decided before the commit, done after it.
    expect(await applyRetention(await depsOf(), found, 100, calm)).toMatchObject({ orphans: 1 });
    expect(await refusedNow()).toEqual([]);
    clock.jump(2 * dayMs);
    expect(await expire()).toMatchObject({ objects: 0 });
    const names = await namesIn(store);
    expect(names).toContain(name);
    expect(names).not.toContain(goneName(lineageId, data.snapshot));
    expect(events).toContainEqual(expect.objectContaining({ name: "warning", about: "retention" }));
  });

  test("loses nothing to a mark that a stranger made, where signatures are asked for", async () => {
    const { signer, trusted } = freshKeys();
    const mark = {
      repository: repositoryId,
      lineage: lineageId,
      why: "expired",
      madeAt: "2026-03-01T12:00:00.000Z",
    } as const;
    const data = await plantData(store);
    const strangers = { ...mark, snapshot: data.snapshot };
    await markGone(store, strangers, freshKeys().signer, calm);
    clock.jump(10_000);
    await plantManifest(store, { timeMs: noon, schedule: "hourly", signer }, data.snapshot, data.changes);
    expect(await refusedNow(trusted)).toEqual([]);
    expect(await refusedNow()).toHaveLength(1);
    const orphan = await plantData(store);
    await markGone(store, { ...mark, snapshot: orphan.snapshot }, undefined, calm);
    clock.jump(10 * dayMs);
    expect(await expire({ signer }, trusted)).toMatchObject({ objects: 0 });
  });
});

describe("pins", () => {
  const about = { repository: repositoryId, lineage: lineageId, backup: "20260301T120000Z.slot.hourly" };
  const entry = (pinned: boolean, reason: string) => ({
    ...about,
    pinned,
    reason,
    id: nextId(),
    madeAt: "2026-03-01T12:00:00.000Z",
  });
  const state = async (trusted?: TrustedKeys) =>
    await readPin(store, (await listRepository(store, calm)).pins, { repository: repositoryId, trusted }, calm);

  test("are a log in which the highest number decides, also with ten and more", async () => {
    expect(await state()).toBeUndefined();
    for (let number = 1; number <= 12; number += 1) {
      expect(await writePin(store, entry(number % 2 === 1, `number ${number}`), undefined, calm)).toMatchObject({
        number,
      });
      expect(await state()).toMatchObject({ pinned: number % 2 === 1, reason: `number ${number}`, number });
    }
  });

  test("of two who write at once come one after the other", async () => {
    const written = await Promise.all(
      [1, 2, 3].map(async (n) => await writePin(store, entry(true, `${n}`), undefined, calm)),
    );
    expect(new Set(written.map(({ number }) => number))).toEqual(new Set([1, 2, 3]));
  });

  test("are believed only with a trusted signature, and stay while what came last is not", async () => {
    const { signer, trusted } = freshKeys();
    await writePin(store, entry(true, "audit"), signer, calm);
    expect(await state(trusted)).toMatchObject({ pinned: true, reason: "audit" });
    await writePin(store, entry(false, ""), undefined, calm);
    expect(await state(trusted)).toMatchObject({
      pinned: true,
      reason: expect.stringContaining("cannot be believed") as string,
    });
    await writePin(store, entry(false, ""), signer, calm);
    expect(await state(trusted)).toMatchObject({ pinned: false });
    // The unpin of old, copied to the end by a stranger, is none.
    await writePin(store, entry(true, "again"), signer, calm);
    await store.create(
      pinName(about.lineage, about.backup, 5),
      await store.read(pinName(about.lineage, about.backup, 3), calm),
      calm,
    );
    expect(await state(trusted)).toMatchObject({ pinned: true });
  });

  test("refuse a reason that could not be read again", async () => {
    await expect(writePin(store, entry(true, "x".repeat(501)), undefined, calm)).rejects.toMatchObject({
      code: "usage",
    });
  });
});
