import type { BoltRow, DatabaseContents } from "../bolt/inspect.ts";
import type { DatabaseChanges } from "../bolt/rewrite.ts";
import { Fault } from "../faults.ts";
import type { BuiltAlarm, BuiltCluster, DataDirectoryRequest } from "./datadir.ts";
import { hexId, memberJson, type Identity } from "./identity.ts";
import { crossMinor } from "./minors.ts";
import { restoredTerm } from "./wal.ts";

/** What is to be written, and what it will be. */
export interface DatabasePlan {
  readonly changes: DatabaseChanges;
  readonly revision: bigint;
  readonly compactRevision: bigint;
}

/** Rows of bucket `meta` that are known; what a row of another name wants when members change, nobody here can say. */
const knownMeta = [
  "confState",
  "consistent_index",
  "finishedCompactRev",
  "scheduledCompactRev",
  "storageVersion",
  "term",
] as const;

const stockHint = { hint: "let etcd's own tool build: --builder etcdutl" };

/**
 * What etcdutl's restore does to a database: members replaced, everything applied up to the last entry of the new WAL, and, with a bump, a row without key at the new revision
 * that is marked as compacted. Beyond it: alarms are removed (they would still refuse writes, under members that are gone), the raft configuration names the new voters, and the
 * bump counts from the file's highest revision, be it a row's or a compaction's.
 */
export function planDatabase(
  contents: DatabaseContents,
  identity: Identity,
  request: DataDirectoryRequest,
): DatabasePlan {
  refuseUnknown(contents);
  checkVersions(contents, request);
  const highest = highestRevision(contents);
  const revision = bumped(highest, request.bump);
  const isBumped = request.bump !== undefined;
  const members = identity.members
    .map((member) => ({ key: Buffer.from(hexId(member.id)), value: Buffer.from(memberJson(member)) }))
    .sort((a, b) => Buffer.compare(a.key, b.key));
  return {
    changes: {
      replace: [
        { bucket: "members", rows: members },
        { bucket: "members_removed", rows: [] },
        { bucket: "alarm", rows: [] },
        { bucket: "meta", rows: metaRows(contents, identity, isBumped ? revision : undefined) },
        ...(contents.buckets.includes("cluster") ? [] : [{ bucket: "cluster", rows: [] }]),
      ],
      append: isBumped ? { key: revisionKey(revision), value: Buffer.alloc(0) } : undefined,
    },
    revision,
    compactRevision: isBumped ? revision : contents.compactRevision,
  };
}

/** Refuses what etcd itself would refuse, or would not survive; `etcd-unsupported` with the reason. */
export function checkVersions(contents: DatabaseContents, { minor }: DataDirectoryRequest): void {
  const verdict = crossMinor(contents, minor);
  if (verdict.kind === "refused") throw new Fault("etcd-unsupported", verdict.reason);
}

/** What the snapshot says of itself, whoever builds from it. */
export function carriedOver(
  contents: DatabaseContents,
  alarmsLeft: readonly BuiltAlarm[],
): Pick<BuiltCluster, "alarmsRemoved" | "alarmsLeft" | "downgrade" | "authEnabled" | "leases"> {
  const { downgrade } = contents;
  return {
    alarmsRemoved: contents.alarms.filter((alarm) => !alarmsLeft.includes(alarm)),
    alarmsLeft,
    downgrade: downgrade?.enabled === true ? { targetVersion: downgrade.targetVersion } : undefined,
    authEnabled: contents.authEnabled,
    leases: contents.leases,
  };
}

/** The revision that etcd has after it started from such a file: the newest row or compaction, at least 1. */
function highestRevision({ lastRevision, compactRevision }: DatabaseContents): bigint {
  return [lastRevision, compactRevision].reduce((a, b) => (b > a ? b : a), 1n);
}

/** Fault `usage` for a bump that does not go forward, or leaves what a revision can be. */
function bumped(revision: bigint, bump: bigint | undefined): bigint {
  if (bump === undefined) return revision;
  if (bump <= 0n) throw new Fault("usage", `a bump of ${bump} does not bring revisions forward`);
  if (revision + bump >= 2n ** 63n) throw new Fault("usage", `a bump of ${bump} is more than a revision can hold`);
  return revision + bump;
}

function refuseUnknown({ otherBuckets, meta }: DatabaseContents): void {
  const [bucket] = otherBuckets;
  if (bucket !== undefined) {
    throw new Fault(
      "datadir-refused",
      `the snapshot has a bucket ${quoted(bucket)}, which is not known here`,
      stockHint,
    );
  }
  const row = meta.map(({ key }) => Buffer.from(key).toString("latin1")).find((name) => !isKnownMeta(name));
  if (row !== undefined) {
    throw new Fault(
      "datadir-refused",
      `the snapshot has a row ${quoted(row)} in bucket meta, which is not known here`,
      stockHint,
    );
  }
}

function isKnownMeta(name: string): boolean {
  return knownMeta.some((known) => known === name);
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 64));
}

function metaRows({ meta }: DatabaseContents, identity: Identity, compacted: bigint | undefined): readonly BoltRow[] {
  const rows = new Map(meta.map(({ key, value }) => [Buffer.from(key).toString("latin1"), value]));
  // The most dangerous of all: too high, and the server applies nothing, without a word.
  rows.set("consistent_index", u64(BigInt(identity.members.length)));
  rows.set("term", u64(restoredTerm));
  if (compacted !== undefined) rows.set("scheduledCompactRev", revisionKey(compacted));
  // Files of 3.4 and older have none.
  if (rows.has("confState")) {
    const voters = identity.members.map(({ id }) => id).join();
    rows.set("confState", Buffer.from(`{"voters":[${voters}],"auto_leave":false}`));
  }
  return [...rows]
    .map(([name, value]) => ({ key: Buffer.from(name, "latin1"), value }))
    .sort((a, b) => Buffer.compare(a.key, b.key));
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/** A revision as a key of bucket `key`: main, `_`, sub 0. */
function revisionKey(main: bigint): Buffer {
  return Buffer.concat([u64(main), Buffer.from("_"), u64(0n)]);
}
