import { createHash, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerOptions, ServerResponse } from "node:http";
import { createServer as createSecureServer, type Server as SecureServer } from "node:https";

import { Fault } from "../faults.ts";
import { escapeControls } from "../format.ts";
import type { MetricsPage } from "./metrics.ts";
import { redact } from "./redact.ts";

/** One thing that must be so; `why` says what is wrong. */
export type Check =
  { readonly name: string; readonly ok: true } | { readonly name: string; readonly ok: false; readonly why: string };

export interface HttpOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** None: whoever reaches the address may read. */
  readonly access?: HttpAccess;
  readonly metrics: { readonly page: () => Promise<MetricsPage> };
  /** Is this process alive? Never whether a backup succeeded: a restart would not help. */
  readonly livez: () => readonly Check[];
  /** Can it do its work? Nor here whether a backup succeeded: that is a metric. */
  readonly readyz: () => readonly Check[];
  /** The page for people, complete HTML. */
  readonly status: () => string;
  /** Hears of a page that could not be made, a bug of ours: the asker gets 500 and the process goes on. At most once a minute. */
  readonly onError: (error: unknown) => void;
  readonly limits?: HttpLimits;
}

/** What guards the pages; both are secrets. */
export interface HttpAccess {
  /** PEM: the certificate with its chain, and its key. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** What every request must carry as a bearer token, but those for /livez and /readyz. */
  readonly token: string | undefined;
}

export interface HttpServer extends AsyncDisposable {
  /**
   * Serves another certificate and takes another token from the next connection and request on. Whether there is TLS at all stays as it began. Throws
   * `config-invalid` and changes nothing when the certificate cannot be used.
   */
  readonly renew: (access: HttpAccess) => void;
  /** Where it listens, with the real port when 0 was asked for: `http://127.0.0.1:9979`. */
  readonly url: string;
}

/** What bounds a client, whatever it does. */
export interface HttpLimits {
  /** Whoever connects beyond them is cut off. */
  readonly connections: number;
  /** For a request's head to arrive. */
  readonly headMs: number;
  /** Without a byte in either direction. */
  readonly idleMs: number;
  /** For a response to be read, however steadily a slow reader reads. */
  readonly responseMs: number;
}

/** A scraper, a browser and a probe need a handful of connections; a flood must never reach the backups. */
const usualLimits: HttpLimits = { connections: 64, headMs: 5000, idleMs: 15_000, responseMs: 30_000 };
const closeMs = 1000;
const reportEveryMs = 60_000;

/**
 * Serves /metrics, /livez, /readyz and the status page at /. Throws a Fault (config-invalid) that names http.listen when the address
 * cannot be had. Disposing lets responses end for a second, then cuts connections.
 */
export async function serveHttp(options: HttpOptions): Promise<HttpServer> {
  const limits = options.limits ?? usualLimits;
  const { tls } = options.access ?? {};
  let guard = openGuard(options.access?.token);
  const bounds: ServerOptions = {
    maxHeaderSize: 8192,
    headersTimeout: limits.headMs,
    requestTimeout: 2 * limits.headMs,
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: Math.ceil(limits.headMs / 5),
  };
  const handler = openHandler(options, (request) => guard(request), limits.responseMs);
  const server =
    tls === undefined
      ? createServer(bounds, handler)
      : securely(() => createSecureServer({ ...bounds, ...tls, ...strict, handshakeTimeout: limits.headMs }, handler));
  const sockets = trackSockets(server);
  server.maxConnections = limits.connections;
  server.timeout = limits.idleMs;
  // Upgrades and tunnels are not for us.
  server.on("upgrade", (_request, socket) => socket.destroy());
  server.on("connect", (_request, socket) => socket.destroy());
  await listen(server, options.listen);
  server.on("error", options.onError); // accept() out of descriptors: it goes on when there are some again
  return {
    url: urlOf(server, options.listen.host),
    renew(access) {
      const { tls: renewed } = access;
      if (renewed !== undefined && isSecure(server)) {
        securely(() => server.setSecureContext({ ...renewed, ...strict }));
      }
      guard = openGuard(access.token);
    },
    [Symbol.asyncDispose]: () => close(server, sockets),
  };
}

const strict = { minVersion: "TLSv1.2" } as const;

/** OpenSSL's words about a key are not for messages. */
function securely<T>(use: () => T): T {
  try {
    return use();
  } catch {
    throw new Fault("config-invalid", "http.tls: the certificate and its key cannot be used", {
      hint: "look at them: openssl x509 -noout -text -in CERT",
    });
  }
}

function isSecure(server: Server | SecureServer): server is SecureServer {
  return "setSecureContext" in server;
}

type Socket = IncomingMessage["socket"];

/** Open connections, also those that are still shaking hands, which the HTTP server does not know of. */
function trackSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
}

/** Whether a request may read. */
type Guard = (request: IncomingMessage) => boolean;

