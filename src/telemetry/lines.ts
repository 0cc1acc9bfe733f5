import { escapeControls, formatBytes, formatDuration, formatTime } from "../format.ts";
import type { Level, Told, ToldField, ToldValue } from "./told.ts";

/** One JSON object: time (RFC 3339, UTC, milliseconds), level, event, then the event's own fields. No line end. */
export function jsonLine(told: Told, timeMs: number): string {
  const line = { time: new Date(timeMs).toISOString(), level: told.level, event: told.event, ...plain(told.fields) };
  // JSON leaves DEL, C1 and marks of direction as they are; their escapes are JSON, too.
  return escapeControls(JSON.stringify(line));
}

function plain(fields: readonly ToldField[]): Record<string, unknown> {
  return Object.fromEntries(fields.map(({ key, value }) => [key, plainValue(value)]));
}

function plainValue(value: ToldValue): unknown {
  return Array.isArray(value)
    ? value.map((item: string | readonly ToldField[]) => (typeof item === "string" ? item : plain(item)))
    : value;
}

/** sd-daemon(3): what journald reads as the line's priority. */
const priorities: Record<Level, string> = { error: "<3>", warn: "<4>", info: "<6>", debug: "<7>" };

/** One line for people: time, level, event, key=value with units. Without a time it is a line for journald. No line end. */
export function textLine(told: Told, timeMs: number | undefined): string {
  const head =
    timeMs === undefined ? priorities[told.level] : `${new Date(timeMs).toISOString()} ${told.level.padEnd(5)} `;
  return `${head}${[told.event, ...told.fields.map((field) => pair(field))].join(" ")}`;
}

function pair(field: ToldField): string {
  return `${keyFor(field)}=${quoted(readable(field))}`;
}

/** The unit is in the value, so it leaves the key: durationMs=4211 becomes duration=4.2s. */
function keyFor({ key, kind }: ToldField): string {
  if (kind === "time" || kind === "duration") return key.replace(/Ms$/, "");
  return kind === "bytes" ? key.replace(/(?<=.)Bytes$/, "") : key;
}

function readable({ kind, value }: ToldField): string {
  if (typeof value === "number") {
    if (kind === "bytes") return formatBytes(value).replace(" ", "");
    if (kind === "time") return formatTime(value);
    if (kind === "duration") return formatDuration(value).replace(" ", "");
    return String(value);
  }
  if (typeof value !== "object") return String(value);
  return value.map((item) => (typeof item === "string" ? item : item.map(pair).join(" "))).join("; ");
}

function quoted(text: string): string {
  const safe = escapeControls(text);
  return /^[^\s"'=;]+$/.test(safe) ? safe : `"${safe.replaceAll('"', '\\"')}"`;
}
