import { crc32c } from "../../src/crc32c.ts";
import type { ModelRow } from "./model.ts";
import { writeDatabase } from "./write-database.ts";

export interface HistoryRow extends ModelRow {
  readonly main: bigint;
  readonly tombstone: boolean;
  readonly userKey: string;
}

export type Change =
  { readonly key: string; readonly value: string; readonly lease?: bigint } | { readonly key: string };

/** What compactions have been asked for, and how far they got. */
export interface Compaction {
  readonly finished?: bigint | undefined;
  /** Of the rows that the scheduled compaction takes away, so many are gone already. */
  readonly scheduled?: { readonly at: bigint; readonly gone: number } | undefined;
  /** Newer servers keep the tombstones of the revision that they compact. */
  readonly keepsTombstones?: boolean;
}

/** All that ever happened to a store, for tests: plain and slow, made after etcd's own words (server/storage/mvcc) and not after our reader. */
export class History {
  revision = 1n;
  readonly rows: HistoryRow[] = [];
  readonly #versions = new Map<string, { readonly created: bigint; readonly version: bigint }>();

  /** One transaction; its changes are of different keys. */
  change(...changes: readonly Change[]): void {
    const main = this.revision + 1n;
    let sub = 0n;
    for (const change of changes) {
      const before = this.#versions.get(change.key);
      if (!("value" in change)) {
        if (before === undefined) continue;
        this.#versions.delete(change.key);
        this.#add(main, sub++, change.key, true, field(1, change.key));
        continue;
      }
      const now = { created: before?.created ?? main, version: (before?.version ?? 0n) + 1n };
      this.#versions.set(change.key, now);
      const fields = [field(1, change.key), number(2, now.created), number(3, main), number(4, now.version)];
      this.#add(main, sub++, change.key, false, ...fields, field(5, change.value), number(6, change.lease ?? 0n));
    }
    if (sub > 0n) this.revision = main;
  }

  /** What `etcdutl snapshot restore --bump-revision` adds. */
  bump(by: bigint): void {
    this.revision += by;
    this.#add(this.revision, 0n, "", false);
  }

  /** The rows that a server still has, and how its file says what was compacted. */
  file({ finished, scheduled, keepsTombstones = true }: Compaction): {
    readonly rows: HistoryRow[];
    readonly db: Buffer;
  } {
    let rows = this.rows;
    const isDoomed = (at: bigint): ((row: HistoryRow) => boolean) => {
      const newest = this.#newest(at);
      return (row) =>
        row.main <= at && (newest.get(row.userKey) !== row || (row.tombstone && !(keepsTombstones && row.main === at)));
    };
    if (finished !== undefined) rows = rows.filter((row) => !isDoomed(finished)(row));
    if (scheduled !== undefined) {
      let left = scheduled.gone;
      rows = rows.filter((row) => !(isDoomed(scheduled.at)(row) && left-- > 0));
    }
    const meta = [
      ...(finished === undefined
        ? []
        : [{ key: Buffer.from("finishedCompactRev"), value: revisionKey(finished, 0n, false) }]),
      ...(scheduled === undefined && finished === undefined
        ? []
        : [
            { key: Buffer.from("scheduledCompactRev"), value: revisionKey(scheduled?.at ?? finished ?? 0n, 0n, false) },
          ]),
    ];
    return { rows, db: writeDatabase({ key: rows, meta }) };
  }

  /** HashKV as a server with these rows computes it. */
  hash(rows: readonly HistoryRow[], revision: bigint, compactRevision: bigint): number {
    const keep = new Set([...this.#newest(revision).values()].filter(({ tombstone }) => !tombstone));
    let crc = crc32c(Buffer.from("key"));
    for (const row of rows) {
      if (row.main > revision) continue;
      if (row.main <= compactRevision && keep.size > 0 && !keep.has(row)) continue;
      if (row.main === compactRevision && row.tombstone) continue;
      crc = crc32c(row.value, crc32c(row.key, crc));
    }
    return crc;
  }

  #newest(at: bigint): Map<string, HistoryRow> {
    const newest = new Map<string, HistoryRow>();
    for (const row of this.rows) if (row.main <= at) newest.set(row.userKey, row);
    return newest;
  }

  #add(main: bigint, sub: bigint, userKey: string, tombstone: boolean, ...fields: readonly Buffer[]): void {
    this.rows.push({ main, tombstone, userKey, key: revisionKey(main, sub, tombstone), value: Buffer.concat(fields) });
  }
}

function revisionKey(main: bigint, sub: bigint, tombstone: boolean): Buffer {
  const key = Buffer.alloc(tombstone ? 18 : 17, "t");
  key.writeBigUInt64BE(main, 0);
  key.write("_", 8);
  key.writeBigUInt64BE(sub, 9);
  return key;
}

function field(tag: number, text: string): Buffer {
  return text === ""
    ? Buffer.alloc(0)
    : Buffer.concat([Buffer.of(tag * 8 + 2), varint(BigInt(text.length)), Buffer.from(text)]);
}

function number(tag: number, value: bigint): Buffer {
  return value === 0n ? Buffer.alloc(0) : Buffer.concat([Buffer.of(tag * 8), varint(value)]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 127n; left >>= 7n) bytes.push(Number(left & 127n) | 128);
  return Buffer.from([...bytes, Number(left)]);
}
