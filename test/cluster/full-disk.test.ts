import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { discardDirectory, makeDirectory } from "./directories.ts";
import { startCluster } from "./harness.ts";
import { runProgram } from "./processes.ts";
import { manifestsOf, openSite } from "./site.ts";

const isRoot = process.geteuid?.() === 0;

/** Starts a program where small file systems stand at these directories, each as long as that lives. */
function onSmallDisks(disks: Readonly<Record<string, string>>): readonly string[] {
  const mounts = Object.entries(disks).map(
    ([directory, size]) => `mount -t tmpfs -o size=${size},mode=0700 none '${directory}' || exit 99`,
  );
  const apart = ["unshare", "--mount", ...(isRoot ? [] : ["--map-root-user"])];
  return [...apart, "sh", "-c", `${mounts.join("; ")}; exec "$@"`, "sh"];
}

/** Fills what is left of a disk, as its process sees it; disposed, there is room again. */
async function fillDisk(pid: number, directory: string): Promise<AsyncDisposable> {
  const ballast = join(`/proc/${pid}/root`, directory, "ballast");
  for (const bytes of [1 << 20, 4096]) {
    let full = false;
    while (!full) {
      await writeFile(ballast, Buffer.alloc(bytes, 1), { flag: "a" }).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        full = true;
      });
    }
  }
  return { [Symbol.asyncDispose]: async () => await rm(ballast) };
}

const source = (path: string): string => JSON.stringify(join(import.meta.dirname, path));

/** A script in a process of its own, for which `directory` is a disk of 64 KiB; `fill` and `free` are there. */
async function runOnSmallDisk(directory: string, script: string): Promise<string> {
  const prelude = `
    import { readdir, rm, writeFile } from "node:fs/promises";
    const directory = ${JSON.stringify(directory)};
    const ballast = directory + "/ballast";
    const fill = async () => {
      for (let room = true; room; ) await writeFile(ballast, Buffer.alloc(4096, 1), { flag: "a" }).catch(() => (room = false));
    };
    const free = async () => await rm(ballast);
  `;
  const [program = "", ...args] = onSmallDisks({ [directory]: "64k" });
  return await runProgram(program, [...args, process.execPath, "--input-type=module", "-e", prelude + script]);
}

test(
  "a daemon whose spool or directory store is full says so each time, commits nothing meanwhile, and goes on by itself when there is room",
  { timeout: 300_000 },
  async () => {
    await using cluster = await startCluster();
    await cluster.fill({ keys: 50, valueBytes: 1000 });
    await using site = await openSite({
      cluster: { name: "prod", endpoints: [...cluster.endpoints] },
      schedules: [{ name: "often", cron: "*/2 * * * * *" }],
    });
    await mkdir(site.spool, { mode: 0o700 });
    const wrap = onSmallDisks({ [site.spool]: "64m", [site.store]: "32m" });
    await using daemon = await startDaemon(site, { wrap });
    await daemon.next("backup.committed");

    for (const [directory, code] of [
      [site.spool, "spool-space"],
      [site.store, "store-full"],
    ] as const) {
      await using _full = await fillDisk(daemon.pid, directory);
      daemon.skip();
      const failed = await daemon.next("backup.failed");
      expect(failed).toMatchObject({ level: "error", code, message: expect.stringContaining(directory) });
      await daemon.next("backup.failed");
      expect(await daemon.metric("lifeboat_backup_last_status", 'schedule="often"')).toBe(0);
      expect((await daemon.page("/livez")).status).toBe(200);
    }
    daemon.skip();
    await daemon.next("backup.committed");
    await daemon.untilMetric("lifeboat_backup_last_status", ['schedule="often"'], (value) => value === 1);
    const committed = daemon.lines.filter(({ event }) => event === "backup.committed").length;
    expect((await daemon.stop()).status).toBe(0);
    expect(committed).toBeGreaterThan(1);
    expect(manifestsOf(await site.objects()), "what was stored was stored on the small disk").toEqual([]);
  },
);

test("the journal of an operation stops it where its disk is full, keeps every line that it took, and goes on when there is room", async () => {
  const directory = await makeDirectory("journal");
  const script = `
    import { openJournalFiles } from ${source("../../src/runbook/journal-file.ts")};
    import { modelPlan } from ${source("../runbook/model.ts")};
    const { signal } = new AbortController();
    const journals = openJournalFiles({ directory, mirrors: [], by: "test", emit: () => undefined });
    const plan = { ...modelPlan([{}, {}]), id: "01JQ00000000000000000000FF" };
    const journal = await journals.create(plan, signal);
    await fill();
    const note = (step) => ({ kind: "start", step, timeMs: 1 });
    const failures = [];
    let taken = 0;
    for (; failures.length === 0; taken += 1) await journal.append(note("s0")).catch((error) => failures.push(error));
    await journal.append(note("s1")).catch((error) => failures.push(error));
    await journal[Symbol.asyncDispose]();
    await free();
    const again = await journals.open(plan.id, signal);
    await again.append(note("s1"));
    await again[Symbol.asyncDispose]();
    const { entries } = await journals.read(plan.id, signal);
    const told = failures.map(({ code, message, hint }) => ({ code, message, hint }));
    console.log(JSON.stringify({ told, taken: taken - 1, steps: entries.map(({ step }) => step) }));
  `;
  const { told, taken, steps } = JSON.parse(await runOnSmallDisk(directory, script)) as {
    told: unknown;
    taken: number;
    steps: readonly string[];
  };
  const full = {
    code: "journal-failed",
    message: expect.stringMatching(/^\/.*01JQ00000000000000000000FF\.jsonl: ENOSPC$/),
    hint: expect.stringContaining("make room there"),
  };
  expect(told).toEqual([full, full]);
  expect(steps).toEqual([...Array.from({ length: taken }, () => "s0"), "s1"]);
  await discardDirectory(directory);
});

test("the cache of the catalog says that its disk is full, leaves nothing half-written, and is kept again when there is room", async () => {
  const directory = await makeDirectory("catalog");
  const script = `
    import { writeCacheFile } from ${source("../../src/repository/cache-file.ts")};
    const catalog = directory + "/catalog";
    const write = async () => (await writeCacheFile(catalog, "01JQ00000000000000000000FF.0123456789abcdef.json", Buffer.alloc(9000, 32))) ?? null;
    const before = await write();
    await fill();
    const full = await write();
    const left = await readdir(catalog);
    await free();
    console.log(JSON.stringify({ before, full, left, after: await write() }));
  `;
  expect(JSON.parse(await runOnSmallDisk(directory, script))).toEqual({
    before: null,
    full: expect.stringMatching(/^\/.* cannot be written: ENOSPC$/),
    left: ["01JQ00000000000000000000FF.0123456789abcdef.json"],
    after: null,
  });
  await discardDirectory(directory);
});
