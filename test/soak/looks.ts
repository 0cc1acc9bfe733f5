import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { parseObjectName, parseStamp, snapshotOf } from "../../src/repository/names.ts";
import type { HeldBackup } from "../../src/snapshot/keep.ts";

/** A repository as its files say, past the product and past its server, which may be stopped: looked at again and again through a soak. */

/** What one look saw; by `lineage/backup`. */
export interface Look {
  readonly atMs: number;
  readonly backups: ReadonlyMap<string, Seen>;
}

export interface Seen extends HeldBackup {
  /** Of its data objects. */
  readonly snapshot: string;
}

const manifestFields = z.object({
  committedAt: z.iso.datetime(),
  slot: z.object({ schedule: z.string(), time: z.string() }).nullable(),
  content: z.object({ revision: z.string().transform(BigInt) }),
  data: z.object({ object: z.string(), storedBytes: z.number() }),
});

/** Looks at the repository in a directory of files. A manifest is read once, since nobody may ever write it again; that is looked at, too. */
export function openLooks(directory: string): {
  readonly look: () => Promise<Look>;
  readonly troubles: readonly string[];
} {
  const known = new Map<string, Seen & { readonly mtimeMs: number; readonly bytes: number }>();
  const troubles: string[] = [];
  async function look(): Promise<Look> {
    const atMs = Date.now();
    const backups = new Map<string, Seen>();
    for (const lineage of await namesIn(join(directory, "lineages"))) {
      const at = join(directory, "lineages", lineage);
      // Proofs go after their manifest: of every manifest below, they are whole.
      const proven = new Set<string>();
      for (const name of await namesIn(join(at, "proofs"))) {
        const parsed = parseObjectName(`lineages/${lineage}/proofs/${name}`);
        if (parsed?.kind === "proof" && parsed.proof.kind === "hashkv" && parsed.proof.verdict === "proven")
          proven.add(parsed.proof.backup);
      }
      for (const name of await namesIn(join(at, "backups"))) {
        const parsed = parseObjectName(`lineages/${lineage}/backups/${name}`);
        if (parsed?.kind !== "manifest") {
          troubles.push(`${lineage}/backups/${name} is no manifest's name`);
          continue;
        }
        const key = `${lineage}/${parsed.backup}`;
        const path = join(at, "backups", name);
        // It may go while it is looked at.
        const stats = await stat(path).catch(() => undefined);
        if (stats === undefined) continue;
        const before = known.get(key);
        if (before !== undefined && (before.mtimeMs !== stats.mtimeMs || before.bytes !== stats.size))
          troubles.push(`${key} was written again`);
        const text = before === undefined ? await readFile(path, "utf8").catch(() => undefined) : undefined;
        if (before === undefined && text === undefined) continue;
        const seen = before ?? {
          ...parseSeen(lineage, parsed.backup, text ?? ""),
          mtimeMs: stats.mtimeMs,
          bytes: stats.size,
        };
        // By S3 in whole seconds.
        const storedAtMs = Math.floor(stats.mtimeMs / 1000) * 1000;
        known.set(key, seen);
        backups.set(key, { ...seen, storedAtMs, proven: proven.has(parsed.backup) });
      }
    }
    return { atMs, backups };
  }
  return { look, troubles };
}

function parseSeen(lineage: string, backup: string, text: string): Seen {
  const { committedAt, slot, content, data } = manifestFields.parse(JSON.parse(text));
  return {
    lineage,
    backup,
    kind: "live",
    timeMs: parseStamp(backup.slice(0, backup.indexOf("."))) ?? 0,
    committedMs: Date.parse(committedAt),
    storedAtMs: 0,
    revision: content.revision,
    schedule: slot?.schedule,
    proven: false,
    pinned: undefined,
    storedBytes: data.storedBytes,
    snapshot: snapshotOf(data.object),
  };
}

/** Looks until it is stopped. */
export function watchRepository(
  directory: string,
  everyMs: number,
): { readonly soFar: Watched; readonly stop: () => Promise<Watched> } {
  const { look, troubles } = openLooks(directory);
  const looks: Look[] = [];
  let stopping = false;
  const watching = (async () => {
    while (!stopping) {
      looks.push(await look());
      await sleep(everyMs);
    }
    looks.push(await look());
  })();
  // Told when it is waited for.
  watching.catch(() => undefined);
  return {
    soFar: { looks, troubles },
    async stop() {
      stopping = true;
      await watching;
      return { looks, troubles };
    },
  };
}

export interface Watched {
  readonly looks: readonly Look[];
  /** What no repository may ever show. */
  readonly troubles: readonly string[];
}

/** Data objects in files by the snapshot that they belong to, with their bytes; and the snapshots that are given up. */
export async function readUnits(
  directory: string,
): Promise<{ readonly units: ReadonlyMap<string, number>; readonly given: ReadonlySet<string> }> {
  const units = new Map<string, number>();
  const given = new Set<string>();
  for (const lineage of await namesIn(join(directory, "lineages"))) {
    const at = join(directory, "lineages", lineage);
    for (const name of await namesIn(join(at, "snapshots"))) {
      const snapshot = snapshotOf(name);
      units.set(snapshot, (units.get(snapshot) ?? 0) + (await stat(join(at, "snapshots", name))).size);
    }
    for (const name of await namesIn(join(at, "gone"))) given.add(name.slice(0, 26));
  }
  return { units, given };
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).toSorted();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}
