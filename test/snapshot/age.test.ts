import { writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { createHash, createSecretKey } from "node:crypto";
import { inflateSync } from "node:zlib";
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import * as cctv from "cctv-age";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault, isFault } from "../../src/faults.ts";
import { ageOverheadBytes, createAge, decryptAge, parseIdentities, parseRecipient } from "../../src/snapshot/age.ts";
import type { AgeKey } from "../../src/snapshot/age.ts";
import { anyChunkSizes, calm, chunked, collect, seededBytes } from "./bytes.ts";
import { stock } from "./stock.ts";

const chunkBytes = 65536;
const sealedChunkBytes = chunkBytes + 16;

let folder: string;
let keyFile: string;
let secret: string;
let recipientText: string;
let identities: AgeKey;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "age-test-"));
  secret = await generateX25519Identity();
  recipientText = await identityToRecipient(secret);
  identities = { identities: parseIdentities(secret) };
  keyFile = join(folder, "key.txt");
  writeFileSync(keyFile, `${secret}\n`, { mode: 0o600 });
});

afterAll(() => rmSync(folder, { recursive: true }));

async function encrypted(plain: Uint8Array, sizes?: readonly number[]): Promise<{ sealed: Buffer; key: AgeKey }> {
  const age = createAge([parseRecipient(recipientText)]);
  return { sealed: await collect(age.encrypt(chunked(plain, sizes), calm)), key: { fileKey: age.fileKey } };
}

function decrypted(sealed: Uint8Array, key: AgeKey, sizes?: readonly number[]): Promise<Buffer> {
  return collect(decryptAge(chunked(sealed, sizes), key, calm));
}

async function refusal(sealed: Uint8Array, key: AgeKey): Promise<Fault> {
  const error: unknown = await decrypted(sealed, key).then(
    () => new Error("nothing was refused"),
    (reason: unknown) => reason,
  );
  if (!isFault(error)) throw error;
  return error;
}

const headSize = (sealed: Buffer): number => sealed.indexOf("\n", sealed.indexOf("\n---") + 1) + 1 + 16;

describe("createAge and decryptAge", () => {
  test.each([0, 1, 65535, 65536, 65537, 131_072, 524_287, 524_288, 524_289, 1_500_000])(
    "%i bytes come back by file key and by identity, in a size known beforehand",
    async (bytes) => {
      const plain = seededBytes(bytes);
      const { sealed, key } = await encrypted(plain);
      expect(sealed.length).toBe(bytes + ageOverheadBytes(bytes, 1));
      expect((await decrypted(sealed, key)).equals(plain)).toBe(true);
      expect((await decrypted(sealed, identities)).equals(plain)).toBe(true);
    },
  );

  test("chunks of any size in and out make no difference", async () => {
    const sizes = fc.integer({ min: 0, max: 1_200_000 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.nat(), anyChunkSizes, anyChunkSizes, async (bytes, seed, cutsIn, cutsOut) => {
        const plain = seededBytes(bytes, seed);
        const { sealed, key } = await encrypted(plain, cutsIn);
        expect((await decrypted(sealed, key, cutsOut)).equals(plain)).toBe(true);
      }),
      { numRuns: 15 },
    );
  });

  test("every one of several recipients can decrypt, and nobody else", async () => {
    const secrets = await Promise.all([1, 2, 3].map(() => generateX25519Identity()));
    const recipients = await Promise.all(secrets.map(async (one) => parseRecipient(await identityToRecipient(one))));
    const plain = seededBytes(1000);
    const sealed = await collect(createAge(recipients).encrypt(chunked(plain), calm));
    expect(sealed.length).toBe(1000 + ageOverheadBytes(1000, 3));
    for (const one of secrets)
      expect((await decrypted(sealed, { identities: parseIdentities(one) })).equals(plain)).toBe(true);
    const all = parseIdentities(`${secret}\n${secrets[2]}`);
    expect((await decrypted(sealed, { identities: all })).equals(plain)).toBe(true);
    const refused = await refusal(sealed, identities);
    expect(refused.code).toBe("key-missing");
    expect(refused.message).toContain("3 recipients");
    expect((await refusal(sealed, { identities: [] })).code).toBe("key-missing");
  });

  test("two writers never share a file key, and it does not print", () => {
    const [one, other] = [1, 2].map(() => createAge([parseRecipient(recipientText)]));
    if (one === undefined || other === undefined) throw new Error("two writers expected");
    expect(one.fileKey.equals(other.fileKey)).toBe(false);
    const raw = one.fileKey.export();
    const shown = inspect(one, { depth: 9, showHidden: true }) + JSON.stringify(one);
    for (const form of [raw.toString("hex"), raw.toString("base64"), raw.toString("latin1")])
      expect(shown).not.toContain(form);
  });

  test("without recipients, or with too many, nothing is encrypted", () => {
    expect(() => createAge([])).toThrow("0 age recipients");
    expect(() => createAge(Array.from({ length: 101 }, () => parseRecipient(recipientText)))).toThrow(
      "101 age recipients",
    );
    expect(createAge(Array.from({ length: 100 }, () => parseRecipient(recipientText))).fileKey).toBeDefined();
  });

  test("a consumer that stops early ends the source, and an abort is passed on promptly", async () => {
    let ended = 0;
    const endless = async function* () {
      try {
        for (;;) yield seededBytes(chunkBytes);
      } finally {
        ended++;
      }
    };
    const age = createAge([parseRecipient(recipientText)]);
    for await (const chunk of age.encrypt(endless(), calm)) if (chunk.length > chunkBytes) break;
    const { sealed, key } = await encrypted(seededBytes(20 * chunkBytes));
    const stored = (async function* () {
      yield sealed.subarray(0, 18 * sealedChunkBytes);
      yield* endless();
    })();
    for await (const chunk of decryptAge(stored, key, calm)) if (chunk.length > 0) break;
    const controller = new AbortController();
    const reason = new Fault("interrupted", "stopped by the test");
    const run = collect(age.encrypt(endless(), controller.signal));
    setTimeout(() => controller.abort(reason), 20);
    await expect(run).rejects.toBe(reason);
    expect(ended).toBe(2);
  });
});

