import { readdir, readFile, readlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { hashKv } from "../../src/bolt/hash-kv.ts";
import { systemClock } from "../../src/clock.ts";
import { openEtcd } from "../../src/etcd/connect.ts";
import { bootSnapshot, type BootDependencies } from "../../src/snapshot/boot.ts";
import { openSpool } from "../../src/snapshot/spool.ts";
import { openLocalTools } from "../../src/stock/local.ts";
import { fixtureBytes, golden } from "../bolt/fixtures/golden.ts";
import { makeArtifact, sealAgain } from "../snapshot/artifact.ts";
import { startCommand } from "./command.ts";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { startCluster, type TestCluster } from "./harness.ts";
import { etcdProgram, minors, type Minor } from "./servers.ts";
import { openSite, type Site } from "./site.ts";

/** What verify says of backups of real clusters, down to a start with etcd's own programs, and when members are asked again. */

const calm = new AbortController().signal;
const slow = { timeout: 300_000 };

/** A directory as `--tools` takes it, with the programs of all minors. */
const tools = dirname(dirname(etcdProgram("3.6", "etcd")));
const boot = ["verify", "latest", "--level", "boot", "--tools", tools];

interface Shown {
  readonly content: { readonly hashKv: number; readonly keys: number; readonly revision: string };
}

interface Verified {
  readonly level: string;
  readonly results: readonly {
    readonly backup: string;
    readonly ok: boolean;
    readonly code: string | null;
    readonly message: string | null;
    readonly boot: null | {
      readonly verdict: string;
      readonly reason: string;
      readonly minor: string;
      readonly programs: readonly string[];
      readonly hash: number | null;
      readonly keys: number | null;
      readonly recorded: boolean;
    };
    readonly live: null | {
      readonly verdict: string;
      readonly reason: string;
      readonly agreeing: readonly string[];
      readonly compactRevision: string | null;
      readonly answers: readonly { readonly member: string }[];
      readonly recorded: boolean;
    };
  }[];
}

async function siteOf(cluster: TestCluster): Promise<Site> {
  const { tls } = cluster;
  return openSite({
    cluster: {
      name: "prod",
      endpoints: [...cluster.endpoints],
      ...(tls === undefined ? {} : { tls: { ca: tls.ca, cert: tls.cert, key: tls.key } }),
    },
    signed: true,
  });
}

/** Runs with `--json`; the exit status is the caller's to judge. */
async function verified(
  site: Site,
  args: readonly string[],
  options = {},
): Promise<Verified & { status: number | null }> {
  const { status, stdout, stderr } = await site.run([...args, "--json"], options);
  if (stdout === "") throw new Error(stderr);
  return { ...(JSON.parse(stdout) as Verified), status };
}

const proofsOf = async (site: Site, kind: string): Promise<readonly string[]> =>
  (await site.objects()).filter((name) => name.includes(`.${kind}.`));

/** Files of runs in the spool: what was read of a catalog may stay. */
const leftIn = async (site: Site): Promise<readonly string[]> =>
  (await readdir(site.spool)).filter((name) => /\.(spool|scratch)$/.test(name));

describe.each(minors)("a backup of etcd %s", slow, (minor) => {
  test("is restored and started with the programs of its minor, which find the same keys and the same HashKV", async () => {
    const members = minor === "3.4" || minor === "3.6" ? 3 : 1;
    await using cluster = await startCluster({ minor, members, tls: members === 3 });
    await using site = await siteOf(cluster);
    await cluster.fill({ keys: 700, valueBytes: 300 });
    await cluster.put("again", "1");
    await cluster.put("again", "2");
    await cluster.etcdctl(["del", "fill/00000007"]);
    await cluster.etcdctl(["compact", String((await cluster.revision()) - 2n)]);
    const granted = await cluster.etcdctl(["lease", "grant", "3600"]);
    await cluster.etcdctl(["put", "leased", "value", `--lease=${/lease ([0-9a-f]+)/.exec(granted)?.[1] ?? ""}`]);
    await site.json(["backup"]);
    const { content } = await site.json<Shown>(["show", "latest"]);

    const started = await verified(site, boot);
    expect(started).toMatchObject({
      status: 0,
      level: "boot",
      results: [
        {
          ok: true,
          boot: {
            verdict: "passed",
            reason: expect.stringMatching(/keys and HashKV equal, as the member says$/),
            minor,
            hash: content.hashKv,
            keys: content.keys,
            recorded: true,
          },
        },
      ],
    });
    expect(await proofsOf(site, "boot")).toEqual([expect.stringMatching(/\.boot\.passed\.[0-9A-Z]{26}\.json$/)]);
    expect((await site.run(["list"])).status).toBe(0);
    expect((await site.run(["show", "latest"])).stdout).toMatch(/boot +passed/);
    expect(await leftIn(site)).toEqual([]);
    expect(await startedIn(site)).toEqual([]);
  });

  test("with users, a learner, leases and a NOSPACE alarm starts, too", async () => {
    await using site = await openSite({ cluster: { name: "prod", endpoints: ["http://127.0.0.1:1"] }, signed: true });
    const file = join(site.directory, "old.db");
    await writeFile(file, fixtureBytes(minor));
    const imported = await site.json<{ backup: string; lineage: string }>(["import", file]);
    const { hashKv: live, liveKeys } = golden(minor);
    expect(await verified(site, ["verify", imported.backup, "--level", "boot", "--tools", tools])).toMatchObject({
      status: 0,
      results: [
        {
          boot: {
            verdict: "passed",
            reason: expect.stringMatching(/as the stopped member's database says$/),
            hash: live.hash,
            keys: liveKeys,
          },
        },
      ],
    });
    expect(await leftIn(site)).toEqual([]);
  });
});

/** Processes that run in the site's spool. */
async function startedIn(site: Site): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const at = await readlink(`/proc/${name}/cwd`).catch(() => "");
    if (at.startsWith(site.spool)) found.push(name);
  }
  return found;
}

