import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decideKeep, type HeldBackup, type RetentionPolicy, type Verdict } from "../../src/snapshot/keep.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const now = Date.UTC(2026, 2, 1, 12, 30);
const first = "01JQAAAAAAAAAAAAAAAAAAAAAA";
const second = "01JQBBBBBBBBBBBBBBBBBBBBBB";

const nothing: RetentionPolicy = {
  last: 0,
  hourly: 0,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
  withinMs: 0,
  maxBytes: undefined,
  minProven: 1,
  schedules: [],
};

let count = 0;
/** A proven backup of the hourly schedule, committed five seconds after its slot; its revision grows with its time. */
function backup(timeMs: number, changes: Partial<HeldBackup> = {}): HeldBackup {
  count += 1;
  const committedMs = changes.committedMs ?? (changes.timeMs ?? timeMs) + 5000;
  return {
    lineage: first,
    backup: `${new Date(timeMs).toISOString()}#${count}`,
    kind: "live",
    timeMs,
    committedMs,
    storedAtMs: committedMs,
    revision: BigInt(Math.floor(timeMs / 1000)),
    schedule: "hourly",
    proven: true,
    pinned: undefined,
    storedBytes: 100,
    ...changes,
  };
}

/** The newest first, an hour apart. */
function hours(howMany: number, newestMs: number, changes: Partial<HeldBackup> = {}): HeldBackup[] {
  return Array.from({ length: howMany }, (_, index) => backup(newestMs - index * hourMs, changes));
}

function kept(verdicts: readonly Verdict[]): readonly HeldBackup[] {
  return verdicts.filter(({ keep }) => keep).map(({ held }) => held);
}
const why = (verdicts: readonly Verdict[], held: HeldBackup): string =>
  verdicts.find((verdict) => verdict.held === held)?.reasons.join("; ") ?? "?";

