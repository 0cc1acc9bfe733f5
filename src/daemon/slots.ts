/**
 * The instants of a cron expression in a time zone. Pure: the calendar comes from Intl, the time from the caller.
 *
 * Where clocks are put forward, a time that does not exist runs at the instant the gap ends; where they are put back, a time that exists twice runs once,
 * at its first occurrence. Expressions that fire in every hour follow the elapsed hours instead: nothing in the gap, both hours of the overlap.
 */

/** Sorted lists, as node-cron's parse gives them; Sunday is 0, January is 1. */
export interface CronFields {
  readonly second: readonly number[];
  readonly minute: readonly number[];
  readonly hour: readonly number[];
  readonly dayOfMonth: readonly number[];
  readonly month: readonly number[];
  readonly dayOfWeek: readonly number[];
}

const dayMs = 86_400_000;
/** The longest distance between two dates that any expression can have is 8 years: 29 February around a century without one. */
const daysAtMost = 8 * 366 + 2;

/** The latest slot at or before `timeMs`; undefined when there is none within eight years. */
export function slotBefore(fields: CronFields, timeZone: string, timeMs: number): number | undefined {
  return search(fields, timeZone, timeMs, -1);
}

/** The earliest slot after `timeMs`; undefined when there is none within eight years. */
export function slotAfter(fields: CronFields, timeZone: string, timeMs: number): number | undefined {
  return search(fields, timeZone, timeMs, 1);
}

/** The longest distance between neighbouring slots after `timeMs`, looking at a week of them at most, and at two slots at least. */
export function slotInterval(fields: CronFields, timeZone: string, timeMs: number): number | undefined {
  let longest: number | undefined;
  let previous = slotAfter(fields, timeZone, timeMs);
  for (let count = 0; count < 64 && previous !== undefined; count += 1) {
    const next = slotAfter(fields, timeZone, previous);
    if (next === undefined) break;
    longest = Math.max(longest ?? 0, next - previous);
    if (next - timeMs > 7 * dayMs) break;
    previous = next;
  }
  return longest;
}

/** Local wall clock minus UTC at an instant, milliseconds. */
export function offsetAt(timeZone: string, timeMs: number): number {
  return openZone(timeZone).offsetAt(timeMs);
}

