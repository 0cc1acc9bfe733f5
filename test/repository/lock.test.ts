import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault, isFault } from "../../src/faults.ts";
import { formatDuration, formatTime } from "../../src/format.ts";
import { closedGate, judgeLock, type LockLog, type Purpose } from "../../src/repository/gates.ts";
import {
  acquireLock,
  pauseRepository,
  readLock,
  resumeRepository,
  unlockRepository,
  type LockScope,
} from "../../src/repository/lock.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";

const startMs = Date.UTC(2026, 2, 1, 12);
const describeTimes = { time: formatTime, duration: formatDuration };
const logNames = (store: MemoryStore): readonly string[] => [...store.objects.keys()].toSorted();

interface Rig {
  readonly store: MemoryStore;
  readonly clock: SteeredClock;
  /** The lock as the daemon or operator of a host sees it. */
  readonly at: (host: string) => LockScope;
}

function openRig(): Rig {
  const clock = steeredClock(startMs);
  const store = memoryStore(() => clock.now());
  let count = 0;
  return {
    store,
    clock,
    at: (host) => ({
      store,
      cluster: "prod",
      prefix: "coordination",
      clock,
      newId: () => `01JQ${String(++count).padStart(22, "0")}`,
      author: { host, user: "root", pid: 4711, version: "0.1.0" },
      describe: describeTimes,
    }),
  };
}

async function closed(rig: Rig, purpose: Purpose = "backup"): Promise<string | undefined> {
  const fault = closedGate(judgeLock(await readLock(rig.at("x"), calm), rig.clock.now()), purpose, describeTimes);
  return fault === undefined ? undefined : `${fault.code}: ${fault.message}`;
}

async function faultOf(work: PromiseLike<unknown>): Promise<Fault> {
  try {
    await work;
  } catch (error) {
    if (isFault(error)) return error;
    throw error;
  }
  throw new Error("it was expected to fail");
}

function put(rig: Rig, name: string, text: string): void {
  rig.store.objects.set(name, { bytes: Buffer.from(text), modifiedMs: rig.clock.now() });
}

describe("a pause", () => {
  test("stops backups, expiry and scans until it is ended, says whose it is, and what is there already stays", async () => {
    const rig = openRig();
    expect(await closed(rig)).toBeUndefined();
    expect(await pauseRepository(rig.at("cp1"), "disks\nare replaced", calm)).toBeUndefined();
    const why =
      "paused: the repository is paused since 2026-03-01T12:00:00Z by root on cp1 (process 4711): disks\nare replaced";
    for (const purpose of ["backup", "expiry", "scan"] as const) expect(await closed(rig, purpose)).toBe(why);
    for (const purpose of ["restore", "upgrade", "defragment"] as const) {
      expect(await closed(rig, purpose)).toBeUndefined();
    }
    await rig.clock.advance(60_000);
    expect(await pauseRepository(rig.at("cp2"), "another reason", calm)).toMatchObject({ by: { host: "cp1" } });
    expect(await closed(rig)).toBe(why);
    expect(await resumeRepository(rig.at("cp2"), calm)).toMatchObject({ by: { host: "cp1" } });
    expect(await resumeRepository(rig.at("cp2"), calm)).toBeUndefined();
    expect(await closed(rig)).toBeUndefined();
    expect(logNames(rig.store)).toEqual(["coordination/lock/000000001.json", "coordination/lock/000000002.json"]);
  });

  test("writes once, create-only, and removes nothing", async () => {
    const rig = openRig();
    await pauseRepository(rig.at("cp1"), "", calm);
    await resumeRepository(rig.at("cp1"), calm);
    expect(new Set(rig.store.calls.map(({ method }) => method))).toEqual(new Set(["list", "create", "read"]));
  });

  test("whose answer was lost is one pause", async () => {
    const rig = openRig();
    const struck = rig.store.trouble({ method: "create", nth: 1, loseReply: new Fault("store-unreachable", "gone") });
    await faultOf(pauseRepository(rig.at("cp1"), "", calm));
    expect(struck()).toBe(1);
    expect(await pauseRepository(rig.at("cp1"), "", calm)).toMatchObject({ by: { host: "cp1" } });
    expect(rig.store.objects.size).toBe(1);
  });

  test("with too long a reason is refused before anything is written", async () => {
    const rig = openRig();
    expect((await faultOf(pauseRepository(rig.at("cp1"), "x".repeat(501), calm))).code).toBe("usage");
    expect(rig.store.objects.size).toBe(0);
  });
});

