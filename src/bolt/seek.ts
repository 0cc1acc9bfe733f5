import {
  checkElement,
  compareKeys,
  elementBytes,
  endOfElements,
  pageHeaderBytes,
  pageKinds,
  type Page,
} from "./page.ts";
import { corrupt } from "./corrupt.ts";
import type { Pager } from "./pager.ts";
import { branchChild, branchKey, checkBranch, type Bucket } from "./walk.ts";

/** Where a row lies; offsets are into `page.bytes`, which is valid until the pager holds another page. */
export interface Found {
  readonly page: Page;
  readonly keyAt: number;
  readonly keyBytes: number;
  readonly valueAt: number;
  readonly valueBytes: number;
}

/** The row with the greatest key not above `target`, in the leaf where `target` belongs; undefined when that leaf has none. */
export function seekLast(pager: Pager, bucket: Bucket, target: Uint8Array): Found | undefined {
  if (bucket.kind === "inline") return lastInLeaf(bucket.page, target);
  let id = bucket.root;
  // Ends: hold() bounds the level.
  for (let level = 0; ; level++) {
    const page = pager.hold(id, level);
    if (page.kind === pageKinds.leaf) return lastInLeaf(page, target);
    if (page.kind !== pageKinds.branch) throw corrupt(id, "a freelist page where a branch or leaf is expected");
    checkBranch(page, pager.pageBytes, undefined, undefined);
    id = branchChild(page, lastNotAbove(page, target));
  }
}

function lastNotAbove(page: Page, target: Uint8Array): number {
  let low = 0;
  let high = page.count;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    const key = branchKey(page, middle);
    if (compareKeys(key.bytes, key.at, key.length, target, 0, target.length) <= 0) low = middle;
    else high = middle;
  }
  return low;
}

function lastInLeaf(page: Page, target: Uint8Array): Found | undefined {
  let found: Found | undefined;
  let expectedAt = endOfElements(page);
  for (let index = 0; index < page.count; index++) {
    const element = page.start + pageHeaderBytes + index * elementBytes;
    const keyAt = element + page.view.getUint32(element + 4, true);
    const keyBytes = page.view.getUint32(element + 8, true);
    const valueBytes = page.view.getUint32(element + 12, true);
    expectedAt = checkElement(page, index, keyAt, expectedAt, keyBytes, valueBytes);
    if (compareKeys(page.bytes, keyAt, keyBytes, target, 0, target.length) > 0) break;
    found = { page, keyAt, keyBytes, valueAt: keyAt + keyBytes, valueBytes };
  }
  return found;
}
