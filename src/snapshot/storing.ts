import { failpoint } from "../failpoints.ts";
import { Fault, abortFault, throwIfAborted } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import { snapshotObjects } from "../repository/names.ts";
import type { Store, Uploaded } from "../store/store.ts";
import type { Encoder } from "./commit.ts";
import { encodeSpool, type Encoding } from "./encode.ts";
import { sealBytes } from "./seal.ts";
import { SealCheck } from "./stored.ts";

/** What the names and checks of a snapshot's objects depend on. */
export interface StoringTarget {
  readonly lineage: string;
  /** The id under which all of its objects stand. */
  readonly snapshotId: string;
}

/**
 * The data of a snapshot on its way to the store, begun while the snapshot is still read by others. Its end is held back: nothing is visible in the store
 * before `finish`, and nothing ever when it is disposed without.
 */
export interface Storing extends AsyncDisposable {
  readonly target: StoringTarget;
  readonly plainBytes: number;
  /** Lets the object become whole and resolves when it is; rejects with what went wrong, also before. To be called once. */
  finish(progress: (doneBytes: number, totalBytes: number | undefined) => void, signal: AbortSignal): Promise<Stored>;
}

export interface Stored {
  readonly object: string;
  readonly uploaded: Uploaded;
  readonly encoding: Encoding;
  /** Heard every plain byte that was encoded; undefined where all is read back anyway. */
  readonly encoded: SealCheck | undefined;
}

/** Begins to encode and upload a spooled snapshot; trouble is told by `finish`. */
export function startStoring(
  { store, encoder }: { readonly store: Store; readonly encoder: Encoder },
  target: StoringTarget,
  spoolPath: string,
  content: Pick<Manifest["content"], "dbBytes" | "seal">,
): Storing {
  const own = new AbortController();
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const object = snapshotObjects(target.lineage, target.snapshotId, encoder.recipients.length > 0).data;
  const plainBytes = content.dbBytes + sealBytes;
  const { compressionLevel, recipients, readBackBelowBytes } = encoder;
  // A checksum vouches for what was uploaded, not for what the spool gave: without a read-back the bytes are compared with the seal as they are encoded.
  const encoded = readBackBelowBytes === undefined ? undefined : new SealCheck(content);
  const onPlain = encoded === undefined ? undefined : (bytes: Uint8Array): void => encoded.update(bytes);
  const encoding = encodeSpool(spoolPath, { compressionLevel, recipients, plainBytes, onPlain }, own.signal);
  let onBytes: (doneBytes: number, totalBytes: number | undefined) => void = () => undefined;

  async function* heldBack(): AsyncGenerator<Uint8Array, void, void> {
    let bytes = 0;
    for await (const chunk of encoding.bytes) {
      bytes += chunk.length;
      yield chunk;
      failpoint("data-half-uploaded");
      onBytes(bytes, undefined);
    }
    await released;
    // Given up: a source that throws leaves nothing visible.
    throwIfAborted(own.signal);
  }

  const uploading = store.upload(object, heldBack(), own.signal);
  // Heard by `finish`; without it nobody wants to know.
  uploading.catch(() => undefined);
  return {
    target,
    plainBytes,
    async finish(progress, signal) {
      const onAbort = (): void => own.abort(abortFault(signal));
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
      try {
        onBytes = progress;
        release();
        return { object, uploaded: await uploading, encoding, encoded };
      } finally {
        signal.removeEventListener("abort", onAbort);
      }
    },
    async [Symbol.asyncDispose]() {
      own.abort(new Fault("interrupted", "the snapshot is given up"));
      release();
      // Ended by the lines above, or heard by `finish` before.
      await uploading.catch(() => undefined);
    },
  };
}
