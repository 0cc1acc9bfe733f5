import { expect, test } from "vitest";
import { parseDuration, parseSize } from "../../src/config/units.ts";

test.each([
  ["250ms", 250],
  ["90s", 90_000],
  ["5m", 300_000],
  ["24h", 86_400_000],
  ["7d", 604_800_000],
  ["0s", 0],
])("the duration %s is %i milliseconds", (text, durationMs) => {
  expect(parseDuration(text)).toBe(durationMs);
});

test.each(["", "5", "m", "1.5h", "-5m", "5 m", "5M", "1h30m", "5min", "999999999999999d", "5m\n"])(
  "%j is no duration",
  (text) => {
    expect(parseDuration(text)).toBeUndefined();
  },
);

test.each([
  ["1024", 1024],
  ["10MB", 10_000_000],
  ["512MiB", 536_870_912],
  ["8GiB", 8_589_934_592],
  ["8 GiB", 8_589_934_592],
  ["1kB", 1000],
  ["1KiB", 1024],
  ["3B", 3],
])("the size %s is %i bytes", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(["", "GiB", "1.5GiB", "-1", "1 gib", "1Gi", "8Gb", "999999999999999TiB"])("%j is no size", (text) => {
  expect(parseSize(text)).toBeUndefined();
});
