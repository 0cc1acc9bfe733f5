import {
  knownBuckets,
  readAlarm,
  readDowngrade,
  readFlag,
  readMetaRow,
  readText,
  type MetaFacts,
  type SmallRow,
} from "./buckets.ts";
import { corrupt, foreign } from "./corrupt.ts";
import type { SnapshotAlarm } from "./facts.ts";
import { openDatabaseFile } from "./file.ts";
import { lastRevisionOf } from "./last.ts";
import { readMeta } from "./meta.ts";
import { Pager } from "./pager.ts";
import { smallRows } from "./small-rows.ts";
import { walkBucket, type Visitor } from "./walk.ts";

/** A row as it is in the file. */
export interface BoltRow {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** What somebody who rewrites a database must know of it; read without the rows of bucket `key`, whatever their number. */
export interface DatabaseContents {
  /** Top-level buckets, those that etcd 3.7 and older do not have apart. */
  readonly buckets: readonly string[];
  readonly otherBuckets: readonly string[];
  /** All rows of bucket `meta`, by their keys' order. */
  readonly meta: readonly BoltRow[];
  /** Of the newest row; 0 when there is none. */
  readonly lastRevision: bigint;
  /** The higher of the two that bucket `meta` names; -1 when never compacted. */
  readonly compactRevision: bigint;
  readonly alarms: readonly SnapshotAlarm[];
  readonly authEnabled: boolean;
  readonly leases: number;
  readonly clusterVersion: string | undefined;
  readonly storageVersion: string | undefined;
  readonly downgrade: { readonly targetVersion: string; readonly enabled: boolean } | undefined;
  /** Bytes of the pages that the file counts: what a copy needs. */
  readonly usedBytes: number;
}

/** Reads the small buckets, and of `key` the last row. Synchronous, for a worker thread. Faults are those of a scan. */
export function inspectDatabase(path: string): DatabaseContents {
  using file = openDatabaseFile(path, undefined);
  const meta = readMeta(file);
  const pager = new Pager(file, meta);
  const buckets: string[] = [];
  const otherBuckets: string[] = [];
  const metaRows: BoltRow[] = [];
  const facts: MetaFacts = {
    compactionScheduled: undefined,
    compactionFinished: undefined,
    consistentIndex: undefined,
    term: undefined,
    storageVersion: undefined,
    voters: undefined,
  };
  const alarms: SnapshotAlarm[] = [];
  let authEnabled = false;
  let leases = 0;
  let clusterVersion: string | undefined;
  let downgrade: DatabaseContents["downgrade"];
  let lastRevision = 0n;

  const visitors: Readonly<Record<string, Visitor>> = {
    meta: smallRows((row) => {
      metaRows.push({ key: row.key, value: row.value });
      readMetaRow(row, facts);
    }),
    alarm: smallRows((row) => alarms.push(readAlarm(row))),
    auth: smallRows((row) => {
      if (nameOf(row) === "authEnabled") authEnabled = readFlag(row);
    }),
    cluster: smallRows((row) => {
      if (nameOf(row) === "clusterVersion") clusterVersion = readText(row);
      else if (nameOf(row) === "downgrade") downgrade = readDowngrade(row);
    }),
    lease: { plain: true, row: () => leases++ },
  };
  walkBucket(pager, { kind: "tree", root: meta.rootPage }, 0, {
    plain: false,
    row(page) {
      throw corrupt(page.id, "a row where only buckets are expected");
    },
    bucket(page, keyAt, keyBytes, bucket, level) {
      const name = Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)).toString("utf8");
      (knownBuckets.has(name) ? buckets : otherBuckets).push(name);
      const visitor = visitors[name];
      if (visitor !== undefined) walkBucket(pager, bucket, level, visitor);
      if (name === "key") lastRevision = lastRevisionOf(file, meta, bucket);
    },
  });
  for (const needed of ["key", "meta"]) {
    if (!buckets.includes(needed)) throw foreign(`no bucket ${needed}: not an etcd database`);
  }
  const { compactionScheduled = -1n, compactionFinished = -1n } = facts;
  return {
    buckets,
    otherBuckets,
    meta: metaRows,
    lastRevision,
    compactRevision: compactionScheduled > compactionFinished ? compactionScheduled : compactionFinished,
    alarms,
    authEnabled,
    leases,
    clusterVersion,
    storageVersion: facts.storageVersion,
    downgrade,
    usedBytes: meta.pages * meta.pageBytes,
  };
}

function nameOf(row: SmallRow): string {
  return row.key.toString("latin1");
}
