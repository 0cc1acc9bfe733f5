import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { S3Client } from "@aws-sdk/client-s3";
import type { S3ClientConfig } from "@aws-sdk/client-s3";
import { Fault, abortFault, throwIfAborted } from "../faults.ts";
import { openCredentialsFile } from "./s3-credentials.ts";
import type { S3Keys } from "./s3-credentials.ts";
import { meaningOf, s3Fault } from "./s3-faults.ts";
import { unwrapSourceError } from "./source.ts";

export interface S3Options {
  readonly bucket: string;
  /** Everything of ours is below it; no slash at either end, empty or absent for the whole bucket. */
  readonly prefix?: string | undefined;
  /** Without it: the AWS environment variables and profile; `us-east-1` when there is an endpoint. */
  readonly region?: string | undefined;
  /** URL of a server that is not AWS. */
  readonly endpoint?: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`; by default so when there is an endpoint. */
  readonly pathStyle?: boolean | undefined;
  /** File with the certificates (PEM) that are trusted instead of the system's; read again when it is replaced. */
  readonly ca?: string | undefined;
  /** Without it: the SDK's own chain (environment, profile, web identity, instance role). */
  readonly credentials?: S3Keys | { readonly file: string; readonly profile?: string | undefined } | undefined;
  /** `none` is for gateways that know no CRC-32C: Content-MD5 and a signed SHA-256 protect each request instead. */
  readonly checksums?: "crc32c" | "none" | undefined;
  /** Size of the first parts of a multipart upload; S3 wants at least 5 MiB. */
  readonly partBytes?: number | undefined;
  readonly partsInFlight?: number | undefined;
  /** A transfer without a byte of progress for so long is broken. */
  readonly idleTimeoutMs?: number | undefined;
  readonly connectTimeoutMs?: number | undefined;
  /** How often the SDK sends one request. */
  readonly attempts?: number | undefined;
  /** How long one step of an upload (its beginning, each part, its completion) may go on after that step's first trouble. */
  readonly retryBudgetMs?: number | undefined;
}

/** A bucket with everything that its operations share. */
export interface Connection {
  readonly bucket: string;
  /** What keys start with: empty, or the prefix and a slash. */
  readonly root: string;
  readonly description: string;
  readonly checksums: "crc32c" | "none";
  readonly partBytes: number;
  readonly partsInFlight: number;
  readonly idleTimeoutMs: number;
  readonly retryBudgetMs: number;
  /** For everything but bodies that come to us: a socket without progress is an error, whichever way the bytes go. */
  readonly writer: S3Client;
  /** For GET: only the answer's start is timed here, since a slow consumer is no stalled store; the body has its own watch. */
  readonly reader: S3Client;
  /** Sends one request; rejects with the SDK's error as it is, or at once with the signal's fault. */
  readonly ask: <T>(signal: AbortSignal, send: (abortSignal: AbortSignal) => Promise<T>) => Promise<T>;
  /** Runs an operation and translates what it throws; `what` says what is tried. */
  readonly translate: <T>(what: string, signal: AbortSignal, operation: () => Promise<T>) => Promise<T>;
}

export function connect(options: S3Options): Connection {
  const { bucket, endpoint, prefix = "" } = options;
  const file = fileOf(options);
  const idleTimeoutMs = options.idleTimeoutMs ?? 60_000;
  const checksums = options.checksums ?? "crc32c";
  const connectionTimeout = options.connectTimeoutMs ?? 10_000;
  const httpsAgent = new HttpsAgent({ keepAlive: true, maxSockets: 32 });
  const trust = options.ca ? openCaFile(options.ca) : undefined;
  const agents = { httpAgent: new HttpAgent({ keepAlive: true, maxSockets: 32 }), httpsAgent };
  const common: S3ClientConfig = {
    ...regionOf(options),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...credentialsOf(options, file),
    forcePathStyle: options.pathStyle ?? endpoint !== undefined,
    maxAttempts: options.attempts ?? 4,
    retryMode: "standard",
    // Checksums are ours: the SDK's default would frame streams as aws-chunked, which some gateways store as content.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // Its wait for "100 Continue" costs a round trip per part, and with it a connection is never used again.
    expectContinueHeader: false,
    followRegionRedirects: false,
  };
  const writer = new S3Client({
    ...common,
    requestHandler: { ...agents, connectionTimeout, socketTimeout: idleTimeoutMs },
  });
  const reader = new S3Client({
    ...common,
    requestHandler: { ...agents, connectionTimeout, requestTimeout: idleTimeoutMs, throwOnRequestTimeout: true },
  });
  if (checksums === "crc32c") writer.middlewareStack.add(unsignedPayload, { step: "build", name: "unsignedPayload" });

  return {
    bucket,
    root: prefix === "" ? "" : `${prefix}/`,
    description: `s3://${bucket}${prefix === "" ? "" : `/${prefix}`}`,
    checksums,
    partBytes: options.partBytes ?? 6 * 1024 * 1024,
    partsInFlight: options.partsInFlight ?? 3,
    idleTimeoutMs,
    retryBudgetMs: options.retryBudgetMs ?? 10 * 60_000,
    writer,
    reader,
    ask: async (signal, send) => {
      const keys = await file?.();
      // Node keeps connections by what they trust, so none that was made under other certificates is used again.
      if (trust !== undefined) httpsAgent.options.ca = await trust();
      try {
        return await untilAborted(signal, send);
      } catch (error) {
        // Keys that were replaced while the request was under way: the next one is signed with the new ones.
        if (file === undefined || error instanceof Fault || meaningOf(error) !== "denied" || (await file()) === keys)
          throw error;
        return await untilAborted(signal, send);
      }
    },
    translate: async (what, signal, operation) => {
      throwIfAborted(signal);
      try {
        return await operation();
      } catch (error) {
        const inner = unwrapSourceError(error);
        if (inner !== error || isBug(error)) throw inner;
        throw s3Fault(error, { bucket, endpoint }, what, signal);
      }
    },
  };
}

