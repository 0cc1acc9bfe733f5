import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { createSecureContext, getCACertificates } from "node:tls";
import type { SecureContext } from "node:tls";
import { Fault } from "../faults.ts";
import { certificatesOf, describeCertificate } from "./certificate.ts";
import type { OwnCertificates } from "./etcd.ts";

/** Paths of PEM files. Without `ca` the system's CAs and those of Node are trusted. */
export interface TlsPaths {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** The name that server certificates must carry, where it is not the host of the URL. */
  readonly serverName?: string | undefined;
}

/** What one reading of the files gave. */
export interface TlsMaterial {
  readonly context: SecureContext;
  /** CN of the client certificate: etcd's user name where no other user is configured. */
  readonly commonName: string | undefined;
  /** End of the client certificate's validity, as it is printed in the certificate. */
  readonly validTo: string | undefined;
  readonly certificates: OwnCertificates;
}

const checkEveryMs = 1000;
const attempts = 6;
const attemptPauseMs = 250;

/**
 * The TLS files of a cluster. `load` looks at the files at most once a second and reads them again when size, time or
 * inode of one has changed. A file that is missing, or a key that does not belong to the certificate, is most likely a
 * rotation half done: it is tried again for a little more than a second before it is an `etcd-tls` fault.
 */
export class TlsFiles {
  readonly paths: TlsPaths;
  #material: TlsMaterial | undefined;
  #fingerprint = "";
  #checkedMs = Number.NEGATIVE_INFINITY;
  #loading: Promise<TlsMaterial> | undefined;

  constructor(paths: TlsPaths) {
    this.paths = paths;
  }

  async load(): Promise<TlsMaterial> {
    if (this.#material !== undefined && performance.now() - this.#checkedMs < checkEveryMs) return this.#material;
    this.#loading ??= this.#reload().finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  async #reload(): Promise<TlsMaterial> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const fingerprint = await this.#look();
        if (this.#material === undefined || fingerprint !== this.#fingerprint) {
          this.#material = await read(this.paths);
          this.#fingerprint = fingerprint;
        }
        this.#checkedMs = performance.now();
        return this.#material;
      } catch (error) {
        if (attempt === attempts) throw error;
        await sleep(attemptPauseMs);
      }
    }
  }

  async #look(): Promise<string> {
    const named = Object.entries({ ca: this.paths.ca, cert: this.paths.cert, key: this.paths.key });
    const facts = named.map(async ([name, path]) => {
      if (path === undefined) return "";
      const { ino, size, mtimeMs, ctimeMs } = await stat(path).catch((error: unknown) => {
        throw unreadable(name, path, error);
      });
      return [ino, size, mtimeMs, ctimeMs].join(" ");
    });
    return (await Promise.all(facts)).join("\n");
  }
}

async function read(paths: TlsPaths): Promise<TlsMaterial> {
  const [ca, cert, key] = await Promise.all([pem("ca", paths.ca), pem("cert", paths.cert), pem("key", paths.key)]);
  const client = cert === undefined ? undefined : certificate(cert, `cluster.tls.cert (${paths.cert})`);
  if (ca !== undefined) certificate(ca, `cluster.tls.ca (${paths.ca})`);
  if (client !== undefined && key !== undefined && !client.checkPrivateKey(privateKey(key, paths.key ?? ""))) {
    throw new Fault("etcd-tls", `the key ${paths.key} does not belong to the certificate ${paths.cert}`, {
      hint: "replace cluster.tls.cert and cluster.tls.key together",
    });
  }
  const context = createSecureContext({ ca: ca ?? systemCas(), cert, key, minVersion: "TLSv1.2" });
  const commonName = client?.subject.split("\n").find((line) => line.startsWith("CN="));
  const certificates = {
    client: client === undefined ? undefined : describeCertificate(client),
    ca: ca === undefined ? [] : certificatesOf(ca),
  };
  return { context, commonName: commonName?.slice(3), validTo: client?.validTo, certificates };
}

async function pem(name: string, path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined;
  return readFile(path).catch((error: unknown) => {
    throw unreadable(name, path, error);
  });
}

function unreadable(name: string, path: string, cause: unknown): Fault {
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  return new Fault("etcd-tls", `cannot read ${path}: ${why}`, {
    hint: `cluster.tls.${name} must be a file that this process may read`,
    cause,
  });
}

function certificate(bytes: Buffer, what: string): X509Certificate {
  try {
    return new X509Certificate(bytes);
  } catch (cause) {
    throw new Fault("etcd-tls", `${what} is not a PEM certificate`, { cause });
  }
}

function privateKey(bytes: Buffer, path: string): ReturnType<typeof createPrivateKey> {
  try {
    return createPrivateKey(bytes);
  } catch (cause) {
    throw new Fault("etcd-tls", `cluster.tls.key (${path}) is not an unencrypted PEM private key`, { cause });
  }
}

function systemCas(): string[] {
  return [...new Set([...getCACertificates("default"), ...getCACertificates("system")])];
}
