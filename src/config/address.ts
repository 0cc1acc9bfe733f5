import { quote } from "./quote.ts";

/** What a value became, or why it cannot be used. */
export type Read<T> = { readonly value: T } | { readonly why: string };

/**
 * Reads the URL of an etcd listener: scheme, host and port and nothing else. The value is `https://host:port` or
 * `http://host:port`, in lower case, without a slash at the end.
 */
export function readListenerUrl(text: string, defaultPort: number): Read<string> {
  if (text.includes("@")) {
    return { why: "holds a user or password; write them under cluster.auth, and here scheme, host and port only" };
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined) {
    const host = /^[^/?#\s]+$/.test(text) ? text : "HOST";
    const address = /:[0-9]+$/.test(host) ? host : `${host}:${defaultPort}`;
    return { why: `${quote(text)} has no scheme; write https://${address} (or http:// without TLS)` };
  }
  if (scheme !== "https" && scheme !== "http") return { why: `${quote(text)} is neither https:// nor http://` };
  const url = URL.parse(text);
  if (url === null) return { why: `${quote(text)} is no URL` };
  if (!["", "/"].includes(url.pathname) || /[?#]/.test(text)) {
    return { why: `${quote(text)} has a path or query; write scheme, host and port only` };
  }
  const port = /:([0-9]{1,5})\/?$/.exec(text)?.[1];
  if (port === undefined)
    return { why: `${quote(text)} has no port; write ${scheme}://${url.hostname}:${defaultPort}` };
  if (["0.0.0.0", "[::]"].includes(url.hostname)) {
    return { why: `${quote(text)} is an address to listen on, not one to connect to` };
  }
  return { value: `${scheme}://${url.hostname}:${Number(port)}` };
}

/** Reads the URL of an S3 service; a path is kept, a user, password or query is refused. */
export function readServiceUrl(text: string): Read<string> {
  if (text.includes("@")) {
    return { why: "holds a user or password; credentials come from AWS_*, or from repository.store.s3.credentials" };
  }
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    return { why: `${quote(text)} has no scheme; write https://HOST (or http:// without TLS)` };
  }
  const url = URL.parse(text);
  if (url === null) return { why: `${quote(text)} is no URL` };
  if (url.protocol !== "https:" && url.protocol !== "http:")
    return { why: `${quote(text)} is neither https:// nor http://` };
  if (/[?#]/.test(text)) return { why: `${quote(text)} has a query; write scheme, host, port and path only` };
  return { value: text.replace(/\/+$/, "") };
}

/** Reads the address of a dead man's switch, in which `{schedule}` may stand. No answer shows it: who knows it can speak for us. */
export function readPingUrl(text: string): Read<string> {
  const url = URL.parse(text.replaceAll("{schedule}", "schedule"));
  if (url === null) return { why: "is no URL (what stands here is not shown)" };
  if (url.username !== "" || url.password !== "") return { why: "holds a user or password, which pings do not send" };
  const loopback = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  if (url.protocol === "https:" || (url.protocol === "http:" && loopback)) return { value: text };
  return {
    why: "is not https:// (http:// is for loopback alone): whoever reads it on its way could keep the switch quiet",
  };
}

/** A host and port to listen on; the host without brackets. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Reads `HOST:PORT` or `[IPv6]:PORT`. */
export function readListenAddress(text: string): Read<ListenAddress> {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s]+)):([0-9]{1,5})$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535)) {
    return { why: `${quote(text)} is no address to listen on; write HOST:PORT, such as 127.0.0.1:9979 or [::1]:9979` };
  }
  return { value: { host, port } };
}
