import { createHash } from "node:crypto";
import { CompleteMultipartUploadCommand, CreateMultipartUploadCommand, UploadPartCommand } from "@aws-sdk/client-s3";
import type { CompletedPart } from "@aws-sdk/client-s3";
import { Fault, abortFault, throwIfAborted } from "../faults.ts";
import { combineCrc32c, crc32c, crc32cFromBase64, crc32cToBase64 } from "../crc32c.ts";
import { openPatience } from "./s3-client.ts";
import type { Connection } from "./s3-client.ts";
import { attemptsOf, meaningOf, writeMeaningOf } from "./s3-faults.ts";
import type { Meaning } from "./s3-faults.ts";
import type { Objects } from "./s3-objects.ts";
import { pull } from "./source.ts";
import type { Uploaded } from "./store.ts";

/** After so many parts of one size the size doubles: from 6 MiB on, 10 000 parts hold more than S3's largest object. */
const partsOfOneSize = 1000;
/** How long tidying up may take; what it leaves is swept later. */
const abandonTimeoutMs = 10_000;

/**
 * Uploads a stream of unknown length: in one request when it fits into a part, else as a multipart upload that becomes visible
 * by its completion. Every part carries its CRC-32C, and the completion that of the whole object where the server knows such.
 */
export async function uploadObject(
  connection: Connection,
  objects: Objects,
  name: string,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Uploaded> {
  // Any part that fails ends the wait for the source, and the other parts.
  const own = new AbortController();
  const onAbort = (): void => own.abort(abortFault(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  const upload = new Upload(connection, objects, name, own);
  try {
    throwIfAborted(signal);
    await upload.run(source);
    return upload.uploaded();
  } catch (error) {
    own.abort(error);
    await upload.abandon();
    throw upload.firstTrouble ?? error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

interface Part {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly crc: number;
}

interface Patience {
  /** For trouble of the network and the store. */
  readonly again: (signal: AbortSignal) => Promise<boolean>;
  /** For answers that seldom become better. */
  readonly fewTimes: (signal: AbortSignal) => Promise<boolean>;
}

class Upload {
  readonly #connection: Connection;
  readonly #objects: Objects;
  readonly #name: string;
  readonly #own: AbortController;
  readonly #sha256 = createHash("sha256");
  #sha256Hex = "";
  #storedBytes = 0;
  #crc = 0;
  #uploadId: string | undefined;
  /** True when the server said that it keeps one checksum over the whole object. */
  #fullChecksum = false;
  /** True once the object may be there although we were never told. */
  #unsure = false;
  readonly #sending = new Set<Promise<void>>();
  readonly #sent: CompletedPart[] = [];
  readonly #idle: Buffer[] = [];
  /** Why a part failed: the cause of everything that fails after it. */
  firstTrouble: unknown;

  constructor(connection: Connection, objects: Objects, name: string, own: AbortController) {
    this.#connection = connection;
    this.#objects = objects;
    this.#name = name;
    this.#own = own;
  }

  uploaded(): Uploaded {
    return { storedBytes: this.#storedBytes, sha256: this.#sha256Hex, crc32c: this.#crc };
  }

  async run(source: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const { part, last } of this.#parts(source)) {
      this.#crc = combineCrc32c(this.#crc, part.crc, part.bytes.length);
      this.#storedBytes += part.bytes.length;
      if (last) this.#sha256Hex = this.#sha256.digest("hex");
      if (last && part.number === 1) {
        await this.#whole(part);
        return;
      }
      if (part.number === 1) await this.#begin();
      await this.#room();
      this.#send(part);
    }
    await Promise.all(this.#sending);
    throwIfAborted(this.#own.signal);
    await this.#complete();
  }

  /** Gathers chunks of any size into parts; whether one is the last is known only when the source has ended. */
  async *#parts(source: AsyncIterable<Uint8Array>): AsyncGenerator<{ part: Part; last: boolean }> {
    let number = 1;
    let buffer = this.#buffer(number);
    let filled = 0;
    const part = (): Part => {
      const bytes = buffer.subarray(0, filled);
      return { number, bytes, crc: crc32c(bytes) };
    };
    for await (const chunk of pull(source, this.#own.signal)) {
      this.#sha256.update(chunk);
      for (let at = 0; at < chunk.length;) {
        if (filled === buffer.length) {
          yield { part: part(), last: false };
          number += 1;
          buffer = this.#buffer(number);
          filled = 0;
        }
        const piece = chunk.subarray(at, at + buffer.length - filled);
        buffer.set(piece, filled);
        filled += piece.length;
        at += piece.length;
      }
    }
    yield { part: part(), last: true };
  }

  #buffer(number: number): Buffer {
    const bytes = this.#connection.partBytes * 2 ** Math.floor((number - 1) / partsOfOneSize);
    const idle = this.#idle.pop();
    return idle?.length === bytes ? idle : Buffer.allocUnsafeSlow(bytes);
  }

  /** Everything in one request; the answers mean the same as for the completion. */
  async #whole(part: Part): Promise<void> {
    const patience = this.#patience();
    for (;;) {
      try {
        await this.#objects.put(this.#name, part.bytes, this.#own.signal);
        return;
      } catch (error) {
        if (await this.#settled(error, patience)) return;
      }
    }
  }

  async #begin(): Promise<void> {
    const { ask, bucket, checksums, writer } = this.#connection;
    const kind = checksums === "crc32c" ? ({ ChecksumAlgorithm: "CRC32C", ChecksumType: "FULL_OBJECT" } as const) : {};
    const command = new CreateMultipartUploadCommand({ Bucket: bucket, Key: this.#objects.key(this.#name), ...kind });
    const signal = this.#own.signal;
    const answer = await this.#patiently(async () => {
      return await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
    });
    if (answer.UploadId === undefined)
      throw new Fault("store-refused", `${this.#name}: the store began an upload without an id`);
    this.#uploadId = answer.UploadId;
    this.#fullChecksum = checksums === "crc32c" && answer.ChecksumType === "FULL_OBJECT";
  }

  async #room(): Promise<void> {
    while (this.#sending.size >= this.#connection.partsInFlight) await Promise.race(this.#sending);
    throwIfAborted(this.#own.signal);
  }

  #send(part: Part): void {
    const sending = this.#sendPart(part)
      .then(() => {
        this.#idle.push(Buffer.from(part.bytes.buffer));
      })
      .catch((error: unknown) => {
        if (this.#own.signal.aborted) return; // it failed because something else did
        this.firstTrouble = error;
        this.#own.abort(new Fault("store-refused", `${this.#name}: a part failed`, { cause: error }));
      })
      .finally(() => this.#sending.delete(sending));
    this.#sending.add(sending);
  }

  async #sendPart({ number, bytes, crc }: Part): Promise<void> {
    const { ask, bucket, writer } = this.#connection;
    const integrity = this.#objects.integrity(bytes, crc);
    const command = new UploadPartCommand({
      Bucket: bucket,
      Key: this.#objects.key(this.#name),
      UploadId: this.#uploadId,
      PartNumber: number,
      Body: bytes,
      ContentLength: bytes.length,
      ...integrity,
    });
    const signal = this.#own.signal;
    const answer = await this.#patiently(async () => {
      const sent = await ask(signal, async (abortSignal) => await writer.send(command, { abortSignal }));
      if (sent.ChecksumCRC32C !== undefined && crc32cFromBase64(sent.ChecksumCRC32C) !== crc) {
        throw new Fault("store-damaged", `${this.#name}: the store has other bytes of part ${number} than were sent`);
      }
      return sent;
    });
    if (answer.ETag === undefined)
      throw new Fault("store-refused", `${this.#name}: the store took part ${number} without an ETag`);
    const checksum = "ChecksumCRC32C" in integrity ? integrity : {};
    this.#sent.push({ PartNumber: number, ETag: answer.ETag, ...checksum });
  }

  /**
   * One budget per step (the beginning, each part, the completion), from that step's first trouble: an upload of hours outlives any
   * number of short troubles, while a part that never succeeds ends it although its neighbours do.
   */
  #patience(): Patience {
    const { retryBudgetMs } = this.#connection;
    return { again: openPatience(32, retryBudgetMs), fewTimes: openPatience(5, retryBudgetMs) };
  }

  /** Repeats what may be repeated as often as the budget allows: the SDK's own few attempts end within seconds. */
  async #patiently<T>(act: () => Promise<T>, patience = this.#patience()): Promise<T> {
    for (;;) {
      try {
        return await act();
      } catch (error) {
        const meaning = error instanceof Fault && error.code === "store-damaged" ? "damaged" : meaningOf(error);
        if (this.#own.signal.aborted || !(await this.#worthAnotherTry(meaning, patience))) throw error;
      }
    }
  }

  async #worthAnotherTry(meaning: Meaning, patience: Patience): Promise<boolean> {
    if (meaning === "unknown") return await patience.again(this.#own.signal);
    if (meaning === "conflict" || meaning === "damaged") return await patience.fewTimes(this.#own.signal);
    return false;
  }

  async #complete(): Promise<void> {
    const { ask, bucket, checksums, writer } = this.#connection;
    const whole = this.#fullChecksum
      ? ({ ChecksumCRC32C: crc32cToBase64(this.#crc), ChecksumType: "FULL_OBJECT" } as const)
      : {};
    const command = new CompleteMultipartUploadCommand({
      Bucket: bucket,
      Key: this.#objects.key(this.#name),
      UploadId: this.#uploadId,
      MultipartUpload: { Parts: this.#sent.toSorted((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0)) },
      IfNoneMatch: "*",
      ...(checksums === "crc32c" ? { MpuObjectSize: this.#storedBytes } : {}),
      ...whole,
    });
    const patience = this.#patience();
    for (;;) {
      try {
        const answer = await ask(this.#own.signal, async (abortSignal) => await writer.send(command, { abortSignal }));
        if (answer.ETag === undefined)
          throw new Fault("store-unreachable", `${this.#name}: the store's answer ended early`);
        this.#uploadId = undefined;
        return;
      } catch (error) {
        if (await this.#settled(error, patience)) return;
      }
    }
  }

  /**
   * What the failure of the request that makes the object visible means: true when the object is there and is ours, false when
   * the request may be repeated. Throws otherwise.
   */
  async #settled(error: unknown, patience: Patience): Promise<boolean> {
    const signal = this.#own.signal;
    const meaning = writeMeaningOf(error);
    if (signal.aborted) throw error;
    if (meaning === "conflict" || meaning === "damaged") {
      this.#unsure ||= meaning === "conflict";
      if (await this.#worthAnotherTry(meaning, patience)) return false;
      throw error;
    }
    if (meaning !== "taken" && meaning !== "unknown" && meaning !== "no-upload") throw error;
    this.#unsure ||= meaning === "unknown" || attemptsOf(error) > 1;
    if (!this.#unsure) throw meaning === "taken" ? this.#exists() : error;
    const found = await this.#patiently(async () => await this.#compare(), patience);
    if (found === "ours") {
      if (meaning === "taken") await this.abandon();
      return true;
    }
    if (found === "foreign") throw this.#exists();
    if (await this.#worthAnotherTry(meaning, patience)) return false;
    throw error;
  }

  async #compare(): Promise<"ours" | "foreign" | "nothing"> {
    const signal = this.#own.signal;
    const head = await this.#objects.head(this.#name, signal);
    if (head === undefined) return "nothing";
    if (head.storedBytes !== this.#storedBytes) return "foreign";
    if (head.crc32c !== undefined) return head.crc32c === this.#crc ? "ours" : "foreign";
    const sha256 = createHash("sha256");
    for await (const chunk of this.#objects.download(this.#name, signal)) sha256.update(chunk);
    return sha256.digest("hex") === this.#sha256Hex ? "ours" : "foreign";
  }

  #exists(): Fault {
    return new Fault("store-exists", `${this.#name} exists already`);
  }

  /** Ends an upload that failed, within bounds; when it cannot, `sweep` finds it later. */
  async abandon(): Promise<void> {
    // A part that still arrives after the abort would stay, and be paid for.
    await Promise.allSettled(this.#sending);
    if (this.#uploadId === undefined) return;
    const key = this.#objects.key(this.#name);
    await this.#objects.abandon(key, this.#uploadId, AbortSignal.timeout(abandonTimeoutMs)).catch(() => false);
  }
}
