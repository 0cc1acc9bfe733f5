import { combineCrc32c, crc32c } from "../crc32c.ts";
import type { KeyDigest } from "./key-digest.ts";
import { absent, type NewestRows } from "./newest-rows.ts";
import type { Page } from "./page.ts";
import type { Row } from "./row.ts";
import { Runs } from "./runs.ts";

/** What is to be hashed. All are whole revisions (main), -1 for "never compacted". */
export interface HashPlan {
  /** Rows above it are left out. */
  readonly revision: bigint;
  /** Ascending, without doubles, at least one. */
  readonly compactRevisions: readonly bigint[];
  /** Up to here the file has one row per key at most, tombstones aside. */
  readonly finished: bigint;
  /** By numbers of rows above `finished`; undefined: there was nothing left to keep, and etcd leaves out nothing then but tombstones. */
  readonly newest: NewestRows | undefined;
}

/** Of bucket `key`, whose name etcd takes in first. */
const seed = crc32c(Buffer.from("key"));

/**
 * etcd's HashKV at several compaction revisions C in one pass over bucket `key` (server/storage/mvcc/hash.go): up to C the rows that a compaction at
 * `revision` would keep, above it all. What two of the hashes have in common is hashed once: rows kept up to the highest C in one sum, all rows between
 * one C and the next in one sum each. Called for each row of the file, so it allocates nothing.
 */
export class HashPass {
  readonly #plan: HashPlan;
  readonly #kept = new Runs(seed);
  /** Of the kept rows up to each C. */
  readonly #heads: number[] = [];
  /** Of all rows between each C and the next one. */
  readonly #tails: Runs[] = [];
  readonly #revision: Bound;
  readonly #finished: Bound;
  readonly #bounds: readonly Bound[];
  /** How many of the Cs are behind us. */
  #passed = 0;
  #tail: Runs | undefined;
  #number = 0;
  #keptAny = false;
  readonly #looksUp: boolean;

  constructor(plan: HashPlan) {
    this.#plan = plan;
    this.#looksUp = plan.newest !== undefined && plan.newest.keys > 0;
    this.#revision = boundOf(plan.revision);
    this.#finished = boundOf(plan.finished);
    this.#bounds = plan.compactRevisions.map(boundOf);
  }

  /** Whether the next row's user key decides anything, as far as is known before. */
  get wantsKeys(): boolean {
    return this.#looksUp && this.#passed < this.#bounds.length;
  }

  /** `row` is decoded, and `key` is the digest of its user key if `wantsKeys` said so. */
  row(page: Page, from: number, to: number, row: Row, key: KeyDigest): void {
    if (isAbove(row, this.#revision)) return;
    while (this.#passed < this.#bounds.length && isAbove(row, this.#bounds[this.#passed]!)) this.#pass();
    this.#tail?.take(page, from, to);
    if (this.#passed === this.#bounds.length) return;
    if (this.#plan.newest === undefined) {
      if (!(row.tombstone && isAt(row, this.#bounds[this.#passed]!))) this.#kept.take(page, from, to);
    } else if (this.#isKept(row, key, this.#plan.newest)) {
      this.#keptAny = true;
      this.#kept.take(page, from, to);
    }
  }

  /** Before the page's memory is used again. */
  leave(): void {
    this.#kept.flush();
    this.#tail?.flush();
  }

  /** The hashes in the order of the plan; undefined when nothing is to be kept, which takes a pass that knows, for one C at a time. */
  finish(): readonly number[] | undefined {
    while (this.#passed < this.#bounds.length) this.#pass();
    this.leave();
    const { newest } = this.#plan;
    if (newest?.alive === 0 && !this.#keptAny) return undefined;
    return this.#heads.map((head, index) =>
      this.#tails.slice(index).reduce((crc, tail) => combineCrc32c(crc, tail.crc, tail.bytes), head),
    );
  }

  #pass(): void {
    this.leave();
    this.#heads.push(this.#kept.crc);
    this.#tail = new Runs(0);
    this.#tails.push(this.#tail);
    this.#passed++;
  }

  #isKept(row: Row, key: KeyDigest, newest: NewestRows): boolean {
    const isNumbered = isAbove(row, this.#finished);
    const number = isNumbered ? this.#number++ : absent;
    if (row.tombstone) return false;
    return (this.#looksUp ? newest.get(key) : absent) === number;
  }
}

/** A revision in the halves that rows have. */
interface Bound {
  readonly high: number;
  readonly low: number;
}

export function boundOf(main: bigint): Bound {
  return { high: Number(BigInt.asIntN(32, main >> 32n)), low: Number(BigInt.asUintN(32, main)) };
}

/** Whether the row's main revision is above. */
export function isAbove(row: Pick<Row, "mainHigh" | "mainLow">, bound: Bound): boolean {
  return row.mainHigh > bound.high || (row.mainHigh === bound.high && row.mainLow >>> 0 > bound.low);
}

function isAt(row: Row, bound: Bound): boolean {
  return row.mainHigh === bound.high && row.mainLow >>> 0 === bound.low;
}
