import { availableParallelism } from "node:os";
import { constants, createZstdCompress, zstdDecompress } from "node:zlib";
import { Fault, throwIfAborted } from "../faults.ts";
import { lendPieces, readStream, release } from "./blocks.ts";
import type { BlockSource } from "./blocks.ts";
import { frameProblem } from "./zstd-frame.ts";

/** One independent zstd frame of a stored object: what goes in and what it takes; a manifest lists them in order. */
export interface Frame {
  readonly plainBytes: number;
  readonly storedBytes: number;
}

/** Measured on 1.1 GB: as small and as fast as 4 MiB, with 13 MB less memory; a manifest says 18 bytes of each. */
export const defaultFrameBytes = 2 * 1024 * 1024;

/** A frame is decoded in memory as a whole; a larger one in a manifest is damage or an attack. */
export const maximumFrameBytes = 64 * 1024 * 1024;

/** libuv's pool has four threads unless told otherwise; more jobs than cores or threads only wait. */
const defaultConcurrency = Math.min(availableParallelism(), 4);

export interface CompressOptions {
  /** zstd's own levels, 1 to 19 (22 costs memory). */
  readonly level: number;
  readonly frameBytes?: number | undefined;
  readonly concurrency?: number | undefined;
}

/** Compressed bytes in order, and once they have ended, the frames that they consist of. */
export interface CompressedFrames {
  /** Each chunk is lent: it is gone when the next one is asked for. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Grows while `bytes` is consumed; complete when it has ended. */
  readonly frames: readonly Frame[];
}

/**
 * Compresses a source as independent zstd frames of `frameBytes` each (the last is shorter; an empty source makes one empty
 * frame), in the thread pool, several at once. Each frame carries its content size and checksum, and stock `zstd -d` reads
 * them all as one stream. At most `concurrency` + 1 blocks of input are held. The source is closed at the end, whatever the end is.
 */
export function compressFrames(
  source: AsyncIterable<Uint8Array> | BlockSource,
  options: CompressOptions,
  signal: AbortSignal,
): CompressedFrames {
  const frames: Frame[] = [];
  const blocks = "fill" in source ? source : readStream(source);
  return { bytes: compressBlocks(blocks, options, frames, signal), frames };
}

interface Compression {
  readonly block: Uint8Array;
  readonly plainBytes: number;
  readonly done: Promise<Settled<Uint8Array>>;
}

async function* compressBlocks(
  blocks: BlockSource,
  { level, frameBytes = defaultFrameBytes, concurrency = defaultConcurrency }: CompressOptions,
  frames: Frame[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const spares: Uint8Array[] = [];
  const running: Compression[] = [];
  try {
    for (let ended = false; !ended || running.length > 0;) {
      throwIfAborted(signal);
      if (!ended) {
        const block = spares.pop() ?? Buffer.allocUnsafeSlow(frameBytes);
        const plainBytes = await blocks.fill(block, signal);
        ended = plainBytes < frameBytes;
        if (plainBytes > 0 || (frames.length === 0 && running.length === 0)) {
          running.push({ block, plainBytes, done: settle(compressFrame(block.subarray(0, plainBytes), level)) });
        }
        if (!ended && running.length <= concurrency) continue;
      }
      const first = running.shift();
      if (first === undefined) break;
      const stored = unwrap(await first.done);
      spares.push(first.block);
      frames.push({ plainBytes: first.plainBytes, storedBytes: stored.length });
      yield* lendPieces(stored, signal);
    }
  } finally {
    // The pool still reads from these buffers: nothing is let go of before it is through.
    await Promise.all(running.map((job) => job.done));
    await blocks.close();
  }
}

/** Compresses one block into one frame, in the thread pool. */
export function compressFrame(block: Uint8Array, level: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const compressor = createZstdCompress({
      // With room for the worst case zstd compresses from the block itself, without a window of its own: a quarter faster.
      chunkSize: compressBound(block.length),
      pledgedSrcSize: block.length,
      params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 },
    });
    const pieces: Uint8Array[] = [];
    compressor.on("data", (piece: Uint8Array) => pieces.push(piece));
    compressor.on("end", () => resolve(joined(pieces)));
    compressor.on("error", reject);
    compressor.end(block);
  });
}

/**
 * Pieces as one. The frame and its checksum come apart, but side by side in one buffer: Node's own zstdCompress copies them into another one and
 * leaves the first, megabytes of it, to the garbage collector, which then did little else (17 times in a gigabyte the whole heap; so it is once).
 */
function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  if (first === undefined) return new Uint8Array(0);
  let end = first.byteOffset;
  for (const piece of pieces) {
    if (piece.buffer !== first.buffer || piece.byteOffset !== end) return Buffer.concat(pieces);
    end += piece.length;
  }
  return new Uint8Array(first.buffer, first.byteOffset, end - first.byteOffset);
}

