/** A second, naive reader of bbolt files for tests: whole file in memory, no checks, written from the format's description and not from ours. */

export interface ModelRow {
  readonly key: Buffer;
  readonly value: Buffer;
}

export interface ModelPage {
  readonly id: number;
  readonly kind: "branch" | "leaf";
  /** Top-level bucket that the page belongs to; "" for the root bucket. */
  readonly bucket: string;
  readonly count: number;
  readonly overflow: number;
}

export interface Model {
  readonly pageBytes: number;
  readonly pages: readonly ModelPage[];
  readonly rows: ReadonlyMap<string, readonly ModelRow[]>;
}

/** Reads a database without its seal, from the meta page of the later transaction. */
export function readModel(db: Buffer): Model {
  const pageBytes = db.readUInt32LE(24);
  const pages: ModelPage[] = [];
  const rows = new Map<string, ModelRow[]>();
  const elements = (page: Buffer): { flags: number; key: Buffer; value: Buffer }[] =>
    Array.from({ length: page.readUInt16LE(10) }, (_, index) => {
      const at = 16 + index * 16;
      const keyAt = at + page.readUInt32LE(at + 4);
      const valueAt = keyAt + page.readUInt32LE(at + 8);
      return {
        flags: page.readUInt32LE(at),
        key: page.subarray(keyAt, valueAt),
        value: page.subarray(valueAt, valueAt + page.readUInt32LE(at + 12)),
      };
    });
  const leaf = (page: Buffer, bucket: string): void => {
    for (const { flags, key, value } of elements(page)) {
      if (flags === 0) rows.get(bucket)?.push({ key, value });
      else if (bucket === "") {
        const name = key.toString();
        rows.set(name, []);
        const root = Number(value.readBigUInt64LE(0));
        if (root === 0) leaf(value.subarray(16), name);
        else tree(root, name);
      }
    }
  };
  const tree = (id: number, bucket: string): void => {
    const at = id * pageBytes;
    const overflow = db.readUInt32LE(at + 12);
    const page = db.subarray(at, at + (1 + overflow) * pageBytes);
    const kind = page.readUInt16LE(8) === 1 ? "branch" : "leaf";
    const count = page.readUInt16LE(10);
    pages.push({ id, kind, bucket, count, overflow });
    if (kind === "leaf") leaf(page, bucket);
    else for (let index = 0; index < count; index++) tree(Number(page.readBigUInt64LE(16 + index * 16 + 8)), bucket);
  };
  const later = db.readBigUInt64LE(pageBytes + 64) > db.readBigUInt64LE(64) ? pageBytes : 0;
  tree(Number(db.readBigUInt64LE(later + 32)), "");
  return { pageBytes, pages, rows };
}

/** The user's key in a row of bucket `key`: field 1 comes first, as etcd writes it. Empty for an empty value. */
export function userKey(value: Buffer): string {
  if (value.length === 0) return "";
  const long = (value[1] ?? 0) >= 0x80;
  const length = long ? ((value[1] ?? 0) & 0x7f) | ((value[2] ?? 0) << 7) : (value[1] ?? 0);
  return value.subarray(long ? 3 : 2, (long ? 3 : 2) + length).toString("latin1");
}

/** Recomputes a meta page's checksum after a test changed it. */
export function sealMeta(db: Buffer, id: 0 | 1, pageBytes: number): void {
  const start = id * pageBytes + 16;
  let hash = 0xcbf29ce484222325n;
  for (const byte of db.subarray(start, start + 56)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  db.writeBigUInt64LE(hash, start + 56);
}
