import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { SnapshotFacts } from "../../src/bolt/facts.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { isFault } from "../../src/faults.ts";
import { fixtureBytes, fixtureMinors, oddBytes } from "./fixtures/golden.ts";
import { readModel, sealMeta, type ModelPage } from "./model.ts";
import { seededNumbers } from "./numbers.ts";
import { scanBytes, scratchFile } from "./scratch.ts";

const sealBytes = 32;
const pageBytes = 4096;
/** CPU time, since the machine may be busy. Generous: a scan of these files takes a millisecond or two. */
const longestMs = 2000;

const sound = fixtureBytes("3.7").subarray(0, -sealBytes);
const model = readModel(sound);
const keyBranch = pageOf(model.pages, (page) => page.bucket === "key" && page.kind === "branch");
const keyLeaf = pageOf(
  model.pages,
  (page) => page.bucket === "key" && page.kind === "leaf" && page.count > 4 && page.overflow === 0,
);
const usedPages = new Set(model.pages.flatMap(({ id, overflow }) => range(id, overflow + 1)));
const rootLeaf = pageOf(model.pages, (page) => page.bucket === "");

describe("a truncated file is refused", { timeout: 60_000 }, () => {
  it.each(fixtureMinors)("at every page boundary (etcd %s)", (minor) => {
    const whole = fixtureBytes(minor).subarray(0, -sealBytes);
    using scratch = scratchFile();
    scratch.set(whole);
    for (let bytes = whole.length - pageBytes; bytes >= 0; bytes -= pageBytes) {
      scratch.truncate(bytes);
      expect(attempt(() => scanSnapshot(scratch.path)).refused, `cut to ${bytes} bytes`).toMatch(
        /page \d+: the file ends|no usable meta page/,
      );
    }
  });

  it("at any byte, the seal's own included", () => {
    const sealed = fixtureBytes("3.7");
    const numbers = seededNumbers("truncations");
    using scratch = scratchFile();
    scratch.set(sealed);
    // A cut that takes just the seal leaves a sound database without one.
    const cuts = new Set([
      sealed.length - 1,
      sealed.length - 31,
      ...Array.from({ length: 300 }, () => numbers.below(sealed.length)),
    ]);
    cuts.delete(sealed.length - sealBytes);
    for (const bytes of [...cuts].toSorted((a, b) => b - a)) {
      scratch.truncate(bytes);
      expect(attempt(() => scanSnapshot(scratch.path)).refused, `cut to ${bytes} bytes`).toMatch(
        /page \d+: |no usable meta page/,
      );
    }
  });
});

it("a flipped bit is refused, or lies where only the seal can see it", { timeout: 120_000 }, () => {
  const numbers = seededNumbers("bit flips");
  const structure = structuralBytes();
  using scratch = scratchFile();
  scratch.set(sound);
  const expected = scanSnapshot(scratch.path);
  const counts = { refused: 0, otherMeta: 0, unseen: 0, unseenWithOtherFacts: 0 };
  let slowestMs = 0;
  for (let flip = 0; flip < 2000; flip++) {
    // Half of the flips anywhere, where most hit values and free pages; half where structure is.
    const at =
      flip % 2 === 0 ? numbers.below(sound.length) : (structure.offsets[numbers.below(structure.offsets.length)] ?? 0);
    const before = sound[at] ?? 0;
    const flipped = before ^ (1 << numbers.below(8));
    scratch.patch(at, Uint8Array.of(flipped));
    const startMs = cpuMs();
    const outcome = attempt(() => scanSnapshot(scratch.path));
    slowestMs = Math.max(slowestMs, cpuMs() - startMs);
    scratch.patch(at, Uint8Array.of(before));
    if (outcome.refused !== undefined) counts.refused++;
    else if (outcome.facts.brokenMeta !== undefined) {
      counts.otherMeta++;
      expect({ ...outcome.facts, brokenMeta: undefined, txid: expected.txid }).toEqual(expected);
    } else {
      const seenByRight = structure.has(at) && !leadsToFreePage(at, flipped);
      expect(seenByRight, `the flip at ${at} (page ${Math.floor(at / pageBytes)}) was not seen`).toBe(false);
      counts.unseen++;
      if (!sameFacts(outcome.facts, expected)) counts.unseenWithOtherFacts++;
    }
  }
  console.log(`bit flips: ${JSON.stringify(counts)}, slowest scan ${slowestMs.toFixed(0)} ms`);
  expect(counts.refused).toBeGreaterThan(500);
  expect(counts.unseen).toBeGreaterThan(100);
  expect(slowestMs).toBeLessThan(longestMs);
});

