import { createHash } from "node:crypto";
import { Fault, isFault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { decodeStored } from "./encode.ts";
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
    throw damaged(
      object.object,
      `it has ${bytes > object.storedBytes ? "more than" : `${bytes} of`} ${object.storedBytes} bytes`,
    );
  }
  if (hash.digest("hex") !== object.sha256) throw damaged(object.object, "its SHA-256 is not the recorded one");
}

/** The plain bytes of an object of the store, each chunk lent as by `decodeStored`; what is damaged is told by the object's name. */
export async function* decodeObject(
  store: Store,
  object: Parameters<typeof readStored>[1],
  how: Parameters<typeof decodeStored>[1],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    yield* decodeStored(readStored(store, object, signal), how, signal);
  } catch (error) {
    if (!isFault(error, "object-damaged", "key-missing") || error.message.startsWith(object.object)) throw error;
    if (error.code === "object-damaged") throw damaged(object.object, error.message, error);
    // A damaged header looks like one for somebody else: only bytes that are the recorded ones are for want of a key.
    await exhaust(readStored(store, object, signal));
    throw new Fault(error.code, `${object.object}: ${error.message}`, { hint: error.hint, cause: error });
  }
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
  const check = new SealCheck(expected);
  for await (const chunk of plain) {
    check.update(chunk);
    if (check.bytes > expected.dbBytes + sealBytes) break;
    yield chunk;
  }
  const problem = check.problem();
  if (problem !== undefined) throw damaged(name, problem);
}

/** Hears the plain bytes of a snapshot in their order and says at the end whether they are the database with this seal, and then the seal itself. */
export class SealCheck {
  readonly #expected: { readonly dbBytes: number; readonly seal: string };
  readonly #hash = createHash("sha256");
  readonly #trailer: Uint8Array[] = [];
  #bytes = 0;

  constructor(expected: { readonly dbBytes: number; readonly seal: string }) {
    this.#expected = expected;
  }

  get bytes(): number {
    return this.#bytes;
  }

  update(chunk: Uint8Array): void {
    const inDatabase = Math.max(0, Math.min(chunk.length, this.#expected.dbBytes - this.#bytes));
    this.#hash.update(inDatabase === chunk.length ? chunk : chunk.subarray(0, inDatabase));
    // A copy: chunks are lent. What is too much is refused by its length alone.
    if (inDatabase < chunk.length && this.#bytes <= this.#expected.dbBytes + sealBytes) {
      this.#trailer.push(Uint8Array.from(chunk.subarray(inDatabase)));
    }
    this.#bytes += chunk.length;
  }

  /** To be asked once, at the end; undefined when all is as it must be. */
  problem(): string | undefined {
    const { dbBytes, seal } = this.#expected;
    if (this.#bytes !== dbBytes + sealBytes)
      return `it decodes to ${this.#bytes} bytes instead of ${dbBytes + sealBytes}`;
    const digest = this.#hash.digest("hex");
    if (digest !== seal) return "the decoded database does not match its seal";
    return Buffer.concat(this.#trailer).toString("hex") === digest
      ? undefined
      : "the decoded file does not end with its seal";
  }
}

/** Reads a stream to its end and says how many bytes went by. */
export async function exhaust(
  source: AsyncIterable<Uint8Array>,
  onBytes: (doneBytes: number) => void = () => undefined,
): Promise<number> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    onBytes(bytes);
  }
  return bytes;
}

function damaged(name: string, what: string, cause?: unknown): Fault {
  return new Fault("object-damaged", `${name} is damaged: ${what}`, {
    hint: "restore from another backup; keep the object for a look at the store",
    cause,
  });
}
