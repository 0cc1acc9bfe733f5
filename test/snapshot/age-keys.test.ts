import { inspect } from "node:util";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseIdentities, parseRecipient } from "../../src/snapshot/age.ts";
import { decodeBech32, encodeBech32 } from "../../src/snapshot/bech32.ts";
import { stock } from "./stock.ts";

function fault(action: () => unknown): { code: string; message: string; text: string } {
  try {
    action();
  } catch (error) {
    expect(error).toMatchObject({ name: "Fault" });
    const { code, message } = error as { code: string; message: string };
    return { code, message, text: inspect(error) };
  }
  throw new Error("nothing was refused");
}

describe("bech32", () => {
  test("what is encoded is decoded, in one case only", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        const text = encodeBech32("age", bytes);
        expect(decodeBech32(text)).toEqual({ prefix: "age", bytes });
        expect(decodeBech32(text.toUpperCase())).toEqual({ prefix: "AGE", bytes });
        expect(decodeBech32(`${text.slice(0, -1)}${text.slice(-1).toUpperCase()}`)?.bytes).toEqual(
          /[0-9]$/.test(text) ? bytes : undefined,
        );
      }),
    );
  });

  test("any one wrong character is noticed", () => {
    const text = encodeBech32("age", new Uint8Array(32).fill(7));
    for (let at = 4; at < text.length; at++) {
      for (const character of "qp1z b") {
        if (text[at] === character) continue;
        expect(decodeBech32(text.slice(0, at) + character + text.slice(at + 1))).toBeUndefined();
      }
    }
  });

  test("padding bits that are not zero are refused", () => {
    const right = "age1qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qurs95jt69";
    const paddedWithOne = "age1qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qur3czx78h";
    const oneGroupTooMany = "age1qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qk5a503";
    expect(decodeBech32(right)).toEqual({ prefix: "age", bytes: new Uint8Array(32).fill(7) });
    expect(decodeBech32(paddedWithOne)).toBeUndefined();
    expect(decodeBech32(oneGroupTooMany)).toBeUndefined();
    expect(decodeBech32("A12UEL5L")).toEqual({ prefix: "A", bytes: new Uint8Array(0) });
  });
});

describe("recipients", () => {
  test("those of stock age and of typage are taken", async () => {
    const keygen = (await stock("age-keygen", [], new Uint8Array(0))).toString();
    const stockRecipient = /public key: (age1\S+)/.exec(keygen)?.[1] ?? "";
    expect(parseRecipient(stockRecipient).text).toBe(stockRecipient);
    expect(parseIdentities(keygen).map(({ recipient }) => recipient)).toEqual([stockRecipient]);
    const recipient = await identityToRecipient(await generateX25519Identity());
    expect(parseRecipient(recipient).text).toBe(recipient);
  });

  test("other kinds are refused by name", () => {
    const named = {
      age1pq1qqqqqqqq: "post-quantum",
      age1tag1qqqqqq: "hardware tag",
      age1tagpq1qqqqqq: "hardware tag",
      age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t: "plugin",
      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA": "ssh key",
      "github:somebody": "GitHub",
      "": "no age recipient",
      age1xyz: "no age recipient",
    };
    for (const [text, kind] of Object.entries(named)) {
      expect(fault(() => parseRecipient(text))).toMatchObject({
        code: "config-invalid",
        message: expect.stringContaining(kind),
      });
    }
    expect(() => parseRecipient(encodeBech32("age", new Uint8Array(31).fill(9)))).toThrow("no age recipient");
  });

  test("a recipient of low order, to which everybody could decrypt, is refused", () => {
    const lowOrder = [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    ];
    for (const point of lowOrder) {
      expect(() => parseRecipient(encodeBech32("age", Buffer.from(point, "hex")))).toThrow("low order");
    }
  });

  test("a secret key in the place of a recipient is refused without being repeated", async () => {
    const secret = await generateX25519Identity();
    for (const text of [secret, secret.toLowerCase(), ` ${secret}`]) {
      const { message, text: shown } = fault(() => parseRecipient(text));
      expect(message).toContain("secret key");
      expect(shown.toUpperCase()).not.toContain(secret.slice(16, 40));
    }
  });
});

describe("identities", () => {
  test("a key file with comments, empty lines and Windows line ends is read", async () => {
    const secrets = [await generateX25519Identity(), await generateX25519Identity()];
    const parsed = parseIdentities(`# created: today\r\n\r\n${secrets[0]}\r\n# another\n  ${secrets[1]}\n`);
    expect(parsed.map(({ recipient }) => recipient)).toEqual(
      await Promise.all(secrets.map((s) => identityToRecipient(s))),
    );
  });

  test("a mistyped key is refused with its line, and never shown", async () => {
    const secret = await generateX25519Identity();
    const wrong = `${secret.slice(0, -1)}${secret.endsWith("Q") ? "P" : "Q"}`;
    const refusal = fault(() => parseIdentities(`# comment\n${wrong}\n`));
    expect(refusal).toMatchObject({ code: "secret-unreadable", message: expect.stringContaining("line 2") });
    expect(refusal.text).not.toContain(secret.slice(16, 40));
  });

  test("other kinds, encrypted key files and empty files are refused by name", () => {
    const named = {
      "AGE-PLUGIN-YUBIKEY-1QQQ": "plugin",
      "AGE-SECRET-KEY-PQ-1QQQ": "post-quantum",
      "-----BEGIN OPENSSH PRIVATE KEY-----": "private key",
      age1xyz: "public key",
      "age-encryption.org/v1\n-> scrypt": "encrypted",
      "# nothing\n": "no age identity",
      "age-secret-key-1qqq": "no age identity",
    };
    for (const [text, kind] of Object.entries(named)) {
      expect(fault(() => parseIdentities(text))).toMatchObject({
        code: "secret-unreadable",
        message: expect.stringContaining(kind),
      });
    }
  });

  test("an identity shows nothing secret when it is printed", async () => {
    const secret = await generateX25519Identity();
    const [identity] = parseIdentities(secret);
    const raw = Buffer.from(decodeBech32(secret)?.bytes ?? []);
    const shown = `${inspect(identity, { depth: 9, showHidden: true })}${JSON.stringify(identity)}`;
    for (const form of [raw.toString("hex"), raw.toString("base64"), secret.slice(16)])
      expect(shown).not.toContain(form);
  });
});
