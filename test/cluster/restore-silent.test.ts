import { cp, mkdir, readdir, readFile, rename, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lifeboatBuilder } from "../../src/datadir/lifeboat.ts";
import { patiently } from "./cluster.ts";
import { makeDirectory } from "./directories.ts";
import { startInformer, type Informer } from "./informer.ts";
import { layMember } from "./lay.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { ended, quick, slow } from "./restoring.ts";

/** The ways in which a restored cluster is healthy and wrong, and nobody is told. */

const patient = { timeout: 60_000 };
const never = new AbortController().signal;

function hostOf({ site }: Restorable, name: string) {
  const host = site.config.hosts?.[name];
  if (host?.etcd === undefined) throw new Error(`the site has no ${name}`);
  return { ...host, etcd: host.etcd };
}

interface Informed extends AsyncDisposable {
  readonly site: Restorable;
  readonly gateway: string;
  readonly informer: Informer;
  readonly backup: string;
}

/** A cluster with a backup, changes after it, and a client that has seen them all. */
async function openInformed(): Promise<Informed> {
  await using stack = new AsyncDisposableStack();
  const site = stack.use(await openRestorable({ minor: "3.6", members: 1 }));
  const { cluster } = site;
  const gateway = await site.openGateway();
  await cluster.put("/registry/kept", "then");
  await cluster.put("/registry/removed", "then");
  const { backup } = await site.site.json<{ backup: string }>(["backup"]);
  const informer = stack.use(await startInformer(gateway, "/registry/"));
  expect(informer.believes()).toEqual({ "/registry/kept": "then", "/registry/removed": "then" });
  await cluster.put("/registry/kept", "now");
  await cluster.put("/registry/ghost", "now");
  await cluster.etcdctl(["del", "/registry/removed"]);
  await expect.poll(informer.believes, patient).toEqual({ "/registry/ghost": "now", "/registry/kept": "now" });
  const owned = stack.move();
  return { site, gateway, informer, backup, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const restored = { "/registry/after": "later", "/registry/kept": "then", "/registry/removed": "then" };

test("a client that only goes on from the last revision it saw ends with what was restored", slow, async () => {
  await using informed = await openInformed();
  const { site, informer, backup } = informed;
  ended(await site.site.run(["restore", ...quick, "--backup", backup]), 0);
  await site.cluster.put("/registry/after", "later");
  await expect.poll(informer.believes, patient).toEqual(restored);
  // It was told that its revision is compacted, once.
  expect(informer.lists).toBe(2);
});

test("the same client believes what is gone where revisions go back", slow, async () => {
  await using informed = await openInformed();
  const { site, gateway, informer, backup } = informed;
  const { watches } = informer;
  const [member] = site.cluster.members;
  if (member === undefined) throw new Error("the cluster has no member");
  const file = join(site.site.directory, "snapshot.db");
  ended(await site.site.run(["fetch", backup, "-o", file]), 0);
  await truncate(file, (await stat(file)).size - 32);
  for (const service of ["gateway", "etcd1"]) await site.command(service, "stop");
  const work = join(site.site.directory, "work");
  await mkdir(work);
  const members = [{ name: member.name, peerUrls: [member.peerUrl] }];
  const request = { minor: "3.6", token: "another", members, bump: undefined } as const;
  const built = await lifeboatBuilder().build(file, work, request, never);
  await rename(join(member.dataDirectory, "member"), join(member.dataDirectory, "old"));
  await layMember(built, member.name, member.dataDirectory);
  for (const service of ["etcd1", "gateway"]) await site.command(service, "start");
  await site.cluster.put("/registry/after", "later");
  // Who comes anew sees the truth, through the same gateway.
  await using fresh = await startInformer(gateway, "/registry/");
  expect(fresh.believes()).toEqual(restored);
  await expect.poll(() => informer.watches, patient).toBeGreaterThan(watches);
  expect(informer.believes()).toEqual({ "/registry/ghost": "now", "/registry/kept": "now" });
  expect(informer.lists).toBe(1);
});

test(
  "a log that the configuration says nothing of is seen before anything is touched, and one that hides behind another is never taken for health",
  slow,
  async () => {
    const wal = await makeDirectory("wal");
    await using site = await openRestorable({ minor: "3.4", members: 1, flags: [`--wal-dir=${wal}`] });
    const { cluster } = site;
    const data = hostOf(site, "h1").etcd.dataDirectory;
    await cluster.put("kept", "then");
    ended(await site.site.run(["backup"]), 0);
    await cluster.put("kept", "now");
    const planned = await site.site.run(["restore", "--plan"]);
    ended(planned, 4);
    expect(planned.stderr).toContain("this member keeps its log somewhere else");

    // As where the log was moved some day, and its old place was left as it was.
    await cp(wal, join(data, "member/wal"), { recursive: true });
    const stopped = await site.site.run(["restore", ...quick]);
    ended(stopped, 5);
    expect(stopped.stderr).toMatch(/still answers as a member of the old cluster|holds other data than was restored/);
    ended(await site.site.run(["restore", "--rollback", ...quick]), 0);
    expect(await cluster.get("kept")).toBe("now");
  },
);

test(
  "a member that answers from its old data is known by its cluster ID, and the restore does not go on beside it",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 1 });
    const { cluster } = site;
    await cluster.put("kept", "then");
    ended(await site.site.run(["backup"]), 0);
    await cluster.put("kept", "now");
    const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step start-etcd.h1 after done" };
    const died = await site.site.run(["restore", ...quick], { env });
    expect(died.signal, died.stderr).toBe("SIGKILL");
    await bringBackOldData(site, "h1", "etcd1");
    const stopped = await site.site.run(["restore", "--resume", ...quick]);
    ended(stopped, 5);
    expect(stopped.stderr).toContain("still answers as a member of the old cluster");
    await bringBackNewData(site, "h1", "etcd1");
    ended(await site.site.run(["restore", "--resume", ...quick]), 0);
    expect(await cluster.get("kept")).toBe("then");
  },
);

