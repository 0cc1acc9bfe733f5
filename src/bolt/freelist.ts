import { corrupt } from "./corrupt.ts";
import { pageHeaderBytes, pageKinds } from "./page.ts";
import type { Pager } from "./pager.ts";
import { readPageNumber } from "./words.ts";

/** A count of 65535 means: the true count is the first entry. */
const countInFirstEntry = 0xffff;

/**
 * Checks a freelist that was written to the file: ids ascending, in range, not reachable; and every page must be either reachable or free, else
 * something was lost. To be called after all buckets were walked.
 */
export function checkFreelist(pager: Pager, freelistPage: number): void {
  const page = pager.hold(freelistPage, 0);
  if (page.kind !== pageKinds.freelist) throw corrupt(freelistPage, "no freelist page where the meta page says");
  pager.reach(page);
  let at = page.start + pageHeaderBytes;
  let count = page.count;
  if (count === countInFirstEntry) {
    count = readPageNumber(page.view, at);
    at += 8;
  }
  if (at + count * 8 > page.end) throw corrupt(freelistPage, `claims ${count} free pages, which do not fit into it`);
  let next = 2;
  for (const last = at + count * 8; at < last; at += 8) {
    const id = readPageNumber(page.view, at);
    if (id < 2 || id >= pager.pages)
      throw corrupt(freelistPage, `lists page ${id} as free, which is not among the ${pager.pages} pages`);
    if (id < next) throw corrupt(freelistPage, `lists page ${id} out of order or twice`);
    checkNoneLost(pager, next, id);
    if (pager.isReached(id)) throw corrupt(id, "is in use, but the freelist says it is free");
    next = id + 1;
  }
  checkNoneLost(pager, next, pager.pages);
}

function checkNoneLost(pager: Pager, from: number, to: number): void {
  for (let id = from; id < to; id++) {
    if (!pager.isReached(id)) throw corrupt(id, "is neither in use nor in the freelist");
  }
}
