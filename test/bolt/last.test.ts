import { expect, it, test } from "vitest";
import { readLastState, type LastState } from "../../src/bolt/last.ts";
import { message } from "../../src/datadir/proto.ts";
import { fixtureBytes, fixtureMinors, oddBytes } from "./fixtures/golden.ts";
import type { ModelRow } from "./model.ts";
import { scanBytes } from "./scratch.ts";
import { writeDatabase } from "./write-database.ts";

const sealBytes = 32;

/** Reads from bytes in memory, and counts them. */
async function readFrom(bytes: Uint8Array): Promise<LastState & { readonly readBytes: number }> {
  let readBytes = 0;
  const state = await readLastState(bytes.length, async (offset, length) => {
    readBytes += length;
    return await Promise.resolve(bytes.subarray(offset, offset + length));
  });
  return { ...state, readBytes };
}

function revisionKey(main: number): Buffer {
  const key = Buffer.alloc(17);
  key.writeBigUInt64BE(BigInt(main), 0);
  key[8] = 0x5f;
  return key;
}

function userRow(main: number, name: string, bytes: number): ModelRow {
  const at = BigInt(main);
  const value = message([1, Buffer.from(name)], [2, at], [3, at], [4, 1n], [5, Buffer.alloc(bytes, 0x61)]);
  return { key: revisionKey(main), value };
}

it.each(fixtureMinors)("a database of etcd %s says how far it has come as a scan of all of it does", async (minor) => {
  const bytes = fixtureBytes(minor).subarray(0, -sealBytes);
  const { revision, consistentIndex } = scanBytes(bytes);
  expect(await readFrom(bytes)).toMatchObject({ revision, consistentIndex });
});

it.each([1024, 4096, 65536])("pages of %i bytes are found", async (pageBytes) => {
  const bytes = oddBytes(pageBytes);
  const { revision, consistentIndex } = scanBytes(bytes);
  expect(await readFrom(bytes)).toMatchObject({ revision, consistentIndex });
});

test("of a large database a few pages are read, also where its last row fills many", async () => {
  const rows = Array.from({ length: 30_000 }, (_, index) => userRow(index + 2, `key${index}`, 100));
  const key = [...rows, userRow(30_002, "large", 1_500_000)];
  const bytes = writeDatabase({ key, meta: [] });
  const found = await readFrom(bytes);
  expect(found).toMatchObject({ revision: 30_002n, consistentIndex: 0n });
  expect(bytes.length).toBeGreaterThan(6_000_000);
  expect(found.readBytes).toBeLessThan(2_100_000);
});

test("a compaction is as high as a row, and a database that is empty is at revision 1", async () => {
  expect(await readFrom(writeDatabase({ key: [], meta: [] }))).toMatchObject({ revision: 1n });
  const scheduled = { key: Buffer.from("scheduledCompactRev"), value: revisionKey(70) };
  expect(await readFrom(writeDatabase({ key: [], meta: [scheduled] }))).toMatchObject({ revision: 70n });
});

test("what is damaged, cut off or no database of etcd's is bolt-corrupt, never a guess", async () => {
  const whole = fixtureBytes("3.6").subarray(0, -sealBytes);
  const corrupt = { code: "bolt-corrupt" };
  await expect(readFrom(whole.subarray(0, -4096))).rejects.toMatchObject(corrupt);
  await expect(readFrom(Buffer.from("old data"))).rejects.toMatchObject(corrupt);
  await expect(readFrom(Buffer.alloc(0))).rejects.toMatchObject(corrupt);
  await expect(readFrom(writeDatabase({ meta: [] }))).rejects.toMatchObject(corrupt);
  const shorter = readLastState(whole.length, async () => await Promise.resolve(whole.subarray(0, 100)));
  await expect(shorter).rejects.toMatchObject(corrupt);
});
