import { stableDelay } from "../daemon/due.ts";
import { offsetAt, slotAfter, slotInterval } from "../daemon/slots.ts";
import { Fault } from "../faults.ts";
import { formatAge, formatDuration, formatTime } from "../format.ts";
import { formatInstant } from "../repository/documents.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

type Schedule = Tools["loaded"]["config"]["schedules"][number];

const nextShown = 5;
/** A year and a bit: both changes of the clock are in it. */
const aheadMs = 400 * 86_400_000;
/** Slots of seconds would fill the year with millions; theirs are all alike. */
const mostSlots = 20_000;

/** Says when each schedule, or the one that is named, will run: in its zone and in UTC, with the days on which clocks change. Looks at the configuration alone. */
export async function scheduleExplainCommand(
  environment: Environment,
  name: string | undefined,
  options: CommonOptions,
): Promise<number> {
  const { console } = environment;
  await using tools = environment.open(options.config);
  const { config, path } = tools.loaded;
  const chosen = config.schedules.filter((schedule) => name === undefined || schedule.name === name);
  if (chosen.length === 0) {
    const names = config.schedules.map((schedule) => schedule.name).join(", ");
    throw new Fault("not-found", `there is no schedule ${name === undefined ? "" : `"${name}" `}in ${path}`, {
      hint: names === "" ? "schedules is empty there" : `there is: ${names}`,
    });
  }
  const nowMs = tools.clock.now();
  const explained = chosen.map((schedule) => explain(config.cluster.name, schedule, nowMs));
  if (options.json === true) printJson(console, { schema: "etcd-lifeboat/schedule-explain/v1", schedules: explained });
  else console.out(explained.map((schedule) => textOf(schedule, nowMs)).join("\n"));
  return 0;
}

interface Explained {
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly jitterMs: number;
  /** What this cluster waits of the jitter, on every daemon. */
  readonly delayMs: number;
  readonly next: readonly Slot[];
  readonly longestIntervalMs: number | null;
  /** Without a success for this long, it is overdue: by the interval that the metrics tell, which looks ahead a week. */
  readonly overdueAfterMs: number | null;
  readonly clockChanges: readonly ClockChange[];
}

interface Slot {
  readonly slot: string;
  /** The same instant on the zone's clocks. */
  readonly local: string;
  readonly start: string;
}

interface ClockChange {
  readonly at: string;
  readonly local: string;
  /** Minutes by which clocks are put forward; negative: back. */
  readonly minutes: number;
  /** The slots within three hours of it. */
  readonly slots: readonly string[];
}

function explain(cluster: string, schedule: Schedule, nowMs: number): Explained {
  const { name, cron, fields, timeZone, jitterMs } = schedule;
  const delayMs = stableDelay(cluster, name, jitterMs);
  const slots = slotsFrom(schedule, nowMs, nowMs + aheadMs, mostSlots);
  const longest = slots.reduce((most, at, index) => Math.max(most, index === 0 ? 0 : at - (slots[index - 1] ?? at)), 0);
  // A schedule may fire less than once in a year.
  const rare = slots.length < 2 ? distance(schedule, nowMs) : longest;
  const usual = slotInterval(fields, timeZone, nowMs);
  return {
    name,
    cron,
    timeZone,
    jitterMs,
    delayMs,
    next: slotsFrom({ fields, timeZone }, nowMs, Infinity, nextShown).map((atMs) => ({
      slot: formatInstant(atMs),
      local: localTime(timeZone, atMs),
      start: formatInstant(atMs + delayMs),
    })),
    longestIntervalMs: rare ?? null,
    overdueAfterMs: usual === undefined ? null : 2 * usual + 600_000,
    clockChanges: clockChanges(timeZone, nowMs).map((atMs) => ({
      at: formatInstant(atMs),
      local: localTime(timeZone, atMs),
      minutes: (offsetAt(timeZone, atMs) - offsetAt(timeZone, atMs - 1)) / 60_000,
      slots: slotsFrom(schedule, atMs - around - 1, atMs + around, 12).map((slot) => localTime(timeZone, slot)),
    })),
  };
}

