const durationUnits: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);

const sizeUnits: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["B", 1],
  ["kB", 1000],
  ["KB", 1000],
  ["MB", 1000 ** 2],
  ["GB", 1000 ** 3],
  ["TB", 1000 ** 4],
  ["KiB", 1024],
  ["MiB", 1024 ** 2],
  ["GiB", 1024 ** 3],
  ["TiB", 1024 ** 4],
]);

/** What `parseDuration` reads, as a pattern for editors. */
export const durationPattern = "^[0-9]+(ms|s|m|h|d)$";

/** What `parseSize` reads, as a pattern for editors. */
export const sizePattern = "^[0-9]+ ?(B|[kKMGT]B|[KMGT]iB)?$";

/** Milliseconds of a duration such as `250ms`, `90s`, `5m`, `24h`, `7d`; undefined when it is none or not exact in a double. */
export function parseDuration(text: string): number | undefined {
  return parseNumberWithUnit(/^([0-9]{1,15})(ms|s|m|h|d)$/, durationUnits, text);
}

/** Bytes of a size such as `1024`, `10MB`, `512MiB`, `8GiB`; undefined when it is none or not exact in a double. */
export function parseSize(text: string): number | undefined {
  return parseNumberWithUnit(/^([0-9]{1,15}) ?([kKMGT]?B|[KMGT]iB)?$/, sizeUnits, text);
}

function parseNumberWithUnit(pattern: RegExp, units: ReadonlyMap<string, number>, text: string): number | undefined {
  const match = pattern.exec(text);
  if (match === null) return undefined;
  const unit = units.get(match[2] ?? "");
  if (unit === undefined) return undefined;
  const value = Number(match[1]) * unit;
  return Number.isSafeInteger(value) ? value : undefined;
}
