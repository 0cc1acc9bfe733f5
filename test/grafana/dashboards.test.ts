import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { backups } from "../../scripts/dashboards/backups.ts";
import { etcd } from "../../scripts/dashboards/etcd.ts";
import { renderDashboard } from "../../scripts/dashboards/render.ts";
import { openMetrics } from "../../src/telemetry/metrics.ts";
import { findTool } from "../telemetry/promtool.ts";
import { labelsIn, metricsIn, publishedMetrics } from "../telemetry/queries.ts";
import { allSamples, samples } from "../telemetry/samples.ts";
import { dashboardFiles, dashboardQueries, variableQueries, withChosen } from "./queries.ts";

const dashboards = [backups, etcd];

test.each(dashboards)("the file of $uid is what the code makes (else: node scripts/dashboards.ts)", (dashboard) => {
  const made: unknown = JSON.parse(JSON.stringify(renderDashboard(dashboard)));
  expect(dashboardFiles.get(`${dashboard.uid}.json`)).toEqual(made);
});

test("no other dashboard lies there", () => {
  expect([...dashboardFiles.keys()].toSorted()).toEqual(dashboards.map(({ uid }) => `${uid}.json`).toSorted());
});

describe.each([...dashboardFiles.values()])("$uid", ({ uid, schemaVersion, templating, annotations, panels }) => {
  const shown = panels.filter(({ type }) => type !== "row");

  test("Grafana can address it: its uid, its schema, a number for each panel", () => {
    expect(uid).toMatch(/^[a-z-]{8,40}$/);
    expect(schemaVersion).toBe(42);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(panels.every(({ id }) => id > 0)).toBe(true);
  });

  test("every panel has queries and says in a sentence what it shows", () => {
    expect(shown.filter(({ targets = [] }) => targets.length === 0)).toEqual([]);
    expect(shown.filter(({ description = "" }) => !/^.{15,}\.$/.test(description))).toEqual([]);
  });

  test("panels stand beside and under each other: none covers another, none is wider than the page", () => {
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
    );
    expect(cells.filter((cell, index) => cells.indexOf(cell) !== index)).toEqual([]);
    expect(panels.filter(({ gridPos: { x, w } }) => x + w > 24)).toEqual([]);
  });

  test("a data source, a cluster and its members can be chosen, and everything asks the chosen data source", () => {
    expect(templating.list.map(({ name, type }) => `${name}: ${type}`)).toEqual([
      "datasource: datasource",
      "cluster: query",
      "member: query",
    ]);
    const asking = [...templating.list.slice(1), ...annotations.list, ...shown, ...shown.flatMap((one) => one.targets)];
    const chosen = { type: "prometheus", uid: "${datasource}" };
    expect(asking.filter((one) => JSON.stringify(one?.datasource) !== JSON.stringify(chosen))).toEqual([]);
  });

  test("it marks backups and operations", () => {
    expect(annotations.list.map(({ name }) => name)).toEqual(expect.arrayContaining(["Backups", "Operations"]));
  });

  test("its colours have names, which Grafana has for a light and for a dark theme, and 1 is never red by default", () => {
    const colors = [...JSON.stringify({ panels, annotations }).matchAll(/"(?:color|iconColor)":"([^"]*)"/g)];
    const named = ["green", "yellow", "orange", "red", "blue", "purple", "text"];
    expect(colors.length).toBeGreaterThan(0);
    expect(colors.map(([, color = ""]) => color).filter((color) => !named.includes(color))).toEqual([]);
    const states = shown.filter(({ type }) => type === "state-timeline" || type === "stat");
    expect(states.filter((panel) => !JSON.stringify(panel).includes('"color":{"mode":"thresholds"}'))).toEqual([]);
  });
});

const published = await publishedMetrics();

test.each(dashboardQueries.filter(({ expr }) => expr.includes("lifeboat_")))(
  "$title asks for metrics and labels that the daemon's page has: $expr",
  ({ expr }) => {
    const names = metricsIn(expr);
    expect(names.filter((name) => !published.has(name))).toEqual([]);
    const known = new Set([...names.flatMap((name) => published.get(name) ?? []), "instance", "job"]);
    expect(labelsIn(expr).filter((label) => !known.has(label))).toEqual([]);
  },
);

