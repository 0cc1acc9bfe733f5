import { execFileSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, inspect } from "node:util";
import { expect, test } from "vitest";
import { readSecret, Redacted, whySecretUnreadable } from "../../src/config/secrets.ts";
import type { SecretReference } from "../../src/config/fields.ts";
import { scratchDirectory, scratchFile } from "./scratch.ts";

const canary = "canary-correct-horse-battery";

async function refusal(reference: SecretReference, env: Record<string, string> = {}): Promise<string> {
  const fault = await readSecret(reference, env).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(fault).toMatchObject({ code: "secret-unreadable" });
  expect(whySecretUnreadable(reference, env)).toMatchObject({ message: (fault as Error).message });
  expect(inspect(fault, { depth: 9 })).not.toContain(canary);
  return (fault as Error).message;
}

test("a secret is read from a file, without the newline at its end", async () => {
  const file = scratchFile("password", `${canary}\r\n\n`);
  expect((await readSecret({ file }, {})).reveal()).toBe(canary);
  expect(whySecretUnreadable({ file }, {})).toBeUndefined();
});

test("a secret is read from an environment variable", async () => {
  expect((await readSecret({ env: "PASSWORD" }, { PASSWORD: canary })).reveal()).toBe(canary);
});

test("the password inside of ETCDCTL_USER is what follows the first colon", async () => {
  expect((await readSecret({ env: "ETCDCTL_USER" }, { ETCDCTL_USER: `root:${canary}:x` })).reveal()).toBe(
    `${canary}:x`,
  );
});

test("a secret is read from a systemd credential, whatever its mode says", async () => {
  const CREDENTIALS_DIRECTORY = scratchDirectory();
  writeFileSync(join(CREDENTIALS_DIRECTORY, "manifest-key"), canary, { mode: 0o440 });
  expect((await readSecret({ credential: "manifest-key" }, { CREDENTIALS_DIRECTORY })).reveal()).toBe(canary);
});

test("a credential without systemd says what is missing", async () => {
  expect(await refusal({ credential: "manifest-key" })).toContain("CREDENTIALS_DIRECTORY is not set");
});

test.each([0o640, 0o604, 0o644, 0o620, 0o777])("a secret in a file of mode %o is refused", async (mode) => {
  const file = scratchFile("password", canary);
  chmodSync(file, mode);
  expect(await refusal({ file })).toContain(`${file} is open to others than its owner (mode 0${mode.toString(8)})`);
});

test("a missing, empty, large or binary file, a directory and a named pipe are refused by name", async () => {
  const directory = scratchDirectory();
  chmodSync(directory, 0o700);
  expect(await refusal({ file: join(directory, "none") })).toContain("none does not exist");
  expect(await refusal({ file: scratchFile("empty", "\n") })).toContain("is empty");
  expect(await refusal({ file: scratchFile("large", canary.repeat(5000)) })).toContain("is larger than 65536 bytes");
  expect(await refusal({ file: scratchFile("binary", Buffer.from([0xff, 0xfe])) })).toContain("is not UTF-8 text");
  expect(await refusal({ file: directory })).toContain("is not a regular file");
  const pipe = join(directory, "pipe");
  execFileSync("mkfifo", ["-m", "600", pipe]);
  expect(await refusal({ file: pipe })).toContain("is not a regular file");
});

test("an unset or empty variable is refused by name", async () => {
  expect(await refusal({ env: "PASSWORD" })).toBe("environment variable PASSWORD is not set");
  expect(await refusal({ env: "PASSWORD" }, { PASSWORD: "" })).toBe("environment variable PASSWORD is not set");
});

test("a secret in memory cannot be printed by mistake", () => {
  const secret = new Redacted(canary);
  const printed = [
    // oxlint-disable-next-line typescript/restrict-template-expressions -- this is the mistake
    `${secret}`,
    "" + String(secret),
    JSON.stringify({ secret }),
    // oxlint-disable-next-line typescript/no-misused-spread -- this is the mistake
    JSON.stringify({ ...secret }),
    inspect({ secret }, { showHidden: true, depth: 9 }),
    format("%s %o %O %j", secret, secret, secret, secret),
    Object.entries(secret).join(),
    [secret].join(),
  ];
  expect(printed.join("\n")).not.toContain(canary);
  expect(secret.reveal()).toBe(canary);
});
