import { createHash } from "node:crypto";
import { constants, createReadStream, statSync } from "node:fs";
import { copyFile, mkdir, open, rename, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { SnapshotFacts } from "../bolt/facts.ts";
import { Fault, isFault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import { checkContent } from "../snapshot/content.ts";
import type { Decryption } from "../snapshot/encode.ts";
import { spoolPlain } from "../snapshot/fetch.ts";
import { checkSizes } from "../snapshot/sizes.ts";
import type { Scan } from "../snapshot/take.ts";
import type { Store } from "../store/store.ts";
import type { ListedMember, SourceFacts } from "./facts.ts";

/** Where the database comes from: a backup of the repository, or a file. */
export interface Source {
  readonly name: string;
  /** Most bytes that it can have here, before it is fetched; undefined when nobody knows. */
  readonly bytes: number | undefined;
  /**
   * Brings the database into the directory, checked and without its seal, and says what it is. What is there already from an earlier try is read again and kept when
   * it is whole. The directory is made.
   */
  fetch(directory: string, onBytes: (bytes: number) => void, signal: AbortSignal): Promise<Fetched>;
}

export interface Fetched {
  readonly path: string;
  readonly facts: SourceFacts;
}

/** One that is opened, with whatever that needs, when its database is fetched. */
export function lazySource(name: string, open: (signal: AbortSignal) => Promise<Source>): Source {
  return {
    name,
    bytes: undefined,
    fetch: async (directory, onBytes, signal) => await (await open(signal)).fetch(directory, onBytes, signal),
  };
}

const sealBytes = 32;

/** Does something in the directory of the operation on this machine; what its disk refuses is a fault that names it. */
export async function onOwnDisk<T>(directory: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const code = error instanceof Error && !isFault(error) ? (error as NodeJS.ErrnoException).code : undefined;
    if (code === undefined || !/^E[A-Z0-9]+$/.test(code)) throw error;
    const full = code === "ENOSPC" || code === "EDQUOT";
    throw new Fault(
      full ? "spool-space" : "spool-failed",
      full ? `no space left in ${directory}` : `${directory} cannot be written or read: ${code}`,
      { hint: "make room there, or mend that disk; operations.directory says where it is", cause: error },
    );
  }
}

/** The source with what the disk of this machine refuses told as such. */
export function heldToDisk(source: Source): Source {
  return {
    ...source,
    fetch: async (directory, onBytes, signal) =>
      await onOwnDisk(directory, async () => await source.fetch(directory, onBytes, signal)),
  };
}

/** The path of the database inside the work directory. */
export function databasePath(directory: string): string {
  return join(directory, "snapshot.db");
}

/** A backup, believed as its manifest is. */
export interface ChosenBackup {
  readonly manifest: Manifest;
  /** Why its members could not be asked, or disagreed; undefined when it is proven. */
  readonly unproven: string | undefined;
  /** A newer backup that was not taken, since it is not proven. */
  readonly passedOver: string | undefined;
}

export function backupSource(
  { store, scan }: { readonly store: Store; readonly scan: Scan },
  chosen: ChosenBackup,
  encryption: Decryption,
): Source {
  const { manifest } = chosen;
  const { content, data } = manifest;
  const name = `${manifest.lineage}/${manifest.backup}`;
  return heldToDisk({
    name,
    bytes: data.plainBytes,
    async fetch(directory, onBytes, signal) {
      checkSizes(manifest);
      const path = databasePath(directory);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      if ((await digestOfFile(path, signal)) !== content.seal) {
        const partial = `${path}.partial`;
        await rm(partial, { force: true });
        const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
        const handle = await open(partial, flags, 0o600);
        try {
          await spoolPlain(store, manifest, encryption, { path: partial, handle }, onBytes, signal);
        } finally {
          await handle.close();
        }
        await checkContent(scan, manifest, partial, "deep", signal);
        await truncate(partial, content.dbBytes);
        await rename(partial, path);
      }
      return { path, facts: factsOfBackup(chosen, name) };
    },
  });
}

function factsOfBackup({ manifest, unproven, passedOver }: ChosenBackup, name: string): SourceFacts {
  const { content, live, source } = manifest;
  return {
    kind: "backup",
    name,
    lineage: manifest.lineage,
    takenMs: Date.parse(manifest.startedAt),
    unproven,
    passedOver,
    revision: content.revision,
    compactRevision: content.compactRevision,
    hashKv: content.hashKv,
    dbBytes: content.dbBytes,
    sha256: content.seal,
    serverVersion: source?.version,
    storageVersion: content.storageVersion ?? undefined,
    clusterVersion: content.clusterVersion ?? undefined,
    downgradeTarget: undefined,
    members: (live?.members ?? content.members).map(({ name: member, peerUrls, clientUrls, learner }) => ({
      name: member,
      peerUrls,
      clientUrls,
      learner,
    })),
    clusterId: BigInt(`0x${manifest.cluster.id}`),
    alarms: content.alarms.map(({ memberId, kind }) => ({ memberId: BigInt(`0x${memberId}`), kind })),
    authEnabled: content.authEnabled,
    leases: content.leases,
    keys: content.keys,
  };
}

export interface FileReading {
  readonly scan: Scan;
  /** Processes of this machine that have the very file open. */
  readonly holders: (path: string, signal: AbortSignal) => Promise<readonly number[]>;
}

/** Undefined where it cannot be looked at, which is told when it is fetched. */
function sizeOf(file: string): number | undefined {
  try {
    return statSync(file).size;
  } catch {
    return undefined;
  }
}

/** A file as `etcdctl snapshot save` or `etcd-lifeboat fetch` writes it; one without a seal is what a member's own database is. */
export function fileSource({ scan, holders }: FileReading, file: string): Source {
  return heldToDisk({
    name: file,
    bytes: sizeOf(file),
    async fetch(directory, onBytes, signal) {
      const path = databasePath(directory);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const partial = `${path}.partial`;
      await rm(partial, { force: true });
      const open = await holders(file, signal);
      if (open.length > 0) {
        // A database that is written meanwhile would be copied in parts that do not fit.
        throw new Fault("restore-refused", `process ${open.join(", ")} has ${file} open: what is copied may be torn`, {
          hint: "take what runs by its name: etcd-lifeboat restore --from-member NAME; or end that process first",
        });
      }
      try {
        await copyFile(file, partial, constants.COPYFILE_EXCL);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "ENOSPC" || code === "EDQUOT" || code === "EIO") throw error;
        throw new Fault("usage", `${file} cannot be read: ${code ?? String(error)}`, {
          hint: "give a file that etcdctl snapshot save or etcd-lifeboat fetch has written",
          cause: error,
        });
      }
      const facts = await scan(partial, [], signal);
      const seal = await sealOf(partial, facts, signal);
      onBytes(facts.dbBytes);
      await truncate(partial, facts.dbBytes);
      await rename(partial, path);
      return { path, facts: factsOfFile(file, facts, seal) };
    },
  });
}

