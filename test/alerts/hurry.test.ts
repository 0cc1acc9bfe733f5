import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { hurryQuery, hurryRules, type RuleFile } from "./hurry.ts";
import { ruleFiles } from "./monitoring.ts";

test.each([
  ["max_over_time(a[10m]) == 0", "max_over_time(a[10000ms]) == 0"],
  ["increase(a_total[1h30m]) > 2.5", "increase(a_total[90000ms]) > 2.5"],
  ["time() - a > 2 * b + 600", "time() - a > 2 * b + 10"],
  ["predict_linear(a[6h], 4 * 86400) < 0", "predict_linear(a[360000ms], 4 * 1440) < 0"],
  ['a > 536870912 and b{c=~"600|x[5m]"} > 0.25', 'a > 536870912 and b{c=~"600|x[5m]"} > 0.25'],
  [
    "histogram_quantile(0.99, rate(a600_bucket[5m] offset 1d)) < 100",
    "histogram_quantile(0.99, rate(a600_bucket[5000ms] offset 1440000ms)) < 100",
  ],
])("%s, sixty times as fast, is %s", (query, hurried) => {
  expect(hurryQuery(query, 60)).toBe(hurried);
});

test.each(ruleFiles)("%s keeps every rule, and all but its times", (path) => {
  const text = readFileSync(path, "utf8");
  const plain = (parse(text) as RuleFile).groups.flatMap(({ rules }) => rules);
  const hurried = hurryRules(text, 60).groups.flatMap(({ rules }) => rules);
  expect(plain.length).toBeGreaterThan(5);
  const timeless = (query: string): string =>
    query.replaceAll(/\[\w+\]/g, "[]").replaceAll(/(?<![\w.])\d+(?![\w.])/g, "");
  expect(hurried.map(({ expr, for: _, ...rest }) => ({ ...rest, expr: timeless(expr) }))).toEqual(
    plain.map(({ expr, for: _, ...rest }) => ({ ...rest, expr: timeless(expr) })),
  );
  expect(hurried.filter(({ for: wait }, index) => (wait === undefined) !== (plain[index]?.for === undefined))).toEqual(
    [],
  );
});
