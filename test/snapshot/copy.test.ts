import { beforeEach, describe, expect, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { listRepository, openWholeCatalog } from "../../src/repository/catalog.ts";
import { markGone } from "../../src/repository/gone.ts";
import { goneName, manifestName, pinName } from "../../src/repository/names.ts";
import { writePin } from "../../src/repository/pin.ts";
import {
  copyRepository,
  lastCopied,
  surveyCopy,
  type CopyDependencies,
  type CopyOutcome,
  type CopyRequest,
} from "../../src/snapshot/copy.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { freshKeys } from "../repository/keys.ts";
import { nextId, plantBackup, plantData, plantLineage, plantManifest, plantRepository } from "../repository/plant.ts";
import { lineageId, repositoryId } from "../repository/sample.ts";
import { calm } from "./bytes.ts";

const hourMs = 3_600_000;
const noon = Date.UTC(2026, 2, 1, 12);

let clock: SteeredClock;
let store: MemoryStore;
let offsite: MemoryStore;
let events: LifeboatEvent[];
let settled: Set<string>;
beforeEach(async () => {
  clock = steeredClock(noon);
  store = memoryStore(() => clock.now());
  offsite = { ...memoryStore(() => clock.now()), description: "memory:offsite" };
  events = [];
  settled = new Set();
  await plantRepository(store);
  await plantLineage(store);
});

function depsOf(changes: Partial<CopyDependencies> = {}): CopyDependencies {
  return {
    store,
    target: { name: "offsite", store: offsite },
    cluster: "prod",
    trusted: undefined,
    readBackBelowBytes: undefined,
    clock,
    emit: (event) => events.push(event),
    ...changes,
  };
}

async function copy(changes: Partial<CopyDependencies & CopyRequest> = {}): Promise<CopyOutcome | undefined> {
  const request = { schedules: ["hourly"], postponed: () => false, settled, ...changes };
  return await copyRepository(depsOf(changes), request, calm);
}

/** Every object but marks, whose bytes must be the same in both. */
function bytesOf({ objects }: MemoryStore): Record<string, string> {
  const all = [...objects].map(([name, { bytes }]) => [name, Buffer.from(bytes).toString("base64")] as const);
  return Object.fromEntries(all.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

const told = (name: string): LifeboatEvent[] => events.filter((event) => event.name === name);

describe("a copy", () => {
  test("is a whole repository: every byte of identity, lineages, data, manifests, proofs and pins, and a catalog that is believed", async () => {
    for (const index of [3, 2, 1]) await plantBackup(store, { timeMs: noon - index * hourMs, schedule: "hourly" });
    const kept = await plantBackup(store, { timeMs: noon, proven: false });
    const pin = { repository: repositoryId, lineage: lineageId, backup: kept.backup, number: 1 };
    await writePin(
      store,
      { ...pin, pinned: true, reason: "audit", id: nextId(), madeAt: new Date(noon).toISOString() },
      undefined,
      calm,
    );
    expect(await copy()).toEqual({ copied: 4, missing: 0, failed: [] });
    expect(bytesOf(offsite)).toEqual(bytesOf(store));
    const belief = { repository: repositoryId, trusted: undefined };
    const { entries } = await openWholeCatalog(offsite, belief, 8, calm);
    expect((await Array.fromAsync(entries)).map(({ manifest }) => manifest?.backup)).toContain(kept.backup);
    expect(told("copy.stored")).toHaveLength(4);
    expect(told("copy.finished")).toEqual([{ name: "copy.finished", store: "offsite", copied: 4, missing: 0 }]);
  });

  test("gets its newest backup first, and each manifest after everything that it names was read back", async () => {
    const old = await plantBackup(store, { timeMs: noon - hourMs, schedule: "hourly" });
    const young = await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    await copy();
    const writes = offsite.calls.filter(({ method }) => method === "create" || method === "download");
    const at = (name: string, method: string): number =>
      writes.findIndex((call) => call.name === name && call.method === method);
    expect(at(young.manifestName, "create")).toBeLessThan(at(old.manifestName, "create"));
    for (const { manifestName: manifest, objects } of [young, old])
      for (const object of objects) expect(at(object, "download")).toBeLessThan(at(manifest, "create"));
  });

  test("is only read where nothing changed", async () => {
    await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    await copy();
    offsite.calls.length = 0;
    expect(await copy()).toEqual({ copied: 0, missing: 0, failed: [] });
    expect(offsite.calls.filter(({ method }) => /create|upload|remove/.test(method))).toEqual([]);
  });

  test("gets a proof and a pin that came later", async () => {
    const planted = await plantBackup(store, { timeMs: noon, schedule: "hourly", proven: false });
    await copy();
    await store.create(pinName(lineageId, planted.backup, 1), Buffer.from("{}"), calm);
    await copy();
    expect(bytesOf(offsite)).toEqual(bytesOf(store));
  });

  test("of nothing is nothing", async () => {
    store.objects.clear();
    expect(await copy()).toBeUndefined();
    expect(offsite.objects.size).toBe(0);
  });

  test("tells how fresh it is, from what is in it, before anything is copied", async () => {
    await plantBackup(store, { timeMs: noon - hourMs, schedule: "hourly" });
    await copy();
    expect(told("copy.compared")).toMatchObject([
      { backups: 0, missing: 1, schedules: [{ schedule: "hourly", lastSuccessMs: undefined }] },
    ]);
    events.length = 0;
    await copy();
    const lastSuccessMs = noon - hourMs + 5000;
    expect(told("copy.compared")).toMatchObject([
      { backups: 1, missing: 0, schedules: [{ schedule: "hourly", lastSuccessMs }] },
    ]);
    const survey = await surveyCopy(depsOf(), calm);
    expect(survey && (await lastCopied(depsOf().target, survey, "daily", noon, calm))).toBeUndefined();
  });
});

describe("what is in the way", () => {
  test("another repository at the copy's place is refused by name, and nothing is written there", async () => {
    await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    await plantRepository(offsite, "prod");
    const document = [...offsite.objects.values()][0];
    const other = repositoryId.replace(/.$/, "9");
    if (document !== undefined)
      document.bytes = Buffer.from(Buffer.from(document.bytes).toString().replace(repositoryId, other));
    await expect(copy()).rejects.toMatchObject({
      code: "repository-foreign",
      message: `memory:offsite holds repository ${other}, and the copy offsite is of ${repositoryId} in memory:`,
    });
    expect(offsite.objects.size).toBe(1);
  });

  test("another cluster's repository is refused as well", async () => {
    await plantRepository(offsite, "staging");
    await expect(copy()).rejects.toMatchObject({ code: "repository-foreign" });
  });

  test("a name that is taken with other bytes fails its backup alone, is never rewritten, and others are copied", async () => {
    const [first, second] = [
      await plantBackup(store, { timeMs: noon - hourMs, schedule: "hourly" }),
      await plantBackup(store, { timeMs: noon, schedule: "hourly" }),
    ];
    await offsite.create(second.objects[0] ?? "", Buffer.alloc(1000, "other"), calm);
    expect(await copy()).toMatchObject({ copied: 1, missing: 1, failed: [{ backup: second.backup }] });
    expect(offsite.objects.has(first.manifestName)).toBe(true);
    expect(offsite.objects.has(second.manifestName)).toBe(false);
    expect(Buffer.from(offsite.objects.get(second.objects[0] ?? "")?.bytes ?? []).toString()).toContain("other");
    expect(told("copy.failed")).toMatchObject([
      { store: "offsite", backup: second.backup, code: "store-exists", hint: expect.stringContaining("remove it") },
    ]);
    expect(told("copy.finished")).toEqual([]);
  });

  test("a manifest's name that is taken by something else is told at each look, and never rewritten", async () => {
    const { manifestName: name, backup } = await plantBackup(store, { timeMs: noon });
    await copy();
    offsite.objects.delete(name);
    await offsite.create(name, Buffer.from("{}"), calm);
    for (const _ of [1, 2])
      expect(await copy()).toMatchObject({
        copied: 0,
        missing: 1,
        failed: [{ backup, fault: { code: "store-exists" } }],
      });
    expect(Buffer.from(offsite.objects.get(name)?.bytes ?? []).toString()).toBe("{}");
  });

  test("data that was damaged in the first store is not copied, and the fault says where it is damaged", async () => {
    const { objects, manifestName: name } = await plantBackup(store, { timeMs: noon });
    const data = store.objects.get(objects[0] ?? "");
    if (data !== undefined) data.bytes = Buffer.alloc(1000, "damage");
    expect(await copy()).toMatchObject({ copied: 0, missing: 1, failed: [{ fault: { code: "object-damaged" } }] });
    expect(told("copy.failed")).toMatchObject([{ message: expect.stringContaining("(in memory:)") }]);
    expect(offsite.objects.has(objects[0] ?? "")).toBe(false);
    expect(offsite.objects.has(name)).toBe(false);
  });

  test("what arrived damaged is found by reading it back, and has no manifest", async () => {
    const { objects, manifestName: name } = await plantBackup(store, { timeMs: noon });
    const upload = offsite.upload;
    offsite.upload = async (object, source, signal) => {
      const uploaded = await upload(object, source, signal);
      const stored = offsite.objects.get(object);
      if (object === objects[0] && stored !== undefined) stored.bytes = Buffer.alloc(1000, "bit rot");
      return uploaded;
    };
    expect(await copy()).toMatchObject({ copied: 0, missing: 1 });
    expect(offsite.objects.has(name)).toBe(false);
  });

  test("above the configured size the copy's own checksum is compared instead, and read back where it has none", async () => {
    const { objects } = await plantBackup(store, { timeMs: noon });
    expect(await copy({ readBackBelowBytes: 100 })).toMatchObject({ copied: 1 });
    const downloads = (): string[] =>
      offsite.calls.filter(({ method }) => method === "download").map(({ name }) => name);
    expect(downloads()).toEqual([objects[1]]);
    offsite.objects.clear();
    const head = offsite.head;
    offsite.head = async (name, signal) => {
      const found = await head(name, signal);
      return found && { ...found, crc32c: undefined };
    };
    expect(await copy({ readBackBelowBytes: 100 })).toMatchObject({ copied: 1 });
    expect(downloads()).toContain(objects[0]);
  });

  test("a store that fails as a whole ends the round, and the next one goes on where it was", async () => {
    const planted = [2, 1, 0].map((index) => ({ timeMs: noon - index * hourMs, schedule: "hourly" }));
    for (const planting of planted) await plantBackup(store, planting);
    const struck = offsite.trouble({ method: "upload", nth: 3, fail: new Fault("store-unreachable", "no connection") });
    await expect(copy()).rejects.toMatchObject({ code: "store-unreachable" });
    expect(struck()).toBe(1);
    expect(told("copy.stored")).toHaveLength(1);
    const uploads = (): number => offsite.calls.filter(({ method }) => method === "upload").length;
    const before = uploads();
    expect(await copy()).toEqual({ copied: 2, missing: 0, failed: [] });
    // One of them failed without doing anything, and none of what was there is uploaded again.
    expect(uploads() - before).toBe(4);
    expect(bytesOf(offsite)).toEqual(bytesOf(store));
  });

  test("cut off before any call, and then brought up to date, it ends as if nothing had happened", async () => {
    for (const index of [1, 0]) await plantBackup(store, { timeMs: noon - index * hourMs, schedule: "hourly" });
    const methods = ["create", "upload", "read", "download", "head", "list"] as const;
    let cuts = 0;
    for (const method of methods) {
      for (let nth = 1; nth <= 30; nth += 1) {
        offsite = { ...memoryStore(() => clock.now()), description: "memory:offsite" };
        const struck = offsite.trouble({ method, nth, fail: new Fault("interrupted", "cut off") });
        const ended = await copy().catch((error: unknown) => error);
        if (struck() === 0) break;
        cuts += 1;
        expect(ended, `${method} ${nth}`).toMatchObject({ code: "interrupted" });
        await copy();
        expect(bytesOf(offsite), `${method} ${nth}`).toEqual(bytesOf(store));
      }
    }
    expect(cuts).toBeGreaterThan(20);
  });

  test("a reply that was lost changes nothing", async () => {
    await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    for (const method of ["create", "upload"] as const) {
      for (let nth = 1; nth <= 4; nth += 1) {
        offsite = { ...memoryStore(() => clock.now()), description: "memory:offsite" };
        offsite.trouble({ method, nth, loseReply: new Fault("store-unreachable", "no reply") });
        await copy().catch(() => undefined);
        await copy();
        expect(bytesOf(offsite)).toEqual(bytesOf(store));
      }
    }
  });

  test("two daemons that copy at once make one copy", async () => {
    for (const index of [1, 0]) await plantBackup(store, { timeMs: noon - index * hourMs, schedule: "hourly" });
    const outcomes = await Promise.all([copy(), copy({ settled: new Set() })]);
    expect(outcomes.map((outcome) => outcome?.failed)).toEqual([[], []]);
    expect(bytesOf(offsite)).toEqual(bytesOf(store));
  });
});

describe("what is not copied", () => {
  test("a backup that another daemon has just committed, which copies it itself", async () => {
    const { backup } = await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    await plantBackup(store, { timeMs: noon - hourMs, schedule: "hourly" });
    expect(await copy({ postponed: (listed) => listed.backup === backup })).toEqual({
      copied: 1,
      missing: 1,
      failed: [],
    });
  });

  test("a manifest that cannot be believed; it is read once, and is no failure of the copy", async () => {
    const { signer } = freshKeys();
    const { trusted } = freshKeys();
    const { manifestName: name } = await plantBackup(store, { timeMs: noon, signer, proven: false });
    expect(await copy({ trusted })).toEqual({ copied: 0, missing: 0, failed: [] });
    store.calls.length = 0;
    expect(await copy({ trusted })).toEqual({ copied: 0, missing: 0, failed: [] });
    expect(store.calls.filter((call) => call.name === name)).toEqual([]);
    expect(offsite.objects.has(name)).toBe(false);
  });

  test("what the copy has given up by its own retention does not come back while the first store keeps it", async () => {
    const { backup, snapshot, manifestName: name } = await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    await copy();
    await offsite.remove(name, calm);
    const mark = { repository: repositoryId, lineage: lineageId, snapshot, why: "expired" as const };
    await markGone(offsite, { ...mark, madeAt: new Date(noon).toISOString() }, undefined, calm);
    expect(await copy()).toEqual({ copied: 0, missing: 0, failed: [] });
    expect(offsite.objects.has(name)).toBe(false);
    expect([...settled]).toEqual([`${lineageId}/${backup}`]);
    // What is listed no more is forgotten.
    await store.remove(name, calm);
    await copy();
    expect([...settled]).toEqual([]);
  });

  test("what expired from the first store, and data that nobody committed", async () => {
    await plantData(store);
    const { manifestName: name } = await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    await copy();
    await store.remove(name, calm);
    await copy();
    // Its own retention decides what becomes of it in the copy.
    expect((await listRepository(offsite, calm)).backups).toHaveLength(1);
    expect([...offsite.objects.keys()].filter((object) => object.includes("/snapshots/"))).toHaveLength(2);
  });

  test("a copy that was committed after the copy had given up its data fails, and nobody believes it", async () => {
    const { snapshot, lineage, backup } = await plantBackup(store, { timeMs: noon, schedule: "hourly" });
    const create = offsite.create;
    offsite.create = async (name, body, signal) => {
      if (name === manifestName(lineage, backup)) {
        const mark = { repository: repositoryId, lineage, snapshot, why: "orphan" as const };
        await markGone({ ...offsite, create }, { ...mark, madeAt: new Date(noon).toISOString() }, undefined, calm);
      }
      await create(name, body, signal);
    };
    expect(await copy()).toMatchObject({ failed: [{ backup, fault: { code: "backup-late" } }] });
    expect(offsite.objects.has(goneName(lineage, snapshot))).toBe(true);
    const belief = { repository: repositoryId, trusted: undefined };
    const entries = await Array.fromAsync((await openWholeCatalog(offsite, belief, 8, calm)).entries);
    expect(entries.map(({ manifest }) => manifest)).toEqual([undefined]);
  });
});

test("the manifest of an old slot is copied as it is, whoever planted it", async () => {
  const { snapshot, changes } = await plantData(store);
  const planted = await plantManifest(
    store,
    { timeMs: noon - 400 * 24 * hourMs, schedule: "yearly" },
    snapshot,
    changes,
  );
  expect(await copy()).toMatchObject({ copied: 1 });
  expect(offsite.objects.get(planted.manifestName)?.bytes).toEqual(store.objects.get(planted.manifestName)?.bytes);
});
