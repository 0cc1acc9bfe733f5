import { expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { startCluster } from "./harness.ts";
import { openSite } from "./site.ts";

const patienceMs = 120_000;

test("the daemon probes each member by itself, as kubeadm runs it, and a member that is stopped holds up nobody else's probes", async () => {
  await using cluster = await startCluster({ members: 3, tls: true });
  const { tls, members } = cluster;
  const [first, , last] = members;
  if (tls === undefined || first === undefined || last === undefined) throw new Error("three members with TLS");
  await using site = await openSite({
    cluster: {
      name: "prod",
      endpoints: [...cluster.endpoints],
      tls: { ca: tls.ca, cert: tls.cert, key: tls.key },
      // A plain listener beside the client port with TLS, as kubeadm's 127.0.0.1:2381.
      members: Object.fromEntries(
        members.map(({ name, metricsUrl }) => [name, { metricsUrl: new URL(metricsUrl).origin }]),
      ),
    },
    schedules: [{ name: "yearly", cron: "0 0 0 1 1 *" }],
  });
  site.config.hosts = {
    cp1: {
      reach: "local",
      etcd: { member: first.name, service: { systemd: "etcd.service" }, dataDirectory: first.dataDirectory },
    },
  };
  await using daemon = await startDaemon(site);
  const known = (name: string, ...labels: string[]): Promise<number | undefined> =>
    daemon.untilMetric(name, labels, (value) => value !== undefined, patienceMs);
  const of = (member: string): string => `member="${member}"`;
  const count = (member: string): Promise<number | undefined> =>
    daemon.metric("lifeboat_etcd_probe_duration_seconds_count", of(member), 'method="range_linearizable"');
  const counted = (member: string, least: number): Promise<number | undefined> =>
    daemon.untilMetric(
      "lifeboat_etcd_probe_duration_seconds_count",
      [of(member), 'method="range_linearizable"'],
      (value) => (value ?? 0) >= least,
      patienceMs,
    );

  for (const { name } of members) {
    await counted(name, 1);
    expect(
      await known("lifeboat_tls_certificate_not_after_timestamp_seconds", 'purpose="server"', of(name)),
    ).toBeGreaterThan(Date.now() / 1000);
    expect(await known("lifeboat_etcd_resident_memory_bytes", of(name))).toBeGreaterThan(1e6);
    expect(await known("lifeboat_etcd_cpu_seconds_total", of(name))).toBeGreaterThan(0);
    expect(await known("lifeboat_etcd_leader_changes_total", of(name))).toBeGreaterThanOrEqual(1);
    expect(await known("lifeboat_etcd_heartbeat_failures_total", of(name))).toBeGreaterThanOrEqual(0);
    expect(await known("lifeboat_etcd_quota_headroom_bytes", of(name))).toBeGreaterThan(1e9);
  }
  for (const purpose of ["client", "ca"]) {
    const notAfter = await known("lifeboat_tls_certificate_not_after_timestamp_seconds", `purpose="${purpose}"`);
    expect(notAfter).toBeGreaterThan(Date.now() / 1000);
  }
  expect(await known("lifeboat_disk_free_bytes", 'role="data"', of(first.name))).toBeGreaterThan(0);
  expect(await known("lifeboat_disk_free_bytes", 'role="spool"')).toBeGreaterThan(0);
  expect(await known("lifeboat_store_up")).toBe(1);
  expect(await known("lifeboat_backup_schedule_interval_seconds", 'schedule="yearly"')).toBeGreaterThan(86_400);

  // What was written between two looks at a member's own histogram tells how fast its disk is.
  await cluster.fill({ keys: 200, valueBytes: 100 });
  for (const part of ["wal_fsync", "backend_commit"]) {
    expect(await known(`lifeboat_etcd_${part}_p99_seconds`, of(first.name))).toBeGreaterThan(0);
  }

  const failures = (member: string): Promise<number | undefined> =>
    daemon.metric("lifeboat_etcd_probe_failures_total", of(member), 'method="status"');
  const failedBefore = (await failures(last.name)) ?? 0;
  last.pause();
  try {
    await daemon.untilMetric(
      "lifeboat_etcd_probe_failures_total",
      [of(last.name), 'method="status"'],
      (value) => (value ?? 0) > failedBefore,
      patienceMs,
    );
    const stopped = await count(last.name);
    await counted(first.name, ((await count(first.name)) ?? 0) + 1);
    expect(await count(last.name)).toBe(stopped);
    // Bounded, and never two at once: no more failures than there were probes of somebody who is well.
    expect((await failures(last.name)) ?? 0).toBeLessThanOrEqual(failedBefore + ((await count(first.name)) ?? 0));
  } finally {
    last.resume();
  }
  await counted(last.name, ((await count(last.name)) ?? 0) + 1);
}, 600_000);