/** Compares digests in constant time: neither a token's characters nor its length can be learnt by trying. */
function openGuard(token: string | undefined): Guard {
  if (token === undefined) return () => true;
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digest(token);
  return ({ headers }) => {
    const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
    return timingSafeEqual(digest(given), expected);
  };
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

function openHandler(
  options: HttpOptions,
  guard: Guard,
  responseMs: number,
): (request: IncomingMessage, response: ServerResponse) => void {
  let page: Promise<MetricsPage> | undefined;
  let reportedMs = Number.NEGATIVE_INFINITY;

  /** However many ask at once, one page is made at a time and all of them get it. */
  async function metrics(): Promise<Answer> {
    page ??= options.metrics.page().finally(() => {
      page = undefined;
    });
    const { contentType, body } = await page;
    return { status: 200, type: contentType, body };
  }
  async function answer(path: string, query: URLSearchParams, trusted: boolean): Promise<Answer> {
    switch (path) {
      // For probes that cannot send a token; why something is wrong is not for everybody.
      case "/livez":
        return checked("livez", options.livez(), query.has("verbose"), trusted);
      case "/readyz":
        return checked("readyz", options.readyz(), query.has("verbose"), trusted);
    }
    if (!trusted) return plain(401, "send the token of http.token: Authorization: Bearer TOKEN");
    switch (path) {
      case "/metrics":
        return metrics();
      case "/":
        return { status: 200, type: "text/html; charset=utf-8", body: options.status() };
      default:
        return plain(404, "not found: there are /, /metrics, /livez and /readyz");
    }
  }
  function failed(error: unknown): Answer {
    if (performance.now() - reportedMs >= reportEveryMs) {
      reportedMs = performance.now();
      options.onError(error);
    }
    return plain(500, "this page cannot be made: the log of the daemon says why");
  }

  return (request, response) => {
    const deadline = setTimeout(() => response.destroy(), responseMs);
    response.on("close", () => clearTimeout(deadline));
    response.on("error", () => response.destroy()); // the asker went away
    const refusal = refuse(request);
    if (refusal !== undefined) {
      response.setHeader("Connection", "close");
      if (refusal.status === 405) response.setHeader("Allow", "GET, HEAD");
      send(request, response, refusal);
      return;
    }
    const [path = "/", query] = (request.url ?? "/").split("?", 2);
    answer(path, new URLSearchParams(query), guard(request))
      .catch(failed)
      .then((made) => send(request, response, made))
      .catch((error: unknown) => {
        response.destroy();
        options.onError(error);
      });
  };
}

/** What is answered without a look at the path; a body is never read. */
function refuse(request: IncomingMessage): Answer | undefined {
  if (request.method !== "GET" && request.method !== "HEAD") return plain(405, "only GET and HEAD");
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  if (encoding !== undefined || (length !== undefined && length !== "0")) return plain(400, "send no body");
  return undefined;
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body }: Answer): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, {
    "Content-Type": type,
    "Content-Length": Buffer.byteLength(body),
    ...(status === 401 ? { "WWW-Authenticate": 'Bearer realm="etcd-lifeboat"' } : {}),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

/** As Kubernetes' components answer: `ok`, or the list of checks when one failed or `?verbose` asks for it. */
function checked(name: string, checks: readonly Check[], verbose: boolean, trusted: boolean): Answer {
  const ok = checks.every((check) => check.ok);
  if (ok && !verbose) return plain(200, "ok");
  const lines = checks.map((check) =>
    check.ok
      ? `[+]${check.name} ok`
      : `[-]${check.name} failed${trusted ? `: ${escapeControls(redact(check.why))}` : ""}`,
  );
  return plain(ok ? 200 : 503, [...lines, `${name} check ${ok ? "passed" : "failed"}`].join("\n"));
}

function plain(status: number, text: string): Answer {
  return { status, type: "text/plain; charset=utf-8", body: `${text}\n` };
}

function listen(server: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => reject(listenFault(error, authority(host, port)));
    server.once("error", onError);
    server.listen({ host, port, backlog: 128 }, () => {
      server.off("error", onError);
      resolve();
    });
  });
}

function listenFault(error: NodeJS.ErrnoException, address: string): Fault {
  const [what, hint] = reasons[error.code ?? ""] ?? [error.code ?? error.message, "choose another http.listen"];
  return new Fault("config-invalid", `http.listen ${address}: ${what}`, { hint, cause: error });
}

const reasons: Record<string, readonly [what: string, hint: string]> = {
  EADDRINUSE: ["another process listens there", "stop it, or choose another port in http.listen; who it is: ss -ltnp"],
  EACCES: ["this user may not listen there", "choose a port from 1024 on in http.listen"],
  EADDRNOTAVAIL: ["the address is not one of this host", "choose one that is in http.listen, such as 127.0.0.1"],
  ENOTFOUND: ["the host name is not known", "write an IP address into http.listen, such as 127.0.0.1"],
};

function urlOf(server: Server, host: string): string {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a server that listens on TCP has an address");
  return `${isSecure(server) ? "https" : "http"}://${authority(host, address.port)}`;
}

function authority(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function close(server: Server, sockets: ReadonlySet<Socket>): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => sockets.forEach((socket) => socket.destroy()), closeMs);
    server.close(() => {
      clearTimeout(cut);
      resolve();
    });
    server.closeIdleConnections();
  });
}
