import { once } from "node:events";
import { copyFile, readdir, rename, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFaultProxy } from "../store/fault-proxy.ts";
import { checkMetrics } from "../telemetry/promtool.ts";
import { startCommand } from "./command.ts";
import { startDaemon, type Daemon } from "./daemon.ts";
import { startCluster, type TestCluster, type TestMember } from "./harness.ts";
import { startS3, type TestS3 } from "./s3.ts";
import { openSite, type ConfigInput, type RunOptions, type Site } from "./site.ts";
import { startTcpProxy } from "./tcp-proxy.ts";

/** The daemon as an SRE leaves it alone: three members with TLS, an S3 server, and what happens to them. */

const everyTwoSeconds = "*/2 * * * * *";
/** Has one past slot and none that comes while a test runs. */
const newYear = "0 0 0 1 1 *";

let cluster: TestCluster;
let s3: TestS3;

beforeAll(async () => {
  [cluster, s3] = await Promise.all([startCluster({ members: 3, tls: true }), startS3()]);
  await s3.createBucket("backups");
  await cluster.fill({ keys: 1000, valueBytes: 1000 });
});

afterAll(async () => {
  await Promise.all([cluster[Symbol.asyncDispose](), s3[Symbol.asyncDispose]()]);
});

let sites = 0;

/** A site whose repository is a prefix of its own in the bucket, also at a test's second try. */
async function openS3Site(name: string, cron = everyTwoSeconds, endpoint = s3.url): Promise<Site> {
  const prefix = `${name}-${(sites += 1)}`;
  const { tls } = cluster;
  const site = await openSite({
    cluster: {
      name: "prod",
      endpoints: [...cluster.endpoints],
      ...(tls === undefined ? {} : { tls: { ca: tls.ca, cert: tls.cert, key: tls.key } }),
    },
    store: { s3: { bucket: "backups", prefix, endpoint, region: s3.region, pathStyle: true } },
    schedules: [{ name: "often", cron }],
  });
  site.secrets.add(s3.secretKey);
  return site;
}

const s3Env = (): Record<string, string> => ({ AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey });
const start = (site: Site, options: RunOptions = {}): Promise<Daemon> =>
  startDaemon(site, { env: s3Env(), ...options });

interface Listed {
  readonly backups: readonly {
    readonly backup: string;
    readonly schedule: string | null;
    readonly committedAt: string;
    readonly quorum: boolean;
  }[];
}

async function leaderOf(of: TestCluster): Promise<TestMember> {
  for (const member of of.members) {
    const [answer] = JSON.parse(
      await of.etcdctl(["endpoint", "status", "--write-out=json"], { endpoints: [member.clientUrl] }),
    ) as [{ readonly Status: { readonly leader: bigint; readonly header: { readonly member_id: bigint } } }];
    // Both are mangled alike by JSON, so that equal stays equal.
    if (answer.Status.leader === answer.Status.header.member_id) return member;
  }
  throw new Error("no member leads");
}

async function moveLeader(to: TestMember): Promise<void> {
  const list = await cluster.etcdctl(["member", "list"]);
  const id =
    list
      .split("\n")
      .find((line) => line.includes(`, ${to.name}, `))
      ?.split(",")[0] ?? "";
  await cluster.etcdctl(["move-leader", id], { endpoints: cluster.endpoints });
}

