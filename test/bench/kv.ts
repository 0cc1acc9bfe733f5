import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  credentials,
  loadPackageDefinition,
  type Client,
  type GrpcObject,
  type ServiceClientConstructor,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** etcd's KV and Lease without any policy of retries in between, so that a latency is a latency. */
export interface Kv extends Disposable {
  put(key: string, value: Uint8Array, lease?: string): Promise<void>;
  /** Resolves with the lease's ID as a decimal string. */
  grant(ttlSeconds: number): Promise<string>;
}

/** `url` is a plain http one. */
export function openKv(url: string): Kv {
  const proto = join(dirname(createRequire(import.meta.url).resolve("etcd3/package.json")), "proto/rpc.proto");
  const { etcdserverpb } = loadPackageDefinition(loadSync(proto, { longs: String })) as { etcdserverpb: GrpcObject };
  const [kv, lease] = [open(etcdserverpb["KV"], url), open(etcdserverpb["Lease"], url)];
  return {
    async put(key, value, id) {
      await call(kv, "put", { key: Buffer.from(key), value, lease: id ?? "0" });
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

function open(service: unknown, url: string): Client {
  return new (service as ServiceClientConstructor)(new URL(url).host, credentials.createInsecure());
}

type Call = (request: object, done: (error: Error | null, answer: unknown) => void) => void;

function call(client: Client, method: string, request: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const send = (client as unknown as Record<string, Call>)[method];
    send?.call(client, request, (error, answer) => (error === null ? resolve(answer) : reject(error)));
  });
}
