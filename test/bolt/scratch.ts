import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SnapshotFacts } from "../../src/bolt/facts.ts";
import { scanSnapshot, type ScanOptions } from "../../src/bolt/scan.ts";

/** A file whose content a test changes again and again. Dispose it to remove it. */
export interface Scratch extends Disposable {
  readonly path: string;
  /** Replaces the whole content. */
  set(bytes: Uint8Array): void;
  truncate(bytes: number): void;
  /** Overwrites a part. */
  patch(offset: number, bytes: Uint8Array): void;
}

export function scratchFile(): Scratch {
  const dir = mkdtempSync(join(tmpdir(), "lifeboat-bolt-"));
  const path = join(dir, "snapshot.db");
  const fd = openSync(path, "w");
  return {
    path,
    set(bytes) {
      ftruncateSync(fd, 0);
      writeSync(fd, bytes, 0, bytes.length, 0);
    },
    truncate(bytes) {
      ftruncateSync(fd, bytes);
    },
    patch(offset, bytes) {
      writeSync(fd, bytes, 0, bytes.length, offset);
    },
    [Symbol.dispose]() {
      closeSync(fd);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Scans these bytes as a file. */
export function scanBytes(bytes: Uint8Array, options?: ScanOptions): SnapshotFacts {
  using scratch = scratchFile();
  scratch.set(bytes);
  return scanSnapshot(scratch.path, options);
}
