import { expect, test } from "vitest";
import { planTrouble } from "./trouble.ts";

const hour = { durationMs: 3_600_000, members: 3, daemons: 3, watchdogMs: 120_000 };

test("the same seed makes the same trouble, another one other trouble", () => {
  expect(planTrouble({ ...hour, seed: 7 })).toEqual(planTrouble({ ...hour, seed: 7 }));
  expect(planTrouble({ ...hour, seed: 7 })).not.toEqual(planTrouble({ ...hour, seed: 8 }));
});

test("an hour has trouble of every kind, in order, and all of it comes right before its end", () => {
  const plan = planTrouble({ ...hour, seed: 1 });
  expect(new Set(plan.map(({ kind }) => kind)).size).toBe(10);
  expect(plan.map(({ atMs }) => atMs)).toEqual(plan.map(({ atMs }) => atMs).toSorted((a, b) => a - b));
  for (const { atMs, forMs } of plan) expect(atMs + forMs).toBeLessThanOrEqual(hour.durationMs);
  expect(plan.at(-1)).toMatchObject({ kind: "daemon-killed", daemons: [0, 1, 2] });
  expect(plan.some(({ kind, forMs }) => kind === "daemon-paused" && forMs > hour.watchdogMs)).toBe(true);
});

test("five minutes have trouble of members, of both stores and of the daemons", () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const plan = planTrouble({ ...hour, durationMs: 220_000, seed });
    const whose = new Set(plan.map(({ kind }) => kind.slice(0, kind.indexOf("-"))));
    expect(whose).toEqual(new Set(["member", "store", "copy", "daemon"]));
  }
});

test("no daemon is ended so often that systemd would give it up", () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const plan = planTrouble({ ...hour, seed }).slice(0, -1);
    const ends = plan.filter(
      ({ kind, forMs }) =>
        kind === "daemon-killed" || kind === "daemon-stopped" || (kind === "daemon-paused" && forMs > hour.watchdogMs),
    );
    for (const daemon of [0, 1, 2]) {
      const own = ends.filter((trouble) => "daemons" in trouble && trouble.daemons.includes(daemon));
      for (const { atMs } of own) {
        expect(own.filter((other) => other.atMs >= atMs && other.atMs < atMs + 600_000).length).toBeLessThan(8);
      }
    }
  }
});
