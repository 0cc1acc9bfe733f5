import { readLastState, type LastState } from "../bolt/last.ts";
import type { WalTools } from "../datadir/datadir.ts";
import { isFault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import type { StoppedFacts } from "./facts.ts";
import type { OpenHost } from "./restore.ts";

/**
 * How far a member has come that does not run, by its own files: nobody else may know what it told clients last. A few pages of its database are read, and the last
 * segment of its log; nothing is copied.
 */

const segmentName = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/;
/** A length of eight bytes, and the least that a record and the entry in it have, padded to eight. */
const leastEntryBytes = 24;

/**
 * For a member whose service does not run. Undefined where it has no data, or where something has its database open all the same: who runs is asked, not read. What is
 * damaged is told in the facts, and no fault.
 */
export async function readStopped(
  { host, etcd }: Pick<OpenHost, "host" | "etcd">,
  wal: Pick<WalTools, "read">,
  signal: AbortSignal,
): Promise<StoppedFacts | undefined> {
  if (etcd === undefined) return undefined;
  const path = `${etcd.dataDirectory}/member/snap/db`;
  const database = await host.stat(path, signal);
  if (database === undefined) return undefined;
  if ((await host.holders(path, signal)).length > 0) return undefined;
  const broken: string[] = [];
  const note = (error: unknown, what: string): undefined => {
    if (signal.aborted || !isFault(error)) throw error;
    broken.push(`${what}: ${error.message}`);
    return undefined;
  };
  let state: LastState | undefined;
  try {
    state = await readLastState(
      database.sizeBytes,
      async (offset, bytes) => await host.readAt(path, offset, bytes, signal),
    );
  } catch (error) {
    note(error, `its database cannot be read, so what it had reached is not known`);
  }
  const log = await readLogEnd(host, etcd.walDirectory ?? `${etcd.dataDirectory}/member/wal`, wal, note, signal);
  const behind = log !== undefined && state !== undefined ? log.lastIndex - state.consistentIndex : 0n;
  return {
    revision: state?.revision,
    // An entry of the log makes one revision, or none.
    logEntries: behind > 0n ? behind : 0n,
    writtenMs: Math.max(database.modifiedMs, log?.modifiedMs ?? 0),
    broken,
  };
}

interface LogEnd {
  /** No entry has a higher one. */
  readonly lastIndex: bigint;
  readonly modifiedMs: number;
}

async function readLogEnd(
  host: Host,
  directory: string,
  wal: Pick<WalTools, "read">,
  note: (error: unknown, what: string) => undefined,
  signal: AbortSignal,
): Promise<LogEnd | undefined> {
  const names = ((await host.list(directory, signal)) ?? []).filter((name) => segmentName.test(name));
  const name = names.toSorted().at(-1);
  const facts = name === undefined ? undefined : await host.stat(`${directory}/${name}`, signal);
  if (name === undefined || facts === undefined) return undefined;
  // It says in its name with which entry it begins.
  const before = BigInt(`0x${segmentName.exec(name)?.[2] ?? "0"}`) - 1n;
  const fitInto = (bytes: number): bigint => BigInt(Math.ceil(bytes / leastEntryBytes));
  const { sizeBytes, modifiedMs } = facts;
  try {
    const content = (within: AbortSignal) => host.send(`${directory}/${name}`, within);
    const { lastIndex, snapshotIndex, torn, end } = await wal.read([{ name, content }], signal);
    const read = [lastIndex, snapshotIndex].reduce((a, b) => (b > a ? b : a), before);
    // What stands behind a record that is cut off may have been whole once.
    return { lastIndex: torn ? read + fitInto(sizeBytes - end.offsetBytes) : read, modifiedMs };
  } catch (error) {
    const most = fitInto(sizeBytes);
    note(error, `its log cannot be read, and is counted as the ${most} entries that fit into it at most`);
    return { lastIndex: before + most, modifiedMs };
  }
}
