import fc from "fast-check";
import { expect, it } from "vitest";
import { KeyDigest } from "../../src/bolt/key-digest.ts";
import { LiveKeys } from "../../src/bolt/live-keys.ts";

it("counts as a set of strings does, whatever is put and removed in whatever order", () => {
  const event = fc.record({ put: fc.boolean(), key: fc.string({ unit: "binary-ascii", minLength: 1, maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 400 }), (events) => {
      const live = new LiveKeys();
      const model = new Set<string>();
      for (const { put, key } of events) {
        apply(live, put, key);
        if (put) model.add(key);
        else model.delete(key);
        expect(live.count).toBe(model.size);
      }
    }),
  );
});

it("stays exact through growing and through removing most of what it held", () => {
  const live = new LiveKeys();
  const keys = Array.from({ length: 200_000 }, (_, i) => `/registry/pods/namespace-${i % 97}/pod-${i}`);
  for (const key of keys) apply(live, true, key);
  for (const key of keys) apply(live, true, key);
  expect(live.count).toBe(keys.length);
  for (const [i, key] of keys.entries()) if (i % 10 !== 0) apply(live, false, key);
  expect(live.count).toBe(keys.length / 10);
  for (const key of keys) apply(live, false, key);
  expect(live.count).toBe(0);
});

it("takes at most 32 bytes per live key, both tables counted while it grows", () => {
  const live = new LiveKeys();
  for (let i = 1; i <= 300_000; i++) {
    const before = live.tableBytes;
    apply(live, true, `key ${i}`);
    const peakBytes = live.tableBytes === before ? before : before + live.tableBytes;
    if (i > 1000) expect(peakBytes / i).toBeLessThanOrEqual(32);
  }
});

it("tells keys apart that differ in one byte at any place or in their length alone", () => {
  const live = new LiveKeys();
  let put = 0;
  for (let length = 1; length <= 70; length++) {
    for (let place = 0; place < length; place++) {
      const key = Buffer.alloc(length);
      key[place] = 1;
      apply(live, true, key.toString("latin1"));
      put++;
    }
    apply(live, true, Buffer.alloc(length).toString("latin1"));
    put++;
  }
  expect(live.count).toBe(put);
});

it("counts the same under any secret", () => {
  const counts = Array.from({ length: 8 }, (_, i) => {
    const live = new LiveKeys();
    const digest = new KeyDigest(Buffer.alloc(8, i));
    for (let n = 0; n < 1000; n++) apply(live, true, String(n), digest);
    return live.count;
  });
  expect(counts).toEqual(Array(8).fill(1000));
});

const digestOfAll = new KeyDigest();

function apply(live: LiveKeys, put: boolean, key: string, digest = digestOfAll): void {
  // At an odd place in a larger buffer, as in a page.
  const bytes = Buffer.from(`...${key}...`, "latin1");
  digest.take(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 3, bytes.length - 6);
  if (put) live.put(digest);
  else live.remove(digest);
}
