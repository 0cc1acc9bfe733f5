import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { parseIdentities, parseRecipient } from "../../src/snapshot/age.ts";
import type { AgeRecipient } from "../../src/snapshot/age.ts";
import { decodeStored, encodeBytes, encodeSpool } from "../../src/snapshot/encode.ts";
import type { Decryption } from "../../src/snapshot/encode.ts";
import { defaultFrameBytes, maximumFrameBytes } from "../../src/snapshot/zstd.ts";
import { anyChunkSizes, calm, chunked, collect, seededBytes } from "./bytes.ts";
import { stock } from "./stock.ts";

let folder: string;
let spool: string;
let keyFile: string;
let recipients: readonly AgeRecipient[];
let byIdentity: Decryption;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "encode-test-"));
  spool = join(folder, "spool.db");
  keyFile = join(folder, "key.txt");
  const secret = await generateX25519Identity();
  writeFileSync(keyFile, `${secret}\n`, { mode: 0o600 });
  recipients = [parseRecipient(await identityToRecipient(secret))];
  byIdentity = { kind: "identities", identities: parseIdentities(secret) };
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Files below the test's folder that this process has open. */
function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(folder) ? [target] : [];
    } catch {
      // The listing's own descriptor is gone by now.
      return [];
    }
  });
}

describe("encodeSpool and decodeStored", () => {
  test.each([0, 1, defaultFrameBytes - 1, defaultFrameBytes, defaultFrameBytes + 1])(
    "a file of %i bytes comes back, encrypted or not",
    async (bytes) => {
      const plain = seededBytes(bytes);
      writeFileSync(spool, plain);
      for (const to of [[], recipients]) {
        const encoding = encodeSpool(spool, { plainBytes: bytes, compressionLevel: 1, recipients: to }, calm);
        const stored = await collect(encoding.bytes);
        const facts = encoding.facts();
        expect(facts.plainBytes).toBe(bytes);
        expect(facts.frames).toHaveLength(Math.max(1, Math.ceil(bytes / defaultFrameBytes)));
        if (to.length === 0) expect(facts.compressedBytes).toBe(stored.length);
        const keys: Decryption[] =
          encoding.fileKey === undefined
            ? [{ kind: "none" }]
            : [{ kind: "file-key", fileKey: encoding.fileKey }, byIdentity];
        for (const encryption of keys) {
          const decoded = await collect(decodeStored(chunked(stored, [100_000]), { ...facts, encryption }, calm));
          expect(decoded.equals(plain)).toBe(true);
        }
      }
      expect(openFiles()).toEqual([]);
    },
  );

  test("age and zstd as everybody has them give the file back", async () => {
    const plain = seededBytes(2 * defaultFrameBytes + 12_345);
    writeFileSync(spool, plain);
    const encoding = encodeSpool(spool, { plainBytes: plain.length, compressionLevel: 1, recipients }, calm);
    const compressed = await stock("age", ["-d", "-i", keyFile], await collect(encoding.bytes));
    expect(compressed.length).toBe(encoding.facts().compressedBytes);
    expect((await stock("zstd", ["-d", "-c"], compressed)).equals(plain)).toBe(true);
  });

  test("any damage to a stored object is refused, whatever opens it", async () => {
    const plain = seededBytes(500_000);
    writeFileSync(spool, plain);
    const encoding = encodeSpool(spool, { plainBytes: plain.length, compressionLevel: 1, recipients }, calm);
    const stored = await collect(encoding.bytes);
    if (encoding.fileKey === undefined) throw new Error("a file key is expected");
    const object = { ...encoding.facts(), encryption: { kind: "file-key", fileKey: encoding.fileKey } } as const;
    await fc.assert(
      fc.asyncProperty(
        fc.nat(stored.length - 1),
        fc.integer({ min: 1, max: 255 }),
        anyChunkSizes,
        async (at, mask, cuts) => {
          const flipped = Buffer.from(stored);
          flipped[at] = (flipped[at] ?? 0) ^ mask;
          await expect(collect(decodeStored(chunked(flipped, cuts), object, calm))).rejects.toMatchObject({
            code: "object-damaged",
          });
          const cut = stored.subarray(0, at);
          await expect(collect(decodeStored(chunked(cut, cuts), object, calm))).rejects.toMatchObject({
            code: "object-damaged",
          });
        },
      ),
      { numRuns: 50 },
    );
  });

  test("another object of the same size in its place is refused", async () => {
    const [one, other] = await Promise.all(
      [1, 2].map((seed) => encodeBytes(seededBytes(5000, seed), { compressionLevel: 1, recipients }, calm)),
    );
    if (one?.fileKey === undefined || other === undefined) throw new Error("two encrypted objects are expected");
    const object = { ...one.facts, encryption: { kind: "file-key", fileKey: one.fileKey } } as const;
    await expect(collect(decodeStored(chunked(other.stored), object, calm))).rejects.toMatchObject({
      code: "object-damaged",
    });
  });

  test("a file that is shorter than announced, or not there, is a fault of the spool", async () => {
    writeFileSync(spool, seededBytes(1000));
    const encode = (path: string): Promise<Buffer> =>
      collect(encodeSpool(path, { plainBytes: 1001, compressionLevel: 1, recipients }, calm).bytes);
    await expect(encode(spool)).rejects.toMatchObject({
      code: "spool-failed",
      message: expect.stringContaining("1000"),
    });
    await expect(encode(join(folder, "absent"))).rejects.toMatchObject({ code: "spool-failed" });
    expect(openFiles()).toEqual([]);
  });

  test("an abort in the middle stops at once and leaves no file open", async () => {
    const plain = seededBytes(6 * defaultFrameBytes);
    writeFileSync(spool, plain);
    const controller = new AbortController();
    const reason = new Fault("interrupted", "stopped by the test");
    let chunks = 0;
    const run = (async () => {
      const options = { plainBytes: plain.length, compressionLevel: 1, recipients };
      for await (const chunk of encodeSpool(spool, options, controller.signal).bytes) {
        if (chunk.length > 0 && ++chunks === 3) {
          expect(openFiles()).toEqual([spool]);
          controller.abort(reason);
        }
      }
    })();
    await expect(run).rejects.toBe(reason);
    expect(chunks).toBeLessThan(6);
    expect(openFiles()).toEqual([]);
  });

  test("an abort while decoding ends the source, as does a consumer that has seen enough", async () => {
    const plain = seededBytes(3 * defaultFrameBytes);
    writeFileSync(spool, plain);
    const encoding = encodeSpool(spool, { plainBytes: plain.length, compressionLevel: 1, recipients }, calm);
    const stored = await collect(encoding.bytes);
    let ended = 0;
    const source = async function* () {
      try {
        yield* chunked(stored, [65_536]);
      } finally {
        ended++;
      }
    };
    const object = { ...encoding.facts(), encryption: byIdentity };
    for await (const chunk of decodeStored(source(), object, calm)) if (chunk.length > 0) break;
    const controller = new AbortController();
    const reason = new Fault("interrupted", "stopped by the test");
    const run = (async () => {
      for await (const chunk of decodeStored(source(), object, controller.signal))
        if (chunk.length > 0) controller.abort(reason);
    })();
    await expect(run).rejects.toBe(reason);
    expect(ended).toBe(2);
  });
});

