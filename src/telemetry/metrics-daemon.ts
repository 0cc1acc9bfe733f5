import { pingTargets, type Emit } from "../events.ts";
import { setOrRemove, type MetricScope } from "./metrics-define.ts";

/** The daemon itself: the configuration that it works by, and what keeps it from working. */
export function openDaemonMetrics({ define, cluster, clock }: MetricScope): Emit {
  const reloaded = define.gauge(
    "config_last_reload_successful",
    "1 when the configuration was valid the last time it was read, 0 when it was refused and the one before stays in force.",
    ["cluster"],
  );
  const reloadedAt = define.gauge(
    "config_last_reload_success_timestamp_seconds",
    "When a configuration was last read and accepted: at the start or by a reload.",
    ["cluster"],
  );
  const paused = define.gauge(
    "repository_paused",
    "1 while the repository is paused and nobody takes backups; absent: not looked yet.",
    ["cluster"],
  );
  const pausedSince = define.gauge(
    "repository_paused_timestamp_seconds",
    "Since when the repository is paused; absent: it is not.",
    ["cluster"],
  );
  const lockHeld = define.gauge(
    "lock_held",
    "1 while an operation holds the lock of the cluster; absent: not looked yet.",
    ["cluster"],
  );
  const lockSilent = define.gauge(
    "lock_holder_silent",
    "1 when the holder of the lock seems to be dead; absent: nobody holds it.",
    ["cluster"],
  );
  const lockDamaged = define.gauge(
    "lock_damaged_entries",
    "Entries at the end of the lock's log that cannot be read; absent: not looked yet.",
    ["cluster"],
  );
  const pings = define.counter("pings_total", "Pings to the dead man's switch, by how they ended.", [
    "cluster",
    "target",
    "result",
  ]);
  for (const target of pingTargets) {
    for (const result of ["success", "failure"]) pings.inc({ cluster, target, result }, 0);
  }

  function accepted(): void {
    reloaded.set({ cluster }, 1);
    reloadedAt.set({ cluster }, clock.now() / 1000);
  }
  accepted();

  return (event) => {
    switch (event.name) {
      case "config.accepted":
        accepted();
        break;
      case "lock.observed":
        paused.set({ cluster }, event.paused ? 1 : 0);
        setOrRemove(
          pausedSince,
          { cluster },
          event.pausedSinceMs === undefined ? undefined : event.pausedSinceMs / 1000,
        );
        lockHeld.set({ cluster }, event.holder === undefined ? 0 : 1);
        setOrRemove(lockSilent, { cluster }, event.holderAlive === undefined ? undefined : event.holderAlive ? 0 : 1);
        lockDamaged.set({ cluster }, event.damaged);
        break;
      case "ping.sent":
        pings.inc({ cluster, target: event.target, result: "success" });
        break;
      case "ping.failed":
        pings.inc({ cluster, target: event.target, result: "failure" });
        break;
      case "config.refused":
        reloaded.set({ cluster }, 0);
        break;
      default: // told elsewhere
    }
  };
}
