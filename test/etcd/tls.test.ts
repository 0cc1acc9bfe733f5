import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EtcdOptions } from "../../src/etcd/connect.ts";
import { openEtcd } from "../../src/etcd/connect.ts";
import type { TlsPaths } from "../../src/etcd/tls-files.ts";
import { createAuthority } from "../cluster/tls.ts";
import type { HostileServer } from "./hostile-server.ts";
import { startHostileServer } from "./hostile-server.ts";

let directory: string;
const file = (name: string): string => join(directory, name);
const client = (name: string): TlsPaths => ({
  ca: file("ca.crt"),
  cert: file(`${name}.crt`),
  key: file(`${name}.key`),
});

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "etcd-lifeboat-tls-"));
  const authority = await createAuthority(directory);
  const other = await createAuthority(join(directory, "other"), "another authority");
  await copyFile(other.ca, file("otherCa.crt"));
  for (const request of [
    { commonName: "server" },
    { commonName: "named", hosts: ["etcd.example"] },
    { commonName: "expired", expired: true },
    { commonName: "client" },
    { commonName: "second" },
    { commonName: "expiredClient", expired: true },
  ]) {
    await authority.issue(request);
  }
});

afterAll(() => rm(directory, { recursive: true, force: true }));

test("a server certificate is checked against the configured CA, and no warning of Node is raised for an address", async () => {
  const warnings: Error[] = [];
  const hear = (warning: Error): unknown => warnings.push(warning);
  process.on("warning", hear);
  await using server = await start("server");
  await expect(askMembers(server.url, { ca: file("ca.crt") })).resolves.toMatchObject({ clusterId: 10n });
  await expect(askMembers(server.url.replace("127.0.0.1", "localhost"), { ca: file("ca.crt") })).resolves.toBeDefined();
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", hear);
  expect(warnings).toEqual([]);
});

test("a wrong CA is named with its file; without a CA the key of the configuration is named", async () => {
  await using server = await start("server");
  await expect(askMembers(server.url, { ca: file("otherCa.crt") })).rejects.toMatchObject({
    code: "etcd-tls",
    hint: expect.stringContaining(`cluster.tls.ca (${file("otherCa.crt")})`),
  });
  await expect(askMembers(server.url, {})).rejects.toMatchObject({
    code: "etcd-tls",
    hint: expect.stringContaining("set cluster.tls.ca"),
  });
});

test("an expired server certificate is named as such", async () => {
  await using server = await start("expired");
  await expect(askMembers(server.url, { ca: file("ca.crt") })).rejects.toMatchObject({
    code: "etcd-tls",
    message: expect.stringContaining("has expired"),
  });
});

test("a certificate for another name is refused, and accepted under its serverName", async () => {
  await using server = await start("named");
  await expect(askMembers(server.url, { ca: file("ca.crt") })).rejects.toMatchObject({
    code: "etcd-tls",
    hint: expect.stringContaining("serverName"),
  });
  await expect(askMembers(server.url, { ca: file("ca.crt"), serverName: "etcd.example" })).resolves.toBeDefined();
});

test("mutual TLS works, and each thing that can be wrong with the client certificate is told apart", async () => {
  await using server = await start("server", true);
  await expect(askMembers(server.url, client("client"))).resolves.toBeDefined();
  await expect(askMembers(server.url, { ca: file("ca.crt") })).rejects.toMatchObject({
    code: "etcd-tls",
    message: expect.stringContaining("asks for a client certificate, and none is configured"),
  });
  await expect(askMembers(server.url, client("expiredClient"))).rejects.toMatchObject({
    code: "etcd-tls",
    message: expect.stringContaining(`${file("expiredClient.crt")} expired on `),
  });
});

test("the certificate that a server shows is known from the connection, and by a look of its own where it is refused", async () => {
  const hourMs = 3_600_000;
  await using server = await start("server");
  await using etcd = openEtcd({ endpoints: [server.url], tls: client("client"), ...quick });
  await using member = etcd.connect({ name: "member", url: server.url });
  await member.status(soon()).catch(() => undefined);
  const shown = await member.serverCertificate(soon());
  expect(shown).toMatchObject({ subject: "CN=server" });
  expect(shown?.notAfterMs).toBeGreaterThan(Date.now() + hourMs);
  expect(shown?.notBeforeMs).toBeLessThan(Date.now());

  await using late = await start("expired");
  await using refusing = openEtcd({ endpoints: [late.url], tls: client("client"), ...quick });
  await using refused = refusing.connect({ name: "late", url: late.url });
  await expect(refused.status(soon())).rejects.toMatchObject({ code: "etcd-tls" });
  expect((await refused.serverCertificate(soon()))?.notAfterMs).toBeLessThan(Date.now());
  expect(late.calls.size).toBe(0);

  await using nobody = etcd.connect({ name: "nobody", url: "https://127.0.0.1:1" });
  await expect(nobody.serverCertificate(soon())).rejects.toMatchObject({ code: "etcd-unreachable" });
});

