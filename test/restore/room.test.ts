import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fileSource } from "../../src/restore/source.ts";
import { openScratch } from "./model.ts";

test("a file says how large it is before it is copied, so that room for it is asked for", () => {
  using scratch = openScratch();
  const file = join(scratch.directory, "backup.db");
  const reading = { scan: () => Promise.reject(new Error("not read")), holders: async () => [] };
  expect(fileSource(reading, file).bytes).toBeUndefined();
  writeFileSync(file, Buffer.alloc(12_345));
  expect(fileSource(reading, file).bytes).toBe(12_345);
});
