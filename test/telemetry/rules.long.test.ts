import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { cases, type Case, type Fired } from "./alert-cases.ts";
import { findTool } from "./promtool.ts";
import { labelsIn, metricsIn, publishedMetrics, recordsIn } from "./queries.ts";

/** The rules of config/prometheus, judged by Prometheus' own promtool. */

const files = ["rules.yaml", "etcd-rules.yaml"].map((name) =>
  fileURLToPath(new URL(`../../config/prometheus/${name}`, import.meta.url)),
);

interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly labels?: { readonly severity: string };
  readonly annotations?: { readonly summary: string; readonly description: string; readonly runbook_url: string };
}

const rules = files.flatMap((file) => {
  const { groups } = parse(readFileSync(file, "utf8")) as { readonly groups: readonly { rules: readonly Rule[] }[] };
  return groups.flatMap((group) => group.rules.map((rule) => ({ ...rule, file })));
});
const alerts = rules.filter(({ alert }) => alert !== undefined);
const names = [...new Set(alerts.map(({ alert = "" }) => alert))];

test("promtool finds nothing wrong with the rules", () => {
  const { status, said } = promtool("check", "rules", "--lint=all", "--lint-fatal", ...files);
  expect(status, said).toBe(0);
});

test("promtool's test can fail", async () => {
  const wrong: Case = { promise: "", series: { "up{}": [1, 1] }, atMinute: 1, fires: [anything] };
  expect(await judge("LifeboatEtcdNoSpace", [asTest("LifeboatEtcdNoSpace", wrong)])).toContain("FAILED");
});

const anything: Fired = { labels: {}, severity: "info", says: "" };

test.each(alerts)("$alert ($labels.severity) says what is wrong, with its value, and where its page is", (rule) => {
  const { summary, description, runbook_url: runbook } = rule.annotations ?? {};
  expect(summary).toMatch(/^[a-z].*[^.]$|^99 %/);
  expect(description).toMatch(/\$value/);
  expect(description).toMatch(/\$labels\.(cluster|instance|job)/);
  expect(runbook).toBe(`{{ $externalLabels.lifeboat_docs }}docs/runbooks/${rule.alert}.md`);
  expect(["critical", "warning", "info"]).toContain(rule.labels?.severity);
});

test("every alert has a case in which it fires at each severity, and one in which it is silent; no case is left over", () => {
  expect(Object.keys(cases).toSorted()).toEqual(names.toSorted());
  for (const [name, some] of Object.entries(cases)) {
    const wanted = alerts.filter(({ alert }) => alert === name).map(({ labels }) => labels?.severity);
    expect(new Set(some.flatMap(({ fires }) => fires.map(({ severity }) => severity))), name).toEqual(new Set(wanted));
    expect(
      some.some(({ fires }) => fires.length === 0),
      name,
    ).toBe(true);
  }
});

test.each(Object.entries(cases))(
  "%s fires when it must and is silent when it must, with the words that are meant, also when a scrape was missed, and not for a restart",
  async (name, some) => {
    const silent = some.filter(({ fires }) => fires.length === 0);
    const tests = [
      ...some.flatMap((one) => [asTest(name, one), asTest(name, missScrape(one), false)]),
      ...silent.map((one) => asTest(name, restart(one))),
    ];
    expect(await judge(name, tests)).toBe("");
  },
);

const published = await publishedMetrics();
/** What Prometheus itself puts on every series. */
const ofScrape = ["job", "instance"];

test.each(rules.filter(({ file }) => file === files[0]))(
  "$record$alert asks for metrics and labels that the daemon's page has",
  (rule) => {
    const names = metricsIn(sources(rule));
    expect(names.filter((name) => !published.has(name))).toEqual([]);
    const known = new Set([...names.flatMap((name) => published.get(name) ?? []), ...ofScrape]);
    const told = [...`${rule.annotations?.description}`.matchAll(/\$labels\.(\w+)/g)].map(([, label = ""]) => label);
    expect([...labelsIn(rule.expr), ...told].filter((label) => !known.has(label))).toEqual([]);
    expect(names.length + (rule.expr.includes("up{") ? 1 : 0)).toBeGreaterThan(0);
  },
);

test("a name or label that the page lacks would be found", () => {
  expect(metricsIn('sum by (phase) (lifeboat_nonsense_total{code="lifeboat_text"})')).toEqual([
    "lifeboat_nonsense_total",
  ]);
  expect(published.has("lifeboat_nonsense_total")).toBe(false);
  expect(labelsIn('sum by (phase, le) (x{code="a",other!~"b"}) / on (member) y')).toEqual([
    "code",
    "other",
    "phase",
    "le",
    "member",
  ]);
  expect(recordsIn("instance:etcd_mvcc_db_fill:ratio > 1")).toEqual(["instance:etcd_mvcc_db_fill:ratio"]);
});

/** The queries of a rule and of the recording rules that it reads. */
function sources({ expr }: Rule): string {
  const read = recordsIn(expr).map((name) => rules.find(({ record }) => record === name));
  return [expr, ...read.map((rule) => (rule === undefined ? "lifeboat_unrecorded" : sources(rule)))].join("\n");
}

