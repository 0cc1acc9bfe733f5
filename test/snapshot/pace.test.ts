import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nextPace, paceLimits, startPace, type Felt, type Pace, type PaceLimits } from "../../src/snapshot/pace.ts";

const mebi = 1024 ** 2;
const limits: PaceLimits = { floorRate: 32 * mebi, mostRate: Infinity };
const probe = (ms: number, usualMs = 2): Felt => ({ sense: "probe", ms, usualMs });

describe("the limits of a pace", () => {
  test.each([
    ["1 GiB", 1024 * mebi, undefined, 32],
    ["what takes longer than five minutes at 32 MiB/s", 30_000 * mebi, undefined, 100],
    ["a rate below the floor", 1024 * mebi, 8 * mebi, 8],
  ])("have a floor for %s", (_, dbBytes, maxRate, floor) => {
    expect(paceLimits(dbBytes, maxRate)).toEqual({ floorRate: floor * mebi, mostRate: maxRate ?? Infinity });
  });

  test("hold whatever is felt", () => {
    const felt = fc.array(
      fc.record<Felt>({
        sense: fc.constantFrom("probe", "wal-fsync", "backend-commit"),
        ms: fc.oneof(fc.double({ min: 0, max: 10_000, noNaN: true }), fc.constant(Infinity)),
        usualMs: fc.double({ min: 0, max: 1000, noNaN: true }),
      }),
    );
    const step = fc.record({ felt, takenRate: fc.double({ min: 0, max: 2e9, noNaN: true }) });
    const given = fc.record({
      dbBytes: fc.nat(2 ** 31),
      maxRate: fc.option(fc.integer({ min: mebi, max: 2e9 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(given, fc.array(step, { maxLength: 60 }), ({ dbBytes, maxRate }, steps) => {
        const within = paceLimits(dbBytes, maxRate);
        let pace = startPace(within);
        for (const { felt, takenRate } of steps) {
          pace = nextPace(pace, felt, takenRate, within);
          expect(pace.rate).toBeGreaterThanOrEqual(within.floorRate);
          expect(pace.rate).toBeLessThanOrEqual(within.mostRate);
        }
      }),
    );
  });
});

describe("a pace", () => {
  test("grows fast at the start, step by step after the first trouble, and waits before it grows again", () => {
    const rates: number[] = [];
    let pace = startPace(limits);
    for (const ms of [1, 1, 200, 1, 1, 1, 1]) {
      pace = nextPace(pace, [probe(ms)], pace.rate, limits);
      rates.push(pace.rate / mebi);
    }
    expect(rates).toEqual([96, 144, 72, 72, 72, 80, 88]);
  });

  test("names the sense by which it was felt most", () => {
    const felt: Felt[] = [
      { sense: "backend-commit", ms: 30, usualMs: 5 },
      { sense: "wal-fsync", ms: 45, usualMs: 1 },
      probe(11),
    ];
    expect(nextPace(startPace(limits), felt, 1e8, limits)).toMatchObject({ reason: "wal-fsync" });
  });

  test.each([
    ["ten milliseconds where everything takes one", probe(10, 1), false],
    ["more than ten where everything takes one", probe(10.1, 1), true],
    ["three times the usual of a slow cluster", probe(45, 15), false],
    ["more than three times the usual", probe(46, 15), true],
    ["what nobody would call usual, however usual it is", probe(51, 200), true],
    ["a commit of 25 ms", { sense: "backend-commit", ms: 25, usualMs: 1 } as const, false],
    ["a member that does not answer", probe(Infinity), true],
  ])("takes as felt, or not: %s", (_, felt, slows) => {
    const pace = startPace(limits);
    expect(nextPace(pace, [felt], pace.rate, limits).rate < pace.rate).toBe(slows);
  });

  test("that is not used up does not grow", () => {
    const pace = startPace(limits);
    expect(nextPace(pace, [probe(1)], pace.rate / 3, limits)).toMatchObject({ rate: pace.rate, reason: "unused" });
  });

  test("halves from what was really taken", () => {
    const pace: Pace = { rate: 400 * mebi, reason: "unfelt", starting: false, patience: 0 };
    expect(nextPace(pace, [probe(99)], 300 * mebi, limits).rate).toBe(150 * mebi);
  });

  // A machine that gives what it has, and makes writers wait 40 ms as soon as more is taken.
  test.each([40, 60, 100, 200, 600])("settles near what %i MiB/s of a machine bear, and is seldom felt", (bears) => {
    let pace = startPace(limits);
    const taken: number[] = [];
    let felt = 0;
    for (let decision = 0; decision < 400; decision += 1) {
      const rate = Math.min(pace.rate, 1000 * mebi);
      const slow = rate > bears * mebi;
      if (decision >= 100) {
        taken.push(rate / mebi);
        felt += slow ? 1 : 0;
      }
      pace = nextPace(pace, [probe(slow ? 40 : 2)], rate, limits);
    }
    const average = taken.reduce((sum, rate) => sum + rate, 0) / taken.length;
    expect(average).toBeGreaterThan(bears * 0.65);
    expect(average).toBeLessThan(bears * 1.05);
    expect(felt / taken.length).toBeLessThan(0.26);
  });

  test("stays at its floor while writers suffer from something else", () => {
    let pace = startPace(limits);
    for (let decision = 0; decision < 50; decision += 1) pace = nextPace(pace, [probe(500)], pace.rate, limits);
    expect(pace.rate).toBe(limits.floorRate);
  });
});
