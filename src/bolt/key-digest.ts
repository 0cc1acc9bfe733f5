import { randomBytes } from "node:crypto";

/**
 * Turns user keys into 96 bits under a random secret: HalfSipHash-1-3, so nobody who can write to etcd can make keys collide or a table slow. One object
 * serves all rows of a scan; the words are those of the last key. Tables that are filled by one secret can be asked by that secret only.
 */
export class KeyDigest {
  word0 = 0;
  word1 = 0;
  /** For tables that must tell keys apart, where a wrong count would not do: n²/2^97 for two of n keys to be alike. */
  word2 = 0;
  readonly #key0: number;
  readonly #key1: number;

  constructor(secret: Uint8Array = randomBytes(8)) {
    const words = new DataView(secret.buffer, secret.byteOffset, secret.byteLength);
    this.#key0 = words.getInt32(0, true);
    this.#key1 = words.getInt32(4, true);
  }

  /**
   * HalfSipHash (github.com/veorq/SipHash, halfsiphash.c) with one round per word, three at the end, and 64 bits of output; word2 is what the output
   * leaves over of the state, which is a permutation of what it was before.
   */
  take(bytes: Uint8Array, view: DataView, at: number, length: number): void {
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
        this.word0 = (v1 ^ v3) >>> 0;
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
    this.word1 = (v1 ^ v3) >>> 0;
    this.word2 = (v0 ^ v2) >>> 0;
  }
}
