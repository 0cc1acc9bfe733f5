import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { openEtcd } from "../../src/etcd/connect.ts";
import { readServerMetrics } from "../../src/etcd/metrics.ts";

const page = `# HELP etcd_disk_wal_fsync_duration_seconds The latency distributions of fsync called by WAL.
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 3
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 10
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 12
etcd_disk_wal_fsync_duration_seconds_sum 0.125
etcd_disk_wal_fsync_duration_seconds_count 12
etcd_network_peer_round_trip_time_seconds_bucket{To="2d407e0bcad32100",le="0.0001"} 1
etcd_network_peer_round_trip_time_seconds_sum{To="2d407e0bcad32100"} 0.006
etcd_network_peer_round_trip_time_seconds_count{To="2d407e0bcad32100"} 3
etcd_network_peer_round_trip_time_seconds_sum{To="not an id"} 0.006
etcd_network_peer_round_trip_time_seconds_count{To="not an id"} 3
etcd_server_heartbeat_send_failures_total 7
etcd_server_leader_changes_seen_total 2
etcd_server_quota_backend_bytes 2.147483648e+09
process_cpu_seconds_total 12.34
process_resident_memory_bytes 5.5e+07
process_start_time_seconds 1.7e+09
`;

test("a member's page is read, as far as it says something", () => {
  expect(readServerMetrics(page)).toEqual({
    startedMs: 1.7e12,
    residentBytes: 5.5e7,
    cpuSeconds: 12.34,
    leaderChanges: 2,
    heartbeatFailures: 7,
    quotaBytes: 2 ** 31,
    walFsync: {
      count: 12,
      seconds: 0.125,
      buckets: [
        { le: 0.001, count: 3 },
        { le: 0.002, count: 10 },
        { le: Infinity, count: 12 },
      ],
    },
    backendCommit: undefined,
    peerRoundTrips: new Map([[0x2d407e0bcad32100n, { count: 3, seconds: 0.006 }]]),
  });
  expect(readServerMetrics("etcd_server_quota_backend_bytes -1\n").quotaBytes).toBe(undefined);
});

test("kubeadm's metrics listener, plain HTTP beside a client port with TLS, is asked by metricsUrl", async () => {
  const server = createServer((request, response) => {
    if (request.url === "/metrics") response.end(page);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const metricsUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await using etcd = openEtcd({ endpoints: ["https://127.0.0.1:1"] });
    await using member = etcd.connect({ name: "cp1", url: "https://127.0.0.1:1", metricsUrl });
    expect((await member.serverMetrics(AbortSignal.timeout(60_000)))?.leaderChanges).toBe(2);
    await using without = etcd.connect({ name: "cp1", url: "http://127.0.0.1:1" });
    expect(await without.serverMetrics(AbortSignal.timeout(60_000))).toBe(undefined);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});