/** SHA-256 of the database, hexadecimal, and whether a seal after it says the same; a wrong one is `snapshot-broken`. */
async function sealOf(
  path: string,
  { dbBytes, sealed }: SnapshotFacts,
  signal: AbortSignal,
): Promise<{ readonly sha256: string; readonly sealed: boolean }> {
  const sha256 = await digestOfFile(path, signal, dbBytes);
  if (sha256 === undefined) throw new Error(`${path} has vanished`);
  if (!sealed) return { sha256, sealed };
  const handle = await open(path, "r");
  try {
    const { buffer } = await handle.read(Buffer.alloc(sealBytes), 0, sealBytes, dbBytes);
    if (buffer.toString("hex") === sha256) return { sha256, sealed };
  } finally {
    await handle.close();
  }
  throw new Fault("snapshot-broken", "the database does not match the seal that stands after it", {
    hint: "the file was damaged after it was saved: take another one",
  });
}

function factsOfFile(
  file: string,
  facts: SnapshotFacts,
  { sha256, sealed }: { readonly sha256: string; readonly sealed: boolean },
): SourceFacts {
  return {
    ...factsOfDatabase(facts, sha256),
    kind: "file",
    name: file,
    unproven: sealed
      ? "a file, which no member was compared with"
      : "a file without a seal: nothing says whether it is whole, and no member was compared with it",
  };
}

/** What a database says of itself; who gave it, and when, it does not know. */
export function factsOfDatabase(facts: SnapshotFacts, sha256: string): Omit<SourceFacts, "kind" | "name" | "unproven"> {
  return {
    passedOver: undefined,
    lineage: undefined,
    takenMs: undefined,
    revision: facts.revision,
    compactRevision: facts.compactRevision,
    hashKv: facts.hashKv,
    dbBytes: facts.dbBytes,
    sha256,
    serverVersion: undefined,
    storageVersion: facts.storageVersion,
    clusterVersion: facts.clusterVersion,
    downgradeTarget: facts.downgrade?.enabled === true ? facts.downgrade.targetVersion : undefined,
    members: membersOf(facts),
    alarms: facts.alarms,
    authEnabled: facts.authEnabled,
    leases: facts.leases,
    keys: facts.keys,
  };
}

/** Its member list without the IDs, which mean nothing in another cluster. */
export function membersOf({ members }: SnapshotFacts): readonly ListedMember[] {
  return members.map(({ name, peerUrls, clientUrls, learner }) => ({ name, peerUrls, clientUrls, learner }));
}

/** SHA-256 of a file, or of its first bytes; undefined when it is not there. */
export async function digestOfFile(path: string, signal: AbortSignal, bytes?: number): Promise<string | undefined> {
  const there = await stat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) return undefined;
  const hash = createHash("sha256");
  const end = (bytes ?? there.size) - 1;
  if (end >= 0) await pipeline(createReadStream(path, { end }), hash, { signal });
  return hash.digest("hex");
}
