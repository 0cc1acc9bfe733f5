import { mkdir, readFile } from "node:fs/promises";
import { Agent } from "node:https";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from "@aws-sdk/client-s3";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { accepts, releasePorts, reservePorts } from "./ports.ts";
import { logTail, startServer } from "./processes.ts";
import type { ServerProcess } from "./processes.ts";
import { toolProgram } from "./servers.ts";
import { createAuthority } from "./tls.ts";
import type { Issued } from "./tls.ts";

export interface S3Options {
  /** Buckets keep every version of an object. */
  readonly versioning?: boolean;
  readonly tls?: boolean;
  readonly accessKey?: string;
  readonly secretKey?: string;
}

/** A running S3 server on a directory of its own; disposing it kills the process and removes the directory. */
export interface TestS3 extends AsyncDisposable {
  readonly url: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly region: string;
  readonly tls: (Issued & { readonly ca: string }) | undefined;
  /** Objects are plain files in it: `<directory>/<bucket>/<key>`. */
  readonly directory: string;
  readonly logFile: string;
  readonly pid: number;
  readonly running: boolean;
  /** A client for tests that look past the product; the caller destroys it. */
  client(): S3Client;
  createBucket(name: string): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on its data. */
  start(): Promise<void>;
  pause(): void;
  resume(): void;
}

/** Starts versitygw and returns when it accepts connections. */
export async function startS3(options: S3Options = {}): Promise<TestS3> {
  const { versioning = false, accessKey = "AKLIFEBOAT", secretKey = "secret-of-the-test" } = options;
  const program = toolProgram("versitygw");
  const home = await makeDirectory("s3");
  const [directory, versions, logFile] = [join(home, "data"), join(home, "versions"), join(home, "versitygw.log")];
  await mkdir(directory);
  await mkdir(versions);
  const tls = options.tls === true ? await makeTls(join(home, "tls")) : undefined;
  const ca = tls && (await readFile(tls.ca));
  const ports = await reservePorts(1);
  const address = `127.0.0.1:${ports.join()}`;
  const region = "us-east-1";
  let server: ServerProcess | undefined;
  const current = (): ServerProcess => {
    if (server === undefined) throw new Error("the S3 server was never started");
    return server;
  };

  const s3: TestS3 = {
    url: `${tls ? "https" : "http"}://${address}`,
    accessKey,
    secretKey,
    region,
    tls,
    directory,
    logFile,
    get pid() {
      return current().pid;
    },
    get running() {
      return server?.running ?? false;
    },
    client: () =>
      new S3Client({
        endpoint: s3.url,
        region,
        forcePathStyle: true,
        credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
        ...(ca && { requestHandler: { httpsAgent: new Agent({ ca }) } }),
      }),
    async createBucket(name) {
      const client = s3.client();
      await client.send(new CreateBucketCommand({ Bucket: name }));
      const configuration = { Bucket: name, VersioningConfiguration: { Status: "Enabled" as const } };
      if (versioning) await client.send(new PutBucketVersioningCommand(configuration));
      client.destroy();
    },
    stop: async (signal) => await server?.stop(signal),
    async start() {
      const args = ["--port", address, "--region", region, "--quiet"];
      if (tls) args.push("--cert", tls.cert, "--key", tls.key);
      args.push("posix", ...(versioning ? ["--versioning-dir", versions] : []), directory);
      const env = { ROOT_ACCESS_KEY: accessKey, ROOT_SECRET_KEY: secretKey };
      server = await startServer(program, args, { log: logFile, cwd: home, env });
      const deadline = AbortSignal.timeout(60_000);
      while (!(await accepts(Number(ports.join())))) {
        if (!server.running || deadline.aborted) {
          throw new Error(`versitygw does not start; the end of ${logFile}:\n${await logTail(logFile)}`);
        }
        await sleep(25);
      }
    },
    pause: () => current().pause(),
    resume: () => current().resume(),
    async [Symbol.asyncDispose]() {
      await server?.stop("SIGKILL");
      releasePorts(ports);
      await discardDirectory(home);
    },
  };
  try {
    await s3.start();
  } catch (error) {
    await s3[Symbol.asyncDispose]();
    throw error;
  }
  return s3;
}

async function makeTls(directory: string): Promise<Issued & { readonly ca: string }> {
  const authority = await createAuthority(directory);
  return { ca: authority.ca, ...(await authority.issue({ commonName: "s3", usage: "server" })) };
}
