import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, it } from "vitest";
import { KeyDigest } from "../../src/bolt/key-digest.ts";
import { NewestRows, absent, deleted } from "../../src/bolt/newest-rows.ts";

it("knows the newest row of each key as a map does", () => {
  const key = fc.string({ unit: "binary-ascii", maxLength: 2 });
  fc.assert(
    fc.property(fc.array(fc.record({ key, isDeleted: fc.boolean() }), { maxLength: 1500 }), key, (rows, other) => {
      const digest = new KeyDigest();
      const newest = new NewestRows();
      const model = new Map<string, number>();
      for (const [number, row] of rows.entries()) {
        newest.put(digestOf(digest, row.key), row.isDeleted ? deleted : number);
        model.set(row.key, row.isDeleted ? deleted : number);
      }
      for (const [name, number] of [...model, [other, model.get(other) ?? absent] as const]) {
        expect(newest.get(digestOf(digest, name))).toBe(number);
      }
      expect(newest.keys).toBe(model.size);
      expect(newest.alive).toBe([...model.values()].filter((number) => number !== deleted).length);
    }),
  );
});

it("takes at most 32 bytes per key, also while it grows", () => {
  const newest = new NewestRows();
  const digest = new KeyDigest();
  let most = 0;
  for (let i = 1; i <= 200_000; i++) {
    // Three words that are as good as random stand for a key.
    const words = createHash("md5").update(String(i)).digest();
    digest.word0 = words.readUInt32LE(0);
    digest.word1 = words.readUInt32LE(4);
    digest.word2 = words.readUInt32LE(8);
    newest.put(digest, i);
    if (i > 20_000 && i % 100 === 0) most = Math.max(most, newest.tableBytes / i);
  }
  expect(newest.keys).toBe(200_000);
  // One of 64 tables grows at a time.
  expect(most * (1 + 1 / 64)).toBeLessThanOrEqual(32);
});

it("keeps keys apart that share 64 bits of their digest", () => {
  const newest = new NewestRows();
  const digest = new KeyDigest();
  for (let number = 0; number < 1000; number++) {
    digest.word0 = 1;
    digest.word1 = 2;
    digest.word2 = number;
    newest.put(digest, number);
  }
  for (let number = 0; number < 1000; number++) {
    digest.word2 = number;
    expect(newest.get(digest)).toBe(number);
  }
});

function digestOf(digest: KeyDigest, key: string): KeyDigest {
  const bytes = Buffer.from(key, "latin1");
  digest.take(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length);
  return digest;
}
