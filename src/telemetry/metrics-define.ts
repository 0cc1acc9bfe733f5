import { Counter, Gauge, Histogram } from "prom-client";
import type { Registry } from "prom-client";

import type { Clock } from "../clock.ts";

/** What every group of metrics is made from. */
export interface MetricScope {
  readonly define: Define;
  readonly cluster: string;
  readonly schedules: readonly string[];
  readonly copies: readonly string[];
  readonly clock: Clock;
}

export interface Define {
  counter<L extends string>(name: string, help: string, labels: readonly L[]): Counter<L>;
  gauge<L extends string>(name: string, help: string, labels: readonly L[]): Gauge<L>;
  histogram<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    buckets: readonly number[],
  ): Histogram<L>;
}

/** Makes metrics of our prefix in a registry of its own, so that nothing global is shared. */
export function defineMetrics(registry: Registry): Define {
  const shape = <L extends string>(name: string, help: string, labelNames: readonly L[]) => ({
    name: `lifeboat_${name}`,
    help,
    labelNames,
    registers: [registry],
  });
  return {
    counter: (name, help, labels) => new Counter(shape(name, help, labels)),
    gauge: (name, help, labels) => new Gauge(shape(name, help, labels)),
    histogram: (name, help, labels, buckets) => new Histogram({ ...shape(name, help, labels), buckets: [...buckets] }),
  };
}

/** Sets a gauge, or removes its series where the value is not known: absent, never 0. */
export function setOrRemove<L extends string>(
  gauge: Gauge<L>,
  labels: Record<L, string>,
  value: number | bigint | undefined,
): void {
  if (value === undefined) gauge.remove(labels);
  else gauge.set(labels, Number(value));
}

/** More members than any etcd cluster has: what a hostile or broken one lists beyond them gets no series. */
export const mostMembers = 64;
const longestLabel = 128;

/** Names and versions are what servers say of themselves. */
export function labelOf(text: string): string {
  return text.slice(0, longestLabel);
}
