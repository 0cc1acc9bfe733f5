import { generateKeyPairSync } from "node:crypto";
import { openSigner, openTrustedKeys, type Signer, type TrustedKeys } from "../../src/repository/signature.ts";

/** A pair of keys of its own. */
export function freshKeys(): { readonly signer: Signer; readonly trusted: TrustedKeys } {
  const pair = generateKeyPairSync("ed25519");
  return {
    signer: openSigner(pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString(), "test"),
    trusted: openTrustedKeys([
      { pem: pair.publicKey.export({ type: "spki", format: "pem" }).toString(), origin: "test" },
    ]),
  };
}
