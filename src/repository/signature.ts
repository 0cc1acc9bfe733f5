import { createHash, createPrivateKey, createPublicKey, sign, verify, type KeyObject } from "node:crypto";
import { Fault } from "../faults.ts";

/** Ed25519 signatures of documents: age hides a backup from strangers, but only a signature tells who wrote it. */

export interface Signature {
  readonly algorithm: "ed25519";
  /** SHA-256 of the public key in SubjectPublicKeyInfo DER, hex. */
  readonly key: string;
  /** base64 */
  readonly value: string;
}

export interface Signer {
  readonly key: string;
  sign(bytes: Uint8Array): Signature;
}

/** Public keys by their SHA-256. */
export type TrustedKeys = ReadonlyMap<string, KeyObject>;

/** A signer from a private Ed25519 key in PKCS#8 PEM. */
export function openSigner(pem: string, origin: string): Signer {
  const key = parseKey(() => createPrivateKey(pem), origin, "private key in PKCS#8 PEM");
  const id = keyId(createPublicKey(key));
  return {
    key: id,
    sign: (bytes) => ({ algorithm: "ed25519", key: id, value: sign(null, bytes, key).toString("base64") }),
  };
}

/** Trusted public keys, each in SubjectPublicKeyInfo PEM. */
export function openTrustedKeys(pems: readonly { readonly pem: string; readonly origin: string }[]): TrustedKeys {
  return new Map(
    pems.map(({ pem, origin }) => {
      const key = parseKey(() => createPublicKey(pem), origin, "public key in PEM");
      return [keyId(key), key];
    }),
  );
}

/** Throws `manifest-untrusted` unless one of the trusted keys signed exactly these bytes. */
export function verifySignature(
  name: string,
  bytes: Uint8Array,
  signature: Signature | undefined,
  trusted: TrustedKeys,
): void {
  const hint = "repository.signing.trusted lists the keys whose manifests are believed";
  if (signature === undefined) throw new Fault("manifest-untrusted", `${name} is not signed`, { hint });
  const key = trusted.get(signature.key);
  if (key === undefined)
    throw new Fault("manifest-untrusted", `${name} is signed by an unknown key ${signature.key}`, { hint });
  const value = Buffer.from(signature.value, "base64");
  // Base64 can spell the same bytes in several ways; what proofs are bound to is the document as it was written.
  if (value.toString("base64") !== signature.value || !verify(null, bytes, key, value)) {
    throw new Fault("manifest-untrusted", `${name} was changed after it was signed`, { hint });
  }
}

function parseKey(read: () => KeyObject, origin: string, what: string): KeyObject {
  const hint =
    "make a pair with: openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub";
  let key: KeyObject;
  try {
    key = read();
  } catch {
    // The cause could quote the file; the file is a secret.
    throw new Fault("config-invalid", `${origin} is no Ed25519 ${what}`, { hint });
  }
  if (key.asymmetricKeyType !== "ed25519") {
    throw new Fault(
      "config-invalid",
      `${origin} is a ${key.asymmetricKeyType ?? "secret"} key, not an Ed25519 ${what}`,
      { hint },
    );
  }
  return key;
}

function keyId(key: KeyObject): string {
  return createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("hex");
}
