import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { Fault, throwIfAborted } from "../faults.ts";
import type { BuiltFile } from "./datadir.ts";

/** As etcd makes its own files. */
const fileMode = 0o600;
const chunkBytes = 1024 * 1024;

/** A file that lies on the disk; reads it once for its hash. Fault `spool-failed` when it cannot be read, also later. */
export async function diskFile(path: string, onDisk: string, signal: AbortSignal): Promise<BuiltFile> {
  const content = (within: AbortSignal): AsyncIterable<Uint8Array> => readFile(onDisk, within);
  return { path, ...(await digest(content(signal))), mode: fileMode, content };
}

/** A file that is held in memory; zeros follow it up to its size. */
export async function heldFile(path: string, bytes: Uint8Array, sizeBytes = bytes.length): Promise<BuiltFile> {
  const content = async function* (within: AbortSignal): AsyncIterable<Uint8Array> {
    yield bytes;
    for (let left = sizeBytes - bytes.length; left > 0; left -= zeros.length) {
      // Nothing here waits for input, so the event loop is let in by hand.
      await setImmediate();
      throwIfAborted(within);
      yield zeros.subarray(0, left);
    }
  };
  return { path, ...(await digest(content(new AbortController().signal))), mode: fileMode, content };
}

const zeros = Buffer.alloc(chunkBytes);

async function digest(
  content: AsyncIterable<Uint8Array>,
): Promise<{ readonly sizeBytes: number; readonly sha256: string }> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of content) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { sizeBytes, sha256: hash.digest("hex") };
}

async function* readFile(path: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
  throwIfAborted(signal);
  try {
    yield* createReadStream(path, { highWaterMark: chunkBytes, signal }) as AsyncIterable<Uint8Array>;
  } catch (error) {
    throwIfAborted(signal);
    const why = error instanceof Error ? error.message : String(error);
    throw new Fault("spool-failed", `cannot read ${path}: ${why}`, { cause: error });
  }
}
