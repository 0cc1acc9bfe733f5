import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Page } from "../../src/bolt/page.ts";
import { Row } from "../../src/bolt/row.ts";
import { isFault } from "../../src/faults.ts";

describe("a row of bucket key", () => {
  it("gives revision and user key of a put", () => {
    const row = decode(key(7n, 3n), Buffer.from("0a03666f6f1002180220022a0162", "hex"));
    expect([row.mainHigh, row.mainLow, row.subHigh, row.subLow, row.tombstone]).toEqual([0, 7, 0, 3, false]);
    expect(row.userKeyBytes).toBe(3);
  });

  it("gives revisions of 63 bits", () => {
    const row = decode(key(2n ** 63n - 1n, 2n ** 40n), Buffer.from("0a0161", "hex"));
    expect((BigInt(row.mainHigh) << 32n) | BigInt(row.mainLow >>> 0)).toBe(2n ** 63n - 1n);
    expect((BigInt(row.subHigh) << 32n) | BigInt(row.subLow >>> 0)).toBe(2n ** 40n);
  });

  it("is a tombstone with a t at the end", () => {
    expect(decode(Buffer.concat([key(7n, 0n), Buffer.from("t")]), Buffer.from("0a0161", "hex")).tombstone).toBe(true);
  });

  it("may be the empty one that a restore with a bumped revision leaves", () => {
    expect(decode(key(1_000_000_007n, 0n), Buffer.alloc(0)).userKeyBytes).toBe(0);
  });

  it("may have fields that a later etcd adds", () => {
    expect(decode(key(7n, 0n), Buffer.from("0a016138054100000000000000004d000000005202ffff", "hex")).userKeyBytes).toBe(
      1,
    );
  });

  it.each([
    ["a key of 16 bytes", key(7n, 0n).subarray(0, 16), "0a0161"],
    ["a key of 18 bytes without t", Buffer.concat([key(7n, 0n), Buffer.from("u")]), "0a0161"],
    ["a key of 19 bytes", Buffer.concat([key(7n, 0n), Buffer.from("tt")]), "0a0161"],
    ["a negative revision", key(2n ** 63n, 0n), "0a0161"],
    ["a negative sub revision", key(1n, 2n ** 63n), "0a0161"],
    ["an empty tombstone", Buffer.concat([key(7n, 0n), Buffer.from("t")]), ""],
    ["no user key", key(7n, 0n), "1002"],
    ["an empty user key", key(7n, 0n), "0a00"],
    ["a user key longer than its row", key(7n, 0n), "0a0561"],
    ["a user key of 2^35 bytes", key(7n, 0n), "0affffffffff0161"],
    ["a length without end", key(7n, 0n), "0aff"],
    ["a number without end", key(7n, 0n), "0a016110ff"],
    ["a number of more than 64 bits", key(7n, 0n), "0a016110ffffffffffffffffffffff01"],
    ["a group, which etcd never writes", key(7n, 0n), "0a01610b"],
    ["field 0", key(7n, 0n), "0a016100"],
  ])("is refused with %s", (_name, rowKey, value) => {
    expect(() => decode(rowKey, Buffer.from(value, "hex"))).toThrow(/^page 17: /);
  });

  it("of any bytes is decoded or refused, never more", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.uint8Array({ maxLength: 40 }), (rowKey, value) => {
        try {
          decode(Buffer.from(rowKey), Buffer.from(value));
        } catch (error) {
          expect(isFault(error, "bolt-corrupt")).toBe(true);
        }
        try {
          const row = decode(key(5n, 0n), Buffer.from(value));
          expect(row.userKeyBytes).toBeLessThanOrEqual(value.length);
        } catch (error) {
          expect(isFault(error, "bolt-corrupt")).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

function key(main: bigint, sub: bigint): Buffer {
  const bytes = Buffer.alloc(17, "_");
  bytes.writeBigUInt64BE(main, 0);
  bytes.writeBigUInt64BE(sub, 9);
  return bytes;
}

function decode(rowKey: Buffer, value: Buffer): Row {
  const bytes = new Uint8Array([...Buffer.alloc(5), ...rowKey, ...value, ...Buffer.alloc(20, 1)]);
  const page = new Page();
  page.place(17, bytes, new DataView(bytes.buffer), 0, bytes.length);
  const row = new Row();
  row.decode(page, 5, rowKey.length, 5 + rowKey.length, value.length);
  return row;
}
