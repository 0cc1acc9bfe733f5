import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import type { Losing } from "../standins/losing-host.ts";
import { patiently } from "./cluster.ts";
import type { Ended } from "./command.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { ended, quick, slow } from "./restoring.ts";

/**
 * One of three hosts is lost amid a restore, with what ran on it: the command cannot reach it any more, and nothing there answers. Every instant of that, and what API
 * servers see of it, is test/restore/lost.test.ts.
 */

const preload = pathToFileURL(join(import.meta.dirname, "../standins/losing.ts")).href;

/** The third host, and how it is lost and found again. */
function openLosing(site: Restorable) {
  const file = join(site.site.directory, "losing.json");
  const service = "etcd3";
  const set = async (losing: Losing): Promise<void> => await writeFile(file, JSON.stringify(losing));
  const read = async (): Promise<Losing> => JSON.parse(await readFile(file, "utf8")) as Losing;
  return {
    /** The environment of commands that can lose it. */
    env: { NODE_OPTIONS: `--import=${preload}`, LOSING_HOST: file },
    at: async (method: Losing["at"]["method"], contains: string): Promise<void> =>
      await set({ host: "h3", at: { method, contains }, services: [site.directoryOf(service)], state: "well" }),
    expectLost: async (): Promise<void> => expect((await read()).state).toBe("lost"),
    /** It boots; what is held does not start. */
    findAgain: async (): Promise<void> => {
      await set({ ...(await read()), state: "back" });
      await site.command(service, "boot");
      expect(await site.runs(service)).toBe(false);
    },
  };
}

async function expectServing(site: Restorable, hosts: readonly number[], value: string): Promise<void> {
  for (const number of [1, 2, 3]) {
    expect(await site.runs(`etcd${number}`), `etcd${number}`).toBe(hosts.includes(number));
    if (!hosts.includes(number)) continue;
    const endpoints = [site.cluster.members[number - 1]?.clientUrl ?? ""];
    const read = async (): Promise<string> =>
      await site.cluster.etcdctl(["get", "kept", "--print-value-only"], { endpoints });
    expect(await patiently(read), `what etcd${number} serves`).toBe(`${value}\n`);
  }
}

test(
  "before the new data serves it stops the restore, and the others go back without it; after that they go on without it; when it is back it follows",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 3 });
    const { cluster } = site;
    const losing = openLosing(site);
    const { env } = losing;
    const run = async (...args: readonly string[]): Promise<Ended> =>
      await site.site.run(["restore", ...args, ...quick], { env });
    await cluster.put("kept", "then");
    const { backup } = await site.site.json<{ backup: string }>(["backup"]);
    await cluster.put("kept", "now");

    await losing.at("rename", "/member.before-restore-");
    expect(ended(await run("--backup", backup), 5)).toMatch(/h3 cannot be reached.*--rollback/s);
    await losing.expectLost();
    await expectServing(site, [], "");
    const backward = ended(await run("--rollback"), 0);
    expect(backward).toMatch(/h3 was lost on the way .*needs-rejoin/);
    await expectServing(site, [1, 2], "now");
    await losing.findAgain();
    ended(await run("--rollback", idIn(backward)), 0);
    await expectServing(site, [1, 2, 3], "now");
    for (const { dataDirectory } of cluster.members)
      expect((await readdir(dataDirectory)).filter((name) => name.startsWith("member"))).toEqual(["member"]);

    // It is lost as its member is to be started, while those of the others are.
    await losing.at("run", `enable ${site.directoryOf("etcd3")}`);
    const forward = ended(await run("--backup", backup), 0);
    await losing.expectLost();
    expect(forward).toMatch(/h3 was lost on the way .*needs-rejoin/);
    await expectServing(site, [1, 2], "then");
    await losing.findAgain();
    expect(ended(await site.site.run(["restore", "status"]), 0)).toContain("needs-rejoin");
    ended(await run("--resume", idIn(forward)), 0);
    await expectServing(site, [1, 2, 3], "then");
  },
);

/** The operation, as the advice names it. */
function idIn(text: string): string {
  return /when it is back: etcd-lifeboat restore --\w+ ([0-9A-Z]{26})/.exec(text)?.[1] ?? "";
}
