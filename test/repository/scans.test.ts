import { describe, expect, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault, isFault } from "../../src/faults.ts";
import { formatDuration, formatTime } from "../../src/format.ts";
import { acquireLock, pauseRepository, type LockScope } from "../../src/repository/lock.ts";
import { holdScan } from "../../src/repository/scans.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";

interface Rig {
  readonly store: MemoryStore;
  readonly clock: SteeredClock;
  readonly events: LifeboatEvent[];
  readonly at: (host: string) => LockScope;
  readonly scan: (host: string) => ReturnType<typeof holdScan>;
}

function openRig(): Rig {
  const clock = steeredClock(Date.UTC(2026, 2, 1, 12));
  const store = memoryStore(() => clock.now());
  const events: LifeboatEvent[] = [];
  let count = 0;
  const at = (host: string): LockScope => ({
    store,
    cluster: "prod",
    prefix: "coordination",
    clock,
    newId: () => `01JQ${String(++count).padStart(22, "0")}`,
    author: { host, user: "root", pid: 1, version: "0.1.0" },
    describe: { time: formatTime, duration: formatDuration },
  });
  return { store, clock, events, at, scan: (host) => holdScan(at(host), (event) => events.push(event), calm) };
}

describe("a scan of members", () => {
  test("waits for another daemon's, and never runs beside it", async () => {
    const rig = openRig();
    let running = 0;
    let most = 0;
    const scans = ["cp1", "cp2", "cp3"].map(async (host) => {
      const held = await rig.scan(host);
      if (isFault(held)) throw held;
      running += 1;
      most = Math.max(most, running);
      await rig.clock.sleep(3000, calm);
      running -= 1;
      await held[Symbol.asyncDispose]();
    });
    await rig.clock.advance(60_000);
    await Promise.all(scans);
    expect(most).toBe(1);
    // Two entries for a scan: it takes the lock, and gives it back.
    expect(rig.store.objects.size).toBe(6);
  });

  test("is put off where its turn does not come in time, while the repository is paused, and where the store does not answer", async () => {
    const rig = openRig();
    const restore = await acquireLock(rig.at("cp1"), "restore", false, calm);
    const put = rig.scan("cp2");
    await rig.clock.advance(30_000);
    expect(await put).toMatchObject({ code: "locked", message: expect.stringContaining("held by restore") });
    await restore[Symbol.asyncDispose]();
    const struck = rig.store.trouble({
      method: "create",
      name: "lock/",
      nth: 1,
      fail: new Fault("store-unreachable", "gone"),
    });
    expect(await rig.scan("cp2")).toMatchObject({ code: "store-unreachable" });
    expect(struck()).toBe(1);
    await pauseRepository(rig.at("cp1"), "maintenance", calm);
    expect(await rig.scan("cp2")).toMatchObject({ code: "paused" });
  });

  test("that cannot give the lock back says so, and others have it once it is silent", async () => {
    const rig = openRig();
    const held = await rig.scan("cp1");
    if (isFault(held)) throw held;
    const struck = rig.store.trouble({ method: "create", nth: 1, fail: new Fault("store-unreachable", "gone") });
    await held[Symbol.asyncDispose]();
    expect(struck()).toBe(1);
    expect(rig.events).toMatchObject([{ name: "warning", about: "lock" }]);
    await rig.clock.advance(6 * 60_000);
    expect(isFault(await rig.scan("cp2"))).toBe(false);
  });
});
