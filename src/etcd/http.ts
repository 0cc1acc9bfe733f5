import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { RequestOptions } from "node:https";
import type { SecureContext } from "node:tls";
import { abortFault, throwIfAborted } from "../faults.ts";
import { parseAddress, tlsName } from "./address.ts";
import type { TlsFiles } from "./tls-files.ts";

export interface Page {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface GetOptions {
  readonly tls: TlsFiles;
  readonly serverName?: string | undefined;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/**
 * One GET beside gRPC (/version, /metrics, /v2), over a connection of its own, without redirects. Rejects with the
 * error of Node as it is, or with an Error `timeout` or `too large`: callers only need to know that it did not work.
 */
export async function get(url: string, path: string, options: GetOptions, signal: AbortSignal): Promise<Page> {
  throwIfAborted(signal);
  const address = parseAddress(url);
  const timeout = AbortSignal.timeout(options.timeoutMs);
  const common = {
    host: address.host,
    port: address.port,
    path,
    agent: false,
    signal: AbortSignal.any([signal, timeout]),
  };
  const tls = address.secure ? await options.tls.load() : undefined;
  // Node hands the context on to tls.connect; its types for https leave it out.
  const secured: RequestOptions & { secureContext: SecureContext | undefined } = {
    ...common,
    secureContext: tls?.context,
    servername: tlsName(address, options.serverName) ?? "",
  };
  try {
    return await new Promise<Page>((resolve, reject) => {
      const answered = (response: IncomingMessage): void => {
        collect(response, options.maxBytes).then(resolve, reject);
      };
      const request = address.secure ? httpsRequest(secured, answered) : httpRequest(common, answered);
      request.once("error", reject);
      request.end();
    });
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (timeout.aborted) throw new Error(`timeout: no answer within ${options.timeoutMs} ms`, { cause: error });
    throw error;
  }
}

async function collect(response: IncomingMessage, maxBytes: number): Promise<Page> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`too large: more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return {
    status: response.statusCode ?? 0,
    contentType: response.headers["content-type"] ?? "",
    body: Buffer.concat(chunks).toString("utf8"),
  };
}