describe("a schedule", { timeout: 180_000 }, () => {
  test("starts with a backup at once, goes on by its slots, shows clean metrics, and forgets nothing over a restart, also with its state lost", async () => {
    await using site = await openS3Site("schedule");
    {
      await using daemon = await start(site);
      const first = await daemon.next("backup.committed");
      expect(first).toMatchObject({ trigger: "schedule", schedule: "often", quorum: true });
      await daemon.next("backup.committed");
      await daemon.next("backup.committed");
      expect((await daemon.page("/livez")).status).toBe(200);
      await expect.poll(() => daemon.page("/readyz?verbose")).toMatchObject({ status: 200 });
      const { body } = await daemon.page("/metrics");
      expect(checkMetrics(body)).toBe("");
      expect(body).not.toContain(s3.secretKey);
      expect(await daemon.metric("lifeboat_etcd_has_quorum")).toBe(1);
      expect(
        await daemon.metric("lifeboat_backups_total", 'schedule="often"', 'result="success"'),
      ).toBeGreaterThanOrEqual(3);
      expect((await daemon.page("/")).body).toContain("often");
      const end = await daemon.stop();
      expect(end).toMatchObject({ status: 0, stdout: "" });
    }
    const { backups } = await site.json<Listed>(["list"], { env: s3Env() });
    expect(backups.length).toBeGreaterThanOrEqual(3);
    for (const { backup } of backups) expect(backup).toMatch(/^\d{8}T\d{5}[02468]Z\.slot\.often$/);
    expect(new Set(backups.map(({ backup }) => backup)).size).toBe(backups.length);
    expect((await site.run(["verify", "--level", "bytes"], { env: s3Env() })).status).toBe(0);

    // A schedule that is not due now shows what the repository says; whatever was kept here was lost meanwhile.
    await rm(site.spool, { recursive: true });
    const quiet = {
      change: (config: ConfigInput) => (config.schedules = [{ name: "often", cron: newYear }]),
    } as RunOptions;
    await using again = await start(site, quiet);
    const read = await again.next("schedule.read");
    const newest = backups.at(-1);
    expect(read).toMatchObject({ schedule: "often", backups: backups.length });
    expect(await again.metric("lifeboat_backup_last_success_timestamp_seconds", 'schedule="often"')).toBe(
      Date.parse(newest?.committedAt ?? "") / 1000,
    );
    await again.next("schedule.planned");
    expect(again.lines.filter(({ event }) => event === "backup.started")).toEqual([]);
  });

  test("serves a slot late when the store was away, and says so loudly meanwhile", async () => {
    await using site = await openS3Site("late", "*/10 * * * * *");
    await using daemon = await start(site);
    await daemon.next("backup.committed");
    await s3.stop();
    try {
      const failed = await daemon.next("backup.failed");
      expect(failed).toMatchObject({ level: "error", code: "store-unreachable", schedule: "often" });
      expect(await daemon.metric("lifeboat_backup_last_status", 'schedule="often"')).toBe(0);
      expect((await daemon.page("/livez")).status).toBe(200);
      expect((await daemon.page("/")).body).toContain(s3.url);
      const one = await site.run(["backup"], { env: s3Env() });
      expect(one).toMatchObject({ status: 75, stderr: expect.stringContaining(s3.url) });
      const slot = await daemon.next("backup.started");
      await s3.start();
      const served = await daemon.next("backup.committed", undefined, 60_000);
      expect(Number(served["slotMs"])).toBeGreaterThanOrEqual(Number(slot["slotMs"]));
      expect(await daemon.metric("lifeboat_backup_last_status", 'schedule="often"')).toBe(1);
    } finally {
      if (!s3.running) await s3.start();
    }
    expect((await site.run(["verify", "--level", "bytes"], { env: s3Env() })).status).toBe(0);
  });

  test("has one backup for the slot that three daemons found when they started together", async () => {
    await using site = await openS3Site("together", newYear);
    const daemons = await Promise.all([start(site), start(site), start(site)]);
    try {
      const ends = await Promise.all(
        daemons.map(async (daemon) => {
          // One that is slow to start finds the slot served, and has nothing but the next one to plan.
          const { event } = await daemon.next(["backup.committed", "backup.superseded", "schedule.planned"]);
          return event === "backup.committed";
        }),
      );
      expect(ends.filter(Boolean)).toHaveLength(1);
      for (const daemon of daemons) {
        expect(daemon.lines.filter(({ level }) => level === "error")).toEqual([]);
        // One that was superseded looks again when the winner committed.
        const labels = ['schedule="often"'];
        await daemon.untilMetric("lifeboat_backup_last_success_timestamp_seconds", labels, (value = 0) => value > 0);
      }
    } finally {
      await Promise.all(daemons.map((daemon) => daemon.stop()));
    }
    const { backups } = await site.json<Listed>(["list"], { env: s3Env() });
    expect(backups).toHaveLength(1);
  });

  test("that is missing is refused before anything is touched", async () => {
    await using site = await openS3Site("none");
    const refused = await site.run(["run"], { env: s3Env(), change: (config) => (config.schedules = []) });
    expect(refused).toMatchObject({
      status: 78,
      stdout: "",
      stderr: expect.stringMatching(/has no schedules[^]*schedules: \[/),
    });
  });
});

describe("a signal", { timeout: 180_000 }, () => {
  test("stops the daemon at once and without failure, also in the middle of an upload that stalls", async () => {
    await using proxy = await startFaultProxy(s3.url);
    const stalled = proxy.add({
      method: "PUT",
      path: /snapshots/,
      times: 100,
      mischief: { kind: "stall-request", at: 1 },
    });
    const stalledPart = proxy.add({
      method: "POST",
      path: /snapshots/,
      times: 100,
      mischief: { kind: "stall-request", at: 0 },
    });
    await using site = await openS3Site("stalled", newYear, proxy.endpoint);
    await using daemon = await start(site);
    while (stalled() + stalledPart() === 0) await sleep(20);
    const end = await daemon.stop();
    expect(end.status).toBe(0);
    // Much less than it would wait for the store.
    expect(end.tookMs).toBeLessThan(30_000);
    expect(daemon.lines.filter(({ event }) => event === "backup.committed")).toEqual([]);
    expect(await site.run(["list"], { env: s3Env() })).toMatchObject({ status: 10, stdout: "" });
  });

  test("that comes when the data is stored lets the backup be committed, and ends the daemon without failure", async () => {
    await using proxy = await startFaultProxy(s3.url);
    await using site = await openS3Site("late", newYear, proxy.endpoint);
    const daemons: Daemon[] = [];
    // The note follows the data, and the manifest the note.
    const fired = proxy.add({
      method: "PUT",
      path: /RESTORE\.md/,
      mischief: { kind: "delay", ms: 200 },
      async meanwhile() {
        await expect.poll(() => daemons.length).toBe(1);
        daemons[0]?.signal("SIGTERM");
      },
    });
    await using daemon = await start(site);
    daemons.push(daemon);
    const stopping = await daemon.next("daemon.stopping");
    const committed = await daemon.next("backup.committed");
    expect([stopping["reason"], fired()]).toEqual(["signal", 1]);
    expect(await daemon.ended).toMatchObject({ status: 0 });
    expect(daemon.lines.filter(({ event }) => event === "backup.failed")).toEqual([]);
    const { backups } = await site.json<Listed>(["list"], { env: s3Env() });
    expect(backups.map(({ backup }) => backup)).toEqual([committed["backup"]]);
    expect((await site.run(["verify", "--level", "structure"], { env: s3Env() })).status).toBe(0);
  });

  test("that comes twice ends it at once", async () => {
    await using proxy = await startFaultProxy(s3.url);
    const stalled = proxy.add({
      method: "PUT",
      path: /snapshots/,
      times: 100,
      mischief: { kind: "stall-request", at: 1 },
    });
    await using site = await openS3Site("twice", newYear, proxy.endpoint);
    await using daemon = await start(site);
    while (stalled() === 0) await sleep(20);
    daemon.signal("SIGINT");
    const end = await daemon.stop("SIGTERM");
    expect(end.status).toBe(130);
  });
});

describe("a backup on demand", { timeout: 180_000 }, () => {
  test("that is interrupted ends with 130 at once and leaves neither a backup nor a spool", async () => {
    await using proxy = await startFaultProxy(s3.url);
    const mischief = { kind: "stall-request", at: 1 } as const;
    const stalled = proxy.add({ method: "PUT", path: /snapshots/, times: 100, mischief });
    await using site = await openS3Site("interrupted", newYear, proxy.endpoint);
    const { child, ended } = startCommand(["backup", ...(await site.configure())], { env: s3Env() });
    while (stalled() === 0) await sleep(20);
    const startedMs = performance.now();
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ status: 130, stdout: "", stderr: "error: interrupted by SIGINT\n" });
    expect(performance.now() - startedMs).toBeLessThan(30_000);
    expect(await readdir(site.spool)).toEqual([]);
    expect((await site.run(["list"], { env: s3Env() })).status).toBe(10);
  });

  test("five times at once makes five backups of one lineage", async () => {
    await using site = await openS3Site("five");
    const made = await Promise.all(
      Array.from({ length: 5 }, () => site.json<{ backup: string; lineage: string }>(["backup"], { env: s3Env() })),
    );
    expect(new Set(made.map(({ lineage }) => lineage)).size).toBe(1);
    const { backups } = await site.json<Listed>(["list"], { env: s3Env() });
    expect(backups.map(({ backup }) => backup).toSorted()).toEqual(made.map(({ backup }) => backup).toSorted());
    expect((await site.run(["verify", "--level", "bytes"], { env: s3Env() })).status).toBe(0);
  });
});