test("our own certificates are those of the files, every CA of a bundle", async () => {
  await writeFile(
    file("bundle.crt"),
    (await readFile(file("ca.crt"), "utf8")) + (await readFile(file("otherCa.crt"), "utf8")),
  );
  await using etcd = openEtcd({
    endpoints: ["https://127.0.0.1:1"],
    tls: { ...client("client"), ca: file("bundle.crt") },
  });
  const { client: own, ca } = await etcd.certificates();
  expect(own?.subject).toContain("CN=client");
  expect(own?.notAfterMs).toBeGreaterThan(Date.now());
  expect(ca.length).toBe(2);
  await using none = openEtcd({ endpoints: ["http://127.0.0.1:1"] });
  expect(await none.certificates()).toEqual({ client: undefined, ca: [] });
  await using missing = openEtcd({ endpoints: ["https://127.0.0.1:1"], tls: { ca: file("nothing.crt") } });
  await expect(missing.certificates()).rejects.toMatchObject({ code: "etcd-tls" });
});

test("plain HTTP to a TLS server is told as such", async () => {
  await using server = await start("server");
  await expect(askMembers(server.url.replace("https:", "http:"), {})).rejects.toMatchObject({
    code: "etcd-tls",
    hint: "write https:// in the URL",
  });
});

test.each<[string, (at: typeof file) => TlsPaths, RegExp]>([
  [
    "a key of another certificate",
    (at) => ({ cert: at("client.crt"), key: at("second.key") }),
    /second.key does not belong to/,
  ],
  ["a missing file", (at) => ({ ca: at("nothing.crt") }), /cannot read .*nothing.crt: ENOENT/],
  ["a directory", () => ({ ca: directory }), /cannot read .*: EISDIR/],
  [
    "a file that is no key",
    (at) => ({ cert: at("client.crt"), key: at("ca.crt") }),
    /is not an unencrypted PEM private key/,
  ],
  ["a file that is no certificate", (at) => ({ ca: at("ca.key") }), /cluster.tls.ca .* is not a PEM certificate/],
])("%s is named before anything is sent", async (_name, paths, message) => {
  await using server = await start("server");
  await expect(askMembers(server.url, paths(file))).rejects.toMatchObject({
    code: "etcd-tls",
    message: expect.stringMatching(message),
  });
  expect(server.calls.size).toBe(0);
});

test("files that are replaced while running are used for the next connection", async () => {
  await copy("expiredClient", "rotated");
  await using server = await start("server", true);
  await using etcd = openEtcd({ endpoints: [server.url], tls: client("rotated"), ...quick });
  await expect(etcd.members(soon())).rejects.toMatchObject({ code: "etcd-tls" });
  await copy("client", "rotated");
  await expect.poll(() => succeeds(etcd.members(soon()))).toBe(true);
});

test("a pair that is half replaced is waited for", async () => {
  await copy("client", "pair");
  await using server = await start("server", true);
  await using etcd = openEtcd({ endpoints: [server.url], tls: client("pair"), ...quick });
  await etcd.members(soon());
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await cp(file("second.crt"), file("pair.crt"));
  const asked = etcd.members(soon());
  await new Promise((resolve) => setTimeout(resolve, 400));
  await cp(file("second.key"), file("pair.key"));
  await expect(asked).resolves.toBeDefined();
});

const quick = { timeouts: { connectMs: 2000, callMs: 4000 } };

async function copy(from: string, to: string): Promise<void> {
  for (const kind of ["crt", "key"]) await cp(file(`${from}.${kind}`), file(`${to}.${kind}`));
}

async function start(name: string, mutual = false): Promise<HostileServer> {
  const ca = file("ca.crt");
  return startHostileServer({}, 0, {
    cert: file(`${name}.crt`),
    key: file(`${name}.key`),
    ca: mutual ? ca : undefined,
  });
}

async function askMembers(url: string, tls: EtcdOptions["tls"]): Promise<unknown> {
  await using etcd = openEtcd({ endpoints: [url], tls, ...quick });
  return await etcd.members(soon());
}

function soon(): AbortSignal {
  return AbortSignal.timeout(25_000);
}

async function succeeds(promise: Promise<unknown>): Promise<boolean> {
  return promise.then(
    () => true,
    () => false,
  );
}
