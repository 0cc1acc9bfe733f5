import { Counter, Registry, collectDefaultMetrics } from "prom-client";

import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { openBackupMetrics } from "./metrics-backup.ts";
import { openClusterMetrics } from "./metrics-cluster.ts";
import { openCopyMetrics } from "./metrics-copy.ts";
import { openDaemonMetrics } from "./metrics-daemon.ts";
import { openDiskMetrics } from "./metrics-disk.ts";
import { defineMetrics } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";
import { openProbeMetrics } from "./metrics-probe.ts";
import { openProofMetrics } from "./metrics-proof.ts";
import { openRepositoryMetrics } from "./metrics-repository.ts";
import { openRetentionMetrics } from "./metrics-retention.ts";
import { openStoreMetrics } from "./metrics-store.ts";

export interface MetricsOptions {
  readonly version: string;
  readonly cluster: string;
  /** The configured schedules; a name that is not among them is counted under schedule="other". */
  readonly schedules: readonly string[];
  /** Names of the configured copies. */
  readonly copies: readonly string[];
  readonly clock?: Clock;
  /** Log lines lost since the start, read when the page is. */
  readonly lostLogLines?: () => number;
}

export interface MetricsPage {
  readonly contentType: string;
  readonly body: string;
}

export interface Metrics {
  readonly listen: Emit;
  /** The page in Prometheus' text format. */
  readonly page: () => Promise<MetricsPage>;
  readonly registry: Registry;
}

/** prom-client's own gauges called _total break the naming rules (`promtool check metrics`); what they add up is on the page anyway. */
const misnamed = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

/**
 * Turns events into metrics. Counters and histograms start at zero for every combination of their labels; a gauge whose value is not
 * known has no series. Labels are bounded: names from the configuration, members of the cluster, words of a fixed list.
 */
export function openMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const name of misnamed) registry.removeSingleMetric(name);

  const scope: MetricScope = {
    define: defineMetrics(registry),
    cluster: options.cluster,
    schedules: options.schedules,
    copies: options.copies,
    clock: options.clock ?? systemClock,
  };
  scope.define
    .gauge("build_info", "Always 1; the labels say what runs.", ["version", "node_version"])
    .set({ version: options.version, node_version: process.version }, 1);
  openLogMetric(registry, options.lostLogLines ?? (() => 0));
  const listeners = [
    openBackupMetrics(scope),
    openProofMetrics(scope),
    openClusterMetrics(scope),
    openProbeMetrics(scope),
    openDiskMetrics(scope),
    openRepositoryMetrics(scope),
    openStoreMetrics(scope),
    openDaemonMetrics(scope),
    openRetentionMetrics(scope),
    openCopyMetrics(scope),
  ];

  return {
    listen: (event) => {
      for (const listen of listeners) listen(event);
    },
    page: async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
    registry,
  };
}

function openLogMetric(registry: Registry, lostLogLines: () => number): void {
  new Counter({
    name: "lifeboat_log_errors_total",
    help: "Log lines that could not be written.",
    registers: [registry],
    collect() {
      this.reset();
      this.inc(lostLogLines());
    },
  });
}
