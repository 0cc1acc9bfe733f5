import { describe, expect, test } from "vitest";
import { parseCron } from "../../src/config/cron.ts";
import { runSchedules, type LoopDependencies } from "../../src/daemon/loop.ts";
import type { LifeboatEvent, Phase } from "../../src/events.ts";
import { Fault, isFault } from "../../src/faults.ts";
import { createRepository } from "../../src/repository/identity.ts";
import { createLineage } from "../../src/repository/lineage.ts";
import { writeManifest } from "../../src/repository/manifest.ts";
import { formatBackupName, manifestName } from "../../src/repository/names.ts";
import type { BackupOutcome, BackupRequest, FailedBackup } from "../../src/snapshot/backup.ts";
import { unknown } from "../../src/snapshot/prove.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { lineageId, repositoryId, sampleManifest } from "../repository/sample.ts";
import { calm } from "../snapshot/bytes.ts";

const hour = 3_600_000;
const start = Date.parse("2026-03-01T12:20:00Z");
const at = (text: string): number => Date.parse(`2026-03-${text}Z`);

interface Loop {
  readonly clock: SteeredClock;
  readonly store: MemoryStore;
  readonly events: LifeboatEvent[];
  /** `SCHEDULE SLOT` of every attempt. */
  readonly attempts: string[];
  /** What the next attempts do instead of committing. */
  readonly instead: (() => Promise<BackupOutcome | FailedBackup>)[];
  /** Whether the loop waits for work that takes as long as it takes: a backup, or the store's answer. */
  readonly busy: { readonly now: number };
  /** Why no backup may begin. */
  readonly gate: { closed: Fault | undefined };
  readonly stop: () => Promise<void>;
}

async function openLoop(
  options: {
    names?: readonly string[];
    cron?: string;
    dailyCron?: string;
    store?: MemoryStore;
    jitterMs?: number;
  } = {},
): Promise<Loop> {
  const clock = steeredClock(start);
  const store = options.store ?? memoryStore(() => clock.now());
  const events: LifeboatEvent[] = [];
  const attempts: string[] = [];
  const instead: (() => Promise<BackupOutcome | FailedBackup>)[] = [];
  const busy = { now: 0 };
  const gate: Loop["gate"] = { closed: undefined };
  const controller = new AbortController();
  const deps: LoopDependencies = {
    cluster: "prod",
    schedules: (options.names ?? ["hourly"]).map((name) => ({
      name,
      fields: parseCron((name === "daily" ? options.dailyCron : undefined) ?? options.cron ?? "0 * * * *"),
      timeZone: "UTC",
      jitterMs: options.jitterMs ?? 0,
    })),
    store,
    trusted: undefined,
    clock,
    emit: (event) => events.push(event),
    backup: async (request: BackupRequest, _signal, refused): Promise<BackupOutcome | FailedBackup> => {
      if (request.trigger !== "schedule") throw new Error("not by schedule");
      attempts.push(`${request.schedule} ${new Date(request.slotMs).toISOString().slice(8, 16)}`);
      if (refused !== undefined) return { kind: "failed", fault: refused, phase: "choose" };
      const next = instead.shift();
      if (next !== undefined) return next();
      try {
        const manifest = await commit(store, request.slotMs, request.schedule, clock.now());
        return {
          kind: "committed",
          manifest,
          manifestSha256: "0".repeat(64),
          finding: unknown("not asked"),
          proof: undefined,
        };
      } catch (error) {
        if (isFault(error)) return { kind: "failed", fault: error, phase: "choose" };
        throw error;
      }
    },
    gate: async () => gate.closed,
    onTurn: () => undefined,
    during: async (work) => {
      busy.now += 1;
      try {
        return await work();
      } finally {
        busy.now -= 1;
      }
    },
  };
  const running = runSchedules(deps, controller.signal);
  await clock.advance(0);
  return {
    clock,
    store,
    events,
    attempts,
    instead,
    busy,
    gate,
    stop: async () => {
      controller.abort(new Fault("interrupted", "stop"));
      await running;
    },
  };
}

