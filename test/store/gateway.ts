import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateBucketCommand, ListMultipartUploadsCommand, S3Client } from "@aws-sdk/client-s3";
import { openS3Store } from "../../src/store/s3.ts";
import type { S3Options } from "../../src/store/s3.ts";
import type { Store } from "../../src/store/store.ts";

export interface Gateway extends AsyncDisposable {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const binary = join(import.meta.dirname, "../../.cache/bin/versitygw");

/** An S3 server on loopback with a directory of its own. */
export async function startGateway(tls?: { readonly cert: string; readonly key: string }): Promise<Gateway> {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-s3-"));
  const port = await freePort();
  const accessKeyId = "AKTEST";
  const secretAccessKey = "secret-of-the-test";
  const options = ["-q", "--port", `127.0.0.1:${port}`, ...(tls ? ["--cert", tls.cert, "--key", tls.key] : [])];
  const env = { PATH: process.env["PATH"], ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey };
  const child = spawn(binary, [...options, "posix", directory], { env, stdio: "ignore", cwd: directory });
  const ended = once(child, "exit");
  for (let tries = 0; !(await answers(port)); tries += 1) {
    if (tries > 100) throw new Error(`versitygw does not start; is there one at ${binary}? run: scripts/servers`);
    await sleep(50);
  }
  return {
    endpoint: `${tls ? "https" : "http"}://127.0.0.1:${port}`,
    accessKeyId,
    secretAccessKey,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await ended;
      await rm(directory, { recursive: true });
    },
  };
}

/** Makes a bucket, and gives a store below `prefix` in it, and a count of unfinished multipart uploads. */
export async function openBucket(
  gateway: Gateway,
  options: Partial<S3Options> & { readonly bucket: string },
): Promise<{ readonly store: Store; readonly leftovers: () => Promise<number> }> {
  const { accessKeyId, secretAccessKey } = gateway;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint: gateway.endpoint, region: "us-east-1", credentials, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: options.bucket })).catch((error: unknown) => {
    if (!(error instanceof Error) || error.name !== "BucketAlreadyOwnedByYou") throw error;
  });
  return {
    store: openS3Store({ endpoint: gateway.endpoint, credentials, prefix: "site/backups", ...options }),
    leftovers: async () => {
      const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: options.bucket }));
      return Uploads?.length ?? 0;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  const outcome = await Promise.race([
    once(socket, "connect").then(() => true),
    once(socket, "error").then(() => false),
  ]).catch(() => false);
  socket.destroy();
  return outcome;
}
