import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Fault, throwIfAborted } from "../faults.ts";

/** Bytes that are read into buffers of the reader's choosing, so that a few buffers serve a file of any size. */
export interface BlockSource {
  /** Fills `into` from its start; a smaller count than its length means that the input has ended. */
  fill(into: Uint8Array, signal: AbortSignal): Promise<number>;
  /** Releases the file or ends the stream; may be called twice. */
  close(): Promise<void>;
}

/** Reads `bytes` bytes of a file from `offset` on, by position; `spool-failed` when the file is shorter or unreadable. */
export function readRegion(path: string, region: { readonly offset: number; readonly bytes: number }): BlockSource {
  let handle: FileHandle | undefined;
  let doneBytes = 0;
  return {
    async fill(into, signal) {
      throwIfAborted(signal);
      const wantedBytes = Math.min(into.length, region.bytes - doneBytes);
      let filledBytes = 0;
      try {
        handle ??= await open(path, "r");
        while (filledBytes < wantedBytes) {
          const position = region.offset + doneBytes;
          const { bytesRead } = await handle.read(into, filledBytes, wantedBytes - filledBytes, position);
          if (bytesRead === 0) throw new Fault("spool-failed", `${path} ends at byte ${position}, too early`);
          filledBytes += bytesRead;
          doneBytes += bytesRead;
        }
      } catch (error) {
        if (error instanceof Fault) throw error;
        throw new Fault("spool-failed", `cannot read ${path}: ${String(error)}`, { cause: error });
      }
      return filledBytes;
    },
    async close() {
      const opened = handle;
      handle = undefined;
      await opened?.close();
    },
  };
}

/** The same for a stream, whose chunks may have any size. */
export function readStream(source: AsyncIterable<Uint8Array>): BlockSource {
  const input = source[Symbol.asyncIterator]();
  let chunk: Uint8Array = new Uint8Array(0);
  let ended = false;
  return {
    async fill(into, signal) {
      let filledBytes = 0;
      while (filledBytes < into.length && !(ended && chunk.length === 0)) {
        if (chunk.length === 0) {
          throwIfAborted(signal);
          const next = await input.next();
          if (next.done === true) ended = true;
          else chunk = next.value;
          continue;
        }
        const taken = chunk.subarray(0, into.length - filledBytes);
        into.set(taken, filledBytes);
        filledBytes += taken.length;
        chunk = chunk.subarray(taken.length);
      }
      return filledBytes;
    },
    async close() {
      if (ended) return;
      ended = true;
      await input.return?.();
    },
  };
}

/** What one turn of the event loop may cost its consumer: at this size a digest takes one to two milliseconds. */
const pieceBytes = 1024 * 1024;

/**
 * Hands out a large buffer in pieces, one per turn of the event loop, so that nobody who digests them holds it up. A piece is lent:
 * once the next thing is asked for, it is gone.
 */
export async function* lendPieces(bytes: Uint8Array, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes);
    await nextTurn();
    throwIfAborted(signal);
  }
  release(bytes);
}

/**
 * Frees a buffer now that nobody needs any more: the garbage collector lets such buffers pile up by the hundred megabytes. The array
 * is empty afterwards. Small ones may live in Buffer's shared pool, and are left to the collector.
 */
export function release(bytes: Uint8Array): void {
  if (bytes.buffer instanceof ArrayBuffer && bytes.buffer.byteLength > Buffer.poolSize) bytes.buffer.transfer(0);
}