describe("interoperation", () => {
  const sizes = [0, 1, 65536, 65537, 400_000];

  test.each(sizes)("stock age decrypts our %i bytes, and we decrypt its", async (bytes) => {
    const plain = seededBytes(bytes);
    const { sealed } = await encrypted(plain);
    expect((await stock("age", ["-d", "-i", keyFile], sealed)).equals(plain)).toBe(true);
    const theirs = await stock("age", ["-r", recipientText], plain);
    expect((await decrypted(theirs, identities)).equals(plain)).toBe(true);
  });

  test.each(sizes)("typage decrypts our %i bytes, and we decrypt its", async (bytes) => {
    const plain = seededBytes(bytes);
    const decrypter = new Decrypter();
    decrypter.addIdentity(secret);
    expect(Buffer.from(await decrypter.decrypt((await encrypted(plain)).sealed)).equals(plain)).toBe(true);
    const encrypter = new Encrypter();
    encrypter.addRecipient(recipientText);
    expect((await decrypted(await encrypter.encrypt(plain), identities)).equals(plain)).toBe(true);
  });
});

/** C2SP's vectors: a header of "key: value" lines, an empty line, an age file. Ours is the part for native keys without armor. */
function vector(bytes: Uint8Array): { expect: string; payload: string; secrets: string[]; file: Buffer } | undefined {
  const end = Buffer.from(bytes).indexOf("\n\n");
  const lines = Buffer.from(bytes).subarray(0, end).toString().split("\n");
  const values = (key: string): string[] =>
    lines.filter((line) => line.startsWith(`${key}: `)).map((line) => line.slice(key.length + 2));
  const secrets = values("identity");
  if (values("armored").length + values("passphrase").length > 0) return undefined;
  if (secrets.length === 0 || !secrets.every((one) => one.startsWith("AGE-SECRET-KEY-1"))) return undefined;
  const stored = Buffer.from(bytes).subarray(end + 2);
  const file = values("compressed")[0] === "zlib" ? inflateSync(stored) : stored;
  return { expect: values("expect")[0] ?? "", payload: values("payload")[0] ?? "", secrets, file };
}

describe("the age community's test vectors", () => {
  const vectors = Object.entries(cctv as unknown as Record<string, Uint8Array>).flatMap(([name, bytes]) => {
    const parsed = vector(bytes);
    return parsed === undefined ? [] : [{ name, ...parsed }];
  });
  const codes: Record<string, string> = { "no match": "key-missing" };

  test("are there", () => {
    expect(vectors.length).toBeGreaterThan(60);
    expect(new Set(vectors.map((one) => one.expect))).toContain("payload failure");
  });

  test.each(vectors)("$name: $expect", async ({ expect: expected, payload, secrets, file }) => {
    const key = { identities: parseIdentities(secrets.join("\n")) };
    if (expected === "success") {
      const plain = await decrypted(file, key, [1000]);
      expect(createHash("sha256").update(plain).digest("hex")).toBe(payload);
    } else {
      expect((await refusal(file, key)).code).toBe(codes[expected] ?? "object-damaged");
    }
  });
});

