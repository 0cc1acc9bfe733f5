/** What a snapshot file says of itself: everything here was read from the file, nothing from a server. */
export interface SnapshotFacts {
  /** The revision etcd has after it started from this file: the newest row or compaction, at least 1. */
  readonly revision: bigint;
  /** The higher of the two below; -1 when never compacted, as HashKV reports it. */
  readonly compactRevision: bigint;
  /** What a member that holds this file answers to HashKV at `revision`, compacted up to `compactRevision`: 32 bits, unsigned. */
  readonly hashKv: number;
  readonly compactionScheduled: bigint | undefined;
  readonly compactionFinished: bigint | undefined;
  /** Raft index up to which the file has applied; 0 when the file has none. */
  readonly consistentIndex: bigint;
  /** Absent from files of etcd 3.4 and older. */
  readonly term: bigint | undefined;
  /** Absent from files of etcd 3.5 and older, and of newer members of such a cluster. */
  readonly storageVersion: string | undefined;
  readonly clusterVersion: string | undefined;
  readonly members: readonly SnapshotMember[];
  readonly removedMembers: readonly bigint[];
  /** Voters by the raft configuration; absent from files of etcd 3.4 and older. */
  readonly voters: readonly bigint[] | undefined;
  readonly alarms: readonly SnapshotAlarm[];
  readonly authEnabled: boolean;
  readonly leases: number;
  readonly downgrade: { readonly targetVersion: string; readonly enabled: boolean } | undefined;
  /** User keys whose newest row is not a tombstone. */
  readonly keys: number;
  /** Rows in bucket `key`: live, old and tombstones. */
  readonly rows: number;
  /** Bytes of the database, free pages included, without the seal. */
  readonly dbBytes: number;
  /** Bytes of the pages in use: about what a defragmented copy needs. */
  readonly logicalBytes: number;
  readonly pageBytes: number;
  /** At most 64 rows, chosen by their revisions alone, so that files of one history share them; ascending. */
  readonly samples: readonly RowSample[];
  /** Of the rows that were asked for, those that this file has; in the order of asking. */
  readonly probed: readonly RowSample[];
  /** Top-level buckets that etcd 3.7 and older do not have. */
  readonly otherBuckets: readonly string[];
  /** bbolt's transaction of the meta page that was used. */
  readonly txid: bigint;
  /** The meta page that is damaged; the other one was used, as bbolt does. Undefined in every snapshot that arrived whole. */
  readonly brokenMeta: 0 | 1 | undefined;
  /** True when a seal follows the database. It is not checked here. */
  readonly sealed: boolean;
}

export interface SnapshotMember {
  readonly id: bigint;
  /** Empty until the member has started for the first time. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

export interface SnapshotAlarm {
  readonly memberId: bigint;
  readonly kind: "NOSPACE" | "CORRUPT" | "UNKNOWN";
}

/** A row of bucket `key` by its revision. */
export interface RowId {
  readonly main: bigint;
  readonly sub: bigint;
}

export interface RowSample extends RowId {
  /** SHA-256 of the row's key and value bytes as they are in the file, hexadecimal. */
  readonly sha256: string;
}
