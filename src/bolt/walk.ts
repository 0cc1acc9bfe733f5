import { corrupt } from "./corrupt.ts";
import {
  Page,
  checkElement,
  checkFill,
  compareKeys,
  elementBytes,
  endOfElements,
  pageHeaderBytes,
  pageKinds,
} from "./page.ts";
import type { Pager } from "./pager.ts";
import { readPageNumber } from "./words.ts";

const bucketHeaderBytes = 16;
const subBucketFlag = 1;

/** Where a bucket's rows are: in a tree of its own, or in the very page of its parent. */
export type Bucket =
  { readonly kind: "tree"; readonly root: number } | { readonly kind: "inline"; readonly page: Page };

/** Receives a bucket in key order. Offsets are into `page.bytes`, which is valid during the call only. */
export interface Visitor {
  /** Set for buckets without sub-buckets: leaves are read ahead. A sub-bucket is damage then. */
  readonly plain: boolean;
  row(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void;
  /** `level` is the one for `walkBucket` on this bucket. */
  bucket?(page: Page, keyAt: number, keyBytes: number, bucket: Bucket, level: number): void;
  /** After the last row of a page, whose memory is used again from now on. */
  leave?(): void;
}

/**
 * Walks one bucket in key order and checks all that `bbolt check` checks on the way, and what it leaves out: inline buckets and the layout inside
 * pages. Fault `bolt-corrupt` names the page. With `from`, pages that hold smaller keys only are neither read nor checked; the first page that is
 * may begin with some.
 */
export function walkBucket(pager: Pager, bucket: Bucket, level: number, visitor: Visitor, from?: Uint8Array): void {
  if (bucket.kind === "inline") {
    const { page } = bucket;
    // bbolt never inlines a bucket that holds buckets (bucket.go, inlineable).
    const inner: Visitor = { plain: true, row: (...at) => visitor.row(...at), leave: () => visitor.leave?.() };
    const end = walkLeaf(page, level, inner, undefined, undefined);
    if (end !== page.end)
      throw corrupt(page.id, `an inline bucket of ${page.end - page.start} bytes holds ${end - page.start}`);
    return;
  }
  walkPage({ pager, visitor, from, leafLevel: -1 }, bucket.root, level, true, undefined, undefined);
}

interface Walk {
  readonly pager: Pager;
  readonly visitor: Visitor;
  readonly from: Uint8Array | undefined;
  /** All leaves of a tree have one depth; known after the first descent. */
  leafLevel: number;
}

/** A key inside a held branch page. */
interface Bound {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly length: number;
}

function walkPage(
  walk: Walk,
  id: number,
  level: number,
  root: boolean,
  low: Bound | undefined,
  high: Bound | undefined,
): void {
  const { pager, visitor } = walk;
  const page = visitor.plain && level === walk.leafLevel ? pager.stream(id) : pager.hold(id, level);
  pager.reach(page);
  if (page.kind === pageKinds.leaf) {
    if (page.count === 0 && !root) throw corrupt(id, "an empty leaf below a branch");
    if (walk.leafLevel === -1) walk.leafLevel = level;
    else if (walk.leafLevel !== level) throw corrupt(id, "a leaf at another depth than the leaves before it");
    const end = walkLeaf(page, level, visitor, low, high);
    checkFill(page, end, pager.pageBytes);
    return;
  }
  if (page.kind !== pageKinds.branch) throw corrupt(id, "a freelist page where a branch or leaf is expected");
  if (level === walk.leafLevel) throw corrupt(id, "a branch at the depth of the leaves before it");
  walkBranch(walk, page, level, low, high);
}

function walkBranch(walk: Walk, page: Page, level: number, low: Bound | undefined, high: Bound | undefined): void {
  checkBranch(page, walk.pager.pageBytes, low, high);
  // The page object may serve another bucket meanwhile only on deeper levels; its fields stay.
  for (let index = 0; index < page.count; index++) {
    const above = index + 1 < page.count ? branchKey(page, index + 1) : high;
    if (walk.from !== undefined && above !== undefined && isBelow(above, walk.from)) continue;
    walkPage(walk, branchChild(page, index), level + 1, false, branchKey(page, index), above);
  }
}

/** Whether nothing that is smaller than `bound` can be `from` or greater. */
function isBelow(bound: Bound, from: Uint8Array): boolean {
  return compareKeys(bound.bytes, bound.at, bound.length, from, 0, from.length) <= 0;
}

/** Checks the element table of a branch: layout, order, and that its keys lie within those of its parent. */
export function checkBranch(page: Page, pageBytes: number, low: Bound | undefined, high: Bound | undefined): void {
  if (page.count === 0) throw corrupt(page.id, "an empty branch");
  let expectedAt = endOfElements(page);
  let before = low;
  for (let index = 0; index < page.count; index++) {
    const key = branchKey(page, index);
    expectedAt = checkElement(page, index, key.at, expectedAt, key.length, 0);
    if (before !== undefined) {
      const order = compareKeys(before.bytes, before.at, before.length, key.bytes, key.at, key.length);
      if (order > 0 || (order === 0 && index > 0))
        throw corrupt(page.id, `element ${index} does not follow the key before it`);
    }
    before = key;
  }
  checkBelow(page, before, high);
  checkFill(page, expectedAt, pageBytes);
}

export function branchKey(page: Page, index: number): Bound {
  const element = page.start + pageHeaderBytes + index * elementBytes;
  return {
    bytes: page.bytes,
    at: element + page.view.getUint32(element, true),
    length: page.view.getUint32(element + 4, true),
  };
}

export function branchChild(page: Page, index: number): number {
  return readPageNumber(page.view, page.start + pageHeaderBytes + index * elementBytes + 8);
}

/** Visits the rows of a leaf; returns where their data ends. */
function walkLeaf(
  page: Page,
  level: number,
  visitor: Visitor,
  low: Bound | undefined,
  high: Bound | undefined,
): number {
  const { bytes, view, count } = page;
  let expectedAt = endOfElements(page);
  let beforeAt = 0;
  let beforeBytes = 0;
  for (let index = 0; index < count; index++) {
    const element = page.start + pageHeaderBytes + index * elementBytes;
    const flags = view.getUint32(element, true);
    const keyAt = element + view.getUint32(element + 4, true);
    const keyBytes = view.getUint32(element + 8, true);
    const valueBytes = view.getUint32(element + 12, true);
    expectedAt = checkElement(page, index, keyAt, expectedAt, keyBytes, valueBytes);
    if (index > 0) {
      if (compareKeys(bytes, beforeAt, beforeBytes, bytes, keyAt, keyBytes) >= 0) {
        throw corrupt(page.id, `element ${index} does not follow the key before it`);
      }
    } else if (low !== undefined && compareKeys(low.bytes, low.at, low.length, bytes, keyAt, keyBytes) > 0) {
      throw corrupt(page.id, "its first key is below its key in the branch above");
    }
    beforeAt = keyAt;
    beforeBytes = keyBytes;
    if (flags === 0) visitor.row(page, keyAt, keyBytes, keyAt + keyBytes, valueBytes);
    else if (flags !== subBucketFlag) throw corrupt(page.id, `element ${index} has flags 0x${flags.toString(16)}`);
    else if (visitor.bucket === undefined)
      throw corrupt(page.id, `element ${index} is a bucket inside a bucket that holds none`);
    else visitor.bucket(page, keyAt, keyBytes, readBucket(page, index, keyAt + keyBytes, valueBytes), level + 1);
  }
  visitor.leave?.();
  if (count > 0) checkBelow(page, { bytes, at: beforeAt, length: beforeBytes }, high);
  return expectedAt;
}

function checkBelow(page: Page, last: Bound | undefined, high: Bound | undefined): void {
  if (last === undefined || high === undefined) return;
  if (compareKeys(last.bytes, last.at, last.length, high.bytes, high.at, high.length) >= 0) {
    throw corrupt(page.id, "its last key is not below the next key in the branch above");
  }
}

/** The bucket header in a leaf's value: root page and sequence; root 0 means that a small page follows at once. */
function readBucket(page: Page, index: number, valueAt: number, valueBytes: number): Bucket {
  if (valueBytes < bucketHeaderBytes) throw corrupt(page.id, `element ${index} is a bucket of ${valueBytes} bytes`);
  const root = readPageNumber(page.view, valueAt);
  if (root !== 0) {
    if (valueBytes !== bucketHeaderBytes)
      throw corrupt(page.id, `element ${index} is a bucket with a root page and ${valueBytes} bytes`);
    return { kind: "tree", root };
  }
  const start = valueAt + bucketHeaderBytes;
  if (valueBytes < bucketHeaderBytes + pageHeaderBytes)
    throw corrupt(page.id, `element ${index} is an inline bucket without a page`);
  const inline = new Page();
  inline.place(page.id, page.bytes, page.view, start, valueAt + valueBytes);
  if (
    inline.kind !== pageKinds.leaf ||
    readPageNumber(page.view, start) !== 0 ||
    page.view.getUint32(start + 12, true) !== 0
  ) {
    throw corrupt(page.id, `element ${index} is an inline bucket whose page has a wrong header`);
  }
  return { kind: "inline", page: inline };
}