describe("an age file that is not what was written", () => {
  test("every flipped bit of a small file is refused", async () => {
    const { sealed, key } = await encrypted(seededBytes(50));
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const flipped = Buffer.from(sealed);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect((await refusal(flipped, key)).code).toBe("object-damaged");
      if (bit % 8 === 0) expect(["object-damaged", "key-missing"]).toContain((await refusal(flipped, identities)).code);
    }
  });

  test("every truncation of a small file is refused, also within the header", async () => {
    const { sealed, key } = await encrypted(seededBytes(50));
    for (let bytes = 0; bytes < sealed.length; bytes++) {
      expect((await refusal(sealed.subarray(0, bytes), key)).code).toBe("object-damaged");
    }
  });

  test.each([1, 2, 8, 9])(
    "a file of %i chunks and a half is refused when cut at or near any chunk's end",
    async (chunks) => {
      const { sealed, key } = await encrypted(seededBytes((chunks + 0.5) * chunkBytes));
      const head = headSize(sealed);
      for (let chunk = 0; chunk <= chunks; chunk++) {
        for (const offset of [-1, 0, 1, 15, 16, 17]) {
          const cut = head + chunk * sealedChunkBytes + offset;
          expect((await refusal(sealed.subarray(0, cut), key)).code).toBe("object-damaged");
        }
      }
    },
  );

  test.each([1, 2.5, 8, 8.5])("after %d chunks, anything appended is refused", async (chunks) => {
    const { sealed, key } = await encrypted(seededBytes(chunks * chunkBytes));
    const lastChunk = sealed.subarray(sealed.length - (chunks % 1 === 0 ? sealedChunkBytes : sealedChunkBytes / 2 + 8));
    for (const added of [
      Buffer.alloc(1),
      Buffer.alloc(16),
      Buffer.alloc(17),
      Buffer.alloc(sealedChunkBytes),
      lastChunk,
    ]) {
      expect((await refusal(Buffer.concat([sealed, added]), key)).code).toBe("object-damaged");
    }
    expect((await refusal(Buffer.concat([sealed, sealed]), key)).code).toBe("object-damaged");
  });

  test("chunks in another order, missing or doubled are refused", async () => {
    const { sealed, key } = await encrypted(seededBytes(3.5 * chunkBytes));
    const head = sealed.subarray(0, headSize(sealed));
    const chunk = (index: number): Buffer =>
      sealed.subarray(head.length + index * sealedChunkBytes).subarray(0, sealedChunkBytes);
    for (const order of [[1, 0, 2, 3], [0, 2, 3], [0, 0, 1, 2, 3], [0, 1, 3, 2], [3], [3, 0, 1, 2], [0, 1, 2, 3, 3]]) {
      const file = Buffer.concat([head, ...order.map((index) => chunk(index))]);
      expect((await refusal(file, key)).code).toBe("object-damaged");
    }
    expect((await decrypted(Buffer.concat([head, ...[0, 1, 2, 3].map((index) => chunk(index))]), key)).length).toBe(
      3.5 * chunkBytes,
    );
  });

  test("whatever is handed out before the refusal is authentic", async () => {
    const plain = seededBytes(20 * chunkBytes);
    const { sealed, key } = await encrypted(plain);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: headSize(sealed), max: sealed.length - 1 }), async (at) => {
        const flipped = Buffer.from(sealed);
        flipped[at] = (flipped[at] ?? 0) ^ 0x40;
        let seenBytes = 0;
        const reading = (async () => {
          for await (const chunk of decryptAge(chunked(flipped), key, calm)) {
            expect(plain.subarray(seenBytes, seenBytes + chunk.length).equals(chunk)).toBe(true);
            seenBytes += chunk.length;
          }
        })();
        await expect(reading).rejects.toMatchObject({ code: "object-damaged" });
        expect(seenBytes).toBeLessThanOrEqual(Math.floor((at - headSize(sealed)) / sealedChunkBytes) * chunkBytes);
      }),
      { numRuns: 10 },
    );
  });

  test("another file's key does not open it", async () => {
    const { sealed } = await encrypted(seededBytes(50));
    const refused = await refusal(sealed, { fileKey: createSecretKey(Buffer.alloc(16, 1)) });
    expect(refused).toMatchObject({ code: "object-damaged", message: expect.stringContaining("MAC") });
  });

  test("a header without end, or with too many stanzas, is refused within bounds", async () => {
    let pulledBytes = 0;
    const endless = (async function* () {
      yield Buffer.from("age-encryption.org/v1\n-> X25519 ");
      for (; ; pulledBytes += 1024) yield Buffer.alloc(1024, "a");
    })();
    await expect(collect(decryptAge(endless, identities, calm))).rejects.toThrow("does not end within 65536 bytes");
    expect(pulledBytes).toBeLessThan(70_000);
    const stanzas = "-> grease a\n\n".repeat(101);
    const crowded = Buffer.from(`age-encryption.org/v1\n${stanzas}--- ${"A".repeat(43)}\n${"n".repeat(32)}`);
    expect((await refusal(crowded, identities)).message).toContain("too many stanzas");
  });
});
