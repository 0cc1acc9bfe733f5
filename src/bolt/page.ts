import { corrupt } from "./corrupt.ts";
import { readPageNumber } from "./words.ts";

export const pageHeaderBytes = 16;
/** A leaf element is flags, pos, ksize, vsize; a branch element pos, ksize, pgid. */
export const elementBytes = 16;
/** bbolt's MaxKeySize. */
const longestKeyBytes = 32768;

export const pageKinds = { branch: 0x01, leaf: 0x02, meta: 0x04, freelist: 0x10 } as const;

/**
 * A page in memory, its overflow pages included: `bytes[start .. end]`, header first. One object serves many pages in turn (a scan must not
 * allocate per page), so it is valid only until its owner loads the next one.
 */
export class Page {
  id = 0;
  bytes = new Uint8Array(0);
  view = new DataView(this.bytes.buffer);
  start = 0;
  end = 0;
  kind = 0;
  count = 0;

  /** Takes over memory without copying. */
  place(id: number, bytes: Uint8Array<ArrayBuffer>, view: DataView<ArrayBuffer>, start: number, end: number): void {
    this.id = id;
    this.bytes = bytes;
    this.view = view;
    this.start = start;
    this.end = end;
    this.kind = view.getUint16(start + 8, true);
    this.count = view.getUint16(start + 10, true);
  }

  /** The same page in memory of its own, to outlive the next load. */
  copy(): Page {
    const bytes = this.bytes.slice(this.start, this.end);
    const page = new Page();
    page.place(this.id, bytes, new DataView(bytes.buffer), 0, bytes.length);
    return page;
  }
}

/** How many pages follow this one as its overflow; fails when the header is not that of page `id` or reaches past the last page. */
export function checkHeader(view: DataView, start: number, id: number, pages: number): number {
  if (readPageNumber(view, start) !== id) throw corrupt(id, `its header says page ${view.getBigUint64(start, true)}`);
  const kind = view.getUint16(start + 8, true);
  if (kind !== pageKinds.branch && kind !== pageKinds.leaf && kind !== pageKinds.freelist) {
    throw corrupt(id, `kind 0x${kind.toString(16)} where a branch, leaf or freelist page is expected`);
  }
  const overflow = view.getUint32(start + 12, true);
  if (id + overflow >= pages) throw corrupt(id, `claims ${overflow} overflow pages, but the file has ${pages} pages`);
  return overflow;
}

/** The first byte behind the element table; fails when the table does not fit into the page. */
export function endOfElements(page: Page): number {
  const end = page.start + pageHeaderBytes + page.count * elementBytes;
  if (end > page.end)
    throw corrupt(page.id, `claims ${page.count} elements, which do not fit into ${page.end - page.start} bytes`);
  return end;
}

/**
 * bbolt writes the data of elements without holes, in their order, behind the table; so each must start where the one before it ended. This also
 * keeps a hostile page from showing the same bytes as many rows. Returns where the data of element `index` ends.
 */
export function checkElement(
  page: Page,
  index: number,
  dataAt: number,
  expectedAt: number,
  keyBytes: number,
  valueBytes: number,
): number {
  if (dataAt !== expectedAt) {
    throw corrupt(
      page.id,
      `element ${index} has its data at ${dataAt - page.start}, not at ${expectedAt - page.start} where the previous one ends`,
    );
  }
  if (keyBytes === 0) throw corrupt(page.id, `element ${index} has an empty key`);
  if (keyBytes > longestKeyBytes) throw corrupt(page.id, `element ${index} claims a key of ${keyBytes} bytes`);
  const end = dataAt + keyBytes + valueBytes;
  if (end > page.end) {
    throw corrupt(
      page.id,
      `element ${index} claims ${keyBytes} + ${valueBytes} bytes, which reach past the end of the page`,
    );
  }
  return end;
}

/** bbolt never allocates more pages than a node needs (old releases one more when it fits exactly). */
export function checkFill(page: Page, dataEnd: number, pageBytes: number): void {
  const have = (page.end - page.start) / pageBytes;
  const most = Math.floor((dataEnd - page.start) / pageBytes) + 1;
  if (have > most) throw corrupt(page.id, `spans ${have} pages, but holds ${dataEnd - page.start} bytes`);
}

/** Order of two keys, as bytes. */
export function compareKeys(
  a: Uint8Array,
  aAt: number,
  aBytes: number,
  b: Uint8Array,
  bAt: number,
  bBytes: number,
): number {
  const common = aBytes < bBytes ? aBytes : bBytes;
  for (let i = 0; i < common; i++) {
    const difference = (a[aAt + i] ?? 0) - (b[bAt + i] ?? 0);
    if (difference !== 0) return difference;
  }
  return aBytes - bBytes;
}
