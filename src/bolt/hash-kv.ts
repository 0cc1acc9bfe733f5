import { Fault } from "../faults.ts";
import { readMetaRow, type MetaFacts } from "./buckets.ts";
import { corrupt, foreign } from "./corrupt.ts";
import { openDatabaseFile, type DatabaseFile } from "./file.ts";
import { HashPass, boundOf, isAbove } from "./hash-pass.ts";
import { KeyDigest } from "./key-digest.ts";
import { readMeta, type Meta } from "./meta.ts";
import { Page } from "./page.ts";
import { NewestRows, deleted } from "./newest-rows.ts";
import { Pager } from "./pager.ts";
import { Row } from "./row.ts";
import { revisionOf } from "./sample.ts";
import { seekLast } from "./seek.ts";
import { walkBucket, type Bucket, type Visitor } from "./walk.ts";

/**
 * What a member that holds this file answers to HashKV at `revision` once it has compacted up to each of `compactRevisions`, in their order (which is
 * any). Reads the rows since the last finished compaction twice and the others once, whatever the number of hashes. Synchronous, for a worker thread.
 * Memory: 19 to 30 bytes per key that has rows since then, and the largest page. Faults: `etcd-compacted` for a revision that is not in the file any
 * more, `usage` for one that it does not have yet, and those of a scan.
 */
export function hashKv(path: string, revision: bigint, compactRevisions: readonly bigint[]): readonly number[] {
  using file = openDatabaseFile(path, undefined);
  const meta = readMeta(file);
  const source = new HashSource(file, meta);
  for (const compactRevision of compactRevisions) {
    if (compactRevision < source.compactRevision) {
      const why = `${path} is compacted at ${source.compactRevision}`;
      throw new Fault("etcd-compacted", `${why}, so its hash as of compaction ${compactRevision} is gone`);
    }
    if (compactRevision > revision) {
      throw new Fault("usage", `no member at revision ${revision} is compacted at ${compactRevision}`);
    }
  }
  const ascending = [...new Set(compactRevisions)].sort((a, b) => (a < b ? -1 : 1));
  if (ascending.length === 0) return [];
  const key = new KeyDigest();
  const pass = source.begin(revision, ascending, key);
  const visitor = new HashVisitor(pass, key);
  source.walk(visitor);
  const last = [visitor.revision, source.compactRevision, 1n].reduce((a, b) => (b > a ? b : a));
  if (revision > last) throw new Fault("usage", `${path} ends at revision ${last}, before ${revision}`);
  const hashes = pass.finish() ?? source.hashAll(revision, ascending);
  const found = new Map(ascending.map((compactRevision, index) => [compactRevision, hashes[index]]));
  return compactRevisions.flatMap((compactRevision) => found.get(compactRevision) ?? []);
}

/**
 * What a member that holds this file answers to HashKV once its revisions were bumped to `revision`: a row without user key was added there, and everything up to it was
 * marked as compacted (`etcdutl snapshot restore --bump-revision`). Otherwise as `hashKv`.
 */
export function hashKvBumped(path: string, revision: bigint): number {
  using file = openDatabaseFile(path, undefined);
  const source = new HashSource(file, readMeta(file));
  const key = new KeyDigest();
  const pass = source.begin(revision, [revision], key, revision);
  const visitor = new HashVisitor(pass, key);
  source.walk(visitor);
  visitRowAt(visitor, revision);
  // The added row is kept, so there is an answer at once.
  const [hash] = pass.finish() ?? [];
  if (hash === undefined) throw foreign(`${path} gives no hash`);
  return hash;
}

/** A file of which HashKV is wanted. */
export class HashSource {
  /** As HashKV reports it: the compaction that was scheduled last, be it finished or not; -1 for none. */
  readonly compactRevision: bigint;
  readonly #finished: bigint;
  readonly #file: DatabaseFile;
  readonly #meta: Meta;

  /** Faults `bolt-corrupt`, also for a file without the buckets of etcd's. */
  constructor(file: DatabaseFile, meta: Meta) {
    this.#file = file;
    this.#meta = meta;
    const { compactionScheduled = -1n, compactionFinished = -1n } = this.#readCompaction();
    this.compactRevision = compactionScheduled > compactionFinished ? compactionScheduled : compactionFinished;
    this.#finished = compactionFinished;
  }

  /**
   * Prepares a pass over the rows up to `revision`, by reading those since the last finished compaction; `key` must digest the rows of the pass too. `bumped`: the pass will
   * end with one more row there, without a user key.
   */
  begin(revision: bigint, compactRevisions: readonly bigint[], key: KeyDigest, bumped?: bigint): HashPass {
    const finished = this.#finished;
    const newest = new NewestRows();
    // Nothing was compacted: all rows count.
    if (compactRevisions.some((compactRevision) => compactRevision >= 0n)) {
      const visitor = new NewestVisitor(newest, finished, revision, key);
      this.walk(visitor, finished + 1n);
      if (bumped !== undefined) visitRowAt(visitor, bumped);
    }
    return new HashPass({ revision, compactRevisions, finished, newest });
  }

