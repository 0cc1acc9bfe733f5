import { zstdCompressSync, constants } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compressFrames, decompressFrames, maximumFrameBytes } from "../../src/snapshot/zstd.ts";
import type { Frame } from "../../src/snapshot/zstd.ts";
import { anyChunkSizes, calm, chunked, collect, seededBytes } from "./bytes.ts";
import { stock } from "./stock.ts";

const frameBytes = 64 * 1024;

async function compressed(plain: Uint8Array, sizes?: readonly number[]): Promise<{ stored: Buffer; frames: Frame[] }> {
  const stage = compressFrames(chunked(plain, sizes), { level: 1, frameBytes }, calm);
  const stored = await collect(stage.bytes);
  return { stored, frames: [...stage.frames] };
}

function decompressed(stored: Uint8Array, frames: readonly Frame[], sizes?: readonly number[]): Promise<Buffer> {
  return collect(decompressFrames(chunked(stored, sizes), frames, calm));
}

async function refused(stored: Uint8Array, frames: readonly Frame[]): Promise<string> {
  const error: unknown = await decompressed(stored, frames).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ name: "Fault", code: "object-damaged" });
  return String(error);
}

describe("compressFrames and decompressFrames", () => {
  test.each([0, 1, 65535, 65536, 65537, 131_071, 131_072, 131_073, 1_000_000])(
    "%i bytes come back, and the facts add up",
    async (bytes) => {
      const plain = seededBytes(bytes);
      const { stored, frames } = await compressed(plain);
      expect(frames).toHaveLength(Math.max(1, Math.ceil(bytes / frameBytes)));
      expect(frames.reduce((sum, frame) => sum + frame.plainBytes, 0)).toBe(bytes);
      expect(frames.reduce((sum, frame) => sum + frame.storedBytes, 0)).toBe(stored.length);
      expect((await decompressed(stored, frames)).equals(plain)).toBe(true);
    },
  );

  test("chunks of any size in and out make no difference", async () => {
    const sizes = fc.integer({ min: 0, max: 300_000 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.nat(), anyChunkSizes, anyChunkSizes, async (bytes, seed, cutsIn, cutsOut) => {
        const plain = seededBytes(bytes, seed);
        const { stored, frames } = await compressed(plain, cutsIn);
        expect((await decompressed(stored, frames, cutsOut)).equals(plain)).toBe(true);
      }),
      { numRuns: 25 },
    );
  });

  test("stock zstd reads our frames as one stream, and finds their sizes and checksums", async () => {
    const plain = seededBytes(300_000);
    const { stored } = await compressed(plain);
    expect((await stock("zstd", ["-d", "-c"], stored)).equals(plain)).toBe(true);
    const flipped = Buffer.from(stored);
    flipped[flipped.length - 1] = (flipped[flipped.length - 1] ?? 0) ^ 1;
    await expect(stock("zstd", ["-d", "-c"], flipped)).rejects.toThrow(/checksum/i);
  });

  test("a frame of stock zstd can be read", async () => {
    const plain = seededBytes(300_000);
    const stored = await stock("zstd", ["-3", "-c", "--stream-size=300000"], plain);
    expect((await decompressed(stored, [{ plainBytes: plain.length, storedBytes: stored.length }])).equals(plain)).toBe(
      true,
    );
  });

  test("a consumer that stops early ends the source", async () => {
    let ended = false;
    const endless = (async function* () {
      try {
        for (;;) yield seededBytes(frameBytes);
      } finally {
        ended = true;
      }
    })();
    for await (const chunk of compressFrames(endless, { level: 1, frameBytes }, calm).bytes) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(ended).toBe(true);
  });

  test("a source that fails is passed on as it is, whatever is still being compressed", async () => {
    const failure = new Error("the source broke");
    const breaking = (async function* () {
      yield seededBytes(3 * frameBytes);
      throw failure;
    })();
    await expect(collect(compressFrames(breaking, { level: 1, frameBytes }, calm).bytes)).rejects.toBe(failure);
  });
});