describe("retention keeps", () => {
  const noon = Date.UTC(2026, 2, 1, 12);

  test("the last of each schedule, and of those on demand, each by itself", () => {
    const own = hours(5, noon);
    const nightly = hours(3, noon - 6 * hourMs, { schedule: "nightly" });
    const demand = hours(40, noon, { schedule: undefined });
    const verdicts = decideKeep({ ...nothing, last: 2 }, [...own, ...nightly, ...demand], now);
    expect(kept(verdicts)).toEqual([own[0], own[1], nightly[0], nightly[1], demand[0], demand[1]]);
    expect(why(verdicts, own[4] ?? backup(0))).toBe("last: number 5 of hourly, and 2 are kept");
  });

  test("the newest of each hour, day, week from Monday, month and year, in UTC", () => {
    const times = [
      "2026-03-01T12:00", // Sunday
      "2026-03-01T11:50",
      "2026-03-01T00:00",
      "2026-02-28T23:59",
      "2026-02-23T00:00", // Monday
      "2026-02-22T23:59", // Sunday of the week before
      "2026-01-31T23:59",
      "2025-12-31T23:59",
      "2025-01-01T00:00",
      "2024-02-29T12:00",
    ].map((text) => backup(Date.parse(`${text}Z`)));
    const of = (policy: Partial<RetentionPolicy>): string[] =>
      kept(decideKeep({ ...nothing, ...policy }, times, now)).map(({ timeMs }) =>
        new Date(timeMs).toISOString().slice(0, 16),
      );
    const at = (...indexes: number[]): string[] =>
      indexes.map((index) => new Date(times[index]?.timeMs ?? 0).toISOString().slice(0, 16));
    expect(of({ hourly: 2 })).toEqual(at(0, 1));
    expect(of({ daily: 2 })).toEqual(at(0, 3));
    expect(of({ weekly: 3 })).toEqual(at(0, 5, 6));
    expect(of({ monthly: 9 })).toEqual(at(0, 3, 6, 7, 8, 9));
    expect(of({ yearly: 3 })).toEqual(at(0, 7, 9));
  });

  test("the calendar of every month from 1970 to 2100", () => {
    for (let year = 1970; year <= 2100; year += 1) {
      const months = Array.from({ length: 12 }, (_, month) => [
        backup(Date.UTC(year, month, 1)),
        backup(Date.UTC(year, month + 1, 1) - 1000),
      ]).flat();
      const verdicts = decideKeep({ ...nothing, monthly: 100 }, months, Date.UTC(year + 1, 0, 1));
      expect(kept(verdicts)).toEqual(months.filter((_, index) => index % 2 === 1));
    }
  });

  test("the proven one of an hour, although a newer one there could not be proven", () => {
    const proven = backup(noon);
    const unproven = backup(noon + 60_000, { proven: false });
    const newest = backup(noon + 120_000, { proven: false });
    const verdicts = decideKeep({ ...nothing, hourly: 1 }, [proven, unproven, newest], now);
    expect(kept(verdicts)).toEqual([proven, newest]);
    expect(why(verdicts, unproven)).toBe(`hourly: ${proven.backup} stands for its hour`);
  });

  test("everything within a span before the newest commit, not before now", () => {
    const all = hours(10, noon - 100 * dayMs);
    expect(kept(decideKeep({ ...nothing, withinMs: 3 * hourMs }, all, now))).toEqual(all.slice(0, 4));
  });

  test("what the store dates within the span, although the clock that made it was years back", () => {
    const good = hours(3, noon);
    const backward = backup(Date.UTC(2001, 0, 1), { storedAtMs: noon - hourMs, revision: 1n });
    expect(kept(decideKeep({ ...nothing, withinMs: 2 * hourMs }, [...good, backward], now))).toContain(backward);
  });

  test("what is pinned, imported or refused, and counts none of the last two", () => {
    const pinned = backup(noon - 900 * dayMs, { pinned: "before the migration" });
    const foreign = backup(noon, { kind: "foreign", lineage: second, revision: 10n ** 15n });
    const refused = backup(noon, { kind: "refused" });
    const own = hours(3, noon - hourMs);
    const verdicts = decideKeep({ ...nothing, last: 1 }, [pinned, foreign, refused, ...own], now);
    expect(kept(verdicts)).toEqual([pinned, foreign, refused, own[0]]);
    expect(why(verdicts, pinned)).toBe("pinned: before the migration");
    expect(why(verdicts, foreign)).toBe("imported: goes by name only");
    expect(why(verdicts, refused)).toBe("cannot be believed: never expired");
  });

  test("the newest proven ones before maxBytes, which takes unproven ones and then the oldest", () => {
    const proven = hours(4, noon);
    const unproven = hours(4, noon + 60_000, { proven: false });
    const policy = { ...nothing, hourly: 10, withinMs: dayMs, minProven: 2 };
    const all = [...proven, ...unproven];
    expect(kept(decideKeep(policy, all, now))).toEqual(all);
    expect(kept(decideKeep({ ...policy, maxBytes: 450 }, all, now))).toEqual([...proven, unproven[0]]);
    expect(kept(decideKeep({ ...policy, maxBytes: 300 }, all, now))).toEqual([...proven.slice(0, 3), unproven[0]]);
    const least = decideKeep({ ...policy, maxBytes: 0 }, all, now);
    expect(kept(least)).toEqual([...proven.slice(0, 2), unproven[0]]);
    expect(why(least, proven[2] ?? backup(0))).toContain("maxBytes");
  });

  test("the newest of each configured schedule, since it says what is due", () => {
    const yearly = backup(noon - 300 * dayMs, { schedule: "yearly" });
    const policy = { ...nothing, last: 0, withinMs: hourMs };
    expect(kept(decideKeep({ ...policy, schedules: ["yearly"] }, [...hours(3, noon), yearly], now))).toContain(yearly);
    expect(kept(decideKeep(policy, [...hours(3, noon), yearly], now))).not.toContain(yearly);
  });

  test("what is dated in the future, and lets it push nothing out", () => {
    const own = hours(10, noon);
    const ahead = hours(1000, noon + 2000 * hourMs, { schedule: "hourly" }).filter(({ timeMs }) => timeMs > now);
    const policy = { ...nothing, last: 2, hourly: 5, withinMs: hourMs };
    const verdicts = decideKeep(policy, [...own, ...ahead], now);
    expect(kept(verdicts)).toEqual([...kept(decideKeep(policy, own, now)), ...ahead.filter((a) => a.timeMs > now)]);
  });

  test("good backups through a burst of a thousand tiny ones, proven or not", () => {
    const policy = { ...nothing, last: 6, hourly: 24, daily: 7, monthly: 12, withinMs: 6 * hourMs, minProven: 3 };
    const good = [
      ...hours(48, noon - 60_000 * 60),
      ...Array.from({ length: 12 }, (_, n) => backup(noon - n * 30 * dayMs)),
    ];
    const before = new Set(kept(decideKeep(policy, good, now)));
    for (const proven of [false, true]) {
      const burst = Array.from({ length: 1000 }, (_, n) =>
        backup(noon + n * 1000, { schedule: undefined, proven, storedBytes: 1, revision: 10n ** 12n + BigInt(n) }),
      );
      const after = new Set(kept(decideKeep(policy, [...good, ...burst], now)));
      // A proven burst is real history: it may stand for its own hour, and time has gone on by a quarter of an hour.
      const lost = [...before].filter((held) => !after.has(held));
      expect(lost.length).toBeLessThanOrEqual(proven ? 2 : 0);
    }
  });

  test("a lineage that ended for a month, and as long as the next one is not proven", () => {
    const policy = { ...nothing, last: 3, hourly: 4, monthly: 12, minProven: 2 };
    const old = [...hours(30, noon - 40 * dayMs), backup(noon - 80 * dayMs)];
    const alone = kept(decideKeep(policy, old, now));
    const next = (proven: boolean, newestMs: number): HeldBackup[] =>
      hours(5, newestMs, { lineage: second, proven, revision: 7n });
    const ofOld = (successors: readonly HeldBackup[]): readonly HeldBackup[] =>
      kept(decideKeep(policy, [...old, ...successors], now)).filter(({ lineage }) => lineage === first);
    expect(ofOld(next(false, noon))).toEqual(alone);
    expect(ofOld(next(true, noon - 20 * dayMs))).toEqual(alone);
    // Only its months are left, each by its newest.
    expect(ofOld(next(true, noon))).toEqual([old[0], old.at(-1)]);
  });
});

