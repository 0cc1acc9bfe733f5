import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, readFile, readdir, readlink, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { openEtcd } from "../../src/etcd/connect.ts";
import { Fault } from "../../src/faults.ts";
import { openLocalTools } from "../../src/stock/local.ts";
import type { StockLook, StockMember } from "../../src/stock/stock.ts";
import { fixtureBytes, golden } from "../bolt/fixtures/golden.ts";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { runProgram } from "./processes.ts";
import { etcdProgram, minors } from "./servers.ts";

/** etcd's own programs, run under the guard. */

const calm = new AbortController().signal;

async function scratch(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await makeDirectory("stock");
  return { path, [Symbol.asyncDispose]: () => discardDirectory(path) };
}

/** A directory as `--tools` takes it, with the programs of all minors. */
const everyTool = dirname(dirname(etcdProgram("3.6", "etcd")));
const tools = openLocalTools({ directory: everyTool, path: "" });

async function serving(member: StockMember): Promise<StockLook> {
  let look: StockLook | undefined;
  await expect.poll(async () => (look = await member.look(calm)), { timeout: 60_000 }).toBeDefined();
  if (look === undefined) throw new Error("polled in vain");
  return look;
}

describe.each(minors)("of etcd %s", (minor) => {
  test("restore and start a snapshot with users, leases, learners and an alarm; nobody else can reach the member", async () => {
    await using place = await scratch();
    const snapshot = join(place.path, "snapshot.db");
    await writeFile(snapshot, fixtureBytes(minor));
    const directory = join(place.path, "run");
    await mkdir(directory, { mode: 0o700 });
    const { revision, liveKeys } = golden(minor);

    const programs = await tools.find(minor, calm);
    const restorer = minor === "3.3" || minor === "3.4" ? "3.5" : minor;
    expect(programs.names).toEqual([
      expect.stringMatching(`^etcdutl ${restorer.replace(".", "\\.")}\\.\\d+$`),
      expect.stringMatching(`^etcd ${minor.replace(".", "\\.")}\\.\\d+$`),
    ]);
    await programs.restore(snapshot, directory, calm);
    await using member = await programs.start(directory, calm);
    expect(await serving(member)).toMatchObject({ revision: BigInt(revision), keys: liveKeys });

    await using etcd = openEtcd({ endpoints: [] });
    await using connection = etcd.connect({ name: "throw-away", url: "http://localhost:2379", socket: member.socket });
    // Its users come back with the data: it asks for one, which only itself can do.
    await expect(connection.hashKv(BigInt(revision), calm)).rejects.toMatchObject({ code: "etcd-auth" });
    expect(await listeningPorts(directory)).toEqual([]);

    const file = await member.stop(calm);
    expect((await readFile(file)).length).toBeGreaterThan(16_384);
    await expect(member.look(calm)).rejects.toBeInstanceOf(Fault);
  });
});

/** TCP ports on which the processes that run in a directory listen. */
async function listeningPorts(directory: string): Promise<readonly string[]> {
  const inodes = new Set<string>();
  for (const pid of await processesIn(directory)) {
    for (const fd of await readdir(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(await readlink(`/proc/${pid}/fd/${fd}`).catch(() => ""))?.[1];
      if (inode !== undefined) inodes.add(inode);
    }
  }
  expect(inodes.size).toBeGreaterThan(0);
  const tables = await Promise.all(["tcp", "tcp6"].map((name) => readFile(`/proc/net/${name}`, "utf8")));
  const listening = "0A";
  return tables
    .flatMap((table) => table.split("\n").slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state, , , , , , inode]) => state === listening && inode !== undefined && inodes.has(inode))
    .map(([, address]) => address ?? "");
}

/** The programs of etcd that run in a directory. */
async function processesIn(directory: string): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const at = await readlink(`/proc/${name}/cwd`).catch(() => "");
    if (at === directory) found.push(Number(name));
  }
  return found;
}

test("etcdctl of its own minor restores 3.4 where there is no etcdutl", async () => {
  await using place = await scratch();
  for (const name of ["etcd", "etcdctl"] as const) await symlink(etcdProgram("3.4", name), join(place.path, name));
  const programs = await openLocalTools({ directory: place.path, path: "" }).find("3.4", calm);
  expect(programs.names[0]).toMatch(/^etcdctl 3\.4\.\d+$/);
  const snapshot = join(place.path, "snapshot.db");
  await writeFile(snapshot, fixtureBytes("3.4"));
  const directory = join(place.path, "run");
  await mkdir(directory);
  await programs.restore(snapshot, directory, calm);
  await using member = await programs.start(directory, calm);
  expect(await serving(member)).toMatchObject({ keys: golden("3.4").liveKeys });
});

