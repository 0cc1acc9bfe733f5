import { getEventListeners } from "node:events";
import { describe, expect, test, vi } from "vitest";
import { systemClock } from "../src/clock.ts";
import { withDeadline } from "../src/deadline.ts";
import { Fault } from "../src/faults.ts";
import { clockContract } from "./contracts/clock.ts";
import { steeredClock } from "./fakes/clock.ts";

describe("the system clock", () => {
  clockContract(() => ({ clock: systemClock, pass: (ms) => new Promise((resolve) => setTimeout(resolve, ms)) }));

  test("a sleep longer than a timer can hold does not end at once", async () => {
    vi.useFakeTimers();
    try {
      const controller = new AbortController();
      let woken = false;
      const sleeping = systemClock.sleep(2 ** 31 + 5000, controller.signal).then(() => (woken = true));
      await vi.advanceTimersByTimeAsync(2 ** 31);
      expect(woken).toBe(false);
      await vi.advanceTimersByTimeAsync(5001);
      await sleeping;
      expect(woken).toBe(true);
      expect(getEventListeners(controller.signal, "abort")).toHaveLength(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("a clock that a test puts off", () => {
  const ahead = async (switches: string): Promise<number> => {
    vi.resetModules();
    vi.stubEnv("LIFEBOAT_FAILPOINTS", switches);
    vi.stubEnv("LIFEBOAT_CLOCK_OFFSET_MS", "3600000");
    try {
      const { systemClock } = await import("../src/clock.ts");
      return Math.round((systemClock.now() - Date.now()) / 60_000);
    } finally {
      vi.unstubAllEnvs();
      vi.resetModules();
    }
  };

  test("makes pauses shorter, and a stray variable alone does nothing", async () => {
    const tookMs = async (switches: string): Promise<number> => {
      vi.resetModules();
      vi.stubEnv("LIFEBOAT_FAILPOINTS", switches);
      vi.stubEnv("LIFEBOAT_CLOCK_HASTE", "100");
      vi.useFakeTimers();
      try {
        const { systemClock } = await import("../src/clock.ts");
        const startedMs = Date.now();
        const sleeping = systemClock.sleep(10_000, new AbortController().signal);
        await vi.runAllTimersAsync();
        await sleeping;
        return Date.now() - startedMs;
      } finally {
        vi.useRealTimers();
        vi.unstubAllEnvs();
        vi.resetModules();
      }
    };
    expect([await tookMs("on"), await tookMs("")]).toEqual([100, 10_000]);
  });

  test("is off by so much, and a stray variable alone does nothing", async () => {
    expect([await ahead("on"), await ahead("")]).toEqual([60, 0]);
  });
});

describe("the steered clock", () => {
  clockContract(() => {
    const clock = steeredClock(1_000_000);
    return { clock, pass: (ms) => clock.advance(ms) };
  });

  test("stands still until it is told", async () => {
    const clock = steeredClock(5);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(clock.now()).toBe(5);
  });
});

describe("a deadline", () => {
  test("ends with its own fault, is put off by progress, and leaves no listener behind", async () => {
    vi.useFakeTimers();
    try {
      const outer = new AbortController();
      {
        using deadline = withDeadline(outer.signal, 1000, "it did not answer");
        await vi.advanceTimersByTimeAsync(900);
        deadline.restart();
        await vi.advanceTimersByTimeAsync(900);
        expect(deadline.signal.aborted).toBe(false);
        await vi.advanceTimersByTimeAsync(200);
        expect(deadline.signal.reason).toMatchObject({ code: "etcd-timeout", message: "it did not answer within 1 s" });
      }
      expect(getEventListeners(outer.signal, "abort")).toHaveLength(0);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  test("hands on what aborted the outer signal", () => {
    const outer = new AbortController();
    const fault = new Fault("interrupted", "stop");
    using deadline = withDeadline(outer.signal, 1000, "too late");
    outer.abort(fault);
    expect(deadline.signal.reason).toBe(fault);
    using late = withDeadline(outer.signal, 1000, "too late");
    expect(late.signal.reason).toBe(fault);
  });
});
