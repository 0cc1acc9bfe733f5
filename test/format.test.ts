import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { escapeControls, formatAge, formatBytes, formatDuration, formatTime } from "../src/format.ts";

describe("formatBytes", () => {
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1536, "1.5 KiB"],
    [102_400, "100 KiB"],
    [1024 * 1024 - 1, "1.0 MiB"],
    [8 * 2 ** 20, "8.0 MiB"],
    [412 * 2 ** 20, "412 MiB"],
    [1.08e9, "1.0 GiB"],
    [5n * 2n ** 40n, "5.0 TiB"],
    [Number.NaN, "unknown"],
  ])("%s bytes are %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test("never prints 1024 of a unit, nor more than four digits", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), (bytes) => {
        expect(formatBytes(bytes)).toMatch(/^(?:\d{1,2}\.\d [KMGTPE]iB|\d{1,4} (?:[KMGTPE]i)?B)$/);
        expect(formatBytes(bytes)).not.toMatch(/^1024|^100\.0/);
      }),
    );
  });
});

describe("formatDuration", () => {
  test.each([
    [0, "0 ms"],
    [350, "350 ms"],
    [999.4, "999 ms"],
    [999.6, "1.0 s"],
    [4211, "4.2 s"],
    [9960, "10 s"],
    [59_499, "59 s"],
    [59_500, "1m 00s"],
    [185_000, "3m 05s"],
    [3_599_700, "1h 00m"],
    [14_520_000, "4h 02m"],
    [86_399_999, "1d 00h"],
    [273_600_000, "3d 04h"],
    [-1500, "-1.5 s"],
    [Number.POSITIVE_INFINITY, "unknown"],
  ])("%s ms are %s", (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

test("times are RFC 3339 in UTC, and one that is none is unknown", () => {
  expect(formatTime(Date.UTC(2026, 2, 1, 6, 0, 0, 999))).toBe("2026-03-01T06:00:00Z");
  expect(formatTime(Number.NaN)).toBe("unknown");
  expect(formatTime(1e300)).toBe("unknown");
});

test("an age says whether it was or will be", () => {
  expect(formatAge(0, 14_520_000)).toBe("4h 02m ago");
  expect(formatAge(750_000, 0)).toBe("in 12m 30s");
  expect(formatAge(500, 0)).toBe("now");
  expect(formatAge(Number.NaN, 0)).toBe("unknown");
});

describe("escapeControls", () => {
  test("shows what would move a cursor, end a line or turn the reading order", () => {
    expect(escapeControls("a\u001b[2Jb\nc\td\r\u0000\u007f\u009b\u202e\u2028")).toBe(
      String.raw`a\u001b[2Jb\nc\td\r\u0000\u007f\u009b\u202e\u2028`,
    );
  });

  test("leaves text of any language as it is, pairs of surrogates too", () => {
    expect(escapeControls('Größe 大きい 🛟 \\ "')).toBe('Größe 大きい 🛟 \\ "');
  });

  test("leaves nothing that a terminal obeys, whatever the text", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 0xffff })), (units) => {
        expect(escapeControls(String.fromCharCode(...units))).not.toMatch(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u);
      }),
    );
  });
});
