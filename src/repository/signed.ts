import { z } from "zod";
import { checkDocument, parseJson, sha256Field, toJson } from "./documents.ts";
import { verifySignature, type Signer, type TrustedKeys } from "./signature.ts";

/** How manifests and proofs carry their signature: as the last field, over the compact text of all others (docs/formats/manifest-v1.md). */

const signatureField = z.strictObject({
  algorithm: z.literal("ed25519"),
  /** SHA-256 of the public key in SubjectPublicKeyInfo DER. */
  key: sha256Field,
  value: z.base64(),
});

/** The bytes of a document, signed when there is a signer. Refuses with `manifest-invalid` what `readSigned` would not read again. */
export function writeSigned(
  what: string,
  document: object,
  schema: z.ZodType<object>,
  signer: Signer | undefined,
): Uint8Array {
  const body = toJson(document);
  checkDocument(what, JSON.parse(body), schema);
  const text =
    signer === undefined ? body : `${body.slice(0, -1)},"signature":${JSON.stringify(signer.sign(Buffer.from(body)))}}`;
  return Buffer.from(`${text}\n`);
}

/** Parses and checks a document; where keys are trusted, one of them must have signed it, elsewhere the signature is not looked at. */
export function readSigned<T>(
  name: string,
  bytes: Uint8Array,
  schema: z.ZodType<T>,
  trusted: TrustedKeys | undefined,
): T {
  const value = parseJson(name, bytes);
  const { signature, ...body } = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  if (trusted !== undefined) {
    const parsed =
      signature === undefined ? undefined : checkDocument(`the signature of ${name}`, signature, signatureField);
    verifySignature(name, Buffer.from(JSON.stringify(body)), parsed, trusted);
  }
  return checkDocument(name, body, schema);
}

/** The JSON Schema of such a document, as it is published in docs/formats. */
export function signedJsonSchema(...bodies: readonly z.ZodObject[]): unknown {
  const [first, ...others] = bodies.map((body) => body.extend({ signature: signatureField.optional() }));
  if (first === undefined) throw new TypeError("a document has at least one form");
  return z.toJSONSchema(others.length === 0 ? first : z.union([first, ...others]), { io: "input" });
}
