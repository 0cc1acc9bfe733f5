import { beforeEach, expect, test } from "vitest";
import { openCopies, type Copies } from "../../src/daemon/copy.ts";
import { expireCopies } from "../../src/daemon/expire.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { listRepository } from "../../src/repository/listing.ts";
import type { CopyDependencies } from "../../src/snapshot/copy.ts";
import type { RetentionPolicy } from "../../src/snapshot/keep.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { plantBackup, plantLineage, plantRepository } from "../repository/plant.ts";
import { calm } from "../snapshot/bytes.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const noon = Date.UTC(2026, 2, 1, 12);

let clock: SteeredClock;
let store: MemoryStore;
let events: LifeboatEvent[];
let stop: AbortController;
let closed: Fault | undefined;
beforeEach(async () => {
  clock = steeredClock(noon);
  store = memoryStore(() => clock.now());
  events = [];
  stop = new AbortController();
  closed = undefined;
  await plantRepository(store);
  await plantLineage(store);
  await plantBackup(store, { timeMs: noon - 5 * hourMs, schedule: "hourly" });
  await clock.advance(hourMs);
});

const openStore = (): MemoryStore => memoryStore(() => clock.now());

function open(
  targets: Record<string, MemoryStore>,
  policy?: RetentionPolicy,
): { copies: Copies; ended: Promise<void> } {
  const emit = (event: LifeboatEvent): void => void events.push(event);
  const copies = openCopies({
    copies: Object.entries(targets).map(([name, target]): CopyDependencies => ({
      store,
      target: { name, store: target },
      cluster: "prod",
      trusted: undefined,
      readBackBelowBytes: undefined,
      clock,
      emit,
    })),
    schedules: ["hourly"],
    clock,
    emit,
    gate: async () => closed,
    expire: expireCopies({
      cluster: "prod",
      trusted: undefined,
      signer: undefined,
      catalogDirectory: "/nowhere/catalog",
      policy,
      coordination: "coordination",
      clock,
      emit,
      gate: async () => closed,
    }),
  });
  return { copies, ended: copies.run(stop.signal) };
}

async function end(ended: Promise<void>): Promise<void> {
  stop.abort(new Fault("interrupted", "stopped"));
  await ended;
}

async function backupsIn(target: MemoryStore): Promise<number> {
  return (await listRepository(target, calm)).backups.length;
}

test("at its start a copy gets what it lacks, whoever committed it", async () => {
  const offsite = openStore();
  const { ended } = open({ offsite });
  await clock.advance(1000);
  expect(await backupsIn(offsite)).toBe(1);
  await end(ended);
});

test("what this process commits is copied at once, and what another one commits after its time to do so", async () => {
  const offsite = openStore();
  const { copies, ended } = open({ offsite });
  await clock.advance(1000);
  const own = await plantBackup(store, { timeMs: clock.now(), schedule: "hourly" });
  await plantBackup(store, { timeMs: clock.now() });
  copies.committed(own);
  await clock.advance(1000);
  expect(await backupsIn(offsite)).toBe(2);
  await clock.advance(20 * minuteMs);
  expect(await backupsIn(offsite)).toBe(3);
  await end(ended);
});

test("a copy that is dead is tried again with growing pauses, is told, and delays neither the other copy nor itself when it lives again", async () => {
  const [dead, alive] = [openStore(), openStore()];
  let works = false;
  const read = dead.read;
  dead.read = async (name, signal) => {
    if (!works) throw new Fault("store-unreachable", "no connection");
    return await read(name, signal);
  };
  const { copies, ended } = open({ dead, alive });
  await clock.advance(hourMs);
  copies.committed(await plantBackup(store, { timeMs: clock.now(), schedule: "hourly" }));
  await clock.advance(1000);
  expect(await backupsIn(alive)).toBe(2);
  const failures = events.filter((event) => event.name === "copy.failed");
  expect(failures.length).toBeGreaterThan(5);
  expect(failures.length).toBeLessThan(30);
  expect(new Set(failures.map((event) => event.store))).toEqual(new Set(["dead"]));
  works = true;
  await clock.advance(10 * minuteMs);
  expect(await backupsIn(dead)).toBe(2);
  await end(ended);
});

test("a copy that hangs for ever holds up neither its neighbour nor the end", async () => {
  const [hung, alive] = [openStore(), openStore()];
  hung.trouble({ method: "upload", delay: Promise.withResolvers<void>().promise });
  const { copies, ended } = open({ hung, alive });
  await clock.advance(1000);
  copies.committed(await plantBackup(store, { timeMs: clock.now(), schedule: "hourly" }));
  await clock.advance(1000);
  expect(await backupsIn(alive)).toBe(2);
  expect(hung.calls.some(({ method }) => method === "upload")).toBe(true);
  await end(ended);
});

test("nothing is copied while the repository is paused, and all of it soon after", async () => {
  const offsite = openStore();
  closed = new Fault("paused", "disks are replaced");
  const { ended } = open({ offsite });
  await clock.advance(hourMs);
  expect(offsite.calls).toEqual([]);
  closed = undefined;
  await clock.advance(minuteMs);
  expect(await backupsIn(offsite)).toBe(1);
  await end(ended);
});

test("a copy is expired by the same rules, by itself, after it was brought up to date: what was removed from the first store stays by these", async () => {
  const offsite = openStore();
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
    schedules: ["hourly"],
  };
  const planted = [];
  for (const hours of [4, 3])
    planted.push(await plantBackup(store, { timeMs: noon - hours * hourMs, schedule: "hourly" }));
  await clock.advance(hourMs);
  const { ended } = open({ offsite }, policy);
  const expired = (): number => events.filter(({ name }) => name === "copy.expired").length;
  await until(() => expired() === 1 && clock.sleepers() > 0);
  expect(events.filter(({ name }) => name === "copy.expired")).toMatchObject([{ store: "offsite", expired: 1 }]);
  expect(events.some(({ name }) => name === "retention.applied")).toBe(false);
  expect(await backupsIn(offsite)).toBe(2);
  // Somebody empties the first store.
  for (const { manifestName } of planted) await store.remove(manifestName, calm);
  // Not further: time that passes while files are written would be a clock that is wrong.
  await clock.advance(61 * minuteMs);
  await until(() => expired() === 2);
  expect(await backupsIn(offsite)).toBe(2);
  await end(ended);
});

/** Retention keeps what it read in files, which take their own time. */
async function until(condition: () => boolean): Promise<void> {
  await expect.poll(async () => (await clock.advance(0), condition())).toBe(true);
}

test("an end in the middle of a copy leaves no manifest, and the next process goes on", async () => {
  const offsite = openStore();
  const gate = Promise.withResolvers<void>();
  offsite.trouble({ method: "upload", nth: 2, delay: gate.promise });
  const { ended } = open({ offsite });
  await clock.advance(1000);
  await end(ended);
  gate.resolve();
  await clock.advance(1000);
  expect(await backupsIn(offsite)).toBe(0);
  stop = new AbortController();
  const again = open({ offsite });
  await clock.advance(1000);
  expect(await backupsIn(offsite)).toBe(1);
  await end(again.ended);
});
