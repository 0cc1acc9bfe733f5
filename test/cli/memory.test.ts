import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Manifest } from "../../src/repository/manifest.ts";
import type { Store } from "../../src/store/store.ts";
import { toJson } from "../../src/repository/documents.ts";
import { formatBackupName, manifestName } from "../../src/repository/names.ts";
import { runBackup } from "../../src/snapshot/backup.ts";
import { calm } from "../snapshot/bytes.ts";
import { demand, openRig, type Rig } from "../snapshot/rig.ts";
import { configOf, say } from "./console.ts";

/** A year of backups is thousands of manifests, each of which takes 0.1 MB once it is parsed. */
const backups = 600;
const framesEach = 1000;
/** All of them together take more than 60 MB. */
const growthBytesAtMost = 15_000_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(() => rig[Symbol.dispose]());

test.each([
  ["list", ["list", "--json"]],
  ["verify", ["verify", "--level", "manifest", "--json"]],
])("%s of a repository with years of backups holds a few manifests at a time", async (_, argv) => {
  await addManifests();
  const config = configOf(rig);
  let reads = 0;
  let startBytes = 0;
  let peakBytes = 0;
  const { deps } = rig;
  // Looks at the memory in the middle, where everything that is held is still needed.
  const read: Store["read"] = async (name, signal) => {
    if (name.includes("/backups/")) reads += 1;
    look();
    return await deps.store.read(name, signal);
  };
  const head: Store["head"] = async (name, signal) => {
    look();
    return await deps.store.head(name, signal);
  };
  let looks = 0;
  function look(): void {
    looks += 1;
    if (looks % 200 !== 1) return;
    collect();
    const { heapUsed } = process.memoryUsage();
    startBytes ||= heapUsed;
    peakBytes = Math.max(peakBytes, heapUsed);
  }
  const watched = { ...rig, deps: { ...deps, store: { ...deps.store, read, head } } };
  const { status, out } = await say(watched, ...argv, "--config", config);
  expect(status).toBe(0);
  const document = JSON.parse(out) as { backups?: unknown[]; results?: unknown[] };
  expect(document.backups ?? document.results).toHaveLength(backups);
  expect(reads).toBe(backups);
  expect(looks).toBeGreaterThan(backups);
  expect(peakBytes - startBytes).toBeLessThan(growthBytesAtMost);
});

/** Adds backups that share the objects of one real backup. */
async function addManifests(): Promise<void> {
  const outcome = await runBackup(rig.deps, demand, calm);
  if (outcome.kind !== "committed") throw new Error(outcome.kind);
  const { manifest } = outcome;
  // As many numbers as those of a large database, which add up to the sizes of a small one.
  const more = Array.from({ length: framesEach }, (): [number, number] => [0, 0]);
  const frames = [...manifest.data.compression.frames, ...more];
  const data = { ...manifest.data, compression: { ...manifest.data.compression, frames } };
  for (let hour = 1; hour < backups; hour += 1) {
    const timeMs = Date.UTC(2026, 0, 1) + hour * 3_600_000;
    const backup = formatBackupName({ kind: "slot", timeMs, schedule: "hourly" });
    const document: Manifest = { ...manifest, backup, data };
    const bytes = Buffer.from(`${toJson(document)}\n`);
    rig.store.objects.set(manifestName(manifest.lineage, backup), { bytes, modifiedMs: timeMs });
  }
}