describe("meta pages", () => {
  const txid = (id: number): bigint => sound.readBigUInt64LE(id * pageBytes + 64);

  it("one that is broken gives way to the other, and the transaction that is read is told", () => {
    const newer = txid(0) > txid(1) ? 0 : 1;
    expect(scanBytes(sound)).toMatchObject({ brokenMeta: undefined, txid: txid(newer) });
    expect(scanBytes(patched((db) => db.fill(0, 0, 100)))).toMatchObject({ brokenMeta: 0, txid: txid(1) });
    expect(scanBytes(patched((db) => db.fill(0, pageBytes, pageBytes + 100)))).toMatchObject({
      brokenMeta: 1,
      txid: txid(0),
    });
  });

  it("two that are broken are refused", () => {
    expect(refusal(patched((db) => db.fill(0, 0, 100).fill(0, pageBytes, pageBytes + 100)))).toContain(
      "page 0: no bbolt magic; page 1: ",
    );
    expect(refusal(patched((db) => void (db.writeUInt8(1, 40), db.writeUInt8(1, pageBytes + 40))))).toContain(
      "checksum differs",
    );
  });

  it.each<[string, (db: Buffer, at: number) => void, RegExp]>([
    ["page size 0", (db, at) => db.writeUInt32LE(0, at + 24), /page size 0 is no power of two/],
    ["page size 3000", (db, at) => db.writeUInt32LE(3000, at + 24), /page size 3000 is no power of two/],
    ["page size 2^31", (db, at) => db.writeUInt32LE(2 ** 31, at + 24), /page size 2147483648/],
    ["version 3", (db, at) => db.writeUInt32LE(3, at + 20), /bbolt version 3, only 2 is known/],
    ["a root page out of range", (db, at) => db.writeBigUInt64LE(2n ** 40n, at + 32), /the root page is not among/],
    ["a root page on a meta page", (db, at) => db.writeBigUInt64LE(1n, at + 32), /page 1: the root page is not among/],
    [
      "a root page that is a row's page",
      (db, at) => db.writeBigUInt64LE(BigInt(keyLeaf.id), at + 32),
      /a row where only buckets/,
    ],
    [
      "a freelist page out of range",
      (db, at) => db.writeBigUInt64LE(2n ** 60n, at + 48),
      /the freelist page is not among/,
    ],
    [
      "a freelist page that is none",
      (db, at) => db.writeBigUInt64LE(BigInt(keyLeaf.id), at + 48),
      /no freelist page where the meta page says/,
    ],
    [
      "more pages than the file has",
      (db, at) => db.writeBigUInt64LE(2n ** 62n, at + 56),
      /the file ends here, .* truncated/,
    ],
    [
      "fewer pages than are used",
      (db, at) => db.writeBigUInt64LE(BigInt(keyLeaf.id), at + 56),
      /not among the \d+ pages|overflow pages, but the file has/,
    ],
  ])("with a right checksum and %s are refused", (_name, change, expected) => {
    const db = patched((bytes) => {
      for (const id of [0, 1] as const) {
        change(bytes, id * pageBytes);
        sealMeta(bytes, id, pageBytes);
      }
    });
    expect(refusal(db)).toMatch(expected);
  });

  it("under the header of another page are refused", () => {
    expect(refusal(patched((db) => db.writeUInt8(7, 0)))).toBe("page 0: its header says page 7");
    expect(refusal(patched((db) => db.writeUInt8(2, 8)))).toBe("page 0: its header has kind 2, not meta");
  });
});

