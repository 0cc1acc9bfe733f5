import { expect, it, test } from "vitest";
import { readAuth } from "../../src/bolt/auth.ts";
import { message } from "../../src/datadir/proto.ts";
import { proveLogin } from "../../src/workers/login.ts";
import { fixtureBytes, fixtureMinors } from "./fixtures/golden.ts";
import { scratchFile } from "./scratch.ts";
import { writeDatabase } from "./write-database.ts";

it.each(fixtureMinors)("the users of etcd %s are read, and a password is proven against their own hash", (minor) => {
  using file = scratchFile();
  file.set(fixtureBytes(minor));
  const { enabled, revision, users } = readAuth(file.path);
  expect(enabled).toBe(true);
  expect(revision).toBeGreaterThan(1n);
  expect(users).toEqual([{ name: "root", passwordHash: expect.stringMatching(/^\$2a\$\d\d\$/), roles: ["root"] }]);
  const verdict = (username: string | undefined, password: string | undefined): string =>
    proveLogin(file.path, username, password).verdict;
  expect(proveLogin(file.path, "root", "secret")).toEqual({
    verdict: "accepted",
    roots: ["root"],
    authRevision: revision,
  });
  expect(verdict("root", "Secret")).toBe("wrong-password");
  expect(verdict("ops", "secret")).toBe("unknown-user");
  expect(verdict(undefined, undefined)).toBe("unknown-user");
  // By a client certificate.
  expect(verdict("root", undefined)).toBe("accepted");
});

test("a user without the role root, without a password, or with a hash that takes minutes is told as such", () => {
  const user = (name: string, hash: string, ...roles: readonly string[]) => ({
    key: Buffer.from(name),
    value: message(
      [1, Buffer.from(name)],
      [2, Buffer.from(hash)],
      ...roles.map((role) => [3, Buffer.from(role)] as const),
      [4, message([1, hash === "" ? 1n : 0n])],
    ),
  });
  const authUsers = [
    user("costly", "$2a$31$abcdefghijklmnopqrstuuFgLHZ6vV0mAFTzWEAkGeKnvOjH5hrKG", "root"),
    user("named", "", "app", "root"),
    user("plain", "$2a$04$abcdefghijklmnopqrstuuFgLHZ6vV0mAFTzWEAkGeKnvOjH5hrKG", "app"),
  ];
  using file = scratchFile();
  file.set(writeDatabase({ authUsers, key: [], meta: [] }));
  expect(readAuth(file.path)).toMatchObject({ enabled: false, revision: 0n });
  expect(proveLogin(file.path, "plain", "x")).toMatchObject({ verdict: "not-root", roots: ["costly", "named"] });
  expect(proveLogin(file.path, "named", "x").verdict).toBe("no-password");
  expect(proveLogin(file.path, "named", undefined).verdict).toBe("accepted");
  expect(proveLogin(file.path, "costly", "x").verdict).toBe("too-costly");
});

test("a row that is no user is damage, and quotes no hash", () => {
  using file = scratchFile();
  const value = message([1, Buffer.from("root")], [2, Buffer.from("$2a$10$secret")]);
  for (const broken of [value.subarray(0, -3), Buffer.concat([value, Buffer.from([0x1d])]), Buffer.alloc(0)]) {
    file.set(writeDatabase({ authUsers: [{ key: Buffer.from("root"), value: broken }], key: [], meta: [] }));
    let said = "";
    try {
      readAuth(file.path);
    } catch (error) {
      said = String(error);
    }
    expect(said).toMatch(/the row "root" is/);
    expect(said).not.toContain("$2a");
  }
});
