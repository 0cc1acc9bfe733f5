import type { LogLine } from "../cluster/daemon.ts";

/** What became of each slot of a schedule: by the repository, and by everything that every daemon said. Pure: it reads nothing. */

export interface SlotAccount {
  readonly slots: number;
  readonly committed: number;
  /** Not committed, and told: a run that failed, slots that were missed, a pause. */
  readonly failed: number;
  readonly missed: number;
  readonly held: number;
  /** Committed, and nobody lived to say so. */
  readonly untold: number;
  /** Neither committed nor told: none may be. */
  readonly lost: readonly string[];
  /** Committed more than once: none may be. */
  readonly twice: readonly string[];
  /** Runs that were told as committed and are not in the repository: none may be, unless retention took them. */
  readonly vanished: readonly string[];
}

export interface AccountInput {
  readonly schedule: string;
  /** The instants of the schedule that are asked about, milliseconds, ascending. */
  readonly slots: readonly number[];
  /** Ids of the backups that the repository lists, of all lineages; each as often as it is listed. */
  readonly listed: readonly string[];
  /** Every line of every daemon. */
  readonly lines: readonly LogLine[];
}

/** Accounts for the slots of one schedule. */
export function accountForSlots({ schedule, slots, listed, lines }: AccountInput): SlotAccount {
  const listedTimes = new Map<number, number>();
  for (const id of listed) {
    const slotMs = slotOf(id, schedule);
    if (slotMs !== undefined) listedTimes.set(slotMs, (listedTimes.get(slotMs) ?? 0) + 1);
  }
  const own = lines.filter((line) => line["schedule"] === schedule);
  const told = new Map<number, Set<string>>();
  for (const line of own.filter(({ event }) => event === "backup.committed")) {
    const slotMs = timeOf(line["slotMs"]);
    told.set(slotMs, (told.get(slotMs) ?? new Set()).add(String(line["run"])));
  }
  const at = (event: string): ReadonlySet<number> =>
    new Set(own.filter((line) => line.event === event).map((line) => timeOf(line["slotMs"])));
  const [failed, held] = [at("backup.failed"), at("schedule.held")];
  const missed = missedSlots(slots, own);
  const counts = { committed: 0, failed: 0, missed: 0, held: 0, untold: 0 };
  const lost: string[] = [];
  for (const slotMs of slots) {
    if (listedTimes.has(slotMs)) {
      counts.committed += 1;
      if (!told.has(slotMs)) counts.untold += 1;
    } else if (failed.has(slotMs)) counts.failed += 1;
    else if (missed.has(slotMs)) counts.missed += 1;
    else if (held.has(slotMs)) counts.held += 1;
    else lost.push(format(slotMs));
  }
  return {
    slots: slots.length,
    ...counts,
    lost,
    twice: [
      ...[...listedTimes].filter(([, times]) => times > 1).map(([slotMs]) => `${format(slotMs)} listed twice`),
      ...[...told].filter(([, runs]) => runs.size > 1).map(([slotMs]) => `${format(slotMs)} told by two runs`),
    ],
    vanished: [...told.keys()].filter((slotMs) => !listedTimes.has(slotMs)).map(format),
  };
}

/** `schedule.missed` counts slots backwards from the one that serves them, which itself is no missed one. */
function missedSlots(slots: readonly number[], lines: readonly LogLine[]): ReadonlySet<number> {
  const missed = new Set<number>();
  for (const line of lines) {
    if (line.event !== "schedule.missed") continue;
    const servedMs = timeOf(line["newestSlotMs"]);
    const before = slots.filter((slotMs) => slotMs < servedMs);
    for (const slotMs of before.slice(-Number(line["slots"]))) missed.add(slotMs);
  }
  return missed;
}

function slotOf(id: string, schedule: string): number | undefined {
  const match = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z\.slot\.([a-z0-9-]+)$/.exec(id);
  if (match === null || match[7] !== schedule) return undefined;
  const [, year, month, day, hour, minute, second] = match;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

function timeOf(value: unknown): number {
  return Number(value ?? NaN);
}

function format(slotMs: number): string {
  return Number.isNaN(slotMs) ? "a slot without a time" : new Date(slotMs).toISOString();
}