/**
 * A pause before another try, growing and with full jitter; false when there were enough of them.
 * One of these is one budget, counted from its first use, shared by all requests that get it.
 */
export function openPatience(tries: number, budgetMs: number): (signal: AbortSignal) => Promise<boolean> {
  let used = 0;
  let sinceMs: number | undefined;
  return async (signal) => {
    sinceMs ??= performance.now();
    if (used >= tries || performance.now() - sinceMs >= budgetMs) return false;
    const pauseMs = Math.random() * Math.min(20_000, 100 * 2 ** used);
    used += 1;
    await sleep(pauseMs, undefined, { signal }).catch(() => throwIfAborted(signal));
    return true;
  };
}

/** Passes a signal of its own on, since the SDK leaves listeners on the one that it gets, and rejects at once when aborted. */
async function untilAborted<T>(signal: AbortSignal, send: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
  throwIfAborted(signal);
  const own = new AbortController();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      own.abort();
      reject(abortFault(signal));
    };
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([send(own.signal), aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

interface BuildArguments {
  readonly request: unknown;
}

/**
 * The CRC-32C is a signed header, so the payload need not be hashed a second time with SHA-256 for the signature
 * (measured: a third of an upload's CPU time over plain HTTP).
 */
function unsignedPayload<T extends BuildArguments, R>(next: (args: T) => Promise<R>): (args: T) => Promise<R> {
  return async (args) => {
    const headers = headersOf(args.request);
    if (headers?.["x-amz-checksum-crc32c"] !== undefined && headers["content-length"] !== undefined) {
      headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
    }
    return await next(args);
  };
}

/** The headers of a request that the SDK is building; undefined when it has another shape than expected. */
export function headersOf(request: unknown): Record<string, string> | undefined {
  if (typeof request !== "object" || request === null || !("headers" in request)) return undefined;
  return request.headers as Record<string, string>;
}

/** Whether an error is a mistake of ours, and no answer. */
export function isBug(error: unknown): boolean {
  const ours = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
  return ours && !("$metadata" in error) && !("code" in error);
}

function fileOf({ credentials }: S3Options): (() => Promise<S3Keys>) | undefined {
  if (credentials === undefined || !("file" in credentials)) return undefined;
  return openCredentialsFile(credentials.file, credentials.profile);
}

function credentialsOf({ credentials }: S3Options, file: (() => Promise<S3Keys>) | undefined): S3ClientConfig {
  // `memoized` keeps the SDK from caching what the file says for ever.
  if (file !== undefined) return { credentials: Object.assign(async () => await file(), { memoized: true }) };
  if (credentials === undefined || "file" in credentials) return {};
  return { credentials };
}

/** Never asks the instance metadata service for it: on other machines that is a long wait for nothing. */
function regionOf({ region, endpoint }: S3Options): S3ClientConfig {
  const known = region ?? process.env["AWS_REGION"] ?? process.env["AWS_DEFAULT_REGION"];
  const custom = endpoint ?? process.env["AWS_ENDPOINT_URL_S3"] ?? process.env["AWS_ENDPOINT_URL"];
  if (known !== undefined && known !== "") return { region: known };
  return custom === undefined ? {} : { region: "us-east-1" };
}

/**
 * The certificates in a file as they are now. It must be readable at first; later what was read last is kept while the file cannot be
 * read or holds no certificate, since a renewal may take it away or empty it for a moment.
 */
function openCaFile(path: string): () => Promise<Buffer> {
  let pem: Buffer;
  try {
    pem = readFileSync(path);
  } catch (error) {
    throw new Fault("config-invalid", `the store's ca file ${path} cannot be read`, { cause: error });
  }
  return async () => {
    // Read instead of comparing times: a replacement within the clock's grain has the same, and the file is small.
    const now = await readFile(path).catch(() => pem);
    if (now.includes("-----END CERTIFICATE-----") && !now.equals(pem)) pem = now;
    return pem;
  };
}
