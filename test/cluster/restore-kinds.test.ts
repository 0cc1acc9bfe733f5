import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { ServiceFile } from "../standins/service.ts";
import { makeDirectory } from "./directories.ts";
import { reservePorts } from "./ports.ts";
import { runProgram } from "./processes.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { confirmed, ended, quick, slow } from "./restoring.ts";
import { etcdProgram } from "./servers.ts";

/** Whole restores of clusters that are not like the others; one member each. */

function memberOf({ cluster, site }: Restorable) {
  const [member] = cluster.members;
  const etcd = site.config.hosts?.["h1"]?.etcd;
  if (member === undefined || etcd === undefined) throw new Error("the site has no member");
  return { member, etcd };
}

/** Backs up `then`, writes `now`, goes back and expects `then`; gives what the restore said. */
async function goBack(site: Restorable, meanwhile: () => Promise<void> = async () => undefined): Promise<string> {
  await site.cluster.put("kept", "then");
  const { backup } = await site.site.json<{ backup: string }>(["backup"]);
  await site.cluster.put("kept", "now");
  await meanwhile();
  const restored = await site.site.run(["restore", ...quick, "--backup", backup]);
  ended(restored, 0);
  expect(await site.cluster.get("kept")).toBe("then");
  return restored.stderr;
}

test("leases come back with their keys, and a learner of the backup that is gone does not", slow, async () => {
  await using site = await openRestorable({ minor: "3.6", members: 1 });
  const { cluster } = site;
  const lease = /lease ([0-9a-f]+) granted/.exec(await cluster.etcdctl(["lease", "grant", "3600"]))?.[1] ?? "";
  await cluster.etcdctl(["put", `--lease=${lease}`, "leased", "value"]);
  const learner = await cluster.addMember({ learner: true });
  const said = await goBack(site, async () => {
    const line = (await cluster.etcdctl(["member", "list"])).split("\n").find((one) => one.includes(learner.peerUrl));
    await cluster.etcdctl(["member", "remove", line?.split(",")[0] ?? ""]);
    await learner.stop("SIGKILL");
    await cluster.etcdctl(["lease", "revoke", lease]);
    expect(await cluster.get("leased")).toBeUndefined();
  });
  expect(said).toContain(`${learner.name} was a member when the backup was taken, and is none now: it is not restored`);
  expect(await cluster.get("leased")).toBe("value");
  expect(await cluster.etcdctl(["lease", "timetolive", lease])).toMatch(/remaining\([1-9]\d*s\)/);
  expect((await cluster.etcdctl(["member", "list"])).trim().split("\n")).toHaveLength(1);
});

test("a log in a directory of its own is moved aside with the data, and goes with it by cleanup", slow, async () => {
  const wal = await makeDirectory("wal");
  await using site = await openRestorable({ minor: "3.6", members: 1, flags: [`--wal-dir=${wal}`] });
  const { etcd } = memberOf(site);
  etcd.walDirectory = wal;
  await goBack(site);
  const aside = (await readdir(wal)).find((name) => name.startsWith("before-restore-")) ?? "";
  expect((await readdir(join(wal, aside))).some((name) => name.endsWith(".wal"))).toBe(true);
  expect(await readdir(etcd.dataDirectory)).toContain(`member.${aside}`);
  ended(await site.site.run(["cleanup", ...confirmed]), 0);
  expect(await readdir(etcd.dataDirectory)).toEqual(["member"]);
  expect(await readdir(wal)).not.toContain(aside);
  // What is left is what it runs on.
  await site.command("etcd1", "stop");
  await site.command("etcd1", "start");
  expect(await site.cluster.get("kept")).toBe("then");
  await rm(wal, { recursive: true, force: true });
});

test("a data directory that is a mount point stays mounted, and what is in it is exchanged", slow, async () => {
  await using stack = new AsyncDisposableStack();
  const site = stack.use(await openRestorable({ minor: "3.6", members: 1 }));
  const { dataDirectory } = memberOf(site).member;
  await site.command("etcd1", "stop");
  await rename(dataDirectory, `${dataDirectory}.before`);
  await mkdir(dataDirectory, { mode: 0o700 });
  await runProgram("mount", ["-t", "tmpfs", "-o", "size=512m,mode=0700", "lifeboat-test", dataDirectory]);
  stack.defer(async () => {
    await site.command("etcd1", "disable");
    await site.command("etcd1", "stop");
    await runProgram("umount", [dataDirectory]);
  });
  await cp(`${dataDirectory}.before`, dataDirectory, { recursive: true });
  await site.command("etcd1", "start");
  await goBack(site);
  await runProgram("mountpoint", ["--quiet", dataDirectory]);
  expect((await readdir(dataDirectory)).toSorted()).toEqual([
    "member",
    expect.stringMatching(/^member\.before-restore-/),
  ]);
});

