import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { Fault } from "../faults.ts";

/** SHA-256 of the database, which etcd sends after it and etcdctl keeps at the end of the file. */
const sealBytes = 32;
/** Every database is a multiple of this, so that the seal can be told by the size alone (etcdctl's own rule). */
const sectorBytes = 512;

/** An open database file; a seal at its end is not part of `dbBytes`. Dispose it to close the file. */
export interface DatabaseFile extends Disposable {
  readonly dbBytes: number;
  readonly sealed: boolean;
  /** Fills `into[at .. at + bytes]` from `offset`; the range must lie within `dbBytes`. Fault `spool-failed` when it cannot. */
  read(into: Uint8Array, at: number, bytes: number, offset: number): void;
}

/** Opens for reading. `expectSeal`: true refuses a file without a seal, false one with it, undefined takes both. */
export function openDatabaseFile(path: string, expectSeal: boolean | undefined): DatabaseFile {
  const fd = attempt(path, () => openSync(path, "r"));
  try {
    const stat = attempt(path, () => fstatSync(fd));
    if (!stat.isFile()) throw new Fault("spool-failed", `cannot read ${path}: not a regular file`);
    const sealed = stat.size % sectorBytes === sealBytes;
    if (expectSeal !== undefined && expectSeal !== sealed) {
      const found = sealed ? "has a seal at its end where none is expected" : "has no seal at its end";
      throw new Fault("bolt-corrupt", `${path} of ${stat.size} bytes ${found}`);
    }
    return new OpenFile(path, fd, sealed ? stat.size - sealBytes : stat.size, sealed);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

class OpenFile implements DatabaseFile {
  readonly dbBytes: number;
  readonly sealed: boolean;
  readonly #path: string;
  readonly #fd: number;

  constructor(path: string, fd: number, dbBytes: number, sealed: boolean) {
    this.#path = path;
    this.#fd = fd;
    this.dbBytes = dbBytes;
    this.sealed = sealed;
  }

  read(into: Uint8Array, at: number, bytes: number, offset: number): void {
    let done = 0;
    while (done < bytes) {
      const got = attempt(this.#path, () => readSync(this.#fd, into, at + done, bytes - done, offset + done));
      if (got === 0) throw new Fault("spool-failed", `${this.#path} became shorter while it was read`);
      done += got;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

function attempt<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Fault("spool-failed", `cannot read ${path}: ${why}`, { cause: error });
  }
}
