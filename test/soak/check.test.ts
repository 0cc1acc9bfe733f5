import { describe, expect, test } from "vitest";
import { formatBackupName } from "../../src/repository/names.ts";
import type { RetentionPolicy } from "../../src/snapshot/keep.ts";
import { checkExpiry, checkKept } from "./check-kept.ts";
import { checkSlots } from "./check-slots.ts";
import { parseLine, type Evidence, type Line } from "./evidence.ts";
import type { Look, Seen } from "./looks.ts";

/** A checker that finds nothing has to find what is planted: each test changes one thing of a history in which nothing is wrong. */

const startMs = Date.UTC(2026, 2, 1, 12);
const lineage = "01JNS0000000000000000000AA";
const policy: RetentionPolicy = {
  last: 2,
  hourly: 1,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
  withinMs: 0,
  maxBytes: undefined,
  minProven: 2,
  schedules: ["often"],
};
const slots = Array.from({ length: 12 }, (_, index) => startMs + index * 10_000);

function nameAt(slotMs: number): string {
  return formatBackupName({ kind: "slot", timeMs: slotMs, schedule: "often" });
}

function backupAt(slotMs: number, change: Partial<Seen> = {}): Seen {
  return {
    lineage,
    backup: nameAt(slotMs),
    kind: "live",
    timeMs: slotMs,
    committedMs: slotMs + 1000,
    storedAtMs: slotMs + 1000,
    revision: BigInt(slotMs - startMs) + 1n,
    schedule: "often",
    proven: true,
    pinned: undefined,
    storedBytes: 1000,
    snapshot: "",
    ...change,
  };
}

function line(process: string, atMs: number, event: string, fields: Record<string, unknown> = {}): Line {
  return { process, atMs, level: event === "backup.failed" ? "error" : "info", event, fields };
}

function linesOf(process: string, slotMs: number): Line[] {
  const of = { run: `${process} ${slotMs}`, schedule: "often", slotMs };
  return [
    line(process, slotMs + 10, "backup.started", of),
    line(process, slotMs + 1000, "backup.committed", of),
    line(process, slotMs + 1500, "backup.proven", of),
  ];
}

/** One daemon commits each slot, and expires once, after the sixth. */
function sound(): Evidence & { looks: Look[]; lines: Line[] } {
  const lines = [
    line("cp1/1", startMs - 18_000, "schedule.read", { schedule: "often" }),
    ...slots.flatMap((slotMs) => linesOf("cp1/1", slotMs)),
  ];
  const sixthMs = startMs + 50_000;
  const gone = slots.slice(0, 4);
  lines.push(
    line("cp1/1", sixthMs + 1600, "retention.surveyed"),
    ...gone.map((slotMs) => line("cp1/1", sixthMs + 1700, "backup.expired", { lineage, backup: nameAt(slotMs) })),
    line("cp1/1", sixthMs + 1800, "retention.applied", { left: 0, expired: gone.length }),
  );
  const looks: Look[] = [];
  for (let atMs = startMs; atMs < startMs + 125_000; atMs += 500) {
    const there = slots.filter((slotMs) => slotMs + 1000 <= atMs && !(gone.includes(slotMs) && atMs >= sixthMs + 1750));
    looks.push({ atMs, backups: new Map(there.map((slotMs) => [`${lineage}/${nameAt(slotMs)}`, backupAt(slotMs)])) });
  }
  return {
    policy,
    schedules: [{ name: "often", slots }],
    looks,
    lines: lines.toSorted((a, b) => a.atMs - b.atMs),
    lives: [{ process: "cp1/1", readyMs: startMs - 20_000, endedMs: startMs + 130_000, paused: [], killed: false }],
    troubles: [],
  };
}

function without(evidence: Evidence, slotMs: number): Evidence {
  return {
    ...evidence,
    lines: evidence.lines.filter(({ fields }) => fields["slotMs"] !== slotMs),
    looks: evidence.looks.map(({ atMs, backups }) => ({
      atMs,
      backups: new Map([...backups].filter(([, { timeMs }]) => timeMs !== slotMs)),
    })),
  };
}