describe("a hostile page is refused by number and reason:", () => {
  const leafAt = keyLeaf.id * pageBytes;
  const branchAt = keyBranch.id * pageBytes;
  const rootAt = rootLeaf.id * pageBytes;
  const child = (index: number): number => branchAt + 16 + index * 16 + 8;
  const element = (index: number): number => leafAt + 16 + index * 16;
  const keyAt = (db: Buffer, index: number): number => element(index) + db.readUInt32LE(element(index) + 4);
  const bucketAt = (db: Buffer, name: string): number => {
    for (let index = 0; index < rootLeaf.count; index++) {
      const at = rootAt + 16 + index * 16;
      const from = at + db.readUInt32LE(at + 4);
      const length = db.readUInt32LE(at + 8);
      if (db.toString("latin1", from, from + length) === name) return from + length;
    }
    throw new Error(`no bucket ${name} in the fixture`);
  };
  /** A small bucket that lies in the root leaf itself. */
  const inlineAt = (db: Buffer): number => bucketAt(db, "auth") + 16;

  it.each<[string, (db: Buffer) => unknown, RegExp]>([
    [
      "a branch that points to itself",
      (db) => db.writeBigUInt64LE(BigInt(keyBranch.id), child(0)),
      /is referred to twice/,
    ],
    [
      "a branch that points to the root",
      (db) => db.writeBigUInt64LE(BigInt(rootLeaf.id), child(1)),
      /is referred to twice/,
    ],
    ["two ways to one page", (db) => db.copy(db, child(1), child(0), child(0) + 8), /is referred to twice/],
    ["a child out of range", (db) => db.writeBigUInt64LE(2n ** 63n, child(0)), /is referred to, but is not among/],
    [
      "a child that is a meta page",
      (db) => db.writeBigUInt64LE(0n, child(0)),
      /page 0: is referred to, but is not among/,
    ],
    [
      "a child that is a free page",
      (db) => db.writeBigUInt64LE(BigInt(freePage()), child(0)),
      /its header says|kind 0x|is referred to twice|branch above/,
    ],
    ["children in another order", (db) => swap(db, child(1), child(2), 8), /branch above/],
    [
      "keys of a branch in another order",
      (db) => swap(db, child(1) - 4, child(2) - 4, 4) ?? swapKeys(db, branchAt, 1, 2),
      /does not follow the key before it|branch above/,
    ],
    ["a branch of 65535 children", (db) => db.writeUInt16LE(65535, branchAt + 10), /claims 65535 elements/],
    ["a branch without children", (db) => db.writeUInt16LE(0, branchAt + 10), /an empty branch/],
    ["a branch that says it is a leaf", (db) => db.writeUInt16LE(2, branchAt + 8), /element 0/],
    ["a leaf of 65535 rows", (db) => db.writeUInt16LE(65535, leafAt + 10), /claims 65535 elements/],
    ["a leaf of one row less", (db) => db.writeUInt16LE(keyLeaf.count - 1, leafAt + 10), /element 0 has its data at/],
    ["a leaf without rows", (db) => db.writeUInt16LE(0, leafAt + 10), /an empty leaf below a branch/],
    ["a leaf that says it is a branch", (db) => db.writeUInt16LE(1, leafAt + 8), /page \d+: /],
    ["a page of no kind", (db) => db.writeUInt16LE(0x22, leafAt + 8), /kind 0x22 where/],
    ["a page with another number", (db) => db.writeUInt32LE(5, leafAt), /its header says page 5/],
    [
      "overflow of 2^32 - 1 pages",
      (db) => db.writeUInt32LE(0xffff_ffff, leafAt + 12),
      /claims 4294967295 overflow pages/,
    ],
    [
      "overflow that swallows neighbours",
      (db) => db.writeUInt32LE(2, leafAt + 12),
      /spans 3 pages, but holds|is overflow of|referred to twice/,
    ],
    [
      "a position that wraps around",
      (db) => db.writeUInt32LE(0xffff_fff0, element(1) + 4),
      /element 1 has its data at/,
    ],
    ["a position inside the element table", (db) => db.writeUInt32LE(16, element(0) + 4), /element 0 has its data at/],
    [
      "two rows that share their bytes",
      (db) => db.writeUInt32LE(db.readUInt32LE(element(1) + 4) - 40, element(1) + 4),
      /element 1 has its data at/,
    ],
    [
      "a key of 2^32 - 1 bytes",
      (db) => db.writeUInt32LE(0xffff_ffff, element(0) + 8),
      /element 0 claims a key of 4294967295 bytes/,
    ],
    ["a key of no bytes", (db) => db.writeUInt32LE(0, element(0) + 8), /element 0 has an empty key/],
    [
      "a value of 2^32 - 1 bytes",
      (db) => db.writeUInt32LE(0xffff_ffff, element(0) + 12),
      /reach past the end of the page/,
    ],
    ["flags that nobody knows", (db) => db.writeUInt32LE(6, element(2)), /element 2 has flags 0x6/],
    ["a bucket among rows", (db) => db.writeUInt32LE(1, element(2)), /element 2 is a bucket inside a bucket/],
    [
      "two keys that are equal",
      (db) => db.copy(db, keyAt(db, 1), keyAt(db, 0), keyAt(db, 0) + 17),
      /element 1 does not follow/,
    ],
    ["a first key below its branch", (db) => db.writeUInt8(0, keyAt(db, 0) + 7), /branch above|does not follow/],
    ["a last key above its branch", (db) => db.writeUInt8(0x70, keyAt(db, keyLeaf.count - 1)), /branch above/],
    [
      "a row key without its underscore",
      (db) => db.writeUInt8(0x60, keyAt(db, keyLeaf.count - 1) + 8),
      /a key in bucket "key" that is no revision|branch above/,
    ],
    [
      "a row value that is no record",
      (db) => db.writeUInt8(0xff, keyAt(db, 0) + 17),
      /the row of revision \d+_\d+ is no key-value record/,
    ],
    [
      "a row without user key",
      (db) => db.writeUInt8(0x2a, keyAt(db, 0) + 17),
      /the row of revision \d+_\d+ names no user key/,
    ],
    [
      "a bucket whose root is out of range",
      (db) => db.writeBigUInt64LE(2n ** 50n, bucketAt(db, "key")),
      /is referred to, but is not among/,
    ],
    [
      "a bucket whose root is another's",
      (db) => db.writeBigUInt64LE(BigInt(rootLeaf.id), bucketAt(db, "key")),
      /is referred to twice/,
    ],
    [
      "a bucket that says it is inline",
      (db) => db.writeBigUInt64LE(0n, bucketAt(db, "key")),
      /is an inline bucket without a page/,
    ],
    [
      "an inline bucket that says it is none",
      (db) => db.writeBigUInt64LE(3n, bucketAt(db, "auth")),
      /is a bucket with a root page and \d+ bytes/,
    ],
    ["an inline bucket of 65535 rows", (db) => db.writeUInt16LE(65535, inlineAt(db) + 10), /claims 65535 elements/],
    [
      "an inline bucket of one row less",
      (db) => db.writeUInt16LE(db.readUInt16LE(inlineAt(db) + 10) - 1, inlineAt(db) + 10),
      /element 0|an inline bucket of/,
    ],
    [
      "an inline bucket that is a branch",
      (db) => db.writeUInt16LE(1, inlineAt(db) + 8),
      /whose page has a wrong header/,
    ],
    ["an inline bucket with overflow", (db) => db.writeUInt32LE(1, inlineAt(db) + 12), /whose page has a wrong header/],
    ["a row beside the buckets", (db) => db.writeUInt32LE(0, rootAt + 16), /a row where only buckets are expected/],
  ])("%s", (_name, change, expected) => {
    const message = refusal(patched(change));
    expect(message).toMatch(expected);
    expect(message).toMatch(/^page \d+: /);
  });

  it("a chain of branches that goes deeper than any tree", () => {
    expect(refusal(withChain(100, 1))).toMatch(/lies more than 32 levels deep/);
  });

  it("buckets inside buckets without end", () => {
    expect(refusal(withChain(100, 2))).toMatch(/lies more than 32 levels deep/);
  });

  it("a row of gigabytes in a file of gigabytes, before memory is taken for it", () => {
    const dir = mkdtempSync(join(tmpdir(), "lifeboat-bolt-"));
    const path = join(dir, "large.db");
    const pages = 1024 * 1024;
    const db = patched((bytes) => {
      for (const id of [0, 1] as const) {
        bytes.writeBigUInt64LE(BigInt(pages), id * pageBytes + 56);
        sealMeta(bytes, id, pageBytes);
      }
      bytes.writeUInt32LE(pages - keyLeaf.id - 1, leafAt + 12);
    });
    const fd = openSync(path, "w");
    try {
      writeSync(fd, db);
      ftruncateSync(fd, pages * pageBytes);
      const before = process.memoryUsage().arrayBuffers;
      expect(attempt(() => scanSnapshot(path)).refused).toMatch(/spans \d+ bytes, more than etcd writes/);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024);
    } finally {
      closeSync(fd);
      rmSync(dir, { recursive: true });
    }
  });

  function swapKeys(db: Buffer, pageAt: number, one: number, other: number): void {
    const at = (index: number): number => pageAt + 16 + index * 16 + db.readUInt32LE(pageAt + 16 + index * 16);
    swap(db, at(one), at(other), 17);
  }

  function swap(db: Buffer, one: number, other: number, bytes: number): undefined {
    const kept = Buffer.from(db.subarray(one, one + bytes));
    db.copy(db, one, other, other + bytes);
    kept.copy(db, other);
  }

  function freePage(): number {
    for (let id = 2; id < sound.length / pageBytes; id++) if (!usedPages.has(id)) return id;
    throw new Error("the fixture has no free page");
  }

  /** Appends a chain of pages, each of which leads to the next only, and makes it the tree of a bucket that etcd does not know. */
  function withChain(length: number, kind: 1 | 2): Buffer {
    const first = sound.length / pageBytes;
    const db = Buffer.concat([sound, Buffer.alloc(length * pageBytes)]);
    for (let i = 0; i < length; i++) {
      const at = (first + i) * pageBytes;
      db.writeBigUInt64LE(BigInt(first + i), at);
      db.writeUInt16LE(kind, at + 8);
      db.writeUInt16LE(1, at + 10);
      const next = BigInt(first + ((i + 1) % length));
      if (kind === 1) {
        db.writeUInt32LE(16, at + 16);
        db.writeUInt32LE(1, at + 20);
        db.writeBigUInt64LE(next, at + 24);
        db.write("k", at + 32);
      } else {
        db.writeUInt32LE(1, at + 16);
        db.writeUInt32LE(16, at + 20);
        db.writeUInt32LE(1, at + 24);
        db.writeUInt32LE(16, at + 28);
        db.write("b", at + 32);
        db.writeBigUInt64LE(next, at + 33);
      }
    }
    db.writeBigUInt64LE(BigInt(first), bucketAt(db, "key"));
    db.write("kez", bucketAt(db, "key") - 3);
    for (const id of [0, 1] as const) {
      db.writeBigUInt64LE(BigInt(first + length), id * pageBytes + 56);
      sealMeta(db, id, pageBytes);
    }
    return db;
  }
});

