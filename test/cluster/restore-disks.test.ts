import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Ended } from "./command.ts";
import { makeDirectory } from "./directories.ts";
import { runProgram } from "./processes.ts";
import { openRestorable, type Restorable } from "./restorable.ts";

/** Disks that are full when the new data comes, or change what lies on them; real file systems of a size of their own. */

const slow = { timeout: 500_000 };
const confirmed = ["--yes", "--confirm-cluster", "prod", "--quiet-seconds", "3"];

function ended({ status, stdout, stderr }: Ended, expected: number): string {
  expect(status, stdout + stderr).toBe(expected);
  return stdout + stderr;
}

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

async function dieAt({ site }: Restorable, place: string): Promise<void> {
  const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: `step ${place}` };
  const { signal, stderr } = await site.run(["restore", ...confirmed], { env });
  expect(signal, `${place} was not reached:\n${stderr}`).toBe("SIGKILL");
}

function hostOf({ site, cluster }: Restorable) {
  const [member] = cluster.members;
  const etcd = site.config.hosts?.["h1"]?.etcd;
  if (member === undefined || etcd === undefined) throw new Error("the site has no member");
  return { data: member.dataDirectory, etcd };
}

async function memberNames(data: string): Promise<readonly string[]> {
  return (await readdir(data)).filter((name) => name.startsWith("member")).toSorted();
}

test(
  "a disk without room refuses the plan; one that is full when the new data is written, or at the exchange, stops it with nothing lost, and it goes on when there is room",
  slow,
  async () => {
    await using stack = new AsyncDisposableStack();
    const logs = await makeDirectory("logs");
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
    await site.command("etcd1", "start");
    await site.cluster.put("kept", "now");
    const ballast = join(data, "ballast");

    await fill(ballast);
    expect(ended(await site.site.run(["restore", "--plan"]), 4)).toMatch(/ on h1 has .* free, and the new data needs/);
    expect(await memberNames(data)).toEqual(["member"]);
    await rm(ballast);

    await dieAt(site, "place.h1 before start");
    await fill(ballast);
    expect(ended(await site.site.run(["restore", "--resume", ...confirmed]), 5)).toMatch(
      /h1 has no room to receive .*df -h/s,
    );
    expect(await memberNames(data)).toEqual(["member"]);
    expect([await site.runs("etcd1"), await site.runs("api1")]).toEqual([true, true]);
    await rm(ballast);

    // Between the two renames of a log there is a directory to be made.
    const hook = join(site.site.directory, "fill-names");
    const script = `i=0; while true >"${logs}/ballast.$i"; do i=$((i+1)); done; exit 0`;
    await writeFile(hook, `#!/bin/sh\n${script}\n`, { mode: 0o700 });
    ended(await site.site.run(["restore", "--rollback", ...confirmed]), 0);
    expect(await memberNames(data)).toEqual(["member"]);
    site.site.config.hooks = { "after-stop-etcd": { run: [hook] } };
    const stopped = ended(await site.site.run(["restore", "--backup", backup, ...confirmed]), 5);
    expect(stopped).toMatch(/h1 has no room to make .*before-restore-.*df -i/s);
    const taken = (await readdir(logs)).filter((name) => name.startsWith("ballast"));
    expect(taken.length).toBeGreaterThan(100);
    expect([await site.runs("etcd1"), await site.runs("api1")]).toEqual([false, false]);
    for (const name of taken) await rm(join(logs, name));
    ended(await site.site.run(["restore", "--resume", ...confirmed]), 0);
    expect(await site.cluster.get("kept")).toBe("then");
    expect(await site.runs("api1")).toBe(true);
    expect(await memberNames(data)).toEqual(["member", expect.stringMatching(/^member\.before-restore-/)]);
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
    const placed = (await memberNames(data)).find((name) => name.startsWith("member.restore-")) ?? "";
    const database = join(data, placed, "snap", "db");
    const bytes = await readFile(database);
    const at = bytes.lastIndexOf("then, and nothing else");
    expect(at).toBeGreaterThan(0);
    for (let found = at; found >= 0; found = bytes.lastIndexOf("then, and nothing else", found - 1)) bytes[found]! ^= 1;
    await writeFile(database, bytes);
    const stopped = ended(await site.site.run(["restore", "--resume", ...confirmed]), 5);
    expect(stopped).toMatch(/etcd1 holds other data than was restored: HashKV \d+/);
    expect([await site.runs("etcd1"), await site.runs("api1")]).toEqual([true, false]);
    ended(await site.site.run(["restore", "--rollback", ...confirmed]), 0);
    expect(await site.cluster.get("kept")).toBe("now");
    expect(await site.runs("api1")).toBe(true);
  },
);
