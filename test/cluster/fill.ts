import { createCipheriv, createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Etcd3 } from "etcd3";
import type { Access } from "./etcdctl.ts";

export interface Filling {
  readonly keys: number;
  readonly valueBytes: number;
  /** The same seed gives the same values; 1 by default. */
  readonly seed?: number;
  /** `fill/` by default; eight digits follow. */
  readonly prefix?: string;
}

/** Writes keys in transactions of many, several at a time; the keys of one transaction share a revision. */
export async function fill(access: Access, { keys, valueBytes, seed = 1, prefix = "fill/" }: Filling): Promise<void> {
  const client = new Etcd3({
    // Node warns when an address is sent as the TLS server name, and so it must be a name.
    hosts: access.endpoints.map((endpoint) => endpoint.replace("127.0.0.1", "localhost")),
    ...(access.auth && { auth: access.auth }),
    ...(access.tls && {
      credentials: {
        rootCertificate: await readFile(access.tls.ca),
        certChain: await readFile(access.tls.cert),
        privateKey: await readFile(access.tls.key),
      },
    }),
  });
  // etcd's own limits: 128 operations and 1.5 MiB in a request.
  const batch = Math.max(1, Math.min(100, Math.floor((512 * 1024) / (valueBytes + 64))));
  let next = 0;
  const writer = async (): Promise<void> => {
    while (next < keys) {
      const from = next;
      next = Math.min(keys, from + batch);
      const values = seededText(seed, from, (next - from) * valueBytes);
      const success = Array.from({ length: next - from }, (_, index) => ({
        request_put: {
          key: Buffer.from(`${prefix}${String(from + index).padStart(8, "0")}`),
          value: values.subarray(index * valueBytes, (index + 1) * valueBytes),
        },
      }));
      await client.kv.txn({ compare: [], success, failure: [] });
    }
  };
  try {
    await Promise.all([writer(), writer(), writer(), writer()]);
  } finally {
    client.close();
  }
}

/** Printable bytes that compress to three quarters. */
function seededText(seed: number, part: number, bytes: number): Buffer {
  const key = createHash("sha256").update(`${seed}/${part}`).digest();
  const stream = createCipheriv("aes-256-ctr", key, Buffer.alloc(16)).update(
    Buffer.alloc(Math.ceil((bytes * 3) / 4) + 3),
  );
  return Buffer.from(stream.toString("base64")).subarray(0, bytes);
}
