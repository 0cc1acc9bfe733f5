import { Fault } from "../faults.ts";
import { connect } from "./s3-client.ts";
import type { S3Options } from "./s3-client.ts";
import { Objects } from "./s3-objects.ts";
import { uploadObject } from "./s3-upload.ts";
import { isObjectName } from "./store.ts";
import type { Store } from "./store.ts";

export type { S3Options } from "./s3-client.ts";

/**
 * Objects in an S3 bucket. Create-only is `If-None-Match: *`, decided by the server. What a lost answer leaves open is settled
 * by looking at the object: when it is what we sent, we wrote it.
 */
export function openS3Store(options: S3Options): Store {
  const connection = connect(options);
  const objects = new Objects(connection);
  const run = async <T>(verb: string, name: string, signal: AbortSignal, act: () => Promise<T>): Promise<T> => {
    if (!isObjectName(name) || connection.root.length + name.length > 1000) throw badName(name);
    return await connection.translate(`${verb} ${connection.description}/${name}`, signal, act);
  };
  return {
    description: connection.description,
    create: async (name, body, signal) =>
      await run("write", name, signal, async () => await objects.create(name, body, signal)),
    upload: async (name, source, signal) =>
      await run("upload", name, signal, async () => {
        return await uploadObject(connection, objects, name, source, signal);
      }),
    read: async (name, signal) => await run("read", name, signal, async () => await objects.read(name, signal)),
    download: (name, signal) => translated(run, name, signal, objects.download(name, signal)),
    head: async (name, signal) => await run("look at", name, signal, async () => await objects.head(name, signal)),
    list: (prefix, signal) => objects.list(prefix, signal),
    remove: async (name, signal) => await run("remove", name, signal, async () => await objects.remove(name, signal)),
    sweep: async (olderThanMs, signal) =>
      await connection.translate(`sweep ${connection.description}`, signal, async () => {
        return await objects.sweep(olderThanMs, signal);
      }),
    now: async (signal) =>
      await connection.translate(`ask ${connection.description} for the time`, signal, async () => {
        return await objects.now(signal);
      }),
  };
}

async function* translated(
  run: <T>(verb: string, name: string, signal: AbortSignal, act: () => Promise<T>) => Promise<T>,
  name: string,
  signal: AbortSignal,
  body: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      const next = await run("read", name, signal, async () => await body.next());
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await body.return(undefined);
  }
}

function badName(name: string): Fault {
  return new Fault("store-refused", `not an object name: ${JSON.stringify(name.slice(0, 80))}`);
}
