import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exitStatuses } from "../../src/faults.ts";

/** The unit, as systemd's own tools judge it. */

const root = fileURLToPath(new URL("../..", import.meta.url));
const command = "/usr/local/bin/etcd-lifeboat";

let directory: string;
let unit: string;
let copy: string;

beforeAll(async () => {
  unit = await readFile(join(root, "systemd/etcd-lifeboat.service"), "utf8");
  directory = await mkdtemp(join(tmpdir(), "lifeboat-unit-"));
  copy = join(directory, "etcd-lifeboat.service");
  // It is judged as if the program were installed.
  await writeFile(copy, unit.replace(command, process.execPath));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

function analyze(...args: readonly string[]): Promise<{ readonly status: number; readonly output: string }> {
  return new Promise((resolve, reject) => {
    execFile("systemd-analyze", args, (error, stdout, stderr) => {
      if (error?.code === "ENOENT") {
        reject(
          new Error(
            "systemd-analyze is not on the PATH; install systemd (apt-get install systemd, dnf install systemd)",
          ),
        );
        return;
      }
      resolve({ status: error === null ? 0 : Number(error.code), output: `${stdout}${stderr}` });
    });
  });
}

describe("systemd/etcd-lifeboat.service", () => {
  test("systemd finds nothing wrong with it", async () => {
    expect(await analyze("verify", "--man=no", copy)).toEqual({ status: 0, output: "" });
  });

  test("its exposure is at most 2.0 of 10", async () => {
    const judged = await analyze("security", "--offline=true", "--threshold=20", copy);
    expect(judged.output).toContain("Overall exposure level");
    expect(judged.status).toBe(0);
  });

  test("it runs as no root, with no capability", () => {
    expect(value("User")).toBe("etcd-lifeboat");
    expect(value("CapabilityBoundingSet")).toBe("");
    expect(value("NoNewPrivileges")).toBe("yes");
  });

  test("it is not restarted for a configuration that stays wrong, and for every other failure it is", () => {
    const status = Number(value("RestartPreventExitStatus"));
    expect(exitStatuses[status as keyof typeof exitStatuses]).toMatch(/^configuration/);
    expect(value("Restart")).toBe("on-failure");
  });

  test("its spool is the one that the configuration means when it names none", async () => {
    const schema = JSON.parse(await readFile(join(root, "config/etcd-lifeboat.schema.json"), "utf8")) as unknown;
    expect(JSON.stringify(schema)).toContain(`"/var/cache/${value("CacheDirectory")}"`);
  });

  test("docs/install.md puts the program where the unit starts it", async () => {
    expect(value("ExecStart")).toBe(`${command} run --config /etc/etcd-lifeboat/config.yaml`);
    expect(await readFile(join(root, "docs/install.md"), "utf8")).toContain(command);
  });
});

function value(key: string): string | undefined {
  return unit
    .split("\n")
    .find((line) => line.startsWith(`${key}=`))
    ?.slice(key.length + 1);
}
