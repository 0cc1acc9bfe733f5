import type { Minor } from "./minors.ts";

/**
 * Makes the data directories of a new cluster out of a snapshot, on the operator's side. Nothing is written but inside the work directory, and the database that is
 * given stays as it is.
 */
export interface DataDirectoryBuilder {
  /** `lifeboat` for ours, `etcdutl` for the stock tool. */
  readonly name: string;

  /**
   * Builds one directory per member, and reads everything again before it answers. `database` is the path of a verified database file without a seal; `workDirectory`
   * exists, is empty, and has room for the database and 1 MiB (the stock builder: for it and 64 MB per member). The same request on the same database gives the same
   * bytes from our builder; the stock one's differ in the order of members. Faults: `datadir-refused` names a minor, bucket, row or address that this builder does not
   * know, before anything is written; `datadir-damaged` when what was built is not what was asked for; `usage` for a request that fits no cluster; those of bolt.
   */
  build(
    database: string,
    workDirectory: string,
    request: DataDirectoryRequest,
    signal: AbortSignal,
  ): Promise<BuiltCluster>;

  /** Rejects with whatever `build` would refuse before it writes anything, a missing tool included; reads the database and writes nothing. */
  require(database: string, request: DataDirectoryRequest, signal: AbortSignal): Promise<void>;
}

export interface DataDirectoryRequest {
  /** Of the servers that will be started. */
  readonly minor: Minor;
  /** The initial-cluster-token: new and unique, since member and cluster IDs are made of it. */
  readonly token: string;
  /** All voters; every member of the new cluster. */
  readonly members: readonly PlannedMember[];
  /** Added to the file's highest revision, and everything up to there is marked as compacted; undefined: revisions stay as they are. */
  readonly bump: bigint | undefined;
}

export interface PlannedMember {
  readonly name: string;
  /** As the server's --initial-advertise-peer-urls gives them, to the letter: its ID is made of them. */
  readonly peerUrls: readonly string[];
}

/** A file to be written on a member's host. */
export interface BuiltFile {
  /** Relative, with `/`: to `member/` of the data directory, or to the WAL directory. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
  readonly mode: number;
  /** The whole content, from the start, each time it is asked for; the work directory must still be there. */
  content(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface BuiltMember {
  readonly name: string;
  readonly memberId: bigint;
  /** Relative to `member/` of the data directory: `snap/db` and one `snap/….snap`. */
  readonly data: readonly BuiltFile[];
  /** Relative to the WAL directory, which is `member/wal` unless the member has one of its own. */
  readonly wal: readonly BuiltFile[];
}

export interface BuiltCluster {
  readonly clusterId: bigint;
  /** In the order of the request. */
  readonly members: readonly BuiltMember[];
  /** What clients will see first. */
  readonly revision: bigint;
  /** -1 for never compacted. */
  readonly compactRevision: bigint;
  /** What every member answers to HashKV at this revision while nothing was written; up to 3.4 to be asked for as revision 0, since they refuse a compacted one. */
  readonly hashKv: { readonly hash: number; readonly revision: bigint; readonly compactRevision: bigint };
  /** Of the snapshot, and not in what was built. */
  readonly alarmsRemoved: readonly BuiltAlarm[];
  /** Of the snapshot, and still there: each must be disarmed by exactly these words once the cluster runs. */
  readonly alarmsLeft: readonly BuiltAlarm[];
  /** A downgrade that was going on in the snapshot, and goes on in what was built until it is cancelled. */
  readonly downgrade: { readonly targetVersion: string } | undefined;
  readonly authEnabled: boolean;
  readonly leases: number;
}

export interface BuiltAlarm {
  readonly memberId: bigint;
  readonly kind: "NOSPACE" | "CORRUPT" | "UNKNOWN";
}

/** A segment, wherever it lies. */
export interface WalFile {
  readonly name: string;
  content(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** What a member's WAL says. */
export interface WalFacts {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  /** The last one; undefined in a WAL whose member has not voted or committed yet. */
  readonly hardState: { readonly term: bigint; readonly vote: bigint; readonly commit: bigint } | undefined;
  /** Of the last entry; 0 without entries. What lies above a database's consistent index is in the WAL only. */
  readonly lastIndex: bigint;
  readonly lastTerm: bigint;
  /** Of the newest snapshot record that is committed; 0 for none. */
  readonly snapshotIndex: bigint;
  /** The WAL ends inside a record, as after a power cut: etcd cuts that off when it starts, and it is not counted here. */
  readonly torn: boolean;
  /** Where the next record would stand, and the CRC that runs up to there. */
  readonly end: { readonly segment: string; readonly offsetBytes: number; readonly crc: number };
}

/** What can be done with a member's WAL, wherever its segments lie. */
export interface WalTools {
  /** Faults `datadir-damaged`, `not-found`. */
  readonly read: (files: readonly WalFile[], signal: AbortSignal) => Promise<WalFacts>;
  /** The record that, put at the end of a WAL, says that all of it is committed. */
  readonly commitRecord: (facts: WalFacts) => Uint8Array;
}
