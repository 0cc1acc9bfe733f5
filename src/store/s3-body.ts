import { Readable } from "node:stream";
import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { Fault, abortFault, throwIfAborted } from "../faults.ts";

/**
 * The bytes of a body, exactly as many as announced. The time without a byte is only counted while we wait for one: a consumer
 * may be as slow as it likes. Ending early destroys the connection.
 */
export async function* watched(
  answer: GetObjectCommandOutput,
  name: string,
  idleTimeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const body = bodyOf(answer);
  const expected = answer.ContentLength;
  const onAbort = (): void => void body.destroy(abortFault(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  let timer: NodeJS.Timeout | undefined;
  try {
    throwIfAborted(signal);
    if (expected === undefined) throw withoutLength(name);
    const stalled = (): void => {
      body.destroy(new Fault("store-unreachable", `${name}: no byte arrived for ${idleTimeoutMs} ms`));
    };
    let arrived = 0;
    timer = setTimeout(stalled, idleTimeoutMs);
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      clearTimeout(timer);
      arrived += chunk.length;
      yield chunk;
      timer = setTimeout(stalled, idleTimeoutMs);
    }
    if (arrived !== expected) throw brokenOff(name, arrived, expected);
  } catch (error) {
    throwIfAborted(signal);
    if (error instanceof Fault || expected === undefined) throw error;
    throw brokenOff(name, undefined, expected, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    body.destroy();
  }
}

/** The body as the stream that it is in Node. */
export function bodyOf(answer: GetObjectCommandOutput): Readable {
  if (answer.Body instanceof Readable) return answer.Body;
  throw new TypeError("the SDK gave a body that is not a Node stream");
}

function brokenOff(name: string, arrived: number | undefined, expected: number, cause?: unknown): Fault {
  const got = arrived === undefined ? "before all" : `after ${arrived} of`;
  return new Fault("store-unreachable", `${name}: the connection ended ${got} ${expected} bytes`, { cause });
}

/** An answer without a length: where it ends cannot be told from where it broke. */
export function withoutLength(name: string): Fault {
  return new Fault(
    "store-refused",
    `${name}: the store does not say how long it is, so its end cannot be told from a broken connection`,
    {
      hint: "is there a proxy in between that compresses or re-frames answers?",
    },
  );
}
