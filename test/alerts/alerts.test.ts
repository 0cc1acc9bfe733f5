import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, copyFile, mkdir, rm, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { startDaemon, type Daemon, type PageAccess } from "../cluster/daemon.ts";
import { startCluster, type TestCluster } from "../cluster/harness.ts";
import { releasePorts, reservePorts } from "../cluster/ports.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { openSite, type RunOptions, type Site } from "../cluster/site.ts";
import { createAuthority, type Authority } from "../cluster/tls.ts";
import { dashboardQueries, variableQueries, withChosen } from "../grafana/queries.ts";
import { labelsIn, metricsIn } from "../telemetry/queries.ts";
import type { RuleFile } from "./hurry.ts";
import { ruleFiles, startMonitoring, type Labels, type Monitoring } from "./monitoring.ts";
import { namesOnPage } from "./page.ts";

/**
 * A daemon with a cluster of three and an S3 server, watched by the real Prometheus with the committed rules, sixty times as fast. What it needs is broken and
 * mended, one after the other; Alertmanager delivers to a receiver of ours. The tests go on from one another, and each mends what it broke.
 */

const times = 60;
const patient = { timeout: 150_000, interval: 250 };
const quotaBytes = 16 * 1024 ** 2;
const spoolBytes = 64 * 1024 ** 2;

let cluster: TestCluster;
let s3: TestS3;
let site: Site;
let port: number;
let authority: Authority;
let access: PageAccess;
let daemon: Daemon;
let monitoring: Monitoring;

beforeAll(async () => {
  [cluster, s3] = await Promise.all([
    startCluster({ members: 3, tls: true, flags: [`--quota-backend-bytes=${quotaBytes}`] }),
    startS3(),
  ]);
  await s3.createBucket("backups");
  await cluster.fill({ keys: 500, valueBytes: 500 });
  const { ca, cert, key } = cluster.tls ?? { ca: "", cert: "", key: "" };
  site = await openSite({
    cluster: { name: "prod", endpoints: [...cluster.endpoints], tls: { ca, cert, key } },
    store: { s3: { bucket: "backups", region: s3.region, endpoint: s3.url } },
    schedules: [{ name: "often", cron: "*/10 * * * * *" }],
  });
  site.secrets.add(s3.secretKey);
  [port = 0] = await reservePorts(1);
  await mkdir(join(site.directory, "offsite"));
  authority = await createAuthority(join(site.directory, "pages"), "pages");
  access = { ca: authority.ca, token: join(site.directory, "token") };
  await guardPages();
  daemon = await start();
  monitoring = await startMonitoring({
    times,
    jobs: {
      "etcd-lifeboat": {
        targets: [`127.0.0.1:${port}`],
        // As config/prometheus/examples/prometheus.yaml has it.
        how: {
          scheme: "https",
          tls_config: { ca_file: access.ca },
          authorization: { credentials_file: access.token },
        },
      },
      "etcd-prod": { targets: cluster.members.map(({ metricsUrl }) => new URL(metricsUrl).host) },
    },
  });
});

afterAll(async () => {
  await monitoring?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  if (port !== undefined) releasePorts([port]);
  await site?.[Symbol.asyncDispose]();
  await s3?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

const pageFiles = () => ({ cert: join(site.directory, "page.crt"), key: join(site.directory, "page.key") });

/** Gives the pages a new certificate and a new token. */
async function guardPages(): Promise<void> {
  const issued = await authority.issue({ commonName: "pages", usage: "server" });
  const token = randomBytes(24).toString("hex");
  site.secrets.add(token);
  await copyFile(issued.cert, pageFiles().cert);
  await copyFile(issued.key, pageFiles().key);
  await chmod(pageFiles().key, 0o600);
  await writeFile(access.token, `${token}\n`, { mode: 0o600 });
}

/** The daemon, whose spool is a small file system in memory that it alone sees, and that is gone with it. */
async function start(): Promise<Daemon> {
  const mount = `mkdir -p "$0" && mount -t tmpfs -o size=${spoolBytes},mode=700 tmpfs "$0" && exec "$@"`;
  return await startDaemon(site, {
    unbounded: true,
    access,
    wrap: ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, site.spool],
    ...how(),
  });
}

const how = (): RunOptions => ({
  env: { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey },
  change: (config) => {
    const { cert, key } = pageFiles();
    config.http = { listen: `127.0.0.1:${port}`, tls: { cert, key: { file: key } }, token: { file: access.token } };
    config.repository.copies = [{ name: "offsite", store: { directory: join(site.directory, "offsite") } }];
    config.retention = { last: 50, expire: true };
  },
});

/** The fingerprint of the certificate that a new connection is shown. */
async function servedCertificate(): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port, ca: readFileSync(access.ca) });
  await once(socket, "secureConnect");
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

