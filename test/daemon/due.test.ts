import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCron } from "../../src/config/cron.ts";
import { decideDue, retryDelay, stableDelay, type ScheduleFacts } from "../../src/daemon/due.ts";

const utc = (text: string): number => Date.parse(`${text}Z`);
const hourly: ScheduleFacts = {
  fields: parseCron("0 * * * *"),
  timeZone: "UTC",
  delayMs: 120_000,
  newestSlotMs: utc("2026-03-01T12:00"),
  starting: false,
};

describe("a backup is due", () => {
  test("at the first start, at once, under the key of the latest past slot", () => {
    expect(decideDue({ ...hourly, newestSlotMs: undefined, starting: true }, utc("2026-03-01T12:00:01"))).toEqual({
      kind: "due",
      slotMs: utc("2026-03-01T12:00"),
      missed: 0,
    });
  });

  test("once per slot, not before the slot and its delay", () => {
    expect(decideDue(hourly, utc("2026-03-01T13:01:59"))).toEqual({ kind: "wait", untilMs: utc("2026-03-01T13:02") });
    expect(decideDue(hourly, utc("2026-03-01T13:02:00"))).toEqual({
      kind: "due",
      slotMs: utc("2026-03-01T13:00"),
      missed: 0,
    });
    expect(decideDue({ ...hourly, newestSlotMs: utc("2026-03-01T13:00") }, utc("2026-03-01T13:02:00"))).toEqual({
      kind: "wait",
      untilMs: utc("2026-03-01T14:02"),
    });
  });

  test("once for all slots that were missed, and they are counted", () => {
    expect(decideDue(hourly, utc("2026-03-04T12:30"))).toEqual({
      kind: "due",
      slotMs: utc("2026-03-04T12:00"),
      missed: 71,
    });
  });

  test("and what was tried in vain is not counted as missed, nor what was told with it", () => {
    const failed = { ...hourly, triedSlotMs: utc("2026-03-04T10:00") };
    expect(decideDue(failed, utc("2026-03-04T12:30"))).toMatchObject({ missed: 1 });
    expect(decideDue({ ...failed, newestSlotMs: undefined }, utc("2026-03-04T12:30"))).toMatchObject({ missed: 1 });
    expect(decideDue({ ...failed, triedSlotMs: utc("2026-03-04T12:00") }, utc("2026-03-04T12:30"))).toMatchObject({
      missed: 0,
    });
    // A clock that was put back since: better told twice than not at all.
    expect(decideDue({ ...failed, triedSlotMs: utc("2026-03-05T12:00") }, utc("2026-03-04T12:30"))).toMatchObject({
      missed: 71,
    });
  });

  test("not again because the clock was put back", () => {
    const back = decideDue({ ...hourly, newestSlotMs: utc("2026-03-01T11:00") }, utc("2026-03-01T11:40"));
    expect(back).toEqual({ kind: "wait", untilMs: utc("2026-03-01T12:02") });
  });

  test("never where no slot comes", () => {
    const never = { ...hourly.fields, dayOfMonth: [30], month: [2] };
    expect(decideDue({ ...hourly, fields: never }, utc("2026-03-01T12:00"))).toEqual({ kind: "never" });
  });

  test("only for a slot that has passed, and a wait ends after now", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: utc("2026-01-01T00:00"), max: utc("2027-01-01T00:00") }),
        fc.option(fc.integer({ min: utc("2026-01-01T00:00") / 3_600_000, max: utc("2027-01-01T00:00") / 3_600_000 }), {
          nil: undefined,
        }),
        fc.integer({ min: 0, max: 600_000 }),
        fc.boolean(),
        (nowMs, newest, delayMs, starting) => {
          const due = decideDue(
            { ...hourly, newestSlotMs: newest === undefined ? undefined : newest * 3_600_000, delayMs, starting },
            nowMs,
          );
          if (due.kind === "due") expect(due.slotMs + (starting ? 0 : delayMs)).toBeLessThanOrEqual(nowMs);
          if (due.kind === "wait") expect(due.untilMs).toBeGreaterThan(nowMs);
        },
      ),
    );
  });
});

