import type { RowId } from "./facts.ts";

/** How many rows of a file are remembered in its manifest. */
const sampleCount = 64;

interface Ranked {
  readonly rankHigh: number;
  readonly rankLow: number;
  readonly mainHigh: number;
  readonly mainLow: number;
  readonly subHigh: number;
  readonly subLow: number;
}

/**
 * Chooses the rows with the smallest ranks ("bottom k"). The rank of a row is a fixed hash of its revision alone, so that two files of one history
 * choose the same rows as long as both have them. Revisions come as two 32-bit halves each, signed or unsigned alike.
 *
 * Part of manifest format 1, never to be changed: rank = two words, each made from its seed (0x9e3779b9 for the high word, 0x7f4a7c15 for the low
 * one) by taking in main's high, main's low, sub's high and sub's low word in turn: xor, then the 32-bit finalizer of MurmurHash3.
 */
export class BottomRows {
  readonly #rows: Ranked[] = [];
  /** The highest rank that still gets in, high word. */
  #limit = 0xffff_ffff;

  offer(mainHigh: number, mainLow: number, subHigh: number, subLow: number): void {
    const rankHigh = rankWord(0x9e3779b9, mainHigh, mainLow, subHigh, subLow);
    if (rankHigh > this.#limit) return;
    const rankLow = rankWord(0x7f4a7c15, mainHigh, mainLow, subHigh, subLow);
    const row = { rankHigh, rankLow, mainHigh, mainLow, subHigh, subLow };
    const at = this.#rows.findLastIndex(
      (other) => other.rankHigh < rankHigh || (other.rankHigh === rankHigh && other.rankLow <= rankLow),
    );
    this.#rows.splice(at + 1, 0, row);
    if (this.#rows.length > sampleCount) this.#rows.pop();
    if (this.#rows.length === sampleCount) this.#limit = this.#rows.at(-1)?.rankHigh ?? 0;
  }

  /** The chosen rows, by revision ascending. */
  chosen(): RowId[] {
    const ids = this.#rows.map((row) => ({
      main: revisionOf(row.mainHigh, row.mainLow),
      sub: revisionOf(row.subHigh, row.subLow),
    }));
    return ids.sort((a, b) => (a.main === b.main ? Number(a.sub - b.sub) : Number(a.main - b.main)));
  }
}

/** Puts two 32-bit halves together. */
export function revisionOf(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function rankWord(seed: number, a: number, b: number, c: number, d: number): number {
  return finalize(finalize(finalize(finalize(seed ^ a) ^ b) ^ c) ^ d) >>> 0;
}

function finalize(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
