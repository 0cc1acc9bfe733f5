import { X509Certificate } from "node:crypto";
import { connect } from "node:tls";
import { throwIfAborted } from "../faults.ts";
import { parseAddress, tlsName } from "./address.ts";
import type { Certificate } from "./etcd.ts";
import type { TlsFiles } from "./tls-files.ts";

export function describeCertificate(certificate: X509Certificate): Certificate {
  return {
    subject: certificate.subject.split("\n").join(", "),
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
    names: (certificate.subjectAltName ?? "")
      .split(", ")
      .flatMap((name) => /^(?:DNS|IP Address):(.+)$/.exec(name)?.[1] ?? []),
  };
}

/** Every certificate of a PEM file that can be read as one. What else stands in it is left to OpenSSL, which skips it too. */
export function certificatesOf(pem: Buffer): readonly Certificate[] {
  const blocks = pem.toString("latin1").match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.flatMap((block) => {
    try {
      return [describeCertificate(new X509Certificate(block))];
    } catch {
      return [];
    }
  });
}

/**
 * The certificate that an address shows, whatever it is: one handshake whose outcome is not believed, and after which nothing is sent. Rejects with the
 * error of Node as it is.
 */
export async function shownCertificate(
  at: { readonly url: string; readonly serverName: string | undefined },
  tls: TlsFiles,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Certificate | undefined> {
  throwIfAborted(signal);
  const address = parseAddress(at.url);
  if (!address.secure) return undefined;
  const { context } = await tls.load();
  const name = tlsName(address, at.serverName);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  return await new Promise((resolve, reject) => {
    const socket = connect({
      host: address.host,
      port: address.port,
      secureContext: context,
      ALPNProtocols: ["h2"],
      // It is looked at, and hung up on.
      rejectUnauthorized: false,
      ...(name === undefined ? {} : { servername: name }),
    });
    const late = (): void => {
      socket.destroy(new Error(`no TLS handshake within ${timeoutMs} ms`));
    };
    limit.addEventListener("abort", late, { once: true });
    if (limit.aborted) late();
    socket.once("secureConnect", () => {
      const shown = socket.getPeerX509Certificate();
      resolve(shown === undefined ? undefined : describeCertificate(shown));
      socket.end();
    });
    socket.once("error", reject);
    socket.once("close", () => {
      limit.removeEventListener("abort", late);
      reject(new Error("the connection was closed before it was secure"));
    });
  });
}