/** Every counter grows by one a minute, so that rates have something to say; gauges stay as they are. */
async function page(): Promise<readonly { readonly series: string; readonly values: string }[]> {
  const { listen, page: read } = openMetrics({
    version: "0.0.0",
    cluster: "prod",
    schedules: ["hourly", "daily"],
    copies: ["offsite"],
  });
  for (const event of [
    ...allSamples,
    samples["schedule.read"],
    samples["store.observed"],
    samples["cluster.observed"],
    { ...samples["disk.observed"], role: "spool", member: undefined } as const,
  ]) {
    listen(event);
  }
  const lines = (await read()).body.split("\n").filter((line) => line.startsWith("lifeboat_"));
  return lines.map((line) => {
    const cut = line.lastIndexOf(" ");
    const [name = "", inside = "}"] = line.slice(0, cut).split(/\{(.*)/s);
    const step = /_(total|bucket|sum|count)$/.test(name) ? 1 : 0;
    return {
      series: `${name}{job="etcd-lifeboat",instance="a",${inside}`,
      values: `${Number(line.slice(cut + 1))}+${step}x90`,
    };
  });
}

const ofEtcd = ["etcd_disk_wal_fsync_duration_seconds_bucket", "etcd_disk_backend_commit_duration_seconds_bucket"]
  .flatMap((name) => ["0.008", "+Inf"].map((le) => `${name}{job="etcd",instance="m1",le="${le}"}`))
  .concat('etcd_server_leader_changes_seen_total{job="etcd",instance="m1"}')
  .map((series) => ({ series, values: "0+1x90" }));

test.each(variableQueries)("$label can be chosen: the daemon's page has it on $metric", ({ metric, label }) => {
  expect(metricsIn(metric).flatMap((name) => published.get(name) ?? [])).toContain(label);
});

test("every query, run by Prometheus' own engine on the daemon's page, returns data", async () => {
  expect(await judge(dashboardQueries.map(({ kind, expr }) => (kind === "panel" ? expr : bare(expr))))).toBe("");
});

/** An annotation's query without its condition, which is true only when something happens. */
function bare(expr: string): string {
  return expr.replace(/ (?:==|>) [01]$/, "");
}

test("a query that returns nothing would be found", async () => {
  expect(await judge(['lifeboat_store_up{cluster="another"}'])).toContain("FAILED");
});

const provisioning = fileURLToPath(new URL("../../config/grafana/", import.meta.url));
const read = (path: string): unknown => parse(readFileSync(join(provisioning, path), "utf8"));

test("the data source of the examples is the provisioned one, their uids fit Grafana, their queries can be asked, their pages exist", async () => {
  const { datasources } = read("provisioning/datasources/prometheus.yaml") as {
    datasources: readonly { uid: string }[];
  };
  const { groups } = read("examples/alerting.yaml") as { groups: readonly { rules: readonly GrafanaRule[] }[] };
  const rules = groups.flatMap((group) => group.rules);
  expect(new Set(rules.map(({ uid }) => uid)).size).toBe(rules.length);
  for (const { uid, condition, data, annotations } of rules) {
    expect(uid).toMatch(/^[a-z-]{1,40}$/);
    expect(data.map(({ refId }) => refId)).toContain(condition);
    expect(data.map(({ datasourceUid }) => datasourceUid)).toEqual(datasources.map((source) => source.uid));
    expect(existsSync(new URL(`../../${annotations.runbook_url}`, import.meta.url))).toBe(true);
  }
  // They say nothing on this page, as they should; a query that cannot be read would fail.
  const queries = rules.flatMap(({ data }) => data.map(({ model }) => model.expr));
  expect(queries.flatMap(metricsIn).filter((name) => !published.has(name))).toEqual([]);
  expect(await judge(queries.map((expr) => `${expr} or vector(1)`))).toBe("");
});

interface GrafanaRule {
  readonly uid: string;
  readonly condition: string;
  readonly data: readonly {
    readonly refId: string;
    readonly datasourceUid: string;
    readonly model: { readonly expr: string };
  }[];
  readonly annotations: { readonly runbook_url: string };
}

/** What promtool objects to queries each of which shall return at least one series; nothing when they do. */
async function judge(some: readonly string[]): Promise<string> {
  const asked = (expr: string): string => withChosen(expr, { cluster: "prod", member: ".*", interval: "5m" });
  const tests = [
    {
      interval: "1m",
      input_series: [...(await page()), ...ofEtcd],
      promql_expr_test: some.map((expr) => ({
        expr: `count(${asked(expr)}) > bool 0`,
        eval_time: "80m",
        exp_samples: [{ labels: "{}", value: 1 }],
      })),
    },
  ];
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-dashboards-"));
  try {
    const path = join(directory, "tests.yaml");
    await writeFile(path, JSON.stringify({ rule_files: [], evaluation_interval: "1m", tests }));
    const done = spawnSync(findTool("promtool"), ["test", "rules", path], { encoding: "utf8", timeout: 50_000 });
    if (done.error !== undefined) throw done.error;
    return done.status === 0 ? "" : `${done.stdout}${done.stderr}`;
  } finally {
    await rm(directory, { recursive: true });
  }
}
