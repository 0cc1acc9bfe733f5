import { corrupt } from "./corrupt.ts";
import type { DatabaseFile } from "./file.ts";
import type { Meta } from "./meta.ts";
import { Page, checkHeader, pageKinds } from "./page.ts";

/** Deeper than any tree of etcd's, whose branches have a hundred children; bounds recursion on hostile files. */
const deepestLevel = 32;
/** bbolt splits a branch at the page size, but leaves it a few keys of at most 32 KiB. */
const largestBranchBytes = 1024 * 1024;
/** A leaf holds little more than a few rows, and etcd's rows are bounded by --max-request-bytes (1.5 MiB unless configured). */
const largestHeldBytes = 512 * 1024 * 1024;
const smallestAheadBytes = 16 * 1024;
const largestAheadBytes = 1024 * 1024;

/**
 * Pages of one file, read with synchronous preads into memory that is used again. A page is held per level of descent, since a branch must stay
 * while its children are walked; leaves of large buckets go through one window that reads ahead. Remembers which pages were reached: a page that
 * is reached twice is damage, and no walk can be longer than the file.
 */
export class Pager {
  readonly pageBytes: number;
  readonly pages: number;
  readonly #file: DatabaseFile;
  readonly #reached: Uint8Array;
  readonly #levels: Page[] = [];
  readonly #window = new Page();
  #heldBytes = 0;
  #windowBytes = new Uint8Array(0);
  #windowView = new DataView(this.#windowBytes.buffer);
  /** The file range in the window. */
  #from = 0;
  #to = 0;
  #usedBytes = 0;
  #aheadBytes = smallestAheadBytes;
  reachedPages = 2;

  constructor(file: DatabaseFile, meta: Pick<Meta, "pageBytes" | "pages">) {
    this.#file = file;
    this.pageBytes = meta.pageBytes;
    this.pages = meta.pages;
    this.#reached = new Uint8Array(Math.ceil(meta.pages / 8));
    this.#reached[0] = 0b11;
  }

  /** The page as the one of its level; it stays until the next page of that level is asked for. */
  hold(id: number, level: number): Page {
    this.#checkRange(id);
    const page = this.#level(id, level);
    this.#reserve(page, id, this.pageBytes);
    const offset = id * this.pageBytes;
    this.#file.read(page.bytes, 0, this.pageBytes, offset);
    const bytes = (checkHeader(page.view, 0, id, this.pages) + 1) * this.pageBytes;
    checkBranchSize(page.view, id, bytes);
    if (bytes > this.pageBytes) {
      this.#reserve(page, id, bytes);
      this.#file.read(page.bytes, this.pageBytes, bytes - this.pageBytes, offset + this.pageBytes);
    }
    page.place(id, page.bytes, page.view, 0, bytes);
    return page;
  }

  /** The page through the window; it stays until the next call. */
  stream(id: number): Page {
    this.#checkRange(id);
    const offset = id * this.pageBytes;
    this.#want(offset, this.pageBytes, id);
    const bytes = (checkHeader(this.#windowView, offset - this.#from, id, this.pages) + 1) * this.pageBytes;
    this.#want(offset, bytes, id);
    const start = offset - this.#from;
    this.#window.place(id, this.#windowBytes, this.#windowView, start, start + bytes);
    this.#usedBytes += bytes;
    return this.#window;
  }

  /** Marks a page and its overflow as reached; fails when one of them was reached before. */
  reach(page: Page): void {
    const last = page.id + (page.end - page.start) / this.pageBytes - 1;
    for (let id = page.id; id <= last; id++) {
      if (this.isReached(id))
        throw corrupt(
          id,
          id === page.id ? "is referred to twice" : `is overflow of page ${page.id} and something else`,
        );
      this.#reached[id >>> 3] = (this.#reached[id >>> 3] ?? 0) | (1 << (id & 7));
      this.reachedPages++;
    }
  }

  isReached(id: number): boolean {
    return ((this.#reached[id >>> 3] ?? 0) & (1 << (id & 7))) !== 0;
  }

  #checkRange(id: number): void {
    if (id < 2 || id >= this.pages) throw corrupt(id, `is referred to, but is not among the ${this.pages} pages`);
  }

  #level(id: number, level: number): Page {
    if (level >= deepestLevel) throw corrupt(id, `lies more than ${deepestLevel} levels deep`);
    return (this.#levels[level] ??= new Page());
  }

  #reserve(page: Page, id: number, bytes: number): void {
    if (page.bytes.length >= bytes) return;
    this.#heldBytes += bytes - page.bytes.length;
    if (this.#heldBytes > largestHeldBytes) throw corrupt(id, `spans ${bytes} bytes, more than etcd writes`);
    const before = page.bytes;
    const grown = new Uint8Array(bytes);
    grown.set(before, 0);
    page.bytes = grown;
    page.view = new DataView(grown.buffer);
  }

  /** Sees to it that the window holds the range. It reads further ahead as long as most of what it read was used. */
  #want(offset: number, bytes: number, id: number): void {
    if (offset >= this.#from && offset + bytes <= this.#to) return;
    if (bytes > largestHeldBytes) throw corrupt(id, `spans ${bytes} bytes, more than etcd writes`);
    const useful = offset >= this.#from && this.#usedBytes * 2 >= this.#to - this.#from;
    this.#aheadBytes = useful
      ? Math.min(this.#aheadBytes * 2, largestAheadBytes)
      : Math.max(smallestAheadBytes, this.pageBytes);
    const length = Math.min(Math.max(bytes, this.#aheadBytes), this.pages * this.pageBytes - offset);
    if (length > this.#windowBytes.length) {
      this.#windowBytes = new Uint8Array(length);
      this.#windowView = new DataView(this.#windowBytes.buffer);
    }
    this.#from = offset;
    this.#to = offset;
    this.#usedBytes = 0;
    this.#file.read(this.#windowBytes, 0, length, offset);
    this.#to = offset + length;
  }
}

function checkBranchSize(view: DataView, id: number, bytes: number): void {
  if (view.getUint16(8, true) === pageKinds.branch && bytes > largestBranchBytes) {
    throw corrupt(id, `is a branch of ${bytes} bytes, more than bbolt writes`);
  }
}
