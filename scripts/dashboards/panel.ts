/** What Grafana's classic dashboards (schema 42, read by Grafana 9 and later) are made of, as far as we use it. */

export interface Query {
  readonly expr: string;
  readonly legend?: string;
}

export interface Step {
  readonly color: "green" | "yellow" | "red" | "text";
  /** Undefined: from the beginning. */
  readonly from?: number;
}

export interface Panel {
  readonly kind: "stat" | "timeseries" | "state-timeline" | "table";
  readonly title: string;
  readonly description: string;
  readonly queries: readonly Query[];
  readonly unit?: string;
  readonly steps?: readonly Step[];
  /** Of 24 columns. */
  readonly width: number;
  /** A line where a limit is. */
  readonly lines?: boolean;
  readonly stacked?: boolean;
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[];
}

const datasource = { type: "prometheus", uid: "${datasource}" };
const columns = 24;
const heights = { stat: 4, timeseries: 8, "state-timeline": 7, table: 8 } as const;

/** The JSON that Grafana reads. */
export function renderDashboard({ uid, title, description, rows }: Dashboard): object {
  const panels: object[] = [];
  let id = 0;
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: (id += 1),
      type: "row",
      title: row.title,
      collapsed: false,
      gridPos: { h: 1, w: columns, x: 0, y },
      panels: [],
    });
    y += 1;
    let x = 0;
    let lineHeight = 0;
    for (const panel of row.panels) {
      if (x + panel.width > columns) {
        y += lineHeight;
        x = 0;
        lineHeight = 0;
      }
      const h = heights[panel.kind];
      panels.push({ id: (id += 1), ...renderPanel(panel), gridPos: { h, w: panel.width, x, y } });
      x += panel.width;
      lineHeight = Math.max(lineHeight, h);
    }
    y += lineHeight;
  }
  return {
    uid,
    title,
    description,
    tags: ["etcd", "etcd-lifeboat"],
    schemaVersion: 42,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: "1m",
    timezone: "browser",
    time: { from: "now-24h", to: "now" },
    templating: {
      list: [
        { name: "datasource", label: "Data source", type: "datasource", query: "prometheus", current: {}, hide: 0 },
        variable("cluster", "Cluster", "label_values(lifeboat_config_last_reload_successful, cluster)", false),
        variable("member", "Member", 'label_values(lifeboat_etcd_up{cluster="$cluster"}, member)', true),
      ],
    },
    annotations: {
      list: [
        {
          name: "Backups",
          datasource,
          enable: true,
          iconColor: "green",
          expr: 'changes(lifeboat_backup_last_success_timestamp_seconds{cluster="$cluster"}[2m]) > 0',
          titleFormat: "backup committed",
          textFormat: "{{schedule}}",
        },
      ],
    },
    panels,
  };
}

function variable(name: string, label: string, query: string, many: boolean): object {
  return {
    name,
    label,
    type: "query",
    datasource,
    query: { query, refId: name },
    refresh: 2,
    sort: 1,
    multi: many,
    includeAll: many,
    ...(many ? { allValue: ".*" } : {}),
    hide: 0,
  };
}

function renderPanel(panel: Panel): object {
  const {
    kind,
    title,
    description,
    queries,
    unit,
    steps = [{ color: "green" }],
    lines = false,
    stacked = false,
  } = panel;
  const custom =
    kind === "timeseries"
      ? {
          lineWidth: 1,
          fillOpacity: stacked ? 30 : 5,
          stacking: { mode: stacked ? "normal" : "none", group: "A" },
          thresholdsStyle: { mode: lines ? "dashed" : "off" },
        }
      : {};
  return {
    type: kind,
    title,
    description,
    datasource,
    targets: queries.map(({ expr, legend = "" }, index) => ({
      refId: String.fromCodePoint(65 + index),
      datasource,
      expr,
      legendFormat: legend,
      ...(kind === "stat" || kind === "table" ? { instant: true, range: false } : { instant: false, range: true }),
      ...(kind === "table" ? { format: "table" } : {}),
    })),
    fieldConfig: {
      defaults: {
        unit: unit ?? "short",
        custom,
        thresholds: { mode: "absolute", steps: steps.map(({ color, from = null }) => ({ color, value: from })) },
      },
      overrides: [],
    },
    options:
      kind === "stat"
        ? { reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false }, colorMode: "background" }
        : kind === "timeseries"
          ? { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } }
          : {},
  };
}
