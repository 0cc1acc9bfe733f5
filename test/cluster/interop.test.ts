import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import type { Minor } from "./servers.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";

/** What etcd's minors and settings do differently, seen from the command. */

const slow = { timeout: 180_000 };

interface Shown {
  readonly source: { readonly name: string; readonly learner: boolean; readonly reason: string };
  readonly live: {
    readonly quorum: boolean;
    readonly v2: { readonly state: string; readonly why: string };
    readonly alarms: readonly { readonly kind: string }[];
  };
  readonly content: { readonly alarms: readonly { readonly kind: string }[]; readonly authEnabled: boolean };
  readonly note: { readonly object: string };
}

/** What the member itself has applied. */
async function revisionAt(cluster: TestCluster, url: string): Promise<bigint> {
  const told = await cluster.etcdctl(["endpoint", "status", "--write-out=json"], { endpoints: [url] });
  return BigInt(/"revision":(\d+)/.exec(told)?.[1] ?? 0);
}

async function openSiteOf(cluster: TestCluster, more: Partial<ConfigInput["cluster"]> = {}): Promise<Site> {
  return openSite({ cluster: { name: "prod", endpoints: [...cluster.endpoints], ...more } });
}

/** Takes a backup and gives its manifest and its note. */
async function backUp(site: Site): Promise<{ readonly shown: Shown; readonly note: string }> {
  await site.json(["backup"]);
  const shown = await site.json<Shown>(["show", "latest"]);
  return { shown, note: await readFile(join(site.store, shown.note.object), "utf8") };
}

