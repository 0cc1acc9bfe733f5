import { validateDetailed } from "node-cron";
import { Fault } from "../faults.ts";

/** What a cron expression says, every list sorted ascending and without repetition. Sunday is 0, January is 1. */
export interface CronFields {
  readonly second: readonly number[];
  readonly minute: readonly number[];
  readonly hour: readonly number[];
  readonly dayOfMonth: readonly number[];
  readonly month: readonly number[];
  readonly dayOfWeek: readonly number[];
}

/**
 * Reads a cron expression of 5 fields, or 6 with seconds first, as node-cron does, minus what surprises.
 * Throws `config-invalid` with a message that says what to write instead.
 */
export function parseCron(text: string): CronFields {
  const trimmed = text.trim();
  if (trimmed.startsWith("@")) throw invalid(whyNotNamed(trimmed));
  if (trimmed.length > 200) throw invalid("is longer than 200 characters");
  const parsed = validateDetailed(trimmed);
  if (parsed.fields === undefined) {
    // node-cron finds some of the dates that no calendar has by itself.
    if (parsed.errors.some((error) => error.message.includes("impossible day of month"))) throw invalid(neverFires);
    const [error] = parsed.errors;
    throw invalid(
      error === undefined || error.field === "expression"
        ? "is no cron expression: write 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first"
        : `cannot be read: its ${fieldNames.get(error.field) ?? error.field} field is ${JSON.stringify(error.value ?? "")}`,
    );
  }
  const { second, minute, hour, dayOfMonth, month, dayOfWeek } = parsed.fields;
  const fields: CronFields = {
    second: ordered(second),
    minute: ordered(minute),
    hour: ordered(hour),
    dayOfMonth: ordered(dayOfMonth),
    month: ordered(month),
    dayOfWeek: ordered(dayOfWeek),
  };
  if (fields.dayOfMonth.length < 31 && fields.dayOfWeek.length < 7) {
    throw invalid(
      "restricts both day-of-month and day-of-week: cron fires when either fits, node-cron only when both do; " +
        "write two schedules, each with * in one of the two fields",
    );
  }
  if (!everFires(fields)) throw invalid(neverFires);
  return fields;
}

const neverFires = "never fires: no month that it names has such a day";

const fieldNames: ReadonlyMap<string, string> = new Map([
  ["dayOfMonth", "day-of-month"],
  ["dayOfWeek", "day-of-week"],
]);

const namedExpressions: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"],
]);

function whyNotNamed(text: string): string {
  const expression = namedExpressions.get(text.toLowerCase());
  if (expression !== undefined) return `is a name, and names are not read: write "${expression}"`;
  if (/^@every\b/i.test(text)) return 'is a name, and names are not read: for every 6 hours write "0 */6 * * *"';
  return 'is a name, and names are not read: write 5 fields, such as "0 * * * *" for every hour';
}

function ordered(values: readonly (number | string)[]): readonly number[] {
  const numbers = new Set<number>();
  for (const value of values) {
    if (typeof value === "string") throw invalid("has L, W or #, which are not read: write days as numbers");
    numbers.add(value);
  }
  return [...numbers].sort((a, b) => a - b);
}

/** Walks eight years of dates: they hold every pair of month and day, 29 February, and each of them on several weekdays. */
function everFires(fields: CronFields): boolean {
  const dayMs = 86_400_000;
  for (let dateMs = Date.UTC(2024, 0, 1); dateMs < Date.UTC(2032, 0, 1); dateMs += dayMs) {
    const date = new Date(dateMs);
    if (
      fields.month.includes(date.getUTCMonth() + 1) &&
      fields.dayOfMonth.includes(date.getUTCDate()) &&
      fields.dayOfWeek.includes(date.getUTCDay())
    ) {
      return true;
    }
  }
  return false;
}

function invalid(message: string): Fault {
  return new Fault("config-invalid", message);
}