describe("by whatever policy, backups and clock", () => {
  const policies: fc.Arbitrary<RetentionPolicy> = fc.record({
    last: fc.nat(4),
    hourly: fc.nat(4),
    daily: fc.nat(4),
    weekly: fc.nat(3),
    monthly: fc.nat(3),
    yearly: fc.nat(2),
    withinMs: fc.constantFrom(0, hourMs, dayMs, 40 * dayMs),
    maxBytes: fc.option(fc.nat(4000), { nil: undefined }),
    minProven: fc.nat(4),
    schedules: fc.constantFrom([], ["hourly"], ["hourly", "nightly", "gone"]),
  });
  // Near and far, before and after now: any daemon's clock may have been wrong.
  const times = fc.oneof(
    fc.integer({ min: now - 3 * dayMs, max: now + 3 * hourMs }),
    fc.integer({ min: now - 800 * dayMs, max: now + 800 * dayMs }),
  );
  const arbitrary: fc.Arbitrary<HeldBackup> = fc
    .record({
      lineage: fc.constantFrom(first, second),
      kind: fc.constantFrom("live", "live", "live", "live", "foreign", "refused"),
      timeMs: times,
      lateMs: fc.oneof(fc.nat(60_000), fc.integer({ min: -dayMs, max: 500 * dayMs })),
      revision: fc.bigInt(0n, 50n),
      schedule: fc.constantFrom("hourly", "nightly", undefined),
      proven: fc.boolean(),
      pinned: fc.option(fc.constant("kept"), { nil: undefined, freq: 12 }),
      storedBytes: fc.nat(500),
    })
    .map(({ lateMs, ...held }) => backup(held.timeMs, { ...held, committedMs: held.timeMs + lateMs }) as HeldBackup);
  const sets = fc.array(arbitrary, { maxLength: 40 });

  test("the newest proven backup, and the minimum number of proven ones, stay", () => {
    fc.assert(
      fc.property(policies, sets, times, (policy, backups, nowMs) => {
        const stay = new Set(kept(decideKeep(policy, backups, nowMs)));
        const proven = backups.filter((held) => held.proven && held.kind === "live");
        const past = proven.filter((held) => Math.max(held.timeMs, held.committedMs) <= nowMs + hourMs);
        const newest = past.toSorted((a, b) => b.committedMs - a.committedMs)[0];
        if (newest !== undefined) expect(stay.has(newest)).toBe(true);
        const least = Math.max(1, policy.minProven);
        expect(past.filter((held) => stay.has(held)).length).toBeGreaterThanOrEqual(Math.min(least, past.length));
        // Of the current history as well, by its revisions, whatever clocks said.
        const current = backups
          .filter((held) => held.kind === "live" && Math.max(held.timeMs, held.committedMs) <= nowMs + hourMs)
          .reduce((top, { lineage }) => (lineage > top ? lineage : top), "");
        const highest = past
          .filter(({ lineage }) => lineage === current)
          .toSorted((a, b) => Number(b.revision - a.revision));
        expect(highest.filter((held) => stay.has(held)).length).toBeGreaterThanOrEqual(Math.min(least, highest.length));
        const top = highest.filter(({ revision }) => revision === highest[0]?.revision);
        expect(top.length === 0 || top.some((held) => stay.has(held))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("what is pinned, imported, refused or dated in the future stays, and every verdict has a reason", () => {
    fc.assert(
      fc.property(policies, sets, times, (policy, backups, nowMs) => {
        for (const { held, keep, reasons } of decideKeep(policy, backups, nowMs)) {
          expect(reasons.length).toBeGreaterThan(0);
          const beyond =
            held.pinned !== undefined ||
            held.kind !== "live" ||
            Math.max(held.timeMs, held.committedMs) > nowMs + hourMs;
          if (beyond) expect(keep).toBe(true);
        }
      }),
    );
  });

  test("applying it twice takes away no more than once", () => {
    fc.assert(
      fc.property(policies, sets, times, (policy, backups, nowMs) => {
        const once = kept(decideKeep(policy, backups, nowMs));
        expect(kept(decideKeep(policy, once, nowMs))).toEqual(once);
      }),
      { numRuns: 2000 },
    );
  });

  test("removing a part, as a run that was killed did, takes away no more in the end", () => {
    fc.assert(
      fc.property(policies, sets, times, fc.infiniteStream(fc.boolean()), (policy, backups, nowMs, dice) => {
        const verdicts = decideKeep(policy, backups, nowMs);
        const left = verdicts.filter(({ keep }) => keep || dice.next().value === true).map(({ held }) => held);
        const stay = new Set(kept(decideKeep(policy, left, nowMs)));
        for (const held of kept(verdicts)) expect(stay.has(held)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("the order in which backups are listed decides nothing", () => {
    fc.assert(
      fc.property(policies, sets, times, (policy, backups, nowMs) => {
        const forward = new Set(kept(decideKeep(policy, backups, nowMs)));
        const back = kept(decideKeep(policy, backups.toReversed(), nowMs));
        expect(new Set(back)).toEqual(forward);
      }),
    );
  });

  test("a larger policy never takes away more", () => {
    const more = fc.record({
      last: fc.nat(3),
      hourly: fc.nat(3),
      daily: fc.nat(3),
      weekly: fc.nat(3),
      monthly: fc.nat(3),
      yearly: fc.nat(3),
      withinMs: fc.constantFrom(0, hourMs, 90 * dayMs),
      minProven: fc.nat(3),
    });
    fc.assert(
      fc.property(policies, more, sets, times, (given, plus, backups, nowMs) => {
        const policy = { ...given, maxBytes: undefined };
        const larger = {
          ...policy,
          last: policy.last + plus.last,
          hourly: policy.hourly + plus.hourly,
          daily: policy.daily + plus.daily,
          weekly: policy.weekly + plus.weekly,
          monthly: policy.monthly + plus.monthly,
          yearly: policy.yearly + plus.yearly,
          withinMs: policy.withinMs + plus.withinMs,
          minProven: policy.minProven + plus.minProven,
        };
        const stay = new Set(kept(decideKeep(larger, backups, nowMs)));
        for (const held of kept(decideKeep(policy, backups, nowMs))) expect(stay.has(held)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("more room, or a pin, never takes away more", () => {
    fc.assert(
      fc.property(policies, fc.nat(4000), sets, times, fc.nat(), (policy, plus, backups, nowMs, which) => {
        const stay = kept(decideKeep(policy, backups, nowMs));
        const roomier = { ...policy, maxBytes: policy.maxBytes === undefined ? undefined : policy.maxBytes + plus };
        const more = new Set(kept(decideKeep(roomier, backups, nowMs)));
        for (const held of stay) expect(more.has(held)).toBe(true);
        const chosen = stay[which % Math.max(1, stay.length)];
        const pinned = backups.map((held) => (held === chosen ? { ...held, pinned: "by a test" } : held));
        const names = new Set(kept(decideKeep(policy, pinned, nowMs)).map((held) => held.backup));
        for (const held of stay) expect(names.has(held.backup)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test("later, without new backups, nothing more goes", () => {
    fc.assert(
      fc.property(policies, sets, fc.nat(5000 * dayMs), (policy, backups, laterMs) => {
        const past = backups.filter((held) => Math.max(held.timeMs, held.committedMs) <= now);
        expect(kept(decideKeep(policy, past, now + laterMs))).toEqual(kept(decideKeep(policy, past, now)));
      }),
    );
  });

  test("unproven backups, however many, newer, larger, and in whatever lineage, push out no proven one", () => {
    fc.assert(
      fc.property(policies, sets, sets, times, (policy, backups, burst, nowMs) => {
        const garbage = burst.map((held) => ({ ...held, proven: false, pinned: undefined }));
        const stay = new Set(kept(decideKeep(policy, [...backups, ...garbage], nowMs)));
        for (const held of kept(decideKeep(policy, backups, nowMs))) {
          if (held.proven) expect(stay.has(held)).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("what happens in another lineage within a month takes nothing from this one", () => {
    fc.assert(
      fc.property(policies, sets, sets, (given, own, others) => {
        const policy = { ...given, maxBytes: undefined, schedules: [] };
        const here = own.map((held) => ({
          ...held,
          lineage: first,
          committedMs: Math.min(held.committedMs, now),
          timeMs: Math.min(held.timeMs, now),
        }));
        const newestMs = Math.max(...here.filter(({ kind }) => kind === "live").map(({ committedMs }) => committedMs));
        const there = others.map((held) => ({
          ...held,
          lineage: second,
          committedMs: Math.min(held.committedMs, newestMs + 30 * dayMs),
        }));
        const stay = new Set(kept(decideKeep(policy, [...here, ...there], now)));
        for (const held of kept(decideKeep(policy, here, now))) expect(stay.has(held)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });
});
