import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isFault } from "../../src/faults.ts";
import { proofName, type ProofName } from "../../src/repository/names.ts";
import { proofJsonSchema, readProof, writeProof, type Proof } from "../../src/repository/proof.ts";
import { openTrustedKeys, type Signer } from "../../src/repository/signature.ts";
import { memoryStore } from "../fakes/store.ts";
import { freshKeys } from "./keys.ts";
import { backupId, lineageId, repositoryId, sampleBootProof, sampleProof } from "./sample.ts";

const calm = new AbortController().signal;
const here = { repository: repositoryId, lineage: lineageId, backup: backupId, manifestSha256: "f".repeat(64) };
const fixture = (file: string): Buffer => readFileSync(join(import.meta.dirname, "fixtures", file));

async function stored(proof: Proof, signer?: Signer): Promise<{ readonly name: string; readonly bytes: Uint8Array }> {
  const store = memoryStore();
  await writeProof(store, proof, signer, calm);
  const [[name, { bytes }] = ["", { bytes: new Uint8Array() }]] = store.objects;
  return { name, bytes };
}
const edited = (bytes: Uint8Array, edit: (document: Record<string, unknown>) => void): Buffer => {
  const document = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  edit(document);
  return Buffer.from(JSON.stringify(document));
};
const code = (work: () => unknown): string => {
  try {
    work();
    return "accepted";
  } catch (error) {
    return isFault(error) ? error.code : String(error);
  }
};

describe("a proof", () => {
  test.each([
    sampleProof(),
    sampleProof({ verdict: "sealed", hash: null, compactRevision: null, source: null, answers: [], agreeing: [] }),
    sampleBootProof(),
    sampleBootProof({ verdict: "failed", hash: null, keys: null }),
  ])("comes back as it was written, under a name that says what it says", async (proof) => {
    const { name, bytes } = await stored(proof);
    expect(name).toBe(`lineages/${lineageId}/proofs/${backupId}.${proof.kind}.${proof.verdict}.${proof.id}.json`);
    expect(readProof(name, bytes, here, undefined)).toEqual(proof);
  });

  test("keeps 64-bit numbers to their extremes", async () => {
    const proof = sampleProof({ revision: 2n ** 63n - 1n, compactRevision: -1n });
    const { name, bytes } = await stored(proof);
    expect(readProof(name, bytes, here, undefined)).toEqual(proof);
  });

  test("is created once, and never replaced by another", async () => {
    const store = memoryStore();
    await writeProof(store, sampleProof(), undefined, calm);
    await writeProof(store, sampleProof(), undefined, calm);
    await expect(writeProof(store, sampleProof({ reason: "other" }), undefined, calm)).rejects.toMatchObject({
      code: "store-exists",
    });
    expect(store.objects.size).toBe(1);
  });

  test.each<[string, Proof]>([
    ["a name outside the repository", sampleProof({ backup: "../../repository" })],
    ["proven by no hash", sampleProof({ hash: null })],
    ["proven at no compaction revision", sampleProof({ compactRevision: null })],
    ["proven by too few", sampleProof({ agreeing: ["etcd2"] })],
    ["proven where half is not a majority", sampleProof({ voters: 4, needed: 2 })],
    ["proven by nobody", sampleProof({ voters: 0, needed: 0, agreeing: [] })],
    ["passed without an answer", sampleBootProof({ hash: null })],
    ["passed without a key count", sampleBootProof({ keys: null })],
    ["a hash of more than 32 bits", sampleProof({ hash: 2 ** 32 })],
  ])("that says %s is never written", async (_, proof) => {
    const store = memoryStore();
    await expect(writeProof(store, proof, undefined, calm)).rejects.toMatchObject({ code: "manifest-invalid" });
    expect(store.objects.size).toBe(0);
  });

  test("that its own facts do not bear out is refused, also where it is signed", async () => {
    const { signer, trusted } = freshKeys();
    const sealed = await stored(sampleProof({ verdict: "sealed", agreeing: ["etcd2"], reason: "compacted" }));
    const claimed = { ...(JSON.parse(Buffer.from(sealed.bytes).toString()) as object), verdict: "proven" };
    const body = JSON.stringify(claimed);
    const bytes = Buffer.from(JSON.stringify({ ...claimed, signature: signer.sign(Buffer.from(body)) }));
    const name = sealed.name.replace("sealed", "proven");
    expect(() => readProof(name, bytes, here, trusted)).toThrow(/proven, but by 1 voters where 2 are needed/);
  });

  test("with an unknown field is refused, at any depth", async () => {
    const { name, bytes } = await stored(sampleProof());
    const flat = edited(bytes, (document) => (document["x"] = true));
    const deep = edited(bytes, (document) => ((document["source"] as Record<string, unknown>)["x"] = 1));
    expect(code(() => readProof(name, flat, here, undefined))).toBe("manifest-invalid");
    expect(code(() => readProof(name, deep, here, undefined))).toBe("manifest-invalid");
  });

  test("of another manifest, backup, lineage or repository is refused", async () => {
    const { name, bytes } = await stored(sampleProof());
    const other = "01JQZZZZZZZZZZZZZZZZZZZZZZ";
    expect(() => readProof(name, bytes, { ...here, manifestSha256: "0".repeat(64) }, undefined)).toThrow(
      /proves another manifest/,
    );
    expect(() => readProof(name, bytes, { ...here, repository: other }, undefined)).toThrow(/proof of repository/);
    const elsewhere = { ...here, lineage: other };
    expect(() => readProof(name.replace(lineageId, other), bytes, elsewhere, undefined)).toThrow(/holds the hashkv/);
    const later = "20260301T130000Z.slot.hourly";
    expect(() => readProof(name.replace(backupId, later), bytes, { ...here, backup: later }, undefined)).toThrow(
      /holds the hashkv proof/,
    );
  });

  test("whose name claims more than the document is refused", async () => {
    const proof = sampleProof({ verdict: "sealed", reason: "compacted" });
    const { bytes } = await stored(proof);
    const claims: readonly ProofName[] = [
      { backup: backupId, id: proof.id, kind: "hashkv", verdict: "proven" },
      { backup: backupId, id: proof.id, kind: "boot", verdict: "passed" },
      { backup: backupId, id: "01JQZZZZZZZZZZZZZZZZZZZZZZ", kind: "hashkv", verdict: "sealed" },
    ];
    for (const claim of claims) {
      expect(() => readProof(proofName(lineageId, claim), bytes, here, undefined)).toThrow(/holds the hashkv proof/);
    }
    expect(() => readProof("repository.json", bytes, here, undefined)).toThrow(/holds the hashkv proof/);
  });

  test.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["a list", "[]"],
    ["null", "null"],
    ["no kind", "{}"],
    ["bad UTF-8", "\u00ff"],
  ])("that is %s is refused by name", async (_, text) => {
    const { name } = await stored(sampleProof());
    expect(() => readProof(name, Buffer.from(text, "latin1"), here, undefined)).toThrow(name);
    expect(code(() => readProof(name, Buffer.from(text, "latin1"), here, undefined))).toBe("manifest-invalid");
  });

  test.each([sampleProof(), sampleBootProof()])("of format 1 is read by this version, signed", (proof) => {
    const trusted = openTrustedKeys([{ pem: fixture("proof-v1.pub").toString(), origin: "fixture" }]);
    const bytes = fixture(`proof-v1-${proof.kind}.json`);
    expect(readProof(proofName(lineageId, proof), bytes, here, trusted)).toEqual(proof);
    expect(readProof(proofName(lineageId, proof), bytes, here, undefined)).toEqual(proof);
  });

  test("has the published JSON schema", async () => {
    await expect(`${JSON.stringify(proofJsonSchema(), undefined, 2)}\n`).toMatchFileSnapshot(
      join(import.meta.dirname, "../../docs/formats/proof-v1.schema.json"),
    );
  });
});

