import { expect, test } from "vitest";
import { simulateYear, zones } from "./year.ts";

/** Some weeks of what `npm run soak:year` does for a year in every zone. */
test("twenty schedules through weeks with clock changes, restarts and clocks that are set: no slot lost, doubled or early", async () => {
  const seed = Date.now() % 1_000_000;
  const zone = zones[seed % zones.length] ?? "UTC";
  // Both halves of the year in which clocks change somewhere.
  const fromMs = Date.UTC(2026, seed % 2 === 0 ? 2 : 9, 1, 0, 7);
  const { wrong, slots, served, missed } = await simulateYear({ zone, seed, fromMs, days: 35 });
  expect(wrong, `seed ${seed} in ${zone}`).toEqual([]);
  expect(slots, `seed ${seed} in ${zone}`).toBe(served + missed);
  expect(served, `seed ${seed} in ${zone}`).toBeGreaterThan(2000);
});
