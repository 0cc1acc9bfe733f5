import { describe, expect, test } from "vitest";
import { observeForever } from "../../src/daemon/observe.ts";
import { Fault } from "../../src/faults.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";

function observing(rig: Rig): { names: () => string[]; stop: () => Promise<void> } {
  const controller = new AbortController();
  // The real one reads the disk in its own time, which a steered clock does not wait for.
  const spool = { ...rig.deps.spool, space: async () => ({ freeBytes: 1, sizeBytes: 2, freeInodes: 3 }) };
  const running = observeForever({ ...rig.deps, spool }, controller.signal);
  return {
    names: () =>
      rig.events.map((event) => (event.name === "warning" ? `${event.about}: ${event.message}` : event.name)),
    stop: async () => {
      controller.abort(new Fault("interrupted", "stop"));
      await running;
    },
  };
}

describe("the daemon's look at the cluster", () => {
  test("tells members, alarms and the spool's disk again and again, and ends promptly", async () => {
    using rig = await openRig({ alarms: [{ memberId: 2n, kind: "NOSPACE" }] });
    const { names, stop } = observing(rig);
    await rig.clock.advance(15_000);
    expect(names()).toEqual(["cluster.observed", "spool.observed", "cluster.observed", "spool.observed"]);
    expect(rig.events[0]).toMatchObject({
      quorum: true,
      members: [
        { member: "etcd1", leader: true, alarms: [] },
        { member: "etcd2", alarms: ["NOSPACE"] },
        { member: "etcd3" },
      ],
    });
    await stop();
    expect(rig.etcd.open()).toBe(0);
    expect(rig.clock.sleepers()).toBe(0);
  });

  test("tells a finding when it appears, and again only after it was gone", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd2").down = true;
    const { names, stop } = observing(rig);
    await rig.clock.advance(45_000);
    const warnings = (): string[] => names().filter((name) => name.startsWith("member-unreachable"));
    expect(warnings()).toHaveLength(1);
    rig.etcd.member("etcd2").down = false;
    await rig.clock.advance(15_000);
    rig.etcd.member("etcd2").down = true;
    await rig.clock.advance(15_000);
    expect(warnings()).toHaveLength(2);
    await stop();
  });

  test("says that nothing could be seen, and looks again", async () => {
    using rig = await openRig();
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = true;
    const { names, stop } = observing(rig);
    await rig.clock.advance(0);
    expect(rig.events[0]).toMatchObject({ name: "cluster.unobserved", code: "etcd-unreachable" });
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = false;
    await rig.clock.advance(15_000);
    expect(names()).toContain("cluster.observed");
    await stop();
  });
});