test("a member that comes back with its old data later stays outside the restored cluster", slow, async () => {
  await using site = await openRestorable({ minor: "3.6", members: 3 });
  const { cluster } = site;
  await cluster.put("kept", "then");
  ended(await site.site.run(["backup"]), 0);
  await cluster.put("kept", "now");
  ended(await site.site.run(["restore", ...quick]), 0);
  await bringBackOldData(site, "h3", "etcd3");
  const log = async (): Promise<string> => await readFile(join(site.directoryOf("etcd3"), "log"), "utf8");
  await expect.poll(log, patient).toContain("cluster ID mismatch");
  const endpoints = cluster.members.slice(0, 2).map(({ clientUrl }) => clientUrl);
  await patiently(() => cluster.etcdctl(["put", "after", "later"], { endpoints }));
  for (const endpoint of endpoints) {
    const read = ["get", "kept", "--print-value-only"];
    expect(await patiently(() => cluster.etcdctl(read, { endpoints: [endpoint] }))).toBe("then\n");
  }
});

/** As somebody does who finds the old data and means well. */
async function bringBackOldData(site: Restorable, host: string, service: string): Promise<void> {
  const data = hostOf(site, host).etcd.dataDirectory;
  const aside = (await readdir(data)).find((name) => name.startsWith("member.before-restore-")) ?? "";
  await site.command(service, "stop");
  await rename(join(data, "member"), join(data, "restored"));
  await cp(join(data, aside), join(data, "member"), { recursive: true });
  await site.command(service, "start");
}

async function bringBackNewData(site: Restorable, host: string, service: string): Promise<void> {
  const data = hostOf(site, host).etcd.dataDirectory;
  await site.command(service, "stop");
  await rm(join(data, "member"), { recursive: true });
  await rename(join(data, "restored"), join(data, "member"));
  await site.command(service, "start");
}
