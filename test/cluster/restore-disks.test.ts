import { chown, cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { runProgram } from "./processes.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { dieAt, ended, memberDirectories, quick, slow } from "./restoring.ts";

/** Disks that are full when the new data comes, or change what lies on them; real file systems of a size of their own. */

/** A disk at an empty directory, until it is disposed. */
async function mountDisk(directory: string, options: string): Promise<AsyncDisposable> {
  await runProgram("mount", ["-t", "tmpfs", "-o", `mode=0700,${options}`, "lifeboat-test", directory]);
  return { [Symbol.asyncDispose]: async () => void (await runProgram("umount", [directory])) };
}

/** Writes until nothing more goes in. */
async function fill(path: string): Promise<void> {
  for (const bytes of [1 << 20, 4096]) {
    for (let room = true; room;) {
      await writeFile(path, Buffer.alloc(bytes, 1), { flag: "a" }).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        room = false;
      });
    }
  }
}

function hostOf({ site, cluster }: Restorable) {
  const [member] = cluster.members;
  const etcd = site.config.hosts?.["h1"]?.etcd;
  if (member === undefined || etcd === undefined) throw new Error("the site has no member");
  return { data: member.dataDirectory, etcd };
}

test(
  "a disk without room refuses the plan; one that is full when the new data is written, or at the exchange, stops it with nothing lost, and it goes on when there is room",
  slow,
  async () => {
    await using stack = new AsyncDisposableStack();
    const [logs, operations] = [await makeDirectory("logs"), await makeDirectory("operations")];
    stack.defer(async () => void (await Promise.all([logs, operations].map(discardDirectory))));
    // Names can be as scarce as bytes; etcd itself needs a few.
    stack.use(await mountDisk(logs, "size=256m,nr_inodes=300"));
    // etcd makes it by a rename, and a mount point cannot be renamed.
    const wal = join(logs, "wal");
    const site = await openRestorable({ minor: "3.6", members: 1, apiServers: true, flags: [`--wal-dir=${wal}`] });
    const { data, etcd } = hostOf(site);
    stack.use(site);
    etcd.walDirectory = wal;
    await site.cluster.put("kept", "then");
    const { backup } = await site.site.json<{ backup: string }>(["backup"]);
    await site.command("etcd1", "stop");
    await rename(data, `${data}.before`);
    await mkdir(data, { mode: 0o700 });
    const disk = await mountDisk(data, "size=256m");
    stack.defer(async () => {
      for (const service of ["etcd1", "api1"]) await site.command(service, "disable");
      for (const service of ["etcd1", "api1"]) await site.command(service, "stop");
      await disk[Symbol.asyncDispose]();
    });
    await cp(`${data}.before`, data, { recursive: true });
    const owner = { uid: 12_345, gid: 12_346 };
    await chown(data, owner.uid, owner.gid);
    await site.command("etcd1", "start");
    await site.cluster.put("kept", "now");
    {
      await using _small = await mountDisk(operations, "size=40m");
      const cramped = await site.site.run(["restore", "--plan"], {
        change: (config) => void (config.operations = { directory: operations }),
      });
      expect(ended(cramped, 4)).toMatch(/operations\S* has .* free here, and the restore needs .* to build in/);
    }

    const ballast = join(data, "ballast");

    await fill(ballast);
    expect(ended(await site.site.run(["restore", "--plan"]), 4)).toMatch(/ on h1 has .* free, and the new data needs/);
    expect(await memberDirectories(site)).toEqual(["member"]);
    await rm(ballast);

    await dieAt(site, "place.h1 before start");
    await fill(ballast);
    expect(ended(await site.site.run(["restore", "--resume", ...quick]), 5)).toMatch(
      /h1 has no room to receive .*df -h/s,
    );
    expect(await memberDirectories(site)).toEqual(["member"]);
    expect([await site.runs("etcd1"), await site.runs("api1")]).toEqual([true, true]);
    await rm(ballast);

    // Between the two renames of a log there is a directory to be made.
    const hook = join(site.site.directory, "fill-names");
    const script = `i=0; while true >"${logs}/ballast.$i"; do i=$((i+1)); done; exit 0`;
    await writeFile(hook, `#!/bin/sh\n${script}\n`, { mode: 0o700 });
    ended(await site.site.run(["restore", "--rollback", ...quick]), 0);
    expect(await memberDirectories(site)).toEqual(["member"]);
    site.site.config.hooks = { "after-stop-etcd": { run: [hook] } };
    const stopped = ended(await site.site.run(["restore", "--backup", backup, ...quick]), 5);
    expect(stopped).toMatch(/h1 has no room to make .*before-restore-.*df -i/s);
    const taken = (await readdir(logs)).filter((name) => name.startsWith("ballast"));
    expect(taken.length).toBeGreaterThan(100);
    expect([await site.runs("etcd1"), await site.runs("api1")]).toEqual([false, false]);
    for (const name of taken) await rm(join(logs, name));
    ended(await site.site.run(["restore", "--resume", ...quick]), 0);
    expect(await site.cluster.get("kept")).toBe("then");
    expect(await site.runs("api1")).toBe(true);
    expect(await memberDirectories(site)).toEqual(["member", expect.stringMatching(/^member\.before-restore-/)]);
    // What the mount is to its owner, the new data is as well.
    const log = join(wal, "0000000000000000-0000000000000000.wal");
    for (const path of [join(data, "member"), join(data, "member/snap/db"), log])
      expect(await stat(path)).toMatchObject(owner);
    expect((await stat(join(data, "member"))).mode & 0o777).toBe(0o700);
  },
);

test(
  "data that its disk changes after it was read back there is found by its hash before an API server runs, and the old data is whole",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 1, apiServers: true });
    const { data } = hostOf(site);
    await site.cluster.put("kept", "then, and nothing else");
    ended(await site.site.run(["backup"]), 0);
    await site.cluster.put("kept", "now");
    await dieAt(site, "place.h1 after done");
    const placed = (await memberDirectories(site)).find((name) => name.startsWith("member.restore-")) ?? "";
    const database = join(data, placed, "snap", "db");
    const bytes = await readFile(database);
    const at = bytes.lastIndexOf("then, and nothing else");
    expect(at).toBeGreaterThan(0);
    for (let found = at; found >= 0; found = bytes.lastIndexOf("then, and nothing else", found - 1)) bytes[found]! ^= 1;
    await writeFile(database, bytes);
    const stopped = ended(await site.site.run(["restore", "--resume", ...quick]), 5);
    expect(stopped).toMatch(/etcd1 holds other data than was restored: HashKV \d+/);
    expect([await site.runs("etcd1"), await site.runs("api1")]).toEqual([true, false]);
    // Nobody reads what it says any more, and it goes on all the same.
    const wrap = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"];
    ended(await site.site.run(["restore", "--rollback", ...quick], { wrap }), 0);
    expect(await site.cluster.get("kept")).toBe("now");
    expect(await site.runs("api1")).toBe(true);
  },
);
