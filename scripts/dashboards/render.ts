import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { type Dashboard, datasource, renderPanel } from "./panel.ts";

const c = 'cluster="$cluster"';

/** What people choose at the top: a data source, one cluster, some of its members. */
const variables = [
  { name: "cluster", label: "Cluster", query: "label_values(lifeboat_config_last_reload_successful, cluster)" },
  { name: "member", label: "Member", query: `label_values(lifeboat_etcd_up{${c}}, member)`, many: true },
] as const;

/** Marks across all panels: what happened, so that a curve that bends then needs no other explanation. */
const annotations = [
  {
    name: "Backups",
    color: "green",
    expr: `max by (schedule) (changes(lifeboat_backup_last_success_timestamp_seconds{${c}}[2m])) > 0`,
    title: "backup committed",
    text: "{{schedule}}",
  },
  {
    name: "Operations",
    color: "blue",
    expr: `max by (operation) (lifeboat_operation_in_progress{${c}}) == 1`,
    title: "operation runs",
    text: "{{operation}}",
  },
  {
    name: "Pauses",
    color: "orange",
    expr: `max(lifeboat_repository_paused{${c}}) == 1`,
    title: "repository paused",
    text: "nobody takes backups",
  },
  {
    name: "Configurations",
    color: "purple",
    expr: `max by (instance) (changes(lifeboat_config_last_reload_success_timestamp_seconds{${c}}[2m])) > 0`,
    title: "configuration read",
    text: "{{instance}}",
  },
] as const;

/** The JSON that Grafana reads. */
export function renderDashboard({ uid, title, description, rows }: Dashboard): object {
  // oxlint-disable-next-line typescript/no-deprecated -- its successor makes files that only the newest Grafana reads; all since 9 read these
  const dashboard = new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(["etcd", "etcd-lifeboat"])
    .version(1)
    .tooltip(DashboardCursorSync.Crosshair)
    .refresh("1m")
    .time({ from: "now-24h", to: "now" })
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"));
  for (const { name, label, query, ...rest } of variables) {
    const variable = new QueryVariableBuilder(name).label(label).datasource(datasource).query({ query, refId: name });
    variable.refresh(VariableRefresh.OnTimeRangeChanged).sort(VariableSort.AlphabeticalAsc);
    if ("many" in rest) variable.multi(true).includeAll(true).allValue(".*").current({ text: "All", value: "$__all" });
    dashboard.withVariable(variable);
  }
  for (const { name, color, expr, title: heading, text } of annotations) {
    const annotation = new AnnotationQueryBuilder().name(name).datasource(datasource).enable(true).iconColor(color);
    dashboard.annotation(annotation.expr(expr).titleFormat(heading).textFormat(text));
  }
  let id = 0;
  for (const row of rows) {
    dashboard.withRow(new RowBuilder(row.title).id((id += 1)));
    for (const panel of row.panels) dashboard.withPanel(renderPanel(panel).id((id += 1)));
  }
  return dashboard.build();
}
