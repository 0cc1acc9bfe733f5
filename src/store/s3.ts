import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { Fault, abortFault, isFault, throwIfAborted } from "../faults.ts";
import { crc32c, crc32cFromBase64, crc32cToBase64 } from "./crc32c.ts";
import { connect, headersOf, openPatience } from "./s3-client.ts";
import type { Connection, S3Options } from "./s3-client.ts";
import { attemptsOf, isNameless, meaningOf } from "./s3-faults.ts";
import { uploadObject } from "./s3-upload.ts";
import { isObjectName, maximumDocumentBytes } from "./store.ts";
import type { ObjectEntry, ObjectHead, Store } from "./store.ts";

export type { S3Options } from "./s3-client.ts";

/**
 * Objects in an S3 bucket. Create-only is `If-None-Match: *`, decided by the server. What a lost answer leaves open is settled
 * by looking at the object: when it is what we sent, we wrote it.
 */
export function openS3Store(options: S3Options): Store {
  const connection = connect(options);
  const objects = new Objects(connection);
  const run = async <T>(verb: string, name: string, signal: AbortSignal, act: () => Promise<T>): Promise<T> => {
    if (!isObjectName(name) || connection.root.length + name.length > 1000) throw badName(name);
    return await connection.translate(`${verb} ${connection.description}/${name}`, signal, act);
  };
  return {
    description: connection.description,
    create: async (name, body, signal) =>
      await run("write", name, signal, async () => await objects.create(name, body, signal)),
    upload: async (name, source, signal) =>
      await run("upload", name, signal, async () => {
        return await uploadObject(connection, objects, name, source, signal);
      }),
    read: async (name, signal) => await run("read", name, signal, async () => await objects.read(name, signal)),
    download: (name, signal) => translated(run, name, signal, objects.download(name, signal)),
    head: async (name, signal) => await run("look at", name, signal, async () => await objects.head(name, signal)),
    list: (prefix, signal) => objects.list(prefix, signal),
    remove: async (name, signal) => await run("remove", name, signal, async () => await objects.remove(name, signal)),
    sweep: async (olderThanMs, signal) =>
      await connection.translate(`sweep ${connection.description}`, signal, async () => {
        return await objects.sweep(olderThanMs, signal);
      }),
  };
}

async function* translated(
  run: <T>(verb: string, name: string, signal: AbortSignal, act: () => Promise<T>) => Promise<T>,
  name: string,
  signal: AbortSignal,
  body: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const next = await run("read", name, signal, async () => await body.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await body.return(undefined);
  }
}

