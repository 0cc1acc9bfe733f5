/**
 * CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) as S3 and etcd's WAL use it. Eight tables, eight bytes a turn
 * ("slicing by 8"): a native addon would be faster, but could not be part of a bundle of one file.
 */

/** The CRC-32C of `bytes`, unsigned; give the CRC of what came before as `seed` to go on. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  const end = bytes.length;
  const endOfEights = end - (end % 8);
  let at = 0;
  for (; at < endOfEights; at += 8) {
    // Every index is inside: `at + 7 < end`, and the tables hold 8 * 256 entries.
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      tables[0x700 | (crc & 0xff)]! ^
      tables[0x600 | ((crc >>> 8) & 0xff)]! ^
      tables[0x500 | ((crc >>> 16) & 0xff)]! ^
      tables[0x400 | (crc >>> 24)]! ^
      tables[0x300 | bytes[at + 4]!]! ^
      tables[0x200 | bytes[at + 5]!]! ^
      tables[0x100 | bytes[at + 6]!]! ^
      tables[bytes[at + 7]!]!;
  }
  for (; at < end; at += 1) crc = (crc >>> 8) ^ tables[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

/** The CRC-32C of two runs of bytes put together, from the CRC of each and the length of the second. */
export function combineCrc32c(first: number, second: number, secondBytes: number): number {
  // Appending a zero byte is a linear map of the CRC's 32 bits; it is raised to the length's power by squaring.
  let shifted = first >>> 0;
  let power = oneZeroByte;
  for (let left = secondBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = apply(power, shifted);
    power = power.map((row) => apply(power, row));
  }
  return (shifted ^ second) >>> 0;
}

/** As S3 writes it in headers: four bytes, big-endian, base64. */
export function crc32cToBase64(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString("base64");
}

/** The opposite of `crc32cToBase64`; undefined for anything that is not exactly four bytes. */
export function crc32cFromBase64(text: string): number | undefined {
  const bytes = Buffer.from(text, "base64");
  return bytes.length === 4 && bytes.toString("base64") === text ? bytes.readUInt32BE() : undefined;
}

function makeTables(): Int32Array {
  const made = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    made[byte] = crc;
  }
  for (let at = 256; at < made.length; at += 1) made[at] = (made[at - 256]! >>> 8) ^ made[made[at - 256]! & 0xff]!;
  return made;
}

const tables = makeTables();

/** Row i is what one zero byte makes of bit i. */
const oneZeroByte: readonly number[] = Array.from({ length: 32 }, (_, bit) => {
  const crc = (2 ** bit) | 0;
  return (crc >>> 8) ^ tables[crc & 0xff]!;
});

function apply(matrix: readonly number[], bits: number): number {
  let result = 0;
  for (let bit = 0; bit < 32; bit += 1) if ((bits >>> bit) & 1) result ^= matrix[bit]!;
  return result >>> 0;
}
