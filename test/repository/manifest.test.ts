import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isFault } from "../../src/faults.ts";
import { manifestJsonSchema, readManifest, writeManifest, type Manifest } from "../../src/repository/manifest.ts";
import { openSigner, openTrustedKeys } from "../../src/repository/signature.ts";
import { freshKeys } from "./keys.ts";
import { backupId, encryptedManifest, lineageId, repositoryId, sampleManifest } from "./sample.ts";

const here = { repository: repositoryId, lineage: lineageId, backup: backupId };
const name = `lineages/${lineageId}/backups/${backupId}.json`;
const fixture = (file: string): Buffer => readFileSync(join(import.meta.dirname, "fixtures", file));
const code = (work: () => unknown): string => {
  try {
    work();
    return "accepted";
  } catch (error) {
    return isFault(error) ? error.code : String(error);
  }
};
const edited = (bytes: Uint8Array, edit: (document: Record<string, unknown>) => void): Buffer => {
  const document = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  edit(document);
  return Buffer.from(JSON.stringify(document));
};

describe("a manifest", () => {
  test.each([sampleManifest(), encryptedManifest()])("comes back as it was written", (manifest) => {
    expect(readManifest(name, writeManifest(manifest, undefined), here, undefined)).toEqual(manifest);
  });

  test("keeps 64-bit numbers to their extremes", () => {
    const plain = sampleManifest();
    const manifest: Manifest = {
      ...plain,
      content: {
        ...plain.content,
        revision: 2n ** 63n - 1n,
        compactRevision: -1n,
        consistentIndex: 2n ** 64n - 1n,
        term: null,
      },
      samples: [{ main: -(2n ** 63n), sub: 2n ** 63n - 1n, sha256: "0".repeat(64) }],
    };
    expect(readManifest(name, writeManifest(manifest, undefined), here, undefined)).toEqual(manifest);
  });

  test.each(["18446744073709551616", "-1", "1.0", "1e3", "0x10", "", " 1"])(
    "refuses %j as an unsigned 64-bit number",
    (text) => {
      const bytes = edited(writeManifest(sampleManifest(), undefined), (document) => {
        (document["content"] as Record<string, unknown>)["consistentIndex"] = text;
      });
      expect(code(() => readManifest(name, bytes, here, undefined))).toBe("manifest-invalid");
    },
  );

  test.each([
    ["no list", {}],
    ["no pair", [1, 2]],
    ["a short pair", [[1]]],
    ["a long pair", [[1, 2, 3]]],
    ["text", [["1", 2]]],
    ["a negative count", [[-1, 2]]],
    ["half a byte", [[1.5, 2]]],
    ["a count that is not exact", [[2 ** 53, 2]]],
    ["nothing", null],
  ])("with %s among its frames is refused", (_, frames) => {
    const bytes = edited(writeManifest(sampleManifest(), undefined), (document) => {
      (document["data"] as { compression: { frames: unknown } }).compression.frames = frames;
    });
    expect(code(() => readManifest(name, bytes, here, undefined))).toBe("manifest-invalid");
  });

  test("is never written when it could not be read again", () => {
    expect(code(() => writeManifest(sampleManifest({ label: "x".repeat(201) }), undefined))).toBe("manifest-invalid");
  });

  test("with an unknown field is refused, at any depth", () => {
    const bytes = writeManifest(sampleManifest(), undefined);
    const flat = edited(bytes, (document) => (document["proven"] = true));
    const deep = edited(bytes, (document) => ((document["content"] as Record<string, unknown>)["x"] = 1));
    expect(code(() => readManifest(name, flat, here, undefined))).toBe("manifest-invalid");
    expect(code(() => readManifest(name, deep, here, undefined))).toBe("manifest-invalid");
  });

  test.each(["etcd-lifeboat/manifest/v2", "etcd-lifeboat/manifest/v12"])(
    "of a future format (%s) is refused as that, whatever its fields are, signed or not",
    (schema) => {
      const bytes = edited(writeManifest(sampleManifest(), undefined), (document) => {
        document["schema"] = schema;
        document["chunks"] = [];
      });
      const reading = (): unknown => readManifest(name, bytes, here, undefined);
      expect(code(reading)).toBe("manifest-invalid");
      expect(reading).toThrow(`${name} has the format ${schema}, which this version does not know`);
      const { signer, trusted } = freshKeys();
      const body = bytes.toString();
      const signature = JSON.stringify(signer.sign(Buffer.from(body)));
      const signed = Buffer.from(`${body.slice(0, -1)},"signature":${signature}}\n`);
      expect(() => readManifest(name, signed, here, trusted)).toThrow(/which this version does not know/);
    },
  );

  test("that was copied from another place is refused", () => {
    const bytes = writeManifest(sampleManifest(), undefined);
    const other = "01JQZZZZZZZZZZZZZZZZZZZZZZ";
    expect(code(() => readManifest(name, bytes, { ...here, lineage: other }, undefined))).toBe("manifest-invalid");
    expect(code(() => readManifest(name, bytes, { ...here, backup: "20260301T130000Z.slot.hourly" }, undefined))).toBe(
      "manifest-invalid",
    );
    expect(() => readManifest(name, bytes, { ...here, repository: other }, undefined)).toThrow(
      /of cluster "prod" in repository/,
    );
  });

  test("may only name objects of its own lineage", () => {
    const plain = sampleManifest();
    const bytes = writeManifest({ ...plain, data: { ...plain.data, object: "repository.json" } }, undefined);
    expect(() => readManifest(name, bytes, here, undefined)).toThrow(/names repository.json/);
  });

  test.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["a list", "[]"],
    ["null", "null"],
    ["bad UTF-8", "\u00ff"],
  ])("that is %s is refused by name", (_, text) => {
    expect(() => readManifest(name, Buffer.from(text, "latin1"), here, undefined)).toThrow(name);
  });

  test("of format 1 is read by this version, plain and signed", () => {
    expect(readManifest(name, fixture("manifest-v1.json"), here, undefined)).toEqual(sampleManifest());
    const trusted = openTrustedKeys([{ pem: fixture("manifest-v1.pub").toString(), origin: "fixture" }]);
    expect(readManifest(name, fixture("manifest-v1-signed.json"), here, trusted)).toEqual(encryptedManifest());
    expect(readManifest(name, fixture("manifest-v1-signed.json"), here, undefined)).toEqual(encryptedManifest());
  });

  test("has the published JSON schema", async () => {
    await expect(`${JSON.stringify(manifestJsonSchema(), undefined, 2)}\n`).toMatchFileSnapshot(
      join(import.meta.dirname, "../../docs/formats/manifest-v1.schema.json"),
    );
  });
});

