import { Fault, throwIfAborted } from "../faults.ts";
import { createAge, decryptAge } from "./age.ts";
import type { AgeIdentity, AgeRecipient, FileKey } from "./age.ts";
import { readRegion, type BlockSource } from "./blocks.ts";
import { compressFrame, compressFrames, decompressFrames, maximumFrameBytes } from "./zstd.ts";
import type { CompressedFrames, Frame } from "./zstd.ts";

export interface EncodeOptions {
  readonly compressionLevel: number;
  /** Empty: the object is not encrypted. */
  readonly recipients: readonly AgeRecipient[];
}

/** What was learned while an object was encoded; `frames` and the sizes belong in its manifest. */
export interface EncodedFacts {
  readonly frames: readonly Frame[];
  readonly plainBytes: number;
  /** All frames together, before encryption. */
  readonly compressedBytes: number;
}

/** An object on its way to the store. */
export interface Encoding {
  /** The stored bytes; to be consumed once, to the end. Each chunk is lent: it is gone when the next one is asked for. */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** For the read-back; undefined without encryption. */
  readonly fileKey: FileKey | undefined;
  /** To be asked when `bytes` has ended. */
  facts(): EncodedFacts;
}

/**
 * Encodes the first `plainBytes` bytes of a file (`onPlain` hears them, each once and in order): zstd frames, then age, so that `age -d -i KEY | zstd -d` gives it back.
 * `spool-failed` when the file is shorter than that or cannot be read.
 */
export function encodeSpool(
  spoolPath: string,
  options: EncodeOptions & {
    readonly plainBytes: number;
    readonly onPlain?: ((bytes: Uint8Array) => void) | undefined;
  },
  signal: AbortSignal,
): Encoding {
  const region = heard(readRegion(spoolPath, { offset: 0, bytes: options.plainBytes }), options.onPlain);
  const compressed = compressFrames(region, { level: options.compressionLevel }, signal);
  return encrypted(compressed, options.recipients, signal);
}

/** Tells the bytes in their order as they are read for encoding. */
function heard(source: BlockSource, onPlain: ((bytes: Uint8Array) => void) | undefined): BlockSource {
  if (onPlain === undefined) return source;
  return {
    async fill(into, signal) {
      const filledBytes = await source.fill(into, signal);
      onPlain(into.subarray(0, filledBytes));
      return filledBytes;
    },
    close: () => source.close(),
  };
}

/** The same for a small object that is in memory already. Made of one frame, so at most `maximumFrameBytes`. */
export async function encodeBytes(
  plain: Uint8Array,
  options: EncodeOptions,
  signal: AbortSignal,
): Promise<{ readonly stored: Uint8Array; readonly facts: EncodedFacts; readonly fileKey: FileKey | undefined }> {
  if (plain.length > maximumFrameBytes) {
    throw new Fault("failed", `an object of ${plain.length} bytes is too large: at most ${maximumFrameBytes} bytes`);
  }
  throwIfAborted(signal);
  const frame = await compressFrame(plain, options.compressionLevel);
  const frames = [{ plainBytes: plain.length, storedBytes: frame.length }];
  const encoding = encrypted({ bytes: once(frame), frames }, options.recipients, signal);
  const stored = Buffer.concat(await Array.fromAsync(encoding.bytes));
  return { stored, facts: encoding.facts(), fileKey: encoding.fileKey };
}

function encrypted(compressed: CompressedFrames, recipients: readonly AgeRecipient[], signal: AbortSignal): Encoding {
  const age = recipients.length === 0 ? undefined : createAge(recipients);
  return {
    bytes: age === undefined ? compressed.bytes : age.encrypt(compressed.bytes, signal),
    fileKey: age?.fileKey,
    facts: () => factsOf(compressed.frames),
  };
}

function factsOf(frames: readonly Frame[]): EncodedFacts {
  let plainBytes = 0;
  let compressedBytes = 0;
  for (const frame of frames) {
    plainBytes += frame.plainBytes;
    compressedBytes += frame.storedBytes;
  }
  return { frames, plainBytes, compressedBytes };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

/** How a stored object can be opened. */
export type Decryption =
  | { readonly kind: "none" }
  | { readonly kind: "file-key"; readonly fileKey: FileKey }
  | { readonly kind: "identities"; readonly identities: readonly AgeIdentity[] };

/**
 * The plain bytes of a stored object, for read-back, verification and fetch. `object-damaged` when it is not made of exactly these
 * frames, `key-missing` when no identity fits. Only an iteration that ends without an error has seen the whole object. Each chunk is
 * lent: it is gone when the next one is asked for.
 */
export function decodeStored(
  source: AsyncIterable<Uint8Array>,
  object: { readonly frames: readonly Frame[]; readonly encryption: Decryption },
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  return decompressFrames(decrypted(source, object.encryption, signal), object.frames, signal);
}

function decrypted(
  source: AsyncIterable<Uint8Array>,
  encryption: Decryption,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  switch (encryption.kind) {
    case "none":
      return source;
    case "file-key":
      return decryptAge(source, { fileKey: encryption.fileKey }, signal);
    case "identities":
      return decryptAge(source, { identities: encryption.identities }, signal);
  }
}