describe("a freelist in the file", () => {
  const odd = oddBytes(pageBytes);
  const newest = odd.readBigUInt64LE(64) > odd.readBigUInt64LE(pageBytes + 64) ? 0 : pageBytes;
  const at = Number(odd.readBigUInt64LE(newest + 48)) * pageBytes;
  const count = odd.readUInt16LE(at + 10);
  const change = (act: (db: Buffer) => unknown): Buffer => {
    const db = Buffer.from(odd);
    act(db);
    return db;
  };

  it("accounts for every page", () => {
    expect(count).toBeGreaterThan(2);
    expect(() => scanBytes(odd)).not.toThrow();
  });

  it.each<[string, (db: Buffer) => unknown, RegExp]>([
    [
      "that lists a page out of range",
      (db) => db.writeBigUInt64LE(2n ** 33n, at + 16 + 8 * (count - 1)),
      /which is not among/,
    ],
    ["that lists a meta page", (db) => db.writeBigUInt64LE(1n, at + 16), /lists page 1 as free, which is not among/],
    ["that lists a page twice", (db) => db.copy(db, at + 24, at + 16, at + 24), /out of order or twice/],
    ["that forgets a page", (db) => db.writeUInt16LE(count - 1, at + 10), /is neither in use nor in the freelist/],
    [
      "that lists a page in use",
      (db) => db.writeBigUInt64LE(BigInt(at / pageBytes), at + 16 + 8 * (count - 1)),
      /is in use, but the freelist says|neither in use|out of order/,
    ],
    ["that claims more than fits", (db) => db.writeUInt16LE(0xfffe, at + 10), /claims 65534 free pages/],
    [
      "that claims 2^63 in its first entry",
      (db) => (db.writeUInt16LE(0xffff, at + 10), db.writeBigUInt64LE(2n ** 63n, at + 16)),
      /free pages, which do not fit/,
    ],
  ])("%s is refused", (_name, act, expected) => {
    expect(refusal(change(act))).toMatch(expected);
  });
});

