import { Fault } from "../faults.ts";
import type { SnapshotMessage } from "../etcd/etcd.ts";

/** The seal is the SHA-256 that etcd sends after the last database byte. */
export const sealBytes = 32;

/**
 * The client side of Maintenance.Snapshot as a state machine: it is told every message and says what to write, and it throws
 * `snapshot-broken` at the first one that cannot be (etcd maintenance.go: chunks, then one message with the 32 raw bytes of the digest, then the end).
 * An empty blob while data is outstanding means that the server lost its reader and would send empty blobs for ever.
 */
export class SealChecker {
  #expected: bigint | undefined;
  #received = 0n;
  #seal: Uint8Array | undefined;
  #version = "";

  /** Database bytes that the first message announced; undefined before it. */
  get totalBytes(): number | undefined {
    return this.#expected === undefined ? undefined : Number(this.#expected);
  }

  /** Storage version that the stream carried; empty before etcd 3.6. */
  get version(): string {
    return this.#version;
  }

  /** Takes one message; returns the database bytes in it (a view), or an empty one for the trailer. */
  accept(message: SnapshotMessage): Uint8Array {
    const { blob, remainingBytes } = message;
    if (message.version !== "") this.#version = message.version;
    if (this.#seal !== undefined) throw broken("more data after the seal");
    if (remainingBytes < 0n) throw broken(`${remainingBytes} bytes remaining`);
    this.#expected ??= remainingBytes + BigInt(blob.length);
    if (this.#received === this.#expected) return this.#acceptSeal(message);
    if (blob.length === 0) throw broken(`an empty message with ${this.#expected - this.#received} bytes outstanding`);
    this.#received += BigInt(blob.length);
    if (remainingBytes !== this.#expected - this.#received) {
      throw broken(`${remainingBytes} bytes announced where ${this.#expected - this.#received} are outstanding`);
    }
    return blob;
  }

  /** To be called at the end of the stream with the digest of every byte that `accept` returned; returns the seal. */
  finish(digest: Uint8Array): Uint8Array {
    if (this.#expected === undefined) throw broken("the stream ended without a message");
    if (this.#received < this.#expected) {
      throw broken(`the stream ended after ${this.#received} of ${this.#expected} bytes`);
    }
    if (this.#seal === undefined) throw broken("the stream ended without the seal");
    if (!Buffer.from(this.#seal).equals(digest))
      throw broken("the bytes do not match the seal that etcd sent after them");
    return this.#seal;
  }

  #acceptSeal({ blob, remainingBytes }: SnapshotMessage): Uint8Array {
    if (this.#expected === 0n) throw broken("an empty database");
    if (blob.length !== sealBytes || remainingBytes !== 0n) {
      throw broken(`${blob.length} bytes where the ${sealBytes} bytes of the seal must stand`);
    }
    this.#seal = Uint8Array.from(blob);
    return blob.subarray(0, 0);
  }
}

function broken(what: string): Fault {
  return new Fault("snapshot-broken", `the snapshot stream is broken: ${what}`);
}
