import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { withGrace } from "../src/deadline.ts";
import { Fault } from "../src/faults.ts";

const stopped = new Fault("interrupted", "stopped");

test("a grace ends after the signal, with its cause, and not before", async () => {
  const outer = new AbortController();
  using grace = withGrace(outer.signal, 50);
  const aborted = new Promise((resolve) => grace.signal.addEventListener("abort", resolve, { once: true }));
  await sleep(100);
  expect(grace.signal.aborted).toBe(false);
  outer.abort(stopped);
  expect(grace.signal.aborted).toBe(false);
  await aborted;
  expect(grace.signal.reason).toBe(stopped);
});

test("a grace that begins after the signal ends, too", async () => {
  using grace = withGrace(AbortSignal.abort(stopped), 1);
  await expect.poll(() => grace.signal.aborted).toBe(true);
});

test("a grace that is disposed keeps nothing waiting", async () => {
  const outer = new AbortController();
  const grace = withGrace(outer.signal, 1);
  grace[Symbol.dispose]();
  outer.abort(stopped);
  await sleep(20);
  expect(grace.signal.aborted).toBe(false);
});
