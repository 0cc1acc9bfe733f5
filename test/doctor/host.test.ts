import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Finding } from "../../src/doctor/finding.ts";
import { examineHost, type HostExamination } from "../../src/doctor/host.ts";
import { Fault } from "../../src/faults.ts";
import { calm } from "../snapshot/bytes.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "doctor-host-"));
  for (const name of ["spool", "processes", "bin", "data"]) await mkdir(join(directory, name));
  await answerTime("yes");
});
afterEach(async () => await rm(directory, { recursive: true }));

async function answerTime(says: string): Promise<void> {
  const path = join(directory, "bin/timedatectl");
  await writeFile(path, `#!/bin/sh\necho ${says}\n`);
  await chmod(path, 0o755);
}

/** A process as /proc shows it. */
async function run(pid: number, name: string, ...args: string[]): Promise<void> {
  await mkdir(join(directory, "processes", String(pid)));
  await writeFile(join(directory, "processes", String(pid), "comm"), `${name}\n`);
  await writeFile(join(directory, "processes", String(pid), "cmdline"), [name, ...args].join("\0"));
}

const gib = 1024 ** 3;

async function examine(changes: Partial<HostExamination> = {}): Promise<readonly Finding[]> {
  const deps: HostExamination = {
    spoolDirectory: join(directory, "spool"),
    space: async () => ({ freeBytes: 20 * gib, sizeBytes: 40 * gib }),
    storeDirectory: undefined,
    largestBytes: gib,
    path: `${join(directory, "bin")}:/usr/bin:/bin`,
    processes: join(directory, "processes"),
    ...changes,
  };
  return await examineHost(deps, calm);
}

function of(findings: readonly Finding[], check: string): Pick<Finding, "severity" | "message"> | undefined {
  const found = findings.find((each) => each.check === check);
  return found === undefined ? undefined : { severity: found.severity, message: found.message };
}

test("a host with room, a clock that is kept right and no member: all is well", async () => {
  await run(1, "systemd");
  expect((await examine()).map(({ check, severity }) => `${check} ${severity}`)).toEqual([
    "room ok",
    "disks ok",
    "time ok",
  ]);
});

test("a spool without room for the largest database is a problem", async () => {
  const space = async () => ({ freeBytes: gib, sizeBytes: 40 * gib });
  const [room] = await examine({ space });
  expect(room).toMatchObject({
    severity: "problem",
    code: "spool-space",
    help: expect.stringContaining("spool.directory") as string,
  });
  expect(of(await examine({ space, largestBytes: undefined }), "room")?.severity).toBe("unknown");
  const broken = await examine({ space: () => Promise.reject(new Fault("spool-failed", "it is gone")) });
  expect(of(broken, "room")).toEqual({ severity: "problem", message: "it is gone" });
});

test.each(["--data-dir=DATA", "-data-dir=DATA", "--data-dir DATA"])(
  "a spool and a store on the disk of a member that was started with %s are told",
  async (flag) => {
    const data = join(directory, "data");
    await run(7, "etcd", "--name=a", ...flag.replace("DATA", data).split(" "));
    const findings = (await examine({ storeDirectory: directory })).filter(({ check }) => check === "disks");
    expect(findings.map(({ severity }) => severity)).toEqual(["warning", "warning"]);
    expect(findings[0]?.message).toContain(`is on the disk of etcd's data ${data}`);
    expect(findings[1]?.message).toContain("what kills one kills both");
  },
);

test("a member's data on another disk is as it should be", async () => {
  await run(7, "etcd", "--data-dir=/proc");
  expect(of(await examine(), "disks")).toEqual({ severity: "ok", message: "etcd's data /proc has a disk of its own" });
});

test("a member that hides its data, or whose data is not to be seen, is not called well", async () => {
  await run(7, "etcd", "--config-file=/etc/etcd.yaml");
  expect(of(await examine(), "disks")?.severity).toBe("unknown");
  await run(8, "etcd", "--data-dir=/nonexistent/etcd");
  expect(of(await examine(), "disks")?.message).toContain("which disk /nonexistent/etcd is on cannot be seen");
});

test("a clock that is not kept right is told, and one that cannot be asked is not known", async () => {
  await answerTime("no");
  expect(of(await examine(), "time")?.severity).toBe("warning");
  await answerTime("perhaps");
  expect(of(await examine(), "time")?.severity).toBe("unknown");
  expect(of(await examine({ path: "/nonexistent" }), "time")?.severity).toBe("unknown");
});
