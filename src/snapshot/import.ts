import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { Fault, abortFault, throwIfAborted } from "../faults.ts";
import { eachEntry, listRepository } from "../repository/catalog.ts";
import { formatInstant } from "../repository/documents.ts";
import { createRepository, readIdentity, type RepositoryIdentity } from "../repository/identity.ts";
import { createLineage } from "../repository/lineage.ts";
import { manifestSchemaId, type Manifest } from "../repository/manifest.ts";
import { formatBackupName } from "../repository/names.ts";
import type { BackupDependencies } from "./backup.ts";
import { believe, checkLabel, committedFacts } from "./backup.ts";
import { commitBackup } from "./commit.ts";
import { startStoring } from "./storing.ts";
import { writeContent } from "./draft.ts";
import { PhaseTimer } from "./phases.ts";
import { sealBytes } from "./seal.ts";
import { writeAll, type SpoolFile } from "./spool.ts";

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
  checkLabel(label);
  const run = deps.newId();
  const phases = new PhaseTimer(run, deps.clock, deps.emit);
  const startedMs = deps.clock.now();
  const beganMs = deps.clock.elapsed();
  const name = { kind: "demand", timeMs: startedMs, id: run } as const;
  const about = { trigger: "import", schedule: undefined, slotMs: undefined } as const;
  deps.emit({ name: "backup.started", run, ...about });
  try {
    await using file = await deps.spool.create(run);
    const drained = await phases.run("drain", (progress) => copySealed(deps, path, file, progress, signal));
    const facts = await phases.run("scan", () => deps.scan(file.path, [], signal));
    const known = await readIdentity(deps.store, deps.cluster, signal);
    if (known !== undefined) await refuseSecondImport(deps, known, drained.seal, signal);
    const identity = known ?? (await create(deps, startedMs, signal));
    const lineage = await createLineage(
      deps.store,
      {
        repository: identity.id,
        lineage: deps.newId(),
        kind: "foreign",
        clusterId: null,
        parent: null,
        minimumRevision: 0n,
        reason: "an imported snapshot file",
      },
      deps.clock.now(),
      signal,
    );
    const target = { lineage: lineage.lineage, snapshotId: deps.newId() };
    await using storing = startStoring(deps, target, file.path, drained);
    const commit = await commitBackup(
      // The extras belong to the cluster of today, not to a file of unknown origin.
      { ...deps, encoder: { ...deps.encoder, extras: [] } },
      {
        schema: manifestSchemaId,
        tool: { name: "etcd-lifeboat", version: deps.toolVersion },
        repository: identity.id,
        lineage: lineage.lineage,
        backup: formatBackupName(name),
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
      storing,
      undefined,
      phases,
      signal,
      signal,
    );
    if (commit.kind === "taken") throw new Fault("store-exists", `the key of ${formatBackupName(name)} is taken`);
    const { manifest } = commit;
    const durationMs = Math.round(deps.clock.elapsed() - beganMs);
    deps.emit({
      name: "backup.committed",
      run,
      ...about,
      ...committedFacts(manifest),
      committedMs: Date.parse(manifest.committedAt),
      durationMs,
    });
    return manifest;
  } catch (error) {
    const fault = signal.aborted ? abortFault(signal) : error;
    if (fault instanceof Fault) {
      const { code, message, hint, retryable } = fault;
      const durationMs = Math.round(deps.clock.elapsed() - beganMs);
      deps.emit({
        name: "backup.failed",
        run,
        ...about,
        phase: phases.current,
        code,
        message,
        hint,
        retryable,
        durationMs,
      });
    }
    throw fault;
  }
}

async function create(deps: ImportDependencies, nowMs: number, signal: AbortSignal): Promise<RepositoryIdentity> {
  const ids = { repository: deps.newId(), firstLineage: deps.newId() };
  const { identity, created } = await createRepository(deps.store, deps.cluster, ids, nowMs, signal);
  if (created) deps.emit({ name: "repository.created", repository: identity.id, cluster: identity.cluster });
  return identity;
}

/** The very same file twice would be two lineages of one history. */
async function refuseSecondImport(
  deps: ImportDependencies,
  identity: RepositoryIdentity,
  seal: string,
  signal: AbortSignal,
): Promise<void> {
  const listing = await listRepository(deps.store, signal);
  const demands = listing.backups.filter(({ name }) => name.kind === "demand");
  for await (const { manifest } of eachEntry(deps.store, demands, believe(deps, identity), 8, signal)) {
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
    const stats = await source.stat();
    if (!stats.isFile()) {
      throw new Fault("usage", `${path} is not a regular file`, { hint: "name a file of etcdctl snapshot save" });
    }
    const { size } = stats;
    if (size % 512 !== sealBytes) {
      throw new Fault(
        "snapshot-broken",
        `${path} has ${size} bytes and so no seal at its end: it is truncated, or a raw copy of a data directory`,
        {
          hint: "import only what etcdctl snapshot save wrote",
        },
      );
    }
    await deps.spool.requireSpace(size);
    const dbBytes = size - sealBytes;
    const hash = createHash("sha256");
    const chunk = Buffer.allocUnsafe(1024 * 1024);
    const trailer = Buffer.alloc(sealBytes);
    let position = 0;
    for (;;) {
      // Ends with the file, or one byte past the size it had: a file that grows is not what was measured.
      throwIfAborted(signal);
      const { bytesRead } = await reading(path, () =>
        source.read(chunk, 0, Math.min(chunk.length, size + 1 - position), position),
      );
      if (bytesRead === 0) break;
      const bytes = chunk.subarray(0, bytesRead);
      const inDatabase = Math.max(0, Math.min(bytesRead, dbBytes - position));
      hash.update(bytes.subarray(0, inDatabase));
      bytes.copy(trailer, Math.max(0, position - dbBytes), inDatabase);
      await writeAll(target, bytes, position);
      position += bytesRead;
      progress(position, size);
    }
    const seal = hash.digest("hex");
    if (position !== size || trailer.toString("hex") !== seal) {
      throw new Fault(
        "snapshot-broken",
        `${path} does not match the seal at its end: it was damaged after it was saved`,
      );
    }
    return { dbBytes, seal, version: "" };
  } finally {
    await source.close();
  }
}

function opened(path: string): ReturnType<typeof open> {
  // Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
  return reading(path, () => open(path, constants.O_RDONLY | constants.O_NONBLOCK));
}

async function reading<T>(path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw new Fault("usage", `${path} cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}`, {
      cause: error,
    });
  }
}