async function commit(
  store: MemoryStore,
  slotMs: number,
  schedule = "hourly",
  committedMs = slotMs,
  lineage = lineageId,
): Promise<ReturnType<typeof sampleManifest>> {
  await createRepository(store, "prod", { repository: repositoryId, firstLineage: lineageId }, 0, calm);
  const about = {
    repository: repositoryId,
    lineage,
    kind: "live",
    clusterId: "1",
    parent: null,
    minimumRevision: 0n,
    reason: "test",
  } as const;
  await createLineage(store, about, 0, calm);
  const backup = formatBackupName({ kind: "slot", timeMs: slotMs, schedule });
  const manifest = sampleManifest({
    backup,
    lineage,
    slot: { schedule, time: new Date(slotMs).toISOString() },
    committedAt: new Date(committedMs).toISOString(),
  });
  await store.create(manifestName(lineage, backup), writeManifest(manifest, undefined), calm);
  return manifest;
}

const named = <N extends LifeboatEvent["name"]>(loop: Loop, name: N): Extract<LifeboatEvent, { name: N }>[] =>
  loop.events.filter((event): event is Extract<LifeboatEvent, { name: N }> => event.name === name);
const failing =
  (code: "etcd-unreachable" | "lineage-foreign" | "store-denied", phase: Phase = "choose") =>
  async (): Promise<FailedBackup> => ({ kind: "failed", fault: new Fault(code, "no"), phase });

