import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSpool } from "../../src/snapshot/spool.ts";

const run = "01JQAAAAAAAAAAAAAAAAAAAAAA";
let folder: string;
let directory: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "spool-test-"));
  directory = join(folder, "deep/spool");
});
afterEach(() => rmSync(folder, { recursive: true }));

const namespace = /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0];

describe("the spool", () => {
  test("makes its directory for us alone, and files that nobody else reads", async () => {
    const spool = await openSpool(directory);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    {
      await using file = await spool.create(run);
      expect(statSync(file.path).mode & 0o777).toBe(0o600);
      await expect(spool.create(run)).rejects.toMatchObject({ code: "spool-failed" });
    }
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each([0o755, 0o770, 0o701])("refuses a directory of mode %o", async (mode) => {
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, mode);
    await expect(openSpool(directory)).rejects.toMatchObject({
      code: "config-invalid",
      hint: expect.stringContaining(`chmod 700 ${directory}`) as string,
    });
  });

  test("refuses a symbolic link and a file in its place", async () => {
    mkdirSync(join(folder, "target"), { mode: 0o700 });
    symlinkSync(join(folder, "target"), join(folder, "link"));
    await expect(openSpool(join(folder, "link"))).rejects.toMatchObject({ code: "config-invalid" });
    writeFileSync(join(folder, "file"), "");
    await expect(openSpool(join(folder, "file"))).rejects.toMatchObject({ code: "spool-failed" });
  });

  test("that loses a file to somebody's cleaning does not turn a success into a failure", async () => {
    const spool = await openSpool(directory);
    await using file = await spool.create(run);
    unlinkSync(file.path);
  });

  test("a refusal for want of space says how much is needed", async () => {
    const spool = await openSpool(directory);
    const { freeBytes, sizeBytes } = await spool.space();
    expect(sizeBytes).toBeGreaterThanOrEqual(freeBytes);
    await spool.requireSpace(1);
    await expect(spool.requireSpace(2 ** 52)).rejects.toMatchObject({
      code: "spool-space",
      message: expect.stringMatching(
        /has \d+ bytes free, \d+ of them kept for others, and the snapshot needs 4503599627370496$/,
      ) as string,
    });
    // The last bytes of a disk are not ours, it may be etcd's.
    await expect(spool.requireSpace((await spool.space()).freeBytes)).rejects.toMatchObject({ code: "spool-space" });
  });

  test("a sweep removes what dead runs left and nothing else", async () => {
    const spool = await openSpool(directory);
    await using own = await spool.create(run);
    const child = spawn("sleep", ["60"]);
    const start = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]?.split(" ")[19];
    const others = join(directory, `01JQBBBBBBBBBBBBBBBBBBBBBB.${child.pid}.${start}.${namespace}.spool`);
    const reused = join(directory, `01JQCCCCCCCCCCCCCCCCCCCCCC.${process.pid}.1.${namespace}.spool`);
    for (const path of [others, reused, join(directory, "notes.txt")]) writeFileSync(path, "12345");
    expect(await spool.sweep()).toEqual({ files: 1, bytes: 5 });
    expect([own.path, others, reused].map((path) => existsSync(path))).toEqual([true, true, false]);
    child.kill("SIGKILL");
    await once(child, "close");
    expect(await spool.sweep()).toEqual({ files: 1, bytes: 5 });
    expect(existsSync(own.path)).toBe(true);
    expect(existsSync(join(directory, "notes.txt"))).toBe(true);
  });

  test("scratch directories are ours alone, removed with all that is in them, and swept when their run is dead", async () => {
    const spool = await openSpool(directory);
    {
      await using scratch = await spool.createDirectory(run);
      expect(statSync(scratch.path).mode & 0o777).toBe(0o700);
      mkdirSync(join(scratch.path, "data/member"), { recursive: true });
      writeFileSync(join(scratch.path, "data/member/db"), "12345");
      expect(await spool.sweep()).toEqual({ files: 0, bytes: 0 });
      expect(existsSync(join(scratch.path, "data/member/db"))).toBe(true);
    }
    expect(readdirSync(directory)).toEqual([]);
    const outside = join(folder, "outside");
    writeFileSync(outside, "not ours");
    const dead = join(directory, `01JQCCCCCCCCCCCCCCCCCCCCCC.${process.pid}.1.${namespace}.scratch`);
    mkdirSync(join(dead, "data"), { recursive: true });
    writeFileSync(join(dead, "data/db"), "1234567");
    symlinkSync(outside, join(dead, "link"));
    expect(await spool.sweep()).toEqual({ files: 1, bytes: 7 });
    expect(existsSync(dead)).toBe(false);
    expect(readFileSync(outside, "utf8")).toBe("not ours");
  });

  test("a sweep leaves another container's file alone until nobody has touched it for a quarter of an hour", async () => {
    const spool = await openSpool(directory);
    const foreign = join(directory, "01JQDDDDDDDDDDDDDDDDDDDDDD.1.1.1.spool");
    writeFileSync(foreign, "12345");
    expect(await spool.sweep()).toEqual({ files: 0, bytes: 0 });
    const before = new Date(Date.now() - 16 * 60_000);
    utimesSync(foreign, before, before);
    expect(await spool.sweep()).toEqual({ files: 1, bytes: 5 });
  });

  test("a file that waits for a slow store is touched all the while, so that no other container takes it for dead", async () => {
    const spool = await openSpool(directory, 20);
    await using file = await spool.create(run);
    const before = new Date(Date.now() - 86_400_000);
    utimesSync(file.path, before, before);
    await expect.poll(() => Date.now() - statSync(file.path).mtimeMs).toBeLessThan(60_000);
  });

  test("two sweeps at once do not stumble over each other", async () => {
    const spool = await openSpool(directory);
    for (let n = 0; n < 20; n += 1)
      writeFileSync(join(directory, `01JQCCCCCCCCCCCCCCCCCCCC${10 + n}.1.1.${namespace}.spool`), "x");
    const swept = await Promise.all([spool.sweep(), spool.sweep()]);
    expect(swept.reduce((sum, { files }) => sum + files, 0)).toBe(20);
  });
});
