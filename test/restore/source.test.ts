import { mkdtempSync, openSync, closeSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openLocalHost } from "../../src/host/local.ts";
import { fileSource, onOwnDisk } from "../../src/restore/source.ts";
import { scanned } from "../snapshot/rig.ts";

const never = new AbortController().signal;

test("a database that a process has open is not copied, and the process is named", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lifeboat-source-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "db");
  writeFileSync(file, "database");
  const host = openLocalHost("here");
  const scan = async () => ({ ...scanned({ revision: 5n }), dbBytes: 8, sealed: false });
  const source = fileSource({ scan, holders: async (path, signal) => await host.holders(path, signal) }, file);
  const opened = openSync(file, "r+");
  try {
    await expect(source.fetch(join(directory, "work"), () => undefined, never)).rejects.toMatchObject({
      code: "restore-refused",
      exitStatus: 4,
      message: expect.stringContaining(`process ${process.pid} has ${file} open`),
      hint: expect.stringContaining("--from-member"),
    });
  } finally {
    closeSync(opened);
  }
  const fetched = await source.fetch(join(directory, "work"), () => undefined, never);
  expect(fetched.facts).toMatchObject({ kind: "file", revision: 5n });
});

test("what the disk of this machine refuses is a fault that names the directory, and no other error changes", async () => {
  const failing = async (error: Error): Promise<unknown> =>
    await onOwnDisk("/operations/X.work", async () => await Promise.reject(error)).catch((thrown: unknown) => thrown);
  const errno = (code: string): Error => Object.assign(new Error(code), { code });
  expect(await failing(errno("ENOSPC"))).toMatchObject({
    code: "spool-space",
    message: "no space left in /operations/X.work",
    hint: expect.stringContaining("operations.directory"),
  });
  expect(await failing(errno("EIO"))).toMatchObject({ code: "spool-failed", message: expect.stringContaining("EIO") });
  const bug = new TypeError("x is undefined");
  expect(await failing(bug)).toBe(bug);
  // A path that is a file is this disk's doing as well.
  const directory = mkdtempSync(join(tmpdir(), "lifeboat-source-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, "file"), "");
  const source = fileSource({ scan: async () => scanned({}), holders: async () => [] }, join(directory, "file"));
  await expect(source.fetch(join(directory, "file", "work"), () => undefined, never)).rejects.toMatchObject({
    code: "spool-failed",
  });
});
