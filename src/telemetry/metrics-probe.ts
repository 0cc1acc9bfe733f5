import { probeMethods, type Emit, type LifeboatEvent } from "../events.ts";
import { labelOf, mostMembers, setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

type Probed = Extract<LifeboatEvent, { name: "member.probed" }>;

/** From a local network to a far one, and to the bound of a call. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** What each member answers when it is asked by itself, and the certificates. A member that is gone loses its series. */
export function openProbeMetrics({ define, cluster }: MetricScope): Emit {
  const labels = ["cluster", "member"] as const;
  const perCall = [...labels, "method"] as const;
  const duration = define.histogram(
    "etcd_probe_duration_seconds",
    "How long the member took for a small call, from here: its status, and reads of one key that does not exist.",
    perCall,
    buckets,
  );
  const failures = define.counter(
    "etcd_probe_failures_total",
    "Such calls that failed or were not answered within five seconds; where its status is, nothing else is asked.",
    perCall,
  );
  const certificate = define.gauge(
    "tls_certificate_not_after_timestamp_seconds",
    "Until when a certificate is valid: the one that the member shows (server), ours towards etcd (client), of our CAs the one that ends first (ca), and that of this page (listener).",
    ["cluster", "purpose", "member"],
  );
  const term = define.gauge("etcd_raft_term", "The member's raft term; it grows with each election.", labels);
  const index = define.gauge("etcd_raft_index", "The newest raft index that the member has committed.", labels);
  const applied = define.gauge(
    "etcd_raft_applied_index",
    "The newest raft index that the member has applied; absent: it does not say (before etcd 3.4).",
    labels,
  );
  const fsync = define.gauge(
    "etcd_wal_fsync_p99_seconds",
    "99 % of the member's WAL fsyncs of the last minute took no longer, by its own metrics; absent: not known, or nothing was written.",
    labels,
  );
  const commit = define.gauge(
    "etcd_backend_commit_p99_seconds",
    "99 % of the commits of the member's database within the last minute took no longer, by its own metrics; absent: as above.",
    labels,
  );
  const roundTrip = define.gauge(
    "etcd_peer_round_trip_seconds",
    "Mean round trip from the member to the peer in the last minutes, by its own metrics; absent: not known.",
    [...labels, "peer"],
  );
  const memory = define.gauge(
    "etcd_resident_memory_bytes",
    "Memory of the member's process, by its own metrics; absent: they cannot be read.",
    labels,
  );
  const cpu = define.counter("etcd_cpu_seconds_total", "CPU time of the member's process, by its own metrics.", labels);
  const leaderChanges = define.counter(
    "etcd_leader_changes_total",
    "Changes of the leader that the member saw since it started, by its own metrics.",
    labels,
  );
  const heartbeats = define.counter(
    "etcd_heartbeat_failures_total",
    "Heartbeats that the member, as the leader, sent too late since it started: its disk or CPU is too slow. By its own metrics.",
    labels,
  );
  const gauges = [term, index, applied, fsync, commit, memory];
  const counted = [cpu, leaderChanges, heartbeats];
  /** The members of the last look at the cluster, and those that were probed since they are there. */
  let listed: ReadonlySet<string> = new Set();
  const probed = new Map<string, ReadonlySet<string>>();

  function begin(member: string): void {
    for (const method of probeMethods) {
      duration.zero({ cluster, member, method });
      failures.inc({ cluster, member, method }, 0);
    }
    probed.set(member, new Set());
  }
  function forget(member: string): void {
    const of = { cluster, member };
    for (const method of probeMethods) {
      duration.remove({ ...of, method });
      failures.remove({ ...of, method });
    }
    for (const metric of [...gauges, ...counted]) metric.remove(of);
    certificate.remove({ cluster, purpose: "server", member });
    for (const peer of probed.get(member) ?? []) roundTrip.remove({ ...of, peer });
    probed.delete(member);
  }
  function show(event: Probed): void {
    const member = labelOf(event.member);
    if (!listed.has(member)) return;
    if (!probed.has(member)) begin(member);
    const of = { cluster, member };
    for (const { method, durationMs } of event.calls) {
      if (durationMs === undefined) failures.inc({ ...of, method });
      else duration.observe({ ...of, method }, durationMs / 1000);
    }
    setOrRemove(certificate, { cluster, purpose: "server", member }, toSeconds(event.certificateNotAfterMs));
    setOrRemove(term, of, event.raftTerm);
    setOrRemove(index, of, event.raftIndex);
    setOrRemove(applied, of, event.raftAppliedIndex);
    setOrRemove(fsync, of, toSeconds(event.walFsyncP99Ms));
    setOrRemove(commit, of, toSeconds(event.backendCommitP99Ms));
    setOrRemove(memory, of, event.residentBytes);
    const totals = [toSeconds(event.cpuMs), event.leaderChanges, event.heartbeatFailures];
    counted.forEach((counter, at) => {
      counter.remove(of);
      const total = totals[at];
      // It is the member's own count, which begins anew with its process; a negative one is none.
      if (total !== undefined && total >= 0) counter.inc(of, total);
    });
    const peers = event.peers
      .slice(0, mostMembers)
      .map(({ peer, roundTripMs }) => ({ peer: labelOf(peer), roundTripMs }));
    for (const peer of probed.get(member) ?? []) roundTrip.remove({ ...of, peer });
    for (const { peer, roundTripMs } of peers) roundTrip.set({ ...of, peer }, roundTripMs / 1000);
    probed.set(member, new Set(peers.map(({ peer }) => peer)));
  }

  return (event) => {
    switch (event.name) {
      case "cluster.observed":
        listed = new Set(event.members.slice(0, mostMembers).map(({ member }) => labelOf(member)));
        for (const member of [...probed.keys()].filter((name) => !listed.has(name))) forget(member);
        break;
      case "member.probed":
        show(event);
        break;
      case "certificates.observed":
        setOrRemove(certificate, { cluster, purpose: "client", member: "" }, toSeconds(event.clientNotAfterMs));
        setOrRemove(certificate, { cluster, purpose: "ca", member: "" }, toSeconds(event.caNotAfterMs));
        break;
      case "listener.guarded":
        setOrRemove(certificate, { cluster, purpose: "listener", member: "" }, toSeconds(event.certificateNotAfterMs));
        break;
      default: // told elsewhere
    }
  };
}

function toSeconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}