describe("a file that is no etcd database", () => {
  it.each([
    ["no bytes at all", Buffer.alloc(0)],
    ["a seal alone", Buffer.alloc(32)],
    ["zeros", Buffer.alloc(1024 * 1024)],
    ["noise", randomBytes(1024 * 1024)],
    ["text", Buffer.from("not a database\n".repeat(10_000))],
  ])("(%s) is refused", (_name, bytes) => {
    expect(refusal(bytes)).toContain("no usable meta page, not a bbolt database or a damaged one");
  });

  it.each([
    ["key", "kez"],
    ["meta", "metb"],
  ])("(sound bbolt without bucket %s) is refused", (name, other) => {
    const db = patched((bytes) => {
      const at = bytes.indexOf(name, rootLeaf.id * pageBytes + 16 + rootLeaf.count * 16);
      for (let from = at; from >= 0 && from < (rootLeaf.id + 1) * pageBytes; from = bytes.indexOf(name, from + 1))
        bytes.write(other, from);
    });
    expect(refusal(db)).toBe(`no bucket ${name}: not an etcd database`);
  });

  it("(a path that leads nowhere, or to a directory) is a fault of the spool", () => {
    const outcome = (path: string): unknown => {
      try {
        return scanSnapshot(path);
      } catch (error) {
        return isFault(error, "spool-failed");
      }
    };
    expect(outcome(join(tmpdir(), "lifeboat-no-such-file"))).toBe(true);
    expect(outcome(tmpdir())).toBe(true);
  });
});

