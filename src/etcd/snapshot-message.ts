import { Fault } from "../faults.ts";
import type { SnapshotMessage } from "./etcd.ts";

const empty = new Uint8Array(0);
const text = new TextDecoder();
const longestVersion = 64;

/**
 * Reads one SnapshotResponse: remaining_bytes (2), blob (3, a view on `bytes`, no copy), version (4). Other fields are
 * skipped; what is no such message is a `snapshot-broken` fault. Written by hand because protobufjs copies every blob.
 */
export function readSnapshotMessage(bytes: Uint8Array): SnapshotMessage {
  let at = 0;
  let remainingBytes = 0n;
  let blob: Uint8Array = empty;
  let version = "";

  while (at < bytes.length) {
    const key = number();
    const field = Math.floor(key / 8);
    const wireType = key % 8;
    if (field === 0) throw broken("a field has the number 0");
    if (field === 2) {
      expect(wireType, 0);
      remainingBytes = varint();
    } else if (field === 3) {
      expect(wireType, 2);
      blob = slice(number());
    } else if (field === 4) {
      expect(wireType, 2);
      version = versionOf(slice(number()));
    } else skip(wireType);
  }
  // Go's server counts in int64: what does not fit was negative there.
  if (remainingBytes >= 2n ** 63n) throw broken("remaining_bytes is negative");
  return { remainingBytes, blob, version };

  function skip(wireType: number): void {
    if (wireType === 0) varint();
    else if (wireType === 1) slice(8);
    else if (wireType === 2) slice(number());
    else if (wireType === 5) slice(4);
    else throw broken(`wire type ${wireType} does not exist`);
  }

  function slice(length: number): Uint8Array {
    if (length > bytes.length - at) throw broken("a field is longer than its message");
    const part = bytes.subarray(at, at + length);
    at += length;
    return part;
  }

  /** A varint that must fit a message: keys and lengths. */
  function number(): number {
    const value = varint();
    if (value > 0xffff_ffffn) throw broken("a length or field number is out of range");
    return Number(value);
  }

  function varint(): bigint {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < 7; count += 1) {
      const byte = next();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return BigInt(value);
      factor *= 128;
    }
    let large = BigInt(value);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = next();
      large |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (large >= 2n ** 64n) throw broken("a number has more than 64 bits");
        return large;
      }
    }
    throw broken("a number does not end");
  }

  function next(): number {
    const byte = bytes[at];
    if (byte === undefined) throw broken("it ends within a number");
    at += 1;
    return byte;
  }
}

function expect(given: number, wanted: number): void {
  if (given !== wanted) throw broken(`wire type ${given} where ${wanted} belongs`);
}

function versionOf(bytes: Uint8Array): string {
  const version = text.decode(bytes.subarray(0, longestVersion));
  if (bytes.length > longestVersion || !/^[\w.+-]*$/.test(version)) throw broken("its version is no version");
  return version;
}

function broken(why: string): Fault {
  return new Fault("snapshot-broken", `a message of the snapshot stream cannot be read: ${why}`);
}