function changeLooks(
  evidence: Evidence,
  fromMs: number,
  change: (backups: Map<string, Seen>, atMs: number) => void,
): Evidence {
  const looks = evidence.looks.map(({ atMs, backups }) => {
    const changed = new Map(backups);
    if (atMs >= fromMs) change(changed, atMs);
    return { atMs, backups: changed };
  });
  return { ...evidence, looks };
}

const seventh = startMs + 60_000;
const eighth = startMs + 70_000;
const keyOf = (slotMs: number): string => `${lineage}/${nameAt(slotMs)}`;

describe("in a sound history", () => {
  test("nothing is found, and everything is counted", () => {
    expect(checkSlots(sound())).toEqual({
      counts: { committed: 12, failed: 0, missed: 0, held: 0, lost: 0 },
      violations: [],
    });
    expect(checkKept(sound())).toEqual({ seen: 12, expired: 4, untold: 0, surveys: 1, violations: [] });
  });
});

describe("of slots, the checker finds", () => {
  test("one that is in no look and no line", () => {
    const { counts, violations } = checkSlots(without(sound(), seventh));
    expect(counts).toMatchObject({ committed: 11, lost: 1 });
    expect(violations[0]).toContain(`${nameAt(seventh)} was neither committed`);
  });

  test("one that was missed by a daemon that had nothing to do, though a line says so", () => {
    const evidence = without(sound(), seventh);
    const missed = line("cp1/1", eighth, "schedule.missed", { schedule: "often", slots: 1, newestSlotMs: eighth });
    const { counts, violations } = checkSlots({ ...evidence, lines: [...evidence.lines, missed] });
    expect(counts).toMatchObject({ committed: 11, missed: 1 });
    expect(violations).toEqual([expect.stringContaining("was passed over by cp1/1, which was free for")]);
  });

  test("nothing in one that was missed by a daemon that was still reading the repository, and one that never reads it", () => {
    const evidence = without(sound(), seventh);
    const missed = line("cp1/1", eighth, "schedule.missed", { schedule: "often", slots: 1, newestSlotMs: eighth });
    const readAt = (...reads: readonly number[]): readonly string[] => {
      const lines = [
        ...evidence.lines.filter(({ event }) => event !== "schedule.read"),
        ...reads.map((atMs) => line("cp1/1", atMs, "schedule.read", { schedule: "often" })),
        missed,
      ].toSorted((a, b) => a.atMs - b.atMs);
      return checkSlots({ ...evidence, lines }).violations;
    };
    expect(readAt(eighth - 2000)).toEqual([]);
    expect(readAt()).toEqual([expect.stringContaining("was passed over by cp1/1")]);
  });

  test.for([
    ["was stopped by a signal", { paused: [{ fromMs: seventh - 5000, toMs: eighth }] }],
    ["was down", { readyMs: eighth }],
  ] as const)("nothing in one that was missed, told, and whose daemon %s", ([, change]) => {
    const evidence = without(sound(), seventh);
    const missed = line("cp1/1", eighth, "schedule.missed", { schedule: "often", slots: 1, newestSlotMs: eighth });
    const lives = evidence.lives.map((life) => ({ ...life, ...change }));
    const { counts, violations } = checkSlots({ ...evidence, lives, lines: [...evidence.lines, missed] });
    expect([counts.missed, violations]).toEqual([1, []]);
  });

  test("nothing in one that failed and was told as failed", () => {
    const evidence = without(sound(), seventh);
    const of = { run: "x", schedule: "often", slotMs: seventh };
    const lines = [line("cp1/1", seventh, "backup.started", of), line("cp1/1", seventh + 9000, "backup.failed", of)];
    const { counts, violations } = checkSlots({ ...evidence, lines: [...evidence.lines, ...lines] });
    expect([counts.failed, violations]).toEqual([1, []]);
  });

  test("one that two daemons committed", () => {
    const evidence = sound();
    const { violations } = checkSlots({ ...evidence, lines: [...evidence.lines, ...linesOf("cp2/1", seventh)] });
    expect(violations).toEqual([expect.stringContaining(`${nameAt(seventh)} was committed 2 times: by cp1/1`)]);
  });

  test("one that was committed anew after it had gone", () => {
    const evidence = changeLooks(sound(), startMs + 90_000, (backups) => {
      const first = slots[0] ?? 0;
      backups.set(keyOf(first), backupAt(first));
    });
    expect(checkSlots(evidence).violations).toEqual([`${nameAt(slots[0] ?? 0)} went and came again`]);
  });

  test("one that is told as committed and is not there", () => {
    const { looks } = without(sound(), seventh);
    const { violations } = checkSlots({ ...sound(), looks });
    expect(violations).toContain(`${nameAt(seventh)} was told as committed, and no look ever saw it`);
  });

  test("one that stands in two lineages", () => {
    const other = "01JNS0000000000000000000BB";
    const evidence = changeLooks(sound(), startMs + 90_000, (backups) =>
      backups.set(`${other}/${nameAt(seventh)}`, backupAt(seventh, { lineage: other })),
    );
    expect(checkSlots(evidence).violations).toContain(`${nameAt(seventh)} is there in two lineages`);
  });

  test("what a daemon wrote that is no line of its log", () => {
    const evidence = sound();
    const crash = parseLine("cp1/1", "TypeError: undefined is not a function");
    const { violations } = checkSlots({ ...evidence, lines: [...evidence.lines, crash] });
    expect(violations).toEqual([expect.stringContaining("TypeError")]);
  });
});

