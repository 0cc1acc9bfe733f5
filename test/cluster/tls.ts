import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { runProgram } from "./processes.ts";

/** Paths of a certificate and its key in PEM. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateRequest {
  /** For etcd a client's common name is its user. */
  readonly commonName: string;
  /** DNS names and IP addresses; loopback's by default. */
  readonly hosts?: readonly string[];
  /** Both by default, which etcd's peers need. */
  readonly usage?: "server" | "client" | "both";
  /** The files' name without its ending; the common name by default. */
  readonly fileName?: string;
  /** A day ago by default. */
  readonly notBefore?: Date;
  /** Thirty days from now by default. */
  readonly notAfter?: Date;
  /** Ran out a day ago. */
  readonly expired?: boolean;
}

export interface Authority {
  readonly directory: string;
  /** Path of the authority's certificate in PEM. */
  readonly ca: string;
  issue(request: CertificateRequest): Promise<Issued>;
}

const dayMs = 24 * 60 * 60 * 1000;

/** A certificate authority of its own in a directory, made with the openssl command; two of them trust nothing in common. */
export async function createAuthority(at: string, commonName = "lifeboat test authority"): Promise<Authority> {
  const directory = resolve(at);
  await mkdir(directory, { recursive: true });
  const ca = join(directory, "ca.crt");
  const caKey = join(directory, "ca.key");
  const made = ["-keyout", caKey, "-out", ca, "-subj", `/CN=${commonName}`, "-days", "60"];
  await openssl(["req", "-x509", ...newKey, ...made, "-addext", "keyUsage=critical,keyCertSign,cRLSign"], directory);
  return { directory, ca, issue: (request) => issue(directory, { cert: ca, key: caKey }, request) };
}

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

async function issue(directory: string, by: Issued, request: CertificateRequest): Promise<Issued> {
  const now = Date.now();
  const notAfter = request.notAfter ?? new Date(request.expired === true ? now - dayMs : now + 30 * dayMs);
  const notBefore = request.notBefore ?? new Date(Math.min(now, notAfter.getTime()) - dayMs);
  const name = request.fileName ?? request.commonName;
  const issued = { cert: join(directory, `${name}.crt`), key: join(directory, `${name}.key`) };
  // `openssl ca` alone takes a start and an end in the past; it wants an index, and one per certificate lets several run.
  const desk = await mkdtemp(join(directory, ".issue-"));
  await writeFile(join(desk, "index.txt"), "");
  await writeFile(join(desk, "ca.cnf"), deskConfiguration(request));
  const subject = ["-subj", `/CN=${request.commonName}`];
  await openssl(["req", ...newKey, "-keyout", issued.key, "-out", "request.pem", ...subject], desk);
  const signer = ["-config", "ca.cnf", "-extensions", "extensions", "-cert", by.cert, "-keyfile", by.key];
  const validity = ["-startdate", opensslTime(notBefore), "-enddate", opensslTime(notAfter)];
  const files = ["-in", "request.pem", "-out", issued.cert];
  await openssl(["ca", "-batch", "-notext", ...signer, ...validity, ...files], desk);
  await rm(desk, { recursive: true });
  return issued;
}

function deskConfiguration({ hosts, usage = "both" }: CertificateRequest): string {
  const names = (hosts ?? ["localhost", "127.0.0.1", "::1"]).map((host) =>
    /^[\d.]+$|:/.test(host) ? `IP:${host}` : `DNS:${host}`,
  );
  const usages = { server: "serverAuth", client: "clientAuth", both: "serverAuth,clientAuth" };
  return `[ca]
default_ca = desk
[desk]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = ${usages[usage]}
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash
${names.length > 0 ? `subjectAltName = ${names.join(",")}` : ""}
`;
}

function opensslTime(date: Date): string {
  return `${date.toISOString().replaceAll(/[-:T]|\..*/g, "")}Z`;
}

async function openssl(args: readonly string[], cwd: string): Promise<void> {
  await runProgram("openssl", args, { cwd });
}
