import { expect, test } from "vitest";
import { hashKvLimitMs } from "../../src/etcd/member.ts";

test("a member with a large database may hash it for longer than one with a small", () => {
  expect(hashKvLimitMs(0, 120_000)).toBe(120_000);
  expect(hashKvLimitMs(2 * 2 ** 30, 120_000)).toBe(120_000);
  // At the slowest rate that was measured, 78 MB a second, 32 GiB take more than seven minutes.
  expect(hashKvLimitMs(32 * 2 ** 30, 120_000)).toBeGreaterThan((3 * 32 * 2 ** 30) / 78_000);
});
