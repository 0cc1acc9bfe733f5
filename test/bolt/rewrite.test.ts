import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import type { BoltRow } from "../../src/bolt/inspect.ts";
import { inspectDatabase } from "../../src/bolt/inspect.ts";
import { rewriteDatabase, type DatabaseChanges } from "../../src/bolt/rewrite.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { hashKvBumped } from "../../src/bolt/hash-kv.ts";
import { fixtureBytes, oddBytes } from "./fixtures/golden.ts";
import { History } from "./history.ts";
import { readModel, type Model, type ModelRow } from "./model.ts";
import { seededNumbers } from "./numbers.ts";
import { writeDatabase } from "./write-database.ts";

const dir = mkdtempSync(join(tmpdir(), "lifeboat-rewrite-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const source = join(dir, "source.db");
const copy = join(dir, "copy.db");

/** Rewrites these bytes and reads the copy with the other reader; the copy's structure is sound, or this fails. */
function rewritten(bytes: Uint8Array, changes: DatabaseChanges): Model {
  rmSync(copy, { force: true });
  writeFileSync(source, bytes);
  const size = rewriteDatabase(source, copy, changes);
  expect(statSync(copy).size).toBe(size);
  expect(readFileSync(source).equals(bytes)).toBe(true);
  scanSnapshot(copy, { expectSeal: false });
  return readModel(readFileSync(copy));
}

const text = (rows: readonly BoltRow[] | undefined): readonly string[] | undefined =>
  rows?.map(({ key, value }) => `${Buffer.from(key).toString("hex")}=${Buffer.from(value).toString("hex")}`);

function revisionRow(main: bigint, valueBytes: number): ModelRow {
  const key = Buffer.alloc(17, "_");
  key.writeBigUInt64BE(main, 0);
  key.writeBigUInt64BE(0n, 9);
  // mvccpb.KeyValue {1 key, 5 value}
  const value = Buffer.alloc(valueBytes, "v");
  const length = Buffer.of((valueBytes & 0x7f) | 0x80, ((valueBytes >> 7) & 0x7f) | 0x80, valueBytes >> 14);
  return { key, value: Buffer.concat([Buffer.of(0x0a, 1, 0x6b, 0x2a), length, value]) };
}

const bumpRow = (main: bigint): BoltRow => ({ ...revisionRow(main, 0), value: Buffer.alloc(0) });

test("whatever a tree looks like, the copy has its rows and the changes, and nothing else", () => {
  const numbers = seededNumbers("rewritten trees");
  for (let round = 0; round < 40; round++) {
    const pageBytes = [1024, 4096, 16384][numbers.below(3)] ?? 4096;
    const count = [0, 1, 2, numbers.below(60), numbers.below(3000)][numbers.below(5)] ?? 0;
    const largest = [40, 300, 5000][numbers.below(3)] ?? 40;
    const key = Array.from({ length: count }, (_, index) => revisionRow(BigInt(index + 2), 1 + numbers.below(largest)));
    const small = (rows: number, bytes: number): ModelRow[] =>
      Array.from({ length: rows }, (_, index) => ({
        key: Buffer.from(`row-${String(index).padStart(5, "0")}`),
        value: Buffer.alloc(1 + numbers.below(bytes), "s"),
      }));
    const before = { key, meta: [], authUsers: small(numbers.below(30), 200), unknown: small(numbers.below(200), 90) };
    const fresh = small(numbers.below(300), 400);
    const added = bumpRow(BigInt(count + 1000));
    const model = rewritten(writeDatabase(before, pageBytes), {
      replace: [
        { bucket: "authRoles", rows: fresh },
        { bucket: "unknown", rows: [] },
      ],
      append: numbers.below(4) === 0 ? undefined : added,
    });
    const last = text(model.rows.get("key"));
    expect(last === undefined ? [] : last.slice(0, count)).toEqual(text(key));
    expect(last?.slice(count)).toEqual(last?.length === count ? [] : text([added]));
    expect(text(model.rows.get("authRoles"))).toEqual(text(fresh));
    expect(text(model.rows.get("authUsers"))).toEqual(text(before.authUsers));
    expect(model.rows.get("unknown")).toEqual([]);
    expect([...model.rows.keys()]).toEqual(["authRoles", "authUsers", "key", "meta", "unknown"]);
  }
});

test.each([1024, 4096, 65536])(
  "a file with pages of %i bytes, its freelist in it and nested buckets can be rewritten",
  (size) => {
    const bytes = oddBytes(size);
    const before = readModel(bytes);
    const after = rewritten(bytes, { replace: [{ bucket: "alarm", rows: [] }], append: bumpRow(2n ** 62n) });
    expect(text(after.rows.get("key")?.slice(0, -1))).toEqual(text(before.rows.get("key")));
    expect(text(after.rows.get("lease"))).toEqual(text(before.rows.get("lease")));
  },
);

test("a raw file that is longer than its pages, or that ends with a seal, gives a copy that ends with its pages", () => {
  const sealed = fixtureBytes("3.6");
  const plain = rewritten(sealed.subarray(0, -32), { replace: [], append: undefined });
  const size = statSync(copy).size;
  for (const bytes of [sealed, Buffer.concat([sealed.subarray(0, -32), Buffer.alloc(16 * 4096)])]) {
    expect(text(rewritten(bytes, { replace: [], append: undefined }).rows.get("key"))).toEqual(
      text(plain.rows.get("key")),
    );
    expect(statSync(copy).size).toBe(size);
  }
});

test("HashKV after a bump is told from the file before it", () => {
  const numbers = seededNumbers("bumped histories");
  for (let round = 0; round < 60; round++) {
    const history = new History();
    for (let change = numbers.below(40); change > 0; change--) {
      const key = `key-${numbers.below(6)}`;
      history.change(numbers.below(4) === 0 ? { key } : { key, value: "v".repeat(1 + numbers.below(20)) });
    }
    // A file that was bumped before has a row without a key already.
    if (numbers.below(3) === 0) history.bump(10n);
    if (numbers.below(2) === 0) history.change({ key: "after", value: "x" });
    const finished = numbers.below(2) === 0 ? BigInt(1 + numbers.below(Number(history.revision))) : undefined;
    const { db } = history.file({ finished });
    writeFileSync(source, db);
    const revision = inspectDatabase(source).lastRevision + 100n;
    const value = bumpRow(revision).key;
    rmSync(copy, { force: true });
    const meta = inspectDatabase(source).meta.filter(
      ({ key }) => Buffer.from(key).toString() !== "scheduledCompactRev",
    );
    rewriteDatabase(source, copy, {
      replace: [{ bucket: "meta", rows: [...meta, { key: Buffer.from("scheduledCompactRev"), value }] }],
      append: bumpRow(revision),
    });
    const facts = scanSnapshot(copy);
    expect(facts).toMatchObject({ revision, compactRevision: revision });
    expect(hashKvBumped(source, revision)).toBe(facts.hashKv);
  }
});

test("a copy that cannot be written says why", () => {
  writeFileSync(source, fixtureBytes("3.6"));
  const nowhere = join(dir, "missing", "copy.db");
  expect(() => rewriteDatabase(source, nowhere, { replace: [], append: undefined })).toThrow(
    expect.objectContaining({ code: "spool-failed", message: expect.stringContaining(nowhere) }),
  );
});

test("branches that fill up are cut in two, at every number of children", () => {
  fc.assert(
    fc.property(fc.integer({ min: 25, max: 34 }), fc.integer({ min: 0, max: 3 }), (perLeaf, more) => {
      // Pages of 1 KiB: some thirty children to a branch.
      const key = Array.from({ length: perLeaf * 7 + more }, (_, index) => revisionRow(BigInt(index + 2), 100));
      const bytes = writeDatabase({ key, meta: [] }, 1024);
      const model = rewritten(bytes, { replace: [], append: bumpRow(100_000n) });
      expect(model.rows.get("key")).toHaveLength(key.length + 1);
      // The writer of this test may leave some, which are not ours to mend.
      const lonely = ({ pages }: Model): number =>
        pages.filter(({ kind, count }) => kind === "branch" && count < 2).length;
      expect(lonely(model)).toBeLessThanOrEqual(lonely(readModel(bytes)));
    }),
  );
});
