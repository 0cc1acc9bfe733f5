import { sealMeta, type ModelRow } from "./model.ts";

const headerBytes = 16;
const elementBytes = 16;

/** Writes a bbolt database of these buckets, rows in key order: pages filled one after another, without a freelist and without a seal. */
export function writeDatabase(buckets: Readonly<Record<string, readonly ModelRow[]>>, pageBytes = 4096): Buffer {
  const pages: Buffer[] = [Buffer.alloc(pageBytes), Buffer.alloc(pageBytes)];
  let used = 2;
  const add = (kind: number, elements: readonly Element[]): number => {
    const data = elements.reduce((sum, { key, value }) => sum + elementBytes + key.length + value.length, headerBytes);
    const page = Buffer.alloc(Math.max(1, Math.ceil(data / pageBytes)) * pageBytes);
    const id = used;
    used += page.length / pageBytes;
    page.writeBigUInt64LE(BigInt(id), 0);
    page.writeUInt16LE(kind, 8);
    page.writeUInt16LE(elements.length, 10);
    page.writeUInt32LE(page.length / pageBytes - 1, 12);
    let dataAt = headerBytes + elements.length * elementBytes;
    for (const [index, { flags, child, key, value }] of elements.entries()) {
      const at = headerBytes + index * elementBytes;
      if (kind === 1) {
        page.writeUInt32LE(dataAt - at, at);
        page.writeUInt32LE(key.length, at + 4);
        page.writeBigUInt64LE(BigInt(child ?? 0), at + 8);
      } else {
        page.writeUInt32LE(flags ?? 0, at);
        page.writeUInt32LE(dataAt - at, at + 4);
        page.writeUInt32LE(key.length, at + 8);
        page.writeUInt32LE(value.length, at + 12);
      }
      dataAt += key.copy(page, dataAt);
      dataAt += value.copy(page, dataAt);
    }
    pages.push(page);
    return id;
  };
  const tree = (rows: readonly Element[]): number => {
    let level: Element[] = [];
    for (let kind = 2, from: readonly Element[] = rows; ; kind = 1, from = level, level = []) {
      for (const group of grouped(from, pageBytes)) {
        level.push({ child: add(kind, group), key: group[0]?.key ?? Buffer.alloc(0), value: Buffer.alloc(0) });
      }
      if (level.length === 1) return level[0]?.child ?? 0;
    }
  };
  const names = Object.keys(buckets).toSorted();
  const root = tree(
    names.map((name) => {
      const value = Buffer.alloc(16);
      value.writeBigUInt64LE(BigInt(tree(buckets[name] ?? [])), 0);
      return { flags: 1, key: Buffer.from(name), value };
    }),
  );
  const db = Buffer.concat(pages);
  for (const id of [0, 1] as const) {
    const at = id * pageBytes;
    db.writeBigUInt64LE(BigInt(id), at);
    db.writeUInt16LE(4, at + 8);
    db.writeUInt32LE(0xed0cdaed, at + 16);
    db.writeUInt32LE(2, at + 20);
    db.writeUInt32LE(pageBytes, at + 24);
    db.writeBigUInt64LE(BigInt(root), at + 32);
    db.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, at + 48);
    db.writeBigUInt64LE(BigInt(used), at + 56);
    db.writeBigUInt64LE(BigInt(id), at + 64);
    sealMeta(db, id, pageBytes);
  }
  return db;
}

interface Element extends ModelRow {
  readonly flags?: number;
  readonly child?: number;
}

/** At least one group (an empty leaf is a bucket without rows), each of a page if it has more than two rows. */
function grouped(elements: readonly Element[], pageBytes: number): Element[][] {
  const groups: Element[][] = [[]];
  let bytes = headerBytes;
  for (const element of elements) {
    const more = elementBytes + element.key.length + element.value.length;
    const group = groups.at(-1) ?? [];
    if (group.length >= 2 && bytes + more > pageBytes) {
      groups.push([element]);
      bytes = headerBytes + more;
    } else {
      group.push(element);
      bytes += more;
    }
  }
  return groups;
}