test("a machine that took the place of a lost one gets its member at its own address", slow, async () => {
  await using site = await openRestorable({ minor: "3.6", members: 1 });
  const { member, etcd } = memberOf(site);
  const [port = 0] = await reservePorts(1);
  const moved = `http://127.0.0.1:${port}`;
  const said = await goBack(site, async () => {
    await site.command("etcd1", "stop");
    await rm(join(member.dataDirectory, "member"), { recursive: true });
    const path = join(site.directoryOf("etcd1"), "service.json");
    await writeFile(path, (await readFile(path, "utf8")).replaceAll(member.peerUrl, moved));
    etcd.peerUrls = [moved];
  });
  expect(said).toContain(`etcd1 had the peer URLs ${member.peerUrl} in the backup; it gets ${moved}`);
  const list = await site.cluster.etcdctl(["member", "list"]);
  expect(list).toContain(moved);
  expect(list).not.toContain(member.peerUrl);
});

test("a backup of the previous minor is restored on the one that runs now", slow, async () => {
  await using site = await openRestorable({ minor: "3.5", members: 1 });
  const said = await goBack(site, async () => {
    await site.command("etcd1", "stop");
    const path = join(site.directoryOf("etcd1"), "service.json");
    const file = JSON.parse(await readFile(path, "utf8")) as ServiceFile;
    await writeFile(path, JSON.stringify({ ...file, argv: [etcdProgram("3.6", "etcd"), ...file.argv.slice(1)] }));
    await site.command("etcd1", "start");
    await site.cluster.put("kept", "by the next minor");
  });
  expect(said).toContain("etcd 3.6 runs now, and etcd 3.5 made the backup");
  expect(await site.cluster.etcdctl(["endpoint", "status"])).toMatch(/, 3\.6\.\d+/);
});

test(
  "a password that was changed since the backup is refused by the plan, and the one of its time goes through to the end",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 1, auth: { rootPassword: "of-then" } });
    const { cluster } = site;
    const { config, directory, run } = site.site;
    const [today, then] = [join(directory, "today"), join(directory, "then")];
    await writeFile(today, "of-then\n", { mode: 0o600 });
    await writeFile(then, "of-then\n", { mode: 0o600 });
    config.cluster.auth = { username: "root", password: { file: today } };
    await cluster.put("kept", "then");
    ended(await run(["backup"]), 0);
    await cluster.put("kept", "now");
    await cluster.etcdctl(["user", "passwd", "root", "--interactive=false"], { input: "of-now\n" });
    await writeFile(today, "of-now\n");
    const refused = ended(await run(["restore", "--plan"]), 4);
    expect(refused).toContain("of its time: the user root of cluster.auth has another password in it");
    const given = ["--snapshot-username", "root", "--snapshot-password-file"];
    expect(ended(await run(["restore", "--plan", ...given, today]), 4)).toContain(
      "the user root of --snapshot-username has another password in it",
    );
    const said = ended(await run(["restore", ...quick, ...given, then]), 0);
    expect(said).toContain(`set cluster.auth to the user root with what is in ${then}`);
    expect(said).not.toContain("of-now");
    expect(await cluster.get("kept")).toBe("then");
    expect(ended(await run(["list"]), 0).match(/proven/g)).toHaveLength(3);
    expect(ended(await run(["backup"]), 78)).toContain("refuses the user root or its password");
  },
);

test("on the day the store is gone, a local file is restored without it, also by a resume", slow, async () => {
  await using site = await openRestorable({ minor: "3.6", members: 1 });
  const { cluster } = site;
  const { config, directory, run } = site.site;
  await cluster.put("kept", "then");
  const file = join(directory, "last.db");
  await cluster.etcdctl(["snapshot", "save", file]);
  await cluster.put("kept", "now");
  // Nobody listens there, and each try that was made would be told.
  config.repository.store = {
    s3: { bucket: "gone", endpoint: "http://127.0.0.1:1", region: "us-east-1", pathStyle: true },
  };
  const env = { AWS_ACCESS_KEY_ID: "nobody", AWS_SECRET_ACCESS_KEY: "nothing" };
  const restore = ["restore", "--file", file, "--accept-unproven", ...quick];
  expect(ended(await run(restore, { env }), 75)).toContain("where the store is gone: --without-repository");
  const dying = { ...env, LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step swap.h1 after perform" };
  const died = await run([...restore, "--without-repository"], { env: dying });
  expect(died.signal, died.stderr).toBe("SIGKILL");
  expect(died.stderr).toContain("no lock is taken, so only this machine knows of the restore");
  const said = ended(await run(["restore", "--resume", "--without-repository", ...confirmed], { env }), 0);
  expect(said).toContain("the repository knows nothing of this restore");
  expect(died.stderr + said).not.toMatch(/a copy of a journal is not known|127\.0\.0\.1:1\b/);
  expect(await cluster.get("kept")).toBe("then");
});
