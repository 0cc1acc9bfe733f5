import { readdir } from "node:fs/promises";
import { expect } from "vitest";
import type { Ended } from "./command.ts";
import { openRestorable, type Restorable } from "./restorable.ts";

/** What tests of `restore` on real clusters have in common. */

/** Each starts the command some ten times. */
export const slow = { timeout: 500_000 };
export const confirmed = ["--yes", "--confirm-cluster", "prod"];
/** With a wait for silence that is as short as a test is patient. */
export const quick = [...confirmed, "--quiet-seconds", "3"];

/** Expects how a command ended; gives all that it said. */
export function ended({ status, stdout, stderr }: Ended, expected: number): string {
  expect(status, stdout + stderr).toBe(expected);
  return stdout + stderr;
}

/** A cluster of one with an API server, a backup of `then`, and `now` written since. */
export async function openDamaged(): Promise<Restorable> {
  const site = await openRestorable({ minor: "3.6", members: 1, apiServers: true });
  await site.cluster.put("kept", "then");
  ended(await site.site.run(["backup"]), 0);
  await site.cluster.put("kept", "now");
  return site;
}

/** Runs a restore that dies at a place of its plan, and says what kills it. */
export async function dieAt({ site }: Restorable, place: string, ...args: readonly string[]): Promise<void> {
  const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: `step ${place}` };
  const { signal, stderr } = await site.run(["restore", ...quick, ...args], { env });
  expect(signal, `${place} was not reached:\n${stderr}`).toBe("SIGKILL");
}

/** `member` of the first member's data directory, and whatever lies beside it under such a name. */
export async function memberDirectories({ cluster }: Restorable): Promise<readonly string[]> {
  const names = await readdir(cluster.members[0]?.dataDirectory ?? "");
  return names.filter((name) => name.startsWith("member")).toSorted();
}