/** The last scrape before the judgement failed: Prometheus marks every series of the target as stale, and up is 0. */
function missScrape({ series, ...rest }: Case): Case {
  const missed = Object.entries(series).map(([key, samples]) => {
    const value = key.startsWith("up{") && !key.includes("node") ? 0 : Number.NaN;
    return [key, samples.map((sample, minute) => (minute === rest.atMinute ? value : sample))] as const;
  });
  return { ...rest, series: Object.fromEntries(missed) };
}

/** The targets were restarted some minutes before the judgement: two scrapes found nobody, and what they count begins anew. */
function restart({ series, promise, ...rest }: Case): Case {
  const [gone, back] = [rest.atMinute - 5, rest.atMinute - 3];
  if (gone < 1) return { series, promise, ...rest };
  const restarted = Object.entries(series).map(([key, samples]) => {
    const isUp = key.startsWith("up{");
    const counts =
      /^\w+(_total|_bucket|_count|_sum)\{/.test(key) && !key.startsWith("node_") && !key.includes("disk_pressure");
    const before = samples[gone - 1] ?? 0;
    const after = (sample: number | undefined): number | undefined =>
      counts && sample !== undefined ? Math.max(0, sample - before) : sample;
    const changed = samples.map((sample, minute) => {
      if (minute < gone) return sample;
      if (minute >= back) return after(sample);
      return isUp ? 0 : minute === gone ? Number.NaN : undefined;
    });
    return [key, changed] as const;
  });
  return { ...rest, promise: `${promise}, and a restart`, series: Object.fromEntries(restarted) };
}

/** A test of promtool; with `words`, what people read is compared, too. */
function asTest(alertname: string, { promise, series, atMinute, fires }: Case, words = true): object {
  const firing = `ALERTS{alertname="${alertname}",alertstate="firing"}`;
  const exp_samples = fires.map(({ labels, severity }) => ({
    labels: `ALERTS${JSON.stringify({ alertname, alertstate: "firing", severity, ...labels }).replaceAll(/"(\w+)":/g, "$1=")}`,
    value: 1,
  }));
  const exp_alerts = fires.map(({ labels, severity, says }) => ({
    exp_labels: { severity, ...labels },
    exp_annotations: {
      summary: alerts.find(({ alert }) => alert === alertname)?.annotations?.summary,
      description: says,
      runbook_url: `https://docs.example.org/docs/runbooks/${alertname}.md`,
    },
  }));
  return {
    name: promise,
    interval: "1m",
    external_labels: { lifeboat_docs: "https://docs.example.org/" },
    input_series: Object.entries(series).map(([key, samples]) => ({
      series: key,
      values: samples.map(told).join(" "),
    })),
    promql_expr_test: [
      fires.length > 0
        ? { expr: firing, eval_time: `${atMinute}m`, exp_samples }
        : { expr: `count_over_time(${firing}[${atMinute}m])`, eval_time: `${atMinute}m`, exp_samples },
    ],
    ...(words ? { alert_rule_test: [{ alertname, eval_time: `${atMinute}m`, exp_alerts }] } : {}),
  };
}

function told(sample: number | undefined): string {
  if (sample === undefined) return "_";
  return Number.isNaN(sample) ? "stale" : String(sample);
}

/**
 * What promtool has to object to one alert and the recording rules before it; nothing when all tests pass. All the other alerts would be judged each
 * minute, too, which takes a hundred times as long. JSON is YAML.
 */
async function judge(name: string, tests: readonly object[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-rules-"));
  try {
    const [rulesFile, testsFile] = ["rules.yaml", "tests.yaml"].map((file) => join(directory, file)) as [
      string,
      string,
    ];
    const file = alerts.find(({ alert }) => alert === name)?.file;
    const own = rules.filter((rule) => rule.file === file).map(({ file: _, ...rule }) => rule);
    const judged = own.filter(({ alert }) => alert === name);
    // One group, in which one rule is judged after the other; groups run side by side.
    const groups = [{ name: "judged", rules: [...needed(own, judged), ...judged] }];
    await writeFile(rulesFile, JSON.stringify({ groups }));
    await writeFile(testsFile, JSON.stringify({ rule_files: [rulesFile], evaluation_interval: "1m", tests }));
    const { status, said } = promtool("test", "rules", testsFile);
    return status === 0 ? "" : said;
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The recording rules that these read, and those that they read, in their order. */
function needed(all: readonly Rule[], readers: readonly Rule[]): readonly Rule[] {
  const read = all.filter(({ record }) => record !== undefined && readers.some(({ expr }) => expr.includes(record)));
  const more = [...new Set([...readers, ...read])];
  return more.length > readers.length ? needed(all, more) : all.filter((rule) => read.includes(rule));
}

function promtool(...args: readonly string[]): { readonly status: number | null; readonly said: string } {
  const done = spawnSync(findTool("promtool"), args, { encoding: "utf8", timeout: 50_000 });
  if (done.error !== undefined) throw done.error;
  return { status: done.status, said: `${done.stdout}${done.stderr}` };
}
