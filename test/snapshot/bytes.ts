import fc from "fast-check";

/** The same bytes for the same seed, about half of them compressible, as database pages are. */
export function seededBytes(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    if ((at & 64) !== 0) {
      bytes[at] = at & 31;
      continue;
    }
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state & 255;
  }
  return bytes;
}

/** A source with chunks of the given sizes, again and again until the bytes are used up. */
export async function* chunked(
  bytes: Uint8Array,
  sizes: readonly number[] = [bytes.length],
): AsyncGenerator<Uint8Array> {
  for (let at = 0, index = 0; at < bytes.length; index++) {
    const size = Math.max(1, sizes[index % sizes.length] ?? bytes.length);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** Chunk sizes that cut a source anywhere, tiny ones included. */
export const anyChunkSizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 300_000 })), {
  minLength: 1,
  maxLength: 6,
});

/** Everything a stage gives, copied at once, since chunks may be lent. */
export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** A signal for what is not going to be interrupted. */
export const calm = new AbortController().signal;
