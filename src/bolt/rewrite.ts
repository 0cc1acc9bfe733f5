import { chmodSync, closeSync, constants, copyFileSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { Fault } from "../faults.ts";
import { corrupt, foreign } from "./corrupt.ts";
import { openDatabaseFile, type DatabaseFile } from "./file.ts";
import type { BoltRow } from "./inspect.ts";
import { checksumAt, fnv1a64, magic, metaBytes, noFreelist, readMeta, version, type Meta } from "./meta.ts";
import { elementBytes, pageHeaderBytes, pageKinds, type Page } from "./page.ts";
import { Pager } from "./pager.ts";
import { branchChild, branchKey, checkBranch, walkBucket, type Bucket } from "./walk.ts";
import { TreeWriter, bucketFlag, type Child, type LeafElement } from "./write-tree.ts";

/** What is to be different in a copy. */
export interface DatabaseChanges {
  /** These buckets hold exactly these rows, which are in key order; they are made where there are none. */
  readonly replace: readonly { readonly bucket: string; readonly rows: readonly BoltRow[] }[];
  /** A row behind all others of bucket `key`. */
  readonly append: BoltRow | undefined;
}

/**
 * Copies a database and changes the copy, as bbolt itself would: by new pages at its end (for the changed buckets, the right edge of `key`, and the bucket of all buckets) and,
 * last, both meta pages. No freelist is written, so that bbolt finds the free pages when it opens the file. Synchronous, for a worker thread; in memory are the new pages
 * only. `destination` must not exist. Gives the size of the copy, which ends with its last page, whatever the source has behind. Faults: those of a scan, `spool-space` and
 * `spool-failed` for the copy.
 */
export function rewriteDatabase(source: string, destination: string, changes: DatabaseChanges): number {
  using file = openDatabaseFile(source, undefined);
  const meta = readMeta(file);
  const writer = new TreeWriter(meta.pageBytes, meta.pages);
  const rootPage = newRoot(file, meta, writer, changes);
  const pages = writer.bytes;
  attempt(destination, () => copyFileSync(source, destination, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL));
  // The copy has the source's mode, which may be read-only.
  attempt(destination, () => chmodSync(destination, 0o600));
  const fd = attempt(destination, () => openSync(destination, "r+"));
  try {
    write(destination, fd, pages, meta.pages * meta.pageBytes);
    attempt(destination, () => ftruncateSync(fd, writer.pages * meta.pageBytes));
    for (const number of [1n, 2n]) {
      const txid = meta.txid + number;
      const id = Number(txid % 2n);
      write(destination, fd, metaPage(id, meta.pageBytes, rootPage, writer.pages, txid), id * meta.pageBytes);
    }
  } finally {
    closeSync(fd);
  }
  return writer.pages * meta.pageBytes;
}

/** Writes the trees that change, and the bucket of all buckets over them; gives its root page. */
function newRoot(file: DatabaseFile, meta: Meta, writer: TreeWriter, changes: DatabaseChanges): number {
  const pager = new Pager(file, meta);
  const buckets = new Map<string, LeafElement>();
  let key: Bucket | undefined;
  walkBucket(pager, { kind: "tree", root: meta.rootPage }, 0, {
    plain: false,
    row(page) {
      throw corrupt(page.id, "a row where only buckets are expected");
    },
    bucket(page, keyAt, keyBytes, bucket) {
      const name = page.bytes.slice(keyAt, keyAt + keyBytes);
      const valueAt = keyAt + keyBytes;
      const valueEnd = bucket.kind === "inline" ? bucket.page.end : valueAt + bucketHeaderBytes;
      const text = Buffer.from(name).toString("latin1");
      buckets.set(text, { flags: bucketFlag, key: name, value: page.bytes.slice(valueAt, valueEnd) });
      if (text === "key") key = bucket.kind === "tree" ? bucket : { kind: "inline", page: bucket.page.copy() };
    },
  });
  const put = (name: string, root: number): void => {
    const value = Buffer.alloc(bucketHeaderBytes);
    value.writeBigUInt64LE(BigInt(root));
    buckets.set(name, { flags: bucketFlag, key: Buffer.from(name, "latin1"), value });
  };
  for (const { bucket, rows } of changes.replace) put(bucket, writer.tree(rows));
  if (changes.append !== undefined) {
    if (key === undefined) throw foreign("no bucket key: not an etcd database");
    put("key", writer.root(appended(new Pager(file, meta), key, writer, changes.append)));
  }
  return writer.tree([...buckets.values()].sort((a, b) => Buffer.compare(a.key, b.key)));
}

/** The bucket's tree with one row more at its end: a copy of its right edge. */
function appended(pager: Pager, bucket: Bucket, writer: TreeWriter, row: BoltRow): readonly Child[] {
  if (bucket.kind === "inline") return writer.leaves([...rowsOf(bucket.page), row]);
  const descend = (id: number, level: number): readonly Child[] => {
    const page = pager.hold(id, level);
    if (page.kind === pageKinds.leaf) return writer.leaves([...rowsOf(page), row]);
    if (page.kind !== pageKinds.branch) throw corrupt(id, "a freelist page where a branch or leaf is expected");
    checkBranch(page, pager.pageBytes, undefined, undefined);
    const children = Array.from({ length: page.count }, (_, index): Child => {
      const { bytes, at, length } = branchKey(page, index);
      return { key: bytes.slice(at, at + length), page: branchChild(page, index) };
    });
    const last = children.pop();
    if (last === undefined) throw corrupt(id, "a branch without children");
    const [first, ...more] = descend(last.page, level + 1);
    // A branch may name its child by a key below the child's first.
    return writer.branches([...children, ...(first === undefined ? [] : [{ ...first, key: last.key }]), ...more]);
  };
  return descend(bucket.root, 0);
}

/** Copies of a leaf's rows. */
function rowsOf(page: Page): readonly LeafElement[] {
  return Array.from({ length: page.count }, (_, index) => {
    const at = page.start + pageHeaderBytes + index * elementBytes;
    const keyAt = at + page.view.getUint32(at + 4, true);
    const valueAt = keyAt + page.view.getUint32(at + 8, true);
    const end = valueAt + page.view.getUint32(at + 12, true);
    if (end > page.end || page.view.getUint32(at, true) !== 0) throw corrupt(page.id, `element ${index} is no row`);
    return { key: page.bytes.slice(keyAt, valueAt), value: page.bytes.slice(valueAt, end) };
  });
}

const bucketHeaderBytes = 16;

function metaPage(id: number, pageBytes: number, rootPage: number, pages: number, txid: bigint): Uint8Array {
  const page = Buffer.alloc(pageBytes);
  page.writeBigUInt64LE(BigInt(id), 0);
  page.writeUInt16LE(pageKinds.meta, 8);
  const meta = page.subarray(pageHeaderBytes, pageHeaderBytes + metaBytes);
  meta.writeUInt32LE(magic, 0);
  meta.writeUInt32LE(version, 4);
  meta.writeUInt32LE(pageBytes, 8);
  meta.writeBigUInt64LE(BigInt(rootPage), 16);
  meta.writeBigUInt64LE(noFreelist, 32);
  meta.writeBigUInt64LE(BigInt(pages), 40);
  meta.writeBigUInt64LE(txid, 48);
  meta.writeBigUInt64LE(fnv1a64(meta.subarray(0, checksumAt)), checksumAt);
  return page;
}

function write(path: string, fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length;) {
    done += attempt(path, () => writeSync(fd, bytes, done, bytes.length - done, offset + done));
  }
}

function attempt<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const full = (error as NodeJS.ErrnoException).code === "ENOSPC";
    throw new Fault(full ? "spool-space" : "spool-failed", `cannot write ${path}: ${why}`, { cause: error });
  }
}
