import { isIP } from "node:net";
import { Fault } from "../faults.ts";

/** A client URL taken apart. */
export interface Address {
  readonly url: string;
  readonly secure: boolean;
  /** Without the brackets of IPv6. */
  readonly host: string;
  readonly port: number;
  /** `host:port`, with brackets where they are needed. */
  readonly authority: string;
}

/** Takes `http(s)://host:port` apart; a URL of another form is `config-invalid`. */
export function parseAddress(url: string): Address {
  const parsed = URL.parse(url);
  if (parsed === null || !["http:", "https:"].includes(parsed.protocol)) {
    throw new Fault("config-invalid", `${url} is no URL of an etcd member`, { hint: "write https://host:port" });
  }
  const secure = parsed.protocol === "https:";
  const port = parsed.port === "" ? (secure ? 443 : 80) : Number(parsed.port);
  const host = parsed.hostname.replace(/^\[(.*)\]$/, "$1");
  return { url, secure, host, port, authority: `${parsed.hostname}:${port}` };
}

/** The name for SNI and for the check of the certificate; undefined for an IP address, which is checked but never sent (RFC 6066). */
export function tlsName(address: Address, serverName: string | undefined): string | undefined {
  return serverName ?? (isIP(address.host) === 0 ? address.host : undefined);
}
