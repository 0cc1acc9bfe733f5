import { abortFault } from "../faults.ts";
import type { ClientCalls, DiskHistogram, DiskTime, DiskTimes, ServerMetrics } from "./etcd.ts";
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

/** Services that clients use; those of Maintenance and Cluster are what operators and we ourselves ask. */
const clientServices = new Set(["etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease"]);

/** What clients asked of the member since it started; undefined when it cannot be read. The names are the same from 3.3 to 3.7. */
export async function askClientCalls(
  baseUrl: string,
  options: Options,
  signal: AbortSignal,
): Promise<ClientCalls | undefined> {
  const page = await readPage(baseUrl, options, signal);
  const startedSeconds = valueOf(page, "process_start_time_seconds");
  const watchers = valueOf(page, "etcd_debugging_mvcc_watcher_total");
  if (startedSeconds === undefined || watchers === undefined) return undefined;
  const byMethod = new Map<string, number>();
  let calls = 0;
  let openStreams = 0;
  for (const { name, labels, value } of seriesOf(page, "grpc_server_(?:started|handled)_total")) {
    if (!clientServices.has(labels.get("grpc_service") ?? "")) continue;
    const stream = labels.get("grpc_type") !== "unary";
    if (name === "grpc_server_handled_total") {
      if (stream) openStreams -= value;
      continue;
    }
    if (stream) openStreams += value;
    calls += value;
    const method = labels.get("grpc_method") ?? "";
    byMethod.set(method, (byMethod.get(method) ?? 0) + value);
  }
  return { startedSeconds, calls, byMethod, openStreams, watchers };
}

interface Series {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** The series of metrics whose name fits, with their labels. */
function seriesOf(page: string, names: string): readonly Series[] {
  return [...page.matchAll(new RegExp(`^(${names})\\{([^}]*)\\} (\\S+)$`, "gm"))].map(
    ([, name = "", labels = "", value]) => ({
      name,
      labels: new Map([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", text = ""]) => [key, text])),
      value: Number(value),
    }),
  );
}

/** The parts of a member's metrics that tell how it does; undefined when its page cannot be read. */
export async function askServerMetrics(
  baseUrl: string,
  options: Options,
  signal: AbortSignal,
): Promise<ServerMetrics | undefined> {
  const page = await readPage(baseUrl, options, signal);
  return page === "" ? undefined : readServerMetrics(page);
}

/** Reads a page in Prometheus' text format; exported for its tests. Names are etcd's of 3.3 to 3.7. */
export function readServerMetrics(page: string): ServerMetrics {
  const startedSeconds = valueOf(page, "process_start_time_seconds");
  const quotaBytes = valueOf(page, "etcd_server_quota_backend_bytes");
  return {
    startedMs: startedSeconds === undefined ? undefined : startedSeconds * 1000,
    residentBytes: valueOf(page, "process_resident_memory_bytes"),
    cpuSeconds: valueOf(page, "process_cpu_seconds_total"),
    leaderChanges: valueOf(page, "etcd_server_leader_changes_seen_total"),
    heartbeatFailures: valueOf(page, "etcd_server_heartbeat_send_failures_total"),
    // A quota that is switched off is negative there.
    quotaBytes: quotaBytes === undefined || quotaBytes <= 0 ? undefined : quotaBytes,
    walFsync: histogramOf(page, "etcd_disk_wal_fsync_duration_seconds"),
    backendCommit: histogramOf(page, "etcd_disk_backend_commit_duration_seconds"),
    peerRoundTrips: roundTripsOf(page),
  };
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

function histogramOf(page: string, name: string): DiskHistogram | undefined {
  const time = timeOf(page, name);
  if (time === undefined) return undefined;
  const buckets = seriesOf(page, `${name}_bucket`)
    .slice(0, mostSeries)
    .map(({ labels, value }) => ({
      le: labels.get("le") === "+Inf" ? Infinity : Number(labels.get("le")),
      count: value,
    }))
    .filter(({ le, count }) => !Number.isNaN(le) && !Number.isNaN(count));
  return { ...time, buckets: buckets.toSorted((a, b) => a.le - b.le) };
}

/** Of no member more buckets and peers than these are believed. */
const mostSeries = 64;

function roundTripsOf(page: string): ReadonlyMap<bigint, DiskTime> {
  const name = "etcd_network_peer_round_trip_time_seconds";
  const valuesOf = (part: string): ReadonlyMap<string, number> =>
    new Map(seriesOf(page, `${name}_${part}`).map(({ labels, value }) => [labels.get("To") ?? "", value]));
  const sums = valuesOf("sum");
  const known = [...valuesOf("count")].filter(([peer]) => /^[0-9a-f]{1,16}$/.test(peer)).slice(0, mostSeries);
  return new Map(
    known.map(([peer, count]) => [BigInt(`0x${peer}`), { count, seconds: sums.get(peer) ?? Number.NaN }] as const),
  );
}

/** A series without labels. */
function valueOf(page: string, name: string): number | undefined {
  const value = Number(new RegExp(`^${name} (\\S+)`, "m").exec(page)?.[1]);
  return Number.isNaN(value) ? undefined : value;
}