describe("stored frames that are not what the list says", () => {
  test("every flipped bit of a small object is refused, or changes nothing of what comes out", async () => {
    const plain = seededBytes(300);
    const { stored, frames } = await compressed(plain);
    let harmless = 0;
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const flipped = Buffer.from(stored);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const decoded = await decompressed(flipped, frames).catch((error: unknown) => error);
      if (decoded instanceof Buffer) {
        expect(decoded.equals(plain)).toBe(true);
        harmless++;
      } else {
        expect(decoded).toMatchObject({ name: "Fault", code: "object-damaged" });
      }
    }
    // The format has bits that decoders ignore; the SHA-256 of the stored bytes sees those.
    expect(harmless).toBeLessThan(8);
  });

  test("every truncation is refused", async () => {
    const { stored, frames } = await compressed(seededBytes(300));
    for (let bytes = 0; bytes < stored.length; bytes++) await refused(stored.subarray(0, bytes), frames);
  });

  test("missing, swapped and doubled frames, and bytes after the last, are refused", async () => {
    const { stored, frames } = await compressed(seededBytes(2.5 * frameBytes));
    const [first, second, third] = frames;
    if (first === undefined || second === undefined || third === undefined) throw new Error("three frames expected");
    const firstBytes = stored.subarray(0, first.storedBytes);
    const rest = stored.subarray(first.storedBytes);
    expect(await refused(rest, frames)).toContain("zstd frame");
    await refused(stored.subarray(0, stored.length - third.storedBytes), frames);
    expect(await refused(stored, [first, second])).toContain("after its last frame");
    expect(await refused(Buffer.concat([stored, Buffer.from("x")]), frames)).toContain("after its last frame");
    await refused(Buffer.concat([firstBytes, stored]), frames);
    await refused(stored, [third, second, first]);
    await refused(stored, []);
  });

  test("frames in another order than listed are refused when their sizes differ", async () => {
    const { stored, frames } = await compressed(seededBytes(1.5 * frameBytes));
    const cut = frames[0]?.storedBytes ?? 0;
    await refused(Buffer.concat([stored.subarray(cut), stored.subarray(0, cut)]), frames);
  });

  test("two frames listed as one are refused, though Node's decoder would take the first without a word", async () => {
    const { stored, frames } = await compressed(seededBytes(2 * frameBytes));
    const listed = [{ plainBytes: frames[0]?.plainBytes ?? 0, storedBytes: stored.length }];
    expect(await refused(stored, listed)).toMatch(/bytes long, \d+ are listed|not possible/);
  });

  test("sizes that cannot be are refused before anything is read", async () => {
    const { stored, frames } = await compressed(seededBytes(300));
    const storedBytes = frames[0]?.storedBytes ?? 0;
    for (const plainBytes of [-1, 0.5, Number.NaN, maximumFrameBytes + 1, 2 ** 60]) {
      expect(await refused(stored, [{ plainBytes, storedBytes }])).toContain("listed size");
    }
    for (const size of [-1, 0, 0.5, 2 ** 40]) {
      expect(await refused(stored, [{ plainBytes: 300, storedBytes: size }])).toContain("stored size");
    }
    for (const plainBytes of [299, 301])
      expect(await refused(stored, [{ plainBytes, storedBytes }])).toContain("header says");
  });

  test("a decompression bomb is refused by its header, and one that lies in its header by its size", async () => {
    const bomb = zstdCompressSync(Buffer.alloc(32 * 1024 * 1024), {
      params: { [constants.ZSTD_c_checksumFlag]: 1 },
      pledgedSrcSize: 32 * 1024 * 1024,
    });
    expect(await refused(bomb, [{ plainBytes: 4096, storedBytes: bomb.length }])).toContain("header says");
    // Four bytes of content size follow the descriptor and, without a single segment, the window.
    const lying = Buffer.from(bomb);
    lying.writeUInt32LE(4096, ((lying[4] ?? 0) & 0x20) === 0 ? 6 : 5);
    await refused(lying, [{ plainBytes: 4096, storedBytes: lying.length }]);
  });

  test("a frame without a checksum, a size or an end is refused by name", async () => {
    const plain = seededBytes(300);
    const bare = zstdCompressSync(plain, { pledgedSrcSize: 300 });
    expect(await refused(bare, [{ plainBytes: 300, storedBytes: bare.length }])).toContain("no checksum");
    const sizeless = await stock("zstd", ["-1", "-c", "--no-content-size"], plain);
    expect(await refused(sizeless, [{ plainBytes: 300, storedBytes: sizeless.length }])).toContain("content size");
    const skippable = Buffer.from("502a4d180200000000ff", "hex");
    expect(await refused(skippable, [{ plainBytes: 300, storedBytes: skippable.length }])).toContain("begin like");
  });

  test("the error of the source is not taken for damage", async () => {
    const { stored, frames } = await compressed(seededBytes(2 * frameBytes));
    const failure = new Error("the connection broke");
    const breaking = (async function* () {
      yield stored.subarray(0, frames[0]?.storedBytes ?? 0);
      throw failure;
    })();
    await expect(collect(decompressFrames(breaking, frames, calm))).rejects.toBe(failure);
  });
});
