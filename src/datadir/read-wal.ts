import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { crc32c } from "../crc32c.ts";
import { Fault, throwIfAborted } from "../faults.ts";
import type { WalFacts, WalFile } from "./datadir.ts";
import { bytesOf, integerOf, readFields, type Field } from "./proto.ts";
import { recordTypes } from "./wal.ts";

/**
 * Reads a WAL from its oldest segment to its end, in order and in bounded memory, and checks every CRC, as etcd does on its start (server/storage/wal). Files of other names
 * are left alone. Fault `datadir-damaged` names segment and offset for damage that etcd does not start from, too; `not-found` when there is no segment.
 */
export async function readWal(files: readonly WalFile[], signal: AbortSignal): Promise<WalFacts> {
  const segments = files
    .flatMap((file) => {
      const [, sequence, index] = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/.exec(file.name) ?? [];
      if (sequence === undefined || index === undefined) return [];
      return [{ file, sequence: BigInt(`0x${sequence}`), index: BigInt(`0x${index}`) }];
    })
    .sort((a, b) => (a.sequence < b.sequence ? -1 : 1));
  const [first] = segments;
  if (first === undefined) throw new Fault("not-found", "no segment of a WAL");
  const reader = new WalReader(first.index);
  for (const [number, { file, sequence }] of segments.entries()) {
    const wanted = first.sequence + BigInt(number);
    if (sequence !== wanted) throw damaged(file.name, 0, `segment ${wanted} before it is missing`);
    await reader.segment(file, number === segments.length - 1, signal);
  }
  return reader.facts();
}

/** The segments in a directory; `readWal` takes what is one. */
export async function walFilesIn(directory: string): Promise<readonly WalFile[]> {
  return (await readdir(directory)).map((name) => ({
    name,
    content: (signal) => createReadStream(join(directory, name), { highWaterMark: chunkBytes, signal }),
  }));
}

const chunkBytes = 1024 * 1024;
/** No request of a client is near; bounds what damage can make us hold. */
const longestRecordBytes = 256 * 1024 * 1024;
/** A disk writes no less at once: a record that was being written when the power went has zeros in one of them. */
const sectorBytes = 512;

class WalReader {
  #crc = 0;
  #memberId: bigint | undefined;
  #clusterId: bigint | undefined;
  #hardState: WalFacts["hardState"];
  #lastIndex: bigint | undefined;
  #lastTerm = 0n;
  readonly #snapshots: bigint[] = [];
  #torn = false;
  #end = { segment: "", offsetBytes: 0 };
  /** The index that the first segment begins with. */
  readonly #from: bigint;

  constructor(from: bigint) {
    this.#from = from;
  }

  facts(): WalFacts {
    if (this.#memberId === undefined || this.#clusterId === undefined) {
      throw new Fault("datadir-damaged", "the WAL does not say whose it is");
    }
    const commit = this.#hardState?.commit ?? 0n;
    return {
      memberId: this.#memberId,
      clusterId: this.#clusterId,
      hardState: this.#hardState,
      lastIndex: this.#lastIndex ?? 0n,
      lastTerm: this.#lastTerm,
      snapshotIndex: this.#snapshots.reduce((a, b) => (b > a && b <= commit ? b : a), 0n),
      torn: this.#torn,
      end: { ...this.#end, crc: this.#crc },
    };
  }

  async segment(file: WalFile, isLast: boolean, signal: AbortSignal): Promise<void> {
    await using input = new ByteReader(file.content(signal));
    // Ends with the file.
    for (;;) {
      throwIfAborted(signal);
      const at = input.offset;
      this.#end = { segment: file.name, offsetBytes: at };
      const head = await input.take(8);
      // A length of zero: space that was allocated before it is needed.
      if (head === undefined || head.every((byte) => byte === 0)) {
        if (head === undefined && input.left > 0) this.#endInside(file.name, at, isLast);
        return;
      }
      const length = Buffer.from(head).readBigUInt64LE();
      const padding = length >> 63n === 1n ? Number((length >> 56n) & 7n) : 0;
      const recordBytes = Number(length & 0xff_ffff_ffff_ffffn);
      const frame = recordBytes > longestRecordBytes ? undefined : await input.take(recordBytes + padding);
      if (frame === undefined) return this.#endInside(file.name, at, isLast);
      const record = frame.subarray(0, recordBytes);
      try {
        this.#take(record, `the record at ${at} of ${file.name}`);
      } catch (error) {
        if (!isLast || !isTorn(frame, at + 8)) throw error;
        this.#torn = true;
        return;
      }
    }
  }

  #endInside(name: string, at: number, isLast: boolean): void {
    if (!isLast) throw damaged(name, at, "it ends inside a record, and another segment follows");
    this.#torn = true;
  }