describe("a log that has grown for years", () => {
  test.each([999, 1000, 1001, 9001])("of %i entries is read at its end, in a few questions", async (entries) => {
    const rig = openRig();
    await pauseRepository(rig.at("cp1"), "x", calm);
    const first = rig.store.objects.get("coordination/lock/000000001.json");
    const text = Buffer.from(first?.bytes ?? []).toString();
    for (let number = 2; number <= entries; number += 1) {
      const bytes = Buffer.from(text.replace('"number":1', `"number":${number}`));
      rig.store.objects.set(`coordination/lock/${String(number).padStart(9, "0")}.json`, {
        bytes,
        modifiedMs: startMs,
      });
    }
    const before = rig.store.calls.length;
    expect(await readLock(rig.at("cp2"), calm)).toMatchObject({
      highest: entries,
      damaged: [],
      paused: { reason: "x" },
    });
    expect(rig.store.calls.length - before).toBeLessThan(45);
    await resumeRepository(rig.at("cp2"), calm);
    expect(await closed(rig)).toBeUndefined();
  });

  test("is found at its end also where its beginning was removed, or somebody used up all numbers", async () => {
    const rig = openRig();
    await pauseRepository(rig.at("cp1"), "x", calm);
    const bytes = rig.store.objects.get("coordination/lock/000000001.json")?.bytes ?? new Uint8Array();
    const text = Buffer.from(bytes).toString();
    rig.store.objects.clear();
    for (let number = 3000; number < 4500; number += 1) {
      const entry = Buffer.from(text.replace('"number":1', `"number":${number}`));
      rig.store.objects.set(`coordination/lock/${String(number).padStart(9, "0")}.json`, {
        bytes: entry,
        modifiedMs: startMs,
      });
    }
    expect((await readLock(rig.at("cp2"), calm)).highest).toBe(4499);
    put(rig, "coordination/lock/999999999.json", "{}");
    expect(await readLock(rig.at("cp2"), calm)).toMatchObject({ highest: 999_999_999, damaged: [{}] });
  });
});

