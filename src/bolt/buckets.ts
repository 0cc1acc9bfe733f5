import { corrupt } from "./corrupt.ts";
import type { SnapshotAlarm, SnapshotMember } from "./facts.ts";
import { revisionOf } from "./sample.ts";

/** One row of a small bucket, copied out of its page. */
export interface SmallRow {
  readonly page: number;
  readonly key: Buffer;
  readonly value: Buffer;
}

/** The buckets etcd 3.3 to 3.7 have (server/storage/schema/bucket.go); of these, `key` and `lease` are large, the rest is read whole. */
export const knownBuckets: ReadonlySet<string> = new Set([
  "key",
  "meta",
  "lease",
  "alarm",
  "cluster",
  "members",
  "members_removed",
  "auth",
  "authUsers",
  "authRoles",
]);

/** What bucket `meta` says; a key that is not there is undefined. */
export interface MetaFacts {
  compactionScheduled: bigint | undefined;
  compactionFinished: bigint | undefined;
  consistentIndex: bigint | undefined;
  term: bigint | undefined;
  storageVersion: string | undefined;
  voters: readonly bigint[] | undefined;
}

/** Takes one row of bucket `meta` into `facts`; keys that are not known are left alone. */
export function readMetaRow(row: SmallRow, facts: MetaFacts): void {
  switch (row.key.toString("latin1")) {
    case "consistent_index":
      facts.consistentIndex = readU64(row);
      break;
    case "term":
      facts.term = readU64(row);
      break;
    case "scheduledCompactRev":
      facts.compactionScheduled = readRevision(row);
      break;
    case "finishedCompactRev":
      facts.compactionFinished = readRevision(row);
      break;
    case "storageVersion":
      facts.storageVersion = readText(row);
      break;
    case "confState":
      facts.voters = readIds(readObject(row)["voters"] ?? [], row);
      break;
    default:
  }
}

/** A row of bucket `members`: hexadecimal ID to JSON. */
export function readMember(row: SmallRow): SnapshotMember {
  const json = readObject(row);
  const id = readHexId(row);
  if (readId(json["id"], row) !== id) throw malformed(row, "names another member in its value");
  return {
    id,
    name: optionalString(json["name"], row),
    peerUrls: strings(json["peerURLs"], row),
    clientUrls: strings(json["clientURLs"], row),
    learner: json["isLearner"] === true,
  };
}

/** A key of bucket `members` or `members_removed`: an ID in hexadecimal, not padded. */
export function readHexId(row: SmallRow): bigint {
  const text = row.key.toString("latin1");
  if (!/^[0-9a-f]{1,16}$/.test(text)) throw malformed(row, "is no member ID");
  return BigInt(`0x${text}`);
}

/** A key of bucket `alarm`: a marshalled AlarmMember {1 memberID, 2 alarm}; zero values are left out. */
export function readAlarm(row: SmallRow): SnapshotAlarm {
  let memberId = 0n;
  let kind = 0n;
  let at = 0;
  while (at < row.key.length) {
    const tag = row.key[at++];
    let value = 0n;
    let shift = 0n;
    let byte = 0x80;
    while (byte >= 0x80) {
      if (at >= row.key.length || shift > 63n) throw malformed(row, "is no alarm");
      byte = row.key[at++] ?? 0;
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
    }
    if (tag === 0x08) memberId = BigInt.asUintN(64, value);
    else if (tag === 0x10) kind = value;
    else throw malformed(row, "is no alarm");
  }
  return { memberId, kind: kind === 1n ? "NOSPACE" : kind === 2n ? "CORRUPT" : "UNKNOWN" };
}

/** Row `downgrade` of bucket `cluster`. */
export function readDowngrade(row: SmallRow): { targetVersion: string; enabled: boolean } {
  const json = readObject(row);
  return { targetVersion: optionalString(json["target-version"], row), enabled: json["enabled"] === true };
}

/** Row `authEnabled` of bucket `auth`: one byte. */
export function readFlag(row: SmallRow): boolean {
  const [byte] = row.value;
  if (row.value.length !== 1 || (byte !== 0 && byte !== 1)) throw malformed(row, "is neither 0 nor 1");
  return byte === 1;
}

/** A short printable value: a version. */
export function readText(row: SmallRow): string {
  const text = row.value.toString("latin1");
  if (!/^[\x21-\x7e]{1,64}$/.test(text)) throw malformed(row, "is no version");
  return text;
}

function readU64(row: SmallRow): bigint {
  if (row.value.length !== 8) throw malformed(row, `has ${row.value.length} bytes instead of 8`);
  return row.value.readBigUInt64BE(0);
}

function readRevision(row: SmallRow): bigint {
  if (row.value.length !== 17 || row.value[8] !== 0x5f || (row.value[0] ?? 0) >= 0x80)
    throw malformed(row, "is no revision");
  return revisionOf(row.value.readUInt32BE(0), row.value.readUInt32BE(4));
}

/** JSON as Go writes it: 64-bit IDs are bare decimals, which a JavaScript number would round; they come as bigint. */
function readObject(row: SmallRow): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(row.value), exactIntegers);
  } catch (error) {
    throw malformed(row, `is no JSON (${error instanceof Error ? error.message.slice(0, 80) : "unreadable"})`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw malformed(row, "is no JSON object");
  return { ...parsed };
}

function exactIntegers(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  return typeof value === "number" && /^\d{1,20}$/.test(context?.source ?? "") ? BigInt(context?.source ?? 0) : value;
}

function readIds(value: unknown, row: SmallRow): bigint[] {
  if (!Array.isArray(value)) throw malformed(row, "has no list where IDs are expected");
  return value.map((id: unknown) => readId(id, row));
}

/** etcd writes IDs as numbers; protobuf's own JSON form is a string. */
function readId(value: unknown, row: SmallRow): bigint {
  const id = typeof value === "string" && /^\d{1,20}$/.test(value) ? BigInt(value) : value;
  if (typeof id !== "bigint" || id >= 2n ** 64n) throw malformed(row, "has no ID where one is expected");
  return id;
}

function optionalString(value: unknown, row: SmallRow): string {
  if (value === undefined) return "";
  if (typeof value !== "string") throw malformed(row, "has no text where some is expected");
  return value;
}

function strings(value: unknown, row: SmallRow): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw malformed(row, "has no list where URLs are expected");
  return value.map((text: unknown) => optionalString(text ?? false, row));
}

/** The key is quoted, since a damaged file can hold anything. */
export function malformed(row: SmallRow, reason: string): Error {
  return corrupt(row.page, `the row ${JSON.stringify(row.key.toString("latin1").slice(0, 64))} ${reason}`);
}
