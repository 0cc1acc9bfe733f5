import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A directory of this test's own, removed when it ends. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "lifeboat-config-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A file of this test's own, 0600 unless told otherwise. */
export function scratchFile(name: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(scratchDirectory(), name);
  writeFileSync(path, content, { mode });
  return path;
}
