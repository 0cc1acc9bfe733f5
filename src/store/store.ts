/**
 * Where objects live: S3, or a directory. Everything is written create-only; nothing is ever rewritten.
 * Every method rejects with a Fault (`store-*`; `secret-unreadable` for a credentials file), already free of the vendor's words,
 * and honours its signal. A name that is no `isObjectName` is refused. Nothing is retried without end, and nothing waits for ever:
 * a transfer that makes no progress is a fault.
 */
export interface Store {
  /** For messages and labels: `s3://bucket/prefix` or `directory:/path`. Never holds a secret. */
  readonly description: string;

  /**
   * Writes a small object (at most `maximumDocumentBytes`) that must not exist yet, durably.
   * Rejects with `store-exists` when an object of that name exists with other bytes;
   * when the very same bytes are there already (our own ambiguous earlier attempt), it resolves.
   */
  create(name: string, body: Uint8Array, signal: AbortSignal): Promise<void>;

  /**
   * Writes an object of any size from a stream, create-only like `create` but always `store-exists` when taken. Nothing is visible
   * under `name` before it is complete and durable; a source that throws leaves nothing visible, and what it threw comes out
   * as it is. A chunk is lent to the store until it asks for the next one. No object may be below another one (`k` and `k/x`): some stores
   * refuse the second one with `store-exists`.
   */
  upload(name: string, source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<Uploaded>;

  /** Reads a small object whole; `store-object-missing` when there is none, `store-damaged` above `maximumDocumentBytes`. */
  read(name: string, signal: AbortSignal): Promise<Uint8Array>;

  /**
   * Streams an object's bytes in order. A short, long or stalled body rejects; it never ends early as if complete.
   * Ending the iteration early releases the connection or file.
   */
  download(name: string, signal: AbortSignal): AsyncIterable<Uint8Array>;

  /** Size and, where the store vouches for one, the full-object checksum; undefined when there is no such object. */
  head(name: string, signal: AbortSignal): Promise<ObjectHead | undefined>;

  /**
   * All objects whose name starts with `prefix`, in byte order of their names; pages are fetched as they are consumed. What
   * somebody else put there under a name that is no `isObjectName` is left out. With a range, only names after `after` are asked for.
   */
  list(range: string | NameRange, signal: AbortSignal): AsyncIterable<ObjectEntry>;

  /** Removes an object; resolves when it is not there. */
  remove(name: string, signal: AbortSignal): Promise<void>;

  /**
   * Removes what interrupted uploads of ours left invisible (unfinished multipart uploads, temporary files) when it is older
   * than `olderThanMs` by the store's own dates; returns how many.
   */
  sweep(olderThanMs: number, signal: AbortSignal): Promise<number>;

  /** What the store's own clock says now, which dates its objects; to a second or so. Undefined where it does not tell. */
  now(signal: AbortSignal): Promise<number | undefined>;
}

/** Manifests and other documents are small; a larger one is damage or an attack, not a document. */
export const maximumDocumentBytes = 8 * 1024 * 1024;

export interface ObjectHead {
  readonly storedBytes: number;
  /** CRC-32C (Castagnoli) over all bytes, as the store itself reports it for the whole object. */
  readonly crc32c: number | undefined;
  /** Until when the store removes it for nobody (object lock); Infinity under a legal hold; undefined where nothing is known of a lock. */
  readonly lockedUntilMs?: number | undefined;
}

export interface NameRange {
  readonly prefix: string;
  /** Need not be the name of an object. */
  readonly after: string;
}

export interface ObjectEntry {
  readonly name: string;
  readonly storedBytes: number;
  /** By the store's clock, milliseconds since 1970. */
  readonly modifiedMs: number;
  /** Differs when an object was replaced by another one: to be compared, and nothing else. Undefined where the store tells none. */
  readonly tag: string | undefined;
}

export interface Uploaded {
  readonly storedBytes: number;
  /** SHA-256 of the bytes as handed to the store, lower-case hex. */
  readonly sha256: string;
  /** CRC-32C of the same bytes. */
  readonly crc32c: number;
}

/**
 * Object names that every store can hold: segments of [A-Za-z0-9._-] not starting with a dot, at most 255 bytes each,
 * joined by single slashes, 1000 bytes in all. Adapters refuse anything else, so that no name can leave the prefix.
 */
export function isObjectName(name: string): boolean {
  return (
    name.length <= 1000 && /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})*$/.test(name)
  );
}

/** Something about a bucket that may be hidden from these credentials, or from this kind of service. */
export type Known<T> =
  | { readonly known: true; readonly value: T }
  | { readonly known: false; readonly why: string; /** A right is missing. */ readonly denied: boolean };

/** What a bucket is like, beyond what a store needs to work. */
export interface BucketTraits {
  readonly versioning: Known<"enabled" | "suspended" | "off">;
  /** The retention that every new object gets; `mode` is undefined where locks are possible and none is set. Undefined: no locks. */
  readonly lock: Known<{ readonly mode: string | undefined; readonly days: number | undefined } | undefined>;
  /** Rules that touch our prefix. */
  readonly lifecycle: Known<{
    readonly abortsUploadsAfterDays: number | undefined;
    /** After how many days current objects go; 0 for a date. */
    readonly expiresAfterDays: readonly number[];
  }>;
  readonly rangedRead: Known<boolean>;
  /** Whether a body that is not what its checksum says is refused. */
  readonly checksumChecked: Known<boolean>;
  /** Whether an upload that was given up is gone. */
  readonly uploadsAborted: Known<boolean>;
}

/** Looks at the bucket, and tries what only trying shows: all that is written has a name that begins with `probe`, and is removed by whoever asks. */
export type ExamineBucket = (probe: string, signal: AbortSignal) => Promise<BucketTraits>;
