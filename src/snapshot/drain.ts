import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import type { MemberConnection } from "../etcd/etcd.ts";
import { failpoint } from "../failpoints.ts";
import { Fault } from "../faults.ts";
import { SealChecker } from "./seal.ts";
import { writeAll } from "./spool.ts";

export interface DrainLimits {
  /** Without a single byte for this long the stream is cancelled, so that the member's read transaction is released. */
  readonly idleMs: number;
  /** Bound on the open read transaction: at least this long, and longer for a large database. */
  readonly shortestMs: number;
  /** The slowest acceptable rate of a whole stream, bytes per second. */
  readonly slowestRate: number;
  /** Bytes per second at most; undefined: at line rate. */
  readonly maxRate: number | undefined;
  /** Bytes per second that may be taken now, by what writers feel; asked again and again with the bytes so far. Undefined: nobody is asked. */
  readonly pace?: ((doneBytes: number) => number) | undefined;
  /** What the file's disk has room for; undefined: not known. A full disk may be etcd's own. */
  readonly mostBytes?: number | undefined;
}

export const defaultDrainLimits: DrainLimits = {
  idleMs: 30_000,
  shortestMs: 120_000,
  slowestRate: 4 * 1024 * 1024,
  maxRate: undefined,
};

export interface Drained {
  /** Bytes of the database, without the seal. */
  readonly dbBytes: number;
  /** Lower-case hex. */
  readonly seal: string;
  /** Storage version that the stream carried; empty before etcd 3.6. */
  readonly version: string;
}

/** How much of a delay may be caught up with. */
const creditMs = 100;

/** Memory for bytes on their way to the file: two pieces, one filling while the other is hashed and written. */
const pieceBytes = 1024 * 1024;

/**
 * Drains a member's snapshot into a file as fast as the member sends, checks the seal, and appends it, so that the file is what
 * `etcdctl snapshot save` writes. `onBytes` hears the bytes so far. Rejects with `snapshot-stalled`, `snapshot-broken` or the connection's fault.
 */
export async function drainSnapshot(
  connection: MemberConnection,
  file: { readonly path: string; readonly handle: FileHandle },
  limits: DrainLimits,
  clock: Clock,
  onBytes: (doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
): Promise<Drained> {
  const { name } = connection.address;
  using idle = withDeadline(signal, limits.idleMs, `${name} sent no byte of its snapshot`, "snapshot-stalled");
  const checker = new SealChecker();
  const hash = createHash("sha256");
  const writer = new PieceWriter(file, (piece) => hash.update(piece));
  const slowestRate = Math.min(limits.slowestRate, (limits.maxRate ?? Infinity) / 2);
  const startedMs = clock.elapsed();
  let endMs: number | undefined;
  let [paidMs, paidBytes] = [0, 0];
  for await (const messages of connection.snapshot(idle.signal)) {
    for (const message of messages) {
      const bytes = checker.accept(message);
      if (!writer.take(bytes)) await writer.write(bytes);
    }
    idle.restart();
    const totalBytes = checker.totalBytes ?? 0;
    if (totalBytes > (limits.mostBytes ?? Infinity)) throw tooLarge(name, totalBytes, file.path, limits.mostBytes ?? 0);
    endMs ??= Math.max(limits.shortestMs, (totalBytes / slowestRate) * 1000);
    const elapsedMs = clock.elapsed() - startedMs;
    if (elapsedMs > endMs) throw tooSlow(name, writer.bytes, totalBytes, elapsedMs);
    onBytes(writer.bytes, totalBytes);
    if (writer.bytes * 2 > totalBytes) failpoint("spool-half-drained");
    const rate = Math.min(limits.maxRate ?? Infinity, limits.pace?.(writer.bytes) ?? Infinity);
    // What was not taken in time is not made up for: that would be a burst. A little of it is, since timers are late.
    paidMs = Math.max(paidMs, elapsedMs - creditMs) + ((writer.bytes - paidBytes) / rate) * 1000;
    paidBytes = writer.bytes;
    if (paidMs <= elapsedMs + 5) continue;
    await clock.sleep(Math.min(paidMs - elapsedMs, limits.idleMs / 2), idle.signal);
    idle.restart();
  }
  await writer.flush();
  const seal = checker.finish(hash.digest());
  await writeAll(file, seal, writer.bytes);
  return { dbBytes: writer.bytes, seal: Buffer.from(seal).toString("hex"), version: checker.version };
}

function tooLarge(name: string, totalBytes: number, path: string, mostBytes: number): Fault {
  return new Fault(
    "spool-space",
    `${name} announces a snapshot of ${totalBytes} bytes, and the disk of ${path} has room for ${mostBytes}`,
    { hint: "free space there, or set spool.directory to a larger file system" },
  );
}

function tooSlow(name: string, doneBytes: number, totalBytes: number, elapsedMs: number): Fault {
  const seconds = Math.round(elapsedMs / 1000);
  return new Fault("snapshot-stalled", `${name} sent ${doneBytes} of ${totalBytes} bytes in ${seconds} s`, {
    hint: "the stream is ended so that etcd can reuse its pages; look at the network and at spool.maxRate",
  });
}

/** Gathers small blobs into pieces and writes them in order, one write under way while the next piece fills. */
class PieceWriter {
  readonly #file: { readonly path: string; readonly handle: FileHandle };
  readonly #onPiece: (piece: Uint8Array) => void;
  #filling = Buffer.allocUnsafe(pieceBytes);
  #resting = Buffer.allocUnsafe(pieceBytes);
  #filled = 0;
  #writing: Promise<void> = Promise.resolve();
  #queuedBytes = 0;

  constructor(file: { readonly path: string; readonly handle: FileHandle }, onPiece: (piece: Uint8Array) => void) {
    this.#file = file;
    this.#onPiece = onPiece;
  }

  /** Bytes taken so far, written or not. */
  get bytes(): number {
    return this.#queuedBytes + this.#filled;
  }

  /** Takes bytes that fit into the piece under way; false when they do not and `write` must be awaited. */
  take(bytes: Uint8Array): boolean {
    if (bytes.length >= pieceBytes - this.#filled) return false;
    this.#filling.set(bytes, this.#filled);
    this.#filled += bytes.length;
    return true;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length;) {
      const taken = Math.min(bytes.length - from, pieceBytes - this.#filled);
      this.#filling.set(bytes.subarray(from, from + taken), this.#filled);
      this.#filled += taken;
      from += taken;
      if (this.#filled === pieceBytes) await this.#hand();
    }
  }

  async flush(): Promise<void> {
    await this.#hand();
    await this.#writing;
  }

  /** Hands the full piece to the file once the piece before it is written. */
  async #hand(): Promise<void> {
    await this.#writing;
    const piece = this.#filling.subarray(0, this.#filled);
    const position = this.#queuedBytes;
    this.#onPiece(piece);
    this.#writing = writeAll(this.#file, piece, position);
    // Seen by the await above or in flush(); without this a failure in between would count as unhandled.
    this.#writing.catch(() => undefined);
    this.#queuedBytes += piece.length;
    this.#filled = 0;
    [this.#filling, this.#resting] = [this.#resting, this.#filling];
  }
}
