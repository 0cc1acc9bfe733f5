import type { KeyDigest } from "./key-digest.ts";

const shardCount = 64;
const initialSlots = 16;
const wordsPerSlot = 4;
const rangeOfWord = 2 ** 32;

/** In place of a row's number: the newest row is a tombstone. */
export const deleted = -1;
/** In place of a row's number: the key has no row in the table. */
export const absent = -2;

/**
 * The newest row of each key, rows being given in order under numbers that ascend from 0.
 *
 * A key is kept as the 96 bits of its digest and the row's number: 16 bytes per slot, linear probing, at most five sixths full; 19 to 30 bytes per
 * key. There are 64 tables that grow by half one after another, so that growing does not take as much again. With ten million keys, one in 10^15
 * files has two that are taken for one.
 */
export class NewestRows {
  readonly #shards: Uint32Array[] = Array.from(
    { length: shardCount },
    () => new Uint32Array(initialSlots * wordsPerSlot),
  );
  readonly #counts = new Uint32Array(shardCount);
  #alive = 0;

  /** Keys whose newest row is no tombstone. */
  get alive(): number {
    return this.#alive;
  }

  get keys(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  get tableBytes(): number {
    return this.#shards.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** `row` is a number below 2^32 - 2, or `deleted`. */
  put(key: KeyDigest, row: number): void {
    const shard = key.word2 & (shardCount - 1);
    let table = this.#shards[shard]!;
    let at = find(table, key.word0, key.word1, key.word2);
    const before = table[at + 3]!;
    if (before === 0) {
      const count = ++this.#counts[shard]!;
      if (count * 6 * wordsPerSlot > table.length * 5) {
        table = grown(table);
        this.#shards[shard] = table;
        at = find(table, key.word0, key.word1, key.word2);
      }
      table[at] = key.word0;
      table[at + 1] = key.word1;
      table[at + 2] = key.word2;
    }
    if (before > 1) this.#alive--;
    if (row !== deleted) this.#alive++;
    table[at + 3] = row + 2;
  }

  /** The number of the key's newest row, `deleted` or `absent`. */
  get(key: KeyDigest): number {
    const table = this.#shards[key.word2 & (shardCount - 1)]!;
    return table[find(table, key.word0, key.word1, key.word2) + 3]! - 2;
  }
}

/** Where the key is, or the empty slot where it belongs. Ends: a sixth of the table is empty. */
function find(table: Uint32Array, word0: number, word1: number, word2: number): number {
  let at = Math.floor((word0 * (table.length / wordsPerSlot)) / rangeOfWord) * wordsPerSlot;
  while (table[at + 3] !== 0 && (table[at] !== word0 || table[at + 1] !== word1 || table[at + 2] !== word2)) {
    at += wordsPerSlot;
    if (at === table.length) at = 0;
  }
  return at;
}

function grown(before: Uint32Array): Uint32Array {
  const table = new Uint32Array((((before.length / wordsPerSlot) * 3) >>> 1) * wordsPerSlot);
  for (let from = 0; from < before.length; from += wordsPerSlot) {
    if (before[from + 3] === 0) continue;
    const at = find(table, before[from]!, before[from + 1]!, before[from + 2]!);
    for (let word = 0; word < wordsPerSlot; word++) table[at + word] = before[from + word]!;
  }
  return table;
}
