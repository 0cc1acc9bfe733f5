/**
 * A 64-bit little-endian page number or count as a plain number. Anything that no file can hold (2^48 and more) becomes 2^48, which every
 * range check refuses; so no arithmetic on it loses a bit.
 */
export function readPageNumber(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high >= 0x1_0000 ? 2 ** 48 : high * 2 ** 32 + view.getUint32(at, true);
}
