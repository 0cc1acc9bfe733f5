import type { Emit } from "../events.ts";
import { labelOf, setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

/** The disks of this machine: of the spool, and of the members that run here. */
export function openDiskMetrics({ define, cluster }: MetricScope): Emit {
  const labels = ["cluster", "role", "member"] as const;
  const size = define.gauge(
    "disk_size_bytes",
    "Size of the file system of that role: spool, or data and wal of a member that runs on this machine.",
    labels,
  );
  const free = define.gauge("disk_free_bytes", "Room on it that this process may use.", labels);
  const inodes = define.gauge("disk_inodes", "Inodes on it; absent: the file system does not count them.", labels);
  const inodesFree = define.gauge(
    "disk_inodes_free",
    "Free inodes on it; absent: the file system does not count them.",
    labels,
  );
  const full = define.gauge(
    "disk_full_timestamp_seconds",
    "When it will be full if it goes on as before (median slope of up to eleven days); absent: not known, not growing, or too far ahead to say.",
    labels,
  );
  const waiting = define.counter(
    "disk_pressure_waiting_seconds_total",
    "How long, since this machine started, at least one task waited for its disks (/proc/pressure/io); absent: the kernel does not say.",
    ["cluster"],
  );
  const stalled = define.counter(
    "disk_pressure_stalled_seconds_total",
    "How long all tasks did, and nothing went on; absent: as above.",
    ["cluster"],
  );
  return (event) => {
    switch (event.name) {
      case "config.applied":
        // Other directories may be watched from now on.
        for (const gauge of [size, free, inodes, inodesFree, full]) gauge.reset();
        break;
      case "disk.observed": {
        const of = { cluster, role: event.role, member: labelOf(event.member ?? "") };
        const counts = event.inodes > 0;
        size.set(of, event.sizeBytes);
        free.set(of, event.freeBytes);
        setOrRemove(inodes, of, counts ? event.inodes : undefined);
        setOrRemove(inodesFree, of, counts ? event.freeInodes : undefined);
        setOrRemove(full, of, event.fullMs === undefined ? undefined : event.fullMs / 1000);
        break;
      }
      case "pressure.observed":
        for (const [counter, ms] of [[waiting, event.waitingMs] as const, [stalled, event.stalledMs] as const]) {
          counter.reset();
          counter.inc({ cluster }, ms / 1000);
        }
        break;
      default: // told elsewhere
    }
  };
}
