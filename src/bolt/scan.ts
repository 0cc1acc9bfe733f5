import { createHash } from "node:crypto";
import {
  knownBuckets,
  readAlarm,
  readDowngrade,
  readFlag,
  readHexId,
  readMember,
  readMetaRow,
  readText,
  type MetaFacts,
  type SmallRow,
} from "./buckets.ts";
import { corrupt, foreign } from "./corrupt.ts";
import type { RowId, RowSample, SnapshotAlarm, SnapshotFacts, SnapshotMember } from "./facts.ts";
import { openDatabaseFile, type DatabaseFile } from "./file.ts";
import { checkFreelist } from "./freelist.ts";
import { HashSource } from "./hash-kv.ts";
import type { HashPass } from "./hash-pass.ts";
import { KeyDigest } from "./key-digest.ts";
import { LiveKeys } from "./live-keys.ts";
import { readMeta, type Meta } from "./meta.ts";
import type { Page } from "./page.ts";
import { Pager } from "./pager.ts";
import { Row } from "./row.ts";
import { BottomRows, revisionOf } from "./sample.ts";
import { seekLast } from "./seek.ts";
import { mostRows, smallRows } from "./small-rows.ts";
import { walkBucket, type Bucket, type Visitor } from "./walk.ts";

export interface ScanOptions {
  /** Rows to look up by revision, at most a few hundred. */
  readonly probe?: readonly RowId[] | undefined;
  /** True: a file without a seal is refused; false: one with it; undefined: both are read. */
  readonly expectSeal?: boolean | undefined;
}

/** No row can have a higher revision. */
const highestRevision = 2n ** 63n - 1n;

/**
 * Reads a snapshot file once, page by page in key order (and before that the rows since its last finished compaction, for HashKV), checks its
 * structure as `bbolt check` does (and further), and gives the facts. Synchronous, for a worker thread. Memory: a bit per page, the live key table,
 * what HashKV needs (hash-kv.ts), and the largest page. Faults: `bolt-corrupt` with page number and reason, `spool-failed` when the file cannot be
 * read.
 */
export function scanSnapshot(path: string, options: ScanOptions = {}): SnapshotFacts {
  using file = openDatabaseFile(path, options.expectSeal);
  const meta = readMeta(file);
  const pager = new Pager(file, meta);
  const key = new KeyDigest();
  const hash = begin(file, meta, key);
  const scan = new Scan(pager, key, hash.pass);
  walkBucket(pager, { kind: "tree", root: meta.rootPage }, 0, scan.root);
  if (meta.freelistPage !== undefined) checkFreelist(pager, meta.freelistPage);
  return {
    ...scan.facts(options.probe ?? []),
    hashKv: hash.finish(),
    dbBytes: file.dbBytes,
    logicalBytes: pager.reachedPages * meta.pageBytes,
    pageBytes: meta.pageBytes,
    txid: meta.txid,
    brokenMeta: meta.brokenMeta,
    sealed: file.sealed,
  };
}

/** What a scan needs for HashKV at the file's own revision and compaction. */
interface Hashing {
  /** Undefined when the file is damaged. The scan meets that damage in its own order, and tells of it best. */
  readonly pass: HashPass | undefined;
  /** To be called after the scan. */
  finish(): number;
}

function begin(file: DatabaseFile, meta: Meta, key: KeyDigest): Hashing {
  try {
    const source = new HashSource(file, meta);
    const compactRevisions = [source.compactRevision];
    const pass = source.begin(highestRevision, compactRevisions, key);
    return {
      pass,
      finish: () => (pass.finish() ?? source.hashAll(highestRevision, compactRevisions))[0] ?? 0,
    };
  } catch (error) {
    const finish = (): never => {
      throw error;
    };
    return { pass: undefined, finish };
  }
}