describe("the schedules", () => {
  test("do not upload a whole database every few minutes when every run fails after its upload", async () => {
    const loop = await openLoop();
    await loop.stop();
    const failed = await openLoop({ store: memoryStore(() => start) });
    for (let n = 0; n < 100; n += 1) failed.instead.push(failing("store-denied", "commit"));
    const before = failed.attempts.length;
    await failed.clock.advance(24 * hour);
    expect(failed.attempts.length - before).toBeLessThan(35);
    expect(failed.attempts.length - before).toBeGreaterThan(20);
    await failed.stop();
  });

  test("make the first backup at once, for the latest past slot, then one per slot", async () => {
    const loop = await openLoop();
    expect(loop.attempts).toEqual(["hourly 01T12:00"]);
    await loop.clock.advance(3 * hour);
    expect(loop.attempts).toEqual(["hourly 01T12:00", "hourly 01T13:00", "hourly 01T14:00", "hourly 01T15:00"]);
    expect(named(loop, "schedule.planned").map(({ nextRunMs }) => nextRunMs - at("01T12:00"))).toEqual([
      hour,
      2 * hour,
      3 * hour,
      4 * hour,
    ]);
    await loop.stop();
  });

  test("remember across a restart what was committed, and tell it", async () => {
    const store = memoryStore();
    await commit(store, at("01T11:00"), "hourly", at("01T11:03"));
    await commit(store, at("01T12:00"), "hourly", at("01T12:03"));
    const loop = await openLoop({ store });
    expect(loop.attempts).toEqual([]);
    expect(named(loop, "schedule.read")).toEqual([
      {
        name: "schedule.read",
        schedule: "hourly",
        lastSlotMs: at("01T12:00"),
        lastSuccessMs: at("01T12:03"),
        backups: 2,
      },
    ]);
    await loop.stop();
  });

  test("ask the newest history alone what is committed: slots of one that is over serve nobody", async () => {
    const store = memoryStore();
    const later = `${lineageId.slice(0, -1)}Z`;
    await commit(store, at("01T10:00"), "hourly", at("01T10:03"), later);
    await commit(store, at("01T12:00"), "hourly", at("01T12:03"));
    await commit(store, at("01T12:00"), "daily", at("01T12:04"));
    const loop = await openLoop({ store, names: ["hourly", "daily"] });
    expect(named(loop, "schedule.read").slice(0, 2)).toMatchObject([
      { schedule: "hourly", lastSlotMs: at("01T10:00"), lastSuccessMs: at("01T10:03"), backups: 2 },
      { schedule: "daily", lastSlotMs: undefined, lastSuccessMs: undefined, backups: 1 },
    ]);
    await loop.stop();
  });

  test("that find another history adopted serve the latest slot of each schedule in it at once, and once", async () => {
    const loop = await openLoop({ names: ["hourly", "daily"], dailyCron: "0 0 * * *" });
    expect(loop.attempts).toEqual(["hourly 01T12:00", "daily 01T00:00"]);
    const later = `${lineageId.slice(0, -1)}Z`;
    const inLater = (schedule: string, slot: string) => async (): Promise<BackupOutcome> => ({
      kind: "committed",
      manifest: await commit(loop.store, at(slot), schedule, loop.clock.now(), later),
      manifestSha256: "0".repeat(64),
      finding: unknown("not asked"),
      proof: undefined,
    });
    loop.instead.push(inLater("hourly", "01T13:00"), inLater("daily", "01T00:00"));
    loop.instead.push(inLater("hourly", "01T14:00"));
    await loop.clock.advance(at("01T14:30") - loop.clock.now());
    expect(loop.attempts.slice(2)).toEqual(["hourly 01T13:00", "daily 01T00:00", "hourly 01T14:00"]);
    await loop.stop();
  });

  test("tell a manifest that is refused, and do not count it as a success", async () => {
    const store = memoryStore();
    await commit(store, at("01T11:00"), "hourly", at("01T11:03"));
    await store.create(manifestName(lineageId, "20260301T120000Z.slot.hourly"), Buffer.from("{}"), calm);
    const loop = await openLoop({ store });
    expect(named(loop, "schedule.read")[0]?.lastSuccessMs).toBe(at("01T11:03"));
    expect(named(loop, "warning").map(({ about }) => about)).toEqual(["manifest"]);
    await loop.stop();
  });

  test("retry a failed backup with growing pauses, and go on with the next slot", async () => {
    const loop = await openLoop();
    loop.instead.push(...Array.from({ length: 5 }, () => failing("etcd-unreachable")));
    const times: number[] = [];
    let seen = loop.attempts.length;
    await loop.clock.advance(at("01T13:00") - loop.clock.now());
    for (let second = 0; second < 300; second += 1) {
      if (loop.attempts.length > seen) times.push(second);
      seen = loop.attempts.length;
      await loop.clock.advance(1000);
    }
    expect(times).toEqual([0, 5, 15, 35, 75, 155]);
    expect(new Set(loop.attempts.slice(1))).toEqual(new Set(["hourly 01T13:00"]));
    await loop.clock.advance(hour);
    expect(loop.attempts.at(-1)).toBe("hourly 01T14:00");
    await loop.stop();
  });

  test("one schedule that fails does not hold up another", async () => {
    const loop = await openLoop({ names: ["a", "b"] });
    loop.instead.push(failing("lineage-foreign"));
    await loop.clock.advance(hour);
    expect(loop.attempts).toEqual(["a 01T12:00", "b 01T12:00", "a 01T13:00", "b 01T13:00", "a 01T13:00"]);
    await loop.stop();
  });

  test("read the repository again when another daemon was faster, without running hot", async () => {
    const loop = await openLoop();
    loop.instead.push(async () => {
      const { backup } = await commit(loop.store, at("01T13:00"));
      return { kind: "superseded", lineage: lineageId, backup, repeated: false };
    });
    await loop.clock.advance(hour);
    expect(loop.attempts).toEqual(["hourly 01T12:00", "hourly 01T13:00"]);
    expect(named(loop, "schedule.read").at(-1)).toMatchObject({ lastSlotMs: at("01T13:00"), backups: 2 });
    // Also when the listing does not show it yet.
    loop.instead.push(async () => ({
      kind: "superseded",
      lineage: lineageId,
      backup: "20260301T140000Z.slot.hourly",
      repeated: false,
    }));
    await loop.clock.advance(hour);
    expect(loop.attempts.slice(2)).toEqual(["hourly 01T14:00"]);
    await loop.stop();
  });

  test("wait for a store that is down at the start, tell it, and begin when it is up", async () => {
    const store = memoryStore();
    let down = true;
    const read = store.read.bind(store);
    const flaky: MemoryStore = {
      ...store,
      read: (name, signal) => (down ? Promise.reject(new Fault("store-unreachable", "no route")) : read(name, signal)),
    };
    const loop = await openLoop({ store: flaky });
    await loop.clock.advance(60_000);
    expect(loop.attempts).toEqual([]);
    const told = named(loop, "store.observed");
    expect(told.length).toBeGreaterThan(3);
    expect(told.length).toBeLessThan(15);
    expect(told[0]).toMatchObject({ up: false, message: "no route" });
    down = false;
    await loop.clock.advance(15_000);
    expect(loop.attempts).toEqual(["hourly 01T12:00"]);
    await loop.stop();
  });

  test("make one backup each after the machine was suspended for three days, and count what was missed", async () => {
    const loop = await openLoop({ names: ["a", "b"] });
    loop.clock.jump(72 * hour);
    await loop.clock.advance(20_000);
    expect(loop.attempts.slice(2)).toEqual(["a 04T12:00", "b 04T12:00"]);
    expect(named(loop, "schedule.missed").map(({ slots }) => slots)).toEqual([71, 71]);
    await loop.stop();
  });

  test("count every slot that passes while one that failed is tried again, and none twice", async () => {
    const loop = await openLoop({ cron: "* * * * *" });
    const before = loop.attempts.length;
    // After an upload the pauses are 1, 2, 4, 8 and 16 minutes.
    loop.instead.push(...Array.from({ length: 5 }, () => failing("etcd-unreachable", "readback")));
    await loop.clock.advance(hour);
    const tried = new Set(loop.attempts.slice(before));
    const missed = named(loop, "schedule.missed").map(({ slots }) => slots);
    expect(missed).toEqual([1, 3, 7, 15]);
    // Each of the sixty was tried, or told as missed.
    expect(tried.size + missed.reduce((sum, slots) => sum + slots, 0)).toBe(60);
    await loop.stop();
  });

  test("go on after the clock was far ahead for a while: a slot of the future does not end all backups until then", async () => {
    const loop = await openLoop();
    loop.clock.jump(10_000 * hour);
    await loop.clock.advance(20_000);
    expect(loop.attempts).toHaveLength(2);
    loop.clock.jump(-10_000 * hour);
    await loop.clock.advance(2 * hour);
    expect(loop.attempts.slice(2)).toEqual(["hourly 01T13:00", "hourly 01T14:00"]);
    const store = loop.store;
    await loop.stop();
    const again = await openLoop({ store });
    expect(named(again, "warning")).toMatchObject([{ about: "clock" }]);
    await again.clock.advance(3 * hour);
    expect(again.attempts).toContain("hourly 01T15:00");
    await again.stop();
  });

  test("neither repeat nor lose a slot when the clock is put back", async () => {
    const loop = await openLoop();
    await loop.clock.advance(hour);
    loop.clock.jump(-hour / 2);
    await loop.clock.advance(2 * hour);
    expect(loop.attempts).toEqual(["hourly 01T12:00", "hourly 01T13:00", "hourly 01T14:00"]);
    await loop.stop();
  });

  test("let a backup of another cluster's repository fail with its own words instead of waiting in silence", async () => {
    const store = memoryStore();
    await createRepository(store, "other", { repository: repositoryId, firstLineage: lineageId }, 0, calm);
    const loop = await openLoop({ store });
    expect(loop.attempts).toEqual(["hourly 01T12:00"]);
    await loop.stop();
  });

  test("let a backup fail loudly when repository.json was removed, and do not begin another repository", async () => {
    const store = memoryStore();
    await commit(store, at("01T11:00"));
    await store.remove("repository.json", calm);
    const loop = await openLoop({ store });
    expect(loop.attempts).toEqual(["hourly 01T12:00"]);
    await loop.stop();
  });

  test("are not hung while a store keeps them waiting for its answer", async () => {
    const store = memoryStore();
    let answer = (): void => undefined;
    const struck = store.trouble({ method: "read", delay: new Promise<void>((resolve) => (answer = resolve)) });
    const loop = await openLoop({ store });
    expect([struck(), loop.busy.now]).toEqual([1, 1]);
    answer();
    await loop.clock.advance(0);
    expect(loop.attempts).toEqual(["hourly 01T12:00"]);
    expect(loop.busy.now).toBe(0);
    await loop.stop();
  });

  test("are not hung while a backup takes hours", async () => {
    const loop = await openLoop();
    expect(loop.busy.now).toBe(0);
    let end = (): void => undefined;
    const long = new Promise<void>((resolve) => (end = resolve));
    loop.instead.push(async () => {
      await long;
      return { kind: "failed", fault: new Fault("failed", "after hours"), phase: "upload" };
    });
    await loop.clock.advance(hour);
    expect([loop.attempts.length, loop.busy.now]).toEqual([2, 1]);
    end();
    await loop.clock.advance(0);
    expect(loop.busy.now).toBe(0);
    await loop.stop();
  });

  test("end promptly when they are told to, also in the middle of a backup", async () => {
    const loop = await openLoop();
    await loop.stop();
    expect(loop.clock.sleepers()).toBe(0);
  });

  test("say what was missed only after another look: while this daemon slept, others may have served it", async () => {
    const loop = await openLoop();
    await commit(loop.store, at("01T13:00"));
    await commit(loop.store, at("01T14:00"));
    loop.clock.jump(3 * hour);
    await loop.clock.advance(15_000);
    expect(loop.attempts).toEqual(["hourly 01T12:00", "hourly 01T15:00"]);
    expect(named(loop, "schedule.missed")).toEqual([]);
    await loop.stop();
  });

  test("take a backup also where another look takes longer than it is to the next slot", async () => {
    const loop = await openLoop();
    const { list } = loop.store;
    loop.store.list = async function* slow(range, signal) {
      await loop.clock.sleep(hour, signal);
      yield* list(range, signal);
    };
    loop.clock.jump(3 * hour);
    await loop.clock.advance(12 * hour);
    expect(loop.attempts.length).toBeGreaterThan(1);
    await loop.stop();
  });

  test("tell every slot that passes while runs fail: each is tried, or counted as missed, once", async () => {
    const loop = await openLoop();
    for (let n = 0; n < 40; n += 1) loop.instead.push(failing("store-denied", "commit"));
    await loop.clock.advance(24 * hour);
    const tried = new Set(loop.attempts.map((attempt) => attempt.split(" ")[1]));
    const missed = named(loop, "schedule.missed").reduce((sum, { slots }) => sum + slots, 0);
    expect(tried.size + missed).toBe(25);
    await loop.stop();
  });

  test("wait while the gate is closed, say why once a slot and not as a failure, and catch up with one backup", async () => {
    const loop = await openLoop();
    loop.gate.closed = new Fault("paused", "the repository is paused");
    await loop.clock.advance(5 * hour);
    expect(loop.attempts).toEqual(["hourly 01T12:00"]);
    expect(named(loop, "backup.failed")).toEqual([]);
    expect(named(loop, "schedule.missed")).toEqual([]);
    const held = named(loop, "schedule.held");
    expect(new Set(held.map(({ slotMs }) => slotMs))).toEqual(
      new Set(["13", "14", "15", "16", "17"].map((at_) => at(`01T${at_}:00`))),
    );
    expect(held[0]).toMatchObject({ schedule: "hourly", code: "paused", message: "the repository is paused" });
    loop.gate.closed = undefined;
    await loop.clock.advance(60_000);
    expect(loop.attempts.slice(1)).toEqual(["hourly 01T17:00"]);
    expect(named(loop, "schedule.missed").map(({ slots }) => slots)).toEqual([4]);
    await loop.stop();
  });

  test("fail where the store cannot even be asked for the lock: that is an outage and no pause", async () => {
    const loop = await openLoop();
    loop.gate.closed = new Fault("store-unreachable", "the store cannot be reached");
    await loop.clock.advance(hour);
    expect(loop.attempts.slice(0, 2)).toEqual(["hourly 01T12:00", "hourly 01T13:00"]);
    expect(named(loop, "schedule.held")).toEqual([]);
    loop.gate.closed = undefined;
    await loop.clock.advance(hour);
    expect(loop.attempts.at(-1)).toBe("hourly 01T14:00");
    await loop.stop();
  });

  test("that are retired end after the backup that runs, and at once where none does", async () => {
    const clock = steeredClock(start);
    const retire = new AbortController();
    let finish = (): void => undefined;
    const events: string[] = [];
    const deps: LoopDependencies = {
      cluster: "prod",
      schedules: ["a", "b"].map((name) => ({ name, fields: parseCron("0 * * * *"), timeZone: "UTC", jitterMs: 0 })),
      store: memoryStore(),
      trusted: undefined,
      clock,
      emit: () => undefined,
      async backup(request, signal) {
        if (request.trigger === "schedule") events.push(`begin ${request.schedule}`);
        await new Promise<void>((resolve) => (finish = resolve));
        events.push(signal.aborted ? "aborted" : "end");
        return { kind: "superseded", lineage: lineageId, backup: "20260301T120000Z.slot.a", repeated: false };
      },
      gate: async () => undefined,
      onTurn: () => undefined,
      during: (work) => work(),
      retire: retire.signal,
    };
    let over = false;
    const running = runSchedules(deps, calm).then(() => (over = true));
    await clock.advance(0);
    retire.abort();
    await clock.advance(60_000);
    expect([events, over]).toEqual([["begin a"], false]);
    finish();
    await running;
    expect(events).toEqual(["begin a", "end"]);
    expect(clock.sleepers()).toBe(0);
  });

  test("a bug is no failed backup: it ends the daemon", async () => {
    const clock = steeredClock(start);
    const store = memoryStore();
    const schedule = { name: "hourly", fields: parseCron("0 * * * *"), timeZone: "UTC", jitterMs: 0 };
    const deps: LoopDependencies = {
      cluster: "prod",
      schedules: [schedule],
      store,
      trusted: undefined,
      clock,
      emit: () => undefined,
      backup: () => Promise.reject(new TypeError("x is not a function")),
      gate: async () => undefined,
      onTurn: () => undefined,
      during: (work) => work(),
    };
    await expect(runSchedules(deps, calm)).rejects.toThrow(TypeError);
  });
});
