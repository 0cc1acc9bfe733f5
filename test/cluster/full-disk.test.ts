import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startDaemon } from "./daemon.ts";
import { startCluster } from "./harness.ts";
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
