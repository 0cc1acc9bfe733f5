import { createHook } from "node:async_hooks";
import { readFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { phases } from "../../src/events.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { openMetrics } from "../../src/telemetry/metrics.ts";
import type { Metrics } from "../../src/telemetry/metrics.ts";
import { checkMetrics } from "./promtool.ts";
import { allSamples, samples, upMember } from "./samples.ts";

const startMs = Date.UTC(2026, 2, 1, 6);

function open(schedules: readonly string[] = ["hourly", "daily"]) {
  let nowMs = startMs;
  let lost = 0;
  const clock = {
    now: () => nowMs,
    elapsed: () => nowMs,
    sleep: () => Promise.reject(new Error("metrics do not sleep")),
  };
  const metrics = openMetrics({
    version: "0.1.0",
    cluster: "prod",
    schedules,
    copies: ["offsite"],
    clock,
    lostLogLines: () => lost,
  });
  return {
    metrics,
    tell: (...events: readonly LifeboatEvent[]) => {
      for (const event of events) metrics.listen(event);
    },
    wait: (ms: number) => {
      nowMs += ms;
    },
    loseLine: () => {
      lost += 1;
    },
    /** Our samples as Prometheus reads them: `name{labels}` without the prefix and the cluster, and the number. */
    read: () => read(metrics),
  };
}

async function read(metrics: Metrics): Promise<Map<string, number>> {
  const { body } = await metrics.page();
  const lines = body.split("\n").filter((line) => line.startsWith("lifeboat_"));
  return new Map(
    lines.map((line) => {
      const cut = line.lastIndexOf(" ");
      const series = line.slice("lifeboat_".length, cut);
      return [
        series
          .replace(/cluster="prod",?/, "")
          .replace("{}", "")
          .replace(",}", "}"),
        Number(line.slice(cut + 1)),
      ];
    }),
  );
}

async function expectSeries(from: () => Promise<Map<string, number>>, wanted: Record<string, number | undefined>) {
  const series = await from();
  expect(Object.fromEntries(Object.keys(wanted).map((name) => [name, series.get(name)]))).toEqual(wanted);
}

test("the page is in Prometheus' format and clean, before and after every event", async () => {
  const { metrics, tell } = open();
  expect(checkMetrics((await metrics.page()).body)).toBe("");
  tell(...allSamples);
  const { body, contentType } = await metrics.page();
  expect(contentType).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(checkMetrics(body)).toBe("");
});

test("promtool's check can fail", () => {
  expect(checkMetrics("# TYPE lifeboat_things counter\nlifeboat_things 1\n")).toContain("_total");
});

/** Node's garbage collector shows on the page only after it ran. */
const head = (body: string): string =>
  body
    .split("\n")
    .filter((line) => line.startsWith("# "))
    .join("\n");

test("names, help and types are the published ones", async () => {
  const { metrics } = open();
  await expect(`${head((await metrics.page()).body)}\n`).toMatchFileSnapshot("golden/metrics.txt");
});

test("docs/metrics.md lists exactly our metrics, with their labels and help", async () => {
  const { metrics } = open();
  const rows = (await metrics.registry.getMetricsAsJSON())
    .filter(({ name }) => name.startsWith("lifeboat_"))
    .map(({ name, type, help }) => {
      const { labelNames = [] } = metrics.registry.getSingleMetric(name) as { labelNames?: readonly string[] };
      return `| \`${name}\` | ${String(type)} | ${labelNames.join(", ")} | ${help} |`.replaceAll(/ +/g, " ");
    });
  const page = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");
  const published = page.split("\n").filter((line) => line.startsWith("| `lifeboat_"));
  expect(published.map((row) => row.replaceAll(/ +/g, " "))).toEqual(rows);
});

test("a scrape does no input or output: it opens no file, no connection and no process, and waits for nobody", async () => {
  const { metrics, tell } = open();
  tell(...allSamples);
  await metrics.page();
  const begun: string[] = [];
  const hook = createHook({ init: (_id, type) => begun.push(type) });
  hook.enable();
  await metrics.page();
  hook.disable();
  expect(begun.filter((type) => !["PROMISE", "TickObject", "Immediate", "Microtask"].includes(type))).toEqual([]);
});

test("prom-client's global registry stays empty", async () => {
  const { register } = await import("prom-client");
  open();
  expect(register.getMetricsAsArray()).toEqual([]);
});

describe("at the start", () => {
  test("counters and histograms are zero for every combination of their labels", async () => {
    const series = await open().read();
    const starts = [
      ["hourly", "schedule"],
      ["daily", "schedule"],
      ["", "demand"],
      ["", "import"],
    ] as const;
    for (const [schedule, trigger] of starts) {
      for (const result of ["success", "failure", "superseded"]) {
        expect(series.get(`backups_total{schedule="${schedule}",trigger="${trigger}",result="${result}"}`)).toBe(0);
      }
      for (const phase of phases) {
        expect(series.get(`backup_failures_total{schedule="${schedule}",phase="${phase}"}`)).toBe(0);
      }
    }
    for (const result of ["success", "failure", "superseded"]) {
      expect(series.get(`backup_duration_seconds_count{result="${result}"}`)).toBe(0);
      expect(series.get(`backup_duration_seconds_bucket{le="3600",result="${result}"}`)).toBe(0);
    }
    for (const phase of phases) expect(series.get(`backup_phase_duration_seconds_count{phase="${phase}"}`)).toBe(0);
    for (const name of [
      "backup_source_failures_total",
      "snapshot_received_bytes_total",
      "store_uploaded_bytes_total",
      "lineages_created_total",
      'proofs_total{schedule="hourly",verdict="proven"}',
      'proofs_total{schedule="",verdict="sealed"}',
      'proof_sealed_total{why="disagree"}',
      "proof_hashkv_duration_seconds_count",
      "proof_hashkv_failures_total",
      "retention_expired_total",
      "retention_freed_bytes_total",
      "retention_failures_total",
      "warnings_total",
      "log_errors_total",
      'backup_missed_slots_total{schedule="daily"}',
      'operation_in_progress{operation="backup"}',
    ]) {
      expect(series.get(name), name).toBe(0);
    }
  });

  test("a gauge that nobody knows yet is absent, not 0", async () => {
    const { metrics } = open();
    const series = await read(metrics);
    const known = [
      "build_info",
      "operation_in_progress",
      "config_last_reload_successful",
      "config_last_reload_success_timestamp_seconds",
    ];
    const gauges = (await metrics.registry.getMetricsAsJSON()).filter(
      ({ name, type }) => name.startsWith("lifeboat_") && String(type) === "gauge",
    );
    expect(gauges.length).toBeGreaterThan(20);
    const shown = gauges
      .map(({ name }) => name.slice("lifeboat_".length))
      .filter((name) => {
        return [...series.keys()].some((key) => key === name || key.startsWith(`${name}{`));
      });
    expect(shown).toEqual(known);
  });

  test("says what runs", async () => {
    await expectSeries(open().read, { [`build_info{version="0.1.0",node_version="${process.version}"}`]: 1 });
  });

  test("freshness comes from the repository, and a schedule that never succeeded has none", async () => {
    const { tell, read: series } = open();
    tell(samples["schedule.read"], {
      name: "schedule.read",
      lastProvenMs: undefined,
      schedule: "daily",
      lastSuccessMs: undefined,
      lastSlotMs: undefined,
      backups: 0,
    });
    await expectSeries(series, {
      'backup_last_success_timestamp_seconds{schedule="hourly"}': Date.UTC(2026, 2, 1, 5, 0, 9) / 1000,
      'backup_last_success_timestamp_seconds{schedule="daily"}': undefined,
      'schedule_backups{schedule="hourly"}': 24,
      'schedule_backups{schedule="daily"}': 0,
      'backup_last_attempt_timestamp_seconds{schedule="hourly"}': undefined,
      'backup_last_status{schedule="hourly"}': undefined,
    });
  });
});

describe("a backup", () => {
  const { run: _, ...started } = samples["backup.started"];

  test("is counted from its start to its commit, each number right", async () => {
    const { tell, wait, read: series } = open();
    tell(samples["backup.started"]);
    await expectSeries(series, {
      'operation_in_progress{operation="backup"}': 1,
      'operation_start_timestamp_seconds{operation="backup"}': startMs / 1000,
      'backup_last_attempt_timestamp_seconds{schedule="hourly"}': startMs / 1000,
    });
    wait(5700);
    const progress = samples["backup.progress"];
    tell(
      { ...progress, doneBytes: 1000 },
      { ...progress, doneBytes: 3000 },
      { ...samples["source.failed"] },
      { ...progress, doneBytes: 500 }, // another member, from the start
      { ...samples["backup.phase"], bytes: 4000, durationMs: 2600 },
      { ...progress, phase: "upload", doneBytes: 700 },
      { ...samples["backup.phase"], phase: "upload", bytes: 900, durationMs: 1500 },
      { ...samples["backup.phase"], phase: "commit", bytes: undefined, durationMs: 20 },
      samples["backup.committed"],
    );
    await expectSeries(series, {
      'operation_in_progress{operation="backup"}': 0,
      'operation_start_timestamp_seconds{operation="backup"}': undefined,
      'backups_total{schedule="hourly",trigger="schedule",result="success"}': 1,
      'backups_total{schedule="hourly",trigger="schedule",result="failure"}': 0,
      'backup_last_success_timestamp_seconds{schedule="hourly"}': Date.UTC(2026, 2, 1, 6, 0, 7) / 1000,
      'backup_last_success_timestamp_seconds{schedule="daily"}': undefined,
      'backup_last_status{schedule="hourly"}': 1,
      'backup_last_size_bytes{schedule="hourly",kind="plain"}': 1_080_000_000,
      'backup_last_size_bytes{schedule="hourly",kind="stored"}': 412_000_000,
      'backup_last_revision{schedule="hourly"}': 9_007_199_254_740_992,
      'backup_last_keys{schedule="hourly"}': 75_000,
      'backup_last_extras_missing{schedule="hourly"}': 0,
      backup_source_failures_total: 1,
      snapshot_received_bytes_total: 3000 + 4000,
      store_uploaded_bytes_total: 900,
      'backup_duration_seconds_sum{result="success"}': 5.7,
      'backup_duration_seconds_bucket{le="5",result="success"}': 0,
      'backup_duration_seconds_bucket{le="10",result="success"}': 1,
      'backup_phase_duration_seconds_sum{phase="drain"}': 2.6,
      'backup_phase_duration_seconds_count{phase="upload"}': 1,
      'backup_phase_duration_seconds_count{phase="commit"}': 1,
      'backup_phase_duration_seconds_count{phase="readback"}': 0,
    });
  });

  test("that fails counts at its phase and leaves the last success where it was", async () => {
    const { tell, read: series } = open();
    tell(samples["schedule.read"], samples["backup.started"], samples["backup.failed"]);
    await expectSeries(series, {
      'backups_total{schedule="hourly",trigger="schedule",result="failure"}': 1,
      'backup_failures_total{schedule="hourly",phase="upload"}': 1,
      'backup_failures_total{schedule="hourly",phase="drain"}': 0,
      'backup_last_status{schedule="hourly"}': 0,
      'backup_last_success_timestamp_seconds{schedule="hourly"}': Date.UTC(2026, 2, 1, 5, 0, 9) / 1000,
      'backup_duration_seconds_sum{result="failure"}': 31,
      'operation_in_progress{operation="backup"}': 0,
    });
  });

  test("that another daemon committed first is no failure", async () => {
    const { tell, wait, read: series } = open();
    tell(samples["backup.started"]);
    wait(4000);
    tell(samples["backup.superseded"]);
    await expectSeries(series, {
      'backups_total{schedule="hourly",trigger="schedule",result="superseded"}': 1,
      'backups_total{schedule="hourly",trigger="schedule",result="failure"}': 0,
      'backup_last_status{schedule="hourly"}': 1,
      'backup_duration_seconds_sum{result="superseded"}': 4,
      backups_repeated_total: 1,
    });
  });

  test("that another daemon had claimed is counted by why it was taken over", async () => {
    const { tell, read: series } = open();
    tell(samples["claim.taken"]);
    tell({ ...samples["backup.superseded"], repeated: false });
    await expectSeries(series, {
      'claims_taken_over_total{why="stale"}': 1,
      'claims_taken_over_total{why="unreadable"}': 0,
      backups_repeated_total: 0,
    });
  });

  test("on demand has the empty schedule, an import says nothing about freshness", async () => {
    const { tell, read: series } = open();
    const none = { schedule: undefined, slotMs: undefined };
    tell({ ...started, ...none, run: "i", trigger: "import" });
    tell({ ...samples["backup.committed"], ...none, run: "i", trigger: "import" });
    await expectSeries(series, {
      'backups_total{schedule="",trigger="import",result="success"}': 1,
      'backup_last_success_timestamp_seconds{schedule=""}': undefined,
      'backup_last_attempt_timestamp_seconds{schedule=""}': undefined,
      'backup_last_status{schedule=""}': undefined,
    });
    tell({ ...started, ...none, run: "d", trigger: "demand" });
    tell({ ...samples["backup.committed"], ...none, run: "d", trigger: "demand" });
    await expectSeries(series, {
      'backups_total{schedule="",trigger="demand",result="success"}': 1,
      'backup_last_success_timestamp_seconds{schedule=""}': Date.UTC(2026, 2, 1, 6, 0, 7) / 1000,
      'backup_last_success_timestamp_seconds{schedule="hourly"}': undefined,
    });
  });
});

describe("the cluster", () => {
  const follower = {
    ...upMember,
    member: "etcd2",
    leader: false,
    learner: true,
    quotaBytes: undefined,
    dbInUseBytes: undefined,
  };

  test("shows each member, and what a member does not say is absent", async () => {
    const { tell, read: series } = open();
    const members = [
      { ...upMember, alarms: ["NOSPACE", "SOMETHING_NEW"] },
      follower,
      { member: "etcd3", up: false, code: "etcd-unreachable", message: "refused" } as const,
    ];
    tell({ name: "cluster.observed", members, quorum: true });
    await expectSeries(series, {
      cluster_observed: 1,
      etcd_has_quorum: 1,
      'etcd_up{member="etcd1"}': 1,
      'etcd_up{member="etcd3"}': 0,
      'etcd_is_leader{member="etcd1"}': 1,
      'etcd_is_leader{member="etcd2"}': 0,
      'etcd_is_leader{member="etcd3"}': undefined,
      'etcd_is_learner{member="etcd2"}': 1,
      'etcd_revision{member="etcd1"}': 9_007_199_254_740_992,
      'etcd_db_size_bytes{member="etcd1"}': 1_080_000_000,
      'etcd_db_size_in_use_bytes{member="etcd1"}': 700_000_000,
      'etcd_db_size_in_use_bytes{member="etcd2"}': undefined,
      'etcd_quota_bytes{member="etcd1"}': 2_147_483_648,
      'etcd_quota_bytes{member="etcd2"}': undefined,
      'etcd_alarm_active{member="etcd1",alarm="NOSPACE"}': 1,
      'etcd_alarm_active{member="etcd1",alarm="CORRUPT"}': 0,
      'etcd_alarm_active{member="etcd1",alarm="UNKNOWN"}': 1,
      'etcd_alarm_active{member="etcd2",alarm="NOSPACE"}': 0,
      'etcd_server_info{member="etcd1",server_version="3.6.16"}': 1,
    });
  });

  test("a member that is gone, upgraded or silent loses the series that no longer hold", async () => {
    const { tell, read: series } = open();
    tell({ name: "cluster.observed", members: [upMember, follower], quorum: true });
    tell({ name: "cluster.observed", members: [{ ...upMember, version: "3.7.3" }], quorum: true });
    expect([...(await series()).keys()].filter((key) => key.includes("etcd2"))).toEqual([]);
    await expectSeries(series, {
      'etcd_server_info{member="etcd1",server_version="3.6.16"}': undefined,
      'etcd_server_info{member="etcd1",server_version="3.7.3"}': 1,
    });
    tell({ name: "cluster.unobserved", code: "etcd-unreachable", message: "nobody answered" });
    expect([...(await series()).keys()].filter((key) => key.includes("etcd1"))).toEqual(['etcd_up{member="etcd1"}']);
    await expectSeries(series, { 'etcd_up{member="etcd1"}': 0, cluster_observed: 0, etcd_has_quorum: undefined });
  });

  test("a member's hostile name stays inside its label", async () => {
    const { metrics, tell } = open();
    tell({ name: "cluster.observed", members: [{ ...upMember, member: 'a"} 1\nfake_metric 7\\' }], quorum: true });
    const { body } = await metrics.page();
    expect(body).not.toMatch(/^fake_metric/m);
    expect(checkMetrics(body)).toBe("");
  });
});

describe("proofs", () => {
  test("count by verdict and reason, and say when the newest proven backup was committed", async () => {
    const { tell, read } = open();
    const { committedMs } = samples["backup.proven"];
    tell(samples["schedule.read"]);
    expect((await read()).get('proof_last_proven_timestamp_seconds{schedule="hourly"}')).toBe(
      Date.UTC(2026, 2, 1, 4, 0, 9) / 1000,
    );
    tell(
      samples["backup.sealed"],
      samples["backup.proven"],
      // An older one that is proven later.
      { ...samples["backup.proven"], committedMs: committedMs - 3_600_000 },
      { ...samples["backup.proven"], schedule: undefined, committedMs: committedMs + 1000 },
      { ...samples["member.hashed"], durationMs: 240 },
      samples["member.unhashed"],
    );
    const series = await read();
    expect(series.get('proofs_total{schedule="hourly",verdict="sealed"}')).toBe(1);
    expect(series.get('proofs_total{schedule="hourly",verdict="proven"}')).toBe(2);
    expect(series.get('proofs_total{schedule="",verdict="proven"}')).toBe(1);
    expect(series.get('proof_sealed_total{why="too-few"}')).toBe(1);
    expect(series.get('proof_last_proven_timestamp_seconds{schedule="hourly"}')).toBe(committedMs / 1000);
    expect(series.get('proof_hashkv_duration_seconds_bucket{le="0.25"}')).toBe(1);
    expect(series.get('proof_hashkv_duration_seconds_bucket{le="0.1"}')).toBe(0);
    expect(series.get("proof_hashkv_failures_total")).toBe(1);
  });

  test("name a member that differs until it is found equal, or has left", async () => {
    const { tell, read } = open();
    const differs = async (member: string): Promise<number | undefined> =>
      (await read()).get(`proof_member_diverged{member="${member}"}`);
    const { agreeing, ...proven } = samples["backup.proven"];
    tell({ ...proven, agreeing });
    expect([await differs("etcd1"), await differs("etcd2"), await differs("etcd3")]).toEqual([0, 0, undefined]);
    tell(samples["member.diverged"], { ...proven, agreeing, diverged: ["etcd3"] });
    expect([await differs("etcd2"), await differs("etcd3")]).toEqual([0, 1]);
    expect((await read()).get("proof_members_disagree")).toBe(1);
    tell({ ...proven, agreeing: ["etcd3", "etcd1"] });
    expect(await differs("etcd3")).toBe(0);
    expect((await read()).get("proof_members_disagree")).toBe(0);
    tell({ ...samples["backup.sealed"], why: "disagree" });
    expect((await read()).get("proof_members_disagree")).toBe(1);
    tell(samples["member.diverged"], { ...samples["cluster.observed"], members: [upMember] });
    expect([await differs("etcd1"), await differs("etcd3")]).toEqual([0, undefined]);
  });
});

test("schedule, store, disk, lineages, warnings and lost log lines have their numbers", async () => {
  const { tell, loseLine, read: series } = open();
  tell(
    samples["schedule.planned"],
    samples["schedule.missed"],
    samples["store.observed"],
    samples["disk.observed"],
    samples["lineage.created"],
    samples.warning,
  );
  loseLine();
  await expectSeries(series, {
    'backup_schedule_interval_seconds{schedule="hourly"}': 3600,
    'backup_next_run_timestamp_seconds{schedule="hourly"}': Date.UTC(2026, 2, 1, 6) / 1000,
    'backup_missed_slots_total{schedule="hourly"}': 3,
    store_up: 1,
    store_backups: 24,
    'disk_size_bytes{role="data",member="etcd1"}': 4e9,
    'disk_free_bytes{role="data",member="etcd1"}': 2e9,
    'disk_inodes_free{role="data",member="etcd1"}': 1000,
    lineages_created_total: 1,
    warnings_total: 1,
    log_errors_total: 1,
  });
  tell({ name: "store.observed", up: false, backups: undefined, oldestMs: undefined, message: "no connection" });
  await expectSeries(series, { store_up: 0, store_backups: undefined });
  await expectSeries(series, { log_errors_total: 1 });
});

test("the number of backups and the oldest one are right between two readings of the repository", async () => {
  const { tell, read: series } = open();
  tell(samples["backup.committed"]);
  await expectSeries(series, { store_backups: undefined, store_oldest_backup_timestamp_seconds: undefined });
  tell(samples["store.observed"], samples["backup.committed"], samples["backup.committed"], samples["backup.expired"]);
  await expectSeries(series, {
    store_backups: 25,
    store_oldest_backup_timestamp_seconds: Date.UTC(2026, 1, 1) / 1000,
  });
  tell(samples["retention.surveyed"]);
  await expectSeries(series, { store_oldest_backup_timestamp_seconds: Date.UTC(2026, 1, 2) / 1000 });
  tell({ ...samples["store.observed"], backups: 0, oldestMs: undefined });
  await expectSeries(series, { store_backups: 0, store_oldest_backup_timestamp_seconds: undefined });
});

test("a due backup that may not begin is counted by why, requests to stores by whether they were answered", async () => {
  const { tell, read: series } = open();
  const request = samples["store.requested"];
  tell(samples["schedule.held"], samples["schedule.held"], samples["uploads.swept"]);
  tell(request, { ...request, store: undefined, durationMs: 40_000 }, { ...request, ok: false });
  await expectSeries(series, {
    'backups_held_total{schedule="hourly",why="paused"}': 2,
    'backups_held_total{schedule="hourly",why="locked"}': 0,
    'backups_held_total{schedule="daily",why="paused"}': 0,
    store_uploads_swept_total: 2,
    'store_request_duration_seconds_bucket{le="0.01",store="offsite",operation="read"}': 0,
    'store_request_duration_seconds_bucket{le="0.025",store="offsite",operation="read"}': 1,
    'store_request_duration_seconds_sum{store="",operation="read"}': 40,
    'store_request_duration_seconds_count{store="",operation="upload"}': 0,
    'store_request_failures_total{store="offsite",operation="read"}': 1,
    'store_request_failures_total{store="",operation="read"}': 0,
  });
  tell({ ...samples["config.applied"], copies: ["offsite", "cloud"] });
  await expectSeries(series, {
    'store_request_duration_seconds_count{store="offsite",operation="read"}': 1,
    'store_request_duration_seconds_count{store="cloud",operation="read"}': 0,
  });
});

test("retention shows what it keeps and removed, and whether it works", async () => {
  const { tell, read: series } = open();
  for (const name of ["retention.surveyed", "backup.expired", "retention.applied"] as const) tell(samples[name]);
  await expectSeries(series, {
    'retention_backups{state="kept"}': 40,
    'retention_backups{state="going"}': 2,
    'retention_backups{state="pinned"}': 1,
    'retention_backups{state="foreign"}': 1,
    'retention_backups{state="refused"}': 0,
    'retention_bytes{state="kept"}': 4e9,
    'retention_bytes{state="going"}': 2e8,
    'retention_bytes{state="orphaned"}': 1e8,
    retention_expired_total: 1,
    retention_freed_bytes_total: 1e8,
    retention_failures_total: 0,
    retention_last_status: 1,
    retention_locked_objects: 1,
  });
  tell(samples["retention.failed"]);
  await expectSeries(series, { retention_failures_total: 1, retention_last_status: 0 });
});

test("a reload is shown as refused until one is accepted, and a schedule that is gone takes its gauges with it", async () => {
  const { tell, wait, read: series } = open();
  const later = { ...samples["schedule.planned"], schedule: "daily" };
  tell(
    samples["schedule.planned"],
    later,
    { ...samples["schedule.read"], schedule: "daily" },
    samples["schedule.missed"],
  );
  wait(60_000);
  tell(samples["config.reloading"], samples["config.refused"]);
  await expectSeries(series, {
    config_last_reload_successful: 0,
    config_last_reload_success_timestamp_seconds: startMs / 1000,
  });
  tell(samples["config.accepted"], { ...samples["config.applied"], schedules: ["hourly", "weekly"] });
  tell({ ...samples["schedule.planned"], schedule: "weekly" });
  await expectSeries(series, {
    config_last_reload_successful: 1,
    config_last_reload_success_timestamp_seconds: startMs / 1000 + 60,
    'backup_next_run_timestamp_seconds{schedule="daily"}': undefined,
    'backup_schedule_interval_seconds{schedule="daily"}': undefined,
    'backup_last_success_timestamp_seconds{schedule="daily"}': undefined,
    'backup_missed_slots_total{schedule="hourly"}': 3,
    'backup_missed_slots_total{schedule="weekly"}': 0,
    'backups_total{schedule="weekly",trigger="schedule",result="failure"}': 0,
    'backup_schedule_interval_seconds{schedule="weekly"}': 3600,
  });
});

test("a pause, a lock and what cannot be read of it are shown, and absent again when they are over", async () => {
  const { tell, read: series } = open();
  const observed = { ...samples["lock.observed"], holder: undefined, holderAlive: undefined };
  tell(observed);
  await expectSeries(series, {
    repository_paused: 1,
    repository_paused_timestamp_seconds: Date.UTC(2026, 2, 1, 5, 12) / 1000,
    lock_held: 0,
    lock_holder_silent: undefined,
    lock_damaged_entries: 0,
  });
  tell({
    ...observed,
    paused: false,
    pausedSinceMs: undefined,
    holder: "restore",
    holderAlive: false,
    damaged: 2,
  });
  tell(samples["ping.sent"], samples["ping.failed"], samples["ping.failed"]);
  await expectSeries(series, {
    'pings_total{target="success",result="success"}': 1,
    'pings_total{target="failure",result="failure"}': 2,
    'pings_total{target="start",result="failure"}': 0,
    repository_paused: 0,
    repository_paused_timestamp_seconds: undefined,
    lock_held: 1,
    lock_holder_silent: 1,
    lock_damaged_entries: 2,
  });
});

test("10 000 events with random names, ids and texts add no series beyond the bounded ones", async () => {
  const { metrics, tell } = open();
  const seed = Date.now() % 1_000_000;
  let state = seed;
  const random = (): string => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return `r${state}`;
  };
  /** The event with every text that is no word of a fixed list replaced. */
  const scramble = (event: LifeboatEvent): LifeboatEvent => {
    const fixed = new Set(["name", "trigger", "phase", "code", "why", "target"]);
    const entries = Object.entries(event).map(([key, value]: [string, unknown]) => {
      return [key, typeof value === "string" && !fixed.has(key) ? random() : value];
    });
    const scrambled = Object.fromEntries(entries) as LifeboatEvent;
    if (scrambled.name !== "cluster.observed") return scrambled;
    return { ...scrambled, members: [{ ...upMember, member: random(), version: random(), alarms: [random()] }] };
  };
  const everything = (): void => {
    for (const event of allSamples) tell(scramble(event));
  };
  const count = async (): Promise<number> => (await read(metrics)).size;
  for (let round = 0; round < 50; round += 1) everything();
  const before = await count();
  for (let round = 0; round < Math.ceil(10_000 / allSamples.length); round += 1) everything();
  expect(await count(), `seed ${seed}`).toBe(before);
  expect((await metrics.page()).body.length).toBeLessThan(90_000);
});

