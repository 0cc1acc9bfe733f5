import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCron } from "../../src/config/cron.ts";
import { slotAfter, slotBefore, slotInterval, type CronFields } from "../../src/daemon/slots.ts";

const utc = (text: string): number => Date.parse(`${text}Z`);
const show = (timeMs: number | undefined): string | undefined =>
  timeMs === undefined ? undefined : new Date(timeMs).toISOString().slice(0, 19);
function between(cron: string, zone: string, from: string, to: string): string[] {
  const slots: string[] = [];
  const fields = parseCron(cron);
  for (let at = slotAfter(fields, zone, utc(from)); at !== undefined && at < utc(to); at = slotAfter(fields, zone, at))
    slots.push(show(at) ?? "");
  return slots;
}

describe("slots", () => {
  test.each([
    // Clocks go from 02:00 to 03:00 at 01:00 UTC.
    [
      "30 2 * * *",
      "Europe/Berlin",
      "2026-03-28T00:00",
      "2026-03-31T00:00",
      ["2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"],
    ],
    // And back from 03:00 to 02:00 at 01:00 UTC: 02:30 happens twice and is served once, at first.
    [
      "30 2 * * *",
      "Europe/Berlin",
      "2026-10-24T00:00",
      "2026-10-27T00:00",
      ["2026-10-24T00:30:00", "2026-10-25T00:30:00", "2026-10-26T01:30:00"],
    ],
    [
      "30 * * * *",
      "Europe/Berlin",
      "2026-03-29T00:00",
      "2026-03-29T02:00",
      ["2026-03-29T00:30:00", "2026-03-29T01:30:00"],
    ],
    [
      "30 * * * *",
      "Europe/Berlin",
      "2026-10-24T23:00",
      "2026-10-25T02:00",
      ["2026-10-24T23:30:00", "2026-10-25T00:30:00", "2026-10-25T01:30:00"],
    ],
    ["30 2 * * *", "America/New_York", "2026-03-08T00:00", "2026-03-09T00:00", ["2026-03-08T07:00:00"]],
    // Half an hour: 02:00 becomes 02:30 at 15:30 UTC of the day before.
    ["15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", "2026-10-04T00:00", ["2026-10-03T15:30:00"]],
    ["45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", "2026-04-05T00:00", ["2026-04-04T14:45:00"]],
    // Midnight itself is put forward.
    [
      "0 0 * * *",
      "Africa/Cairo",
      "2026-04-23T00:00",
      "2026-04-25T00:00",
      ["2026-04-23T22:00:00", "2026-04-24T21:00:00"],
    ],
    ["15 4 * * *", "Asia/Kolkata", "2026-01-01T00:00", "2026-01-02T00:00", ["2026-01-01T22:45:00"]],
    ["*/20 30 0 * * *", "UTC", "2026-01-01T00:00", "2026-01-01T01:00", []],
  ])("%s in %s after %s", (cron, zone, from, to, slots) => {
    const found = between(cron.startsWith("*/20") ? "*/20 30 0 * * *" : cron, zone, from, to);
    expect(found).toEqual(
      slots.length > 0 ? slots : ["2026-01-01T00:30:00", "2026-01-01T00:30:20", "2026-01-01T00:30:40"],
    );
  });

  test("of 29 February come every four years, and eight around 2100", () => {
    const fields = parseCron("0 12 29 2 *");
    expect(show(slotAfter(fields, "UTC", utc("2026-01-01T00:00")))).toBe("2028-02-29T12:00:00");
    expect(show(slotAfter(fields, "UTC", utc("2096-03-01T00:00")))).toBe("2104-02-29T12:00:00");
    expect(show(slotBefore(fields, "UTC", utc("2104-02-28T00:00")))).toBe("2096-02-29T12:00:00");
  });

  test("of a date that never comes are none", () => {
    const never: CronFields = { ...parseCron("0 0 1 2 *"), dayOfMonth: [30] };
    expect(slotAfter(never, "UTC", 0)).toBeUndefined();
    expect(slotBefore(never, "Europe/Berlin", 0)).toBeUndefined();
    expect(slotInterval(never, "UTC", 0)).toBeUndefined();
  });

  test("the interval is the longest distance between neighbours", () => {
    const nowMs = utc("2026-06-01T00:00");
    expect(slotInterval(parseCron("0 * * * *"), "UTC", nowMs)).toBe(3_600_000);
    expect(slotInterval(parseCron("0 8,9 * * *"), "UTC", nowMs)).toBe(23 * 3_600_000);
    expect(slotInterval(parseCron("0 0 * * 1"), "UTC", nowMs)).toBe(7 * 86_400_000);
  });

  test("of every second in a zone with summer time are found in no time", () => {
    const fields = parseCron("* * * * * *");
    const started = performance.now();
    let at = utc("2026-03-29T00:59:00");
    for (let count = 0; count < 200; count += 1) at = slotBefore(fields, "Europe/Berlin", at - 1) ?? 0;
    expect(show(at)).toBe("2026-03-29T00:55:40");
    expect(performance.now() - started).toBeLessThan(20_000);
  });
});

