import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { meanBetween, quantileBetween, type Counted } from "../../src/cluster/quantile.ts";

/** etcd's own buckets of disk times: from a millisecond, doubled. */
const bounds = [...Array.from({ length: 14 }, (_, index) => 0.001 * 2 ** index), Infinity];

function counted(seconds: readonly number[]): Counted {
  return {
    count: seconds.length,
    seconds: seconds.reduce((sum, each) => sum + each, 0),
    buckets: bounds.map((le) => ({ le, count: seconds.filter((each) => each <= le).length })),
  };
}

const nothing = counted([]);
const times = fc.array(fc.double({ min: 0, max: 8, noNaN: true }), { minLength: 1, maxLength: 200 });

describe("the quantile of what was counted between two looks", () => {
  test("lies in the bucket of the value that sorting finds, whatever was counted before", () => {
    fc.assert(
      fc.property(times, times, fc.double({ min: 0.01, max: 1, noNaN: true }), (before, since, q) => {
        const found = quantileBetween(counted(before), counted([...before, ...since]), q) ?? Number.NaN;
        const sorted = since.toSorted((a, b) => a - b);
        const exact = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
        const index = bounds.findIndex((le) => exact <= le);
        expect(found).toBeGreaterThanOrEqual(bounds[index - 1] ?? 0);
        expect(found).toBeLessThanOrEqual(bounds[index] ?? Number.NaN);
      }),
    );
  });

  test("grows with q", () => {
    const q = fc.double({ min: 0.01, max: 1, noNaN: true });
    fc.assert(
      fc.property(times, q, q, (since, one, other) => {
        const at = (each: number): number => quantileBetween(nothing, counted(since), each) ?? Number.NaN;
        expect(at(Math.min(one, other))).toBeLessThanOrEqual(at(Math.max(one, other)));
      }),
    );
  });

  test("is what Prometheus' histogram_quantile gives", () => {
    // Of 100: 90 up to 2 ms, 10 up to 4 ms; the 99th is nine tenths of the way through the second bucket.
    const after = counted([...Array<number>(90).fill(0.0015), ...Array<number>(10).fill(0.003)]);
    expect(quantileBetween(nothing, after, 0.99)).toBeCloseTo(0.0038, 10);
    expect(quantileBetween(nothing, after, 0.5)).toBeCloseTo(0.001 + (0.001 * 50) / 90, 10);
    // What is beyond the last finite bound is told as that bound.
    expect(quantileBetween(nothing, counted([100, 100]), 0.99)).toBe(8.192);
  });

  test("is unknown while nothing was counted, and after the process began anew", () => {
    fc.assert(
      fc.property(times, (before) => {
        expect(quantileBetween(counted(before), counted(before), 0.99)).toBe(undefined);
        expect(quantileBetween(counted(before), nothing, 0.99)).toBe(undefined);
        expect(meanBetween(counted(before), counted(before))).toBe(undefined);
      }),
    );
    // After a restart more may have been counted than before, and still less in some bucket.
    expect(quantileBetween(counted([0.001, 0.001]), counted([2, 2, 2]), 0.99)).toBe(undefined);
    expect(meanBetween({ count: 5, seconds: 9 }, { count: 7, seconds: 1 })).toBe(undefined);
  });

  test("is unknown where the buckets are other ones, or have no end", () => {
    const short = { ...nothing, buckets: nothing.buckets.slice(1) };
    expect(quantileBetween(short, counted([1]), 0.99)).toBe(undefined);
    const open = counted([1]);
    const cut = (given: Counted): Counted => ({ ...given, buckets: given.buckets.slice(0, -1) });
    expect(quantileBetween(cut(nothing), cut(open), 0.99)).toBe(undefined);
    const shifted = { ...nothing, buckets: nothing.buckets.map(({ le, count }) => ({ le: le * 2, count })) };
    expect(quantileBetween(shifted, counted([1]), 0.99)).toBe(undefined);
  });

  test("the mean is that of what came since", () => {
    expect(meanBetween({ count: 2, seconds: 1 }, { count: 6, seconds: 3 })).toBe(0.5);
  });
});
