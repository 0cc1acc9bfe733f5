import type { RowId, SnapshotFacts } from "../bolt/facts.ts";

/** Reads the facts of a database file (bolt/scan.ts). `expectSeal` true: a file without a seal is refused; undefined: both are read. */
export interface ScanSnapshotTask {
  readonly kind: "scan-snapshot";
  readonly path: string;
  readonly probe: readonly RowId[];
  readonly expectSeal: boolean | undefined;
}

/** Computes HashKV of a database file at `revision`, as of each of these compactions (bolt/hash-kv.ts); the answers are in the same order. */
export interface HashKvTask {
  readonly kind: "hash-kv";
  readonly path: string;
  readonly revision: bigint;
  readonly compactRevisions: readonly bigint[];
}

/** What a worker thread can be asked for; must survive a structured clone. */
export type Task = ScanSnapshotTask | HashKvTask;

/** What each kind of task answers. */
export interface Results {
  readonly "scan-snapshot": SnapshotFacts;
  readonly "hash-kv": readonly number[];
}