test("programs of another minor are not taken, and the message says what is there and what to do", async () => {
  await using place = await scratch();
  const own = join(place.path, "3.6");
  await mkdir(own);
  await symlink(etcdProgram("3.7", "etcd"), join(own, "etcd"));
  await writeFile(join(place.path, "etcd"), "#!/bin/sh\necho something else\n");
  await chmod(join(place.path, "etcd"), 0o755);
  const some = openLocalTools({ directory: place.path, path: dirname(etcdProgram("3.5", "etcd")) });
  await expect(some.find("3.6", calm)).rejects.toMatchObject({
    code: "tool-missing",
    message: expect.stringMatching(
      /^no etcd 3\.6 in \S+ or on PATH; there is \S+3\.6\/etcd 3\.7\.\d+, \S+\/etcd of an unknown version, \S+\/etcd 3\.5\.\d+$/,
    ),
    hint: expect.stringMatching(/install etcd 3\.6 and etcdutl 3\.6, .*--tools DIR/),
  });
  await expect(openLocalTools({ directory: undefined, path: "" }).find("3.6", calm)).rejects.toMatchObject({
    message: "no etcd 3.6 on PATH",
  });
  await expect(some.find("3.6/../..", calm)).rejects.toMatchObject({ code: "tool-missing" });
});

test("a snapshot that was altered is refused by the tool, and its words are passed on", async () => {
  await using place = await scratch();
  const snapshot = join(place.path, "snapshot.db");
  const bytes = fixtureBytes("3.6");
  bytes[9000] = (bytes[9000] ?? 0) ^ 1;
  await writeFile(snapshot, bytes);
  const programs = await tools.find("3.6", calm);
  await expect(programs.restore(snapshot, place.path, calm)).rejects.toMatchObject({
    code: "boot-failed",
    message: expect.stringMatching(/^etcdutl 3\.6\.\d+ did not restore the snapshot: it ended with status 1$/),
    hint: expect.stringMatching(/expected sha256/),
  });
});

test("what ends while it starts says so, and what is interrupted is gone", async () => {
  await using place = await scratch();
  const programs = await tools.find("3.6", calm);
  // In the place of the data directory.
  await writeFile(join(place.path, "data"), "");
  await using member = await programs.start(place.path, calm);
  await expect
    .poll(() => member.look(calm).catch((error: unknown) => error))
    .toMatchObject({
      code: "boot-failed",
      message: expect.stringMatching(/^etcd 3\.6\.\d+ does not run on this data: it ended with status \d+$/),
    });

  const controller = new AbortController();
  // Nothing was restored there: etcd starts with the flags for a new cluster, and serves one.
  const other = join(place.path, "other");
  await mkdir(other);
  await using third = await programs.start(other, controller.signal);
  await serving(third);
  expect(await processesIn(other)).not.toEqual([]);
  controller.abort();
  await expect.poll(() => processesIn(other)).toEqual([]);
});

test.each(["SIGKILL", "SIGTERM"] as const)(
  "nothing outlives the process that started it when that ends by %s",
  async (how) => {
    await using place = await scratch();
    const directory = join(place.path, "run");
    await mkdir(directory);
    const script = join(place.path, "starter.ts");
    const local = new URL("../../src/stock/local.ts", import.meta.url).href;
    await writeFile(
      script,
      `import { openLocalTools } from ${JSON.stringify(local)};
     const signal = new AbortController().signal;
     const tools = openLocalTools({ directory: ${JSON.stringify(everyTool)}, path: "" });
     const programs = await tools.find("3.6", signal);
     const member = await programs.start(${JSON.stringify(directory)}, signal);
     while ((await member.look(signal)) === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
     console.log("serving");
     setInterval(() => undefined, 1000);`,
    );
    const starter = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(starter.stdout, "data");
      // The guard, its watch, and etcd.
      expect((await processesIn(directory)).length).toBeGreaterThanOrEqual(2);
    } finally {
      starter.kill(how);
    }
    await once(starter, "close");
    await expect.poll(() => processesIn(directory)).toEqual([]);
  },
);

test("nothing of our environment reaches the programs: etcd would read flags from it", async () => {
  await using place = await scratch();
  await mkdir(join(place.path, "3.6"));
  const fake =
    "#!/bin/sh\necho 'etcd Version: 3.6.1'\necho 'etcdutl version: 3.6.1'\necho seen: $ETCD_DATA_DIR\nexit 3\n";
  const written = join(place.path, "fake");
  await writeFile(written, fake);
  // By another process: what this one had open while it forked could be busy when it shall run.
  for (const name of ["etcd", "etcdutl"])
    await runProgram("install", ["-m", "755", written, join(place.path, "3.6", name)]);
  process.env["ETCD_DATA_DIR"] = "/canary-of-the-environment";
  try {
    const programs = await openLocalTools({ directory: place.path, path: "" }).find("3.6", calm);
    await copyFile(join(place.path, "3.6/etcd"), join(place.path, "snapshot.db"));
    const refused = await programs.restore("snapshot.db", place.path, calm).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "boot-failed", hint: "its last words: seen:" });
  } finally {
    delete process.env["ETCD_DATA_DIR"];
  }
});