test.each<Minor>(["3.4", "3.6"])(
  "a backup of etcd %s at its very compaction starts, though its minor may refuse to hash there",
  slow,
  async (minor) => {
    await using cluster = await startCluster({ minor });
    await using site = await siteOf(cluster);
    await cluster.fill({ keys: 50, valueBytes: 100 });
    await cluster.etcdctl(["compact", String(await cluster.revision())]);
    await site.json(["backup"]);
    expect(await verified(site, boot)).toMatchObject({ status: 0, results: [{ boot: { verdict: "passed" } }] });
  },
);

describe("a start that goes wrong", slow, () => {
  const noCluster = { name: "prod", endpoints: ["http://127.0.0.1:1"] };

  test("without the programs is none: 4, and it says which are missing and what is there instead", async () => {
    await using site = await openSite({ cluster: noCluster });
    await writeFile(join(site.directory, "old.db"), fixtureBytes("3.6"));
    const { backup } = await site.json<{ backup: string }>(["import", join(site.directory, "old.db")]);
    const other = dirname(etcdProgram("3.7", "etcd"));
    const asked = ["verify", backup, "--level", "boot", "--tools", other];
    const result = await verified(site, asked, { env: { PATH: "/nonexistent" } });
    expect(result).toMatchObject({
      status: 4,
      results: [
        {
          ok: false,
          code: "tool-missing",
          message: expect.stringMatching(/^no etcd 3\.6 in \S+ or on PATH; there is \S+ 3\.7\.\d+$/),
          boot: null,
        },
      ],
    });
    const told = await site.run(asked, { env: { PATH: "/nonexistent" } });
    expect(told.stderr).toMatch(/install etcd 3\.6 and etcdutl 3\.6, or name a directory .*--tools DIR/);
    expect(await proofsOf(site, "boot")).toEqual([]);
  });

  test("by SIGKILL in its midst leaves no process, and the next run removes what it left in the spool", async () => {
    await using site = await openSite({ cluster: noCluster });
    await writeFile(join(site.directory, "old.db"), fixtureBytes("3.6"));
    const { backup } = await site.json<{ backup: string }>(["import", join(site.directory, "old.db")]);
    const args = ["verify", backup, "--level", "boot", "--tools", tools];
    const { child, ended } = startCommand([...args, ...(await site.configure())]);
    await expect.poll(() => startedIn(site), { interval: 10 }).not.toEqual([]);
    child.kill("SIGKILL");
    expect((await ended).signal).toBe("SIGKILL");
    await expect.poll(() => startedIn(site)).toEqual([]);
    expect((await leftIn(site)).length).toBeGreaterThan(0);
    expect((await verified(site, args)).status).toBe(0);
    expect(await leftIn(site)).toEqual([]);
  });

  test("by SIGTERM ends with 130 and leaves nothing", async () => {
    await using site = await openSite({ cluster: noCluster });
    await writeFile(join(site.directory, "old.db"), fixtureBytes("3.5"));
    const { backup } = await site.json<{ backup: string }>(["import", join(site.directory, "old.db")]);
    const args = ["verify", backup, "--level", "boot", "--tools", tools];
    const { child, ended } = startCommand([...args, ...(await site.configure())]);
    await expect.poll(() => startedIn(site), { interval: 10 }).not.toEqual([]);
    child.kill("SIGTERM");
    expect((await ended).status).toBe(130);
    expect(await startedIn(site)).toEqual([]);
    expect(await leftIn(site)).toEqual([]);
  });

  test("is not recorded where it could not be believed later, and that is said", async () => {
    await using site = await openSite({ cluster: noCluster, signed: true });
    await writeFile(join(site.directory, "old.db"), fixtureBytes("3.6"));
    const { backup } = await site.json<{ backup: string }>(["import", join(site.directory, "old.db")]);
    const ended = await site.run(["verify", backup, "--level", "boot", "--tools", tools, "--json"], {
      change: (config) => void delete config.repository.signing?.key,
    });
    expect(ended).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/the boot proof was not stored: .*repository\.signing\.key/),
    });
    expect(JSON.parse(ended.stdout)).toMatchObject({ results: [{ boot: { verdict: "passed", recorded: false } }] });
    expect(await proofsOf(site, "boot")).toEqual([]);
  });

  /** The value of one row is another one, and the seal fits it: only a comparison of the data itself can tell. */
  test.each<Minor>(["3.4", "3.6"])(
    "of etcd %s finds a value that was changed under a seal that fits",
    async (minor) => {
      const directory = await makeDirectory("boot");
      const manifest = (
        await makeArtifact({ snapshot: fixtureBytes(minor), recipients: [], signer: undefined, number: 1 })
      ).manifest;
      const plain = fixtureBytes(minor);
      const mark = Buffer.from("abcdefghij".repeat(20));
      let changed = 0;
      for (let at = plain.indexOf(mark); at >= 0; at = plain.indexOf(mark, at + mark.length)) {
        plain[at] = 0x5a;
        changed += 1;
      }
      expect(changed).toBeGreaterThan(0);
      const path = join(directory, "changed.db");
      await writeFile(path, sealAgain(plain));
      expect(scanSnapshot(path).keys).toBe(manifest.content.keys);
      const spool = await openSpool(join(directory, "spool"));
      // As the manifest of such a file would have it.
      const source = { ...manifest.source!, version: `${minor}.1` };
      const booted = await bootSnapshot(bootDependencies(), spool, { ...manifest, source }, path, calm);
      expect(booted).toMatchObject({
        minor,
        keys: manifest.content.keys,
        fault: {
          code: "boot-failed",
          message: expect.stringMatching(
            `starts, but is not what its manifest says: HashKV \\d+ instead of ${manifest.content.hashKv}$`,
          ),
        },
      });
      expect(await readdir(spool.directory)).toEqual([]);
      await discardDirectory(directory);
    },
  );
});

