import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import type { Environment } from "./fill.ts";
import type { Config } from "./schema.ts";
import { Fault } from "../faults.ts";
import { readSecret, type Redacted, whyUnreadable } from "./secrets.ts";

/** What guards the pages of the daemon, as it was read. */
export interface Access {
  /** `notAfterMs`: until when the certificate is valid; undefined where its date cannot be read. */
  readonly tls: { readonly cert: string; readonly key: Redacted; readonly notAfterMs: number | undefined } | undefined;
  readonly token: Redacted | undefined;
}

/** Reads what guards the pages. Rejects with `config-invalid` or `secret-unreadable`. */
export async function readAccess({ http }: Config, env: Environment): Promise<Access> {
  const token = http.token === undefined ? undefined : await readSecret(http.token, env);
  const unfit = token === undefined ? undefined : whyUnfitToken(token.reveal());
  if (unfit !== undefined) throw new Fault("config-invalid", `http.token ${unfit}`);
  if (http.tls === undefined) return { tls: undefined, token };
  const key = await readSecret(http.tls.key, env);
  let cert: string;
  try {
    cert = readFileSync(http.tls.cert, "utf8");
  } catch (error) {
    throw new Fault("config-invalid", `http.tls.cert: ${http.tls.cert} ${whyUnreadable(error)}`, { cause: error });
  }
  const stranger = whyUnfitPair(cert, key.reveal());
  if (stranger !== undefined) throw new Fault("config-invalid", `http.tls.key ${stranger} (${http.tls.cert})`);
  return { tls: { cert, key, notAfterMs: notAfterOf(cert) }, token };
}

function notAfterOf(cert: string): number | undefined {
  try {
    const timeMs = Date.parse(new X509Certificate(cert).validTo);
    return Number.isNaN(timeMs) ? undefined : timeMs;
  } catch {
    // What the certificate is, is told where it is used.
    return undefined;
  }
}

/** As long as `openssl rand -hex 16` makes it; anything shorter can be tried out. */
const tokenLength = 16;

/** Why a secret is no bearer token; it is never shown. */
export function whyUnfitToken(text: string): string | undefined {
  if (text.length < tokenLength) return `is shorter than ${tokenLength} characters; make one: openssl rand -hex 32`;
  // RFC 6750: what can stand behind `Bearer`.
  return /^[A-Za-z0-9._~+/-]+=*$/.test(text) ? undefined : "has characters that no bearer token has";
}

/** Why a key is not the one of a certificate; neither is shown. */
export function whyUnfitPair(cert: string, key: string): string | undefined {
  let made: ReturnType<typeof createPrivateKey>;
  try {
    made = createPrivateKey(key);
  } catch {
    return "is not a PEM private key without passphrase";
  }
  try {
    return new X509Certificate(cert).checkPrivateKey(made) ? undefined : "does not belong to the certificate";
  } catch {
    // What the certificate is, is told at its own place.
    return undefined;
  }
}

/** Whether only this host can reach an address to listen on. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}