describe("of what went and stayed, the checker finds", () => {
  test("a backup that had to stay, with the reasons for it", () => {
    const evidence = changeLooks(sound(), startMs + 95_000, (backups) => backups.delete(keyOf(slots[8] ?? 0)));
    const { violations } = checkKept(evidence);
    expect(violations).toContainEqual(expect.stringMatching(/120120Z.slot.often went at .* had to stay: minProven/));
  });

  test("that the newest proven backup went, without any rule of retention", () => {
    const evidence = changeLooks(sound(), startMs + 95_000, (backups) => backups.delete(keyOf(slots[9] ?? 0)));
    const { violations } = checkKept({ ...evidence, policy: { ...policy, schedules: [] } });
    expect(violations).toContainEqual(expect.stringContaining("was the newest proven backup"));
  });

  test("that fewer proven ones are left than must be", () => {
    const evidence = changeLooks(sound(), startMs + 95_000, (backups) => {
      for (const [key, seen] of backups) if (seen.timeMs !== slots[9]) backups.set(key, { ...seen, proven: false });
    });
    expect(checkKept(evidence).violations).toContainEqual(expect.stringContaining("proven backups were left"));
  });

  test("a removal that nobody tells of, unless a daemon was killed just then", () => {
    const evidence = sound();
    const lines = evidence.lines.filter(({ fields }) => fields["backup"] !== nameAt(slots[1] ?? 0));
    const silent = checkKept({ ...evidence, lines });
    expect(silent).toMatchObject({ untold: 1, violations: [expect.stringContaining("no line tells who removed it")] });
    const killed = { process: "cp2/1", readyMs: startMs, endedMs: startMs + 52_000, paused: [], killed: true };
    expect(checkKept({ ...evidence, lines, lives: [...evidence.lives, killed] }).violations).toEqual([]);
  });

  test("one that is told as expired and is still there", () => {
    const evidence = sound();
    const told = line("cp1/1", startMs + 90_000, "backup.expired", { lineage, backup: nameAt(slots[8] ?? 0) });
    expect(checkKept({ ...evidence, lines: [...evidence.lines, told] }).violations).toEqual([
      expect.stringContaining("was told as expired by cp1/1, and it did not go"),
    ]);
  });

  test("what an expiry left that had to go", () => {
    const evidence = changeLooks(sound(), startMs + 51_750, (backups) => {
      const second = slots[1] ?? 0;
      backups.set(keyOf(second), backupAt(second));
    });
    expect(checkKept(evidence).violations).toContainEqual(
      expect.stringMatching(/120010Z.slot.often stayed at .* cp1\/1 had to let it go/),
    );
  });

  test("what is left without a reason when all was let go by hand", () => {
    const { looks } = sound();
    const before = looks.at(-1) ?? { atMs: 0, backups: new Map() };
    const kept = new Map([...before.backups].slice(-2));
    expect(checkExpiry(policy, before, { ...before, backups: kept })).toEqual([]);
    expect(checkExpiry(policy, before, before)).toContainEqual(expect.stringContaining("is there at the end"));
  });
});
