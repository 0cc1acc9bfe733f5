import { crc32c } from "../../src/crc32c.ts";
import { message } from "../../src/datadir/proto.ts";

/** A WAL that is written record by record, as etcd frames them; the offset of each record is known. */
export function writer(crc = 0): {
  readonly bytes: () => Buffer;
  readonly starts: readonly number[];
  readonly crc: () => number;
  readonly add: (type: bigint, data?: Buffer) => void;
} {
  const frames: Buffer[] = [];
  const starts: number[] = [];
  let sum = crc;
  let at = 0;
  return {
    starts,
    bytes: () => Buffer.concat(frames),
    crc: () => sum,
    add(type, data) {
      if (data !== undefined) sum = crc32c(data, sum);
      const record = message([1, type], [2, BigInt(sum)], ...(data === undefined ? [] : [[3, data] as const]));
      const padding = (8 - (record.length % 8)) % 8;
      const head = Buffer.alloc(8);
      head.writeBigUInt64LE(BigInt(record.length) + (padding === 0 ? 0n : BigInt(0x80 | padding) << 56n));
      starts.push(at);
      const frame = Buffer.concat([head, record, Buffer.alloc(padding)]);
      at += frame.length;
      frames.push(frame);
    },
  };
}

export const [metadata, entry, state, crc, snapshot] = [1n, 2n, 3n, 4n, 5n];
export const whose = message([1, 7n], [2, 9n]);

export function entryOf(index: bigint, term: bigint, bytes = 10): Buffer {
  return message([1, 0n], [2, term], [3, index], [4, Buffer.alloc(bytes, 0xab)]);
}

/** An ordinary WAL of so many entries in term 2. */
export function ordinary(entries: number, bytes?: number): ReturnType<typeof writer> {
  const wal = writer();
  wal.add(crc);
  wal.add(metadata, whose);
  wal.add(snapshot, message([1, 0n], [2, 0n]));
  for (let index = 1; index <= entries; index++) {
    wal.add(entry, entryOf(BigInt(index), 2n, bytes));
    wal.add(state, message([1, 2n], [2, 7n], [3, BigInt(index)]));
  }
  return wal;
}
