import { generateIdentity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { isAgeRecipient } from "../../src/config/recipient.ts";

test("recipients of the age library are accepted", async () => {
  for (let count = 0; count < 5; count++) {
    expect(isAgeRecipient(await identityToRecipient(await generateIdentity()))).toBe(true);
  }
});

test("a recipient with any one character exchanged is refused", async () => {
  const recipient = await identityToRecipient(await generateIdentity());
  for (let position = 0; position < recipient.length; position++) {
    const other = recipient[position] === "q" ? "p" : "q";
    expect(isAgeRecipient(recipient.slice(0, position) + other + recipient.slice(position + 1))).toBe(false);
  }
});

test("identities, ssh keys and shortened recipients are refused", async () => {
  const identity = await generateIdentity();
  const recipient = await identityToRecipient(identity);
  for (const text of [
    identity,
    recipient.slice(0, -1),
    `${recipient} `,
    recipient.toUpperCase(),
    "ssh-ed25519 AAAA",
    "age1",
    "",
  ]) {
    expect(isAgeRecipient(text)).toBe(false);
  }
});
