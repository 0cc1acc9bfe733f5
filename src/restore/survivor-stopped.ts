import { createReadStream, createWriteStream } from "node:fs";
import { appendFile, mkdir, rename, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { SnapshotFacts } from "../bolt/facts.ts";
import { withDeadline } from "../deadline.ts";
import type { WalFacts } from "../datadir/datadir.ts";
import { Fault, isFault } from "../faults.ts";
import type { StockLook, StockMember } from "../stock/stock.ts";
import { databasePath, membersOf } from "./source.ts";
import type { SurvivorDependencies, TakenDatabase } from "./survivor.ts";

/** A large log is replayed at some thousand entries a second, and a large database is opened as slowly as its disk reads it. */
const replayMs = 600_000;
const lookEveryMs = 100;

/** What etcd reads on its start: the database, raft's snapshots, one that its leader had sent, and segments of the log. */
const snapFiles = /^(?:db|[0-9a-f]{16}-[0-9a-f]{16}\.snap|[0-9a-f]{16}\.snap\.db)$/;
const walFiles = /^[0-9a-f]{16}-[0-9a-f]{16}\.wal$/;

/**
 * Copies a stopped member's data directory here and reads it. Entries that are only in its log are applied by a throw-away etcd that runs on the copy; the member's own
 * files are only read.
 */
export async function takeStopped(
  deps: SurvivorDependencies,
  directory: string,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<TakenDatabase> {
  const { host, at } = deps;
  const database = `${at.dataDirectory}/member/snap/db`;
  const there = await host.stat(database, signal);
  if (there === undefined) {
    throw new Fault("restore-refused", `${at.member} left no database on ${host.name}: there is no ${database}`, {
      hint: "name a member whose data is still there, or restore a backup",
    });
  }
  const holders = await host.holders(database, signal);
  if (holders.length > 0) {
    throw new Fault(
      "restore-refused",
      `${at.service.name} on ${host.name} is said to be stopped, and process ${holders.join(", ")} has ${database} open`,
      { hint: "end that process, or correct the service under hosts" },
    );
  }
  const scratch = join(directory, "survivor");
  await rm(scratch, { recursive: true, force: true });
  try {
    const wal = await copyMember(deps, scratch, onBytes, signal);
    const copied = join(scratch, "data/member/snap/db");
    const before = await deps.scan(copied, [], signal);
    const { lastIndex } = wal;
    const committed = wal.hardState?.commit ?? 0n;
    const survivor = { member: at.member, lastIndex, uncommitted: lastIndex > committed ? lastIndex - committed : 0n };
    const takenMs = there.modifiedMs;
    const members = membersOf(before);
    const path = databasePath(directory);
    if (before.consistentIndex >= lastIndex) {
      await rename(copied, path);
      const how = { how: "stopped", tool: undefined, index: before.consistentIndex, replayed: 0n } as const;
      return { takenMs, members, serverVersion: undefined, survivor: { ...survivor, ...how } };
    }
    // A client may have been told of every entry but those that no other member had: all of them are kept.
    await appendFile(await cutSegment(scratch, wal), deps.wal.commitRecord(wal));
    const replayed = await replay(deps, scratch, before, lastIndex, signal);
    await rename(replayed.path, path);
    const how = { how: "replayed", tool: replayed.tool, index: lastIndex } as const;
    return {
      takenMs,
      members,
      serverVersion: replayed.version,
      survivor: { ...survivor, ...how, replayed: lastIndex - before.consistentIndex },
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Cuts the last segment of the copy where its log ends, and gives its path. */
async function cutSegment(scratch: string, { end }: WalFacts): Promise<string> {
  const path = join(scratch, "data/member/wal", end.segment);
  await truncate(path, end.offsetBytes);
  return path;
}

async function copyMember(
  { host, at, wal: tools }: SurvivorDependencies,
  scratch: string,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<WalFacts> {
  const [snap, wal] = [join(scratch, "data/member/snap"), join(scratch, "data/member/wal")];
  await mkdir(snap, { recursive: true, mode: 0o700 });
  await mkdir(wal, { recursive: true, mode: 0o700 });
  let doneBytes = 0;
  const copy = async (from: string, to: string, wanted: RegExp): Promise<readonly string[]> => {
    const names = ((await host.list(from, signal)) ?? []).filter((name) => wanted.test(name));
    for (const name of names) {
      const counted = async function* (chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
        for await (const chunk of chunks) {
          onBytes((doneBytes += chunk.length));
          yield chunk;
        }
      };
      const file = createWriteStream(join(to, name), { flags: "wx", mode: 0o600 });
      await pipeline(host.send(`${from}/${name}`, signal), counted, file, { signal });
    }
    return names;
  };
  await copy(`${at.dataDirectory}/member/snap`, snap, snapFiles);
  const segments = await copy(at.walDirectory ?? `${at.dataDirectory}/member/wal`, wal, walFiles);
  if (segments.length === 0) {
    throw new Fault(
      "restore-refused",
      `${at.member} left no log on ${host.name}: what is missing in its database cannot be told`,
      {
        hint: `set hosts.${host.name}.etcd.walDirectory where etcd has --wal-dir; or take the database as it is, with --file ${at.dataDirectory}/member/snap/db`,
      },
    );
  }
  return await tools.read(
    segments.map((name) => ({ name, content: (within) => createReadStream(join(wal, name), { signal: within }) })),
    signal,
  );
}

/** Lets etcd itself apply the rest of the log; nobody else can reach it, and it does not outlive this process. */
async function replay(
  deps: SurvivorDependencies,
  scratch: string,
  before: SnapshotFacts,
  lastIndex: bigint,
  signal: AbortSignal,
): Promise<{ readonly path: string; readonly tool: string; readonly version: string }> {
  const { at, host, stock, scan } = deps;
  const lacking = `the database of ${at.member} ends at entry ${before.consistentIndex} of its log, which goes on to ${lastIndex}`;
  const asItIs = `or take the database without these entries, from a copy of ${host.name}'s: --file ${at.dataDirectory}/member/snap/db`;
  const minor = /^3\.\d+/.exec(before.storageVersion ?? before.clusterVersion ?? "")?.[0] ?? deps.minor;
  if (minor === undefined)
    throw new Fault("restore-refused", `${lacking}, and nothing tells which etcd can apply the rest`, {
      hint: `name it: --etcd-minor 3.6; ${asItIs}`,
    });
  try {
    const server = await stock.findServer(minor, signal);
    using deadline = withDeadline(signal, replayMs, `${server.name} did not apply the log of ${at.member}`, "failed");
    await using member = await server.startAlone(scratch, deadline.signal);
    await applied(deps, member, lastIndex, deadline.signal);
    const path = await member.stop(deadline.signal);
    const after = await scan(path, [], signal);
    if (after.revision < before.revision)
      throw new Fault("boot-failed", `${server.name} came to revision ${after.revision}, below ${before.revision}`);
    return { path, tool: server.name, version: server.name.replace(/^etcd /, "") };
  } catch (error) {
    if (signal.aborted || !isFault(error, "tool-missing", "boot-failed", "failed")) throw error;
    throw new Fault(error.code, `${lacking}, and the rest was not applied: ${error.message}`, {
      hint: [error.hint, asItIs].filter((part) => part !== undefined).join("; "),
      cause: error,
    });
  }
}

async function applied(
  { clock }: SurvivorDependencies,
  member: StockMember,
  index: bigint,
  signal: AbortSignal,
): Promise<StockLook> {
  for (;;) {
    // Ends with the deadline, or with the member.
    const look = await member.look(signal);
    if (look !== undefined && look.appliedIndex >= index) return look;
    await clock.sleep(lookEveryMs, signal);
  }
}
