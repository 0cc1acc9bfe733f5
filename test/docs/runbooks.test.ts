import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { createAuthority } from "../cluster/tls.ts";
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

test("the example configuration of Prometheus, with TLS and a token, can be used as it is once its files are there", async () => {
  const example = readFileSync(`${root}config/prometheus/examples/prometheus.yaml`, "utf8");
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-prometheus-"));
  try {
    const { ca, issue } = await createAuthority(join(directory, "pki"));
    const { cert, key } = await issue({ commonName: "client", usage: "client" });
    const files = new Map([
      ["/etc/prometheus/rules/etcd-lifeboat/*.yaml", `${root}config/prometheus/*rules.yaml`],
      ["/etc/prometheus/etcd-lifeboat/ca.crt", ca],
      ["/etc/prometheus/etcd-lifeboat/token", join(directory, "token")],
      ["/etc/prometheus/etcd/ca.crt", ca],
      ["/etc/prometheus/etcd/client.crt", cert],
      ["/etc/prometheus/etcd/client.key", key],
    ]);
    await writeFile(join(directory, "token"), "0123456789abcdef");
    let text = example;
    for (const [named, real] of files) {
      expect(text).toContain(named);
      text = text.replaceAll(named, real);
    }
    const path = join(directory, "prometheus.yml");
    await writeFile(path, text);
    expect(checkConfig(path)).toContain("2 rule files found");
    await writeFile(path, text.replace("credentials_file", "credential_file"));
    expect(() => checkConfig(path)).toThrow("credential_file");
  } finally {
    await rm(directory, { recursive: true });
  }
});
