import { openMetrics } from "../../src/telemetry/metrics.ts";

/** What a query of PromQL names, as far as a test needs it: metrics with their labels. */

/** Words of PromQL that look like names of metrics. */
const recorded = /\b[a-z_]+:[a-z_0-9]+(?::[a-z_0-9]+)?\b/g;
const exported = /\b(?:lifeboat|etcd|process|nodejs)_[a-z0-9_]+\b/g;

/** The metrics in a query, without those inside the names of recording rules. */
export function metricsIn(query: string): readonly string[] {
  return [...new Set(bare(query).replaceAll(recorded, " ").match(exported) ?? [])];
}

/** The recording rules in a query. */
export function recordsIn(query: string): readonly string[] {
  return [...new Set(bare(query).match(recorded) ?? [])];
}

/** The labels that a query compares, groups or matches by. */
export function labelsIn(query: string): readonly string[] {
  const compared = [...query.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside = ""]) =>
    [...inside.matchAll(/(\w+)\s*(?:=~|!=|!~|=)/g)].map(([, label = ""]) => label),
  );
  const grouped = [...query.matchAll(/\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)/g)].flatMap(
    ([, inside = ""]) => inside.split(",").map((label) => label.trim()),
  );
  return [...new Set([...compared, ...grouped])].filter((label) => label !== "");
}

/** A query without what stands in quotes, which names nothing. */
function bare(query: string): string {
  return query.replaceAll(/"[^"]*"/g, '""');
}

/** Every metric of the daemon's page with its labels; a histogram under the names that Prometheus gives its parts. */
export async function publishedMetrics(): Promise<ReadonlyMap<string, readonly string[]>> {
  const { registry } = openMetrics({ version: "0.0.0", cluster: "prod", schedules: ["hourly"], copies: ["offsite"] });
  const published = new Map<string, readonly string[]>();
  for (const { name, type } of await registry.getMetricsAsJSON()) {
    const { labelNames = [] } = registry.getSingleMetric(name) as { labelNames?: readonly string[] };
    if (String(type) !== "histogram") published.set(name, labelNames);
    else {
      published.set(`${name}_bucket`, [...labelNames, "le"]);
      for (const part of ["sum", "count"]) published.set(`${name}_${part}`, labelNames);
    }
  }
  return published;
}