describe("v2 content, which no v3 snapshot holds", slow, () => {
  const enabled: readonly Minor[] = ["3.3", "3.4", "3.5"];
  test.each(enabled)("is seen in etcd %s, and told in manifest, status and note", async (minor) => {
    await using cluster = await startCluster({ minor, flags: ["--enable-v2"] });
    await using site = await openSiteOf(cluster);
    const empty = await backUp(site);
    expect(empty.shown.live.v2).toEqual({ state: "no", why: expect.stringMatching(/no keys/) });
    expect(empty.note).not.toContain("v2 content");

    const answer = await fetch(`${cluster.endpoints[0]}/v2/keys/flannel/config`, {
      method: "PUT",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: "value=old",
    });
    expect(answer.status).toBe(201);
    const { shown, note } = await backUp(site);
    expect(shown.live.v2).toMatchObject({ state: "yes", why: expect.stringMatching(/has keys/) });
    expect(note).toMatch(/v2 content.*not in this backup/);
    expect((await site.run(["status"])).stdout).toMatch(/v2 content: yes \(/);
    expect(await site.json(["status"])).toMatchObject({ etcd: { v2: { state: "yes" } } });
  });

  test("is unknown where the member does not serve the v2 API, and none where there is no v2 store", async () => {
    await using hidden = await startCluster({ minor: "3.5" });
    await using first = await openSiteOf(hidden);
    expect((await backUp(first)).shown.live.v2).toEqual({
      state: "unknown",
      why: expect.stringContaining("--enable-v2"),
    });
    await using without = await startCluster({ minor: "3.6" });
    await using second = await openSiteOf(without);
    expect((await backUp(second)).shown.live.v2).toMatchObject({ state: "no" });
  });
});

describe("a database over its quota", slow, () => {
  test.each<Minor>(["3.4", "3.7"])("is backed up from etcd %s all the same, and the alarm is told", async (minor) => {
    await using cluster = await startCluster({ minor, flags: [`--quota-backend-bytes=${4 * 1024 ** 2}`] });
    // The quota is compared with the size of the last commit, so a fast run can get past it for a moment.
    const overfill = async (): Promise<void> => {
      for (let n = 0; n < 20; n += 1) await cluster.fill({ keys: 6000, valueBytes: 1000, prefix: `fill-${n}/` });
    };
    await expect(overfill()).rejects.toThrow(/space exceeded/);
    // A put that was refused may be told before the alarm that it raises.
    await expect.poll(() => cluster.etcdctl(["alarm", "list"])).toContain("NOSPACE");
    await using site = await openSiteOf(cluster);
    const { shown, note } = await backUp(site);
    expect(shown.live.alarms).toEqual([expect.objectContaining({ kind: "NOSPACE" })]);
    expect(shown.content.alarms).toEqual([expect.objectContaining({ kind: "NOSPACE" })]);
    expect(note).toContain("etcdctl alarm disarm");
    expect((await site.run(["status"])).stdout).toContain("NOSPACE");
    expect((await site.run(["verify", "--level", "structure"])).status).toBe(0);
  });
});

describe("a learner", slow, () => {
  test.each<{ minor: Minor; learner: boolean }>([
    { minor: "3.5", learner: true },
    { minor: "3.7", learner: true },
    // Up to 3.4 a learner refuses Snapshot: the leader takes its place.
    { minor: "3.4", learner: false },
  ])("of etcd $minor is the source where no follower votes: $learner", async ({ minor, learner }) => {
    await using cluster = await startCluster({ minor });
    await cluster.fill({ keys: 300, valueBytes: 500 });
    const added = await cluster.addMember({ learner: true });
    await expect.poll(() => revisionAt(cluster, added.clientUrl)).toBe(await cluster.revision());
    await using site = await openSiteOf(cluster);
    const { shown } = await backUp(site);
    expect(shown.source.learner).toBe(learner);
    if (learner)
      expect(shown.source).toMatchObject({
        name: added.name,
        reason: expect.stringContaining("a learner that keeps up"),
      });
    expect(shown.live.quorum).toBe(true);
    expect((await site.run(["verify", "--level", "structure"])).status).toBe(0);
  });
});

describe("authentication", slow, () => {
  const password = "canary-of-the-password";

  test.each<Minor>(["3.3", "3.5", "3.7"])(
    "by user and password goes on when etcd %s forgets its tokens",
    async (minor) => {
      await using cluster = await startCluster({ minor, auth: { rootPassword: password } });
      await using site = await openSiteOf(cluster, { auth: { username: "root", password: { env: "ETCD_PASSWORD" } } });
      site.secrets.add(password);
      site.config.schedules = [{ name: "often", cron: "*/2 * * * * *" }];
      await using daemon = await startDaemon(site, { env: { ETCD_PASSWORD: password } });
      await daemon.next("backup.committed");
      const [member] = cluster.members;
      await member?.stop();
      await member?.start();
      daemon.skip();
      await daemon.next("backup.started");
      await daemon.next("backup.committed");
      await daemon.next("backup.committed");
      // A token that was lost is no failure that anybody needs to hear of.
      const after = daemon.lines.findLastIndex(({ event }) => event === "backup.failed");
      expect(
        daemon.lines.slice(after + 1).filter(({ event }) => event === "backup.committed").length,
      ).toBeGreaterThanOrEqual(2);
      expect(daemon.lines.filter(({ code }) => code === "etcd-auth")).toEqual([]);
      expect((await daemon.stop()).status).toBe(0);
      expect(await site.json<Shown>(["show", "latest"], { env: { ETCD_PASSWORD: password } })).toMatchObject({
        content: { authEnabled: true },
      });
    },
  );

  test("by the common name of a client certificate needs no user in the configuration", async () => {
    await using cluster = await startCluster({ tls: true, auth: { rootPassword: password } });
    const { tls } = cluster;
    if (tls === undefined) throw new Error("the cluster was to have TLS");
    await using site = await openSiteOf(cluster, { tls: { ca: tls.ca, ...tls.root } });
    await backUp(site);
    const other = await site.run(["backup"], {
      change: (config) => (config.cluster.tls = { ca: tls.ca, cert: tls.cert, key: tls.key }),
    });
    expect(other).toMatchObject({ status: 78, stderr: expect.stringMatching(/\bclient\b[^]*hint: /) });
  });
});

describe("a member that is being defragmented from outside", slow, () => {
  // A defragmentation that lasts as long as a test needs cannot be had from a small database: its metric can.
  test("is left alone, and the reason is told", async () => {
    const page = createServer((_, answer) =>
      answer.end("# TYPE etcd_disk_defrag_inflight gauge\netcd_disk_defrag_inflight 1\n"),
    );
    page.listen(0, "127.0.0.1");
    await once(page, "listening");
    try {
      const metricsUrl = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;
      await using cluster = await startCluster({ minor: "3.5", members: 3 });
      await using site = await openSiteOf(cluster);
      const usual = (await backUp(site)).shown.source.name;
      site.config.cluster.members = { [usual]: { metricsUrl } };
      expect((await backUp(site)).shown.source.name).not.toBe(usual);
      const preview = await site.json<{ rejected: readonly unknown[] }>(["backup", "--dry-run"]);
      expect(preview.rejected).toContainEqual({ member: usual, why: "is being defragmented" });

      site.config.cluster.members = Object.fromEntries(cluster.members.map(({ name }) => [name, { metricsUrl }]));
      expect(await site.run(["backup"])).toMatchObject({
        status: 75,
        stderr: expect.stringMatching(/no member can be a source: .*being defragmented/),
      });
    } finally {
      page.close();
    }
  });
});
