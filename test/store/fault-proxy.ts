import { createServer, request as send } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What a healthy server never does, but networks, gateways and overloaded servers do. */
export type Mischief =
  /** Answers by itself; the server never sees the request. */
  | {
      readonly kind: "answer";
      readonly status: number;
      readonly body: string;
      readonly headers?: Record<string, string>;
    }
  /** The server does its work and its answer is lost. */
  | { readonly kind: "drop-reply" }
  /** The server does its work, and its answer is replaced. */
  | { readonly kind: "replace-reply"; readonly status: number; readonly body: string }
  /** Nothing more is read from the client after `at` bytes of the body. */
  | { readonly kind: "stall-request"; readonly at: number }
  /** Nothing more is given to the client after `at` bytes of the answer's body. */
  | { readonly kind: "stall-reply"; readonly at: number }
  /** The connection ends after `at` bytes of the answer's body. */
  | { readonly kind: "cut-reply"; readonly at: number }
  /** The answer ends after `at` bytes as if it were complete, without a Content-Length. */
  | { readonly kind: "short-reply"; readonly at: number }
  /** The whole answer, without a Content-Length. */
  | { readonly kind: "strip-length" }
  | { readonly kind: "flip-request"; readonly at: number }
  | { readonly kind: "flip-reply"; readonly at: number }
  | { readonly kind: "delay"; readonly ms: number };

export interface Rule {
  readonly method: string;
  /** Matches the path with its query. */
  readonly path: RegExp;
  /** Skips so many matching requests first. */
  readonly after?: number;
  /** Strikes so many times; 1 when absent. */
  readonly times?: number;
  readonly mischief: Mischief;
  /** What happens elsewhere while the request is under way. */
  readonly meanwhile?: () => Promise<void>;
}

export interface FaultProxy extends AsyncDisposable {
  readonly endpoint: string;
  /** Adds a rule; the returned function says how often it has fired. The oldest rule that fits is the one that fires. */
  readonly add: (rule: Rule) => () => number;
  /** Method and path of every request so far. */
  readonly requests: readonly string[];
}

/** S3's form of an error. */
export function s3Error(code: string, message = "made by the fault proxy"): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
}

/** An HTTP proxy in front of `target` that does as its rules say. Signatures stay valid, since the Host header is passed on. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const rules: { rule: Rule; seen: number; fired: number }[] = [];
  const requests: string[] = [];

  const choose = (message: IncomingMessage): Rule | undefined => {
    for (const entry of rules) {
      const { method, path, after = 0, times = 1 } = entry.rule;
      if (method !== message.method || !path.test(message.url ?? "")) continue;
      entry.seen += 1;
      if (entry.seen <= after || entry.fired >= times) continue;
      entry.fired += 1;
      return entry.rule;
    }
    return undefined;
  };

  const server = createServer({ keepAliveTimeout: 1000 }, (from, to) => {
    requests.push(`${from.method} ${from.url}`);
    const rule = choose(from);
    const meanwhile = rule?.meanwhile?.() ?? Promise.resolve();
    void meanwhile.then(async () => await handle(target, from, to, rule?.mischief)).catch(() => to.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    add: (rule) => {
      const entry = { rule, seen: 0, fired: 0 };
      rules.push(entry);
      return () => entry.fired;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function handle(target: string, from: IncomingMessage, to: ServerResponse, mischief?: Mischief): Promise<void> {
  if (mischief?.kind === "stall-request") {
    let got = 0;
    from.on("data", (chunk: Buffer) => {
      got += chunk.length;
      if (got >= mischief.at) from.pause();
    });
    return; // the socket stays open, unread and unanswered
  }
  let body = await gather(from);
  if (mischief?.kind === "answer") {
    to.writeHead(mischief.status, { "content-type": "application/xml", ...mischief.headers }).end(mischief.body);
    return;
  }
  if (mischief?.kind === "delay") await new Promise((resolve) => setTimeout(resolve, mischief.ms));
  if (mischief?.kind === "flip-request") body = flipped(body, mischief.at);
  const answer = await forward(target, from, body);
  switch (mischief?.kind) {
    case "drop-reply":
      to.destroy();
      return;
    case "replace-reply":
      to.writeHead(mischief.status, { "content-type": "application/xml" }).end(mischief.body);
      return;
    case "stall-reply":
      to.writeHead(answer.status, answer.headers).write(answer.body.subarray(0, mischief.at));
      return;
    case "cut-reply":
      to.writeHead(answer.status, answer.headers).write(answer.body.subarray(0, mischief.at), () => to.destroy());
      return;
    case "short-reply":
      to.writeHead(answer.status, withoutLength(answer.headers)).end(answer.body.subarray(0, mischief.at));
      return;
    case "strip-length":
      to.writeHead(answer.status, withoutLength(answer.headers)).end(answer.body);
      return;
    case "flip-reply":
      to.writeHead(answer.status, answer.headers).end(flipped(answer.body, mischief.at));
      return;
    case "flip-request":
    case "delay":
    case undefined:
      to.writeHead(answer.status, answer.headers).end(answer.body);
  }
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

async function forward(target: string, from: IncomingMessage, body: Buffer): Promise<Answer> {
  const { hostname, port } = new URL(target);
  return await new Promise((resolve, reject) => {
    const options = {
      hostname,
      port,
      method: from.method,
      path: from.url,
      headers: from.headers,
      agent: false as const,
    };
    const request = send(options, (answer) => {
      gather(answer).then(
        (bytes) =>
          resolve({ status: answer.statusCode ?? 502, headers: withoutConnection(answer.headers), body: bytes }),
        reject,
      );
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function gather(message: IncomingMessage): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(message as AsyncIterable<Buffer>));
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 0x10;
  return copy;
}

function withoutLength(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "content-length"));
}

/** Whether a connection is kept is between each two neighbours. */
function withoutConnection(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name !== "connection" && name !== "transfer-encoding"),
  );
}
