import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const waiting = new Set<string>();
let held = false;
let swept: Promise<void> | undefined;
const keptMark = "KEPT";

/** A new directory of our own in the system's temporary one; its name tells whose it is. */
export async function makeDirectory(kind: string): Promise<string> {
  await (swept ??= sweepDirectories());
  return await mkdtemp(join(tmpdir(), `lifeboat-test-${kind}-${process.pid}-`));
}

/** Removes what processes that were killed left; what was kept on purpose stays. */
async function sweepDirectories(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(/^lifeboat-test-[a-z0-9]+-(\d+)-/.exec(name)?.[1] ?? process.pid);
    const directory = join(tmpdir(), name);
    if (isAlive(pid) || existsSync(join(directory, keptMark))) continue;
    await rm(directory, { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is alive too.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
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
    if (failed || process.env["LIFEBOAT_KEEP"] === "1") {
      process.stderr.write(`kept: ${directory}\n`);
      await writeFile(join(directory, keptMark), "");
    } else {
      await rm(directory, { recursive: true, force: true });
    }
  }
}
