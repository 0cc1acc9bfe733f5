import { Fault } from "../faults.ts";
import { readMetaRow, type MetaFacts } from "./buckets.ts";
import { corrupt, foreign } from "./corrupt.ts";
import type { DatabaseFile } from "./file.ts";
import { readMeta, type Meta } from "./meta.ts";
import { Pager } from "./pager.ts";
import { Row } from "./row.ts";
import { revisionOf } from "./sample.ts";
import { seekLast } from "./seek.ts";
import { smallRows } from "./small-rows.ts";
import { walkBucket, type Bucket } from "./walk.ts";

/** How far a database has come. */
export interface LastState {
  /** The revision that etcd has after it started from this file: the newest row or compaction, at least 1. */
  readonly revision: bigint;
  /** Raft index up to which the file has applied; 0 when the file does not say. */
  readonly consistentIndex: bigint;
}

/** What is read at once: the pages of one descent lie apart, and a host far away is asked seldom. */
const blockBytes = 64 * 1024;
/** The last row of etcd's may have some megabytes; nothing that is needed here has so many. */
const mostBytes = 256 * 1024 * 1024;

/**
 * Reads how far a database has come from a few of its pages, wherever it lies: `read` gives the bytes from an offset on. The database must not be written meanwhile.
 * Fault `bolt-corrupt`, or what `read` rejects with.
 */
export async function readLastState(
  dbBytes: number,
  read: (offsetBytes: number, bytes: number) => Promise<Uint8Array>,
): Promise<LastState> {
  const file = new HeldBlocks(dbBytes);
  // Ends: each turn holds more than the one before, and the file holds only so much.
  for (;;) {
    try {
      return lastStateOf(file);
    } catch (error) {
      if (!(error instanceof Absent)) throw error;
      const { first, blocks } = error;
      const offset = first * blockBytes;
      const bytes = Math.min(blocks * blockBytes, dbBytes - offset);
      const part = await read(offset, bytes);
      if (part.length < bytes) throw new Fault("bolt-corrupt", "the file became shorter while it was read");
      file.hold(first, part);
    }
  }
}

function lastStateOf(file: DatabaseFile): LastState {
  const meta = readMeta(file);
  const facts: MetaFacts = {
    compactionScheduled: undefined,
    compactionFinished: undefined,
    consistentIndex: undefined,
    term: undefined,
    storageVersion: undefined,
    voters: undefined,
  };
  let last: bigint | undefined;
  walkBucket(new Pager(file, meta), { kind: "tree", root: meta.rootPage }, 0, {
    plain: false,
    row(page) {
      throw corrupt(page.id, "a row where only buckets are expected");
    },
    bucket(page, keyAt, keyBytes, bucket) {
      const name = Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)).toString("latin1");
      // Pagers of their own: that one holds the page that is being walked.
      if (name === "key") last = lastRevisionOf(file, meta, bucket);
      else if (name === "meta")
        walkBucket(
          new Pager(file, meta),
          bucket,
          0,
          smallRows((row) => readMetaRow(row, facts)),
        );
    },
  });
  if (last === undefined) throw foreign("no bucket key: not an etcd database");
  const { compactionScheduled = 0n, compactionFinished = 0n, consistentIndex = 0n } = facts;
  const revision = [last, compactionScheduled, compactionFinished].reduce((a, b) => (b > a ? b : a), 1n);
  return { revision, consistentIndex };
}

const afterAllRevisions = Buffer.alloc(18, 0xff);

/** Of the newest row of bucket `key`; 0 when there is none. */
export function lastRevisionOf(file: DatabaseFile, meta: Meta, bucket: Bucket): bigint {
  const last = seekLast(new Pager(file, meta), bucket, afterAllRevisions);
  if (last === undefined) return 0n;
  const row = new Row();
  row.decode(last.page, last.keyAt, last.keyBytes, last.valueAt, last.valueBytes);
  return revisionOf(row.mainHigh, row.mainLow);
}

/** These blocks are needed next. */
class Absent extends Error {
  readonly first: number;
  readonly blocks: number;

  constructor(first: number, blocks: number) {
    super("not read yet");
    this.first = first;
    this.blocks = blocks;
  }
}

/** The parts of a file that were asked for so far. */
class HeldBlocks implements DatabaseFile {
  readonly dbBytes: number;
  readonly sealed = false;
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(dbBytes: number) {
    this.dbBytes = dbBytes;
  }

  hold(first: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += blockBytes)
      this.#blocks.set(first + at / blockBytes, bytes.subarray(at, at + blockBytes));
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): void {
    const first = Math.floor(offset / blockBytes);
    const last = Math.floor((offset + bytes - 1) / blockBytes);
    for (let block = first; block <= last; block++) {
      const held = this.#blocks.get(block);
      if (held === undefined) {
        const blocks = last - block + 1;
        if ((this.#blocks.size + blocks) * blockBytes > mostBytes)
          throw new Fault("bolt-corrupt", `more than ${mostBytes} bytes are said to hold its last row`);
        throw new Absent(block, blocks);
      }
      const from = Math.max(offset, block * blockBytes);
      const to = Math.min(offset + bytes, (block + 1) * blockBytes);
      into.set(held.subarray(from - block * blockBytes, to - block * blockBytes), at + from - offset);
    }
  }

  [Symbol.dispose](): void {
    this.#blocks.clear();
  }
}
