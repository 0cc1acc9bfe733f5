import { storeOperations } from "../events.ts";
import type { Emit } from "../events.ts";
import type { MetricScope } from "./metrics-define.ts";

/** How stores answer: the first one, which has no name, and copies. */
export function openStoreMetrics({ define, cluster, copies: configured }: MetricScope): Emit {
  let copies = configured;
  // Unlike a counter's, a histogram's zero would be a new beginning.
  const zeroed = new Set<string>();
  const labels = ["cluster", "store", "operation"] as const;
  const duration = define.histogram(
    "store_request_duration_seconds",
    "How long the store took to answer a request: neither waits for what is uploaded nor for who reads are in it. Those that failed are not in it.",
    labels,
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
  );
  const failures = define.counter(
    "store_request_failures_total",
    "Requests that the store refused or did not answer, each after the tries that its adapter makes.",
    labels,
  );
  zeroCounters();

  function zeroCounters(): void {
    for (const store of ["", ...copies]) {
      for (const operation of storeOperations) {
        failures.inc({ cluster, store, operation }, 0);
        if (!zeroed.has(store)) duration.zero({ cluster, store, operation });
      }
      zeroed.add(store);
    }
  }

  return (event) => {
    if (event.name === "config.applied") {
      copies = event.copies;
      zeroCounters();
    }
    if (event.name === "store.requested") {
      const { store: name = "", ok, durationMs } = event;
      const operation = storeOperations.find((word) => word === event.operation);
      if (operation === undefined) return;
      const store = name === "" || copies.includes(name) ? name : "other";
      if (ok) duration.observe({ cluster, store, operation }, durationMs / 1000);
      else failures.inc({ cluster, store, operation });
    }
  };
}
