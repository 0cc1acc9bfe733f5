import { Client, connectivityState, Metadata, status } from "@grpc/grpc-js";
import type { ChannelOptions, ClientReadableStream, StatusObject } from "@grpc/grpc-js";
import { abortFault, throwIfAborted } from "../faults.ts";
import { parseAddress } from "./address.ts";
import { credentialsFor } from "./credentials.ts";
import type { Certificate } from "./etcd.ts";
import type { TlsFiles } from "./tls-files.ts";
import type { Method } from "./wire.ts";

/** Milliseconds; each bound covers one attempt. */
export interface Timeouts {
  /** Until TCP, TLS and HTTP/2 are established. */
  readonly connectMs: number;
  /** One unary call, its connection included. */
  readonly callMs: number;
  /** HashKV reads the whole key space where the answer is not cached. */
  readonly hashKvMs: number;
}

const defaultAnswerBytes = 16 * 2 ** 20;

/** Exported for the token request, which goes through etcd3's client. */
export const channelOptions: ChannelOptions = {
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_retries": 0,
  "grpc.enable_http_proxy": 0,
  "grpc.enable_channelz": 0,
  "grpc.service_config_disable_resolution": 1,
  // Snapshot messages are 32 KiB, member lists a few: a larger message is no etcd's, and must not fill the memory.
  "grpc.max_receive_message_length": defaultAnswerBytes,
  // etcd closes connections that ping more often than every 5 s, or without a call (embed/etcd.go, MinTime and PermitWithoutStream).
  "grpc.keepalive_time_ms": 15_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 2_000,
  // The default window of 64 KiB makes a snapshot wait for a round trip every second message.
  "grpc-node.flow_control_window": 4 * 2 ** 20,
};

/** The connection was not established in time; carries no status of gRPC's. */
export class ConnectTimeout extends Error {}

/** One HTTP/2 connection to one address, opened by the first call. Errors are grpc-js's own: callers translate them. */
export class Channel implements AsyncDisposable {
  readonly #client: Client;
  readonly #timeouts: Timeouts;
  #connections = 0;
  #certificate: Certificate | undefined;

  constructor(
    at: { readonly url: string; readonly serverName: string | undefined; readonly socket?: string | undefined },
    tls: TlsFiles,
    timeouts: Timeouts,
  ) {
    const address = parseAddress(at.url);
    const credentials = credentialsFor(address, tls, at.serverName, timeouts.connectMs, (shown) => {
      this.#certificate = shown;
    });
    const target = at.socket === undefined ? address.authority : `unix:${at.socket}`;
    this.#client = new Client(target, credentials, channelOptions);
    this.#timeouts = timeouts;
    this.#watch();
  }

  /** How often the connection was established. */
  get connections(): number {
    return this.#connections;
  }

  /** What the other side showed when the connection was last established; undefined before that, and without TLS. */
  get certificate(): Certificate | undefined {
    return this.#certificate;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
  }

  async unary<Question, Answer>(
    method: Method<Question, Answer>,
    question: Question,
    token: string | undefined,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    throwIfAborted(signal);
    let release: () => void = () => undefined;
    try {
      return await new Promise<Answer>((resolve, reject) => {
        const call = this.#client.makeUnaryRequest(
          method.path,
          method.encode,
          method.decode,
          question,
          metadata(token),
          { deadline: Date.now() + timeoutMs },
          (error, answer) => {
            if (error !== null) reject(error);
            // grpc-js answers without an error only with a message; its types cannot say so.
            else resolve(answer as Answer);
          },
        );
        release = this.#bound(signal, (reason) => {
          reject(reason);
          call.cancel();
        });
      });
    } finally {
      release();
    }
  }

  /** Starts a server stream; `onEnd` is called once, after the last message was taken, with the status or the reason of the abort. */
  stream<Message>(
    path: string,
    decode: (bytes: Buffer) => Message,
    token: string | undefined,
    signal: AbortSignal,
    onEnd: (end: StatusObject | Error) => void,
  ): ClientReadableStream<Message> {
    const call = this.#client.makeServerStreamRequest(path, () => Buffer.alloc(0), decode, {}, metadata(token));
    let ended = false;
    const end = (reason: StatusObject | Error): void => {
      if (ended) return;
      ended = true;
      release();
      onEnd(reason);
    };
    const release = this.#bound(signal, (reason) => {
      end(reason);
      call.cancel();
    });
    let final: StatusObject | undefined;
    let drained = false;
    // The status may overtake messages that still wait to be read; they come first.
    call.on("status", (given) => {
      final = given;
      if (drained) end(given);
    });
    call.on("end", () => {
      drained = true;
      if (final !== undefined) end(final);
    });
    call.on("error", () => undefined);
    return call;
  }

  /** Watches a call: calls `stop` when the signal is aborted or the connection is not there in time. The result ends the watch. */
  #bound(signal: AbortSignal, stop: (reason: Error) => void): () => void {
    const channel = this.#client.getChannel();
    const aborted = (): void => {
      stop(abortFault(signal));
    };
    const timer = setTimeout(() => {
      if (channel.getConnectivityState(false) === connectivityState.READY) return;
      stop(new ConnectTimeout(`no connection within ${this.#timeouts.connectMs} ms`));
    }, this.#timeouts.connectMs);
    signal.addEventListener("abort", aborted, { once: true });
    return () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
    };
  }

  /** grpc-js calls back within each change of state, so re-registering there misses none. */
  #watch(): void {
    const channel = this.#client.getChannel();
    const state = channel.getConnectivityState(false);
    if (state === connectivityState.SHUTDOWN) return;
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => {
      if (channel.getConnectivityState(false) === connectivityState.READY) this.#connections += 1;
      this.#watch();
    });
  }
}

/** True for the status of a call that went well. */
export function isOk(end: StatusObject): boolean {
  return end.code === status.OK;
}

function metadata(token: string | undefined): Metadata {
  const given = new Metadata();
  if (token !== undefined) given.set("token", token);
  return given;
}
