import { execFileSync } from "node:child_process";
import { truncateSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, describe, expect, it } from "vitest";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { Fault, isFault } from "../../src/faults.ts";
import type { ScanSnapshotTask } from "../../src/workers/tasks.ts";
import { runTask } from "../../src/workers/worker.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";

const dir = mkdtempSync(join(tmpdir(), "lifeboat-worker-"));
const path = join(dir, "snapshot.db");
writeFileSync(path, fixtureBytes("3.6"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const never = new AbortController().signal;
const scan = (file: string): ScanSnapshotTask => ({ kind: "scan-snapshot", path: file, probe: [], expectSeal: true });

describe("a task in a worker thread", () => {
  it("answers what the same call answers here, 64-bit numbers included", async () => {
    const probe = [{ main: 5n, sub: 3n }];
    const there = await runTask({ ...scan(path), probe }, never);
    expect(there).toEqual(scanSnapshot(path, { probe }));
    expect(there.probed).toHaveLength(1);
  });

  it("answers hashes in the order in which they were asked for, and refuses those that are gone", async () => {
    const facts = scanSnapshot(path);
    const ask = (compactRevisions: readonly bigint[]): Promise<readonly number[]> =>
      runTask({ kind: "hash-kv", path, revision: facts.revision, compactRevisions }, never);
    const [later, own] = await ask([facts.revision, facts.compactRevision]);
    expect(own).toBe(facts.hashKv);
    expect(later).not.toBe(own);
    await expect(ask([facts.compactRevision - 1n])).rejects.toMatchObject({ code: "etcd-compacted" });
  });

  it("leaves the event loop free", async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await runTask(scan(path), never);
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(0);
  });

  it("hands its fault over with code, message and hint", async () => {
    const short = join(dir, "short.db");
    writeFileSync(short, fixtureBytes("3.6").subarray(0, -32));
    truncateSync(short, 40 * 4096);
    const fault = await runTask({ ...scan(short), expectSeal: undefined }, never).catch((error: unknown) => error);
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({
      code: "bolt-corrupt",
      message: expect.stringMatching(/^page 40: the file ends here/),
      hint: expect.any(String),
    });
  });

  it("that dies is a fault that says of what", async () => {
    // A probe that is no number is a bug of ours, which ends the thread.
    const broken = { ...scan(path), probe: [{ main: "1", sub: 0n } as unknown as { main: bigint; sub: bigint }] };
    const fault = await runTask(broken, never).catch((error: unknown) => error);
    expect(isFault(fault, "worker-failed")).toBe(true);
    expect((fault as Fault).message).toMatch(/^the worker thread ended: .*bigint/i);
  });

  it("is ended by its signal, with the signal's own fault", async () => {
    const controller = new AbortController();
    const running = runTask(scan(path), controller.signal).catch((error: unknown) => error);
    controller.abort(new Fault("etcd-timeout", "too late"));
    expect(await running).toMatchObject({ code: "etcd-timeout", message: "too late" });
    await expect(runTask(scan(path), controller.signal)).rejects.toThrow("too late");
  });

  it("runs from the release, which is one CommonJS file", async () => {
    const bundle = join(dir, "bundle.cjs");
    await build({
      stdin: {
        contents: `
          import { isMainThread } from "node:worker_threads";
          import { runTask } from "./src/workers/worker.ts";
          const task = { kind: "scan-snapshot", path: process.argv[2], probe: [], expectSeal: true };
          if (isMainThread) runTask(task, new AbortController().signal).then((facts) => console.log(String(facts.revision), facts.keys));`,
        resolveDir: join(import.meta.dirname, "../.."),
      },
      outfile: bundle,
      bundle: true,
      platform: "node",
      format: "cjs",
      banner: { js: `const bundleUrl = require("node:url").pathToFileURL(__filename).href;` },
      define: { "import.meta.url": "bundleUrl" },
    });
    expect(execFileSync(process.execPath, [bundle, path], { encoding: "utf8" }).trim()).toBe("42 90");
  });
});
