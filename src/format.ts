/** How numbers, times and foreign text look to people: one way everywhere, on terminals, in text logs and on the status page. */

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] as const;

/** Bytes in IEC units, three digits or so: `0 B`, `1023 B`, `1.5 MiB`, `412 MiB`. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  if (!Number.isFinite(value)) return "unknown";
  let unit = 0;
  // What would be printed as 1024 belongs to the next unit.
  while (Math.round(Math.abs(value)) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && Math.abs(value) < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** A span of milliseconds by its two largest units: `350 ms`, `4.2 s`, `42 s`, `3m 05s`, `4h 02m`, `3d 04h`. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return "unknown";
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  // Rounded before it is cut into units, so that 3599.7 s is not "59m 60s".
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${pad(seconds % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${pad(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${pad(hours % 24)}h`;
}

/** An instant (milliseconds since 1970-01-01 UTC) as RFC 3339 in UTC, seconds: `2026-03-01T06:00:00Z`. */
export function formatTime(ms: number): string {
  const time = new Date(ms);
  return Number.isNaN(time.getTime()) ? "unknown" : `${time.toISOString().slice(0, -5)}Z`;
}

/** How far an instant is from now: `4h 02m ago`, `in 12m 30s`, `now` within a second. */
export function formatAge(thenMs: number, nowMs: number): string {
  const agoMs = nowMs - thenMs;
  if (!Number.isFinite(agoMs)) return "unknown";
  if (Math.abs(agoMs) < 1000) return "now";
  return agoMs > 0 ? `${formatDuration(agoMs)} ago` : `in ${formatDuration(-agoMs)}`;
}

/**
 * What could move a cursor, recolour a terminal, end a line or turn the reading order: C0 (ESC and newline among them), DEL, C1,
 * line and paragraph separators, marks of direction (CVE-2021-42574), invisible spaces, lone surrogates.
 */
const unprintable =
  // eslint-disable-next-line no-control-regex -- control characters are what this looks for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Foreign text made safe for a terminal and for one line of a log: control characters become `\n`, `\t` or `\u001b`. */
export function escapeControls(text: string): string {
  return text.replace(unprintable, (found) => {
    if (found === "\n") return "\\n";
    if (found === "\r") return "\\r";
    if (found === "\t") return "\\t";
    return `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
