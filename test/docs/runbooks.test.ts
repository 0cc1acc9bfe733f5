import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { checkConfig } from "../telemetry/promtool.ts";
import { blocks, readPage, readPages, root } from "./pages.ts";

/** The pages that alerts lead to, and the way from the daemon to them. */

const ruleFiles = ["config/prometheus/rules.yaml", "config/prometheus/etcd-rules.yaml"];
const alerts = new Set(
  ruleFiles
    .flatMap((path) => (parse(readFileSync(`${root}${path}`, "utf8")) as Rules).groups)
    .flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? [])),
);
interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert?: string }[] }[];
}

const pages = readPages().filter(
  ({ path }) => /^docs\/runbooks\/[A-Z]\w+\.md$/.test(path) && !path.endsWith("README.md"),
);

test("every alert has its page, every page its alert, and the index lists them all", () => {
  const named = new Set(pages.map(({ path }) => path.slice("docs/runbooks/".length, -".md".length)));
  expect(named).toEqual(alerts);
  const listed = [...readPage("docs/runbooks/README.md").text.matchAll(/^\| \[(\w+)\]\(\1\.md\)/gm)].map(
    ([, name]) => name,
  );
  expect(new Set(listed)).toEqual(alerts);
});

/** Whose command lines are not checked by parsing them. */
const stock = ["etcdctl", "journalctl", "systemctl", "curl", "df", "du", "cat", "iostat", "uptime", "ping"];

test.each(pages)(
  "$path says what it means, what is at stake, how to look and what to do, with commands that exist",
  (page) => {
    for (const part of ["**What it means.** ", "**What is at stake.** ", "## Look", "## Do"])
      expect(page.text).toContain(part);
    const commands = blocks(page).flatMap(({ code }) => code.trim().split("\n"));
    expect(commands.length).toBeGreaterThan(0);
    // Those of our own program are parsed by commands.test.ts.
    const unknown = commands.filter((line) => ![...stock, "etcd-lifeboat"].includes(line.split(" ")[0] ?? ""));
    expect(unknown).toEqual([]);
  },
);

test("promtool finds nothing wrong with Prometheus' configuration in docs/operating/monitor.md", async () => {
  const shown =
    blocks(readPage("docs/operating/monitor.md")).find(({ code }) => code.startsWith("global:"))?.code ?? "";
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-monitor-"));
  try {
    const path = join(directory, "prometheus.yml");
    await writeFile(path, shown.replaceAll("/etc/prometheus/rules/etcd-lifeboat", `${root}config/prometheus`));
    expect(checkConfig(path)).toContain("2 rule files found");
  } finally {
    await rm(directory, { recursive: true });
  }
});
