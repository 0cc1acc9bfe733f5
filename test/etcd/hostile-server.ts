import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Server, ServerCredentials, status } from "@grpc/grpc-js";
import type { Metadata, sendUnaryData, ServerUnaryCall, ServerWritableStream, ServiceDefinition } from "@grpc/grpc-js";
import { fromJSON } from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { protoText } from "../../src/etcd/proto.ts";

/** What a hostile or broken etcd sends; everything that is left out behaves as etcd does. */
export interface Script {
  /** Merged into the Status answer. */
  readonly status?: Record<string, unknown>;
  /** Answers any unary call with this error instead, as often as `times` says (always by default). */
  readonly fail?: { readonly code: status; readonly details: string; readonly times?: number };
  readonly snapshot?: (send: SnapshotSender) => Promise<void>;
  /** What Authenticate is refused with; it gives a token otherwise. */
  readonly refuseLogin?: string;
  /** Wait before the first header of any answer. */
  readonly delayMs?: number;
}

export interface SnapshotSender {
  /** Sends one message and waits while the client holds it back. */
  message(message: { remainingBytes?: string; blob?: Uint8Array; version?: string }): Promise<void>;
  /** Sends bytes that need not be a message. */
  raw(bytes: Uint8Array): Promise<void>;
  fail(code: status, details: string): void;
  /** Aborted when the client has cancelled. */
  readonly gone: AbortSignal;
}

/** Paths of PEM files; with `ca` a client certificate is demanded. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

export interface HostileServer extends AsyncDisposable {
  readonly url: string;
  /** How often each call was made. */
  readonly calls: ReadonlyMap<string, number>;
  /** Messages of snapshots that were handed to the transport. */
  readonly sentMessages: () => number;
}

const root = protobuf.parse(protoText).root;
const definitions = fromJSON(root.toJSON(), { longs: String, enums: String, defaults: true });
const snapshotResponse = root.lookupType("etcdserverpb.SnapshotResponse");

const header = { clusterId: "10", memberId: "1", revision: "7", raftTerm: "2" };
const healthy = {
  header,
  version: "3.6.0",
  dbSize: "4096",
  leader: "1",
  raftIndex: "9",
  raftTerm: "2",
  raftAppliedIndex: "9",
};

/** A real gRPC server on loopback that plays an etcd member by a script. */
export async function startHostileServer(script: Script = {}, onPort = 0, tls?: ServerTls): Promise<HostileServer> {
  const calls = new Map<string, number>();
  let sent = 0;
  const server = new Server();
  const answers: Record<string, unknown> = {
    Status: { ...healthy, ...script.status },
    MemberList: { header, members: [{ ID: "1", name: "m1", clientURLs: ["http://127.0.0.1:1"], peerURLs: [] }] },
    Alarm: { header, alarms: [] },
    HashKV: { header, hash: 1, compactRevision: "-1" },
    Range: { header },
    Authenticate: tokenAnswer("token"),
  };

  for (const service of ["KV", "Cluster", "Maintenance"]) {
    const definition = structuredDefinition(service);
    const handlers = Object.fromEntries(
      Object.keys(definition).map((name) => [name, name === "Snapshot" ? stream : unary(name)]),
    );
    server.addService(definition, handlers as never);
  }
  server.addService(authService, { authenticate: unary("Authenticate") });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${onPort}`, credentials(tls), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    calls,
    sentMessages: () => sent,
    [Symbol.asyncDispose]: async () => {
      server.forceShutdown();
    },
  };

  function unary(name: string) {
    return (_call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
      const count = called(name);
      const { fail } = script;
      setTimeout(() => {
        if (name === "Authenticate" && script.refuseLogin !== undefined) done({ code: 3, details: script.refuseLogin });
        else if (name !== "Authenticate" && fail !== undefined && count <= (fail.times ?? Number.POSITIVE_INFINITY)) {
          done({ code: fail.code, details: fail.details });
        } else done(null, answers[name]);
      }, script.delayMs ?? 0);
    };
  }

  function stream(call: ServerWritableStream<unknown, Buffer>): void {
    called("Snapshot");
    const gone = new AbortController();
    call.on("cancelled", () => {
      gone.abort();
    });
    const raw = async (bytes: Uint8Array): Promise<void> => {
      sent += 1;
      if (!call.write(Buffer.from(bytes))) {
        await new Promise<void>((resolve) => {
          call.once("drain", resolve);
          gone.signal.addEventListener("abort", () => {
            resolve();
          });
        });
      }
    };
    const sender: SnapshotSender = {
      raw,
      message: async (message) => raw(snapshotResponse.encode(snapshotResponse.fromObject(message)).finish()),
      fail: (code, details) => {
        call.emit("error", { code, details, metadata: undefined as Metadata | undefined });
      },
      gone: gone.signal,
    };
    const play = async (): Promise<void> => {
      await sleep(script.delayMs ?? 0);
      await (script.snapshot ?? ((send: SnapshotSender) => sendSnapshot(send, Buffer.alloc(8192, 7))))(sender);
      call.end();
    };
    play().catch((error: unknown) => {
      call.emit("error", { code: status.INTERNAL, details: String(error) });
    });
  }

  function called(name: string): number {
    const count = (calls.get(name) ?? 0) + 1;
    calls.set(name, count);
    return count;
  }
}

/** Sends a whole snapshot as etcd does: chunks of 32 KiB, then the SHA-256. */
export async function sendSnapshot(send: SnapshotSender, db: Uint8Array, version = "3.6.0"): Promise<void> {
  await sendData(send, db, version);
  await send.message({ remainingBytes: "0", blob: createHash("sha256").update(db).digest(), version });
}

/** The data messages alone, without the trailer. */
export async function sendData(send: SnapshotSender, db: Uint8Array, version = "3.6.0"): Promise<void> {
  for (let at = 0; at < db.length; at += 32 * 1024) {
    const blob = db.subarray(at, at + 32 * 1024);
    await send.message({ remainingBytes: String(db.length - at - blob.length), blob, version });
  }
}

function credentials(tls: ServerTls | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { cert_chain: readFileSync(tls.cert), private_key: readFileSync(tls.key) };
  return ServerCredentials.createSsl(tls.ca === undefined ? null : readFileSync(tls.ca), [pair], tls.ca !== undefined);
}

/** Auth is etcd3's business, so etcd.proto has none of it: the answer is written by hand. */
const authService: ServiceDefinition = {
  authenticate: {
    path: "/etcdserverpb.Auth/Authenticate",
    requestStream: false,
    responseStream: false,
    requestSerialize: () => Buffer.alloc(0),
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
};

function tokenAnswer(token: string): Buffer {
  return Buffer.concat([Buffer.from([0x12, token.length]), Buffer.from(token)]);
}

function structuredDefinition(service: string): ServiceDefinition {
  const definition = { ...definitions[`etcdserverpb.${service}`] } as Record<string, Record<string, unknown>>;
  const { Snapshot } = definition;
  if (Snapshot !== undefined) definition["Snapshot"] = { ...Snapshot, responseSerialize: (bytes: Buffer) => bytes };
  return definition as unknown as ServiceDefinition;
}
