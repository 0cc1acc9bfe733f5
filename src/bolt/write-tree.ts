import type { BoltRow } from "./inspect.ts";
import { elementBytes, pageHeaderBytes, pageKinds } from "./page.ts";

/** Of a leaf that holds buckets. */
export const bucketFlag = 1;

/** A row of a leaf; `flags` is `bucketFlag` for a bucket. */
export interface LeafElement extends BoltRow {
  readonly flags?: number;
}

/** A page below a branch, by the first key that it may hold. */
export interface Child {
  readonly key: Uint8Array;
  readonly page: number;
}

/**
 * Writes new pages for the end of a file, in memory: few and small ones. Pages are filled in order up to the page size; what does not fit alone has overflow pages, as bbolt
 * does.
 */
export class TreeWriter {
  readonly #pageBytes: number;
  readonly #written: Buffer[] = [];
  #next: number;

  constructor(pageBytes: number, firstPage: number) {
    this.#pageBytes = pageBytes;
    this.#next = firstPage;
  }

  /** Where the file ends now. */
  get pages(): number {
    return this.#next;
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#written);
  }

  /** A whole tree of these rows, which are in key order; gives its root page. */
  tree(rows: readonly LeafElement[]): number {
    return this.root(this.leaves(rows));
  }

  /** Branches over these pages, until there is one. */
  root(children: readonly Child[]): number {
    let level = children;
    // Ends: a branch has two children at least.
    while (level.length > 1) level = this.branches(level);
    return level[0]?.page ?? 0;
  }

  /** At least one leaf: a bucket without rows has an empty one. */
  leaves(rows: readonly LeafElement[]): readonly Child[] {
    const groups = grouped(rows, 1, this.#pageBytes, ({ key, value }) => key.length + value.length);
    return (groups.length === 0 ? [[]] : groups).map((group) => ({
      key: group[0]?.key ?? new Uint8Array(0),
      page: this.#leaf(group),
    }));
  }

  branches(children: readonly Child[]): readonly Child[] {
    const groups = grouped(children, 2, this.#pageBytes, ({ key }) => key.length);
    return groups.map((group) => ({ key: group[0]?.key ?? new Uint8Array(0), page: this.#branch(group) }));
  }

  #leaf(rows: readonly LeafElement[]): number {
    const { id, page, view } = this.#page(
      pageKinds.leaf,
      rows,
      rows.map(({ key, value }) => [key, value]),
    );
    let dataAt = pageHeaderBytes + rows.length * elementBytes;
    for (const [index, { flags = 0, key, value }] of rows.entries()) {
      const at = pageHeaderBytes + index * elementBytes;
      view.setUint32(at, flags, true);
      view.setUint32(at + 4, dataAt - at, true);
      view.setUint32(at + 8, key.length, true);
      view.setUint32(at + 12, value.length, true);
      page.set(key, dataAt);
      page.set(value, dataAt + key.length);
      dataAt += key.length + value.length;
    }
    return id;
  }

  #branch(children: readonly Child[]): number {
    const { id, page, view } = this.#page(
      pageKinds.branch,
      children,
      children.map(({ key }) => [key]),
    );
    let dataAt = pageHeaderBytes + children.length * elementBytes;
    for (const [index, child] of children.entries()) {
      const at = pageHeaderBytes + index * elementBytes;
      view.setUint32(at, dataAt - at, true);
      view.setUint32(at + 4, child.key.length, true);
      view.setBigUint64(at + 8, BigInt(child.page), true);
      page.set(child.key, dataAt);
      dataAt += child.key.length;
    }
    return id;
  }

  /** A page with its header, as large as its elements need. */
  #page(
    kind: number,
    elements: readonly unknown[],
    data: readonly (readonly Uint8Array[])[],
  ): { readonly id: number; readonly page: Buffer; readonly view: DataView } {
    const dataBytes = data.flat().reduce((sum, { length }) => sum + length, 0);
    const needed = pageHeaderBytes + elements.length * elementBytes + dataBytes;
    const pages = Math.max(1, Math.ceil(needed / this.#pageBytes));
    const page = Buffer.alloc(pages * this.#pageBytes);
    const view = new DataView(page.buffer, page.byteOffset, page.length);
    const id = this.#next;
    view.setBigUint64(0, BigInt(id), true);
    view.setUint16(8, kind, true);
    view.setUint16(10, elements.length, true);
    view.setUint32(12, pages - 1, true);
    this.#written.push(page);
    this.#next += pages;
    return { id, page, view };
  }
}

/** Cuts elements into groups that fit into a page each; none has fewer than `fewest` (1 or 2), even if it needs overflow pages then. */
function grouped<T>(
  elements: readonly T[],
  fewest: number,
  pageBytes: number,
  dataBytes: (element: T) => number,
): readonly (readonly T[])[] {
  const groups: T[][] = [];
  let bytes = 0;
  for (const element of elements) {
    const group = groups.at(-1);
    const more = elementBytes + dataBytes(element);
    if (group === undefined || (group.length >= fewest && bytes + more > pageBytes)) {
      groups.push([element]);
      bytes = pageHeaderBytes + more;
    } else {
      group.push(element);
      bytes += more;
    }
  }
  const last = groups.at(-1);
  const before = groups.at(-2);
  if (last !== undefined && before !== undefined && last.length < fewest) {
    // One is missing at most: it comes from the neighbour, or the neighbour takes them all.
    if (before.length > fewest) last.unshift(...before.splice(-1));
    else before.push(...(groups.pop() ?? []));
  }
  return groups;
}