describe("encodeBytes", () => {
  test("a small object is one frame, and stock tools read it", async () => {
    const plain = seededBytes(70_000);
    const { stored, facts } = await encodeBytes(plain, { compressionLevel: 3, recipients }, calm);
    expect(facts.frames).toHaveLength(1);
    const compressed = await stock("age", ["-d", "-i", keyFile], stored);
    expect((await stock("zstd", ["-d", "-c"], compressed)).equals(plain)).toBe(true);
    expect(
      (await collect(decodeStored(chunked(stored), { ...facts, encryption: byIdentity }, calm))).equals(plain),
    ).toBe(true);
    const bare = await encodeBytes(plain, { compressionLevel: 3, recipients: [] }, calm);
    expect((await stock("zstd", ["-d", "-c"], bare.stored)).equals(plain)).toBe(true);
    expect(bare.fileKey).toBeUndefined();
  });

  test("an object that is too large for one frame is refused", async () => {
    const large = Buffer.alloc(maximumFrameBytes + 1);
    await expect(encodeBytes(large, { compressionLevel: 1, recipients: [] }, calm)).rejects.toThrow("too large");
  });
});

describe("memory", () => {
  test("300 MB are encoded and read back while memory grows by less than 160 MB", { timeout: 180_000 }, async () => {
    const script = join(import.meta.dirname, "encode-memory.ts");
    const { stdout } = await promisify(execFile)(process.execPath, [script, spool]);
    const grown = JSON.parse(stdout) as { encodeBytes: number; decodeBytes: number; plainBytes: number };
    expect(grown.plainBytes).toBe(300_000_000);
    expect(grown.encodeBytes).toBeLessThan(160_000_000);
    expect(grown.decodeBytes).toBeLessThan(160_000_000);
  });
});
