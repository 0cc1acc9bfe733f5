import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { buildProgram } from "../../src/cli/program.ts";
import { blocks, readPage } from "./pages.ts";

/** What docs/operating/timers.md gives to be copied. */

const shown = blocks(readPage("docs/operating/timers.md"));

function analyze(...args: readonly string[]): Promise<{ readonly status: number; readonly output: string }> {
  return new Promise((resolve, reject) => {
    execFile("systemd-analyze", args, (error, stdout, stderr) => {
      if (error?.code === "ENOENT") reject(new Error("systemd-analyze is not on the PATH; install systemd"));
      else resolve({ status: error === null ? 0 : Number(error.code), output: `${stdout}${stderr}` });
    });
  });
}

test("systemd finds nothing wrong with the timer and its service", async () => {
  const [service = "", timer = "", ...others] = shown
    .filter(({ language }) => language === "ini")
    .map(({ code }) => code);
  expect(others).toEqual([]);
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-timer-"));
  try {
    await writeFile(
      join(directory, "etcd-lifeboat-backup@.service"),
      service.replace("/usr/local/bin/etcd-lifeboat", process.execPath),
    );
    await writeFile(join(directory, "etcd-lifeboat-backup@.timer"), timer);
    const units = ["service", "timer"].map((kind) => join(directory, `etcd-lifeboat-backup@hourly.${kind}`));
    for (const unit of units) expect(await analyze("verify", "--man=no", unit)).toEqual({ status: 0, output: "" });
  } finally {
    await rm(directory, { recursive: true });
  }
  understood(/^ExecStart=\S+ (.*)$/m.exec(service)?.[1]?.replaceAll("%i", "hourly").split(" ") ?? []);
});

test("the CronJob is a manifest whose command is understood, and which starts no two backups at once", () => {
  const [code] = shown.filter(({ language }) => language === "yaml").map((block) => block.code);
  const { kind, spec } = parse(code ?? "") as CronJob;
  expect([kind, spec.concurrencyPolicy]).toEqual(["CronJob", "Forbid"]);
  const { containers, volumes, restartPolicy } = spec.jobTemplate.spec.template.spec;
  expect(restartPolicy).toBe("Never");
  for (const { args, volumeMounts } of containers) {
    understood(args);
    expect(volumeMounts.map(({ name }) => name)).toEqual(volumes.map(({ name }) => name));
  }
});

interface CronJob {
  readonly kind: string;
  readonly spec: {
    readonly concurrencyPolicy: string;
    readonly jobTemplate: {
      readonly spec: {
        readonly template: {
          readonly spec: {
            readonly restartPolicy: string;
            readonly containers: readonly {
              readonly args: readonly string[];
              readonly volumeMounts: readonly { readonly name: string }[];
            }[];
            readonly volumes: readonly { readonly name: string }[];
          };
        };
      };
    };
  };
}

/** Throws when the program does not know a word of it. */
function understood(args: readonly string[]): void {
  const unused = (): never => {
    throw new Error("no command runs in this test");
  };
  const console = { out: unused, err: unused, interactive: false, columns: () => undefined, env: {} };
  const signal = new AbortController().signal;
  const environment = { console, version: "0.0.0", signal, open: unused, listen: unused, daemon: unused };
  const backup = buildProgram(environment, () => undefined).commands.find((command) => command.name() === "backup");
  let options: object = {};
  backup?.action((given: object) => {
    options = given;
  });
  backup?.parse(args.slice(1), { from: "user" });
  expect([args[0], options]).toEqual([
    "backup",
    { schedule: "hourly", ifDue: true, config: "/etc/etcd-lifeboat/config.yaml" },
  ]);
}
