import type { Emit } from "../events.ts";
import type { MetricScope } from "./metrics-define.ts";

/** The daemon itself: the configuration that it works by. */
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
      case "config.refused":
        reloaded.set({ cluster }, 0);
        break;
      default: // told elsewhere
    }
  };
}