describe("pages", { timeout: 180_000 }, () => {
  test("on a port that is taken end the daemon with the name of the setting", async () => {
    const taken = createServer();
    taken.listen(0, "127.0.0.1");
    await once(taken, "listening");
    const listen = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    await using site = await openS3Site("taken", newYear);
    const ended = await site.run(["run"], { env: s3Env(), change: (config) => (config.http = { listen }) });
    taken.close();
    expect(ended).toMatchObject({
      status: 78,
      stderr: expect.stringMatching(new RegExp(`http\\.listen.*${listen}[^]*hint: `)),
    });
  });
});

describe("members", { timeout: 180_000 }, () => {
  test("that fail in the middle of their snapshot are followed by the next one", async () => {
    const leader = await leaderOf(cluster);
    const followers = cluster.members.filter((member) => member !== leader);
    const [first, second] = followers;
    if (first === undefined || second === undefined) throw new Error("two followers were expected");
    await using proxy = await startTcpProxy(first.clientUrl);
    proxy.cutAfterBytes = 200_000;
    await using site = await openS3Site("next-source");
    const ended = await site.run(["backup", "--json"], {
      env: s3Env(),
      change: (config) => (config.cluster.members = { [first.name]: { url: `https://127.0.0.1:${proxy.port}` } }),
    });
    expect(proxy.cuts).toBeGreaterThan(0);
    expect(ended).toMatchObject({ status: 0, stderr: expect.stringContaining(`${first.name} failed as a source`) });
    expect(JSON.parse(ended.stdout)).toMatchObject({ member: second.name });
  });

  test("come, go and lead in turn: backups go on, without quorum they say so, without any member they fail loudly and recover", async () => {
    await using site = await openS3Site("members");
    await using daemon = await start(site);
    const first = await daemon.next("backup.committed");
    const source = cluster.members.find(({ name }) => name === first["member"]);
    if (source === undefined) throw new Error(`${String(first["member"])} is no member`);

    // The leader changes: the source is a follower, whoever that is.
    const leader = await leaderOf(cluster);
    expect(source.name).not.toBe(leader.name);
    await moveLeader(source);
    daemon.skip();
    await daemon.next("backup.started");
    const chosen = await daemon.next("source.chosen");
    expect(chosen["member"]).not.toBe(source.name);
    expect(chosen["reason"]).toMatch(/follower/);
    await daemon.next("backup.committed");

    // The source is killed: another member takes its place.
    const victim = cluster.members.find(({ name }) => name === chosen["member"]);
    await victim?.stop("SIGKILL");
    daemon.skip();
    await daemon.next("backup.started");
    const next = await daemon.next("backup.committed");
    expect(next["member"]).not.toBe(victim?.name);

    // A second one is killed: no quorum, and everything says so.
    const survivor = cluster.members.find(({ name, running }) => running && name !== source.name);
    await source.stop("SIGKILL");
    const alone = await daemon.next("backup.committed", ({ quorum }) => quorum === false, 60_000);
    expect(alone).toMatchObject({ member: survivor?.name, level: "warn" });
    const shown = await site.json(["show", String(alone["backup"])], { env: s3Env() });
    expect(shown).toMatchObject({ live: { quorum: false }, source: { reason: expect.stringContaining("no quorum") } });
    const status = await site.run(["status"], { env: s3Env() });
    expect(status).toMatchObject({ status: 0, stdout: expect.stringContaining("NO QUORUM") });
    await daemon.untilMetric("lifeboat_etcd_has_quorum", [], (value) => value === 0);
    for (const dead of [victim?.name, source.name]) {
      expect(await daemon.metric("lifeboat_etcd_up", `member="${dead}"`)).toBe(0);
    }

    // The last one is killed: loud.
    await survivor?.stop("SIGKILL");
    const failed = await daemon.next("backup.failed", undefined, 60_000);
    expect(failed).toMatchObject({ level: "error", code: expect.stringMatching(/etcd-unreachable|no-source/) });
    await daemon.untilMetric("lifeboat_cluster_observed", [], (value) => value === 0);
    expect(await daemon.metric("lifeboat_backup_last_status", 'schedule="often"')).toBe(0);
    expect((await daemon.page("/readyz")).status).toBe(503);
    expect((await daemon.page("/livez")).status).toBe(200);

    // They come back, and so do backups, by the same daemon.
    await Promise.all(cluster.members.map((member) => member.start()));
    daemon.skip();
    await daemon.next("backup.committed", ({ quorum }) => quorum === true, 60_000);
    await daemon.untilMetric("lifeboat_etcd_has_quorum", [], (value) => value === 1);
    expect((await daemon.stop()).status).toBe(0);
    expect((await site.run(["verify", "--level", "structure"], { env: s3Env() })).status).toBe(0);
  });

  test("that hang are passed over, named, and used again", async () => {
    await using site = await openS3Site("hanging");
    const usual = await site.json<{ member: string }>(["backup"], { env: s3Env() });
    const member = cluster.members.find(({ name }) => name === usual.member);
    member?.pause();
    try {
      // Together, since each waits for the member's silence to be long enough.
      const [other, status] = await Promise.all([
        site.json<{ member: string; quorum: boolean }>(["backup"], { env: s3Env() }),
        site.run(["status"], { env: s3Env() }),
      ]);
      expect(other.quorum).toBe(true);
      expect(other.member).not.toBe(usual.member);
      expect(status.stdout).toMatch(new RegExp(`finding: ${usual.member} does not answer`));
    } finally {
      member?.resume();
    }
  });

  test("see new certificate files without a restart of the daemon", async () => {
    const { tls } = cluster;
    if (tls === undefined) throw new Error("the cluster was to have TLS");
    await using site = await openS3Site("rotated");
    const place = (file: string): string => join(site.directory, file);
    const put = async (issued: { readonly cert: string; readonly key: string }): Promise<void> => {
      for (const [from, to] of [
        [issued.key, "client.key"],
        [issued.cert, "client.crt"],
      ] as const) {
        await copyFile(from, place(`${to}.new`));
        await rename(place(`${to}.new`), place(to));
      }
    };
    const notAfter = new Date(Date.now() + 25_000);
    await put(await tls.authority.issue({ commonName: "client", fileName: "brief", usage: "client", notAfter }));
    site.config.cluster.tls = { ca: tls.ca, cert: place("client.crt"), key: place("client.key") };
    await using daemon = await start(site);
    await daemon.next("backup.committed");
    const expired = await daemon.next("backup.failed", undefined, 90_000);
    expect(expired).toMatchObject({ code: "etcd-tls", message: expect.stringContaining(place("client.crt")) });
    expect(String(expired["message"])).toMatch(/expired/);
    await put(tls);
    daemon.skip();
    await daemon.next("backup.committed");
  });
});