describe("an operation", () => {
  test("holds the lock against every other, is renewed each minute, and releases it", async () => {
    const rig = openRig();
    const held = await acquireLock(rig.at("cp1"), "restore", false, calm);
    const others = await faultOf(acquireLock(rig.at("cp2"), "upgrade", false, calm));
    expect([others.code, others.message]).toEqual([
      "locked",
      "the lock is held by restore since 2026-03-01T12:00:00Z, root on cp1 (process 4711); it was alive 0 ms ago",
    ]);
    expect(await closed(rig)).toContain("locked: the lock is held by restore");
    await rig.clock.advance(3_600_000);
    expect(await closed(rig)).toMatch(/it was alive (0 ms|\d+ s|1m 00s) ago$/);
    expect(held.lost.aborted).toBe(false);
    await held[Symbol.asyncDispose]();
    expect(await closed(rig)).toBeUndefined();
    // One entry a minute, and the two at the ends.
    expect(rig.store.objects.size).toBeLessThanOrEqual(62);
    expect(rig.clock.sleepers()).toBe(0);
  });

  test("that died keeps the lock until somebody unlocks it: what it left half-done must not be forgotten", async () => {
    const rig = openRig();
    await dead(rig, "restore", false);
    expect(await closed(rig)).toContain("it has been silent for 3d 00h");
    const refused = await faultOf(acquireLock(rig.at("cp2"), "upgrade", false, calm));
    expect(refused.hint).toContain("etcd-lifeboat unlock");
    await unlockRepository(rig.at("cp2"), await readLock(rig.at("cp2"), calm), calm);
    expect(await closed(rig)).toBeUndefined();
  });

  test("that stopped amid changes takes its own lock up again, from another process, and nobody else does", async () => {
    const rig = openRig();
    const id = "01JQ00000000000000000000ZZ";
    const first = await acquireLock(rig.at("cp1"), "restore", false, calm, id);
    await first.abandon();
    await rig.clock.advance(3_600_000);
    expect((await faultOf(acquireLock(rig.at("cp2"), "restore", false, calm))).code).toBe("locked");
    const again = await acquireLock(rig.at("cp2"), "restore", false, calm, id);
    expect(await closed(rig)).toContain("root on cp2 (process 4711); it was alive 0 ms ago");
    await again[Symbol.asyncDispose]();
    expect(await closed(rig)).toBeUndefined();
    expect(rig.clock.sleepers()).toBe(0);
  });

  test("that another machine went on with is told, renews no more, and leaves the lock to it", async () => {
    const rig = openRig();
    const id = "01JQ00000000000000000000ZZ";
    const first = await acquireLock(rig.at("cp1"), "restore", false, calm, id);
    const second = await acquireLock(rig.at("cp2"), "restore", false, calm, id);
    await rig.clock.advance(61_000);
    expect(first.lost.aborted).toBe(true);
    expect(first.lost.reason).toMatchObject({
      code: "locked",
      message: expect.stringMatching(/root on cp2 .* goes on with this operation/) as string,
    });
    await first[Symbol.asyncDispose]();
    expect(await closed(rig)).toMatch(/^locked: .*root on cp2/);
    expect(second.lost.aborted).toBe(false);
    await second[Symbol.asyncDispose]();
    expect(await closed(rig)).toBeUndefined();
  });

  test("that may lapse does so when it is silent for five minutes, and the next one takes over", async () => {
    const rig = openRig();
    await dead(rig, "scan", true);
    expect(await closed(rig, "scan")).toBeUndefined();
    await using held = await acquireLock(rig.at("cp2"), "scan", true, calm);
    expect(await closed(rig, "scan")).toContain("root on cp2");
    expect(await closed(rig, "backup")).toBeUndefined();
    expect(held.lost.aborted).toBe(false);
  });

  test("is told when the lock was taken away from it, and does not release another's", async () => {
    const rig = openRig();
    const held = await acquireLock(rig.at("cp1"), "restore", false, calm);
    await unlockRepository(rig.at("cp2"), await readLock(rig.at("cp2"), calm), calm);
    await using other = await acquireLock(rig.at("cp2"), "upgrade", false, calm);
    await rig.clock.advance(60_000);
    expect(held.lost.reason).toMatchObject({ code: "locked", message: "the lock was taken away from this operation" });
    await held[Symbol.asyncDispose]();
    expect(await closed(rig)).toContain("held by upgrade");
    expect(other.lost.aborted).toBe(false);
  });

  test("that cannot renew is told before others may think it dead", async () => {
    const rig = openRig();
    const held = await acquireLock(rig.at("cp1"), "scan", true, calm);
    const struck = rig.store.trouble({ method: "list", fail: new Fault("store-unreachable", "no route") });
    await rig.clock.advance(5 * 60_000 - 1);
    expect(struck()).toBeGreaterThan(2);
    expect(held.lost.reason).toMatchObject({ code: "locked", message: "the lock could not be renewed: no route" });
    await faultOf(held[Symbol.asyncDispose]());
  });

  test("that does not lapse is not lost by a store that does not answer, however long", async () => {
    const rig = openRig();
    const held = await acquireLock(rig.at("cp1"), "restore", false, calm);
    const struck = rig.store.trouble({ method: "list", fail: new Fault("store-unreachable", "no route") });
    await rig.clock.advance(60 * 60_000);
    expect(struck()).toBeGreaterThan(30);
    expect(held.lost.aborted).toBe(false);
    await held.abandon();
  });

  test("begins during a pause, and leaves it as it is", async () => {
    const rig = openRig();
    await pauseRepository(rig.at("cp1"), "maintenance", calm);
    const held = await acquireLock(rig.at("cp1"), "restore", false, calm);
    await held[Symbol.asyncDispose]();
    expect(await closed(rig)).toContain("maintenance");
  });

  test("is one of many that try at once, whatever the store does with their creates", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 8 }), fc.nat(20), async (many, lostAt) => {
        const rig = openRig();
        const loseReply = new Fault("store-unreachable", "gone");
        if (lostAt < many) rig.store.trouble({ method: "create", nth: lostAt + 1, loseReply });
        const tries = await Promise.allSettled(
          Array.from({ length: many }, (_, host) => acquireLock(rig.at(`cp${host}`), "restore", false, calm)),
        );
        const won = tries.filter(({ status }) => status === "fulfilled");
        expect(won.length).toBeLessThanOrEqual(1);
        const { holder } = await readLock(rig.at("x"), calm);
        if (won.length === 1) expect(holder?.operation).toBe("restore");
        for (const held of tries) if (held.status === "fulfilled") await held.value[Symbol.asyncDispose]();
      }),
      { numRuns: 50 },
    );
  });
});

