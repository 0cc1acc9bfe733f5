import { abortFault } from "../faults.ts";
import type { DiskTime, DiskTimes } from "./etcd.ts";
import { get } from "./http.ts";
import type { GetOptions } from "./http.ts";

const limits = { timeoutMs: 5000, maxBytes: 8 * 2 ** 20 };

type Options = Pick<GetOptions, "tls" | "serverName">;

/** `etcd_disk_defrag_inflight` of a member's metrics page (etcd 3.4.11 and later); undefined when it cannot be read. */
export async function askDefragmenting(
  baseUrl: string,
  options: Options,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const inflight = valueOf(await readPage(baseUrl, options, signal), "etcd_disk_defrag_inflight");
  return inflight === undefined ? undefined : inflight > 0;
}

/** How long the member's WAL took to be synced, and its database to be committed, since it started; undefined when it cannot be read. */
export async function askDiskTimes(
  baseUrl: string,
  options: Options,
  signal: AbortSignal,
): Promise<DiskTimes | undefined> {
  const page = await readPage(baseUrl, options, signal);
  const walFsync = timeOf(page, "etcd_disk_wal_fsync_duration_seconds");
  const backendCommit = timeOf(page, "etcd_disk_backend_commit_duration_seconds");
  return walFsync === undefined || backendCommit === undefined ? undefined : { walFsync, backendCommit };
}

/** Empty when there is no page: metrics may be served elsewhere or not at all. */
async function readPage(baseUrl: string, options: Options, signal: AbortSignal): Promise<string> {
  const path = `${new URL(baseUrl).pathname.replace(/\/+$/, "")}/metrics`.replace(/^\/metrics\/metrics$/, "/metrics");
  try {
    const page = await get(baseUrl, path, { ...options, ...limits }, signal);
    return page.status === 200 ? page.body : "";
  } catch {
    if (signal.aborted) throw abortFault(signal);
    return "";
  }
}

function timeOf(page: string, histogram: string): DiskTime | undefined {
  const [count, seconds] = [valueOf(page, `${histogram}_count`), valueOf(page, `${histogram}_sum`)];
  return count === undefined || seconds === undefined ? undefined : { count, seconds };
}

/** A series without labels. */
function valueOf(page: string, name: string): number | undefined {
  const value = Number(new RegExp(`^${name} (\\S+)`, "m").exec(page)?.[1]);
  return Number.isNaN(value) ? undefined : value;
}