/** A file in the daemon's spool that takes its room. */
const ballast = (): string => `/proc/${daemon.pid}/root${site.spool}/ballast`;

/** The file that the daemon reads. */
function configuration(): { readonly path: string; readonly text: string } {
  const path =
    readFileSync(`/proc/${daemon.pid}/cmdline`, "utf8")
      .split("\0")
      .find((word) => word.endsWith(".yaml")) ?? "";
  return { path, text: readFileSync(path, "utf8") };
}

/** Waits until the receiver heard that this fires, or that it does no more. */
async function hears(status: "firing" | "resolved", alertname: string, labels: Labels = {}): Promise<void> {
  const last = () =>
    `${alertname} ${JSON.stringify(labels)} ${monitoring.receiver.last(alertname, labels)?.status ?? "unheard of"}`;
  await expect.poll(last, patient).toBe(`${alertname} ${JSON.stringify(labels)} ${status}`);
}

interface Expected {
  readonly alert: string;
  readonly labels: Labels;
}

async function expectFiring(expected: readonly Expected[]): Promise<void> {
  await Promise.all(expected.map(({ alert, labels }) => hears("firing", alert, labels)));
  for (const { alert, labels } of expected) {
    const waits = rules.some((rule) => rule.alert === alert && rule.for !== undefined);
    const was = `count_over_time(ALERTS{alertname="${alert}",alertstate="pending"}[30m])`;
    if (waits) expect(await monitoring.ask(was), `${alert} was pending`).not.toEqual([]);
    const told = monitoring.receiver.last(alert, labels);
    expect(told?.annotations["runbook_url"]).toBe(`https://docs.example.org/docs/runbooks/${alert}.md`);
    expect(told?.annotations["summary"]).toMatch(/\S/);
    expect(told?.annotations["description"]).toMatch(/\S/);
    expect(JSON.stringify(told?.annotations)).not.toMatch(/no value|%!|error calling/);
    for (const value of Object.values(labels)) {
      if (!["critical", "warning"].includes(value)) expect(told?.annotations["description"]).toContain(value);
    }
  }
}

async function expectResolved(expected: readonly Expected[]): Promise<void> {
  await Promise.all(expected.map(({ alert, labels }) => hears("resolved", alert, labels)));
}

const rules = ruleFiles.flatMap((path) =>
  (parse(readFileSync(path, "utf8")) as RuleFile).groups.flatMap((group) => group.rules),
);
const prod = { cluster: "prod" };

const overdueAlerts = [
  { alert: "LifeboatBackupOverdue", labels: { ...prod, schedule: "often", severity: "critical" } },
  // It looks back for hours, and ends as much later: its end is not waited for.
  { alert: "LifeboatBackupFailing", labels: { ...prod, schedule: "often", severity: "warning" } },
];
const storeAlerts = [{ alert: "LifeboatStoreUnreachable", labels: { ...prod, severity: "critical" } }];
const memberAlerts = [
  { alert: "LifeboatEtcdMemberDown", labels: { ...prod, member: "etcd3", severity: "warning" } },
  { alert: "LifeboatEtcdNoFailureTolerated", labels: { ...prod, severity: "critical" } },
  { alert: "EtcdServerDown", labels: { job: "etcd-prod", severity: "warning" } },
  { alert: "EtcdServerNoFailureTolerated", labels: { job: "etcd-prod", severity: "critical" } },
];
const quorumAlerts = [
  { alert: "LifeboatEtcdQuorumLost", labels: { ...prod, severity: "critical" } },
  { alert: "EtcdServerQuorumLost", labels: { job: "etcd-prod", severity: "critical" } },
  { alert: "EtcdServerNoLeader", labels: { job: "etcd-prod", severity: "critical" } },
];
const spoolAlerts = [
  { alert: "LifeboatSpoolTooSmall", labels: { ...prod, severity: "critical" } },
  { alert: "LifeboatSpoolFillsUp", labels: { ...prod, severity: "warning" } },
];
const quotaAlerts = [
  { alert: "LifeboatEtcdNoSpace", labels: { ...prod, severity: "critical" } },
  { alert: "LifeboatEtcdQuotaNear", labels: { ...prod, severity: "critical" } },
  { alert: "EtcdServerQuotaNear", labels: { job: "etcd-prod", severity: "critical" } },
];
const configAlerts = [{ alert: "LifeboatConfigReloadFailed", labels: { ...prod, severity: "warning" } }];
const daemonAlerts = [
  { alert: "LifeboatDaemonDown", labels: { severity: "warning" } },
  { alert: "LifeboatDaemonAbsent", labels: { ...prod, severity: "critical" } },
];
const later = [memberAlerts, quorumAlerts, spoolAlerts, quotaAlerts, configAlerts, daemonAlerts].flat();
const namesOf = (some: readonly Expected[]): readonly string[] => some.map(({ alert }) => alert);