/** ZSTD_COMPRESSBOUND of zstd.h, with room for the checksum. */
function compressBound(plainBytes: number): number {
  const smallBytes = 128 * 1024;
  const margin = plainBytes < smallBytes ? Math.ceil((smallBytes - plainBytes) / 2048) : 0;
  return plainBytes + Math.ceil(plainBytes / 256) + margin + 64;
}

/** The frames decoded ahead of the consumer may hold this much together; one frame is always allowed. */
const decodeAheadBytes = 32 * 1024 * 1024;

/**
 * The inverse, for a source that must consist of exactly these frames. Node's decoder stops after the first of concatenated
 * frames, so each is cut out by its size and decoded on its own, in the thread pool. A frame that is damaged, has another size than
 * listed or is missing, and bytes after the last one, are `object-damaged`; no more memory is used than the listed sizes allow.
 * Each chunk is lent: it is gone when the next one is asked for.
 */
export async function* decompressFrames(
  source: AsyncIterable<Uint8Array>,
  frames: readonly Frame[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  checkFrameList(frames);
  const input = readStream(source);
  const running: { readonly plainBytes: number; readonly done: Promise<Settled<Uint8Array>> }[] = [];
  let aheadBytes = 0;
  try {
    for (const [index, frame] of frames.entries()) {
      while (
        running.length > 0 &&
        (running.length > defaultConcurrency || aheadBytes + frame.plainBytes > decodeAheadBytes)
      ) {
        yield* decodedFirst();
      }
      const stored = Buffer.allocUnsafeSlow(frame.storedBytes);
      if ((await input.fill(stored, signal)) < stored.length) throw damaged(index, "the object ends inside it");
      running.push({ plainBytes: frame.plainBytes, done: settle(decompressFrame(stored, frame, index)) });
      aheadBytes += frame.plainBytes;
    }
    while (running.length > 0) yield* decodedFirst();
    if ((await input.fill(new Uint8Array(1), signal)) > 0) {
      throw new Fault("object-damaged", `the object has bytes after its last frame (${frames.length} frames)`);
    }
  } finally {
    await Promise.all(running.map((job) => job.done));
    await input.close();
  }

  async function* decodedFirst(): AsyncGenerator<Uint8Array, void, void> {
    throwIfAborted(signal);
    const first = running.shift();
    if (first === undefined) return;
    const plain = unwrap(await first.done);
    aheadBytes -= first.plainBytes;
    yield* lendPieces(plain, signal);
  }
}

/** Decodes one frame in the thread pool, checked before and after; `index` is for the message. */
function decompressFrame(stored: Uint8Array, frame: Frame, index: number): Promise<Uint8Array> {
  const problem = frameProblem(stored, frame.plainBytes, maximumFrameBytes);
  if (problem !== undefined) return Promise.reject(damaged(index, problem));
  return new Promise((resolve, reject) => {
    // One byte of room above the limit: an output buffer that is exactly full makes Node allocate another of the same size.
    const options = { chunkSize: Math.max(64, frame.plainBytes + 1), maxOutputLength: Math.max(1, frame.plainBytes) };
    zstdDecompress(stored, options, (error, plain) => {
      release(stored);
      if (error !== null) reject(damaged(index, error.message, error));
      else if (plain.length !== frame.plainBytes) reject(damaged(index, `it holds ${plain.length} bytes`));
      else resolve(plain);
    });
  });
}

function checkFrameList(frames: readonly Frame[]): void {
  if (frames.length === 0) throw new Fault("object-damaged", "the list of frames is empty");
  for (const [index, { plainBytes, storedBytes }] of frames.entries()) {
    if (!Number.isSafeInteger(plainBytes) || plainBytes < 0 || plainBytes > maximumFrameBytes) {
      throw damaged(index, `its listed size of ${plainBytes} bytes is not allowed (at most ${maximumFrameBytes})`);
    }
    if (!Number.isSafeInteger(storedBytes) || storedBytes < 1 || storedBytes > compressBound(plainBytes)) {
      throw damaged(index, `its listed stored size of ${storedBytes} bytes is not possible for ${plainBytes} bytes`);
    }
  }
}

function damaged(index: number, what: string, cause?: unknown): Fault {
  return new Fault("object-damaged", `zstd frame ${index + 1}: ${what}`, { cause });
}

/** An outcome that can wait to be looked at: a promise that rejects unobserved would end the process. */
type Settled<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown };

function settle<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then(
    (value) => ({ ok: true, value }),
    (error: unknown) => ({ ok: false, error }),
  );
}

function unwrap<T>(settled: Settled<T>): T {
  if (!settled.ok) throw settled.error;
  return settled.value;
}