describe("a probe of a member", () => {
  const probed = samples["member.probed"];
  const seen = samples["cluster.observed"];

  test("is counted by the kind of call, and what it says of the member is shown", async () => {
    const { tell, read: series } = open();
    tell(seen, probed, probed);
    await expectSeries(series, {
      'etcd_probe_duration_seconds_count{member="etcd1",method="status"}': 2,
      'etcd_probe_duration_seconds_sum{member="etcd1",method="status"}': 0.003,
      'etcd_probe_duration_seconds_bucket{le="0.001",member="etcd1",method="range_serializable"}': 2,
      'etcd_probe_duration_seconds_count{member="etcd1",method="range_linearizable"}': 0,
      'etcd_probe_failures_total{member="etcd1",method="range_linearizable"}': 2,
      'etcd_probe_failures_total{member="etcd1",method="status"}': 0,
      'tls_certificate_not_after_timestamp_seconds{purpose="server",member="etcd1"}': Date.UTC(2027, 2, 1) / 1000,
      'etcd_raft_term{member="etcd1"}': 7,
      'etcd_wal_fsync_p99_seconds{member="etcd1"}': 0.0038,
      'etcd_backend_commit_p99_seconds{member="etcd1"}': 0.012,
      'etcd_peer_round_trip_seconds{member="etcd1",peer="etcd3"}': 0.0006,
      'etcd_resident_memory_bytes{member="etcd1"}': 80_000_000,
      'etcd_cpu_seconds_total{member="etcd1"}': 12.5,
      'etcd_leader_changes_total{member="etcd1"}': 3,
      'etcd_heartbeat_failures_total{member="etcd1"}': 1,
      'etcd_quota_headroom_bytes{member="etcd1"}': 2_147_483_648 - 1_080_000_000,
      'etcd_quota_full_timestamp_seconds{member="etcd1"}': Date.UTC(2026, 2, 20) / 1000,
    });
  });

  test("of which something is unknown leaves that absent, and counts begin anew with the member's process", async () => {
    const { tell, read: series } = open();
    const nothing = { certificateNotAfterMs: undefined, walFsyncP99Ms: undefined, residentBytes: undefined, peers: [] };
    tell(seen, probed, { ...probed, ...nothing, leaderChanges: 1, cpuMs: undefined });
    await expectSeries(series, {
      'etcd_leader_changes_total{member="etcd1"}': 1,
      'etcd_cpu_seconds_total{member="etcd1"}': undefined,
      'etcd_wal_fsync_p99_seconds{member="etcd1"}': undefined,
      'etcd_resident_memory_bytes{member="etcd1"}': undefined,
      'etcd_peer_round_trip_seconds{member="etcd1",peer="etcd3"}': undefined,
      'tls_certificate_not_after_timestamp_seconds{purpose="server",member="etcd1"}': undefined,
    });
  });

  test("leaves no series of a member that is gone, and one that nobody lists gets none", async () => {
    const { tell, read: series } = open();
    tell(seen, probed, { ...probed, member: "stranger" });
    expect([...(await series()).keys()].filter((name) => name.includes("stranger"))).toEqual([]);
    tell({ ...seen, members: [{ ...upMember, member: "etcd2" }] }, probed);
    expect([...(await series()).keys()].filter((name) => name.includes('"etcd1"'))).toEqual([]);
  });
});