describe("while all is well", () => {
  test("every target is scraped, every rule can be judged, and none of the alerts below fires", async () => {
    await daemon.next("backup.proven");
    await expect.poll(() => monitoring.down(), patient).toEqual([]);
    await expect
      .poll(async () => (await monitoring.rules()).filter(({ health }) => health !== "ok"), patient)
      .toEqual([]);
    expect((await monitoring.rules()).length).toBe(rules.length);
    expect(
      (await monitoring.firing()).filter((name) =>
        namesOf([...overdueAlerts, ...storeAlerts, ...later]).includes(name),
      ),
    ).toEqual([]);
  });

  test("every panel of the dashboards shows something, or what cannot be known so soon or on this machine", async () => {
    const page = (await daemon.page("/metrics")).body;
    const panels = dashboardQueries.filter(({ kind, expr }) => kind === "panel" && !mayBeUnknown(page, expr));
    expect(panels.length).toBeGreaterThan(30);
    const empty = async (): Promise<readonly string[]> => {
      // An etcd to which nobody writes has no latency of writes.
      await cluster.put("beat", String(Date.now()));
      const asked = panels.map(async ({ expr, title }) => ((await shown(expr)).length > 0 ? [] : [title]));
      return (await Promise.all(asked)).flat();
    };
    await expect.poll(empty, patient).toEqual([]);
  });

  test("the pages of daemon and etcd have every metric and label that rules and dashboards ask for", async () => {
    const etcdPage = await (await fetch(cluster.members[0]?.metricsUrl ?? "")).text();
    const names = namesOnPage(`${(await daemon.page("/metrics")).body}\n${etcdPage}`);
    const asked = [...rules.map(({ expr }) => expr), ...dashboardQueries.map(({ expr }) => expr)];
    const metrics = [...new Set(asked.flatMap(metricsIn))];
    expect(metrics.filter((name) => !names.has(name))).toEqual([]);
    // What Prometheus puts there, and a site's own.
    const scraped = ["job", "instance", "cluster", "alertname"];
    const labels = new Set([...scraped, ...metrics.flatMap((name) => [...(names.get(name) ?? [])])]);
    const unknown = asked.flatMap(labelsIn).filter((label) => !labels.has(label));
    expect(unknown).toEqual([]);
  });

  test("a new certificate and token of the pages are served after a reload, and Prometheus goes on", async () => {
    const before = await servedCertificate();
    const oldToken = readFileSync(access.token, "utf8").trim();
    await guardPages();
    daemon.skip();
    daemon.signal("SIGHUP");
    await daemon.next("config.applied");
    expect(await servedCertificate()).not.toBe(before);
    expect((await daemon.page("/metrics", oldToken)).status).toBe(401);
    expect((await daemon.page("/metrics")).status).toBe(200);
    const purpose = 'purpose="listener"';
    const notAfter = await daemon.metric("lifeboat_tls_certificate_not_after_timestamp_seconds", purpose);
    expect(notAfter).toBeGreaterThan(Date.now() / 1000);
    const up = 'up{job="etcd-lifeboat"}';
    const scrapedSince = `${up} == 1 and timestamp(${up}) > ${Date.now() / 1000}`;
    await expect.poll(async () => (await monitoring.ask(scrapedSince)).length, patient).toBe(1);
  });

  test("cluster and members can be chosen", async () => {
    const chosen = await Promise.all(
      variableQueries.map(async ({ metric, label }) => [label, await monitoring.labelValues(label, chosenIn(metric))]),
    );
    expect(chosen).toEqual(
      variableQueries.map(({ label }) => [
        label,
        label === "cluster" ? ["prod"] : cluster.members.map(({ name }) => name),
      ]),
    );
  });
});