describe("one address in front of several members", { timeout: 180_000 }, () => {
  test("is enough to find them all, and each is then addressed by itself", async () => {
    await using proxy = await startTcpProxy(...cluster.endpoints);
    await using site = await openS3Site("balanced");
    const change = (config: ConfigInput): void => void (config.cluster.endpoints = [`https://127.0.0.1:${proxy.port}`]);
    const status = await site.json<Status>(["status"], { env: s3Env(), change });
    expect(status.etcd.members.map(({ name, up, url }) => [name, up, url])).toEqual(
      expect.arrayContaining(cluster.members.map(({ name, clientUrl }) => [name, true, clientUrl])),
    );
    expect(status.etcd.findings).toEqual([]);
    expect((await site.run(["backup"], { env: s3Env(), change })).status).toBe(0);
    expect(proxy.connections).toBeGreaterThan(0);
  });

  test("that they all advertise is a finding that names them, and overrides mend it", async () => {
    await using proxy = await startTcpProxy();
    const shared = `http://127.0.0.1:${proxy.port}`;
    await using balanced = await startCluster({
      minor: "3.7",
      members: 3,
      flags: [`--advertise-client-urls=${shared}`],
    });
    await balanced.fill({ keys: 50, valueBytes: 100 });
    const [first] = balanced.members;
    proxy.targets = [new URL(first?.clientUrl ?? "").host];
    await using site = await openSite({ cluster: { name: "prod", endpoints: [shared] } });

    const status = await site.json<Status>(["status"]);
    for (const member of balanced.members.slice(1)) {
      const about = status.etcd.findings.filter((finding) => finding.member === member.name);
      expect(about).toContainEqual(
        expect.objectContaining({ about: "member-mismatch", message: expect.stringContaining(shared) }),
      );
    }
    expect((await site.run(["status"])).stdout).toMatch(
      new RegExp(`finding: ${shared}, advertised by etcd2, is answered by member [0-9a-f]+, not`),
    );
    expect(await site.json(["backup"])).toMatchObject({ member: first?.name, quorum: true });

    // Addresses of the members themselves are enough: each answer says whose it is.
    const direct = await site.json<Status>(["status"], {
      change: (config) => (config.cluster.endpoints = [...balanced.endpoints]),
    });
    expect(direct.etcd.members.filter(({ up }) => up)).toHaveLength(3);
    const mended = await site.json<Status>(["status"], {
      change: (config) => {
        config.cluster.members = Object.fromEntries(
          balanced.members.map(({ name, clientUrl }) => [name, { url: clientUrl }]),
        );
      },
    });
    expect(mended.etcd.findings).toEqual([]);
    expect(mended.etcd.members.filter(({ up }) => up)).toHaveLength(3);
  });
});

