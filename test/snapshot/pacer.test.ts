import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { observeCluster } from "../../src/cluster/observe.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { openPacer, type PaceMode, type Pacer } from "../../src/snapshot/pacer.ts";
import { fakeEtcd, type FakeEtcd, type FakeScript } from "../fakes/etcd.ts";
import { calm } from "./bytes.ts";

const floor = 32 * 1024 ** 2;
const elsewhere = "http://198.51.100.1:2379";
const events: LifeboatEvent[] = [];
afterEach(() => events.splice(0));

/** A pacer of etcd1's drain; the other members are elsewhere, and etcd1 where it is told. */
async function open(
  url: string,
  pace: PaceMode,
  script: Partial<FakeScript> = {},
  observed: (etcd: FakeEtcd) => void = () => undefined,
): Promise<{ readonly etcd: FakeEtcd; readonly pacer: Pacer | undefined }> {
  const members = [url, "http://198.51.100.2:2379", "http://198.51.100.3:2379"].map((at, index) => ({
    name: `etcd${index + 1}`,
    url: at,
  }));
  const etcd = fakeEtcd({ revision: 50n, members, ...script });
  const observe = { endpoints: [], overrides: new Map(), memberTimeoutMs: 500 };
  const facts = await observeCluster(etcd, observe, calm);
  observed(etcd);
  const deps = { etcd, clock: systemClock, emit: (event: LifeboatEvent) => events.push(event), pace };
  const run = { run: "01RUN", member: "etcd1", dbBytes: 1e9, maxRate: undefined };
  const pacer = await openPacer(deps, facts, etcd.address("etcd1"), run, calm);
  return { etcd, pacer };
}

describe("a drain is paced", () => {
  test.each([
    ["always", elsewhere, "always", true],
    ["where a member is on this machine", "http://127.0.0.1:2379", "auto", true],
    ["where a member is on this machine by its name", "http://localhost:2379", "auto", true],
    ["not where all of them are elsewhere", elsewhere, "auto", false],
    ["never", "http://127.0.0.1:2379", "never", false],
  ] as const)("%s", async (_, url, pace, paced) => {
    const { etcd, pacer } = await open(url, pace);
    expect(pacer !== undefined).toBe(paced);
    await pacer?.[Symbol.asyncDispose]();
    expect(etcd.open()).toBe(0);
  });

  test("not without quorum, since nobody writes", async () => {
    expect((await open("http://127.0.0.1:2379", "always", { quorum: false })).pacer).toBeUndefined();
  });

  test("not when its member cannot be read from, and says so", async () => {
    const { etcd, pacer } = await open(elsewhere, "always", {}, (observed) => {
      observed.member("etcd1").fail = { linearizableRead: new Fault("etcd-auth", "etcd1 refuses reads") };
    });
    expect(pacer).toBeUndefined();
    expect(events).toEqual([
      { name: "warning", about: "pace", message: "the drain is not paced: etcd1 refuses reads" },
    ]);
    expect(etcd.open()).toBe(0);
  });
});

test("a drain is slowed to its floor while reads take long, goes faster again when they do not, and tells both", async () => {
  const { etcd, pacer } = await open("http://127.0.0.1:2379", "auto");
  if (pacer === undefined) throw new Error("it is not paced");
  let taken = 0;
  // A drain that always takes what it may.
  const taking = setInterval(() => (taken += pacer.rate(taken) / 100), 10);
  try {
    etcd.member("etcd1").delayMs = { linearizableRead: 200 };
    await expect.poll(() => pacer.rate(taken)).toBe(floor);
    expect(events.find((event) => event.name === "drain.paced" && event.slowed)).toMatchObject({
      run: "01RUN",
      member: "etcd1",
      reason: "probe",
    });
    etcd.member("etcd1").delayMs = {};
    await expect.poll(() => pacer.rate(taken)).toBeGreaterThan(floor);
    await expect
      .poll(() => events.findLast((event) => event.name === "drain.paced"))
      .toMatchObject({ slowed: false, reason: "unfelt" });
    // A member that answers with a fault, or not at all, cannot serve its writers either.
    etcd.member("etcd1").fail = { linearizableRead: new Fault("etcd-timeout", "etcd1 does not answer") };
    await expect.poll(() => pacer.rate(taken)).toBe(floor);
  } finally {
    clearInterval(taking);
    await pacer[Symbol.asyncDispose]();
  }
  expect(etcd.open()).toBe(0);
  for (const event of events) if (event.name === "drain.paced") expect(event.rate).toBeGreaterThanOrEqual(floor);
});