describe("where time does what it seldom does, a slot is due once", () => {
  /** Every slot that becomes due on the way, each committed at once. */
  function served(facts: ScheduleFacts, clock: readonly number[]): readonly string[] {
    let newestSlotMs = facts.newestSlotMs;
    return clock.flatMap((nowMs) => {
      const due = decideDue({ ...facts, newestSlotMs }, nowMs);
      if (due.kind !== "due") return [];
      newestSlotMs = Math.max(newestSlotMs ?? -Infinity, due.slotMs);
      return [`${new Date(due.slotMs).toISOString().slice(0, 19)} missed ${due.missed}`];
    });
  }
  const ticks = (from: string, to: string, stepMs: number): readonly number[] => {
    const count = Math.ceil((utc(to) - utc(from)) / stepMs);
    return Array.from({ length: count }, (_, index) => utc(from) + index * stepMs);
  };

  test.each([
    // Linux steps the clock back when the second has passed: 23:59:59 comes twice.
    [
      "stepped",
      [
        ...ticks("2016-12-31T23:59:50", "2017-01-01T00:00:00", 100),
        ...ticks("2016-12-31T23:59:59", "2017-01-01T00:00:10", 100),
      ],
    ],
    // One that was late to step had gone on into the new year.
    [
      "stepped late",
      [
        ...ticks("2016-12-31T23:59:50", "2017-01-01T00:00:01", 100),
        ...ticks("2017-01-01T00:00:00", "2017-01-01T00:00:10", 100),
      ],
    ],
    // Servers that smear make each second a little longer.
    ["smeared", ticks("2016-12-31T23:59:50", "2017-01-01T00:00:10", 95)],
  ])("through a leap second that is %s", (_, clock) => {
    const seconds = {
      ...hourly,
      delayMs: 0,
      newestSlotMs: utc("2016-12-31T23:59:49"),
      fields: parseCron("* * * * * *"),
    };
    const slots = served(seconds, clock);
    expect(slots).toEqual(
      ticks("2016-12-31T23:59:50", "2017-01-01T00:00:10", 1000).map(
        (slotMs) => `${new Date(slotMs).toISOString().slice(0, 19)} missed 0`,
      ),
    );
    const midnight = { ...seconds, newestSlotMs: utc("2016-12-31T00:00"), fields: parseCron("0 0 * * *") };
    expect(served(midnight, clock)).toEqual(["2017-01-01T00:00:00 missed 0"]);
  });

  test("after its schedule was changed: the newest slot of the old one stands, and only what lies after it is asked of the new one", () => {
    const change = (before: string, cron: string, timeZone = "UTC"): readonly string[] =>
      served({ ...hourly, delayMs: 0, newestSlotMs: utc(before), fields: parseCron(cron), timeZone, starting: true }, [
        utc("2026-03-01T12:20"),
        utc("2026-03-01T12:21"),
      ]);
    expect(change("2026-03-01T12:00", "*/15 * * * *")).toEqual(["2026-03-01T12:15:00 missed 0"]);
    expect(change("2026-03-01T12:15", "0 * * * *")).toEqual([]);
    expect(change("2026-03-01T12:15", "0 0 * * *")).toEqual([]);
    expect(change("2026-03-01T00:00", "0 0 * * *", "Asia/Kolkata")).toEqual([]);
    expect(change("2026-03-01T00:00", "0 0 * * *", "America/St_Johns")).toEqual(["2026-03-01T03:30:00 missed 0"]);
    expect(change("2026-03-01T00:00", "0 */4 * * *")).toEqual(["2026-03-01T12:00:00 missed 2"]);
  });
});

describe("the delay", () => {
  test("is the same for every daemon of a cluster, spreads clusters, and stays below the jitter", () => {
    const delays = Array.from({ length: 200 }, (_, at) => stableDelay(`cluster-${at}`, "hourly", 120_000));
    expect(stableDelay("cluster-7", "hourly", 120_000)).toBe(delays[7]);
    expect(Math.min(...delays)).toBeLessThan(20_000);
    expect(Math.max(...delays)).toBeGreaterThan(100_000);
    expect(delays.every((delay) => delay >= 0 && delay < 120_000)).toBe(true);
    expect(stableDelay("prod", "hourly", 0)).toBe(0);
  });

  test("after failures doubles, within bounds", () => {
    expect([1, 2, 3, 4, 8, 1000].map((failures) => retryDelay(failures, Infinity))).toEqual([
      5000, 10_000, 20_000, 40_000, 600_000, 600_000,
    ]);
    expect(retryDelay(9, 60_000)).toBe(30_000);
    expect(retryDelay(9, 1000)).toBe(1000);
    const uploaded = [1, 2, 3, 7, 1000].map((failures) => retryDelay(failures, 5000, true));
    expect(uploaded).toEqual([60_000, 120_000, 240_000, 3_600_000, 3_600_000]);
  });
});
