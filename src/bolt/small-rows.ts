import { malformed, type SmallRow } from "./buckets.ts";
import { corrupt } from "./corrupt.ts";
import type { Visitor } from "./walk.ts";

/** Bounds on what is kept in memory of buckets that are small in every real cluster. */
export const mostRows = 100_000;
const longestValueBytes = 1024 * 1024;

/** Hands out the rows of a small bucket, within bounds. */
export function smallRows(take: (row: SmallRow) => unknown): Visitor {
  let count = 0;
  return {
    plain: true,
    row(page, keyAt, keyBytes, valueAt, valueBytes) {
      const row = {
        page: page.id,
        key: Buffer.from(page.bytes.subarray(keyAt, keyAt + keyBytes)),
        value: Buffer.from(page.bytes.subarray(valueAt, valueAt + Math.min(valueBytes, longestValueBytes))),
      };
      if (valueBytes > longestValueBytes) throw malformed(row, `has ${valueBytes} bytes`);
      if (++count > mostRows) throw corrupt(page.id, `more than ${mostRows} rows in a bucket that etcd keeps small`);
      take(row);
    },
  };
}
