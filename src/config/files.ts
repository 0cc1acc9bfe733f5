import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { accessSync, closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { whyUnfitPair, whyUnfitToken } from "./access.ts";
import type { Environment } from "./fill.ts";
import { userInfo } from "node:os";
import { dotted, storePaths } from "./path.ts";
import type { Path } from "./path.ts";
import type { Problem } from "./problems.ts";
import type { ConfigWarning } from "./rules.ts";
import type { SecretReference } from "./fields.ts";
import type { Config } from "./schema.ts";
import { isDenied, whySecretUnreadable, whyUnreadable } from "./secrets.ts";

/** What a look at the files that a configuration names gave. */
export interface FileFindings {
  readonly problems: readonly Problem[];
  readonly warnings: readonly ConfigWarning[];
}

/**
 * Looks at every file and secret that the configuration names: certificates and keys must be readable and be what they are said
 * to be, secrets must be ours alone, extras should be there. No content of a file reaches a message.
 */
export function checkFiles(config: Config, env: Environment): FileFindings {
  const problems: Problem[] = [];
  const warnings: ConfigWarning[] = [];
  const refuse = (path: Path, message: string): void => {
    problems.push({ path, message, part: "value" });
  };
  const warn = (path: Path, message: string): void => {
    warnings.push({ about: dotted(path), message });
  };
  const pem = (path: Path, file: string | undefined, what: string, parse: (text: string) => unknown): void => {
    if (file === undefined) return;
    const read = readKeyFile(file);
    if ("why" in read) {
      const remedy = read.denied ? `; run: setfacl -m u:${userName()}:r ${file}` : "";
      return refuse(path, `${file} ${read.why}${remedy}`);
    }
    try {
      parse(read.text);
    } catch {
      // OpenSSL's words help nobody and may come from a private key; what was expected is enough.
      refuse(path, `${file} is not ${what}`);
    }
  };

  const { cluster, repository } = config;
  const tls: Path = ["cluster", "tls"];
  pem([...tls, "ca"], cluster.tls?.ca, "a PEM file of certificates", (text) => new X509Certificate(text));
  pem([...tls, "cert"], cluster.tls?.cert, "a PEM certificate", (text) => new X509Certificate(text));
  pem([...tls, "key"], cluster.tls?.key, "a PEM private key without passphrase", createPrivateKey);
  if (cluster.tls?.key !== undefined && readableByAll(cluster.tls.key)) {
    const message = `${cluster.tls.key} may be read by every user of this host, and opens etcd to them; run: chmod o-r ${cluster.tls.key}`;
    warn([...tls, "key"], message);
  }

  const secret = (
    path: Path,
    reference: SecretReference | undefined,
    whyUnfit?: (value: string) => string | undefined,
  ): void => {
    const fault = reference === undefined ? undefined : whySecretUnreadable(reference, env, whyUnfit);
    if (fault !== undefined) refuse(path, fault.hint === undefined ? fault.message : `${fault.message}; ${fault.hint}`);
  };
  secret(["cluster", "auth", "password"], cluster.auth?.password);
  secret(["repository", "encryption", "identity"], repository.encryption?.identity);
  secret(["repository", "signing", "key"], repository.signing?.key);
  secret(["http", "token"], config.http.token, whyUnfitToken);
  const served = config.http.tls;
  pem(["http", "tls", "cert"], served?.cert, "a PEM certificate", (text) => new X509Certificate(text));
  secret(["http", "tls", "key"], served?.key, (key) => {
    const read = readKeyFile(served?.cert ?? "");
    return "why" in read ? undefined : whyUnfitPair(read.text, key);
  });
  for (const target of ["start", "success", "failure"] as const) {
    const address = config.notify[target];
    if (address !== undefined && !("url" in address)) secret(["notify", target], address);
  }
  for (const [index, file] of (repository.signing?.trusted ?? []).entries()) {
    pem(["repository", "signing", "trusted", index], file, "an Ed25519 public key (SPKI PEM)", parseTrustedKey);
  }
  const stores = [repository.store, ...repository.copies.map((copy) => copy.store)];
  for (const [index, path] of storePaths(config).entries()) {
    const store = stores[index];
    if (store?.kind !== "s3") continue;
    const s3: Path = [...path, "s3"];
    pem([...s3, "ca"], store.ca, "a PEM file of certificates", (text) => new X509Certificate(text));
    const credentials = store.credentials?.file;
    secret([...s3, "credentials", "file"], credentials === undefined ? undefined : { file: credentials });
  }
  for (const [name, { services }] of Object.entries(config.hosts)) {
    for (const [index, { readyCa, readyCert, readyKey }] of services.entries()) {
      const at: Path = ["hosts", name, "services", index];
      pem([...at, "readyCa"], readyCa, "a PEM file of certificates", (text) => new X509Certificate(text));
      pem([...at, "readyCert"], readyCert, "a PEM certificate", (text) => new X509Certificate(text));
      pem([...at, "readyKey"], readyKey, "a PEM private key without passphrase", createPrivateKey);
    }
  }
  for (const [index, path] of repository.extras.entries()) {
    try {
      accessSync(path, constants.R_OK);
    } catch (error) {
      warn(
        ["repository", "extras", index],
        `${path} ${whyUnreadable(error)}: backups will be stored without it (exit status 3)`,
      );
    }
  }
  return { problems, warnings };
}

function parseTrustedKey(text: string): void {
  // createPublicKey would also derive one from a private key, which must not lie around where backups are checked.
  if (!text.includes("-----BEGIN PUBLIC KEY-----") || createPublicKey(text).asymmetricKeyType !== "ed25519") {
    throw new TypeError("not an Ed25519 public key");
  }
}

function readKeyFile(file: string): { readonly text: string } | { readonly why: string; readonly denied: boolean } {
  try {
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(descriptor);
      if (!stats.isFile())
        return { why: stats.isDirectory() ? "is a directory" : "is not a regular file", denied: false };
      if (stats.size > 1024 * 1024) return { why: "is larger than 1 MiB, so no certificate or key", denied: false };
      return { text: readFileSync(descriptor, "utf8") };
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    return { why: whyUnreadable(error), denied: isDenied(error) };
  }
}

/** The user that runs this, as setfacl takes it. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A user without an entry in passwd, as containers have; setfacl takes the number as well.
    return String(process.geteuid?.() ?? "USER");
  }
}

function readableByAll(file: string): boolean {
  try {
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return (fstatSync(descriptor).mode & 0o004) !== 0;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    // Unreadable: told already as a problem.
    return false;
  }
}