const around = 3 * 3_600_000;

function slotsFrom(
  { fields, timeZone }: Pick<Schedule, "fields" | "timeZone">,
  fromMs: number,
  untilMs: number,
  most: number,
): readonly number[] {
  const slots: number[] = [];
  let at = slotAfter(fields, timeZone, fromMs);
  while (at !== undefined && at <= untilMs && slots.length < most) {
    slots.push(at);
    at = slotAfter(fields, timeZone, at);
  }
  return slots;
}

function distance({ fields, timeZone }: Schedule, nowMs: number): number | undefined {
  const [first, second] = slotsFrom({ fields, timeZone }, nowMs, Infinity, 2);
  return first === undefined || second === undefined ? undefined : second - first;
}

/** The instants of the next year at which the zone's clocks are changed. */
function clockChanges(timeZone: string, nowMs: number): readonly number[] {
  const changes: number[] = [];
  const hourMs = 3_600_000;
  for (let at = Math.ceil(nowMs / hourMs) * hourMs; at < nowMs + aheadMs; at += 24 * hourMs) {
    if (offsetAt(timeZone, at) === offsetAt(timeZone, at + 24 * hourMs)) continue;
    let [low, high] = [at, at + 24 * hourMs];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (offsetAt(timeZone, middle) === offsetAt(timeZone, at)) low = middle;
      else high = middle;
    }
    changes.push(high);
  }
  return changes;
}

const weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** `Sun 2027-03-28 03:30:00 +02:00` */
function localTime(timeZone: string, timeMs: number): string {
  const offsetMs = offsetAt(timeZone, timeMs);
  const local = new Date(timeMs + offsetMs);
  const minutes = Math.round(Math.abs(offsetMs) / 60_000);
  const offset = `${offsetMs < 0 ? "-" : "+"}${pad(Math.floor(minutes / 60))}:${pad(minutes % 60)}`;
  return `${weekdays[local.getUTCDay()]} ${local.toISOString().slice(0, 19).replace("T", " ")} ${offset}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

function textOf(schedule: Explained, nowMs: number): string {
  const {
    name,
    cron,
    timeZone,
    jitterMs,
    delayMs,
    longestIntervalMs,
    overdueAfterMs,
    clockChanges: changes,
  } = schedule;
  const lines = [`${name}: "${cron}" in ${timeZone}\n`];
  lines.push(
    formatTable([
      ["  SLOT", "UTC", ""],
      ...schedule.next.map(({ slot, local }) => [
        `  ${local}`,
        formatTime(Date.parse(slot)),
        formatAge(Date.parse(slot), nowMs),
      ]),
    ]),
  );
  if (jitterMs > 0) {
    lines.push(
      `  each starts ${formatDuration(delayMs)} after its slot: this cluster's part of the jitter, the same on every daemon\n`,
    );
  }
  if (longestIntervalMs !== null && overdueAfterMs !== null) {
    lines.push(
      `  at most ${formatDuration(longestIntervalMs)} from slot to slot; overdue after ${formatDuration(overdueAfterMs)} without a success\n`,
    );
  }
  for (const { local, minutes, slots } of changes) {
    const what = `${minutes > 0 ? "forward" : "back"} by ${formatDuration(Math.abs(minutes) * 60_000)}`;
    const near = slots.length === 0 ? "no slot is near" : `slots around it: ${slots.join(", ")}`;
    lines.push(`  clocks go ${what} at ${local}: ${near}\n`);
  }
  if (changes.length > 0) {
    lines.push(
      "  a time that does not exist runs when the gap ends, one that comes twice runs once; what runs in every hour follows the elapsed hours\n",
    );
  }
  return lines.join("");
}
