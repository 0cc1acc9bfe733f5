import type { Dashboard } from "./panel.ts";

const m = 'cluster="$cluster",member=~"$member"';
const c = 'cluster="$cluster"';
const good = [{ color: "red" }, { color: "green", from: 1 }] as const;
const bad = [{ color: "green" }, { color: "red", from: 1 }] as const;

/** The members as the daemon sees them, and, where Prometheus scrapes etcd, what they say themselves. */
export const etcd: Dashboard = {
  uid: "etcd-lifeboat-etcd",
  title: "etcd-lifeboat: etcd",
  description:
    "Members, quorum, latency of disks and reads, databases against their quota, disks, certificates; and, where Prometheus scrapes etcd, what it says itself.",
  rows: [
    {
      title: "Cluster",
      panels: [
        {
          kind: "stat",
          title: "Quorum",
          description:
            "1 when the cluster answers linearizable reads; 0: members answer on their own alone, and nothing can be written.",
          queries: [{ expr: `max(lifeboat_etcd_has_quorum{${c}})` }],
          steps: good,
          width: 6,
        },
        {
          kind: "stat",
          title: "Members that answer",
          description: "To at least one daemon.",
          queries: [{ expr: `sum(max by (member) (lifeboat_etcd_up{${c}}))` }],
          width: 6,
        },
        {
          kind: "stat",
          title: "Alarms",
          description: "NOSPACE, CORRUPT and unknown ones that are raised now.",
          queries: [{ expr: `sum(max by (member, alarm) (lifeboat_etcd_alarm_active{${c}}))` }],
          steps: bad,
          width: 6,
        },
        {
          kind: "stat",
          title: "Largest share of the quota",
          description: "Of all members. At 100 % etcd refuses writes.",
          queries: [{ expr: `max(lifeboat_etcd_db_size_bytes{${c}} / (lifeboat_etcd_quota_bytes{${c}} > 0))` }],
          unit: "percentunit",
          steps: [{ color: "green" }, { color: "yellow", from: 0.75 }, { color: "red", from: 0.9 }],
          width: 6,
        },
        {
          kind: "state-timeline",
          title: "Up",
          description: "1 while the member answers at least one daemon.",
          queries: [{ expr: `max by (member) (lifeboat_etcd_up{${m}})`, legend: "{{member}}" }],
          steps: good,
          width: 8,
        },
        {
          kind: "state-timeline",
          title: "Leader",
          description: "1 while the member says that it leads. Many changes: a slow disk or network.",
          queries: [{ expr: `max by (member) (lifeboat_etcd_is_leader{${m}})`, legend: "{{member}}" }],
          steps: [{ color: "text" }, { color: "green", from: 1 }],
          width: 8,
        },
        {
          kind: "table",
          title: "Versions",
          description: "Which etcd each member runs.",
          queries: [{ expr: `max by (member, server_version) (lifeboat_etcd_server_info{${m}})` }],
          width: 8,
        },
      ],
    },
    {
      title: "Latency",
      panels: [
        {
          kind: "timeseries",
          title: "WAL fsync of a member, 99 %",
          description:
            "Every write waits for it. etcd wants less than 10 ms, the dashed line. By the member's own metrics, as the daemon reads them.",
          queries: [{ expr: `max by (member) (lifeboat_etcd_wal_fsync_p99_seconds{${m}})`, legend: "{{member}}" }],
          unit: "s",
          steps: [{ color: "green" }, { color: "red", from: 0.01 }],
          lines: true,
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Backend commit of a member, 99 %",
          description:
            "etcd wants less than 25 ms, the dashed line. By the member's own metrics, as the daemon reads them.",
          queries: [{ expr: `max by (member) (lifeboat_etcd_backend_commit_p99_seconds{${m}})`, legend: "{{member}}" }],
          unit: "s",
          steps: [{ color: "green" }, { color: "red", from: 0.025 }],
          lines: true,
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Reads of one absent key, 90 %",
          description:
            "As the daemon's own probes take: a serializable read asks the one member, a linearizable one the leader and a majority. The alert's line is 100 ms.",
          queries: [
            {
              expr: `histogram_quantile(0.9, sum by (member, method, le) (rate(lifeboat_etcd_probe_duration_seconds_bucket{${m},method=~"range_.*"}[10m])))`,
              legend: "{{member}} {{method}}",
            },
          ],
          unit: "s",
          steps: [{ color: "green" }, { color: "red", from: 0.1 }],
          lines: true,
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Round trips between members",
          description: "The mean of some minutes, as etcd measures it. A heartbeat comes every 100 ms by default.",
          queries: [
            {
              expr: `max by (member, peer) (lifeboat_etcd_peer_round_trip_seconds{${m}})`,
              legend: "{{member}} to {{peer}}",
            },
          ],
          unit: "s",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Leaders and late heartbeats in an hour",
          description: "Each change stops writes for about a second; a heartbeat that is late comes before it.",
          queries: [
            { expr: `max(increase(lifeboat_etcd_leader_changes_total{${m}}[1h]))`, legend: "changes of the leader" },
            {
              expr: `max by (member) (increase(lifeboat_etcd_heartbeat_failures_total{${m}}[1h]))`,
              legend: "{{member}} late heartbeats",
            },
          ],
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Raft entries behind the newest",
          description:
            "What a member has applied, against the newest entry of all. Members are looked at some seconds apart, so that a few seconds' writes are no lag.",
          queries: [
            {
              expr: `max by (cluster) (lifeboat_etcd_raft_index{${c}}) - on (cluster) group_right () max by (cluster, member) (lifeboat_etcd_raft_applied_index{${m}})`,
              legend: "{{member}}",
            },
          ],
          width: 8,
        },
        {
          kind: "timeseries",
          title: "CPU of etcd",
          description: "Cores that each member takes, by its own metrics.",
          queries: [
            { expr: `max by (member) (rate(lifeboat_etcd_cpu_seconds_total{${m}}[5m]))`, legend: "{{member}}" },
          ],
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Memory of etcd",
          description: "Of each member's process, by its own metrics; the mapped database is a part of it.",
          queries: [{ expr: `max by (member) (lifeboat_etcd_resident_memory_bytes{${m}})`, legend: "{{member}}" }],
          unit: "bytes",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Probes that fail",
          description: "In ten minutes, by the kind of call; there are forty of each.",
          queries: [
            {
              expr: `sum by (member, method) (increase(lifeboat_etcd_probe_failures_total{${m}}[10m]))`,
              legend: "{{member}} {{method}}",
            },
          ],
          width: 8,
        },
      ],
    },
    {
      title: "Databases",
      panels: [
        {
          kind: "timeseries",
          title: "Database and quota",
          description: "The file, what of it is in use, and the quota. A wide gap between file and in use: defragment.",
          queries: [
            { expr: `max by (member) (lifeboat_etcd_db_size_bytes{${m}})`, legend: "{{member}} file" },
            { expr: `max by (member) (lifeboat_etcd_db_size_in_use_bytes{${m}})`, legend: "{{member}} in use" },
            { expr: `min by (member) (lifeboat_etcd_quota_bytes{${m}})`, legend: "{{member}} quota" },
          ],
          unit: "bytes",
          width: 12,
        },
        {
          kind: "stat",
          title: "Until the quota is reached",
          description:
            "By the trend of the last days (median slope), of the member that comes first. Empty: it does not grow, or too little was seen yet.",
          queries: [{ expr: `min(lifeboat_etcd_quota_full_timestamp_seconds{${m}}) - time()` }],
          unit: "s",
          steps: [{ color: "red" }, { color: "yellow", from: 86_400 }, { color: "green", from: 604_800 }],
          width: 12,
        },
        {
          kind: "stat",
          title: "Room below the quota",
          description: "Of the member with the least.",
          queries: [{ expr: `min(lifeboat_etcd_quota_headroom_bytes{${m}})` }],
          unit: "bytes",
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Revisions a second",
          description: "How much is written. Members that are far apart: one lags.",
          queries: [{ expr: `max by (member) (deriv(lifeboat_etcd_revision{${m}}[5m]))`, legend: "{{member}}" }],
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Time to hash a member",
          description: "99 % of the comparisons held up the writers of a member for less than this.",
          queries: [
            {
              expr: `histogram_quantile(0.99, sum by (le) (rate(lifeboat_proof_hashkv_duration_seconds_bucket{${c}}[1h])))`,
              legend: "p99",
            },
          ],
          unit: "s",
          width: 12,
        },
      ],
    },
    {
      title: "Disks and certificates (disks of the daemon's machine: the spool, and members that are local in hosts)",
      panels: [
        {
          kind: "timeseries",
          title: "Room on the disks",
          description: "Of the spool, and of the data and WAL directories of members on the daemon's machine.",
          queries: [
            {
              expr: `min by (instance, role, member) (lifeboat_disk_free_bytes{${c}})`,
              legend: "{{instance}} {{role}} {{member}}",
            },
          ],
          unit: "bytes",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Inodes left on the disks",
          description: "Of all that the file system has. None: no new files, whatever room there is.",
          queries: [
            {
              expr: `min by (instance, role, member) (lifeboat_disk_inodes_free{${c}} / lifeboat_disk_inodes{${c}})`,
              legend: "{{instance}} {{role}} {{member}}",
            },
          ],
          unit: "percentunit",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Waiting for disks",
          description:
            "The share of the time in which some task of the daemon's machine waited for its disks, and in which all of them did (/proc/pressure/io).",
          queries: [
            {
              expr: `max by (instance) (rate(lifeboat_disk_pressure_waiting_seconds_total{${c}}[5m]))`,
              legend: "{{instance}} some",
            },
            {
              expr: `max by (instance) (rate(lifeboat_disk_pressure_stalled_seconds_total{${c}}[5m]))`,
              legend: "{{instance}} all",
            },
          ],
          unit: "percentunit",
          width: 8,
        },
        {
          kind: "table",
          title: "Until a disk is full",
          description:
            "Seconds, by the trend of the last days (median slope). Empty: none grows, or too little was seen yet.",
          queries: [{ expr: `min by (instance, role, member) (lifeboat_disk_full_timestamp_seconds{${c}}) - time()` }],
          unit: "s",
          width: 12,
        },
        {
          kind: "table",
          title: "Certificates",
          description:
            "How long each is valid still: what the members show, the client's own, and the CA that ends first. The alert comes at two weeks.",
          queries: [
            { expr: `min by (purpose, member) (lifeboat_tls_certificate_not_after_timestamp_seconds{${c}}) - time()` },
          ],
          unit: "s",
          steps: [{ color: "red" }, { color: "yellow", from: 259_200 }, { color: "green", from: 1_209_600 }],
          width: 12,
        },
      ],
    },
    {
      title: "From etcd's own metrics (empty where Prometheus does not scrape etcd in a job that begins with etcd)",
      panels: [
        {
          kind: "timeseries",
          title: "WAL fsync, 99 %",
          description:
            "Every write waits for it. etcd wants less than 10 ms, the dashed line. All clusters that are scraped.",
          queries: [
            {
              expr: 'histogram_quantile(0.99, sum by (job, instance, le) (rate(etcd_disk_wal_fsync_duration_seconds_bucket{job=~"etcd.*"}[$__rate_interval])))',
              legend: "{{job}} {{instance}}",
            },
          ],
          unit: "s",
          steps: [{ color: "green" }, { color: "red", from: 0.01 }],
          lines: true,
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Backend commit, 99 %",
          description: "etcd wants less than 25 ms, the dashed line. All clusters that are scraped.",
          queries: [
            {
              expr: 'histogram_quantile(0.99, sum by (job, instance, le) (rate(etcd_disk_backend_commit_duration_seconds_bucket{job=~"etcd.*"}[$__rate_interval])))',
              legend: "{{job}} {{instance}}",
            },
          ],
          unit: "s",
          steps: [{ color: "green" }, { color: "red", from: 0.025 }],
          lines: true,
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Changes of the leader in an hour",
          description: "Each stops writes for about a second.",
          queries: [
            {
              expr: 'max by (job) (increase(etcd_server_leader_changes_seen_total{job=~"etcd.*"}[1h]))',
              legend: "{{job}}",
            },
          ],
          width: 12,
        },
      ],
    },
  ],
};
