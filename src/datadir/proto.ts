import { Fault } from "../faults.ts";

/** One field of a protobuf message; only the two wire types that etcd's WAL and .snap have. */
export interface Field {
  readonly number: number;
  readonly value: bigint | Uint8Array;
}

/** A message of these fields, in this order, zeros written, too. Field numbers are below 16. */
export function message(...fields: readonly (readonly [number: number, value: bigint | Uint8Array])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([number, value]) =>
      typeof value === "bigint"
        ? [Buffer.of(number << 3), varint(value)]
        : [Buffer.of((number << 3) | 2), varint(BigInt(value.length)), value],
    ),
  );
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** Fault `datadir-damaged`, which names `what`, for bytes that are no such message. */
export function readFields(bytes: Uint8Array, what: string): readonly Field[] {
  const fields: Field[] = [];
  let at = 0;
  const number = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Fault("datadir-damaged", `${what} ends inside a number, or is none`);
  };
  while (at < bytes.length) {
    const tag = Number(number());
    if ((tag & 7) === 0) fields.push({ number: tag >>> 3, value: number() });
    else if ((tag & 7) === 2) {
      const length = Number(number());
      if (length > bytes.length - at) throw new Fault("datadir-damaged", `${what} ends inside a field`);
      fields.push({ number: tag >>> 3, value: bytes.subarray(at, at + length) });
      at += length;
    } else throw new Fault("datadir-damaged", `${what} has a field of wire type ${tag & 7}`);
  }
  return fields;
}

/** The last field of this number, as protobuf has it; 0 when there is none. */
export function integerOf(fields: readonly Field[], number: number): bigint {
  const value = fields.findLast((field) => field.number === number)?.value;
  return typeof value === "bigint" ? value : 0n;
}

/** As `integerOf`; empty when there is none. */
export function bytesOf(fields: readonly Field[], number: number): Uint8Array {
  const value = fields.findLast((field) => field.number === number)?.value;
  return value instanceof Uint8Array ? value : new Uint8Array(0);
}
