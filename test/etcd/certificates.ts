import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A certificate authority where `by` is left out, else a certificate for servers and clients. */
export interface CertificateRequest {
  readonly by?: string;
  /** subjectAltName as OpenSSL writes it. */
  readonly names?: string;
  /** The CN, which is etcd's user; the name by default. */
  readonly commonName?: string;
  readonly expired?: boolean;
}

/** Writes NAME.crt and NAME.key for each request with openssl, in the order of the object: authorities first. */
export async function makeCertificates(directory: string, requests: Record<string, CertificateRequest>): Promise<void> {
  const openssl = (...args: string[]) => run("openssl", args, { cwd: directory });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  for (const [name, { by, names, commonName, expired }] of Object.entries(requests)) {
    const subject = `/CN=${commonName ?? name}`;
    if (by === undefined) {
      await openssl(
        "req",
        "-x509",
        ...key,
        "-keyout",
        `${name}.key`,
        "-out",
        `${name}.crt`,
        "-subj",
        subject,
        "-days",
        "30",
      );
      continue;
    }
    await openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject);
    await writeFile(join(directory, "index.txt"), "");
    await writeFile(join(directory, "ca.cnf"), authority(names ?? `DNS:${name}`));
    const signer = ["-config", "ca.cnf", "-extensions", "ext", "-cert", `${by}.crt`, "-keyfile", `${by}.key`];
    const until = expired === true ? "20210101000000Z" : "20990101000000Z";
    const validity = ["-startdate", "20200101000000Z", "-enddate", until];
    await openssl("ca", "-batch", "-notext", ...signer, ...validity, "-in", `${name}.csr`, "-out", `${name}.crt`);
  }
}

function authority(names: string): string {
  return `[ca]
default_ca = it
[it]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[ext]
subjectAltName = ${names}
extendedKeyUsage = serverAuth,clientAuth
`;
}
