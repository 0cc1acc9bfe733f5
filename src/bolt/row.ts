import { corrupt } from "./corrupt.ts";
import type { Page } from "./page.ts";

const plainKeyBytes = 17;
const tombstoneKeyBytes = 18;
const underscore = 0x5f;
const letterT = 0x74;

/**
 * One row of bucket `key`, decoded in place (one object serves all rows of a scan). etcd's key is main revision, `_`, sub revision (8 bytes each,
 * big-endian), and `t` for a tombstone; the value is mvccpb.KeyValue. The revision is kept as 32-bit halves, since a bigint per row is slow.
 */
export class Row {
  mainHigh = 0;
  mainLow = 0;
  subHigh = 0;
  subLow = 0;
  tombstone = false;
  /** The user's key inside the page; 0 bytes for the row that `etcdutl snapshot restore --bump-revision` adds, whose value is empty. */
  userKeyAt = 0;
  userKeyBytes = 0;
  /** The user's value inside the page; 0 bytes where there is none. */
  valueAt = 0;
  valueBytes = 0;

  /** Fault `bolt-corrupt` for anything that etcd does not write. */
  decode(page: Page, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    const { bytes, view } = page;
    this.tombstone = keyBytes === tombstoneKeyBytes;
    if (keyBytes !== plainKeyBytes && !(this.tombstone && bytes[keyAt + plainKeyBytes] === letterT)) {
      throw corrupt(page.id, `a key of ${keyBytes} bytes in bucket "key" that is no revision`);
    }
    this.mainHigh = view.getInt32(keyAt);
    this.mainLow = view.getInt32(keyAt + 4);
    this.subHigh = view.getInt32(keyAt + 9);
    this.subLow = view.getInt32(keyAt + 13);
    if (bytes[keyAt + 8] !== underscore || this.mainHigh < 0 || this.subHigh < 0) {
      throw corrupt(page.id, `a key in bucket "key" that is no revision`);
    }
    this.#decodeValue(page, valueAt, valueAt + valueBytes);
    if (this.userKeyBytes === 0 && (valueBytes !== 0 || this.tombstone))
      throw corrupt(page.id, `${this.#name()} names no user key`);
  }

  /** Walks the protobuf fields of mvccpb.KeyValue: 1 key, 2 to 4 revisions and version, 5 value, 6 lease; others are skipped by their type. */
  #decodeValue(page: Page, from: number, end: number): void {
    const { bytes } = page;
    this.userKeyBytes = 0;
    this.valueBytes = 0;
    let at = from;
    while (at < end) {
      const tag = bytes[at++] ?? 0;
      const wire = tag & 7;
      if (tag < 8 || tag >= 0x80) throw this.#malformed(page);
      if (wire === 0) {
        const first = at;
        while (at < end && (bytes[at] ?? 0) >= 0x80) at++;
        if (at++ - first >= 10) throw this.#malformed(page);
      } else if (wire === 2) {
        let length = 0;
        let shift = 0;
        let byte = 0x80;
        while (byte >= 0x80) {
          if (at >= end || shift > 28) throw this.#malformed(page);
          byte = bytes[at++] ?? 0;
          length += (byte & 0x7f) * 2 ** shift;
          shift += 7;
        }
        if (tag === 0x0a) {
          this.userKeyAt = at;
          this.userKeyBytes = length;
        } else if (tag === 0x2a) {
          this.valueAt = at;
          this.valueBytes = length;
        }
        at += length;
      } else if (wire === 1) at += 8;
      else if (wire === 5) at += 4;
      else throw this.#malformed(page);
    }
    if (at !== end) throw this.#malformed(page);
  }

  #malformed(page: Page): Error {
    return corrupt(page.id, `${this.#name()} is no key-value record`);
  }

  #name(): string {
    const whole = (high: number, low: number): number => high * 2 ** 32 + (low >>> 0);
    return `the row of revision ${whole(this.mainHigh, this.mainLow)}_${whole(this.subHigh, this.subLow)}`;
  }
}
