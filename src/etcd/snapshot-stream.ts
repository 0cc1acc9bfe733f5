import type { ClientReadableStream, StatusObject } from "@grpc/grpc-js";
import { Fault, throwIfAborted } from "../faults.ts";
import type { Channel } from "./channel.ts";
import { isOk } from "./channel.ts";
import type { SnapshotMessage } from "./etcd.ts";
import { readSnapshotMessage } from "./snapshot-message.ts";
import { snapshotPath } from "./wire.ts";

/** A batch is handed over at this size, or when its first message has waited this long. */
const batchBytes = 512 * 1024;
const batchWaitMs = 10;
/** From here on nothing more is read until the consumer has taken what is there; HTTP/2 then holds the server back. */
const fullBytes = 2 * 2 ** 20;

/**
 * Maintenance.Snapshot over one channel, in batches: a 1 GB database is 32 000 messages, and a turn of the event loop
 * for each costs a third of the time. Throws grpc-js's status or error as it is, Faults of the parser, or the abort.
 */
export async function* readSnapshot(
  channel: Channel,
  token: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<readonly SnapshotMessage[], void, undefined> {
  throwIfAborted(signal);
  let queue: SnapshotMessage[] = [];
  let queuedBytes = 0;
  let end: StatusObject | Error | undefined;
  let unreadable: Fault | undefined;
  let wake: (() => void) | undefined;
  let waiting: NodeJS.Timeout | undefined;

  const stream: ClientReadableStream<SnapshotMessage> = channel.stream(
    snapshotPath,
    (bytes) => {
      try {
        return readSnapshotMessage(bytes);
      } catch (error) {
        // grpc-js makes a text of what is thrown here; the fault itself is kept for the end.
        if (error instanceof Fault) unreadable ??= error;
        throw error;
      }
    },
    token,
    signal,
    (reason) => {
      end = reason;
      wake?.();
    },
  );
  stream.on("data", (message: SnapshotMessage) => {
    queue.push(message);
    queuedBytes += message.blob.length;
    // Empty messages count too, or an endless run of them would never fill the queue.
    if (queuedBytes + queue.length * 1024 >= fullBytes) stream.pause();
    if (ready()) wake?.();
    else if (wake !== undefined) waiting ??= setTimeout(wake, batchWaitMs);
  });
  const ready = (): boolean => end !== undefined || queuedBytes >= batchBytes || stream.isPaused();

  try {
    // Ends with the stream, or with the signal.
    for (;;) {
      if (!ready()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (queue.length > 0) waiting = setTimeout(resolve, batchWaitMs);
        });
      }
      clearTimeout(waiting);
      waiting = wake = undefined;
      if (end instanceof Error) throw end;
      const batch = queue;
      queue = [];
      queuedBytes = 0;
      stream.resume();
      if (batch.length > 0) yield batch;
      if (end !== undefined && queue.length === 0) break;
    }
    if (unreadable !== undefined) throw unreadable;
    if (!isOk(end)) throw Object.assign(new Error(end.details), { code: end.code, details: end.details });
  } finally {
    clearTimeout(waiting);
    stream.cancel();
  }
}
