import { createCipheriv, createDecipheriv, createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { Fault } from "../faults.ts";
import { agree, ephemeralKey } from "./age-keys.ts";
import type { AgeIdentity, AgeRecipient } from "./age-keys.ts";

/** A header that is larger, or has more stanzas, is refused unread. */
export const maximumHeaderBytes = 64 * 1024;
const maximumStanzas = 100;

/** age's file key and what is derived from it have these sizes (age-encryption.org/v1). */
export const fileKeyBytes = 16;
const derivedKeyBytes = 32;
const macBytes = 32;
const shareBytes = 32;
const tagBytes = 16;

const versionLine = "age-encryption.org/v1";

/** The header of a file for these recipients, authenticated with its file key. */
export function writeHeader(fileKey: KeyObject, recipients: readonly AgeRecipient[]): Uint8Array {
  if (recipients.length === 0 || recipients.length > maximumStanzas) {
    throw new Fault(
      "config-invalid",
      `${recipients.length} age recipients: between 1 and ${maximumStanzas} are needed`,
    );
  }
  const stanzas = recipients.map((recipient) => wrapFileKey(fileKey, recipient));
  const macInput = Buffer.from(`${versionLine}\n${stanzas.join("")}---`);
  return Buffer.concat([macInput, Buffer.from(` ${toBase64(headerMac(fileKey, macInput))}\n`)]);
}

/** Bytes that `writeHeader` makes for so many recipients. */
export function headerBytes(recipients: number): number {
  return 22 + recipients * 98 + 48;
}

function wrapFileKey(fileKey: KeyObject, recipient: AgeRecipient): string {
  const ephemeral = ephemeralKey();
  const secret = agree(ephemeral.privateKey, recipient.share);
  if (secret === undefined)
    throw new Fault("config-invalid", `age recipient ${recipient.text} is a point of low order`);
  const cipher = createCipheriv("chacha20-poly1305", wrapKey(secret, ephemeral.share, recipient.share), zeroNonce, {
    authTagLength: tagBytes,
  });
  const body = Buffer.concat([cipher.update(fileKey.export()), cipher.final(), cipher.getAuthTag()]);
  return `-> X25519 ${toBase64(ephemeral.share)}\n${toBase64(body)}\n`;
}

/** What a header says, strictly parsed; nothing in it is authenticated before `checkHeaderMac`. */
export interface AgeHeader {
  readonly stanzas: readonly Stanza[];
  readonly macInput: Uint8Array;
  readonly mac: Uint8Array;
}

interface Stanza {
  readonly args: readonly string[];
  readonly body: Uint8Array;
}

/** Parses exactly one header, from its version line to the newline after its MAC; every deviation is `object-damaged`. */
export function parseHeader(bytes: Uint8Array): AgeHeader {
  const lines = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1").split("\n");
  if (lines.pop() !== "" || lines[0] !== versionLine) throw headerFault("it does not begin like an age v1 file");
  const stanzas: Stanza[] = [];
  let at = 1;
  while (lines[at]?.startsWith("-> ") === true) {
    const args = (lines[at++] ?? "").slice(3).split(" ");
    if (!args.every((arg) => /^[\x21-\x7e]+$/.test(arg))) throw headerFault("a stanza has a malformed argument");
    const body: Uint8Array[] = [];
    for (let full = true; full;) {
      const line = lines[at++];
      if (line === undefined || line.length > 64) throw headerFault("a stanza has a malformed body");
      body.push(fromBase64(line));
      full = line.length === 64;
    }
    if (stanzas.push({ args, body: Buffer.concat(body) }) > maximumStanzas)
      throw headerFault("it has too many stanzas");
  }
  const lastLine = lines[at];
  if (stanzas.length === 0 || at !== lines.length - 1 || lastLine?.startsWith("--- ") !== true) {
    throw headerFault("a line does not belong there");
  }
  const mac = fromBase64(lastLine.slice(4));
  if (mac.length !== macBytes) throw headerFault("its MAC has a wrong length");
  return { stanzas, mac, macInput: bytes.subarray(0, bytes.length - 1 - lastLine.length + 3) };
}

/** Refuses a header that was not written with this file key. */
export function checkHeaderMac(header: AgeHeader, fileKey: KeyObject): void {
  if (!timingSafeEqual(headerMac(fileKey, header.macInput), header.mac)) throw headerFault("its MAC does not fit");
}

/**
 * The 16 bytes of the file key, opened by the first identity that fits; `key-missing` when none does. A stanza whose wrapped key was
 * altered looks like one for somebody else.
 */
export function unwrapFileKey(header: AgeHeader, identities: readonly AgeIdentity[]): Uint8Array {
  for (const stanza of header.stanzas) {
    if (stanza.args[0] !== "X25519") continue;
    const share = stanza.args.length === 2 ? fromBase64(stanza.args[1] ?? "") : undefined;
    if (share?.length !== shareBytes || stanza.body.length !== fileKeyBytes + tagBytes) {
      throw headerFault("an X25519 stanza is malformed");
    }
    for (const identity of identities) {
      const fileKey = openStanza(share, stanza.body, identity);
      if (fileKey !== undefined) return fileKey;
    }
  }
  const recipients = header.stanzas.length === 1 ? "1 recipient" : `${header.stanzas.length} recipients`;
  const tried = identities.length === 1 ? "the identity" : `none of ${identities.length} identities`;
  throw new Fault(
    "key-missing",
    `the object is encrypted to ${recipients}, ${tried} ${identities.length === 1 ? "does not fit" : "fits"}`,
    { hint: "give the key file of one of the recipients that the backup was made for" },
  );
}

function openStanza(share: Uint8Array, body: Uint8Array, identity: AgeIdentity): Uint8Array | undefined {
  const secret = agree(identity.privateKey, share);
  if (secret === undefined) throw headerFault("an X25519 stanza has a share of low order");
  const decipher = createDecipheriv("chacha20-poly1305", wrapKey(secret, share, identity.share), zeroNonce, {
    authTagLength: tagBytes,
  });
  decipher.setAuthTag(body.subarray(fileKeyBytes));
  const fileKey = decipher.update(body.subarray(0, fileKeyBytes));
  try {
    decipher.final();
  } catch {
    // The stanza is another recipient's: the next identity or stanza is tried.
    return undefined;
  }
  return fileKey;
}

const zeroNonce = new Uint8Array(12);

function wrapKey(secret: Uint8Array, ephemeralShare: Uint8Array, recipientShare: Uint8Array): Uint8Array {
  const salt = Buffer.concat([ephemeralShare, recipientShare]);
  return new Uint8Array(hkdfSync("sha256", secret, salt, "age-encryption.org/v1/X25519", derivedKeyBytes));
}

function headerMac(fileKey: KeyObject, macInput: Uint8Array): Uint8Array {
  const key = new Uint8Array(hkdfSync("sha256", fileKey, new Uint8Array(0), "header", derivedKeyBytes));
  return createHmac("sha256", key).update(macInput).digest();
}

/** The key of the payload after this nonce. */
export function payloadKey(fileKey: KeyObject, nonce: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", fileKey, nonce, "payload", derivedKeyBytes));
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64").replace(/=+$/, "");
}

/** Base64 without padding in its one canonical form: Node itself would accept anything. */
function fromBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, "base64");
  if (toBase64(bytes) !== text) throw headerFault("base64 in it is not canonical");
  return bytes;
}

/** `object-damaged`, said of the header. */
export function headerFault(what: string): Fault {
  return new Fault("object-damaged", `age header: ${what}`);
}
