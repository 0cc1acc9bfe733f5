import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** What the committed dashboards ask Prometheus: their panels, the marks across them, and what can be chosen at their top. */

const folder = fileURLToPath(new URL("../../config/grafana/dashboards/", import.meta.url));

export interface DashboardFile {
  readonly uid: string;
  readonly title: string;
  readonly schemaVersion: number;
  readonly templating: { readonly list: readonly Variable[] };
  readonly annotations: { readonly list: readonly Annotation[] };
  readonly panels: readonly PanelFile[];
}

export interface PanelFile {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: object;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly datasource: object }[];
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string | { readonly query: string };
  readonly datasource?: object;
}

interface Annotation {
  readonly name: string;
  readonly expr: string;
  readonly iconColor: string;
  readonly datasource: object;
}

export interface Asked {
  readonly dashboard: string;
  /** The panel or annotation that asks. */
  readonly title: string;
  readonly kind: "panel" | "annotation";
  readonly expr: string;
}

/** The dashboards that are committed, by the names of their files. */
export const dashboardFiles: ReadonlyMap<string, DashboardFile> = new Map(
  readdirSync(folder).map((name) => [name, JSON.parse(readFileSync(join(folder, name), "utf8")) as DashboardFile]),
);

/** Every query of every panel and annotation, as Grafana has it, with its variables. */
export const dashboardQueries: readonly Asked[] = [...dashboardFiles.values()].flatMap(
  ({ uid, panels, annotations }) => [
    ...panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ expr }) => ({ dashboard: uid, title, kind: "panel" as const, expr })),
    ),
    ...annotations.list.map(({ name, expr }) => ({ dashboard: uid, title: name, kind: "annotation" as const, expr })),
  ],
);

/** The `label_values(metric, label)` of the variables. */
export const variableQueries: readonly { readonly metric: string; readonly label: string }[] = [
  ...dashboardFiles.values(),
].flatMap(({ templating }) =>
  templating.list.flatMap(({ query }) => {
    const found = typeof query === "string" ? undefined : /^label_values\((.*), (\w+)\)$/.exec(query.query);
    return found === null || found === undefined ? [] : [{ metric: found[1] ?? "", label: found[2] ?? "" }];
  }),
);

/** The query as Grafana sends it when this is chosen. */
export function withChosen(
  expr: string,
  { cluster, member, interval }: { readonly cluster: string; readonly member: string; readonly interval: string },
): string {
  return expr.replaceAll("$cluster", cluster).replaceAll("$member", member).replaceAll("$__rate_interval", interval);
}