/** An operation on a host that was switched off three days ago. */
async function dead(rig: Rig, operation: "restore" | "scan", lapses: boolean): Promise<void> {
  const elsewhere = openRig();
  await acquireLock({ ...elsewhere.at("cp1"), store: rig.store }, operation, lapses, calm);
  rig.clock.jump(3 * 24 * 3_600_000);
}

describe("an entry of nonsense", () => {
  const nonsense = [
    ["no JSON", "{"],
    ["an empty object", ""],
    ["a document of something else", '{"schema":"etcd-lifeboat/lineage/v1"}'],
    ["a format from the future", '{"schema":"etcd-lifeboat/lock/v2"}'],
    ["a JSON bomb of brackets", "[".repeat(100_000)],
    ["a text that steers terminals", '{"schema":"\u001b[2J"}'],
  ] as const;

  test.each(nonsense)(
    "%s closes the gate for an hour, is named, and then the newest readable entry decides",
    async (_, text) => {
      const rig = openRig();
      await pauseRepository(rig.at("cp1"), "maintenance", calm);
      put(rig, "coordination/lock/000000002.json", text);
      for (const purpose of ["backup", "restore"] as const) {
        const why = await closed(rig, purpose);
        expect(why).toContain("lock-damaged: the lock cannot be read, and nobody works before 2026-03-01T13:00:00Z");
        expect(why).toContain("coordination/lock/000000002.json");
      }
      rig.clock.jump(3_600_000);
      expect(await closed(rig)).toContain("paused: ");
      expect(await closed(rig, "restore")).toBeUndefined();
      const { damaged } = judgeLock(await readLock(rig.at("x"), calm), rig.clock.now());
      expect(damaged.map(({ name }) => name)).toEqual(["coordination/lock/000000002.json"]);
    },
  );

  test("is covered by unlock, resume and pause, which keep what could be read", async () => {
    const rig = openRig();
    await pauseRepository(rig.at("cp1"), "maintenance", calm);
    put(rig, "coordination/lock/000000002.json", "{");
    await unlockRepository(rig.at("cp2"), await readLock(rig.at("cp2"), calm), calm);
    expect(await closed(rig)).toContain("maintenance");
    put(rig, "coordination/lock/000000004.json", "{");
    await resumeRepository(rig.at("cp2"), calm);
    expect(await closed(rig)).toBeUndefined();
  });

  test("another cluster's entry, and one under another number, decide nothing", async () => {
    const rig = openRig();
    const other = { ...rig.at("cp1"), cluster: "test" };
    await pauseRepository(other, "", calm);
    expect(await closed(rig)).toContain('is of the lock of cluster "test", not of "prod"');
    const renamed = openRig();
    await pauseRepository(renamed.at("cp1"), "", calm);
    const [entry] = renamed.store.objects.values();
    renamed.store.objects.clear();
    if (entry !== undefined) renamed.store.objects.set("coordination/lock/000000007.json", entry);
    expect(await closed(renamed)).toContain("says that it is number 1");
  });

  test("names that are none of ours are passed over, and a number that leaves no next one is told with the remedy", async () => {
    const rig = openRig();
    for (const name of [
      "x.json",
      "1.json",
      "000000000.json",
      "0000000001.json",
      "000000003.json.bak",
      "sub/000000009.json",
    ]) {
      put(rig, `coordination/lock/${name}`, "{");
    }
    expect(await closed(rig)).toBeUndefined();
    put(rig, "coordination/lock/999999999.json", "{");
    const fault = await faultOf(pauseRepository(rig.at("cp1"), "", calm));
    expect(fault.code).toBe("lock-damaged");
    expect(fault.hint).toContain("repository.coordination.prefix");
  });

  test("many of them are read up to a bound, and a log of years costs one read", async () => {
    const rig = openRig();
    await pauseRepository(rig.at("cp1"), "", calm);
    for (let n = 2; n <= 500; n += 1) put(rig, `coordination/lock/${String(n).padStart(9, "0")}.json`, "{");
    const before = rig.store.calls.length;
    const log = await readLock(rig.at("x"), calm);
    expect([log.damaged.length, log.highest, rig.store.calls.length - before]).toEqual([16, 500, 17]);
    await resumeRepository(rig.at("cp1"), calm);
    await unlockRepository(rig.at("cp1"), await readLock(rig.at("cp1"), calm), calm);
    const again = rig.store.calls.length;
    await readLock(rig.at("x"), calm);
    expect(rig.store.calls.length - again).toBe(2);
  });

  test("whatever it holds, reading never throws anything but what it says", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.uint8Array().map((b) => Buffer.from(b).toString("latin1")),
        ),
        async (text) => {
          const rig = openRig();
          put(rig, "coordination/lock/000000001.json", text);
          expect((await readLock(rig.at("x"), calm)).damaged).toHaveLength(1);
        },
      ),
    );
  });

  test("a store that does not answer is no free lock", async () => {
    const rig = openRig();
    rig.store.trouble({ method: "list", fail: new Fault("store-unreachable", "no route") });
    expect((await faultOf(readLock(rig.at("x"), calm))).code).toBe("store-unreachable");
  });
});

