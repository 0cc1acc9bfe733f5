import { describe, expect, test } from "vitest";
import { PhaseTimer } from "../../src/snapshot/phases.ts";
import { startProving, type Proving } from "../../src/snapshot/proving.ts";
import { calm } from "./bytes.ts";
import { openRig, type Rig } from "./rig.ts";

const claim = {
  run: "run",
  clusterId: 100n,
  source: 2n,
  revision: 50n,
  compactRevision: -1n,
  hashKv: 1,
  keys: 40,
  path: "the spool",
};

function start(rig: Rig, retakes: boolean, settleMs: number): Proving {
  const phases = new PhaseTimer("run", rig.clock, rig.deps.emit);
  return startProving(rig.deps, claim, 0, retakes, phases, calm, settleMs);
}

describe("a backup that is to be committed", () => {
  test("waits for members that are about to refute it", async () => {
    using rig = await openRig();
    for (const name of ["etcd1", "etcd3"]) rig.etcd.member(name).hash = 7;
    await using proving = start(rig, true, 60_000);
    await rig.passing(proving.settled());
    expect(proving.signal.aborted).toBe(true);
    expect(await proving.finding).toMatchObject({ verdict: "source-diverged" });
  });

  test("waits for none that hangs, and is not given up any more when it answers after all", async () => {
    using rig = await openRig();
    for (const name of ["etcd1", "etcd3"]) Object.assign(rig.etcd.member(name), { hash: 7, delayMs: { hashKv: 300 } });
    await using proving = start(rig, true, 1);
    await proving.settled();
    expect(rig.events.filter(({ name }) => name === "backup.phase")).toEqual([]);
    expect(await rig.passing(proving.finding)).toMatchObject({ verdict: "source-diverged" });
    expect(proving.signal.aborted).toBe(false);
  });

  test("waits for nobody where no other member could be taken instead", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd3").delayMs = { hashKv: 60_000 };
    await using proving = start(rig, false, 60_000);
    await proving.settled();
    expect(rig.events.filter(({ name }) => name === "backup.phase")).toEqual([]);
  });
});