  #take(record: Uint8Array, what: string): void {
    const fields = readFields(record, what);
    const type = integerOf(fields, 1);
    const crc = Number(integerOf(fields, 2));
    const data = bytesOf(fields, 3);
    if (type === recordTypes.crc) {
      // The first segment that is there may have had others before it.
      if (this.#crc !== 0 && this.#crc !== crc) throw new Fault("datadir-damaged", `${what} goes on from another CRC`);
      this.#crc = crc;
      return;
    }
    const next = crc32c(data, this.#crc);
    if (next !== crc) throw new Fault("datadir-damaged", `the CRC of ${what} differs`);
    this.#crc = next;
    const inner = readFields(data, what);
    switch (type) {
      case recordTypes.metadata:
        return this.#metadata(inner, what);
      case recordTypes.entry:
        return this.#entry(inner, what);
      case recordTypes.state:
        this.#hardState = { term: integerOf(inner, 1), vote: integerOf(inner, 2), commit: integerOf(inner, 3) };
        return;
      case recordTypes.snapshot:
        this.#snapshots.push(integerOf(inner, 1));
        return;
      default:
        throw new Fault("datadir-damaged", `${what} is of a kind that is not known (${type})`);
    }
  }

  #metadata(fields: readonly Field[], what: string): void {
    const memberId = integerOf(fields, 1);
    const clusterId = integerOf(fields, 2);
    if (this.#memberId !== undefined && (this.#memberId !== memberId || this.#clusterId !== clusterId)) {
      throw new Fault("datadir-damaged", `${what} is of another member or cluster`);
    }
    this.#memberId = memberId;
    this.#clusterId = clusterId;
  }

  #entry(fields: readonly Field[], what: string): void {
    const index = integerOf(fields, 3);
    // A new leader's entries take the place of those that were never committed; none is left out, but for those that a snapshot of the leader stands for.
    const first = this.#from === 0n ? 1n : index;
    const highest = this.#snapshots.reduce((a, b) => (b + 1n > a ? b + 1n : a), (this.#lastIndex ?? first - 1n) + 1n);
    if (index > highest) {
      throw new Fault("datadir-damaged", `${what} is entry ${index}, and those before it are missing`);
    }
    this.#lastIndex = index;
    this.#lastTerm = integerOf(fields, 2);
  }
}

/** etcd's own rule: one of the sectors that the record reaches over has nothing but zeros of it. */
function isTorn(frame: Uint8Array, offset: number): boolean {
  for (let from = 0; from < frame.length;) {
    const to = Math.min(frame.length, from + sectorBytes - ((offset + from) % sectorBytes));
    if (frame.subarray(from, to).every((byte) => byte === 0)) return true;
    from = to;
  }
  return false;
}

/** Bytes of a stream by the number. */
class ByteReader implements AsyncDisposable {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #held: Uint8Array[] = [];
  offset = 0;
  /** How many are held. */
  left = 0;

  constructor(content: AsyncIterable<Uint8Array>) {
    this.#chunks = content[Symbol.asyncIterator]();
  }

  /** The next bytes, or undefined when there are not so many. */
  async take(bytes: number): Promise<Uint8Array | undefined> {
    while (this.left < bytes) {
      const chunk = await this.#chunks.next();
      if (chunk.done === true) return undefined;
      this.#held.push(chunk.value);
      this.left += chunk.value.length;
    }
    this.offset += bytes;
    this.left -= bytes;
    const [first] = this.#held;
    if (first !== undefined && first.length > bytes) {
      this.#held[0] = first.subarray(bytes);
      return first.subarray(0, bytes);
    }
    const whole = this.#held.length === 1 && first !== undefined ? first : Buffer.concat(this.#held);
    this.#held.splice(0, this.#held.length, ...(whole.length > bytes ? [whole.subarray(bytes)] : []));
    return whole.subarray(0, bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.();
  }
}

function damaged(name: string, offset: number, why: string): Fault {
  return new Fault("datadir-damaged", `${name} at ${offset}: ${why}`);
}
