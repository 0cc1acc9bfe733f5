import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";

import { Fault } from "../faults.ts";
import { escapeControls } from "../format.ts";
import type { MetricsPage } from "./metrics.ts";
import { redact } from "./redact.ts";

/** One thing that must be so; `why` says what is wrong. */
export type Check =
  { readonly name: string; readonly ok: true } | { readonly name: string; readonly ok: false; readonly why: string };

export interface HttpOptions {
  readonly listen: { readonly host: string; readonly port: number };
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

export interface HttpServer extends AsyncDisposable {
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
  const server = createServer(
    {
      maxHeaderSize: 8192,
      headersTimeout: limits.headMs,
      requestTimeout: 2 * limits.headMs,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: Math.ceil(limits.headMs / 5),
    },
    openHandler(options, limits.responseMs),
  );
  server.maxConnections = limits.connections;
  server.timeout = limits.idleMs;
  // Upgrades and tunnels are not for us.
  server.on("upgrade", (_request, socket) => socket.destroy());
  server.on("connect", (_request, socket) => socket.destroy());
  await listen(server, options.listen);
  server.on("error", options.onError); // accept() out of descriptors: it goes on when there are some again
  return { url: urlOf(server, options.listen.host), [Symbol.asyncDispose]: () => close(server) };
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

function openHandler(
  options: HttpOptions,
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
  async function answer(path: string, query: URLSearchParams): Promise<Answer> {
    switch (path) {
      case "/metrics":
        return metrics();
      case "/livez":
        return checked("livez", options.livez(), query.has("verbose"));
      case "/readyz":
        return checked("readyz", options.readyz(), query.has("verbose"));
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
    answer(path, new URLSearchParams(query))
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
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

/** As Kubernetes' components answer: `ok`, or the list of checks when one failed or `?verbose` asks for it. */
function checked(name: string, checks: readonly Check[], verbose: boolean): Answer {
  const ok = checks.every((check) => check.ok);
  if (ok && !verbose) return plain(200, "ok");
  const lines = checks.map((check) =>
    check.ok ? `[+]${check.name} ok` : `[-]${check.name} failed: ${escapeControls(redact(check.why))}`,
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
  return `http://${authority(host, address.port)}`;
}

function authority(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), closeMs);
    server.close(() => {
      clearTimeout(cut);
      resolve();
    });
    server.closeIdleConnections();
  });
}
