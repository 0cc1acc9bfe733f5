import { malformed, readFlag, type SmallRow } from "./buckets.ts";
import { corrupt } from "./corrupt.ts";
import { openDatabaseFile } from "./file.ts";
import { readMeta } from "./meta.ts";
import { Pager } from "./pager.ts";
import { smallRows } from "./small-rows.ts";
import { walkBucket } from "./walk.ts";

/** Who may do what by a database: authentication is in it, and comes back with it. */
export interface AuthContents {
  readonly enabled: boolean;
  /** Of all changes to users, roles and this switch; 0 where none is written. */
  readonly revision: bigint;
  readonly users: readonly AuthUser[];
}

export interface AuthUser {
  readonly name: string;
  /** As bcrypt writes it, cost and salt included; empty for a user without a password. */
  readonly passwordHash: string;
  readonly roles: readonly string[];
}

/** What came of asking a database whether it lets a user in as we need it. */
export interface LoginProof {
  readonly verdict: "accepted" | "unknown-user" | "not-root" | "no-password" | "wrong-password" | "too-costly";
  /** Of the database's own users, those with the role root, by name. */
  readonly roots: readonly string[];
  readonly authRevision: bigint;
}

/** Reads the buckets `auth` and `authUsers`. Synchronous, for a worker thread; faults are those of a scan. */
export function readAuth(path: string): AuthContents {
  using file = openDatabaseFile(path, undefined);
  const meta = readMeta(file);
  let enabled = false;
  let revision = 0n;
  const users: AuthUser[] = [];
  const visitors: Readonly<Record<string, (row: SmallRow) => void>> = {
    auth(row) {
      const name = row.key.toString("latin1");
      if (name === "authEnabled") enabled = readFlag(row);
      if (name !== "authRevision") return;
      if (row.value.length !== 8) throw malformed(row, "is no revision of authentication");
      revision = row.value.readBigUInt64BE(0);
    },
    authUsers: (row) => void users.push(readUser(row)),
  };
  walkBucket(new Pager(file, meta), { kind: "tree", root: meta.rootPage }, 0, {
    plain: false,
    row(page) {
      throw corrupt(page.id, "a row where only buckets are expected");
    },
    bucket(page, keyAt, keyBytes, bucket) {
      const take = visitors[Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)).toString("latin1")];
      // A pager of its own: that one holds the page that is being walked.
      if (take !== undefined) walkBucket(new Pager(file, meta), bucket, 0, smallRows(take));
    },
  });
  return { enabled, revision, users };
}

/** authpb.User: {1 name, 2 password, 3 roles…, 4 options{1 no_password}}. */
function readUser(row: SmallRow): AuthUser {
  const { value } = row;
  let name = "";
  let passwordHash = "";
  const roles: string[] = [];
  let at = 0;
  while (at < value.length) {
    const tag = value[at++] ?? 0;
    let length = 0;
    let shift = 0;
    let byte = 0x80;
    while (byte >= 0x80) {
      if (at >= value.length || shift > 28) throw malformed(row, "is no user");
      byte = value[at++] ?? 0;
      length += (byte & 0x7f) * 2 ** shift;
      shift += 7;
    }
    // A number has no bytes behind it.
    if ((tag & 7) === 0) continue;
    if ((tag & 7) !== 2 || at + length > value.length) throw malformed(row, "is no user");
    const text = value.toString("utf8", at, at + length);
    if (tag === 0x0a) name = text;
    else if (tag === 0x12) passwordHash = text;
    else if (tag === 0x1a) roles.push(text);
    at += length;
  }
  if (name !== row.key.toString("utf8")) throw malformed(row, "is of another user");
  return { name, passwordHash, roles };
}