describe("where keys are trusted", () => {
  test("a manifest that one of them signed is believed", () => {
    const { signer, trusted } = freshKeys();
    expect(readManifest(name, writeManifest(sampleManifest(), signer), here, trusted)).toEqual(sampleManifest());
  });

  test("an unsigned one and one of a foreign key are refused", () => {
    const { trusted } = freshKeys();
    expect(() => readManifest(name, writeManifest(sampleManifest(), undefined), here, trusted)).toThrow(
      /is not signed/,
    );
    expect(() => readManifest(name, writeManifest(sampleManifest(), freshKeys().signer), here, trusted)).toThrow(
      /unknown key/,
    );
  });

  test("a signature that is malformed or taken from another manifest is refused", () => {
    const { signer, trusted } = freshKeys();
    const bytes = writeManifest(sampleManifest(), signer);
    const other = JSON.parse(Buffer.from(writeManifest(encryptedManifest(), signer)).toString()) as Record<
      string,
      unknown
    >;
    const swapped = edited(bytes, (document) => (document["signature"] = other["signature"]));
    expect(code(() => readManifest(name, swapped, here, trusted))).toBe("manifest-untrusted");
    const malformed = edited(bytes, (document) => (document["signature"] = "yes"));
    expect(code(() => readManifest(name, malformed, here, trusted))).toBe("manifest-invalid");
  });

  test("a changed byte is refused, or changes nothing that the manifest says", () => {
    const { signer, trusted } = freshKeys();
    const bytes = writeManifest(encryptedManifest(), signer);
    let refused = 0;
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 2 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Uint8Array.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ flip;
        const result = code(() => expect(readManifest(name, changed, here, trusted)).toEqual(encryptedManifest()));
        if (result !== "accepted") refused += 1;
        expect(result).toMatch(/^(manifest-invalid|manifest-untrusted|accepted)$/);
      }),
      { numRuns: 500 },
    );
    expect(refused).toBeGreaterThan(450);
  });
});

describe("keys", () => {
  test("of another kind, or no key at all, are refused without quoting them", () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = rsa.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    expect(() => openSigner(pem, "key.pem")).toThrow("key.pem is a rsa key, not an Ed25519 private key");
    expect(() => openSigner("hunter2", "key.pem")).toThrow(/^key.pem is no Ed25519 private key in PKCS#8 PEM$/);
    expect(() => openTrustedKeys([{ pem: "hunter2", origin: "key.pub" }])).toThrow(/^key.pub is no Ed25519/);
  });
});
