import type { LoginProof } from "../bolt/auth.ts";
import type { RowId, SnapshotFacts } from "../bolt/facts.ts";
import type { DatabaseContents } from "../bolt/inspect.ts";
import type { KubernetesFacts } from "../bolt/kubernetes.ts";
import type { DatabaseChanges } from "../bolt/rewrite.ts";

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

/** Computes HashKV of a database file as it will be once its revisions were bumped to `revision` (bolt/hash-kv.ts). */
export interface HashKvBumpedTask {
  readonly kind: "hash-kv-bumped";
  readonly path: string;
  readonly revision: bigint;
}

/** Reads what somebody who rewrites a database must know of it (bolt/inspect.ts). */
export interface InspectDatabaseTask {
  readonly kind: "inspect-database";
  readonly path: string;
}

/** Copies a database with changes (bolt/rewrite.ts); answers the size of the copy. */
export interface RewriteDatabaseTask {
  readonly kind: "rewrite-database";
  readonly source: string;
  readonly destination: string;
  readonly changes: DatabaseChanges;
}

/** Reads what a database holds of a Kubernetes cluster that a restore makes old (bolt/kubernetes.ts). */
export interface SurveyKubernetesTask {
  readonly kind: "survey-kubernetes";
  readonly path: string;
}

/** Proves a user against the users of a database (workers/login.ts). Without a password a client certificate of that name is meant. */
export interface ProveLoginTask {
  readonly kind: "prove-login";
  readonly path: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** What a worker thread can be asked for; must survive a structured clone. */
export type Task =
  | SurveyKubernetesTask
  | ScanSnapshotTask
  | HashKvTask
  | HashKvBumpedTask
  | InspectDatabaseTask
  | RewriteDatabaseTask
  | ProveLoginTask;

/** What each kind of task answers. */
export interface Results {
  readonly "scan-snapshot": SnapshotFacts;
  readonly "hash-kv": readonly number[];
  readonly "hash-kv-bumped": number;
  readonly "inspect-database": DatabaseContents;
  readonly "survey-kubernetes": KubernetesFacts;
  readonly "rewrite-database": number;
  readonly "prove-login": LoginProof;
}
