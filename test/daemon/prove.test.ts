import { readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openLaterProofs, type LaterProofs } from "../../src/daemon/prove.ts";
import { Fault } from "../../src/faults.ts";
import { runBackup, type BackupDependencies, type BackupRequest } from "../../src/snapshot/backup.ts";
import { calm } from "../snapshot/bytes.ts";
import { demand, hourly, openRig, type Rig } from "../snapshot/rig.ts";

const minute = 60_000;

describe("a backup that could not be proven in its run", () => {
  let rig: Rig;
  let later: LaterProofs;
  let running: Promise<void>;
  let stop: AbortController;
  let closed: Fault | undefined;

  /** Members that are told not to answer. */
  const silence = (...names: readonly string[]): void => {
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = names.includes(name);
  };
  const told = (): readonly string[] =>
    rig.events.map(({ name }) => name).filter((name) => name === "backup.proven" || name === "backup.sealed");
  const last = (name: string): unknown => rig.events.findLast((event) => event.name === name);
  const kept = (): number => readdirSync(rig.spoolDirectory).length;
  const asked = (): number => rig.etcd.calls.filter((call) => call.startsWith("hashKv")).length;
  const proofsStored = (): readonly string[] => rig.stored().filter((name) => name.includes("/proofs/"));

  function start(changes: Partial<BackupDependencies> = {}): void {
    Object.assign(rig.deps, changes);
    stop = new AbortController();
    later = openLaterProofs(Object.assign(rig.deps, { gate: async () => closed }));
    running = later.run(stop.signal);
  }
  const end = async (): Promise<void> => {
    stop.abort();
    await running;
  };
  async function backUp(request: BackupRequest = hourly): Promise<void> {
    const deps = { ...rig.deps, keepUnproven: later.keep };
    await later.besides(() => runBackup(deps, request, calm));
  }

  /** Lets time pass in small steps, and what was begun on the disk come to its end before the next. */
  async function pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 5000) {
      await rig.clock.advance(Math.min(5000, ms - passed));
      while (rig.clock.sleepers() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  beforeEach(async () => {
    rig = await openRig();
    closed = undefined;
    start();
    while (rig.clock.sleepers() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  });
  afterEach(async () => {
    await end();
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
    expect(rig.etcd.open()).toBe(0);
    rig[Symbol.dispose]();
  });

  test("is asked about again, at growing pauses, until members answer", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    expect(told()).toEqual(["backup.sealed"]);
    expect(kept()).toBe(1);
    const looks = (): number => rig.etcd.calls.filter((call) => call === "members etcd2").length;
    const counts: number[] = [];
    for (let passed = 0; passed < 8; passed += 1) {
      const before = looks();
      await pass(minute);
      counts.push(looks() - before);
    }
    expect(counts).toEqual([1, 1, 0, 1, 0, 0, 0, 1]);
    expect(told()).toEqual(["backup.sealed"]);
    silence();
    await pass(10 * minute);
    expect(told()).toEqual(["backup.sealed", "backup.proven"]);
    expect(rig.events.at(-1)).toMatchObject({ schedule: "hourly", agreeing: ["etcd2", "etcd3"] });
    expect(proofsStored()).toEqual([
      "lineages/ID/proofs/20260301T120000Z.slot.hourly.hashkv.proven.ID.json",
      "lineages/ID/proofs/20260301T120000Z.slot.hourly.hashkv.sealed.ID.json",
    ]);
    expect(kept()).toBe(0);
  });

  test("is hashed anew from its spool file where the cluster was compacted meanwhile", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    silence();
    rig.etcd.script.compactRevision = 45n;
    const hashed: unknown[] = [];
    Object.assign(rig.deps, {
      hashSpool: async (path: string, _revision: bigint, at: readonly bigint[]) => {
        hashed.push([readdirSync(rig.spoolDirectory).some((name) => path.endsWith(name)), ...at]);
        return at.map(() => 1);
      },
    });
    await pass(minute);
    expect(hashed).toEqual([[true, 45n]]);
    expect(told().at(-1)).toBe("backup.proven");
  });

  test("stays sealed when its revision was compacted, and is asked about no more", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    silence();
    Object.assign(rig.etcd.script, { compactRevision: 60n, revision: 70n });
    await pass(minute);
    expect(told()).toEqual(["backup.sealed", "backup.sealed"]);
    expect(last("backup.sealed")).toMatchObject({ why: "compacted", passing: false });
    const questions = asked();
    await pass(60 * minute);
    expect(asked()).toBe(questions);
    expect(kept()).toBe(0);
  });

  test("keeps its spool file for a quarter of an hour, and can be proven without it", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    await pass(14 * minute);
    expect(kept()).toBe(1);
    await pass(2 * minute);
    expect(kept()).toBe(0);
    silence();
    await pass(15 * minute);
    expect(told().at(-1)).toBe("backup.proven");
  });

  test("gives its spool file up where room is short", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    const { spool } = rig.deps;
    let full = false;
    await end();
    start({
      spool: {
        ...spool,
        requireSpace: async (bytes) => {
          if (full) throw new Fault("spool-space", "full");
          await spool.requireSpace(bytes);
        },
      },
    });
    await backUp(demand);
    expect(kept()).toBe(1);
    full = true;
    await pass(10_000);
    expect(kept()).toBe(0);
  });

  test("gives its spool file up for the next backup, and is not asked about while that runs", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    let during: number | undefined;
    let release: () => void = () => undefined;
    const next = later.besides(async () => {
      during = kept();
      await new Promise<void>((resolve) => (release = resolve));
    });
    await expect.poll(() => during).toBe(0);
    silence();
    await pass(20 * minute);
    expect(told()).toEqual(["backup.sealed"]);
    release();
    await next;
    await pass(10_000);
    expect(told()).toEqual(["backup.sealed", "backup.proven"]);
  });

  test("a question under way is given up for the next backup", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    silence();
    rig.etcd.member("etcd3").delayMs = { hashKv: 60_000 };
    while (asked() === 0) {
      await rig.clock.advance(5000);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    rig.etcd.member("etcd3").delayMs = {};
    expect(await later.besides(async () => kept())).toBe(0);
    expect(told()).toEqual(["backup.sealed"]);
    await pass(minute);
    expect(told().at(-1)).toBe("backup.proven");
  });

  test("is asked about by the next process, too: without the file, by the hash that its manifest records", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    await end();
    expect(kept()).toBe(0);
    silence();
    start();
    await pass(minute);
    expect(told()).toEqual(["backup.sealed", "backup.proven"]);
  });

  test("is told again by the next process only when it is proven", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    await end();
    silence();
    rig.etcd.script.compactRevision = 60n;
    start();
    await pass(60 * minute);
    expect(told()).toEqual(["backup.sealed"]);
    expect(proofsStored()).toHaveLength(1);
  });

  test("is given up after a dozen questions", async () => {
    silence();
    rig.etcd.member("etcd1").hash = 7;
    rig.etcd.member("etcd3").hash = 8;
    await rig.passing(backUp());
    expect(last("backup.sealed")).toMatchObject({ why: "disagree", passing: true });
    await pass(180 * minute);
    expect(last("backup.sealed")).toMatchObject({ why: "disagree", passing: false });
    expect(told()).toEqual(["backup.sealed", "backup.sealed"]);
    const questions = asked();
    await pass(180 * minute);
    expect(asked()).toBe(questions);
  });

  test("is not asked about during an operation or a pause", async () => {
    silence("etcd1", "etcd3");
    await backUp();
    silence();
    closed = new Fault("paused", "the repository is paused");
    await pass(10 * minute);
    expect(asked()).toBe(0);
    closed = undefined;
    await pass(minute);
    expect(told()).toEqual(["backup.sealed", "backup.proven"]);
  });

  test("whose proof the store did not take is proven when it does", async () => {
    const struck = rig.store.trouble({
      method: "create",
      name: "/proofs/",
      nth: 1,
      fail: new Fault("store-unreachable", "no connection"),
    });
    await backUp();
    expect(struck()).toBe(1);
    expect(told()).toEqual(["backup.sealed"]);
    await pass(minute);
    expect(told()).toEqual(["backup.sealed", "backup.proven"]);
    expect(proofsStored()).toHaveLength(1);
  });
});
