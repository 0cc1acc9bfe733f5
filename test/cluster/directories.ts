import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const waiting = new Set<string>();
let held = false;

/** A new directory of our own in the system's temporary one. */
export async function makeDirectory(kind: string): Promise<string> {
  return await mkdtemp(join(tmpdir(), `lifeboat-${kind}-`));
}

/** Removes a directory once nobody needs it: after the test when one is watched and may fail, else at once. */
export async function discardDirectory(directory: string): Promise<void> {
  waiting.add(directory);
  if (!held) await settleDirectories({ failed: false });
}

/** From here on discarded directories wait for settleDirectories; a test's setup calls this. */
export function holdDirectories(): void {
  held = true;
}

/** Removes what was discarded, or keeps it and says where it is when a test failed or LIFEBOAT_KEEP=1. */
export async function settleDirectories({ failed }: { readonly failed: boolean }): Promise<void> {
  for (const directory of waiting) {
    waiting.delete(directory);
    if (failed || process.env["LIFEBOAT_KEEP"] === "1") process.stderr.write(`kept: ${directory}\n`);
    else await rm(directory, { recursive: true, force: true });
  }
}
