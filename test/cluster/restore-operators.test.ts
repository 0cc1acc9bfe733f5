import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startCommand } from "./command.ts";
import { ended, memberDirectories, openDamaged, quick, slow } from "./restoring.ts";

/** People at the restore: two at once, one whose terminal goes away, one whose plan is old when the name is typed. */

const patient = { timeout: 120_000 };

/** The command at a terminal of its own (script of util-linux), at which something can be typed. */
async function openTerminal(args: readonly string[]) {
  const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
  const line = [process.execPath, main, ...args].map((word) => `'${word}'`).join(" ");
  const child = spawn("script", ["--quiet", "--flush", "--return", "--command", line, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { PATH: process.env["PATH"], HOME: tmpdir(), TERM: "dumb" },
    timeout: 240_000,
    killSignal: "SIGKILL",
  });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  await once(child, "spawn").catch((error: unknown) => {
    throw new Error("script is missing: install bsdutils, or util-linux where it is a part of that", { cause: error });
  });
  const ended = once(child, "close").then(([status]) => status as number | null);
  return { ended, said: () => said, type: (text: string) => void child.stdin.write(`${text}\n`) };
}

const name = "type the cluster's name";

test(
  "a plan that has become untrue is refused when the name is typed; of two who restore at once one does and the other is told; what the first leaves as his terminal goes is finished at another one",
  slow,
  async () => {
    await using site = await openDamaged();
    const { cluster } = site;
    const { directory } = site.site;

    const reader = await openTerminal(["restore", ...(await site.site.configure())]);
    await expect.poll(reader.said, patient).toContain(name);
    await site.command("etcd1", "stop");
    reader.type("prod");
    expect(await reader.ended, reader.said()).toBe(4);
    expect(reader.said()).toMatch(/not what they were when this plan was made.*restore --plan/s);
    expect(await memberDirectories(site)).toEqual(["member"]);
    await site.command("etcd1", "start");
    await expect.poll(async () => await cluster.get("kept").catch(String), patient).toBe("now");

    // Whoever has the lock waits in the hook until all of this has been looked at.
    const hook = join(directory, "wait");
    const script = 'touch "$0.begun"; while [ ! -e "$0.enough" ]; do sleep 0.2; done';
    await writeFile(hook, `#!/bin/sh\n${script}\n`, { mode: 0o700 });
    const told = join(directory, "tell");
    await writeFile(told, '#!/bin/sh\ncat >"$0.facts"\n', { mode: 0o700 });
    site.site.config.hooks = { "before-stop-etcd": { run: [hook], timeout: "10m" }, "on-failure": { run: [told] } };
    const operators = await Promise.all(
      ["alice", "bob"].map(async (operator) => {
        const config = await site.site.configure((changed) => {
          changed.operations = { directory: join(directory, operator) };
        });
        return { config, started: startCommand(["restore", ...quick, ...config]) };
      }),
    );
    const refused = await Promise.race(
      operators.map(async (operator) => ({ operator, how: await operator.started.ended })),
    );
    // By the lock, or where he came later by what the hosts have of the other's journal.
    expect(ended(refused.how, 11)).toMatch(/restore.* (?:since|on another machine) .*etcd-lifeboat lock show/s);
    const first = operators.find((operator) => operator !== refused.operator);
    await expect.poll(async () => await readFile(`${hook}.begun`, "utf8").catch(String), patient).toBe("");
    first?.started.child.kill("SIGHUP");
    // It stops in order: whoever is to be told is told, and nothing of it goes on.
    expect(await first?.started.ended).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/interrupted by SIGHUP.*--resume .*--rollback/s) as string,
    });
    expect(await readFile(`${told}.facts`, "utf8")).toContain("interrupted by SIGHUP");

    // Its API server stays stopped, and etcd runs on its old data.
    expect([await site.runs("api1"), await site.runs("etcd1")]).toEqual([false, true]);
    expect(await cluster.get("kept")).toBe("now");
    const { config = [] } = first ?? {};
    expect(ended(await startCommand(["restore", "status", ...config]).ended, 0)).toMatch(
      /\[!\] the hook before-stop-etcd has run.*: interrupted by SIGHUP/,
    );
    await writeFile(`${hook}.enough`, "");
    const another = await openTerminal(["restore", "--resume", ...config]);
    await expect.poll(another.said, patient).toContain(name);
    another.type("prod");
    expect(await another.ended, another.said()).toBe(0);
    expect(await cluster.get("kept")).toBe("then");
    expect(await site.runs("api1")).toBe(true);
  },
);
