import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { noHistory, predictFull, remember, type History, type Sample } from "../../src/daemon/trend.ts";

const minute = 60_000;
const hour = 60 * minute;
const start = Date.UTC(2026, 2, 1);

/** `count` samples, evenly spread, along a line. */
function line(count: number, everyMs: number, from: number, perHour: number): Sample[] {
  return Array.from({ length: count }, (_, index) => ({
    atMs: start + index * everyMs,
    value: from + (perHour * index * everyMs) / hour,
  }));
}

const growing = fc.record({
  count: fc.integer({ min: 13, max: 128 }),
  everyMs: fc.integer({ min: 30 * minute, max: 128 * minute }),
  from: fc.integer({ min: 0, max: 1e9 }),
  perHour: fc.integer({ min: 1e6, max: 1e9 }),
  /** How far ahead the limit is, in spans of what was seen. */
  ahead: fc.double({ min: 0.01, max: 9, noNaN: true }),
});

describe("when something will be full", () => {
  test("is exact for what grows along a line", () => {
    fc.assert(
      fc.property(growing, ({ count, everyMs, from, perHour, ahead }) => {
        const samples = line(count, everyMs, from, perHour);
        const spanMs = (count - 1) * everyMs;
        const limit = from + (perHour * spanMs * (1 + ahead)) / hour;
        const found = predictFull(samples, limit) ?? Number.NaN;
        expect(Math.abs(found - (start + spanMs * (1 + ahead)))).toBeLessThan(minute);
      }),
    );
  });

  test("is hardly moved by a fifth of the samples, however wild they are", () => {
    fc.assert(
      fc.property(
        growing,
        fc.array(fc.nat(1e12), { minLength: 25 }),
        fc.infiniteStream(fc.nat(1e6)),
        (shape, wild, draws) => {
          const { count, everyMs, from, perHour } = shape;
          const samples = line(count, everyMs, from, perHour);
          const limit = from + (perHour * (count - 1) * everyMs * 3) / hour;
          for (let left = Math.floor(count / 5) - 1; left > 0; left -= 1) {
            const index = Number(draws.next().value) % count;
            const sample = samples[index];
            if (sample !== undefined) samples[index] = { ...sample, value: wild[left % wild.length] ?? 0 };
          }
          const spanMs = (count - 1) * everyMs;
          const found = predictFull(samples, limit) ?? Number.NaN;
          expect(found).toBeGreaterThanOrEqual(start + spanMs);
          expect(found).toBeLessThan(start + spanMs * 11);
        },
      ),
    );
  });

  test("is never in the past, and unknown for what does not grow", () => {
    const any = fc.array(fc.nat(1e9), { minLength: 13, maxLength: 128 });
    fc.assert(
      fc.property(any, fc.nat(2e9), (values, limit) => {
        const samples = values.map((value, index) => ({ atMs: start + index * hour, value }));
        expect(predictFull(samples, limit) ?? Infinity).toBeGreaterThanOrEqual(samples.at(-1)?.atMs ?? 0);
      }),
    );
    fc.assert(
      fc.property(growing, ({ count, everyMs, from, perHour }) => {
        expect(predictFull(line(count, everyMs, from, 0), 2e9)).toBe(undefined);
        expect(predictFull(line(count, everyMs, from, -perHour), 2e9)).toBe(undefined);
      }),
    );
  });

  test("is unknown while too little was seen, and too far ahead", () => {
    expect(predictFull([], 1)).toBe(undefined);
    expect(predictFull(line(100, minute, 0, 1e6), 1e9)).toBe(undefined);
    expect(predictFull(line(11, hour, 0, 1e6), 2e7)).toBe(undefined);
    expect(predictFull(line(12, hour, 0, 1e6), 2e7)).toBeCloseTo(start + 20 * hour);
    expect(predictFull(line(12, hour, 0, 1e6), 1e9)).toBe(undefined);
  });

  test("is now where the limit is reached", () => {
    expect(predictFull(line(12, hour, 0, 1e6), 5e6)).toBe(start + 11 * hour);
  });
});

describe("what is remembered", () => {
  const values = fc.array(fc.nat(1e9), { maxLength: 2000 });
  const fill = (given: readonly number[], everyMs: number, newAfterFall = false): History =>
    given.reduce(
      (history, value, index) => remember(history, { atMs: start + index * everyMs, value }, newAfterFall),
      noHistory,
    );

  test("is bounded, ascends, ends near the newest, and holds only what was seen", () => {
    fc.assert(
      fc.property(values, fc.integer({ min: 1000, max: 3 * hour }), (given, everyMs) => {
        const { samples, everyMs: keptEveryMs } = fill(given, everyMs);
        expect(samples.length).toBeLessThanOrEqual(129);
        samples.forEach((sample, index) => {
          expect(sample.value).toBe(given[(sample.atMs - start) / everyMs]);
          expect(sample.atMs).toBeGreaterThan(samples[index - 1]?.atMs ?? 0);
        });
        const newestMs = start + (given.length - 1) * everyMs;
        expect(newestMs - (samples.at(-1)?.atMs ?? newestMs)).toBeLessThan(2 * keptEveryMs + everyMs);
      }),
    );
  });

  test("reaches back eleven days, and no further", () => {
    const { samples, everyMs } = fill(Array<number>(30 * 24 * 4).fill(1), 15 * minute);
    expect(everyMs).toBe(128 * minute);
    const days = ((samples.at(-1)?.atMs ?? 0) - (samples[0]?.atMs ?? 0)) / (24 * hour);
    expect(days).toBeGreaterThan(10);
    expect(days).toBeLessThan(13);
  });

  test("begins anew when the clock was put back, and after a defragmentation", () => {
    const full = fill([100, 101, 102], hour);
    expect(remember(full, { atMs: start - hour, value: 1 }, false).samples).toEqual([{ atMs: start - hour, value: 1 }]);
    const later = { atMs: start + 3 * hour, value: 50 };
    expect(remember(full, later, true).samples).toEqual([later]);
    expect(remember(full, later, false).samples.length).toBe(4);
    expect(remember(full, { ...later, value: 99 }, true).samples.length).toBe(4);
  });
});
