import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  credentials,
  loadPackageDefinition,
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type GrpcObject,
  type ServiceClientConstructor,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** etcd's KV and Lease without any policy of retries in between, so that a latency is a latency. */
export interface Kv extends Disposable {
  /** Resolves with the revision of the put. */
  put(key: string, value: Uint8Array, lease?: string): Promise<bigint>;
  /** Resolves with the lease's ID as a decimal string. */
  grant(ttlSeconds: number): Promise<string>;
}

/** Without `tls` the URL must be a plain http one; `tls` is the content of PEM files. */
export function openKv(url: string, tls?: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer }): Kv {
  const proto = join(dirname(createRequire(import.meta.url).resolve("etcd3/package.json")), "proto/rpc.proto");
  const { etcdserverpb } = loadPackageDefinition(loadSync(proto, { longs: String })) as { etcdserverpb: GrpcObject };
  const secrets = tls === undefined ? credentials.createInsecure() : credentials.createSsl(tls.ca, tls.key, tls.cert);
  const [kv, lease] = [open(etcdserverpb["KV"], url, secrets), open(etcdserverpb["Lease"], url, secrets)];
  return {
    async put(key, value, id) {
      const answer = await call(kv, "put", { key: Buffer.from(key), value, lease: id ?? "0" });
      return BigInt((answer as { header: { revision: string } }).header.revision);
    },
    async grant(ttlSeconds) {
      return ((await call(lease, "leaseGrant", { TTL: ttlSeconds })) as { ID: string }).ID;
    },
    [Symbol.dispose]() {
      kv.close();
      lease.close();
    },
  };
}

function open(service: unknown, url: string, secrets: ChannelCredentials): Client {
  return new (service as ServiceClientConstructor)(new URL(url).host, secrets);
}

type Call = (request: object, options: CallOptions, done: (error: Error | null, answer: unknown) => void) => void;

function call(client: Client, method: string, request: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const send = (client as unknown as Record<string, Call>)[method];
    // A put that nobody answers is a failed put; the caller goes on with another member.
    send?.call(client, request, { deadline: Date.now() + 5000 }, (error, answer) =>
      error === null ? resolve(answer) : reject(error),
    );
  });
}