describe("where keys are trusted", () => {
  test("a proof that one of them signed is believed; an unsigned one, and one of a foreign key, are refused", async () => {
    const { signer, trusted } = freshKeys();
    const signed = await stored(sampleProof(), signer);
    expect(readProof(signed.name, signed.bytes, here, trusted)).toEqual(sampleProof());
    const unsigned = await stored(sampleProof());
    expect(() => readProof(unsigned.name, unsigned.bytes, here, trusted)).toThrow(/is not signed/);
    expect(() => readProof(signed.name, signed.bytes, here, freshKeys().trusted)).toThrow(/unknown key/);
  });

  test("a signature that was taken from another proof is refused", async () => {
    const { signer, trusted } = freshKeys();
    const { name, bytes } = await stored(sampleProof(), signer);
    const other = await stored(sampleProof({ reason: "other" }), signer);
    const { signature } = JSON.parse(Buffer.from(other.bytes).toString()) as Record<string, unknown>;
    const swapped = edited(bytes, (document) => (document["signature"] = signature));
    expect(code(() => readProof(name, swapped, here, trusted))).toBe("manifest-untrusted");
  });

  test.each([sampleProof(), sampleBootProof()])(
    "a changed byte is refused, or changes nothing that it says",
    async (proof) => {
      const { signer, trusted } = freshKeys();
      const { name, bytes } = await stored(proof, signer);
      let refused = 0;
      fc.assert(
        fc.property(fc.nat({ max: bytes.length - 2 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
          const changed = Uint8Array.from(bytes);
          changed[at] = (changed[at] ?? 0) ^ flip;
          const result = code(() => expect(readProof(name, changed, here, trusted)).toEqual(proof));
          if (result !== "accepted") refused += 1;
          expect(result).toMatch(/^(manifest-invalid|manifest-untrusted|accepted)$/);
        }),
        { numRuns: 500 },
      );
      expect(refused).toBeGreaterThan(450);
    },
  );
});