function bootDependencies(): BootDependencies {
  let count = 0;
  return {
    stock: openLocalTools({ directory: tools, path: "" }),
    connect: (socket) =>
      openEtcd({ endpoints: [] }).connect({ name: "throw-away", url: "http://localhost:2379", socket }),
    hashSpool: async (path, revision, compactRevisions) => hashKv(path, revision, compactRevisions),
    clock: systemClock,
    newId: () => `01JQDDDDDDDDDDDDDDDDDDDD${(count += 1) + 10}`,
  };
}

describe("--live", slow, () => {
  test("asks the members again, says who said what, and proves what could not be proven when it was taken", async () => {
    await using cluster = await startCluster({ minor: "3.6", members: 3 });
    await using site = await siteOf(cluster);
    await cluster.fill({ keys: 200, valueBytes: 100 });
    // With two of three members down there is no majority to prove anything.
    const stopped = cluster.members.slice(1);
    await Promise.all(stopped.map((member) => member.stop()));
    await site.json(["backup"]);
    expect(await proofsOf(site, "proven")).toEqual([]);
    expect(await verified(site, ["verify", "latest", "--live"])).toMatchObject({
      status: 4,
      results: [{ ok: false, code: "unproven", live: { verdict: "sealed", recorded: false } }],
    });
    await Promise.all(stopped.map((member) => member.start()));
    const shown = await site.json<Shown>(["show", "latest"]);
    const asked = await verified(site, ["verify", "latest", "--live"]);
    expect(asked).toMatchObject({
      status: 0,
      level: "bytes",
      results: [{ ok: true, live: { verdict: "proven", recorded: true } }],
    });
    expect(asked.results[0]?.live?.answers.length).toBeGreaterThan(0);
    expect(await proofsOf(site, "proven")).toHaveLength(1);
    const text = await site.run(["verify", "latest", "--live"]);
    expect(text.stdout).toMatch(new RegExp(`proven: [^]*\\((follower|leader)\\)[^]*${shown.content.hashKv}`));

    // Compacted since, but not past the backup: it is decoded and hashed at the members' own compaction.
    await cluster.fill({ keys: 50, valueBytes: 10, prefix: "more/" });
    const revision = BigInt(shown.content.revision);
    await cluster.etcdctl(["compact", String(revision - 1n)]);
    expect(await verified(site, ["verify", "latest", "--live"])).toMatchObject({
      status: 0,
      results: [{ live: { verdict: "proven", compactRevision: String(revision - 1n) } }],
    });
    const keyless = await verified(site, ["verify", "latest", "--live"], {
      change: (config: Site["config"]) => void delete config.repository.encryption?.identity,
    });
    expect(keyless).toMatchObject({ status: 4, results: [{ ok: false, code: "key-missing" }] });

    // Past it: nothing can be learned any more, and that is no success.
    await cluster.etcdctl(["compact", String(await cluster.revision())]);
    expect(await verified(site, ["verify", "latest", "--live"])).toMatchObject({
      status: 4,
      results: [{ ok: false, code: "unproven", message: expect.stringMatching(/compacted/) }],
    });
    expect(await leftIn(site)).toEqual([]);
  });

  test("finds members that have other data", async () => {
    await using cluster = await startCluster({ minor: "3.6" });
    await using site = await siteOf(cluster);
    await cluster.fill({ keys: 20, valueBytes: 100 });
    await site.json(["backup"]);
    const [name] = (await site.objects()).filter((object) => /\/backups\/.*\.json$/.test(object));
    // The backup claims another HashKV than its cluster has.
    const path = join(site.store, name ?? "");
    const manifest = JSON.parse(await readFile(path, "utf8")) as { content: { hashKv: number }; signature?: unknown };
    manifest.content.hashKv = (manifest.content.hashKv ^ 1) >>> 0;
    delete manifest.signature;
    await writeFile(path, `${JSON.stringify(manifest)}\n`);
    const unsigned = { change: (config: Site["config"]) => void delete config.repository.signing };
    expect(await verified(site, ["verify", "latest", "--live"], unsigned)).toMatchObject({
      status: 12,
      results: [{ ok: false, code: "cluster-differs" }],
    });
    expect(await verified(site, ["verify", "latest", "--level", "deep"], unsigned)).toMatchObject({
      status: 12,
      results: [{ ok: false, code: "object-damaged", message: expect.stringMatching(/hashKv \d+ instead of \d+$/) }],
    });
  });

  test("of an imported file says that it is of no known cluster", async () => {
    await using cluster = await startCluster({ minor: "3.6" });
    await using site = await siteOf(cluster);
    await writeFile(join(site.directory, "old.db"), fixtureBytes("3.6"));
    const { backup } = await site.json<{ backup: string }>(["import", join(site.directory, "old.db")]);
    expect(await verified(site, ["verify", backup, "--live"])).toMatchObject({
      status: 4,
      results: [{ ok: false, code: "unproven", message: expect.stringMatching(/was imported/) }],
    });
  });
});
