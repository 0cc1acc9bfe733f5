import { createHash } from "node:crypto";
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import type { GetObjectCommandOutput, HeadObjectCommandOutput } from "@aws-sdk/client-s3";
import { Fault, isFault, throwIfAborted } from "../faults.ts";
import { crc32c, crc32cFromBase64, crc32cToBase64 } from "../crc32c.ts";
import { bodyOf, watched, withoutLength } from "./s3-body.ts";
import { headersOf, openPatience } from "./s3-client.ts";
import type { Connection } from "./s3-client.ts";
import { attemptsOf, isNameless, meaningOf, writeMeaningOf } from "./s3-faults.ts";
import { isObjectName, maximumDocumentBytes } from "./store.ts";
import type { NameRange, ObjectEntry, ObjectHead } from "./store.ts";

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
        const meaning = writeMeaningOf(error);
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
      return { storedBytes: answer.ContentLength, crc32c: fullChecksum(answer), lockedUntilMs: lockOf(answer) };
    } catch (error) {
      const missing = meaningOf(error) === "no-object";
      if (missing && this.#bucketSeen) return undefined;
      if (!missing && !isNameless(error)) throw error;
      await this.#page(this.key(name), {}, 1, signal); // throws what HEAD could not say
      if (missing) return undefined;
      throw error;
    }
  }

  async *list(range: string | NameRange, signal: AbortSignal): AsyncGenerator<ObjectEntry> {
    const { root, translate, description } = this.#connection;
    const { prefix, after } = typeof range === "string" ? { prefix: range, after: undefined } : range;
    let token: string | undefined;
    let last: string | undefined;
    do {
      const page = await translate(`list ${description}`, signal, async () => {
        return await this.#page(root + prefix, { token, after: after && root + after }, 1000, signal);
      });
      for (const { Key: key, Size: size, LastModified: modified, ETag: tag } of page.Contents ?? []) {
        throwIfAborted(signal);
        if (key?.startsWith(root + prefix) !== true) continue;
        const name = key.slice(root.length);
        if (!isObjectName(name) || size === undefined || modified === undefined) continue;
        // A gateway may not know StartAfter.
        if (after !== undefined && name <= after) continue;
        if (last !== undefined && name <= last) {
          throw new Fault("store-refused", `${description} lists ${name} after ${last}: not in byte order`);
        }
        last = name;
        // Some gateways tell an empty one.
        yield {
          name,
          storedBytes: size,
          modifiedMs: modified.getTime(),
          tag: tag === '""' || tag === "" ? undefined : tag,
        };
      }
      const following = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      if (page.IsTruncated === true && (following === undefined || following === token)) {
        throw new Fault("store-refused", `${description} gives a listing without an end`);
      }
      token = following;
    } while (token !== undefined);
  }

  async #page(
    prefix: string,
    from: { readonly token?: string | undefined; readonly after?: string | undefined },
    limit: number,
    signal: AbortSignal,
  ) {
    const { ask, bucket, writer } = this.#connection;
    const command = new ListObjectsV2Command({
      Bucket: bucket,
      Prefix: prefix,
      MaxKeys: limit,
      ContinuationToken: from.token,
      // A page that is continued knows where it began.
      StartAfter: from.token === undefined ? from.after : undefined,
    });
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

  /** The Date header of the smallest listing. */
  async now(signal: AbortSignal): Promise<number | undefined> {
    const { ask, bucket, root, writer } = this.#connection;
    const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: root, MaxKeys: 1 });
    let nowMs = Number.NaN;
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        nowMs = Date.parse(headersOf(result.response)?.["date"] ?? "");
        return result;
      },
      { step: "deserialize", name: "serverDate", priority: "low" },
    );
    await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
    return Number.isNaN(nowMs) ? undefined : nowMs;
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

/** What HEAD says of an object lock; a key without the right to see it is told nothing. */
function lockOf(answer: HeadObjectCommandOutput): number | undefined {
  if (answer.ObjectLockLegalHoldStatus === "ON") return Infinity;
  return answer.ObjectLockRetainUntilDate?.getTime();
}

/** The checksum over all bytes; one over the checksums of parts says nothing that can be compared. */
function fullChecksum(answer: {
  readonly ChecksumCRC32C?: string | undefined;
  readonly ChecksumType?: string | undefined;
}): number | undefined {
  if (answer.ChecksumCRC32C === undefined || answer.ChecksumType === "COMPOSITE") return undefined;
  return crc32cFromBase64(answer.ChecksumCRC32C);
}

function tooLarge(name: string, bytes: number): Fault {
  return new Fault("store-damaged", `${name} has ${bytes} bytes, a document has at most ${maximumDocumentBytes}`);
}
