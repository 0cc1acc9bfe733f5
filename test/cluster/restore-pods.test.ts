import { copyFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openPods, podNames, type Pods } from "./pods.ts";
import { confirmed, ended, quick, slow } from "./restoring.ts";

/** Everything is a static pod: etcd, API servers, controllers. */

const hosts = ["h1", "h2", "h3"];
const patient = { timeout: 60_000 };

async function dieAt({ site }: Pods, place: string, ...args: readonly string[]): Promise<void> {
  const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: `step ${place}` };
  const { signal, stderr } = await site.run(args, { env });
  expect(signal, `${place} was not reached:\n${stderr}`).toBe("SIGKILL");
}

/** Every file of a host's manifests, with its text: the kubelet sees them all. */
async function manifestsOn(pods: Pods, host: string): Promise<Record<string, string>> {
  const directory = pods.manifestsOf(host);
  const names = (await readdir(directory)).toSorted();
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), "utf8")));
  return Object.fromEntries(names.map((name, index) => [name, texts[index] ?? ""]));
}

async function expectRun(pods: Pods, host: string): Promise<void> {
  await expect.poll(() => pods.running(host), patient).toEqual([...podNames]);
}

function etcdOf({ site }: Pods, host: string) {
  const etcd = site.config.hosts?.[host]?.etcd;
  if (etcd === undefined) throw new Error(`the site has no ${host}`);
  return etcd;
}

test(
  "static pods go back; also when the restore dies amid the swap and every host reboots before it is resumed, or when it is taken back",
  slow,
  async () => {
    await using pods = await openPods({ minor: "3.6", tls: true });
    const { cluster, site } = pods;
    const before = await Promise.all(hosts.map((host) => manifestsOn(pods, host)));
    const writeOn = async (): Promise<void> => {
      await cluster.put("kept", "then");
      ended(await site.run(["backup"]), 0);
      await cluster.put("kept", "now");
    };
    const expectAsBefore = async (kept: string): Promise<void> => {
      expect(await cluster.get("kept")).toBe(kept);
      for (const host of hosts) await expectRun(pods, host);
      expect(await Promise.all(hosts.map((host) => manifestsOn(pods, host)))).toEqual(before);
    };

    await writeOn();
    // A second manifest of the pod, whatever its name; a data directory as the flag says it, and not the volume; a log that the manifest does not know.
    const copy = join(pods.manifestsOf("h1"), "etcd.yaml.bak");
    await copyFile(join(pods.manifestsOf("h1"), "etcd.yaml"), copy);
    const refused = await site.run(["restore", "--plan"], {
      change: (config) => {
        const [, second, third] = Object.values(config.hosts ?? {});
        if (second?.etcd !== undefined) second.etcd.dataDirectory = join(site.directory, "h2/var-lib-etcd");
        if (third?.etcd !== undefined) third.etcd.walDirectory = join(site.directory, "h3/log");
      },
    });
    const said = ended(refused, 4);
    expect(said).toContain("what runs on h1 cannot be told");
    expect(said).toContain("has two manifests of the pod etcd: etcd.yaml and etcd.yaml.bak");
    expect(said).toContain(`set hosts.h2.etcd.dataDirectory to ${etcdOf(pods, "h2").dataDirectory}`);
    expect(said).toContain("leave hosts.h3.etcd.walDirectory out");
    await rm(copy);

    await dieAt(pods, "swap.h2 after perform", "restore", ...quick);
    for (const host of hosts) {
      expect(await manifestsOn(pods, host)).toEqual({});
      await pods.reboot(host);
      expect(await pods.running(host)).toEqual([]);
    }
    ended(await site.run(["restore", "--resume", ...confirmed]), 0);
    await expectAsBefore("then");

    await writeOn();
    await dieAt(pods, "healthy after done", "restore", ...quick);
    for (const host of hosts) expect(await pods.running(host)).toEqual(["etcd"]);
    ended(await site.run(["restore", "--rollback", ...confirmed]), 0);
    await expectAsBefore("now");
    ended(await site.run(["backup"]), 0);
  },
);

test(
  "the member of a static pod that lost its data joins anew, killed on the way and resumed, by the flags in its manifest; taken back before, the manifest is what it was",
  slow,
  async () => {
    await using pods = await openPods({ minor: "3.6" });
    const { cluster, site } = pods;
    await cluster.put("kept", "before");
    const before = await manifestsOn(pods, "h2");
    const { dataDirectory } = etcdOf(pods, "h2");
    const back = await pods.takeAway("h2", "etcd");
    await rm(join(dataDirectory, "member", "wal"), { recursive: true });
    await writeFile(join(dataDirectory, "member", "snap", "db"), "not a database");
    await back();
    await cluster.put("kept", "meanwhile");

    const planned = ended(await site.run(["restore-member", "etcd2", "--plan"]), 0);
    expect(planned).toContain(
      `--initial-cluster-state=existing are written into ${join(pods.manifestsOf("h2"), "etcd.yaml")}`,
    );
    await dieAt(pods, "aside.h2 after perform", "restore-member", "etcd2", ...confirmed);
    ended(await site.run(["restore-member", "--rollback", ...confirmed]), 0);
    expect(await manifestsOn(pods, "h2")).toEqual(before);

    await dieAt(pods, "join-settings after perform", "restore-member", "etcd2", ...confirmed);
    // What the kubelet sees is never half a change.
    expect(Object.keys(await manifestsOn(pods, "h2"))).toEqual(
      Object.keys(before).filter((name) => name !== "etcd.yaml"),
    );
    ended(await site.run(["restore-member", "--resume", ...confirmed]), 0);
    const own = { endpoints: [cluster.members[1]?.clientUrl ?? ""] };
    expect(await cluster.etcdctl(["get", "kept", "--print-value-only"], own)).toBe("meanwhile\n");
    const list = (await cluster.etcdctl(["member", "list"])).trim().split("\n");
    expect(list).toHaveLength(3);
    for (const line of list) expect(line).toMatch(/started, .*, false$/);
    const { "etcd.yaml": joined = "", ...others } = await manifestsOn(pods, "h2");
    expect({ ...others, "etcd.yaml": before["etcd.yaml"] }).toEqual(before);
    expect(joined).toContain("--initial-cluster-state=existing");
    for (const { name, peerUrl } of cluster.members) expect(joined).toContain(`${name}=${peerUrl}`);
    // It is an ordinary member from now on.
    await pods.reboot("h2");
    await expectRun(pods, "h2");
    ended(await site.run(["backup"]), 0);
  },
);
