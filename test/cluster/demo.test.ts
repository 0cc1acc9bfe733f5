import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "vitest";

const script = new URL("../../scripts/demo", import.meta.url).pathname;

describe.concurrent("scripts/demo", { timeout: 240_000 }, () => {
  test("brings a destroyed cluster back by one command, ends by itself and leaves nothing", async ({ expect }) => {
    await using demo = await startDemo();
    expect(await demo.status, demo.text()).toBe(0);
    const text = demo.text();
    for (const promise of [
      /^demo: etcd 3\.\d+\.\d+ /m,
      /^\$ etcd-lifeboat run /m,
      /^\d{8}T\d{6}Z\.slot\.often +.* 750 .*sealed, encrypted/m,
      /^\d{8}T\d{6}Z\.slot\.often +ok +structure/m,
      /^lifeboat_backup_last_keys\{cluster="demo",schedule="often"\} 750$/m,
      /^\$ kill -KILL \d+ \d+ \d+$/m,
      /backup\.failed .*code=etcd-unreachable/,
      /^\$ etcd-lifeboat restore --plan$/m,
      /^\$ etcd-lifeboat restore --yes --confirm-cluster demo$/m,
      /^ {2}\[x\] etcd has one leader and exactly these members, and by HashKV each holds what was restored/m,
      /^restored by operation [0-9A-Z]{26}$/m,
      /All 750 keys are back, byte for byte\./,
      /^client runs$/m,
      /^\d{8}T\d{6}Z\.demand\..* 1000000\d+ +750 .*proven .*after restore/m,
      /^newest backup: .* revision 1000000\d+$/m,
      /Everything is stopped/,
    ]) {
      expect(text).toMatch(promise);
    }
    // Not a terminal, so no colours.
    expect(text).not.toContain("\u001b");
    expect(await demo.remains()).toEqual([]);
  });

  test("--keep leaves everything running until Ctrl-C, and then nothing", async ({ expect }) => {
    await using demo = await startDemo("--keep");
    await demo.says("until you press Ctrl-C");
    const metrics = /^ +metrics +(http\S+)$/m;
    await expect.poll(demo.text).toMatch(metrics);
    const page = async () => await (await fetch(metrics.exec(demo.text())?.[1] ?? "")).text();
    await expect.poll(page).toMatch(/^lifeboat_backup_last_status\{.*\} 1$/m);
    expect((await demo.remains()).length).toBeGreaterThanOrEqual(1 + 3 + 1); // the directory, members and the daemon
    demo.kill("SIGINT");
    expect(await demo.status, demo.text()).toBe(0);
    expect(await demo.remains()).toEqual([]);
  });

  test("killed in the middle, it leaves nothing either", async ({ expect }) => {
    await using demo = await startDemo();
    await demo.says("$ etcd-lifeboat run ");
    await expect.poll(async () => (await demo.remains()).length).toBeGreaterThan(4);
    demo.kill("SIGKILL");
    await demo.status;
    await expect.poll(demo.remains, { timeout: 60_000 }).toEqual([]);
  });
});

/** Runs the demo in a temporary directory of its own and in a process group of its own, as a terminal would. */
async function startDemo(...options: readonly string[]) {
  const directory = await mkdtemp(join(tmpdir(), "demo-test-"));
  const child = spawn(script, options, {
    env: { ...process.env, TMPDIR: directory },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const status = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    // Not "close": a member that outlived the demo would hold its output open.
    child.on("exit", resolve);
  });
  const kill = (signal: NodeJS.Signals): void => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    // Ctrl-C reaches the whole group of the terminal; a kill reaches the script alone.
    process.kill(signal === "SIGINT" ? -child.pid : child.pid, signal);
  };
  return {
    status,
    kill,
    text: () => text,
    async says(what: string): Promise<void> {
      while (!text.includes(what)) {
        if (child.exitCode !== null) throw new Error(`the demo ended before it said "${what}":\n${text}`);
        await sleep(100);
      }
    },
    /** What there still is of this demo: files in its directory and processes that work there. */
    async remains(): Promise<readonly string[]> {
      return [...(await readdir(directory)), ...(await processesIn(directory))];
    },
    async [Symbol.asyncDispose]() {
      kill("SIGTERM");
      await status;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Processes whose working directory is below a directory, also when it was removed since. */
async function processesIn(directory: string): Promise<readonly string[]> {
  if (!existsSync("/proc/self/cwd"))
    throw new Error("this test looks for leftover processes in /proc: run it on Linux");
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map(async (pid) => ({ pid, cwd: await workingDirectory(pid) })));
  return found.flatMap(({ pid, cwd }) => (cwd.startsWith(directory) ? [`process ${pid}`] : []));
}

async function workingDirectory(pid: string): Promise<string> {
  try {
    return await readlink(`/proc/${pid}/cwd`);
  } catch {
    // It ended meanwhile, or belongs to somebody else and so is none of ours.
    return "";
  }
}
