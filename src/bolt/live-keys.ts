import type { KeyDigest } from "./key-digest.ts";

const initialSlots = 1024;

/**
 * Counts the user keys that are alive at the end of a history, rows being given in revision order: a put adds its key, a tombstone takes it out.
 *
 * A key is kept as 64 bits of its digest only: an open-addressing table of 8 bytes per slot, at most three quarters full; 11 to 21 bytes per live
 * key, 32 for the moment of growing. Two keys of one file share them with a probability of about n²/2^65 (3e-6 for ten million keys).
 */
export class LiveKeys {
  #table = new Uint32Array(2 * initialSlots);
  #mask = initialSlots - 1;
  #count = 0;
  #hash0 = 0;
  #hash1 = 0;

  get count(): number {
    return this.#count;
  }

  get tableBytes(): number {
    return this.#table.byteLength;
  }

  put(key: KeyDigest): void {
    this.#take(key);
    const slot = this.#find();
    if (this.#isEmpty(slot)) this.#insert(slot);
  }

  remove(key: KeyDigest): void {
    this.#take(key);
    const slot = this.#find();
    if (!this.#isEmpty(slot)) this.#clear(slot);
  }

  #take(key: KeyDigest): void {
    this.#hash0 = key.word0;
    // (0, 0) marks an empty slot.
    this.#hash1 = key.word0 === 0 && key.word1 === 0 ? 1 : key.word1;
  }

  #insert(slot: number): void {
    this.#table[2 * slot] = this.#hash0;
    this.#table[2 * slot + 1] = this.#hash1;
    this.#count++;
    if (this.#count * 4 > (this.#mask + 1) * 3) this.#grow();
  }

  /** The slot of the current hash, or the empty one where it belongs. Ends: a quarter of the table is empty. */
  #find(): number {
    const table = this.#table;
    const mask = this.#mask;
    let slot = this.#hash0 & mask;
    while (!this.#isEmpty(slot) && (table[2 * slot] !== this.#hash0 || table[2 * slot + 1] !== this.#hash1))
      slot = (slot + 1) & mask;
    return slot;
  }

  #isEmpty(slot: number): boolean {
    return this.#table[2 * slot] === 0 && this.#table[2 * slot + 1] === 0;
  }

  /** Empties a slot and closes the gap, so that no search stops too early. */
  #clear(slot: number): void {
    const table = this.#table;
    const mask = this.#mask;
    let hole = slot;
    for (let next = (slot + 1) & mask; !this.#isEmpty(next); next = (next + 1) & mask) {
      const home = (table[2 * next] ?? 0) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      table[2 * hole] = table[2 * next] ?? 0;
      table[2 * hole + 1] = table[2 * next + 1] ?? 0;
      hole = next;
    }
    table[2 * hole] = 0;
    table[2 * hole + 1] = 0;
    this.#count--;
  }

  #grow(): void {
    const before = this.#table;
    this.#table = new Uint32Array(before.length * 2);
    this.#mask = this.#mask * 2 + 1;
    for (let at = 0; at < before.length; at += 2) {
      this.#hash0 = before[at] ?? 0;
      this.#hash1 = before[at + 1] ?? 0;
      if (this.#hash0 === 0 && this.#hash1 === 0) continue;
      const slot = this.#find();
      this.#table[2 * slot] = this.#hash0;
      this.#table[2 * slot + 1] = this.#hash1;
    }
  }
}
