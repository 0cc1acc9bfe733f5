import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { message } from "../../src/datadir/proto.ts";
import type { WalFacts, WalFile } from "../../src/datadir/datadir.ts";
import { readWal, walFilesIn } from "../../src/datadir/read-wal.ts";
import { encodeCommit } from "../../src/datadir/wal.ts";
import { never } from "./rig.ts";
import { crc, entry, entryOf, metadata, ordinary, snapshot, state, whose, writer } from "./write-wal.ts";

function files(...contents: readonly Buffer[]): WalFile[] {
  return contents.map((bytes, number) => ({
    name: `${number.toString(16).padStart(16, "0")}-${"0".repeat(16)}.wal`,
    async *content() {
      // In odd pieces, as a network gives them.
      for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
    },
  }));
}

async function read(...contents: readonly Buffer[]): Promise<WalFacts> {
  return await readWal(files(...contents), never);
}

test("a WAL says whose it is, how far it goes, and what was committed", async () => {
  const wal = ordinary(5);
  wal.add(snapshot, message([1, 3n], [2, 2n]));
  // Not committed when it was written, so it does not count.
  wal.add(snapshot, message([1, 6n], [2, 2n]));
  expect(await read(Buffer.concat([wal.bytes(), Buffer.alloc(4096)]))).toEqual({
    memberId: 7n,
    clusterId: 9n,
    hardState: { term: 2n, vote: 7n, commit: 5n },
    lastIndex: 5n,
    lastTerm: 2n,
    snapshotIndex: 3n,
    torn: false,
    end: { segment: files(Buffer.alloc(0))[0]?.name, offsetBytes: wal.bytes().length, crc: wal.crc() },
  });
});

test("a record put at its end makes all of a WAL committed, also behind a torn one", async () => {
  const wal = ordinary(5);
  wal.add(entry, entryOf(6n, 3n));
  wal.add(entry, entryOf(7n, 3n));
  const whole = wal.bytes();
  for (const bytes of [
    whole,
    Buffer.concat([whole, Buffer.alloc(4096)]),
    Buffer.concat([whole, whole.subarray(0, 12)]),
  ]) {
    const found = await read(bytes);
    expect(found).toMatchObject({ hardState: { commit: 5n }, lastIndex: 7n });
    const committed = await read(Buffer.concat([bytes.subarray(0, found.end.offsetBytes), encodeCommit(found)]));
    expect(committed).toMatchObject({ hardState: { term: 2n, vote: 7n, commit: 7n }, lastIndex: 7n, torn: false });
  }
});

test("a new leader's entries take the place of those that were never committed", async () => {
  const wal = ordinary(5);
  wal.add(entry, entryOf(4n, 3n));
  expect(await read(wal.bytes())).toMatchObject({ lastIndex: 4n, lastTerm: 3n });
});

test("segments go on from each other's CRC, the oldest may be gone, and other files are left alone", async () => {
  const first = ordinary(3);
  const second = writer(first.crc());
  second.add(crc);
  second.add(metadata, whose);
  second.add(entry, entryOf(4n, 2n));
  expect(await read(first.bytes(), second.bytes())).toMatchObject({ lastIndex: 4n });
  const [, last] = files(first.bytes(), second.bytes());
  const renamed = { ...last!, name: "0000000000000001-0000000000000004.wal" };
  const others = ["0.tmp", "0000000000000000-0000000000000000.wal.broken"].map((name) => ({ ...last!, name }));
  expect(await readWal([...others, renamed], never)).toMatchObject({ lastIndex: 4n, hardState: undefined });
  await expect(read(first.bytes(), ordinary(1).bytes())).rejects.toMatchObject({ code: "datadir-damaged" });
  const gap = { ...files(first.bytes())[0]!, name: `${"2".padStart(16, "0")}-${"0".repeat(16)}.wal` };
  await expect(readWal([...files(first.bytes()), gap], never)).rejects.toThrow("segment 1 before it is missing");
  await expect(readWal(others, never)).rejects.toMatchObject({ code: "not-found" });
});

test("a WAL that ends anywhere inside a record gives what was before, and says so", async () => {
  const wal = ordinary(6, 700);
  const bytes = wal.bytes();
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: wal.starts[4]! + 1, max: bytes.length }), async (end) => {
      const facts = await read(bytes.subarray(0, end));
      const whole = wal.starts.filter((_, index) => (wal.starts[index + 1] ?? bytes.length) <= end).length;
      // Behind the first three records, entries and states take turns.
      expect(facts.lastIndex).toBe(BigInt(Math.ceil((whole - 3) / 2)));
      expect(facts.torn).toBe(!wal.starts.includes(end) && end !== bytes.length);
    }),
    { numRuns: 60 },
  );
});

test("a record that was half written when the power went is cut off at the end, and is damage anywhere else", async () => {
  const wal = ordinary(3, 3000);
  const torn = Buffer.from(wal.bytes());
  const start = wal.starts.at(-2)!;
  // A whole sector of the last entry never reached the disk.
  const sector = Math.ceil((start + 64) / 512) * 512;
  torn.fill(0, sector, sector + 512);
  const facts = await read(torn);
  expect(facts).toMatchObject({ lastIndex: 2n, torn: true });
  const next = writer(wal.crc());
  next.add(crc);
  await expect(read(torn, next.bytes())).rejects.toThrow("the CRC of");
});

test("a flipped bit is damage, and the message says where", async () => {
  const wal = ordinary(4);
  const bytes = wal.bytes();
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: wal.starts[3]! + 16, max: wal.starts[4]! - 9 }), fc.nat(7), async (at, bit) => {
      const flipped = Buffer.from(bytes);
      flipped[at] = flipped[at]! ^ (1 << bit);
      await expect(read(flipped)).rejects.toMatchObject({
        code: "datadir-damaged",
        message: expect.stringContaining(`at ${wal.starts[3]} of `),
      });
    }),
    { numRuns: 60 },
  );
});

test("entries that are missing are damage", async () => {
  const wal = ordinary(2);
  wal.add(entry, entryOf(4n, 2n));
  await expect(read(wal.bytes())).rejects.toThrow("is entry 4");
});

test("entries that a snapshot of the leader stands for are not missing", async () => {
  const wal = ordinary(2);
  wal.add(snapshot, message([1, 40n], [2, 2n]));
  wal.add(entry, entryOf(41n, 2n));
  wal.add(state, message([1, 2n], [2, 7n], [3, 41n]));
  expect(await read(wal.bytes())).toMatchObject({ lastIndex: 41n, snapshotIndex: 40n });
  wal.add(entry, entryOf(43n, 2n));
  await expect(read(wal.bytes())).rejects.toThrow("is entry 43");
});

test("a record that claims gigabytes is not waited for", async () => {
  const wal = ordinary(2).bytes();
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(2n ** 40n);
  expect(await read(Buffer.concat([wal, head, Buffer.alloc(64)]))).toMatchObject({ lastIndex: 2n, torn: true });
});

test("a WAL is read from a directory", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lifeboat-wal-"));
  try {
    writeFileSync(join(directory, `${"0".repeat(16)}-${"0".repeat(16)}.wal`), ordinary(9).bytes());
    expect(await readWal(await walFilesIn(directory), never)).toMatchObject({ lastIndex: 9n });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
