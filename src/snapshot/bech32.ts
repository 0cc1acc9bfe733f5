const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/**
 * Decodes BIP 173 bech32 as age uses it (no limit of 90 characters): one case only, a valid checksum, no stray padding bits.
 * The prefix comes back in the case of the text. Undefined when the text is anything else.
 */
export function decodeBech32(text: string): { readonly prefix: string; readonly bytes: Uint8Array } | undefined {
  const lower = text.toLowerCase();
  if (text !== lower && text !== text.toUpperCase()) return undefined;
  const separator = lower.lastIndexOf("1");
  if (separator < 1 || lower.length - separator - 1 < checksumLength) return undefined;
  const prefix = lower.slice(0, separator);
  if (!/^[\x21-\x7e]+$/.test(prefix)) return undefined;
  const values = Array.from(lower.slice(separator + 1), (character) => alphabet.indexOf(character));
  if (values.includes(-1) || checksumOf([...prefixValues(prefix), ...values]) !== 1) return undefined;
  const bytes = fiveToEight(values.slice(0, -checksumLength));
  return bytes === undefined ? undefined : { prefix: text.slice(0, separator), bytes };
}

/** Encodes bytes under a lower-case prefix, in lower case. */
export function encodeBech32(prefix: string, bytes: Uint8Array): string {
  const values = eightToFive(bytes);
  const checksum = checksumOf([...prefixValues(prefix), ...values, 0, 0, 0, 0, 0, 0]) ^ 1;
  for (let shift = 25; shift >= 0; shift -= 5) values.push((checksum >>> shift) & 31);
  return `${prefix}1${values.map((value) => alphabet.charAt(value)).join("")}`;
}

const checksumLength = 6;

function prefixValues(prefix: string): number[] {
  const codes = Array.from(prefix, (character) => character.charCodeAt(0));
  return [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31)];
}

const generator = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as const;

function checksumOf(values: readonly number[]): number {
  let checksum = 1;
  for (const value of values) {
    const top = checksum >>> 25;
    checksum = ((checksum & 0x1ffffff) << 5) ^ value;
    for (const [bit, term] of generator.entries()) if (((top >>> bit) & 1) === 1) checksum ^= term;
  }
  return checksum;
}

function eightToFive(bytes: Uint8Array): number[] {
  const values: number[] = [];
  let held = 0;
  let heldBits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    for (heldBits += 8; heldBits >= 5;) values.push((held >> (heldBits -= 5)) & 31);
  }
  if (heldBits > 0) values.push((held << (5 - heldBits)) & 31);
  return values;
}

function fiveToEight(values: readonly number[]): Uint8Array | undefined {
  const bytes: number[] = [];
  let held = 0;
  let heldBits = 0;
  for (const value of values) {
    held = ((held << 5) | value) & 0xfff;
    heldBits += 5;
    if (heldBits >= 8) bytes.push((held >> (heldBits -= 8)) & 255);
  }
  const padding = held & ((1 << heldBits) - 1);
  return heldBits >= 5 || padding !== 0 ? undefined : Uint8Array.from(bytes);
}
