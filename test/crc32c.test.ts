import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { combineCrc32c, crc32c, crc32cFromBase64, crc32cToBase64, crc32cWithin } from "../src/crc32c.ts";

/** Bit by bit, as the definition says. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe("crc32c", () => {
  test("gives the published check value and those of RFC 3720", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(new Uint8Array(0))).toBe(0);
  });

  test("agrees with the definition for any bytes, in one piece, continued, and combined", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), fc.nat(5), (any, where, from) => {
        const bytes = any.subarray(from); // not aligned to words
        const [head, tail] = [bytes.subarray(0, where), bytes.subarray(where)];
        const whole = slowCrc32c(bytes);
        expect(crc32c(bytes)).toBe(whole);
        expect(crc32c(tail, crc32c(head))).toBe(whole);
        expect(combineCrc32c(crc32c(head), crc32c(tail), tail.length)).toBe(whole);
      }),
    );
  });

  test("agrees with itself on any part of a buffer, wherever it begins and ends", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.nat(300),
        fc.nat(300),
        fc.integer(),
        (any, one, other, seed) => {
          const bytes = Uint8Array.from(any);
          const words = new Int32Array(bytes.buffer, 0, bytes.length >>> 2);
          const [from, to] = [Math.min(one, other, bytes.length), Math.min(Math.max(one, other), bytes.length)];
          expect(crc32cWithin(bytes, words, from, to, seed)).toBe(crc32c(bytes.slice(from, to), seed));
        },
      ),
    );
  });

  test("combines runs that are longer than 4 GiB", () => {
    // 2^33 zero bytes in steps that can be checked against each other: appending 2^32 twice is appending 2^33 once.
    const first = crc32c(Buffer.from("etcd"));
    const zeros = (bytes: number): number => combineCrc32c(first, 0, bytes);
    expect(combineCrc32c(zeros(2 ** 32), 0, 2 ** 32)).toBe(zeros(2 ** 33));
    expect(zeros(2 ** 33)).not.toBe(zeros(2 ** 32));
  });

  test("reads and writes S3's base64 form, and takes nothing else for it", () => {
    expect(crc32cToBase64(0xe3069283)).toBe("4waSgw==");
    expect(crc32cFromBase64("4waSgw==")).toBe(0xe3069283);
    expect(crc32cFromBase64("4waSgw==-3")).toBeUndefined();
    expect(crc32cFromBase64("")).toBeUndefined();
  });
});
