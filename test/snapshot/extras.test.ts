import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readExtras } from "../../src/snapshot/extras.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "extras-test-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("files are in the archive with their sizes, and what cannot be read is named with the reason", async () => {
  writeFileSync(join(folder, "ca.crt"), "certificate");
  const { tar, files, missing } = await readExtras([folder, "/nonexistent/pki"]);
  expect(files).toEqual([{ path: join(folder, "ca.crt"), bytes: 11 }]);
  expect(missing).toEqual([{ path: "/nonexistent/pki", why: "ENOENT" }]);
  expect(Buffer.from(tar).includes("certificate")).toBe(true);
});

test.each([
  ["plain", "n"],
  // Takes six bytes in JSON.
  ["escaped", "\u0001"],
])("%s paths that would make the manifest too large are left out, told once, and stop nothing", async (_, letter) => {
  const deep = join(folder, ...Array.from({ length: 14 }, () => "d".repeat(250)));
  mkdirSync(deep, { recursive: true });
  for (let n = 0; n < 400; n += 1) writeFileSync(join(deep, `${String(n).padStart(4, "0")}${letter.repeat(200)}`), "x");
  writeFileSync(join(folder, "a-first"), "x");
  const { files, missing } = await readExtras([folder, "/nonexistent/after"]);
  expect(files[0]).toEqual({ path: join(folder, "a-first"), bytes: 1 });
  expect(missing).toHaveLength(1);
  expect(missing[0]?.why).toBe("this and all that follows: their paths take more than 1048576 bytes together");
  expect(Buffer.byteLength(JSON.stringify({ files, missing }))).toBeLessThan(1_100_000);
});
