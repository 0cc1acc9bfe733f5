import { expect, test } from "vitest";
import { nearest } from "../../src/config/nearest.ts";

const keys = ["store", "readBack", "compression", "encryption", "signing", "extras"];

test.each([
  ["stor", "store"],
  ["sotre", "store"],
  ["read_back", "readBack"],
  ["READ-BACK", "readBack"],
  ["encrytpion", "encryption"],
  ["extra", "extras"],
])("for %s the key %s is suggested", (word, key) => {
  expect(nearest(word, keys)).toBe(key);
});

test.each(["mystery", "bucket", "x", ""])("for %j nothing is suggested", (word) => {
  expect(nearest(word, keys)).toBeUndefined();
});

test("a word of any length is compared in bounded time", () => {
  expect(nearest("x".repeat(1_000_000), keys)).toBeUndefined();
});