function search(fields: CronFields, timeZone: string, timeMs: number, direction: 1 | -1): number | undefined {
  const zone = openZone(timeZone);
  const today = Math.floor((timeMs + zone.offsetAt(timeMs)) / dayMs);
  // One day to the other side: a time that is put off by a gap can fall on the next date.
  for (let step = -1; step <= daysAtMost; step += 1) {
    const day = today + step * direction;
    if (!matchesDay(fields, day)) continue;
    const found = searchDay(fields, zone, day, timeMs, direction);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The slot of one local date nearest to `timeMs` on the wanted side. */
function searchDay(fields: CronFields, zone: Zone, day: number, timeMs: number, direction: 1 | -1): number | undefined {
  let best: number | undefined;
  for (const hour of ordered(fields.hour, direction)) {
    // Offsets change by whole minutes, so a minute's instants decide and its seconds follow.
    for (const minute of ordered(fields.minute, direction)) {
      const localMs = day * dayMs + (hour * 60 + minute) * 60_000;
      for (const instant of instantsOf(zone, localMs, fields.hour.length === 24)) {
        const second = nearestSecond(fields, instant, timeMs, direction);
        if (second === undefined) continue;
        if (best === undefined || (direction === 1 ? second < best : second > best)) best = second;
      }
    }
    // Shifts are shorter than three hours, so hours further on cannot come before what is found.
    if (best !== undefined && Math.abs(day * dayMs + hour * 3_600_000 - zone.offsetAt(best) - best) > 3 * 3_600_000)
      break;
  }
  return best;
}

function nearestSecond(fields: CronFields, minuteMs: number, timeMs: number, direction: 1 | -1): number | undefined {
  if (direction === 1 && minuteMs + 59_999 <= timeMs) return undefined;
  if (direction === -1 && minuteMs > timeMs) return undefined;
  const seconds = ordered(fields.second, direction).map((second) => minuteMs + second * 1000);
  return seconds.find((slotMs) => (direction === 1 ? slotMs > timeMs : slotMs <= timeMs));
}

/** When a local wall-clock minute happens: usually once, never in a gap, twice in an overlap. */
function instantsOf(zone: Zone, localMs: number, everyHour: boolean): readonly number[] {
  const early = localMs - zone.offsetAt(localMs - dayMs);
  const late = localMs - zone.offsetAt(localMs + dayMs);
  const instants = [...new Set([early, late])]
    .filter((instant) => instant + zone.offsetAt(instant) === localMs)
    .toSorted((a, b) => a - b);
  const [first] = instants;
  if (first !== undefined) return everyHour ? instants : [first];
  if (everyHour) return [];
  return [gapEnd(zone, Math.min(early, late), Math.max(early, late))];
}

/** The first instant with the new offset, between two instants around a gap. */
function gapEnd(zone: Zone, beforeMs: number, afterMs: number): number {
  let [low, high] = [beforeMs - 3 * 3_600_000, afterMs + 3 * 3_600_000];
  const old = zone.offsetAt(low);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (zone.offsetAt(middle) === old) low = middle;
    else high = middle;
  }
  return high;
}

function matchesDay(fields: CronFields, day: number): boolean {
  const weekday = (((day + 4) % 7) + 7) % 7;
  if (!fields.dayOfWeek.includes(weekday)) return false;
  const { month, dayOfMonth } = civilDate(day);
  return fields.month.includes(month) && fields.dayOfMonth.includes(dayOfMonth);
}

/** Month and day of a day number since 1970-01-01 in the Gregorian calendar (the algorithm of days_from_civil, backwards). */
function civilDate(day: number): { readonly month: number; readonly dayOfMonth: number } {
  const shifted = day + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  return {
    month: shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9,
    dayOfMonth: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
  };
}

function ordered(values: readonly number[], direction: 1 | -1): readonly number[] {
  return direction === 1 ? values : values.toReversed();
}

interface Zone {
  /** Local wall clock minus UTC at an instant, milliseconds. */
  offsetAt(timeMs: number): number;
}

const zones = new Map<string, Zone>();

function openZone(timeZone: string): Zone {
  const known = zones.get(timeZone);
  if (known !== undefined) return known;
  const zone = timeZone === "UTC" ? { offsetAt: () => 0 } : intlZone(timeZone);
  zones.set(timeZone, zone);
  return zone;
}

/** Every zone of today shifts at a quarter of an hour, and asking Intl is slow: a schedule of seconds would block the event loop for as long. */
const quarterMs = 900_000;
const quartersKept = 10_000;

function intlZone(timeZone: string): Zone {
  const format = new Intl.DateTimeFormat("en-US", { timeZone, timeZoneName: "longOffset" });
  const known = new Map<number, number>();
  return {
    offsetAt(timeMs) {
      const quarter = Math.floor(timeMs / quarterMs);
      let offset = known.get(quarter);
      if (offset === undefined) {
        if (known.size >= quartersKept) known.clear();
        offset = readOffset(format, quarter * quarterMs);
        known.set(quarter, offset);
      }
      return offset;
    },
  };
}

function readOffset(format: Intl.DateTimeFormat, timeMs: number): number {
  const name = format.formatToParts(timeMs).find(({ type }) => type === "timeZoneName")?.value ?? "";
  const match = /^GMT(?:([+-])(\d{2}):(\d{2})(?::(\d{2}))?)?$/.exec(name);
  if (match === null) throw new RangeError(`no offset in "${name}"`);
  const [, sign, hours = "0", minutes = "0", seconds = "0"] = match;
  const size = (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
  return sign === "-" ? -size : size;
}