test("certificates of ours, the disks' pressure and the store's answers have their numbers", async () => {
  const { tell, read: series } = open();
  tell(
    samples["certificates.observed"],
    samples["listener.guarded"],
    samples["pressure.observed"],
    samples["store.observed"],
    samples["store.probed"],
  );
  await expectSeries(series, {
    'tls_certificate_not_after_timestamp_seconds{purpose="client",member=""}': Date.UTC(2026, 8, 1) / 1000,
    'tls_certificate_not_after_timestamp_seconds{purpose="listener",member=""}': Date.UTC(2026, 8, 1) / 1000,
    'tls_certificate_not_after_timestamp_seconds{purpose="ca",member=""}': Date.UTC(2035, 2, 1) / 1000,
    disk_pressure_waiting_seconds_total: 960,
    disk_pressure_stalled_seconds_total: 180,
    store_up: 1,
    store_backups: 24,
    store_probe_duration_seconds_count: 1,
    store_probe_duration_seconds_sum: 0.04,
  });
  tell({ ...samples["store.probed"], up: false, message: "no connection" });
  await expectSeries(series, { store_up: 0, store_backups: 24, store_probe_duration_seconds_count: 1 });
});

test("a schedule's interval is known as soon as it is served, also while everything fails", async () => {
  const { tell, read: series } = open();
  tell(samples["schedule.opened"], { name: "schedule.opened", schedule: "daily", intervalMs: undefined });
  await expectSeries(series, {
    'backup_schedule_interval_seconds{schedule="hourly"}': 3600,
    'backup_schedule_interval_seconds{schedule="daily"}': undefined,
  });
});

test("a disk whose file system counts no inodes shows none, and a reload forgets disks that are not watched any more", async () => {
  const { tell, read: series } = open();
  tell({ ...samples["disk.observed"], inodes: 0, freeInodes: 0 });
  const of = '{role="data",member="etcd1"}';
  await expectSeries(series, {
    [`disk_inodes${of}`]: undefined,
    [`disk_inodes_free${of}`]: undefined,
    [`disk_full_timestamp_seconds${of}`]: Date.UTC(2026, 3, 1) / 1000,
  });
  tell(samples["config.applied"]);
  await expectSeries(series, { [`disk_size_bytes${of}`]: undefined });
});
