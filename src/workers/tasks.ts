import type { RowId, SnapshotFacts } from "../bolt/facts.ts";

/** Reads the facts of a database file (bolt/scan.ts). `expectSeal` true: a file without a seal is refused; undefined: both are read. */
export interface ScanSnapshotTask {
  readonly kind: "scan-snapshot";
  readonly path: string;
  readonly probe: readonly RowId[];
  readonly expectSeal: boolean | undefined;
}

/** What a worker thread can be asked for; must survive a structured clone. */
export type Task = ScanSnapshotTask;

/** What each kind of task answers. */
export interface Results {
  readonly "scan-snapshot": SnapshotFacts;
}
