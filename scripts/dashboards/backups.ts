import type { Dashboard } from "./panel.ts";

const c = 'cluster="$cluster"';
const good = [{ color: "red" }, { color: "green", from: 1 }] as const;
const bad = [{ color: "green" }, { color: "red", from: 1 }] as const;

/** Is it restorable, since when, and what goes wrong. */
export const backups: Dashboard = {
  uid: "etcd-lifeboat-backups",
  title: "etcd-lifeboat: backups",
  description: "Whether the cluster can be restored, how much would be lost, and how backups go.",
  rows: [
    {
      title: "Is it restorable",
      panels: [
        {
          kind: "stat",
          title: "Age of the newest backup",
          description:
            "What was written since then is lost when etcd is lost now. The newest of all daemons and schedules.",
          queries: [{ expr: `time() - max(lifeboat_backup_last_success_timestamp_seconds{${c}})` }],
          unit: "s",
          steps: [{ color: "green" }, { color: "yellow", from: 7800 }, { color: "red", from: 90_000 }],
          width: 6,
        },
        {
          kind: "stat",
          title: "Age of the newest proven backup",
          description: "Proven: a majority of the members said that they hold exactly the data of the file.",
          queries: [{ expr: `time() - max(lifeboat_proof_last_proven_timestamp_seconds{${c}})` }],
          unit: "s",
          steps: [{ color: "green" }, { color: "yellow", from: 18_000 }, { color: "red", from: 180_000 }],
          width: 6,
        },
        {
          kind: "stat",
          title: "Next backup",
          description: "How long until the next slot of any schedule; below 0 it is late.",
          queries: [{ expr: `min(lifeboat_backup_next_run_timestamp_seconds{${c}}) - time()` }],
          unit: "s",
          steps: [{ color: "yellow" }, { color: "green", from: 0 }],
          width: 3,
        },
        {
          kind: "stat",
          title: "Oldest backup",
          description: "How far back one can go: the age of the oldest backup that retention keeps.",
          queries: [{ expr: `time() - min(lifeboat_store_oldest_backup_timestamp_seconds{${c}})` }],
          unit: "s",
          width: 3,
        },
        {
          kind: "stat",
          title: "Backups in the store",
          description: "What the repository held when a daemon last read it, with what that one did since.",
          queries: [{ expr: `max(lifeboat_store_backups{${c}})` }],
          width: 3,
        },
        {
          kind: "stat",
          title: "Paused",
          description: "1 while somebody has paused the repository: nobody takes backups, and nothing is overdue.",
          queries: [{ expr: `max(lifeboat_repository_paused{${c}})` }],
          steps: bad,
          width: 3,
        },
      ],
    },
    {
      title: "Runs",
      panels: [
        {
          kind: "timeseries",
          title: "Age of the newest backup by schedule",
          description: "A saw-tooth: it falls at each backup. A tooth of double height is a backup that is missing.",
          queries: [
            {
              expr: `time() - max by (schedule) (lifeboat_backup_last_success_timestamp_seconds{${c}})`,
              legend: "{{schedule}}",
            },
          ],
          unit: "s",
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Backups that ended",
          description: "By result; superseded means that another daemon committed the slot first, which is no failure.",
          queries: [
            {
              expr: `sum by (result) (increase(lifeboat_backups_total{${c}}[$__rate_interval]))`,
              legend: "{{result}}",
            },
          ],
          stacked: true,
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Failures by phase",
          description:
            "In which phase runs fail: choose, drain and scan are etcd, upload, readback and commit the store.",
          queries: [
            {
              expr: `sum by (phase) (increase(lifeboat_backup_failures_total{${c}}[$__rate_interval]))`,
              legend: "{{phase}}",
            },
          ],
          stacked: true,
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Duration of the phases",
          description: "The mean of each phase that was completed.",
          queries: [
            {
              expr: `sum by (phase) (rate(lifeboat_backup_phase_duration_seconds_sum{${c}}[1h])) / (sum by (phase) (rate(lifeboat_backup_phase_duration_seconds_count{${c}}[1h])) > 0)`,
              legend: "{{phase}}",
            },
          ],
          unit: "s",
          stacked: true,
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Size of a backup",
          description: "Plain: the database as etcd sent it. Stored: compressed and encrypted.",
          queries: [
            {
              expr: `max by (schedule, kind) (lifeboat_backup_last_size_bytes{${c}})`,
              legend: "{{schedule}} {{kind}}",
            },
          ],
          unit: "bytes",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Keys in a backup",
          description: "Live keys of the last backup. A sudden fall is a deletion, or another cluster.",
          queries: [{ expr: `max by (schedule) (lifeboat_backup_last_keys{${c}})`, legend: "{{schedule}}" }],
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Bytes received and uploaded",
          description: "From etcd, and to the store.",
          queries: [
            { expr: `sum(rate(lifeboat_snapshot_received_bytes_total{${c}}[$__rate_interval]))`, legend: "received" },
            { expr: `sum(rate(lifeboat_store_uploaded_bytes_total{${c}}[$__rate_interval]))`, legend: "uploaded" },
          ],
          unit: "Bps",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Drains that were slowed",
          description: "How often within an hour a drain was slowed since writers of etcd felt it, by what told so.",
          queries: [{ expr: `sum by (sense) (increase(lifeboat_drain_slowed_total{${c}}[1h]))`, legend: "{{sense}}" }],
          stacked: true,
          width: 24,
        },
      ],
    },
    {
      title: "Proofs",
      panels: [
        {
          kind: "timeseries",
          title: "Verdicts",
          description: "Comparisons with the members that ended in an hour: proven, or only sealed.",
          queries: [{ expr: `sum by (verdict) (increase(lifeboat_proofs_total{${c}}[1h]))`, legend: "{{verdict}}" }],
          stacked: true,
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Why only sealed",
          description: "The reasons, within an hour; docs/operating/proof.md has the remedy for each.",
          queries: [{ expr: `sum by (why) (increase(lifeboat_proof_sealed_total{${c}}[1h]))`, legend: "{{why}}" }],
          stacked: true,
          width: 8,
        },
        {
          kind: "state-timeline",
          title: "Members that differ",
          description: "1: the member was found twice to hold other data than the majority.",
          queries: [
            {
              expr: `max by (member) (lifeboat_proof_member_diverged{${c},member=~"$member"})`,
              legend: "{{member}}",
            },
          ],
          steps: bad,
          width: 8,
        },
      ],
    },
    {
      title: "Copies",
      panels: [
        {
          kind: "timeseries",
          title: "Age of the newest backup in each copy",
          description: "By store and schedule. Where it leaves the saw-tooth of the first store, the copy is behind.",
          queries: [
            {
              expr: `time() - max by (store, schedule) (lifeboat_copy_last_success_timestamp_seconds{${c}})`,
              legend: "{{store}} {{schedule}}",
            },
          ],
          unit: "s",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Backups that a copy lacks",
          description: "Of the first store, at the last look of the daemon that knows best.",
          queries: [{ expr: `min by (store) (lifeboat_copy_missing_backups{${c}})`, legend: "{{store}}" }],
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Copies that failed",
          description: "Rounds of copying, and single backups, that failed within an hour; the log has the reason.",
          queries: [{ expr: `sum by (store) (increase(lifeboat_copy_failures_total{${c}}[1h]))`, legend: "{{store}}" }],
          width: 8,
        },
      ],
    },
    {
      title: "Store, retention, daemon",
      panels: [
        {
          kind: "state-timeline",
          title: "Store",
          description: "1 when the store answered the last look, by daemon.",
          queries: [{ expr: `max by (instance) (lifeboat_store_up{${c}})`, legend: "{{instance}}" }],
          steps: good,
          width: 8,
        },
        {
          kind: "timeseries",
          title: "What retention keeps",
          description: "Stored bytes by what retention last decided.",
          queries: [{ expr: `max by (state) (lifeboat_retention_bytes{${c}})`, legend: "{{state}}" }],
          unit: "bytes",
          stacked: true,
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Room in the spool",
          description: "Free bytes on the spool's disk, by daemon. A backup takes as much as the database has.",
          queries: [
            { expr: `min by (instance) (lifeboat_disk_free_bytes{${c},role="spool"})`, legend: "{{instance}}" },
          ],
          unit: "bytes",
          width: 8,
        },
        {
          kind: "timeseries",
          title: "Requests to the stores, 90 %",
          description:
            "How long the first store (empty) and copies take to answer, by operation, where there were any within ten minutes. Uploads and downloads grow with the size of a backup.",
          queries: [
            {
              expr: `histogram_quantile(0.9, sum by (store, operation, le) (rate(lifeboat_store_request_duration_seconds_bucket{${c}}[10m])))`,
              legend: "{{store}} {{operation}}",
            },
          ],
          unit: "s",
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Requests that stores did not answer",
          description: "Within an hour, by store and operation.",
          queries: [
            {
              expr: `sum by (store, operation) (increase(lifeboat_store_request_failures_total{${c}}[1h]))`,
              legend: "{{store}} {{operation}}",
            },
          ],
          width: 12,
        },
        {
          kind: "state-timeline",
          title: "Configuration",
          description: "0: the daemon refused the file at its last reload, and goes on with the one before.",
          queries: [
            { expr: `min by (instance) (lifeboat_config_last_reload_successful{${c}})`, legend: "{{instance}}" },
          ],
          steps: good,
          width: 12,
        },
        {
          kind: "timeseries",
          title: "Pings",
          description: "To the dead man's switch, by target and how they ended, within an hour.",
          queries: [
            {
              expr: `sum by (target, result) (increase(lifeboat_pings_total{${c}}[1h]))`,
              legend: "{{target}} {{result}}",
            },
          ],
          width: 12,
        },
      ],
    },
  ],
};
