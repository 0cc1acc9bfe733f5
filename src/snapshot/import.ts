import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { Fault, abortFault } from "../faults.ts";
import { listRepository, readEntries } from "../repository/catalog.ts";
import { formatInstant } from "../repository/documents.ts";
import { createRepository, readIdentity } from "../repository/identity.ts";
import { createLineage } from "../repository/lineage.ts";
import { manifestSchemaId, type Manifest } from "../repository/manifest.ts";
import { formatBackupName } from "../repository/names.ts";
import type { BackupDependencies } from "./backup.ts";
import { committedFacts, writeContent } from "./backup.ts";
import { commitBackup } from "./commit.ts";
import { PhaseTimer } from "./phases.ts";
import { sealBytes } from "./seal.ts";
import { translated, type SpoolFile } from "./spool.ts";

type ImportDependencies = Pick<
  BackupDependencies,
  "store" | "clock" | "emit" | "encoder" | "spool" | "scan" | "newId" | "cluster" | "toolVersion" | "trusted"
>;

/**
 * Makes an existing snapshot file, as `etcdctl snapshot save` wrote it, a backup in a lineage of its own, marked foreign: such a file carries no
 * cluster ID, so nothing says whose it is. It is copied into the spool and judged there, so a file that changes meanwhile harms nothing.
 * Rejects with `snapshot-broken` when the seal is missing or wrong, `bolt-corrupt` when it is no whole etcd database.
 */
export async function importSnapshot(
  deps: ImportDependencies,
  path: string,
  label: string | undefined,
  signal: AbortSignal,
): Promise<Manifest> {
  const run = deps.newId();
  const phases = new PhaseTimer(run, deps.clock, deps.emit);
  const startedMs = deps.clock.now();
  const beganMs = deps.clock.elapsed();
  const about = { trigger: "import", schedule: undefined, slotMs: undefined } as const;
  deps.emit({ name: "backup.started", run, ...about });
  try {
    await using file = await deps.spool.create(run);
    const drained = await phases.run("drain", (progress) => copySealed(deps, path, file, progress, signal));
    const facts = await phases.run("scan", () => deps.scan(file.path, [], signal));
    await refuseSecondImport(deps, drained.seal, signal);
    const identity =
      (await readIdentity(deps.store, deps.cluster, signal)) ??
      (await createRepository(deps.store, deps.cluster, { repository: deps.newId(), firstLineage: deps.newId() }, startedMs, signal)).identity;
    const lineage = await createLineage(
      deps.store,
      { lineage: deps.newId(), kind: "foreign", clusterId: null, parent: null, minimumRevision: 0n, reason: "an imported snapshot file" },
      deps.clock.now(),
      signal,
    );
    const manifest = await commitBackup(
      deps,
      {
        schema: manifestSchemaId,
        tool: { name: "etcd-lifeboat", version: deps.toolVersion },
        repository: identity.id,
        lineage: lineage.lineage,
        backup: formatBackupName({ kind: "demand", timeMs: startedMs, id: run }),
        trigger: "import",
        slot: null,
        label: label ?? null,
        startedAt: formatInstant(startedMs),
        cluster: { name: deps.cluster, id: null },
        source: null,
        live: null,
        content: writeContent({ facts, drained }),
        samples: [...facts.samples],
      },
      file.path,
      deps.newId(),
      phases,
      signal,
    );
    const durationMs = deps.clock.elapsed() - beganMs;
    deps.emit({ name: "backup.committed", run, ...about, ...committedFacts(manifest), committedMs: Date.parse(manifest.committedAt), durationMs });
    return manifest;
  } catch (error) {
    const fault = signal.aborted ? abortFault(signal) : error;
    if (fault instanceof Fault) {
      const { code, message, hint, retryable } = fault;
      const durationMs = deps.clock.elapsed() - beganMs;
      deps.emit({ name: "backup.failed", run, ...about, phase: phases.current, code, message, hint, retryable, durationMs });
    }
    throw fault;
  }
}

/** The very same file twice would be two lineages of one history. */
async function refuseSecondImport(deps: ImportDependencies, seal: string, signal: AbortSignal): Promise<void> {
  const listing = await listRepository(deps.store, signal);
  const demands = listing.backups.filter(({ name }) => name.kind === "demand");
  for (const { manifest } of await readEntries(deps.store, demands, deps.trusted, signal)) {
    if (manifest?.trigger === "import" && manifest.content.seal === seal) {
      throw new Fault("usage", `this snapshot was imported already, as ${manifest.lineage}/${manifest.backup}`, {
        hint: "run: etcd-lifeboat list",
      });
    }
  }
}

async function copySealed(
  deps: ImportDependencies,
  path: string,
  target: SpoolFile,
  progress: (doneBytes: number, totalBytes: number) => void,
  signal: AbortSignal,
): Promise<{ readonly dbBytes: number; readonly seal: string; readonly version: string }> {
  const source = await opened(path);
  try {
    const { size } = await source.stat();
    if (size % 512 !== sealBytes) {
      throw new Fault("snapshot-broken", `${path} has ${size} bytes and so no seal at its end: it is truncated, or a raw copy of a data directory`, {
        hint: "import only what etcdctl snapshot save wrote",
      });
    }
    await deps.spool.requireSpace(size);
    const dbBytes = size - sealBytes;
    const hash = createHash("sha256");
    let position = 0;
    let trailer: Uint8Array = Buffer.alloc(0);
    for await (const chunk of source.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024, signal }) as AsyncIterable<Buffer>) {
      hash.update(chunk.subarray(0, Math.max(0, dbBytes - position)));
      if (position + chunk.length > dbBytes) trailer = Buffer.concat([trailer, chunk.subarray(Math.max(0, dbBytes - position))]);
      for (let from = 0; from < chunk.length; ) {
        const { bytesWritten } = await translated(target.path, () => target.handle.write(chunk, from, chunk.length - from, position + from));
        from += bytesWritten;
      }
      position += chunk.length;
      progress(position, size);
    }
    const seal = hash.digest("hex");
    if (position !== size || Buffer.from(trailer).toString("hex") !== seal) {
      throw new Fault("snapshot-broken", `${path} does not match the seal at its end: it was damaged after it was saved`);
    }
    return { dbBytes, seal, version: "" };
  } finally {
    await source.close();
  }
}

async function opened(path: string): ReturnType<typeof open> {
  try {
    return await open(path, constants.O_RDONLY);
  } catch (error) {
    throw new Fault("usage", `${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}`, { cause: error });
  }
}