/** The single requests; they reject with the SDK's errors, which `Connection.translate` turns into faults. */
export class Objects {
  readonly #connection: Connection;
  /** An answer to HEAD has no body, so it cannot say whether the object or the bucket is missing. */
  #bucketSeen = false;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async create(name: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    if (body.length > maximumDocumentBytes) throw tooLarge(name, body.length);
    const again = openPatience(6, 60_000);
    for (;;) {
      try {
        await this.put(name, body, signal);
        return;
      } catch (error) {
        const meaning = meaningOf(error);
        if (signal.aborted || (meaning !== "taken" && meaning !== "conflict" && meaning !== "unknown")) throw error;
        const found = meaning === "conflict" ? undefined : await this.#readIfThere(name, signal, error);
        if (found !== undefined && Buffer.compare(found, body) === 0) return;
        if (found !== undefined) throw new Fault("store-exists", `${name} exists already, with other bytes`);
        // Nothing there: a conflict, or an object that was removed between our two requests. The SDK has tried the rest often enough.
        if (meaning === "unknown" || !(await again(signal))) throw error;
      }
    }
  }

  /** One create-only PutObject. */
  async put(name: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    const { ask, bucket, writer } = this.#connection;
    const input = { Bucket: bucket, Key: this.key(name), Body: body, ContentLength: body.length, IfNoneMatch: "*" };
    const command = new PutObjectCommand({ ...input, ...this.integrity(body) });
    await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
  }

  /** What proves to the server that a body arrived as it was sent. */
  integrity(body: Uint8Array, crc?: number): { ChecksumCRC32C: string } | { ContentMD5: string } {
    if (this.#connection.checksums === "crc32c") return { ChecksumCRC32C: crc32cToBase64(crc ?? crc32c(body)) };
    return { ContentMD5: createHash("md5").update(body).digest("base64") };
  }

  key(name: string): string {
    return this.#connection.root + name;
  }

  async read(name: string, signal: AbortSignal): Promise<Uint8Array> {
    const again = openPatience(2, this.#connection.idleTimeoutMs);
    for (;;) {
      try {
        return await this.#readOnce(name, signal);
      } catch (error) {
        // Only a body that broke off or arrived altered: the SDK has repeated everything else already.
        if (!isFault(error, "store-unreachable", "store-damaged") || !(await again(signal))) throw error;
      }
    }
  }

  async #readOnce(name: string, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#get(name, signal, true);
    const chunks: Uint8Array[] = [];
    if ((answer.ContentLength ?? 0) > maximumDocumentBytes) {
      bodyOf(answer).destroy();
      throw tooLarge(name, answer.ContentLength ?? 0);
    }
    for await (const chunk of watched(answer, name, this.#connection.idleTimeoutMs, signal)) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const expected = fullChecksum(answer);
    if (expected !== undefined && crc32c(bytes) !== expected) {
      throw new Fault("store-damaged", `${name} did not arrive with the checksum that the store has for it`);
    }
    return bytes;
  }

  async #readIfThere(name: string, signal: AbortSignal, why: unknown): Promise<Uint8Array | undefined> {
    try {
      return await this.read(name, signal);
    } catch (error) {
      if (meaningOf(error) === "no-object") return undefined;
      // An object that is too large to be ours; else the first trouble says more than that of the second look.
      if (isFault(error, "store-damaged")) throw new Fault("store-exists", `${name} exists already, with other bytes`);
      throw why;
    }
  }

  async *download(name: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const answer = await this.#get(name, signal, false);
    yield* watched(answer, name, this.#connection.idleTimeoutMs, signal);
  }

  async #get(name: string, signal: AbortSignal, withChecksum: boolean): Promise<GetObjectCommandOutput> {
    const { ask, bucket, reader } = this.#connection;
    const command = new GetObjectCommand({ Bucket: bucket, Key: this.key(name) });
    // Asked for by header, since the SDK's own check of the body is slow and hides stalls.
    if (withChecksum) {
      command.middlewareStack.add(
        (next) => async (args) => {
          const headers = headersOf(args.request);
          if (headers !== undefined) headers["x-amz-checksum-mode"] = "ENABLED";
          return await next(args);
        },
        { step: "build", name: "checksumMode" },
      );
    }
    return await ask(signal, async (abortSignal) => await reader.send(command, { abortSignal }));
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectHead | undefined> {
    const { ask, bucket, writer, checksums } = this.#connection;
    const mode = checksums === "crc32c" ? ({ ChecksumMode: "ENABLED" } as const) : {};
    const command = new HeadObjectCommand({ Bucket: bucket, Key: this.key(name), ...mode });
    try {
      const answer = await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
      this.#bucketSeen = true;
      if (answer.ContentLength === undefined) throw withoutLength(name);
      return { storedBytes: answer.ContentLength, crc32c: fullChecksum(answer) };
    } catch (error) {
      const missing = meaningOf(error) === "no-object";
      if (missing && this.#bucketSeen) return undefined;
      if (!missing && !isNameless(error)) throw error;
      await this.#page(this.key(name), undefined, 1, signal); // throws what HEAD could not say
      if (missing) return undefined;
      throw error;
    }
  }

  async *list(prefix: string, signal: AbortSignal): AsyncGenerator<ObjectEntry> {
    const { root, translate, description } = this.#connection;
    let token: string | undefined;
    let last: string | undefined;
    do {
      const page = await translate(`list ${description}`, signal, async () => {
        return await this.#page(root + prefix, token, 1000, signal);
      });
      for (const { Key: key, Size: size, LastModified: modified } of page.Contents ?? []) {
        throwIfAborted(signal);
        if (key?.startsWith(root + prefix) !== true) continue;
        const name = key.slice(root.length);
        if (!isObjectName(name) || size === undefined || modified === undefined) continue;
        if (last !== undefined && name <= last) {
          throw new Fault("store-refused", `${description} lists ${name} after ${last}: not in byte order`);
        }
        last = name;
        yield { name, storedBytes: size, modifiedMs: modified.getTime() };
      }
      const following = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      if (page.IsTruncated === true && (following === undefined || following === token)) {
        throw new Fault("store-refused", `${description} gives a listing without an end`);
      }
      token = following;
    } while (token !== undefined);
  }

  async #page(prefix: string, token: string | undefined, limit: number, signal: AbortSignal) {
    const { ask, bucket, writer } = this.#connection;
    const more = token === undefined ? {} : { ContinuationToken: token };
    const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: limit, ...more });
    const page = await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
    this.#bucketSeen = true;
    return page;
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    const { ask, bucket, writer } = this.#connection;
    const command = new DeleteObjectCommand({ Bucket: bucket, Key: this.key(name) });
    try {
      await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
    } catch (error) {
      if (meaningOf(error) !== "no-object") throw error;
    }
  }

  /** Aborts unfinished uploads below our prefix that were begun long enough ago by the server's own clock (its Date header). */
  async sweep(olderThanMs: number, signal: AbortSignal): Promise<number> {
    const { ask, bucket, root, writer } = this.#connection;
    let swept = 0;
    let marker: { readonly KeyMarker: string; readonly UploadIdMarker?: string } | undefined;
    for (;;) {
      let nowMs = Date.now();
      const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: root, ...marker });
      command.middlewareStack.add(
        (next) => async (args) => {
          const result = await next(args);
          nowMs = Date.parse(headersOf(result.response)?.["date"] ?? "") || nowMs;
          return result;
        },
        { step: "deserialize", name: "serverDate", priority: "low" },
      );
      const page = await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
      for (const { Key: key, UploadId: uploadId, Initiated: initiated } of page.Uploads ?? []) {
        if (key === undefined || uploadId === undefined || initiated === undefined) continue;
        if (!key.startsWith(root) || !isObjectName(key.slice(root.length))) continue;
        if (nowMs - initiated.getTime() < olderThanMs) continue;
        if (await this.abandon(key, uploadId, signal)) swept += 1;
      }
      const next = page.NextKeyMarker;
      if (page.IsTruncated !== true || next === undefined || next === "") return swept;
      const nextUpload = page.NextUploadIdMarker;
      if (next === marker?.KeyMarker && nextUpload === marker.UploadIdMarker) {
        throw new Fault("store-refused", `${this.#connection.description} lists unfinished uploads without an end`);
      }
      marker = {
        KeyMarker: next,
        ...(nextUpload === undefined || nextUpload === "" ? {} : { UploadIdMarker: nextUpload }),
      };
    }
  }

  /** Aborts a multipart upload; false when it is gone already. */
  async abandon(key: string, uploadId: string, signal: AbortSignal): Promise<boolean> {
    const { ask, bucket, writer } = this.#connection;
    const command = new AbortMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId: uploadId });
    try {
      await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
      return true;
    } catch (error) {
      const meaning = meaningOf(error);
      if (meaning === "no-upload" || meaning === "no-object") return attemptsOf(error) > 1;
      throw error;
    }
  }
}