/** The wall clock of a zone, by Intl alone. */
function wallClock(
  zone: string,
): (timeMs: number) => Record<"second" | "minute" | "hour" | "dayOfMonth" | "month" | "dayOfWeek", number> {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    weekday: "short",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  const weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  return (timeMs) => {
    const part = Object.fromEntries(format.formatToParts(timeMs).map(({ type, value }) => [type, value]));
    return {
      second: Number(part["second"]),
      minute: Number(part["minute"]),
      hour: Number(part["hour"]),
      dayOfMonth: Number(part["day"]),
      month: Number(part["month"]),
      dayOfWeek: weekdays.indexOf(part["weekday"] ?? ""),
    };
  };
}

describe("slots against a reference that walks minute by minute", () => {
  const field = (min: number, max: number): fc.Arbitrary<number[]> =>
    fc.oneof(
      { weight: 1, arbitrary: fc.constant(Array.from({ length: max - min + 1 }, (_, at) => min + at)) },
      {
        weight: 2,
        arbitrary: fc
          .uniqueArray(fc.integer({ min, max }), { minLength: 1, maxLength: 4 })
          .map((list) => list.toSorted((a, b) => a - b)),
      },
    );
  const crons: fc.Arbitrary<CronFields> = fc.record({
    second: fc.constantFrom([0], [0, 30]),
    minute: fc.oneof(fc.constantFrom([0], [15], [30]), field(0, 59)),
    hour: field(0, 23),
    dayOfMonth: fc.constant(Array.from({ length: 31 }, (_, at) => at + 1)),
    month: fc.constant(Array.from({ length: 12 }, (_, at) => at + 1)),
    dayOfWeek: field(0, 6),
  });

  // Far from shifts the wall clock alone decides; around them the rules of the page above do, and have tests of their own.
  test.each(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe"])("%s", (zone) => {
    const read = wallClock(zone);
    const steady = (timeMs: number): boolean => {
      const offsets = [-86_400_000, 0, 86_400_000].map((shift) => {
        const wall = read(timeMs + shift);
        return (wall.hour * 60 + wall.minute) % 1440;
      });
      return new Set(offsets).size === 1;
    };
    fc.assert(
      fc.property(
        crons,
        fc.integer({ min: utc("2025-01-01T00:00") / 60_000, max: utc("2028-01-01T00:00") / 60_000 }),
        (fields, minute) => {
          const startMs = minute * 60_000 + 17_000;
          fc.pre(steady(startMs));
          let expected: number | undefined;
          for (let at = minute * 60_000; at < startMs + 1440 * 60_000 && expected === undefined; at += 60_000) {
            const wall = read(at);
            if (
              !fields.minute.includes(wall.minute) ||
              !fields.hour.includes(wall.hour) ||
              !fields.dayOfWeek.includes(wall.dayOfWeek)
            )
              continue;
            expected = fields.second.map((second) => at + second * 1000).find((slot) => slot > startMs);
          }
          const found = slotAfter(fields, zone, startMs);
          if (expected !== undefined && steady(expected)) {
            expect(show(found)).toBe(show(expected));
            // Both directions agree on what a slot is.
            expect(slotBefore(fields, zone, expected)).toBe(expected);
            expect(slotBefore(fields, zone, expected - 1) ?? 0).toBeLessThanOrEqual(startMs);
          } else if (expected === undefined) expect(found ?? Infinity).toBeGreaterThan(startMs + 1439 * 60_000);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("before and after are neighbours of each other, also across every shift", () => {
    fc.assert(
      fc.property(
        crons,
        fc.constantFrom("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"),
        fc.constantFrom(
          "2026-03-08",
          "2026-03-29",
          "2026-04-05",
          "2026-04-24",
          "2026-10-04",
          "2026-10-25",
          "2026-10-30",
          "2026-11-01",
        ),
        fc.integer({ min: -1440, max: 2880 }),
        (fields, zone, day, minutes) => {
          const startMs = utc(`${day}T00:00`) + minutes * 60_000;
          const next = slotAfter(fields, zone, startMs);
          if (next === undefined) return;
          expect(next).toBeGreaterThan(startMs);
          expect(slotBefore(fields, zone, next)).toBe(next);
          expect(slotBefore(fields, zone, next - 1) ?? -Infinity).toBeLessThanOrEqual(startMs);
        },
      ),
      { numRuns: 300 },
    );
  });
});