interface Status {
  readonly etcd: {
    readonly members: readonly { readonly name: string; readonly up: boolean; readonly url: string }[];
    readonly findings: readonly { readonly about: string; readonly member: string; readonly message: string }[];
  };
}

describe("another history", { timeout: 180_000 }, () => {
  test("under the same names and token is refused, also at a higher revision, until it is adopted", async () => {
    await using lost = await startCluster();
    await lost.fill({ keys: 1000, valueBytes: 100 });
    await using site = await openSite({
      cluster: { name: "prod", endpoints: [...lost.endpoints] },
      schedules: [{ name: "often", cron: everyTwoSeconds }],
    });
    const old = await site.json<{ lineage: string }>(["backup"]);
    await lost.destroy();
    await Promise.all(lost.members.map((member) => member.start()));
    await lost.put("a", "new beginning");
    const before = await site.objects();
    expect(await site.run(["backup"])).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/went back[^]*etcd-lifeboat adopt/),
    });

    const status = await site.run(["status"]);
    expect(status).toMatchObject({
      status: 4,
      stdout: expect.stringMatching(/FOREIGN HISTORY: .*went back/) as string,
    });

    // Above the old revision only the rows themselves can tell.
    await lost.fill({ keys: 2500, valueBytes: 100, seed: 2 });
    for (let more = 0; more < 8; more += 1) await lost.put("more", `${more}`);
    const refused = await site.run(["backup"]);
    expect(refused).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/holds another row than in an earlier backup/),
    });
    expect(await site.objects()).toEqual(before);

    // The daemon says the same, loudly, and goes on by itself once it was adopted.
    await using daemon = await startDaemon(site);
    expect(await daemon.next("backup.failed")).toMatchObject({ level: "error", code: "lineage-foreign" });
    expect(await site.run(["adopt", "--confirm-cluster", "other"])).toMatchObject({ status: 4 });
    const adopted = await site.json<{ lineage: string; adopted: boolean }>(["adopt", "--confirm-cluster", "prod"]);
    expect(adopted).toMatchObject({ adopted: true });
    expect(adopted.lineage).not.toBe(old.lineage);
    expect(await daemon.next("backup.committed")).toMatchObject({ lineage: adopted.lineage });
    expect(await site.json(["adopt"])).toMatchObject({ adopted: false });
  });

  test("of a second cluster in the same place is refused, as is another name of the cluster", async () => {
    await using site = await openS3Site("shared-place");
    const first = await site.json<{ backup: string }>(["backup"], { env: s3Env() });
    await using other = await startCluster();
    const second = await site.run(["backup"], {
      env: s3Env(),
      change: ({ cluster: configured }) => {
        configured.endpoints = [...other.endpoints];
        delete configured.tls;
      },
    });
    expect(second).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/cluster's ID is [0-9a-f]+, the newest lineage/),
    });
    const named = await site.run(["backup"], {
      env: s3Env(),
      change: ({ cluster: configured }) => (configured.name = "staging"),
    });
    expect(named).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/holds the backups of cluster "prod", not of "staging"[^]*prefix/),
    });
    const { backups } = await site.json<Listed>(["list"], { env: s3Env() });
    expect(backups.map(({ backup }) => backup)).toEqual([first.backup]);
  });
});
