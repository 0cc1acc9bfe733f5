import { createHash } from "node:crypto";
import { Fault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { sealBytes } from "./seal.ts";

/** Passes an object's bytes on and fails at the end unless they are exactly the recorded ones. */
export async function* readStored(
  store: Store,
  object: { readonly object: string; readonly storedBytes: number; readonly sha256: string },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of store.download(object.object, signal)) {
    hash.update(chunk);
    bytes += chunk.length;
    if (bytes > object.storedBytes) break;
    yield chunk;
  }
  if (bytes !== object.storedBytes) {
    throw damaged(object.object, `it has ${bytes > object.storedBytes ? "more than" : `${bytes} of`} ${object.storedBytes} bytes`);
  }
  if (hash.digest("hex") !== object.sha256) throw damaged(object.object, "its SHA-256 is not the recorded one");
}

/**
 * Passes the plain bytes of a snapshot on and fails at the end unless they are the database with this seal, followed by the seal itself.
 * Nothing may be made of the bytes before the iteration has ended.
 */
export async function* checkSeal(
  name: string,
  plain: AsyncIterable<Uint8Array>,
  expected: { readonly dbBytes: number; readonly seal: string },
): AsyncGenerator<Uint8Array, void, void> {
  const hash = createHash("sha256");
  const trailer: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of plain) {
    const inDatabase = Math.max(0, Math.min(chunk.length, expected.dbBytes - bytes));
    hash.update(inDatabase === chunk.length ? chunk : chunk.subarray(0, inDatabase));
    if (inDatabase < chunk.length) trailer.push(Uint8Array.from(chunk.subarray(inDatabase)));
    bytes += chunk.length;
    if (bytes > expected.dbBytes + sealBytes) break;
    yield chunk;
  }
  if (bytes !== expected.dbBytes + sealBytes) {
    throw damaged(name, `it decodes to ${bytes} bytes instead of ${expected.dbBytes + sealBytes}`);
  }
  const digest = hash.digest("hex");
  if (digest !== expected.seal) throw damaged(name, "the decoded database does not match its seal");
  if (Buffer.concat(trailer).toString("hex") !== digest) throw damaged(name, "the decoded file does not end with its seal");
}

/** Reads a stream to its end and says how many bytes went by. */
export async function exhaust(source: AsyncIterable<Uint8Array>, onBytes: (doneBytes: number) => void = () => undefined): Promise<number> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    onBytes(bytes);
  }
  return bytes;
}

function damaged(name: string, what: string): Fault {
  return new Fault("object-damaged", `${name} is damaged: ${what}`, {
    hint: "restore from another backup; keep the object for a look at the store",
  });
}