/** What one pass over the buckets gathers. */
class Scan {
  readonly #pager: Pager;
  readonly #found = new Set<string>();
  readonly #otherBuckets: string[] = [];
  readonly #rows: RowCounter;
  readonly #meta: MetaFacts = {
    compactionScheduled: undefined,
    compactionFinished: undefined,
    consistentIndex: undefined,
    term: undefined,
    storageVersion: undefined,
    voters: undefined,
  };
  readonly #members: SnapshotMember[] = [];
  readonly #removedMembers: bigint[] = [];
  readonly #alarms: SnapshotAlarm[] = [];
  #authEnabled = false;
  #leases = 0;
  #clusterVersion: string | undefined;
  #downgrade: SnapshotFacts["downgrade"];
  #keyBucket: Bucket | undefined;

  constructor(pager: Pager, key: KeyDigest, hash: HashPass | undefined) {
    this.#pager = pager;
    this.#rows = new RowCounter(key, hash);
  }

  readonly root: Visitor = {
    plain: false,
    row: (page) => {
      throw corrupt(page.id, "a row where only buckets are expected");
    },
    bucket: (page, keyAt, keyBytes, bucket, level) => {
      const name = Buffer.from(page.bytes.buffer, page.bytes.byteOffset + keyAt, keyBytes).toString("utf8");
      this.#found.add(name);
      if (!knownBuckets.has(name)) {
        if (this.#otherBuckets.push(name) > mostRows) throw corrupt(page.id, `more than ${mostRows} buckets`);
      }
      if (name === "key")
        this.#keyBucket = bucket.kind === "tree" ? bucket : { kind: "inline", page: bucket.page.copy() };
      walkBucket(this.#pager, bucket, level, this.#visitorOf(name));
    },
  };

  #visitorOf(name: string): Visitor {
    switch (name) {
      case "key":
        return this.#rows;
      case "lease":
        return { plain: true, row: (page, _keyAt, keyBytes) => this.#lease(page, keyBytes) };
      case "meta":
        return smallRows((row) => readMetaRow(row, this.#meta));
      case "members":
        return smallRows((row) => this.#members.push(readMember(row)));
      case "members_removed":
        return smallRows((row) => this.#removedMembers.push(readHexId(row)));
      case "alarm":
        return smallRows((row) => this.#alarms.push(readAlarm(row)));
      case "auth":
        return smallRows((row) => this.#auth(row));
      case "cluster":
        return smallRows((row) => this.#cluster(row));
      case "authUsers":
      case "authRoles":
        return { plain: true, row: ignore };
      default:
        return this.#unknown;
    }
  }

  /** Structure only, whatever is inside. */
  readonly #unknown: Visitor = {
    plain: false,
    row: ignore,
    bucket: (_page, _keyAt, _keyBytes, bucket, level) => walkBucket(this.#pager, bucket, level, this.#unknown),
  };

  #lease(page: Page, keyBytes: number): void {
    if (keyBytes !== 8) throw corrupt(page.id, `a key of ${keyBytes} bytes in bucket "lease" that is no lease ID`);
    this.#leases++;
  }

  #auth(row: SmallRow): void {
    if (row.key.equals(Buffer.from("authEnabled"))) this.#authEnabled = readFlag(row);
  }

  #cluster(row: SmallRow): void {
    const key = row.key.toString("latin1");
    if (key === "clusterVersion") this.#clusterVersion = readText(row);
    else if (key === "downgrade") this.#downgrade = readDowngrade(row);
  }

  facts(
    probe: readonly RowId[],
  ): Omit<SnapshotFacts, "hashKv" | "dbBytes" | "logicalBytes" | "pageBytes" | "txid" | "brokenMeta" | "sealed"> {
    const keyBucket = this.#keyBucket;
    if (keyBucket === undefined) throw foreign("no bucket key: not an etcd database");
    if (!this.#found.has("meta")) throw foreign("no bucket meta: not an etcd database");
    const { consistentIndex, compactionScheduled = -1n, compactionFinished = -1n } = this.#meta;
    const compactRevision = compactionScheduled > compactionFinished ? compactionScheduled : compactionFinished;
    const lookUp = (row: RowId): RowSample | undefined => sampleRow(this.#pager, keyBucket, row);
    return {
      ...this.#meta,
      revision: [this.#rows.revision, compactRevision].reduce((a, b) => (b > a ? b : a), 1n),
      compactRevision,
      consistentIndex: consistentIndex ?? 0n,
      clusterVersion: this.#clusterVersion,
      members: this.#members,
      removedMembers: this.#removedMembers,
      alarms: this.#alarms,
      authEnabled: this.#authEnabled,
      leases: this.#leases,
      downgrade: this.#downgrade,
      keys: this.#rows.live.count,
      rows: this.#rows.count,
      samples: this.#rows.bottom.chosen().flatMap((row) => lookUp(row) ?? []),
      probed: probe.flatMap((row) => lookUp(row) ?? []),
      otherBuckets: this.#otherBuckets,
    };
  }
}

/** Counts rows and live keys of bucket `key`, and brings its rows to the hash; called for each row of the file, so it allocates nothing. */
class RowCounter implements Visitor {
  readonly plain = true;
  readonly live = new LiveKeys();
  readonly bottom = new BottomRows();
  count = 0;
  readonly #row = new Row();
  readonly #key: KeyDigest;
  readonly #hash: HashPass | undefined;
  #mainHigh = -1;
  #mainLow = -1;
  #subHigh = -1;
  #subLow = -1;

  constructor(key: KeyDigest, hash: HashPass | undefined) {
    this.#key = key;
    this.#hash = hash;
  }

  /** Of the last row; 0 when there is none. */
  get revision(): bigint {
    return this.count === 0 ? 0n : revisionOf(this.#mainHigh, this.#mainLow);
  }

  row(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    const row = this.#row;
    row.decode(page, keyAt, keyBytes, valueAt, valueBytes);
    if (
      row.subLow === this.#subLow &&
      row.mainLow === this.#mainLow &&
      row.mainHigh === this.#mainHigh &&
      row.subHigh === this.#subHigh
    ) {
      throw corrupt(
        page.id,
        `revision ${revisionOf(row.mainHigh, row.mainLow)}_${revisionOf(row.subHigh, row.subLow)} has two rows`,
      );
    }
    this.#mainHigh = row.mainHigh;
    this.#mainLow = row.mainLow;
    this.#subHigh = row.subHigh;
    this.#subLow = row.subLow;
    this.count++;
    this.bottom.offer(row.mainHigh, row.mainLow, row.subHigh, row.subLow);
    const key = this.#key;
    key.take(page.bytes, page.view, row.userKeyAt, row.userKeyBytes);
    if (row.tombstone) this.live.remove(key);
    else if (row.userKeyBytes > 0) this.live.put(key);
    this.#hash?.row(page, keyAt, valueAt + valueBytes, row, key);
  }

  leave(): void {
    this.#hash?.leave();
  }
}

/** Finds a row by revision, be it a put or a tombstone (whose key has a `t` more). */
function sampleRow(pager: Pager, bucket: Bucket, { main, sub }: RowId): RowSample | undefined {
  const target = Buffer.alloc(18, "t");
  target.writeBigUInt64BE(main, 0);
  target.write("_", 8);
  target.writeBigUInt64BE(sub, 9);
  const found = seekLast(pager, bucket, target);
  if (found === undefined) return undefined;
  const { page, keyAt, keyBytes, valueAt, valueBytes } = found;
  if (keyBytes < 17 || target.compare(page.bytes, keyAt, keyAt + 17, 0, 17) !== 0) return undefined;
  return {
    main,
    sub,
    sha256: createHash("sha256")
      .update(page.bytes.subarray(keyAt, valueAt + valueBytes))
      .digest("hex"),
  };
}

function ignore(): void {
  // The walk has checked the structure; the content is nobody's business here.
}