  /** As `begin` and `finish`, where etcd has nothing to keep. */
  hashAll(revision: bigint, compactRevisions: readonly bigint[]): readonly number[] {
    return compactRevisions.flatMap((compactRevision) => {
      const plan = { revision, compactRevisions: [compactRevision], finished: this.#finished, newest: undefined };
      const pass = new HashPass(plan);
      this.walk(new HashVisitor(pass, new KeyDigest()));
      return pass.finish() ?? [];
    });
  }

  /** Walks bucket `key` from the given main revision on, or a little before. */
  walk(visitor: Visitor, from?: bigint): void {
    const pager = new Pager(this.#file, this.#meta);
    const { bucket, level } = this.#bucket(pager, "key");
    walkBucket(pager, bucket, level, visitor, from === undefined ? undefined : firstKey(from));
  }

  #readCompaction(): MetaFacts {
    const facts: MetaFacts = {
      compactionScheduled: undefined,
      compactionFinished: undefined,
      consistentIndex: undefined,
      term: undefined,
      storageVersion: undefined,
      voters: undefined,
    };
    const pager = new Pager(this.#file, this.#meta);
    const { bucket } = this.#bucket(pager, "meta");
    for (const name of ["scheduledCompactRev", "finishedCompactRev"]) {
      const target = Buffer.from(name);
      const found = seekLast(pager, bucket, target);
      if (found === undefined) continue;
      const { page, keyAt, keyBytes, valueAt, valueBytes } = found;
      const key = Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes));
      const value = Buffer.from(page.bytes.subarray(valueAt, valueAt + valueBytes));
      if (key.equals(target)) readMetaRow({ page: page.id, key, value }, facts);
    }
    return facts;
  }

  #bucket(pager: Pager, wanted: string): { readonly bucket: Bucket; readonly level: number } {
    let found: { readonly bucket: Bucket; readonly level: number } | undefined;
    walkBucket(pager, { kind: "tree", root: this.#meta.rootPage }, 0, {
      plain: false,
      row(page) {
        throw corrupt(page.id, "a row where only buckets are expected");
      },
      bucket(page, keyAt, keyBytes, bucket, level) {
        if (Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)).toString("latin1") !== wanted) return;
        found = { bucket: bucket.kind === "tree" ? bucket : { kind: "inline", page: bucket.page.copy() }, level };
      },
    });
    if (found === undefined) throw foreign(`no bucket ${wanted}: not an etcd database`);
    return found;
  }
}

/** Brings all rows to a pass; called for each row, so it allocates nothing. */
class HashVisitor implements Visitor {
  readonly plain = true;
  readonly #pass: HashPass;
  readonly #key: KeyDigest;
  readonly #row = new Row();

  constructor(pass: HashPass, key: KeyDigest) {
    this.#pass = pass;
    this.#key = key;
  }

  /** Of the last row; 0 when there is none. */
  get revision(): bigint {
    return revisionOf(this.#row.mainHigh, this.#row.mainLow);
  }

  row(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    const row = this.#row;
    row.decode(page, keyAt, keyBytes, valueAt, valueBytes);
    if (this.#pass.wantsKeys) this.#key.take(page.bytes, page.view, row.userKeyAt, row.userKeyBytes);
    this.#pass.row(page, keyAt, valueAt + valueBytes, row, this.#key);
  }

  leave(): void {
    this.#pass.leave();
  }
}

/** Finds the newest row of each key; called for each row, so it allocates nothing. */
class NewestVisitor implements Visitor {
  readonly plain = true;
  readonly #row = new Row();
  readonly #newest: NewestRows;
  readonly #after: ReturnType<typeof boundOf>;
  readonly #upTo: ReturnType<typeof boundOf>;
  readonly #key: KeyDigest;
  #number = 0;

  constructor(newest: NewestRows, after: bigint, upTo: bigint, key: KeyDigest) {
    this.#newest = newest;
    this.#after = boundOf(after);
    this.#upTo = boundOf(upTo);
    this.#key = key;
  }

  row(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    const row = this.#row;
    row.decode(page, keyAt, keyBytes, valueAt, valueBytes);
    if (!isAbove(row, this.#after) || isAbove(row, this.#upTo)) return;
    this.#key.take(page.bytes, page.view, row.userKeyAt, row.userKeyBytes);
    const number = this.#number++;
    this.#newest.put(this.#key, row.tombstone ? deleted : number);
  }
}

/** Shows a visitor the row that a bump to this revision adds. */
function visitRowAt(visitor: Visitor, main: bigint): void {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, main);
  bytes[8] = 0x5f;
  const page = new Page();
  page.place(0, bytes, view, 0, bytes.length);
  visitor.row(page, 0, 17, 17, 0);
  visitor.leave?.();
}

/** The first key that a row of this main revision can have. */
function firstKey(main: bigint): Uint8Array {
  const key = Buffer.alloc(8);
  key.writeBigUInt64BE(main);
  return key;
}