type Outcome = { readonly refused: string } | { readonly refused?: undefined; readonly facts: SnapshotFacts };

/** The facts, or the message of the refusal; anything but bolt-corrupt is a bug and thrown. */
function attempt(scan: () => SnapshotFacts): Outcome {
  try {
    return { facts: scan() };
  } catch (error) {
    if (!isFault(error, "bolt-corrupt")) throw error;
    return { refused: error.message };
  }
}

function refusal(bytes: Uint8Array): string {
  const startMs = cpuMs();
  const outcome = attempt(() => scanBytes(bytes));
  expect(cpuMs() - startMs).toBeLessThan(longestMs);
  return outcome.refused ?? "was not refused";
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function patched(change: (db: Buffer) => unknown): Buffer {
  const db = Buffer.from(sound);
  change(db);
  return db;
}

/**
 * Offsets where damage must be seen: both metas, and headers and element tables of the root bucket and of bucket `key`; but not the length of a
 * page's last key (branch) or value (leaf), since bbolt writes down nowhere where the data of a page ends.
 */
function structuralBytes(): { readonly offsets: readonly number[]; has(at: number): boolean } {
  const ranges = [0, pageBytes].flatMap((at) => [range(at, 10), range(at + 16, 64)]);
  for (const page of model.pages) {
    if (page.bucket !== "" && page.bucket !== "key") continue;
    const last = page.count * 16;
    const lengthAt = last + (page.kind === "branch" ? 4 : 12);
    ranges.push(
      range(0, lengthAt)
        .concat(range(lengthAt + 4, last + 16 - lengthAt - 4))
        .map((at) => page.id * pageBytes + at),
    );
  }
  const offsets = ranges.flat();
  const known = new Set(offsets);
  return { offsets, has: (at) => known.has(at) };
}

/**
 * True when the byte belongs to a branch's pointer that leads to a free page now. Free pages keep what they held: often an older state of the very
 * page that was meant, sound in itself. bbolt check is as blind to that as we are.
 */
function leadsToFreePage(at: number, flipped: number): boolean {
  const page = model.pages.find(({ id }) => id === Math.floor(at / pageBytes));
  const inElement = (at - 16) % 16;
  if (page?.kind !== "branch" || at % pageBytes < 16 || inElement < 8) return false;
  const pointer = Buffer.from(sound.subarray(at - inElement + 8, at - inElement + 16));
  pointer[inElement - 8] = flipped;
  return !usedPages.has(Number(pointer.readBigUInt64LE(0)));
}

function range(from: number, length: number): number[] {
  return Array.from({ length }, (_, i) => from + i);
}

function sameFacts(one: SnapshotFacts, other: SnapshotFacts): boolean {
  const text = (facts: SnapshotFacts): string =>
    JSON.stringify(facts, (_key, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
  return text(one) === text(other);
}

function pageOf(pages: readonly ModelPage[], wanted: (page: ModelPage) => boolean): ModelPage {
  const page = pages.find(wanted);
  if (page === undefined) throw new Error("the fixture has no such page");
  return page;
}
