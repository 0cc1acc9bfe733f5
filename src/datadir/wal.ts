import { crc32c } from "../crc32c.ts";
import type { WalFacts } from "./datadir.ts";
import { hexId, memberJson, type Identity } from "./identity.ts";
import type { Minor } from "./minors.ts";
import { message } from "./proto.ts";

/** Kinds of records (server/storage/wal). */
export const recordTypes = { metadata: 1n, entry: 2n, state: 3n, crc: 4n, snapshot: 5n } as const;

/** The first segment of a WAL. */
export const firstSegmentName = `${hexName(0n)}-${hexName(0n)}.wal`;

/** What etcd gives a segment before it writes into it; a shorter one would do, but could find the disk full later. */
export const segmentBytes = 64_000_000;

/** Everything stands here when a restored member starts. */
export const restoredTerm = 1n;

/** `<term>-<index>.snap`, as etcd names it. */
export function snapName(term: bigint, index: bigint): string {
  return `${hexName(term)}-${hexName(index)}.snap`;
}

function hexName(number: bigint): string {
  return hexId(number).padStart(16, "0");
}

/**
 * The records of a restored member's only segment, as etcdutl of the minor writes them: one entry per member that adds it, all of them committed, and a snapshot behind them.
 * The rest of the segment is zeros.
 */
export function encodeSegment(memberId: bigint, identity: Identity, minor: Minor): Buffer {
  const { clusterId, members } = identity;
  const last = BigInt(members.length);
  const [lowest] = members;
  const segment = new SegmentWriter();
  segment.checkpoint();
  segment.record(recordTypes.metadata, message([1, memberId], [2, clusterId]));
  segment.record(recordTypes.snapshot, message([1, 0n], [2, 0n]));
  for (const [index, member] of members.entries()) {
    const change = [[3, member.id] as const, [4, Buffer.from(memberJson(member))] as const];
    // 1: its ID, 2: that it adds a node; 3.7 writes a message's ID only when it has one.
    const confChange = minor === "3.7" ? message([2, 0n], ...change) : message([1, 0n], [2, 0n], ...change);
    segment.record(
      recordTypes.entry,
      message([1, confChangeEntry], [2, restoredTerm], [3, BigInt(index + 1)], [4, confChange]),
    );
  }
  segment.record(recordTypes.state, message([1, restoredTerm], [2, lowest?.id ?? 0n], [3, last]));
  segment.record(recordTypes.snapshot, message([1, last], [2, restoredTerm], [3, encodeVoters(identity, minor)]));
  return segment.bytes;
}

/** The record that, put at the end of a WAL, says that all of its entries are committed. */
export function encodeCommit({ hardState, lastIndex, lastTerm, end }: WalFacts): Buffer {
  const writer = new SegmentWriter(end.crc);
  const { term, vote } = hardState ?? { term: lastTerm, vote: 0n };
  writer.record(recordTypes.state, message([1, term], [2, vote], [3, lastIndex]));
  return writer.bytes;
}

/** A raft ConfState: 1 for each voter, 5 for auto_leave, which 3.7 leaves out. */
export function encodeVoters({ members }: Identity, minor: Minor): Buffer {
  const voters = members.map(({ id }) => [1, id] as const);
  return minor === "3.7" ? message(...voters) : message(...voters, [5, 0n]);
}

const confChangeEntry = 1n;

/** Frames records: a length whose top byte tells of padding to eight bytes, then {1 type, 2 crc, 3 data}; the CRC runs over the data of all records so far. */
class SegmentWriter {
  readonly #frames: Buffer[] = [];
  #crc: number;

  constructor(crc = 0) {
    this.#crc = crc;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#frames);
  }

  /** Says what the CRC is before the first record of a segment. */
  checkpoint(): void {
    this.#frame(message([1, recordTypes.crc], [2, BigInt(this.#crc)]));
  }

  record(type: bigint, data: Uint8Array): void {
    this.#crc = crc32c(data, this.#crc);
    this.#frame(message([1, type], [2, BigInt(this.#crc)], [3, data]));
  }

  #frame(record: Uint8Array): void {
    const padding = (8 - (record.length % 8)) % 8;
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(record.length) | (padding === 0 ? 0n : BigInt(0x80 | padding) << 56n));
    this.#frames.push(length, Buffer.from(record), Buffer.alloc(padding));
  }
}