/**
 * The bytes of a body, exactly as many as announced. The time without a byte is only counted while we wait for one: a consumer
 * may be as slow as it likes. Ending early destroys the connection.
 */
async function* watched(
  answer: GetObjectCommandOutput,
  name: string,
  idleTimeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const body = bodyOf(answer);
  const expected = answer.ContentLength;
  const onAbort = (): void => void body.destroy(abortFault(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  let timer: NodeJS.Timeout | undefined;
  try {
    throwIfAborted(signal);
    if (expected === undefined) throw withoutLength(name);
    const stalled = (): void => {
      body.destroy(new Fault("store-unreachable", `${name}: no byte arrived for ${idleTimeoutMs} ms`));
    };
    let arrived = 0;
    timer = setTimeout(stalled, idleTimeoutMs);
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      clearTimeout(timer);
      arrived += chunk.length;
      yield chunk;
      timer = setTimeout(stalled, idleTimeoutMs);
    }
    if (arrived !== expected) throw brokenOff(name, arrived, expected);
  } catch (error) {
    throwIfAborted(signal);
    if (error instanceof Fault || expected === undefined) throw error;
    throw brokenOff(name, undefined, expected, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    body.destroy();
  }
}

function bodyOf(answer: GetObjectCommandOutput): Readable {
  if (answer.Body instanceof Readable) return answer.Body;
  throw new TypeError("the SDK gave a body that is not a Node stream");
}

/** The checksum over all bytes; one over the checksums of parts says nothing that can be compared. */
function fullChecksum(answer: {
  readonly ChecksumCRC32C?: string | undefined;
  readonly ChecksumType?: string | undefined;
}): number | undefined {
  if (answer.ChecksumCRC32C === undefined || answer.ChecksumType === "COMPOSITE") return undefined;
  return crc32cFromBase64(answer.ChecksumCRC32C);
}

function brokenOff(name: string, arrived: number | undefined, expected: number, cause?: unknown): Fault {
  const got = arrived === undefined ? "before all" : `after ${arrived} of`;
  return new Fault("store-unreachable", `${name}: the connection ended ${got} ${expected} bytes`, { cause });
}

function withoutLength(name: string): Fault {
  return new Fault(
    "store-refused",
    `${name}: the store does not say how long it is, so its end cannot be told from a broken connection`,
    {
      hint: "is there a proxy in between that compresses or re-frames answers?",
    },
  );
}

function tooLarge(name: string, bytes: number): Fault {
  return new Fault("store-damaged", `${name} has ${bytes} bytes, a document has at most ${maximumDocumentBytes}`);
}

function badName(name: string): Fault {
  return new Fault("store-refused", `not an object name: ${JSON.stringify(name.slice(0, 80))}`);
}
