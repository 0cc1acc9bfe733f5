import { randomBytes } from "node:crypto";

const initialSlots = 1024;

/**
 * Counts the user keys that are alive at the end of a history, rows being given in revision order: a put adds its key, a tombstone takes it out.
 *
 * A key is kept as a 64-bit hash only: an open-addressing table of 8 bytes per slot, at most three quarters full; 11 to 21 bytes per live key,
 * 32 for the moment of growing. Two keys of one file share a hash with a probability of about n²/2^65 (3e-6 for ten million keys). The hash is
 * HalfSipHash-1-3 under a random key, so nobody who can write to etcd can make keys collide or the table slow.
 */
export class LiveKeys {
  readonly #key0: number;
  readonly #key1: number;
  #table = new Uint32Array(2 * initialSlots);
  #mask = initialSlots - 1;
  #count = 0;
  #hash0 = 0;
  #hash1 = 0;

  constructor(secret: Uint8Array = randomBytes(8)) {
    const words = new DataView(secret.buffer, secret.byteOffset, secret.byteLength);
    this.#key0 = words.getInt32(0, true);
    this.#key1 = words.getInt32(4, true);
  }

  get count(): number {
    return this.#count;
  }

  get tableBytes(): number {
    return this.#table.byteLength;
  }

  put(bytes: Uint8Array, view: DataView, at: number, length: number): void {
    this.#digest(bytes, view, at, length);
    const slot = this.#find();
    if (this.#isEmpty(slot)) this.#insert(slot);
  }

  remove(bytes: Uint8Array, view: DataView, at: number, length: number): void {
    this.#digest(bytes, view, at, length);
    const slot = this.#find();
    if (!this.#isEmpty(slot)) this.#clear(slot);
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

  /** HalfSipHash (github.com/veorq/SipHash, halfsiphash.c) with one round per word, three at the end, and 64 bits of output. */
  #digest(bytes: Uint8Array, view: DataView, at: number, length: number): void {
    let v0 = this.#key0;
    let v1 = this.#key1 ^ 0xee;
    let v2 = this.#key0 ^ 0x6c796765;
    let v3 = this.#key1 ^ 0x74656462;
    const whole = length & ~3;
    let last = length << 24;
    for (let i = whole; i < length; i++) last |= (bytes[at + i] ?? 0) << ((i - whole) * 8);
    for (let i = 0; i <= whole; i += 4) {
      const word = i < whole ? view.getInt32(at + i, true) : last;
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
    }
    v2 ^= 0xee;
    for (let round = 0; round < 6; round++) {
      if (round === 3) {
        this.#hash0 = (v1 ^ v3) >>> 0;
        v1 ^= 0xdd;
      }
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    this.#hash1 = (v1 ^ v3) >>> 0;
    // (0, 0) marks an empty slot.
    if (this.#hash0 === 0 && this.#hash1 === 0) this.#hash1 = 1;
  }
}
