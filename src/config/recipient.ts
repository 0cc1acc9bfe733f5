const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/**
 * True for an age recipient of the X25519 kind, as age-keygen prints it: `age1` and 58 characters whose last six are a
 * checksum (Bech32, BIP 173), so that a mistyped key is found before a backup is encrypted to nobody.
 */
export function isAgeRecipient(text: string): boolean {
  if (!/^age1[02-9ac-hj-np-z]{58}$/.test(text)) return false;
  const prefix = [97, 103, 101]; // "age"
  const data = Array.from(text.slice(4), (character) => alphabet.indexOf(character));
  return polymod([...prefix.map((code) => code >> 5), 0, ...prefix.map((code) => code & 31), ...data]) === 1;
}

function polymod(values: readonly number[]): number {
  const generators = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  let checksum = 1;
  for (const value of values) {
    const top = checksum >>> 25;
    checksum = ((checksum & 0x1ffffff) << 5) ^ value;
    for (const [bit, generator] of generators.entries()) {
      if (((top >>> bit) & 1) === 1) checksum ^= generator;
    }
  }
  return checksum >>> 0;
}
