import { describe, expect, test } from "vitest";
import type { DiskReaders, WatchedDisk } from "../../src/daemon/disks.ts";
import { observeForever } from "../../src/daemon/observe.ts";
import type { EventName, LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { openRig, type Rig } from "../snapshot/rig.ts";

const disks: readonly WatchedDisk[] = [
  { role: "spool", member: undefined, directory: "/spool" },
  { role: "data", member: "etcd1", directory: "/data" },
];
const space = { freeBytes: 1, sizeBytes: 2, freeInodes: 3, inodes: 4 };
// The real ones read the disk in their own time, which a steered clock does not wait for.
const calmDisks: DiskReaders = { space: async () => space, pressure: () => Promise.reject(new Error("ENOENT")) };

interface Observing {
  readonly names: () => string[];
  readonly of: <N extends EventName>(name: N) => readonly Extract<LifeboatEvent, { name: N }>[];
  readonly stop: () => Promise<void>;
}

function observing(rig: Rig, readDisks: DiskReaders = calmDisks, hushed = { current: false }): Observing {
  const controller = new AbortController();
  const running = observeForever({ ...rig.deps, hushed: () => hushed.current, disks, readDisks }, controller.signal);
  return {
    names: () =>
      rig.events.map((event) => (event.name === "warning" ? `${event.about}: ${event.message}` : event.name)),
    of: <N extends EventName>(name: N) =>
      rig.events.filter((event): event is Extract<LifeboatEvent, { name: N }> => event.name === name),
    stop: async () => {
      controller.abort(new Fault("interrupted", "stop"));
      await running;
    },
  };
}

describe("the daemon's look at the cluster", () => {
  test("tells members, each of them probed, certificates and disks again and again, and ends promptly", async () => {
    using rig = await openRig({ alarms: [{ memberId: 2n, kind: "NOSPACE" }] });
    const { of, stop } = observing(rig);
    await rig.clock.advance(15_000);
    expect(of("cluster.observed").length).toBe(2);
    expect(of("cluster.observed")[0]).toMatchObject({
      quorum: true,
      members: [
        { member: "etcd1", leader: true, alarms: [] },
        { member: "etcd2", alarms: ["NOSPACE"] },
        { member: "etcd3" },
      ],
    });
    const each = ["etcd1", "etcd2", "etcd3"];
    expect(of("member.probed").map(({ member }) => member)).toEqual([...each, ...each]);
    expect(of("disk.observed").slice(0, 2)).toMatchObject([
      { role: "spool", member: undefined, ...space },
      { role: "data", member: "etcd1", ...space },
    ]);
    expect(of("certificates.observed").length).toBe(2);
    // A kernel without it says nothing.
    expect(of("pressure.observed")).toEqual([]);
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

  test("asks nothing that etcd counts as a client's call while it is hushed, and goes on afterwards", async () => {
    using rig = await openRig();
    const hushed = { current: true };
    const { of, stop } = observing(rig, calmDisks, hushed);
    const reads = (): readonly string[] => rig.etcd.calls.filter((call) => /Read/.test(call));
    await rig.clock.advance(30_000);
    expect(of("cluster.observed").map(({ quorum }) => quorum)).toEqual([true, true, true]);
    expect(of("member.probed").flatMap(({ calls }) => calls.map(({ method }) => method))).toEqual(
      Array(9).fill("status"),
    );
    expect(reads()).toEqual([]);
    hushed.current = false;
    await rig.clock.advance(15_000);
    expect(reads().length).toBeGreaterThan(0);
    await stop();
  });

  test("says that nothing could be seen, and looks again", async () => {
    using rig = await openRig();
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = true;
    const { names, of, stop } = observing(rig);
    await rig.clock.advance(0);
    expect(of("cluster.unobserved")).toMatchObject([{ code: "etcd-unreachable" }]);
    expect(of("disk.observed").length).toBe(2);
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).down = false;
    await rig.clock.advance(15_000);
    expect(names()).toContain("cluster.observed");
    await stop();
  });

  test("takes the quota from a member's own metrics where its Status does not tell it", async () => {
    using rig = await openRig();
    for (const member of rig.etcd.script.members) member.status = { quotaBytes: undefined };
    const { of, stop } = observing(rig);
    await rig.clock.advance(15_000);
    const quotas = of("cluster.observed").map(({ members }) => members.map((each) => each.up && each.quotaBytes));
    expect(quotas).toEqual([Array(3).fill(undefined), Array(3).fill(2 * 2 ** 30)]);
    await stop();
  });

  test("foresees when the quota is reached, after some hours and not before", async () => {
    using rig = await openRig();
    const member = rig.etcd.member("etcd1");
    const { of, stop } = observing(rig);
    const gib = 2 ** 30;
    for (let quarters = 0; quarters <= 28; quarters += 1) {
      member.status = { dbBytes: gib + (quarters * gib) / 100, quotaBytes: 2 * gib };
      await rig.clock.advance(15 * 60_000);
    }
    const predicted = of("cluster.observed").map(({ members: [first] }) => (first?.up ? first.quotaFullMs : undefined));
    expect(predicted[0]).toBe(undefined);
    expect(predicted.findIndex((fullMs) => fullMs !== undefined)).toBeGreaterThan(6 * 60 * 4 - 10);
    // 72 quarters of an hour from now a gibibyte more will be there.
    const aheadHours = ((predicted.at(-1) ?? 0) - rig.clock.now()) / 3_600_000;
    expect(aheadHours).toBeGreaterThan(16);
    expect(aheadHours).toBeLessThan(20);
    await stop();
  }, 60_000);
});

describe("probes", () => {
  test("never wait for a member that hangs, and never overlap", async () => {
    using rig = await openRig();
    const sick = rig.etcd.member("etcd2");
    const { of, stop } = observing(rig);
    await rig.clock.advance(0);
    // From now on it takes calls and answers none of them.
    sick.delayMs = { status: 3_600_000, members: 3_600_000 };
    await rig.clock.advance(300_000);
    const probes = (member: string): number => of("member.probed").filter((each) => each.member === member).length;
    expect(probes("etcd1")).toBe(21);
    expect(probes("etcd3")).toBe(21);
    // The fake hangs in real time, of which next to none has passed: one question was asked of it, and no second beside it.
    expect(probes("etcd2")).toBe(1);
    const asked = rig.etcd.calls.filter((call) => call === "status etcd2").length;
    await rig.clock.advance(300_000);
    expect(rig.etcd.calls.filter((call) => call === "status etcd2").length).toBeLessThanOrEqual(asked + 1);
    await stop();
    expect(rig.etcd.open()).toBe(0);
  });

  test("follow the members: one that left is asked no more, one that joins is", async () => {
    using rig = await openRig();
    const { of, stop } = observing(rig);
    await rig.clock.advance(0);
    const [first, second, third] = rig.etcd.script.members;
    if (first === undefined || second === undefined || third === undefined) throw new Error("three members");
    rig.etcd.script.members.splice(0, 3, { ...first, id: 1n }, { ...second, id: 2n }, { name: "etcd4", id: 9n });
    await rig.clock.advance(30_000);
    const before = of("member.probed").length;
    await rig.clock.advance(15_000);
    expect(
      of("member.probed")
        .slice(before)
        .map(({ member }) => member)
        .sort(),
    ).toEqual(["etcd1", "etcd2", "etcd4"]);
    await stop();
  });

  test("compute what the disks took in the last minute, and know nothing after a restart until the next look", async () => {
    using rig = await openRig();
    const { of, stop } = observing(rig);
    const newest = (): number | undefined =>
      of("member.probed").findLast(({ member }) => member === "etcd1")?.walFsyncP99Ms;
    await rig.clock.advance(0);
    expect(newest()).toBe(undefined);
    rig.etcd.script.revision = 150n;
    await rig.clock.advance(15_000);
    // The fake's disk takes up to two milliseconds.
    expect(newest()).toBeCloseTo(1.99);
    await rig.clock.advance(90_000);
    // Nothing was written for a minute.
    expect(newest()).toBe(undefined);
    rig.etcd.script.revision = 200n;
    rig.etcd.member("etcd1").metrics = { startedMs: 1 };
    await rig.clock.advance(15_000);
    expect(newest()).toBe(undefined);
    rig.etcd.script.revision = 250n;
    await rig.clock.advance(15_000);
    expect(newest()).toBeCloseTo(1.99);
    rig.etcd.member("etcd1").metrics = null;
    await rig.clock.advance(15_000);
    expect(of("member.probed").findLast(({ member }) => member === "etcd1")).toMatchObject({
      walFsyncP99Ms: undefined,
      residentBytes: undefined,
      peers: [],
    });
    await stop();
  });

  test("name the peers of round trips, and a member that was never reached is asked at its own address", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd3").fail = { status: new Fault("etcd-tls", "the server certificate of etcd3 has expired") };
    rig.etcd.member("etcd3").certificate = { subject: "CN=etcd3", names: [], notBeforeMs: 0, notAfterMs: 1 };
    const { of, stop } = observing(rig);
    // A member that has just started has measured none.
    rig.etcd.member("etcd1").metrics = { peerRoundTrips: new Map() };
    await rig.clock.advance(0);
    rig.etcd.script.revision = 150n;
    rig.etcd.member("etcd1").metrics = {};
    await rig.clock.advance(15_000);
    const of1 = of("member.probed").findLast(({ member }) => member === "etcd1");
    expect(of1?.peers.map(({ peer }) => peer)).toEqual(["etcd2", "etcd3"]);
    expect(of1?.peers[0]?.roundTripMs).toBeCloseTo(1);
    expect(of("member.probed").findLast(({ member }) => member === "etcd3")).toMatchObject({
      certificateNotAfterMs: 1,
      calls: [{ method: "status", durationMs: undefined }],
    });
    await stop();
  });

  test("say which certificates of ours end first, and that they cannot be read", async () => {
    using rig = await openRig({
      certificates: {
        client: { subject: "CN=client", names: [], notBeforeMs: 0, notAfterMs: 5 },
        ca: [
          { subject: "CN=new", names: [], notBeforeMs: 0, notAfterMs: 9 },
          { subject: "CN=old", names: [], notBeforeMs: 0, notAfterMs: 7 },
        ],
      },
    });
    const { names, of, stop } = observing(rig);
    await rig.clock.advance(0);
    expect(of("certificates.observed").at(-1)).toMatchObject({ clientNotAfterMs: 5, caNotAfterMs: 7 });
    rig.etcd.script.certificates = new Fault("etcd-tls", "cannot read ca.crt: ENOENT");
    await rig.clock.advance(30_000);
    expect(of("certificates.observed").at(-1)).toMatchObject({ clientNotAfterMs: undefined, caNotAfterMs: undefined });
    expect(names().filter((name) => name.startsWith("certificates:"))).toEqual([
      "certificates: cannot read ca.crt: ENOENT",
    ]);
    await stop();
  });
});
