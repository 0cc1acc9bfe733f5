import { constants } from "node:fs";
import { mkdir, open, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import { checkMember, observeCluster, type ObserveOptions } from "../cluster/observe.ts";
import { withDeadline } from "../deadline.ts";
import type { WalFacts, WalTools } from "../datadir/datadir.ts";
import type { Etcd } from "../etcd/etcd.ts";
import { Fault, isFault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import { defaultDrainLimits, drainSnapshot } from "../snapshot/drain.ts";
import type { Scan } from "../snapshot/take.ts";
import type { StockServers } from "../stock/stock.ts";
import type { ListedMember, SourceFacts, SurvivorFacts } from "./facts.ts";
import type { OpenHost } from "./restore.ts";
import {
  databasePath,
  heldToDisk,
  digestOfFile,
  factsOfDatabase,
  membersOf,
  type Fetched,
  type Source,
} from "./source.ts";
import { takeStopped } from "./survivor-stopped.ts";

/**
 * The data of a member that survived a cluster's loss of quorum. A backup of it would be no more proven: there is nobody left to compare it with. Nothing of it is left
 * out in silence: up to where its log was known to be committed it is whole, or it is refused, and the rest of the log is counted and told.
 */
export interface SurvivorDependencies {
  readonly host: Host;
  readonly at: NonNullable<OpenHost["etcd"]>;
  readonly etcd: Etcd;
  readonly observe: ObserveOptions;
  /** Also of a file without a seal. */
  readonly scan: Scan;
  readonly stock: StockServers;
  readonly wal: WalTools;
  /** Where the data does not tell it. */
  readonly minor: string | undefined;
  readonly clock: Clock;
}

/** A database that was taken, lies in the work directory under the name of `databasePath`, without its seal. */
export interface TakenDatabase {
  readonly survivor: SurvivorFacts;
  /** Milliseconds since 1970. */
  readonly takenMs: number;
  readonly serverVersion: string | undefined;
  /** As the member itself knew them: a throw-away etcd forgets the others. */
  readonly members: readonly ListedMember[];
}

const walTries = 3;
/** Beside the database: what cannot be read from it again. A resumed restore has moved the member's own data aside. */
const noteName = "survivor.json";

/**
 * A member's live snapshot where it runs, and its stopped data directory where it does not. `restore-refused` says why it can be neither and what helps;
 * `tool-missing` and `boot-failed` when its log cannot be applied.
 */
export async function survivorSource(deps: SurvivorDependencies, outer: AbortSignal): Promise<Source> {
  const { host, at, scan } = deps;
  const database = await host.stat(`${at.dataDirectory}/member/snap/db`, outer);
  const name = `member ${at.member}`;
  return heldToDisk({
    name,
    bytes: database?.sizeBytes,
    async fetch(directory, onBytes, signal) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const path = databasePath(directory);
      let taken = await readKept(directory, signal);
      if (taken === undefined) {
        await rm(join(directory, noteName), { force: true });
        const { running } = await at.service.state(signal);
        taken = running
          ? await takeLive(deps, directory, onBytes, signal)
          : await takeStopped(deps, directory, onBytes, signal);
        await keep(directory, taken, signal);
      }
      const scanned = await scan(path, [], signal);
      const sha256 = (await digestOfFile(path, signal)) ?? "";
      return { path, facts: factsOfSurvivor(name, factsOfDatabase(scanned, sha256), taken) } satisfies Fetched;
    },
  });
}

function factsOfSurvivor(
  name: string,
  facts: ReturnType<typeof factsOfDatabase>,
  { takenMs, serverVersion, survivor, members }: TakenDatabase,
): SourceFacts {
  return { ...facts, kind: "member", name, unproven: undefined, takenMs, serverVersion, survivor, members };
}

/** Bigints as text. */
interface Kept {
  readonly sha256: string;
  readonly takenMs: number;
  readonly serverVersion?: string;
  readonly members: readonly ListedMember[];
  readonly survivor: Pick<SurvivorFacts, "member" | "how" | "tool"> &
    Readonly<Record<"index" | "lastIndex" | "uncommitted" | "replayed", string>>;
}

async function keep(
  directory: string,
  { takenMs, serverVersion, survivor, members }: TakenDatabase,
  signal: AbortSignal,
) {
  const sha256 = (await digestOfFile(databasePath(directory), signal)) ?? "";
  const { index, lastIndex, uncommitted, replayed } = survivor;
  const kept: Kept = {
    sha256,
    takenMs,
    members,
    ...(serverVersion !== undefined && { serverVersion }),
    survivor: {
      ...survivor,
      index: index.toString(),
      lastIndex: lastIndex.toString(),
      uncommitted: uncommitted.toString(),
      replayed: replayed.toString(),
    },
  };
  await writeFile(join(directory, noteName), JSON.stringify(kept), { mode: 0o600 });
}

/** What an earlier try took, when it is whole. */
async function readKept(directory: string, signal: AbortSignal): Promise<TakenDatabase | undefined> {
  let kept: Kept;
  try {
    kept = JSON.parse(await readFile(join(directory, noteName), "utf8")) as Kept;
  } catch {
    // Not there, or cut off while it was written: it is taken again.
    return undefined;
  }
  if ((await digestOfFile(databasePath(directory), signal)) !== kept.sha256) return undefined;
  const { takenMs, serverVersion, survivor, members } = kept;
  return {
    takenMs,
    serverVersion,
    members,
    survivor: {
      ...survivor,
      index: BigInt(survivor.index),
      lastIndex: BigInt(survivor.lastIndex),
      uncommitted: BigInt(survivor.uncommitted),
      replayed: BigInt(survivor.replayed),
    },
  };
}

/** Needs no quorum: Maintenance.Snapshot is the member's own. */
async function takeLive(
  deps: SurvivorDependencies,
  directory: string,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<TakenDatabase> {
  const { at, etcd, clock } = deps;
  const address = await addressOf(deps, signal);
  await using connection = etcd.connect(address.at);
  const path = databasePath(directory);
  const partial = `${path}.partial`;
  await rm(partial, { force: true });
  try {
    using deadline = withDeadline(signal, deps.observe.memberTimeoutMs, `${at.member} did not answer Status`);
    const before = await connection.status(deadline.signal);
    checkMember(address.at, address.expected, before);
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const handle = await open(partial, flags, 0o600);
    try {
      const { dbBytes } = await drainSnapshot(
        connection,
        { path: partial, handle },
        defaultDrainLimits,
        clock,
        onBytes,
        signal,
      );
      await handle.sync();
      await truncate(partial, dbBytes);
    } finally {
      await handle.close();
    }
    const wal = await readLiveWal(deps, signal);
    const committed = wal.hardState?.commit ?? 0n;
    const scanned = await deps.scan(partial, [], signal);
    const index = before.raftAppliedIndex ?? scanned.consistentIndex;
    if (index < committed) {
      throw new Fault(
        "restore-refused",
        `${at.member} has applied its log up to entry ${index} and knows that it is committed up to ${committed}: its snapshot would lack the rest`,
        { hint: stopHint(deps) },
      );
    }
    await rename(partial, path);
    const { lastIndex } = wal;
    const uncommitted = lastIndex > index ? lastIndex - index : 0n;
    const survivor = {
      member: at.member,
      how: "live",
      tool: undefined,
      index,
      lastIndex,
      uncommitted,
      replayed: 0n,
    } as const;
    return { takenMs: clock.now(), serverVersion: before.version, survivor, members: membersOf(scanned) };
  } catch (error) {
    if (signal.aborted || !isFault(error, "etcd-auth", "etcd-timeout", "etcd-unreachable", "etcd-refused")) throw error;
    throw new Fault("restore-refused", `${at.member} runs, and does not give its snapshot: ${error.message}`, {
      hint: stopHint(deps),
      cause: error,
    });
  }
}

function stopHint({ host, at }: SurvivorDependencies): string {
  return `stop etcd on ${host.name} (${at.service.description}) and plan again: its stopped data directory is read then, with its log`;
}

async function addressOf(
  deps: SurvivorDependencies,
  signal: AbortSignal,
): Promise<{ readonly at: Parameters<Etcd["connect"]>[0]; readonly expected: Parameters<typeof checkMember>[1] }> {
  const { member } = deps.at;
  let why: string;
  try {
    const { clusterId, members, quorum } = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
    if (quorum) {
      throw new Fault("restore-refused", "the cluster has quorum: what it holds is what a backup of it holds", {
        hint: "take one: etcd-lifeboat backup; or restore one member that lost its data: etcd-lifeboat restore-member",
      });
    }
    const found = members.find(({ name }) => name === member);
    if (found?.seen.up === true) return { at: found.seen.address, expected: { clusterId, memberId: found.id } };
    why =
      found === undefined ? "the member that answers does not know it" : found.seen.up ? "" : found.seen.fault.message;
  } catch (error) {
    if (signal.aborted || !isFault(error) || error.code === "restore-refused") throw error;
    why = error.message;
  }
  throw new Fault("restore-refused", `${member} runs on ${deps.host.name}, and cannot be asked: ${why}`, {
    hint: stopHint(deps),
  });
}

/** It may be written while it is read, as elections go on without an end; what is half written is no damage. */
async function readLiveWal({ host, at, wal }: SurvivorDependencies, signal: AbortSignal): Promise<WalFacts> {
  const directory = at.walDirectory ?? `${at.dataDirectory}/member/wal`;
  for (let left = walTries; ; left -= 1) {
    const names = (await host.list(directory, signal)) ?? [];
    try {
      return await wal.read(
        names.map((name) => ({ name, content: (within) => host.send(`${directory}/${name}`, within) })),
        signal,
      );
    } catch (error) {
      if (left <= 1 || !isFault(error, "datadir-damaged")) throw error;
    }
  }
}
