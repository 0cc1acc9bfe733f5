import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials } from "@grpc/grpc-js";
import protobuf from "protobufjs";

/**
 * A client that keeps a copy of all keys below a prefix as an informer of Kubernetes does: it lists, watches from the next revision on, goes on from the last one it
 * saw when its connection breaks, and lists again only when it is told that this one was compacted. So a revision that means two things is believed.
 */
export interface Informer extends AsyncDisposable {
  /** What it believes, by key. */
  readonly believes: () => Readonly<Record<string, string>>;
  readonly lists: number;
  /** Watches that the server has taken. */
  readonly watches: number;
}

const messages = protobuf.parse(
  `syntax = "proto3"; package etcdserverpb;
  message Header { int64 revision = 3; }
  message KeyValue { bytes key = 1; int64 mod_revision = 3; bytes value = 5; }
  message RangeRequest { bytes key = 1; bytes range_end = 2; }
  message RangeResponse { Header header = 1; repeated KeyValue kvs = 2; }
  message WatchCreateRequest { bytes key = 1; bytes range_end = 2; int64 start_revision = 3; }
  message WatchRequest { WatchCreateRequest create_request = 1; }
  message Event { int32 type = 1; KeyValue kv = 2; }
  message WatchResponse { Header header = 1; bool created = 3; bool canceled = 4; int64 compact_revision = 5; repeated Event events = 11; }`,
  { keepCase: true },
).root;

interface KeyValue {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly mod_revision: string;
}

interface Codec<T> {
  readonly encode: (value: object) => Buffer;
  readonly decode: (bytes: Buffer) => T;
}

/** What it decodes is what the message's text above says; whoever takes it names that. */
function codec(name: string): Codec<never> {
  const type = messages.lookupType(`etcdserverpb.${name}`);
  return {
    encode: (value) => Buffer.from(type.encode(type.fromObject(value)).finish()),
    decode: (bytes) => type.toObject(type.decode(bytes), { longs: String, defaults: true, arrays: true }) as never,
  };
}

const rangeRequest = codec("RangeRequest");
const rangeResponse: Codec<{ readonly header: { readonly revision: string }; readonly kvs: readonly KeyValue[] }> =
  codec("RangeResponse");
const watchRequest = codec("WatchRequest");
const watchResponse: Codec<{
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compact_revision: string;
  readonly events: readonly { readonly type: number; readonly kv: KeyValue }[];
}> = codec("WatchResponse");

/** Starts one at `host:port`; returns when it has listed and its watch was taken. */
export async function startInformer(address: string, prefix: string): Promise<Informer> {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 200,
  });
  const range = { key: Buffer.from(prefix), range_end: Buffer.from(`${prefix.slice(0, -1)}${afterLast(prefix)}`) };
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
  let believed = new Map<string, string>();
  let revision: bigint | undefined;
  const told = { lists: 0, watches: 0 };
  const over = new AbortController();

  async function list(): Promise<void> {
    const answer = await new Promise<ReturnType<typeof rangeResponse.decode>>((resolve, reject) => {
      client.makeUnaryRequest(
        "/etcdserverpb.KV/Range",
        rangeRequest.encode,
        rangeResponse.decode,
        range,
        { deadline: Date.now() + 5000 },
        (error, value) =>
          error === null && value !== undefined ? resolve(value) : reject(error ?? new Error("empty")),
      );
    });
    believed = new Map(answer.kvs.map(({ key, value }) => [text(key), text(value)]));
    revision = BigInt(answer.header.revision);
    told.lists += 1;
  }

  /** Watches until the stream ends, or what it asks for was compacted. */
  async function watch(from: bigint): Promise<void> {
    const stream = client.makeBidiStreamRequest("/etcdserverpb.Watch/Watch", watchRequest.encode, watchResponse.decode);
    // The iteration below tells it, too; after its end nobody else would.
    stream.on("error", () => undefined);
    const cancel = (): void => stream.cancel();
    over.signal.addEventListener("abort", cancel, { once: true });
    try {
      stream.write({ create_request: { ...range, start_revision: from.toString() } });
      for await (const answer of stream as AsyncIterable<ReturnType<typeof watchResponse.decode>>) {
        if (answer.canceled) {
          if (BigInt(answer.compact_revision) > 0n) revision = undefined;
          return;
        }
        if (answer.created) told.watches += 1;
        for (const { type, kv } of answer.events) {
          if (type === 0) believed.set(text(kv.key), text(kv.value));
          else believed.delete(text(kv.key));
          revision = BigInt(kv.mod_revision);
        }
      }
    } finally {
      over.signal.removeEventListener("abort", cancel);
      stream.cancel();
    }
  }

  const running = (async () => {
    while (!over.signal.aborted) {
      try {
        if (revision === undefined) await list();
        else await watch(revision + 1n);
      } catch {
        // A broken connection is nothing to it: it goes on from where it was.
        await sleep(100);
      }
    }
  })();
  const informer: Informer = {
    believes: () => Object.fromEntries([...believed].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    get lists() {
      return told.lists;
    },
    get watches() {
      return told.watches;
    },
    async [Symbol.asyncDispose]() {
      over.abort();
      client.close();
      await running;
    },
  };
  const deadline = AbortSignal.timeout(60_000);
  while (told.watches === 0) {
    if (deadline.aborted) throw new Error(`no watch was taken at ${address}`);
    await sleep(20);
  }
  return informer;
}

function afterLast(prefix: string): string {
  return String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
