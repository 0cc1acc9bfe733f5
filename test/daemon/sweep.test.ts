import { describe, expect, test } from "vitest";
import { sweepForever, sweepSpool } from "../../src/daemon/sweep.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { steeredClock } from "../fakes/clock.ts";
import { memoryStore } from "../fakes/store.ts";

const day = 24 * 3_600_000;

function sweeping(swept: (() => Promise<number>)[]) {
  const clock = steeredClock(Date.UTC(2026, 2, 1));
  const events: LifeboatEvent[] = [];
  const controller = new AbortController();
  let asked = 0;
  const store = { ...memoryStore(), sweep: async () => await (swept[asked++]?.() ?? Promise.resolve(0)) };
  const running = sweepForever({ store, clock, emit: (event) => events.push(event) }, controller.signal);
  return {
    clock,
    events,
    asked: () => asked,
    stop: async () => {
      controller.abort(new Fault("interrupted", "stop"));
      await running;
    },
  };
}

describe("the daemon's sweep of unfinished uploads", () => {
  test("happens at the start and then every day, and is told where something was swept", async () => {
    const { clock, events, asked, stop } = sweeping([async () => 2, async () => 0, async () => 1]);
    await clock.advance(0);
    expect(events).toEqual([{ name: "uploads.swept", uploads: 2 }]);
    await clock.advance(2 * day);
    expect(asked()).toBe(3);
    expect(events).toHaveLength(2);
    await stop();
    expect(clock.sleepers()).toBe(0);
  });

  test("that a store refuses is a warning, and tried again the next day", async () => {
    const { clock, events, stop } = sweeping([() => Promise.reject(new Fault("store-denied", "no")), async () => 1]);
    await clock.advance(day);
    expect(events).toEqual([
      { name: "warning", about: "store", message: "stale uploads were not swept: no" },
      { name: "uploads.swept", uploads: 1 },
    ]);
    await stop();
  });

  test("a bug is no warning", async () => {
    const { stop } = sweeping([() => Promise.reject(new TypeError("x is not a function"))]);
    await expect(stop()).rejects.toThrow("x is not a function");
  });
});

describe("the sweep of the spool", () => {
  test("tells what it removed, and a spool that cannot be read is a warning: the backup says why it fails", async () => {
    const events: LifeboatEvent[] = [];
    const emit = (event: LifeboatEvent): unknown => events.push(event);
    await sweepSpool({ sweep: async () => ({ files: 1, bytes: 5 }) }, emit);
    await sweepSpool({ sweep: async () => ({ files: 0, bytes: 0 }) }, emit);
    await sweepSpool({ sweep: () => Promise.reject(new Fault("spool-failed", "no")) }, emit);
    expect(events).toEqual([
      { name: "spool.swept", files: 1, bytes: 5 },
      { name: "warning", about: "spool", message: "what dead runs left was not removed: no" },
    ]);
  });
});
