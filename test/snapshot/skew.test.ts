import { expect, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { warnOfSkew } from "../../src/snapshot/skew.ts";
import { steeredClock } from "../fakes/clock.ts";
import { memoryStore } from "../fakes/store.ts";
import { calm } from "./bytes.ts";

const noon = Date.UTC(2026, 2, 1, 12);
const yearMs = 365 * 86_400_000;

test.each([
  [0, undefined],
  [4 * 60_000, undefined],
  [-4 * 60_000, undefined],
  [6 * 60_000, "360 s ahead of the store's (2026-03-01T12:00:00.000Z)"],
  [3 * yearMs, "94608000 s ahead of the store's"],
  [-20 * yearMs, "630720000 s behind the store's"],
])("a clock that is %d ms off is told before a backup: %s", async (offMs, said) => {
  const events: LifeboatEvent[] = [];
  const emit = (event: LifeboatEvent): void => void events.push(event);
  await warnOfSkew({ store: memoryStore(() => noon), clock: steeredClock(noon + offMs), emit }, calm);
  expect(events).toEqual(
    said === undefined ? [] : [{ name: "warning", about: "clock", message: expect.stringContaining(said) as string }],
  );
});

test("a store that tells no time, or does not answer, is left to the backup", async () => {
  const emit = (): void => expect.fail("nothing is to be said");
  const clock = steeredClock(noon);
  const store = memoryStore(() => noon);
  await warnOfSkew({ store: { ...store, now: async () => undefined }, clock, emit }, calm);
  const struck = store.trouble({ method: "now", fail: new Fault("store-unreachable", "no connection") });
  await warnOfSkew({ store, clock, emit }, calm);
  expect(struck()).toBe(1);
});