describe("the judgement of a lock", () => {
  const author = { host: "cp1", user: "root", pid: 1, version: "0.1.0" };
  const log = (renewedMs: number, lapses: boolean): LockLog => ({
    highest: 1,
    holder: { id: "x", operation: "scan", by: author, sinceMs: renewedMs, renewedMs, lapses },
    paused: undefined,
    damaged: [],
  });

  test("a clock that is years ahead keeps no lapsing lock alive for years, and is named where the lock does not lapse", () => {
    const ahead = startMs + 10 * 365 * 24 * 3_600_000;
    expect(judgeLock(log(ahead, true), startMs).holder).toBeUndefined();
    const kept = judgeLock(log(ahead, false), startMs);
    expect(kept.holder?.alive).toBe(false);
    expect(closedGate(kept, "restore", describeTimes)?.message).toContain("its clock is ahead");
  });

  test("an entry that cannot be read and has a date of the far future or past stops nobody for ever", () => {
    for (const modifiedMs of [startMs - 3_600_000, startMs + 3_600_001, Number.MAX_SAFE_INTEGER, 0]) {
      const judged = judgeLock(
        { highest: 1, holder: undefined, paused: undefined, damaged: [{ name: "x", why: "y", modifiedMs }] },
        startMs,
      );
      expect(judged.unreadableUntilMs).toBeUndefined();
    }
  });

  test("a holder that is alive is never taken for a dead one while clocks agree within minutes", () => {
    fc.assert(
      fc.property(fc.integer({ min: -600_000, max: 300_000 }), fc.boolean(), (ageMs, lapses) => {
        expect(judgeLock(log(startMs - ageMs, lapses), startMs).holder?.alive).toBe(true);
      }),
    );
  });
});
