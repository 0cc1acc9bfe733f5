import type { Dashboard } from "./panel.ts";

const m = 'cluster="$cluster",member=~"$member"';
const c = 'cluster="$cluster"';
const good = [{ color: "red" }, { color: "green", from: 1 }] as const;
const bad = [{ color: "green" }, { color: "red", from: 1 }] as const;

/** The members as the daemon sees them, and, where Prometheus scrapes etcd, how fast its disks are. */
export const etcd: Dashboard = {
  uid: "etcd-lifeboat-etcd",
  title: "etcd-lifeboat: etcd",
  description: "Members, quorum, databases against their quota, and the latency of etcd's disks.",
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
