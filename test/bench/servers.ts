import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";

/** Paths of PEM files; the certificate is its own CA. */
export interface Pem {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface RunningEtcd {
  readonly name: string;
  readonly plain: string;
  readonly secure: string;
  readonly directory: string;
  readonly pid: number;
}

/** Servers that a benchmark starts; all are killed when it is disposed. */
export class Servers implements Disposable {
  readonly #running: ChildProcess[] = [];
  readonly #directory: string;
  readonly #programs: { readonly etcd: string; readonly versitygw: string };

  constructor(directory: string, programs: { readonly etcd: string; readonly versitygw: string }) {
    this.#directory = directory;
    this.#programs = programs;
  }

  /** The directory behind the S3 server's bucket. */
  get bucket(): string {
    return join(this.#directory, "s3", "bench");
  }

  [Symbol.dispose](): void {
    for (const child of this.#running) child.kill("SIGKILL");
  }

  /** A cluster of so many members, each with a plain and a TLS listener, its data on this directory's disk; resolves when all are healthy. */
  async etcd(members: number, tls: Pem): Promise<readonly [RunningEtcd, ...RunningEtcd[]]> {
    const places = await Promise.all(
      Array.from({ length: members }, async (_, index) => ({
        name: `bench${index + 1}`,
        plain: `http://127.0.0.1:${await freePort()}`,
        secure: `https://127.0.0.1:${await freePort()}`,
        peer: `http://127.0.0.1:${await freePort()}`,
      })),
    );
    const initial = places.map(({ name, peer }) => `${name}=${peer}`).join(",");
    const started = places.map(({ name, plain, secure, peer }) => {
      const directory = join(this.#directory, name);
      const child = this.#start(this.#programs.etcd, [
        `--name=${name}`,
        `--data-dir=${directory}`,
        `--listen-client-urls=${plain},${secure}`,
        `--advertise-client-urls=${plain},${secure}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=${initial}`,
        `--cert-file=${tls.cert}`,
        `--key-file=${tls.key}`,
        `--trusted-ca-file=${tls.ca}`,
        "--quota-backend-bytes=17179869184",
        "--log-level=error",
      ]);
      return { name, plain, secure, directory, pid: child.pid ?? 0 };
    });
    for (const { plain } of started) await until(async () => (await fetch(`${plain}/health`)).ok);
    const [first, ...others] = started;
    if (first === undefined) throw new Error("a cluster of no members");
    return [first, ...others];
  }

  /** An S3 server with a bucket called bench; resolves with its URL. */
  async s3(): Promise<string> {
    const port = await freePort();
    await mkdir(this.bucket, { recursive: true });
    this.#start(
      this.#programs.versitygw,
      ["--port", `127.0.0.1:${port}`, "--quiet", "posix", join(this.#directory, "s3")],
      {
        ROOT_ACCESS_KEY: s3Keys.AWS_ACCESS_KEY_ID,
        ROOT_SECRET_KEY: s3Keys.AWS_SECRET_ACCESS_KEY,
      },
    );
    const url = `http://127.0.0.1:${port}`;
    await until(async () => (await fetch(url)).status > 0);
    return url;
  }

  #start(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "inherit"] });
    this.#running.push(child);
    return child;
  }
}

/** What the S3 server wants to be told. */
export const s3Keys = { AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "benchbench", AWS_REGION: "us-east-1" };

export async function issueCertificates(directory: string): Promise<Pem> {
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  const extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE"];
  const algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const files = ["-keyout", key, "-out", cert];
  await execa("openssl", ["req", "-x509", ...algorithm, ...files, "-subj", "/CN=bench", ...extensions]);
  return { ca: cert, cert, key };
}

async function until(ready: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      if (await ready()) return;
    } catch {
      // Not listening yet: the next try tells.
    }
    await sleep(200);
  }
  throw new Error("a server did not become ready");
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
