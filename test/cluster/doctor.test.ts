import { chmod, copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startCluster, type TestCluster } from "./harness.ts";
import type { Minor } from "./servers.ts";
import { openSite, type ConfigInput, type Site } from "./site.ts";

/** The doctor on real members: what their certificates, users, alarms and metrics make it say. */

interface Document {
  readonly findings: readonly {
    readonly area: string;
    readonly check: string;
    readonly severity: string;
    readonly message: string;
    readonly help: string | null;
    readonly code: string | null;
  }[];
}

const minors: readonly Minor[] = ["3.4", "3.5", "3.7"];

describe.each(minors)("etcd %s", { timeout: 240_000 }, (minor) => {
  let cluster: TestCluster;
  let site: Site;

  beforeAll(async () => {
    cluster = await startCluster({
      minor,
      tls: true,
      auth: { rootPassword: "canary-of-root" },
      flags: [`--quota-backend-bytes=${32 * 2 ** 20}`],
    });
    const { tls, members, endpoints } = cluster;
    if (tls === undefined) throw new Error("the cluster was to have TLS");
    await cluster.etcdctl(["user", "add", "plain:canary-of-plain"]);
    site = await openSite({
      cluster: {
        name: "prod",
        endpoints: [...endpoints],
        tls: { ca: tls.ca, cert: tls.cert, key: tls.key },
        members: Object.fromEntries(
          members.map(({ name, metricsUrl }) => [name, { metricsUrl: new URL(metricsUrl).origin }]),
        ),
      },
    });
    for (const user of ["root", "plain"]) {
      await writeFile(join(site.directory, user), `canary-of-${user}`, { mode: 0o600 });
      site.secrets.add(`canary-of-${user}`);
    }
    site.config.cluster.auth = { username: "root", password: { file: join(site.directory, "root") } };
  });
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });

  async function doctor(
    change?: (config: ConfigInput) => void,
  ): Promise<{ readonly status: number | null; readonly findings: Document["findings"] }> {
    const ended = await site.run(["doctor", "--json"], change === undefined ? {} : { change });
    return { status: ended.status, findings: (JSON.parse(ended.stdout) as Document).findings };
  }

  test("a sound member: no problem, every call may be made, certificates, quota and disk are read", async () => {
    const { status, findings } = await doctor();
    expect(findings.filter(({ severity }) => severity === "problem")).toEqual([]);
    expect(status).toBe(0);
    const says = findings.filter(({ area }) => area === "etcd").map(({ message }) => message);
    expect(says).toEqual(
      expect.arrayContaining([
        "the configured user may make these calls: MemberList, Status, Range, Alarm, HashKV, Snapshot",
        expect.stringMatching(/^the server certificate of etcd1 \(.*\) until .*, for localhost, 127\.0\.0\.1/),
        expect.stringMatching(/^the client certificate \(.*\) until /),
        expect.stringMatching(/^the CA certificate \(.*\) until /),
        expect.stringMatching(/^etcd1 uses \d+ MiB of 32 MiB$/),
        expect.stringMatching(/^etcd1: p99 since it started: fsync of the WAL \d/),
      ]),
    );
    expect(await site.objects()).toEqual([]);
  });

  test("a user without the role root learns which calls he may not make", async () => {
    const { status, findings } = await doctor((config) => {
      config.cluster.auth = { username: "plain", password: { file: join(site.directory, "plain") } };
    });
    expect(status).toBe(78);
    const refused = findings.filter(({ check, severity }) => check === "rights" && severity === "problem");
    const calls = refused.map(({ message }) => message.split(":")[0]);
    expect(calls).toEqual(expect.arrayContaining(["HashKV", "Snapshot"]));
    for (const { message, help, code } of refused) {
      expect(code).toBe("etcd-auth");
      expect(message + help).toMatch(/root/);
    }
  });

  test("a wrong password, an expired certificate and a key that everybody may read are each told", async () => {
    const { tls } = cluster;
    if (tls === undefined) throw new Error("the cluster was to have TLS");
    const wrong = await doctor((config) => {
      config.cluster.auth = { username: "root", password: { file: join(site.directory, "plain") } };
    });
    expect(wrong.status).toBe(78);
    expect(wrong.findings[0]).toMatchObject({ severity: "problem", code: "etcd-auth" });

    const expired = await tls.authority.issue({ commonName: "late", usage: "client", expired: true });
    const open = join(site.directory, "open.key");
    await copyFile(expired.key, open);
    await chmod(open, 0o644);
    const late = await doctor((config) => {
      config.cluster.tls = { ca: tls.ca, cert: expired.cert, key: open };
    });
    expect(late.status).toBe(78);
    expect(late.findings).toContainEqual(
      expect.objectContaining({
        check: "certificate",
        severity: "problem",
        code: "etcd-tls",
        message: expect.stringMatching(/^the client certificate \(.*\) expired on /) as string,
      }),
    );
    expect(late.findings).toContainEqual(expect.objectContaining({ area: "config", check: "cluster.tls.key" }));
  });

  test("an alarm for want of space is a problem, with the way out", async () => {
    await cluster.fill({ keys: 400, valueBytes: 100_000 }).catch(() => undefined); // it ends when there is no space
    await expect.poll(async () => await cluster.etcdctl(["alarm", "list"])).toContain("NOSPACE");
    const { status, findings } = await doctor();
    expect(status).toBe(1);
    expect(findings).toContainEqual({
      area: "etcd",
      check: "alarms",
      severity: "problem",
      message: "NOSPACE of etcd1: the cluster takes no writes",
      help: "compact, defragment each member, then: etcdctl alarm disarm",
      code: "etcd-refused",
    });
    expect(findings.find(({ check }) => check === "quota")?.severity).toBe("warning");
  });
});
