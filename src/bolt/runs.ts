import { crc32cWithin } from "../crc32c.ts";
import type { Page } from "./page.ts";

/**
 * The CRC-32C of chosen rows, one after another. Rows that follow each other in a leaf lie there without a gap, key and value too, so that they are
 * taken in one run. `flush` before the page's memory is used again, and before `crc` is read.
 */
export class Runs {
  crc: number;
  bytes = 0;
  #memory = new Uint8Array(0);
  #words = new Int32Array(0);
  #from = 0;
  #to = 0;

  constructor(seed: number) {
    this.crc = seed;
  }

  take(page: Page, from: number, to: number): void {
    if (from === this.#to && page.bytes === this.#memory) {
      this.#to = to;
      return;
    }
    this.flush();
    if (page.bytes !== this.#memory) {
      this.#memory = page.bytes;
      this.#words = new Int32Array(page.bytes.buffer, page.bytes.byteOffset, page.bytes.length >>> 2);
    }
    this.#from = from;
    this.#to = to;
  }

  flush(): void {
    if (this.#from === this.#to) return;
    this.crc = crc32cWithin(this.#memory, this.#words, this.#from, this.#to, this.crc);
    this.bytes += this.#to - this.#from;
    this.#from = 0;
    this.#to = 0;
  }
}
