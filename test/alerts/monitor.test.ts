import { execFile } from "node:child_process";
import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { etcdProgram, monitoringRoot } from "../cluster/servers.ts";
import { blocks, readPage, root } from "../docs/pages.ts";
import { bootHost, type Host } from "../hosts/host.ts";
import { ruleFiles } from "./monitoring.ts";

/**
 * docs/operating/monitor.md on a booted Debian: its files are written where it says, its commands run as they stand there, with the packages' own
 * programs and units. A newcomer's daemon, three members of etcd and a pager are there before.
 */

const page = readPage("docs/operating/monitor.md");
// That part has an address, a certificate and a daemon of its own; test/telemetry judges it.
const guide = { ...page, text: page.text.replace(/^## From another host\n.*?(?=^## )/ms, "") };
const commands = blocks(guide).filter(({ language }) => language === "sh");
const files = [...guide.text.matchAll(/^`(\/[^`]+)`:\n\n```yaml\n(.*?)^```$/gms)];
const patient = { timeout: 120_000, interval: 1000 };

let host: Host;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, [join(root, "scripts/build.ts")]);
  const packages = monitoringRoot();
  const programs = ["prometheus", "promtool", "prometheus-alertmanager", "amtool"];
  const units = ["prometheus", "prometheus-alertmanager"];
  host = await bootHost({
    ...Object.fromEntries(programs.map((name) => [`/usr/bin/${name}`, join(packages, "usr/bin", name)])),
    ...Object.fromEntries(
      units.map((name) => [
        `/lib/systemd/system/${name}.service`,
        join(packages, `lib/systemd/system/${name}.service`),
      ]),
    ),
    "/usr/share/prometheus": join(packages, "usr/share/prometheus"),
    "/usr/local/bin/node": await realpath(process.execPath),
    "/usr/local/bin/etcd": await realpath(etcdProgram("3.6", "etcd")),
    "/srv/checkout/dist": join(root, "dist"),
    "/srv/checkout/config": join(root, "config"),
  });
  await installPackages();
  await startEtcd();
  await startDaemon();
  await startPager();
});

afterAll(async () => {
  await host?.[Symbol.asyncDispose]();
});

/** What the packages' own scripts do after they are unpacked. */
async function installPackages(): Promise<void> {
  const state = "/var/lib/prometheus/metrics2 /var/lib/prometheus/alertmanager";
  await host.sh(`
    useradd --system --home-dir /var/lib/prometheus --shell /usr/sbin/nologin prometheus
    install -d -o prometheus -g prometheus /var/lib/prometheus ${state}
    install -d /etc/prometheus
    echo 'ARGS=""' >/etc/default/prometheus
    # Without a network there is no address for a cluster of them.
    echo 'ARGS="--cluster.listen-address="' >/etc/default/prometheus-alertmanager
    echo 'global: {}' >/etc/prometheus/prometheus.yml
    printf 'route: { receiver: none }\\nreceivers: [{ name: none }]\\n' >/etc/prometheus/alertmanager.yml
    systemctl daemon-reload
    systemctl start prometheus prometheus-alertmanager`);
  const patiently = "curl --silent --fail --output /dev/null --retry 100 --retry-delay 1 --retry-all-errors";
  for (const port of [9090, 9093]) await host.sh(`${patiently} http://127.0.0.1:${port}/-/ready`);
}

/** Three members at addresses of their own on loopback, known as the control-plane hosts of the page. */
async function startEtcd(): Promise<void> {
  const peers = [1, 2, 3].map((number) => `etcd${number}=http://127.0.0.${number}:2380`).join(",");
  for (const number of [1, 2, 3]) {
    const at = `http://127.0.0.${number}`;
    const urls = `--listen-client-urls ${at}:2379 --advertise-client-urls ${at}:2379 --listen-metrics-urls ${at}:2381`;
    const peer = `--listen-peer-urls ${at}:2380 --initial-advertise-peer-urls ${at}:2380 --initial-cluster ${peers}`;
    const start = `/usr/local/bin/etcd --name etcd${number} --data-dir /var/lib/etcd${number} ${urls} ${peer}`;
    await host.write(`/etc/systemd/system/etcd${number}.service`, `[Service]\nType=notify\nExecStart=${start}\n`);
    await host.sh(`echo 127.0.0.${number} cp${number} >>/etc/hosts`);
  }
  await host.sh("systemctl daemon-reload; systemctl start etcd1 etcd2 etcd3");
}

async function startDaemon(): Promise<void> {
  const config = {
    cluster: { name: "prod", endpoints: [1, 2, 3].map((number) => `http://127.0.0.${number}:2379`) },
    repository: { store: { directory: "/var/backups/etcd" } },
    schedules: [{ name: "often", cron: "*/10 * * * * *" }],
  };
  await host.write("/etc/etcd-lifeboat/config.yaml", JSON.stringify(config));
  const run = "/usr/local/bin/node /srv/checkout/dist/etcd-lifeboat.cjs run --config /etc/etcd-lifeboat/config.yaml";
  await host.sh(`install -d -m 700 /var/backups/etcd; systemd-run --quiet --unit=lifeboat ${run}`);
}

/** Writes down what it is sent. */
async function startPager(): Promise<void> {
  const pager = `require("node:http").createServer((request, response) => {
    request.pipe(require("node:fs").createWriteStream("/srv/paged", { flags: "a" }));
    request.on("end", () => response.end());
  }).listen(8080, "127.0.0.1");`;
  await host.write("/srv/pager.cjs", pager);
  await host.sh("systemd-run --quiet --unit=pager /usr/local/bin/node /srv/pager.cjs");
}

test("its files and commands, as they stand there, lead from the daemon to rules that are judged and a pager that rings", async () => {
  expect(files.map(([, path]) => path)).toEqual(["/etc/prometheus/prometheus.yml", "/etc/prometheus/alertmanager.yml"]);
  for (const [, path = "", text = ""] of files) await host.write(path, text);
  const said = new Map<string, string>();
  for (const { code } of commands) {
    // Whoever reads this waits for a scrape, too.
    await expect.poll(async () => await missing(code, said), patient).toEqual([]);
  }
  const all = [...said.values()].join("\n");
  expect(all).toContain('lifeboat_backups_total{cluster="prod"');
  expect(all).toContain(`SUCCESS: ${ruleFiles.length} rule files found`);
  expect(all).toMatch(/Trial .* a trial; nothing is wrong/);
  await expect.poll(async () => (await host.run("cat /srv/paged")).stdout, patient).toContain('"alertname":"Trial"');
});

/** Runs a block and tells what of it is not there yet. */
async function missing(code: string, said: Map<string, string>): Promise<readonly string[]> {
  const output = await host.sh(`cd /srv/checkout\n${code}`);
  said.set(code, output);
  if (!code.includes("promtool query")) return [];
  const targets = ["127.0.0.1:9979", "127.0.0.1:9090", "cp1:2381", "cp2:2381", "cp3:2381"];
  return [
    ...targets.filter((target) => !new RegExp(`^up\\{.*instance="${target}".* => 1 @`, "m").test(output)),
    ...(/^\{\} => 0 @/m.test(output) ? [] : ["rules without failures"]),
    ...(/^prometheus_notifications_alertmanagers_discovered\{.*\} => 1 @/m.test(output) ? [] : ["Alertmanager"]),
  ];
}

test("Prometheus has all the rules, and Grafana's files lie where its provisioning looks", async () => {
  const answer = await host.sh("curl --silent http://127.0.0.1:9090/api/v1/rules");
  const { data } = JSON.parse(answer) as { data: { groups: readonly { rules: readonly { health: string }[] }[] } };
  expect(data.groups.flatMap(({ rules }) => rules).length).toBeGreaterThan(30);
  const copied = await host.sh(
    "cat /etc/grafana/provisioning/dashboards/*.yaml; ls /var/lib/grafana/dashboards/etcd-lifeboat",
  );
  expect(copied).toContain("path: /var/lib/grafana/dashboards/etcd-lifeboat");
  expect(copied).toContain("etcd-lifeboat-backups.json\netcd-lifeboat-etcd.json");
});
