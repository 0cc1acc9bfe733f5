import { open } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { observeCluster } from "../../src/cluster/observe.ts";
import { openEtcd } from "../../src/etcd/connect.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { defaultDrainLimits, drainSnapshot } from "../../src/snapshot/drain.ts";
import { openPacer } from "../../src/snapshot/pacer.ts";
import { startCluster } from "./harness.ts";

const floor = 32 * 1024 ** 2;
const never = new AbortController().signal;

test("a drain beside a real cluster gives way while its reads are held up, down to the floor and no further, and is whole", async () => {
  await using cluster = await startCluster({ members: 3 });
  await cluster.fill({ keys: 3000, valueBytes: 60_000 });
  await using etcd = openEtcd({ endpoints: cluster.endpoints });
  const facts = await observeCluster(etcd, { endpoints: [], overrides: new Map(), memberTimeoutMs: 10_000 }, never);
  const follower = facts.members.find(({ seen }) => seen.up && seen.status.leader !== seen.status.memberId)?.seen;
  const leader = facts.members.find(({ seen }) => seen.up && seen.status.leader === seen.status.memberId)?.name;
  if (follower?.up !== true || leader === undefined) throw new Error("the cluster has no follower");
  const { address, status } = follower;
  const events: LifeboatEvent[] = [];
  const deps = { etcd, clock: systemClock, emit: (event: LifeboatEvent) => events.push(event), pace: "auto" } as const;
  const run = { run: "01RUN", member: address.name, dbBytes: status.dbBytes, maxRate: undefined };
  await using pacer = await openPacer(deps, facts, address, run, never);
  if (pacer === undefined) throw new Error("members on loopback share this machine");

  // The leader answers nobody for moments that no follower takes for its end.
  const process = cluster.members.find(({ name }) => name === leader);
  let pauses = 0;
  const pausing = setInterval(() => {
    process?.pause();
    pauses += 1;
    setTimeout(() => process?.resume(), 100);
  }, 300);
  await using connection = etcd.connect(address);
  const path = join(cluster.directory, "paced.db");
  await using handle = await open(path, "w+");
  const limits = { ...defaultDrainLimits, pace: (doneBytes: number) => pacer.rate(doneBytes) };
  const startedMs = performance.now();
  try {
    const drained = await drainSnapshot(connection, { path, handle }, limits, systemClock, () => undefined, never);
    expect(drained.dbBytes).toBeGreaterThan(180_000_000);
  } finally {
    clearInterval(pausing);
    process?.resume();
  }
  const tookMs = performance.now() - startedMs;

  const paced = events.flatMap((event) => (event.name === "drain.paced" ? [event] : []));
  expect(pauses).toBeGreaterThan(2);
  expect(paced.some(({ slowed, reason }) => slowed && reason === "probe")).toBe(true);
  expect(Math.min(...paced.map(({ rate }) => rate))).toBe(floor);
  // Slower than what was allowed it may be, on a busy machine; faster it cannot be.
  expect(tookMs).toBeGreaterThan((180_000_000 / Math.max(...paced.map(({ rate }) => rate), 2 * floor)) * 1000 * 0.8);
});
