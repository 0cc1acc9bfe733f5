import { existsSync } from "node:fs";
import { chmod, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runProgram } from "./processes.ts";
import type { Restorable } from "./restorable.ts";
import { ended, openDamaged, quick, slow } from "./restoring.ts";
import { toolProgram } from "./servers.ts";
import type { ConfigInput } from "./site.ts";

/** What the command refuses, and hooks that are in its way, on a real cluster; everything that needs none is test/restore's. */

async function expectUntouched({ cluster, runs }: Restorable): Promise<void> {
  const names = await readdir(cluster.members[0]?.dataDirectory ?? "");
  expect(names.filter((name) => name.startsWith("member"))).toEqual(["member"]);
  expect(await cluster.get("kept")).toBe("now");
  expect(await runs("api1")).toBe(true);
}

test(
  "without the key, with another one, of a damaged backup: the restore is refused, and nothing is touched",
  slow,
  async () => {
    await using site = await openDamaged();
    const { directory } = site.site;
    const stranger = join(directory, "stranger.key");
    await runProgram(toolProgram("age-keygen"), ["-o", stranger]);
    await chmod(stranger, 0o600);
    for (const identity of [undefined, { file: stranger }]) {
      const refused = await site.site.run(["restore", ...quick], {
        change: ({ repository }) => {
          if (identity === undefined) delete repository.encryption?.identity;
          else if (repository.encryption !== undefined) repository.encryption.identity = identity;
        },
      });
      ended(refused, 4);
      expect(refused.stderr).toMatch(/identity|key/);
      await expectUntouched(site);
    }
    const data = (await site.site.objects()).find((name) => name.endsWith(".db.zst.age")) ?? "";
    const stored = join(site.site.store, data);
    const whole = await readFile(stored);
    const damaged = Buffer.from(whole);
    damaged[Math.floor(whole.length / 2)]! ^= 1;
    await writeFile(stored, damaged);
    const refused = await site.site.run(["restore", ...quick]);
    ended(refused, 12);
    expect(refused.stderr).toContain(data);
    await expectUntouched(site);
  },
);

test(
  "an API server that comes back while the data is exchanged keeps the restored member from being started until it is gone",
  slow,
  async () => {
    await using site = await openDamaged();
    const [host] = Object.values(site.site.config.hosts ?? {});
    const command = host?.services?.[0]?.command;
    if (command === undefined) throw new Error("the site has no API server");
    // Nothing holds it, and somebody starts it by its own command, once.
    delete command.disable;
    delete command.enable;
    delete command.enabled;
    const hook = join(site.site.directory, "start-it");
    const start = command.start.map((word) => `'${word}'`).join(" ");
    await writeFile(hook, `#!/bin/sh\n[ -e "$0.done" ] || { touch "$0.done"; exec ${start}; }\n`, { mode: 0o700 });
    site.site.config.hooks = { "before-start-etcd": { run: [hook] } };
    const stopped = await site.site.run(["restore", ...quick, "--accept-reboot-risk"]);
    ended(stopped, 5);
    expect(stopped.stderr).toMatch(/kube-apiserver on h1 runs again, and must not/);
    expect([await site.runs("api1"), await site.runs("etcd1")]).toEqual([true, false]);
    await site.command("api1", "stop");
    ended(await site.site.run(["restore", "--resume", ...quick]), 0);
    expect(await site.cluster.get("kept")).toBe("then");
    expect(await site.runs("api1")).toBe(true);
    expect(await readFile(join(site.directoryOf("api1"), "log"), "utf8")).not.toContain("WENT BACK");
  },
);

test(
  "a hook stops it and says why without its secrets, one that hangs is killed with its children, one that lies is not believed, and what a failure hook does changes nothing",
  slow,
  async () => {
    await using site = await openDamaged();
    const script = async (name: string, text: string): Promise<{ run: [string] }> => {
      const path = join(site.site.directory, name);
      await writeFile(path, `#!/bin/sh\n${text}\n`, { mode: 0o700 });
      return { run: [path] };
    };
    site.site.secrets.add("canary-of-the-hook").add("canary-of-the-failure");
    site.site.config.hooks = {
      "before-stop-etcd": await script("no", "echo password=canary-of-the-hook; echo not approved >&2; exit 63"),
      "on-failure": await script(
        "fail",
        'cat >"$0.facts"; echo password=canary-of-the-failure; echo paged nobody; exit 7',
      ),
    };
    const stopped = await site.site.run(["restore", ...quick]);
    ended(stopped, 5);
    expect(stopped.stderr).toMatch(/says that the operation must not go on.*not approved/);
    expect(stopped.stderr).toMatch(/warning: hook on-failure: .*exited with 7.*paged nobody/);
    expect(stopped.stderr).toMatch(/--resume .*--rollback/);
    expect(await readdir(site.site.directory)).toContain("fail.facts");

    const hanging = await script("hang", 'trap "" TERM; (echo $$ >"$0.pid"; sleep 700) & sleep 700');
    site.site.config.hooks["before-stop-etcd"] = { ...hanging, timeout: "1s" };
    const hung = await site.site.run(["restore", "--resume", ...quick]);
    ended(hung, 5);
    expect(hung.stderr).toMatch(/took longer than 1 s, and was killed with all that it had started/);
    const pid = Number(await readFile(`${hanging.run[0]}.pid`, "utf8"));
    expect(pid).toBeGreaterThan(0);
    await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);

    site.site.config.hooks["before-stop-etcd"] = await script("yes", "echo drained; exit 62");
    const done = await site.site.run(["restore", "--resume", ...quick]);
    ended(done, 0);
    expect(done.stderr).toMatch(/warning: hook before-stop-etcd: .*warns.*drained/);
    expect(await site.cluster.get("kept")).toBe("then");

    // Where nobody has described the API server, a hook may be what stops it.
    const lie = await script("lie", "echo the API servers are stopped");
    const change = (config: ConfigInput): void => {
      config.hooks = { "before-stop-api-servers": lie };
      for (const host of Object.values(config.hosts ?? {})) host.services = [];
    };
    const heard = await site.site.run(["restore", ...quick], { change });
    ended(heard, 5);
    expect(heard.stderr).toMatch(/\[x\] the hook before-stop-api-servers has run/);
    expect(heard.stderr).toMatch(/somebody still talks to etcd: .*etcd1 (?:answered|has)/);
    expect(await site.runs("etcd1")).toBe(true);
    ended(await site.site.run(["restore", "--rollback", ...quick], { change }), 0);
    expect(await site.cluster.get("kept")).toBe("then");
  },
);
