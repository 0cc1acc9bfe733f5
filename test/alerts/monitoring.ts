import { readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { discardDirectory, makeDirectory } from "../cluster/directories.ts";
import { releasePorts, reservePorts } from "../cluster/ports.ts";
import { logTail, startServer, type ServerProcess } from "../cluster/processes.ts";
import { monitoringRoot } from "../cluster/servers.ts";
import { hurryRules } from "./hurry.ts";
import { openReceiver, type Receiver } from "./receiver.ts";

/** The real Prometheus and Alertmanager with our rules in a hurry, and somebody who is told. */

const folder = fileURLToPath(new URL("../../config/prometheus/", import.meta.url));

/** The rules that are committed. */
export const ruleFiles: readonly string[] = readdirSync(folder)
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => join(folder, name));

/** What stands in an alert and in a series of its history. */
export type Labels = Readonly<Record<string, string>>;

export interface JudgedRule {
  readonly type: "alerting" | "recording";
  readonly name: string;
  readonly health: "ok" | "err" | "unknown";
  readonly lastError?: string;
}

export interface Monitoring extends AsyncDisposable {
  readonly receiver: Receiver;
  /** The series that a query returns now; fails when Prometheus cannot read it. */
  readonly ask: (query: string) => Promise<readonly Labels[]>;
  /** The values of a label, as a variable of a dashboard asks for them. */
  readonly labelValues: (label: string, metric: string) => Promise<readonly string[]>;
  readonly rules: () => Promise<readonly JudgedRule[]>;
  /** The names of the alerts that fire now. */
  readonly firing: () => Promise<readonly string[]>;
  /** Why each target that cannot be scraped cannot. */
  readonly down: () => Promise<readonly string[]>;
}

/** What is scraped, and how: fields of a scrape configuration. */
export interface Job {
  readonly targets: readonly string[];
  readonly how?: object;
}

export interface MonitoringOptions {
  readonly jobs: Readonly<Record<string, Job>>;
  /** So many times faster than the rules say. */
  readonly times: number;
}

/** Starts them and returns when Prometheus has scraped every target. */
export async function startMonitoring({ jobs, times }: MonitoringOptions): Promise<Monitoring> {
  const directory = await makeDirectory("monitoring");
  const receiver = await openReceiver();
  const ports = await reservePorts(2);
  const [prometheusAt, alertmanagerAt] = ports.map((port) => `127.0.0.1:${port}`) as [string, string];
  const servers: ServerProcess[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop("SIGKILL")));
    releasePorts(ports);
    await receiver[Symbol.asyncDispose]();
    await discardDirectory(directory);
  };
  const start = async (program: "prometheus" | "prometheus-alertmanager", config: object, args: readonly string[]) => {
    const [path, log] = [join(directory, `${program}.yaml`), join(directory, `${program}.log`)];
    await writeFile(path, JSON.stringify(config)); // JSON is YAML
    const server = await startServer(...debian(program, [`--config.file=${path}`, ...args]), { log, cwd: directory });
    servers.push(server);
    const at = program === "prometheus" ? prometheusAt : alertmanagerAt;
    const deadline = AbortSignal.timeout(60_000);
    while (!(await isReady(`http://${at}/-/ready`))) {
      if (!server.running || deadline.aborted) throw new Error(`${program} does not start:\n${await logTail(log)}`);
      await sleep(50);
    }
  };
  try {
    const rules = join(directory, "rules");
    await mkdir(rules);
    for (const [index, path] of ruleFiles.entries()) {
      await writeFile(join(rules, `${index}.yaml`), JSON.stringify(hurryRules(readFileSync(path, "utf8"), times)));
    }
    await start(
      "prometheus-alertmanager",
      {
        route: { receiver: "test", group_by: ["..."], group_wait: "0s", group_interval: "1s", repeat_interval: "1h" },
        receivers: [{ name: "test", webhook_configs: [{ url: receiver.url, send_resolved: true }] }],
      },
      [
        `--storage.path=${join(directory, "alertmanager")}`,
        `--web.listen-address=${alertmanagerAt}`,
        "--cluster.listen-address=",
      ],
    );
    await start(
      "prometheus",
      {
        global: {
          scrape_interval: "1s",
          evaluation_interval: "1s",
          external_labels: { lifeboat_docs: "https://docs.example.org/" },
        },
        rule_files: [join(rules, "*.yaml")],
        alerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanagerAt] }] }] },
        scrape_configs: Object.entries(jobs).map(([job_name, { targets, how }]) => ({
          ...how,
          job_name,
          static_configs: [{ targets }],
        })),
      },
      [`--storage.tsdb.path=${join(directory, "prometheus")}`, `--web.listen-address=${prometheusAt}`],
    );
  } catch (error) {
    await stop();
    throw error;
  }

  const get = async <T>(path: string, parameters: Record<string, string> = {}): Promise<T> => {
    const url = new URL(path, `http://${prometheusAt}`);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.append(name, value);
    const response = await fetch(url, { signal: AbortSignal.timeout(30_000) });
    const answer = (await response.json()) as { readonly data: T; readonly error?: string };
    if (!response.ok) throw new Error(`${url.search}: ${answer.error}`);
    return answer.data;
  };
  return {
    receiver,
    async ask(query) {
      const { result } = await get<{ readonly result: readonly { readonly metric: Labels }[] }>("/api/v1/query", {
        query,
      });
      return result.map(({ metric }) => metric);
    },
    labelValues: async (label, metric) => await get(`/api/v1/label/${label}/values`, { "match[]": metric }),
    async rules() {
      const { groups } = await get<{ readonly groups: readonly { readonly rules: readonly JudgedRule[] }[] }>(
        "/api/v1/rules",
      );
      return groups.flatMap((group) => group.rules);
    },
    async firing() {
      const { alerts } = await get<{ readonly alerts: readonly { readonly state: string; readonly labels: Labels }[] }>(
        "/api/v1/alerts",
      );
      return alerts.filter(({ state }) => state === "firing").map(({ labels }) => labels["alertname"] ?? "");
    },
    async down() {
      const { activeTargets } = await get<{ readonly activeTargets: readonly Target[] }>("/api/v1/targets");
      return activeTargets
        .filter(({ health }) => health !== "up")
        .map(({ scrapeUrl, health, lastError }) => `${scrapeUrl}: ${health} ${lastError}`);
    },
    [Symbol.asyncDispose]: stop,
  };
}

/** A program of Debian's packages that are not installed: it alone sees their `/usr/share`, where Alertmanager has templates. */
function debian(program: string, args: readonly string[]): [string, readonly string[]] {
  const root = monitoringRoot();
  const see = 'mount --bind "$0/usr/share" /usr/share && exec "$@"';
  return [
    "unshare",
    ["--mount", "--propagation", "private", "sh", "-c", see, root, `${root}/usr/bin/${program}`, ...args],
  ];
}

interface Target {
  readonly scrapeUrl: string;
  readonly health: string;
  readonly lastError: string;
}

async function isReady(url: string): Promise<boolean> {
  return await fetch(url, { signal: AbortSignal.timeout(3000) }).then(
    async (response) => {
      await response.body?.cancel();
      return response.ok;
    },
    () => false,
  );
}
