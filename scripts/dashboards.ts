import { writeFile } from "node:fs/promises";
import { format } from "prettier";
import { backups } from "./dashboards/backups.ts";
import { etcd } from "./dashboards/etcd.ts";
import { renderDashboard } from "./dashboards/render.ts";

/** `node scripts/dashboards.ts` writes Grafana's dashboards to config/grafana/dashboards; a test holds that they were written. */

for (const dashboard of [backups, etcd]) {
  const path = new URL(`../config/grafana/dashboards/${dashboard.uid}.json`, import.meta.url);
  await writeFile(path, await format(JSON.stringify(renderDashboard(dashboard)), { parser: "json", printWidth: 120 }));
}
