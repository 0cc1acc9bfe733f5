import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { examineConfig, loadConfig } from "../../src/config/load.ts";
import { scratchDirectory } from "./scratch.ts";

interface Site {
  readonly directory: string;
  readonly file: (name: string) => string;
  readonly write: (name: string, content: string, mode?: number) => string;
  readonly config: () => string;
}

/** A directory with every file that a full configuration names, all of them as they should be. */
function site(): Site {
  const directory = scratchDirectory();
  const file = (name: string): string => join(directory, name);
  const write = (name: string, content: string, mode = 0o600): string => {
    writeFileSync(file(name), content);
    chmodSync(file(name), mode);
    return file(name);
  };
  const request = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=test", "-days", "1"];
  execFileSync("openssl", [...request, "-keyout", file("client.key"), "-out", file("client.crt")], { stdio: "ignore" });
  chmodSync(file("client.key"), 0o600);
  write("ca.crt", execFileSync("cat", [file("client.crt")], { encoding: "utf8" }), 0o644);
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  write("manifest.key", privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  write("manifest.pub", publicKey.export({ type: "spki", format: "pem" }).toString(), 0o644);
  write("http.key", execFileSync("cat", [file("client.key")], { encoding: "utf8" }));
  write("http.token", "canary-hunter2-and-then-some\n");
  write("password", "canary-hunter2\n");
  write("age.key", "AGE-SECRET-KEY-1CANARYHUNTER2\n");
  write("s3-credentials", "[default]\naws_secret_access_key = canary-hunter2\n");
  const config = (): string =>
    write(
      "etcd-lifeboat.yaml",
      `cluster:
  name: dev
  endpoints: [https://127.0.0.1:2379]
  tls: { ca: ${file("ca.crt")}, cert: ${file("client.crt")}, key: ${file("client.key")} }
  auth: { username: root, password: { file: ${file("password")} } }
repository:
  store: { s3: { bucket: etcd-backups, region: r, ca: ${file("ca.crt")}, credentials: { file: ${file("s3-credentials")} } } }
  encryption:
    recipients: [age1xc304nlqamdzcrsw3zzmtdle59637qjstsgg7fcgaz3c49d07v8qy5zrwc]
    identity: { file: ${file("age.key")} }
  signing: { key: { file: ${file("manifest.key")} }, trusted: [${file("manifest.pub")}] }
  extras: [${file("ca.crt")}]
schedules: [{ name: hourly, cron: "0 * * * *" }]
http:
  listen: 0.0.0.0:9979
  tls: { cert: ${file("client.crt")}, key: { file: ${file("http.key")} } }
  token: { file: ${file("http.token")} }
hosts:
  cp1:
    reach: local
    services:
      - name: kube-apiserver
        role: api-server
        staticPod: kube-apiserver
        ready: https://127.0.0.1:6443/readyz
        readyCa: ${file("ca.crt")}
        readyCert: ${file("client.crt")}
        readyKey: ${file("client.key")}
`,
    );
  return { directory, file, write, config };
}

function problemsAt(path: string): readonly string[] {
  const examined = examineConfig({ path, env: {} });
  const problems = examined.kind === "broken" ? examined.problems : [];
  const told = problems.map(({ about, message }) => `${about}: ${message}`);
  expect(told.join().toLowerCase()).not.toContain("hunter2");
  return told;
}

test("files that are as they should be give no problem, and no warning but that of the example's key", () => {
  const { config } = site();
  expect(loadConfig({ path: config(), env: {} }).warnings.map(({ about }) => about)).toStrictEqual([
    "repository.encryption.recipients[0]",
  ]);
});

test("all files that cannot be used are told together, each by its key and path", () => {
  const { config, file, write } = site();
  write("ca.crt", "not a certificate");
  write("client.crt", "");
  write("client.key", "canary-hunter2");
  write("manifest.pub", "canary-hunter2");
  write("manifest.key", "canary-hunter2", 0o644);
  write("password", "canary-hunter2", 0o640);
  write("age.key", "");
  write("s3-credentials", "canary-hunter2", 0o604);
  expect(problemsAt(config())).toStrictEqual([
    `cluster.tls.ca: ${file("ca.crt")} is not a PEM file of certificates`,
    `cluster.tls.cert: ${file("client.crt")} is not a PEM certificate`,
    `cluster.tls.key: ${file("client.key")} is not a PEM private key without passphrase`,
    expect.stringContaining("cluster.auth.password: ") as string,
    `repository.store.s3.ca: ${file("ca.crt")} is not a PEM file of certificates`,
    expect.stringContaining("repository.store.s3.credentials.file: ") as string,
    `repository.encryption.identity: ${file("age.key")} is empty`,
    expect.stringContaining(
      `${file("manifest.key")} is open to others than its owner (mode 0644); run: chmod 600`,
    ) as string,
    `repository.signing.trusted[0]: ${file("manifest.pub")} is not an Ed25519 public key (SPKI PEM)`,
    `http.tls.cert: ${file("client.crt")} is not a PEM certificate`,
    `hosts.cp1.services[0].readyCa: ${file("ca.crt")} is not a PEM file of certificates`,
    `hosts.cp1.services[0].readyCert: ${file("client.crt")} is not a PEM certificate`,
    `hosts.cp1.services[0].readyKey: ${file("client.key")} is not a PEM private key without passphrase`,
  ]);
});

test("a key of the pages that is another certificate's, or open to others, is refused", () => {
  const { config, file, write } = site();
  const { privateKey } = generateKeyPairSync("ed25519");
  write("http.key", privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  expect(problemsAt(config())).toStrictEqual([
    `http.tls.key: file ${file("http.key")} does not belong to the certificate`,
  ]);
  write("http.key", "canary-hunter2");
  expect(problemsAt(config())).toStrictEqual([
    `http.tls.key: file ${file("http.key")} is not a PEM private key without passphrase`,
  ]);
  chmodSync(file("http.key"), 0o644);
  expect(problemsAt(config())).toStrictEqual([expect.stringContaining("is open to others") as string]);
});

test.each([
  ["canary-hunter2", "is shorter than 16 characters; make one: openssl rand -hex 32"],
  ["canary-hunter2 and some more", "has characters that no bearer token has"],
])("a token that is none is refused and not shown", (token, why) => {
  const { config, file, write } = site();
  write("http.token", token);
  expect(problemsAt(config())).toStrictEqual([`http.token: file ${file("http.token")} ${why}`]);
});

test("a key of etcd that may not be read names the file, the user and the way out", () => {
  const { config, file, directory } = site();
  const path = config();
  chmodSync(file("client.key"), 0o000);
  const told = asOwnerOnly(directory, () => problemsAt(path));
  expect(told).toStrictEqual([
    expect.stringMatching(
      /^cluster\.tls\.key: .*client\.key may not be read by the user that runs this \(uid \d+\)/,
    ) as string,
    expect.stringMatching(/^hosts\.cp1\.services\[0\]\.readyKey: .*client\.key may not be read/) as string,
  ]);
  expect(told[0]).toContain("setfacl -m u:");
});

test("a key of etcd that everybody may read is a warning", () => {
  const { config, file } = site();
  chmodSync(file("client.key"), 0o644);
  expect(loadConfig({ path: config(), env: {} }).warnings).toContainEqual({
    about: "cluster.tls.key",
    message: expect.stringContaining("may be read by every user of this host") as string,
  });
});

test("a private key among the trusted public keys is refused", () => {
  const { config, file, write } = site();
  write("manifest.pub", execFileSync("cat", [file("manifest.key")], { encoding: "utf8" }));
  expect(problemsAt(config())).toStrictEqual([
    `repository.signing.trusted[0]: ${file("manifest.pub")} is not an Ed25519 public key (SPKI PEM)`,
  ]);
});

test("missing extras are a warning", () => {
  const { config } = site();
  const path = config();
  execFileSync("sed", ["-i", "s#extras: .*#extras: [/nowhere/pki]#", path]);
  expect(loadConfig({ path, env: {} }).warnings).toContainEqual({
    about: "repository.extras[0]",
    message: "/nowhere/pki does not exist: backups will be stored without it (exit status 3)",
  });
});

test("files are left alone where that is asked for", () => {
  const { config, write } = site();
  write("password", "canary-hunter2", 0o644);
  expect(loadConfig({ path: config(), env: {}, files: false }).config.cluster.name).toBe("dev");
});

/** Gives the directory to an ordinary user and runs as that user, since root may read everything. */
function asOwnerOnly<T>(directory: string, action: () => T): T {
  if (process.getuid?.() !== 0) return action();
  execFileSync("chown", ["-R", "65534", directory]);
  process.seteuid?.(65_534);
  try {
    return action();
  } finally {
    process.seteuid?.(0);
  }
}