/**
 * By its own words on the page a metric may be absent: days are needed to foresee something, and not every kernel tells of pressure. On the page of
 * test/grafana, which has everything, such a panel returns data.
 */
function mayBeUnknown(page: string, expr: string): boolean {
  const helps = metricsIn(expr).map(
    (name) => page.split("\n").find((line) => line.startsWith(`# HELP ${name} `)) ?? "",
  );
  return helps.some((help) => /absent: .*(too far ahead to say|the kernel does not say)/.test(help));
}

const chosenIn = (expr: string): string => withChosen(expr, { cluster: "prod", member: ".*", interval: "30s" });
const shown = async (expr: string): Promise<readonly Labels[]> => await monitoring.ask(chosenIn(expr));

test("a store, members, disks and a configuration that break are told of, each by its own alerts, and that they are mended", async () => {
  const [, second, third] = cluster.members;
  const { path, text } = configuration();
  try {
    // Between two backups: one that is uploading would try again for ten minutes before it gives up, at any speed of the rules.
    daemon.skip();
    await daemon.next("schedule.planned");
    await s3.stop("SIGKILL");
    await expectFiring(overdueAlerts);
    expect(namesOf(later).filter((name) => monitoring.receiver.last(name) !== undefined)).toEqual([]);

    await fillSpool();
    await third?.stop("SIGKILL");
    await expectFiring(memberAlerts);
    await second?.stop("SIGKILL");
    await expectFiring(quorumAlerts);
    await Promise.all([second?.start(), third?.start()]);
    await expectResolved([...memberAlerts, ...quorumAlerts]);

    const fills = cluster.fill({ keys: 5000, valueBytes: 16_000, prefix: "ballast/" });
    await expect(fills).rejects.toThrow(/space exceeded/);
    await writeFile(path, "shedules: []\n");
    daemon.signal("SIGHUP");
    await expectFiring([...quotaAlerts, ...configAlerts, ...spoolAlerts, ...storeAlerts]);
  } finally {
    await writeFile(path, text);
    daemon.signal("SIGHUP");
    if (!s3.running) await s3.start();
    for (const member of [second, third]) if (member?.running === false) await member.start();
    await rm(ballast(), { force: true });
    await makeRoom();
  }
  await expectResolved([...quotaAlerts, ...configAlerts, ...spoolAlerts, ...storeAlerts]);
  await hears("resolved", "LifeboatBackupOverdue");
});

test("a daemon that is gone is told of, and that it is back; the dashboards mark all that happened", async () => {
  expect((await site.run(["pause", "--reason", "a test"], how())).status).toBe(0);
  try {
    await daemon.stop("SIGKILL");
    try {
      await expectFiring(daemonAlerts);
    } finally {
      daemon = await start();
    }
    await expectResolved(daemonAlerts);
    const marks = dashboardQueries.filter(({ kind }) => kind === "annotation");
    const unmarked = async (): Promise<readonly string[]> => {
      const asked = marks.map(
        async ({ expr, title }) => [title, await shown(`count_over_time((${expr})[30m:1s])`)] as const,
      );
      return (await Promise.all(asked)).filter(([, found]) => found.length === 0).map(([title]) => title);
    };
    await expect.poll(unmarked, patient).toEqual([]);
  } finally {
    expect((await site.run(["resume"], how())).status).toBe(0);
  }
});

/** Leaves less room than any database needs. */
async function fillSpool(): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(ballast()));
  await writeFile(ballast(), Buffer.alloc(Math.max(0, bavail * bsize - 16_384)), { flag: "a" });
}

/** As docs/runbooks/LifeboatEtcdNoSpace.md tells. */
async function makeRoom(): Promise<void> {
  await cluster.etcdctl(["del", "--prefix", "ballast/"]);
  await cluster.etcdctl(["compact", String(await cluster.revision())]);
  for (const endpoint of cluster.endpoints) await cluster.etcdctl(["defrag"], { endpoints: [endpoint] });
  await cluster.etcdctl(["alarm", "disarm"]);
}
