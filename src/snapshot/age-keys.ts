import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { Fault } from "../faults.ts";
import { decodeBech32, encodeBech32 } from "./bech32.ts";

/** A public key that a backup is encrypted to. */
export interface AgeRecipient {
  /** As configured: `age1…`. */
  readonly text: string;
  /** The 32 bytes of the X25519 public key. */
  readonly share: Uint8Array;
}

/** A secret key that opens backups. The key is a KeyObject, which neither prints nor serialises. */
export interface AgeIdentity {
  /** The public half, `age1…`, for messages and comparison. */
  readonly recipient: string;
  readonly share: Uint8Array;
  readonly privateKey: KeyObject;
}

/** Parses a native X25519 recipient; everything else is `config-invalid`, known other kinds by name. */
export function parseRecipient(text: string): AgeRecipient {
  const kind = otherRecipients.find(({ pattern }) => pattern.test(text))?.kind;
  if (kind !== undefined) throw recipientFault(`${kind}; only native X25519 recipients (age1…) can be used`);
  const decoded = decodeBech32(text);
  if (decoded?.prefix !== "age" || decoded.bytes.length !== keyBytes) {
    throw recipientFault("it is no age recipient, or mistyped: its checksum does not fit");
  }
  if (agreeWithAnyone(decoded.bytes) === undefined) throw recipientFault("its public key is a point of low order");
  return { text, share: decoded.bytes };
}

/** Texts that somebody may well configure. The secret ones come first, and are never repeated in a message. */
const otherRecipients = [
  { pattern: /AGE-SECRET-KEY-/i, kind: "this is a secret key, which must not be on this host" },
  { pattern: /PRIVATE KEY/, kind: "this is a private key, which must not be on this host" },
  { pattern: /^age1pq1/, kind: "this is a post-quantum recipient" },
  { pattern: /^age1tag(pq)?1/, kind: "this is a hardware tag recipient" },
  { pattern: /^age1[a-z0-9+._-]+1/, kind: "this is the recipient of an age plugin" },
  { pattern: /^(ssh-|ecdsa-|sk-)/, kind: "this is an ssh key" },
  { pattern: /^github:/, kind: "this is a GitHub user" },
] as const;

function recipientFault(why: string): Fault {
  return new Fault("config-invalid", `age recipient refused: ${why}`, {
    hint: "make a key with: age-keygen -o key.txt, and configure the public key that it prints",
  });
}

/**
 * Parses the content of an age key file: one `AGE-SECRET-KEY-1…` a line, empty lines and comments allowed.
 * Anything else is `secret-unreadable`, with the number of the line and never its content.
 */
export function parseIdentities(text: string): readonly AgeIdentity[] {
  if (text.startsWith("age-encryption.org/v1") || text.startsWith("-----BEGIN AGE")) {
    throw new Fault("secret-unreadable", "the key file is itself encrypted", {
      hint: "decrypt it with: age -d -o key.txt FILE, and give the result",
    });
  }
  const identities: AgeIdentity[] = [];
  for (const [index, rawLine] of text.split("\n").entries()) {
    const line = rawLine.trim();
    if (line !== "" && !line.startsWith("#")) identities.push(parseIdentity(line, index + 1));
  }
  if (identities.length === 0) throw new Fault("secret-unreadable", "the key file holds no age identity");
  return identities;
}

function parseIdentity(line: string, lineNumber: number): AgeIdentity {
  const kind = otherIdentities.find(({ pattern }) => pattern.test(line))?.kind;
  if (kind !== undefined) throw identityFault(lineNumber, `${kind}; only native keys (AGE-SECRET-KEY-1…) can be used`);
  const decoded = decodeBech32(line);
  if (decoded?.prefix !== "AGE-SECRET-KEY-" || decoded.bytes.length !== keyBytes) {
    throw identityFault(lineNumber, "it is no age identity, or mistyped: its checksum does not fit");
  }
  const privateKey = importPrivate(decoded.bytes);
  const share = shareOf(createPublicKey(privateKey));
  return { recipient: encodeBech32("age", share), share, privateKey };
}

const otherIdentities = [
  { pattern: /^AGE-PLUGIN-/i, kind: "the identity of an age plugin" },
  { pattern: /^AGE-SECRET-KEY-PQ-/i, kind: "a post-quantum identity" },
  { pattern: /PRIVATE KEY/, kind: "an ssh or PEM private key" },
  { pattern: /^age1/, kind: "a public key" },
] as const;

function identityFault(lineNumber: number, why: string): Fault {
  return new Fault("secret-unreadable", `line ${lineNumber} of the key file is refused: ${why}`);
}

const keyBytes = 32;

// The fixed DER in front of a raw X25519 key (RFC 8410): node:crypto takes no raw keys.
const pkcs8Prefix = Buffer.from("302e020100300506032b656e04220420", "hex");
const spkiPrefix = Buffer.from("302a300506032b656e032100", "hex");

function importPrivate(secret: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([pkcs8Prefix, secret]), format: "der", type: "pkcs8" });
}

function importPublic(share: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiPrefix, share]), format: "der", type: "spki" });
}

function shareOf(publicKey: KeyObject): Uint8Array {
  return publicKey.export({ format: "der", type: "spki" }).subarray(-keyBytes);
}

/** The X25519 secret of a private key and a share; undefined when it is all zero, as a share of low order makes it. */
export function agree(privateKey: KeyObject, share: Uint8Array): Uint8Array | undefined {
  try {
    const secret = diffieHellman({ privateKey, publicKey: importPublic(share) });
    return secret.every((byte) => byte === 0) ? undefined : secret;
  } catch (error) {
    // OpenSSL itself refuses an all-zero secret (RFC 7748, 6.1).
    if (error instanceof Error && "code" in error && error.code === "ERR_OSSL_FAILED_DURING_DERIVATION")
      return undefined;
    throw error;
  }
}

/** A fresh key pair for one stanza. */
export function ephemeralKey(): { readonly privateKey: KeyObject; readonly share: Uint8Array } {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  return { privateKey, share: shareOf(publicKey) };
}

function agreeWithAnyone(share: Uint8Array): Uint8Array | undefined {
  return agree(ephemeralKey().privateKey, share);
}
