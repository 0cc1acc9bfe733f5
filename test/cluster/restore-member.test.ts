import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { commandsIn, readPage } from "../docs/pages.ts";
import { openRestorable, type Restorable, type RestorableOptions } from "./restorable.ts";
import { confirmed, ended, slow } from "./restoring.ts";

/** One of three members has lost its data; the others go on. */

async function openWounded(options: RestorableOptions): Promise<Restorable> {
  const site = await openRestorable({ ...options, members: 3 });
  const { cluster, command } = site;
  await cluster.put("kept", "before");
  await command("etcd2", "stop");
  const data = dataOf(site, "etcd2");
  await rm(join(data, "member", "wal"), { recursive: true });
  await writeFile(join(data, "member", "snap", "db"), "not a database");
  await cluster.put("kept", "meanwhile");
  return site;
}

function dataOf({ cluster }: Restorable, name: string): string {
  return cluster.members.find((member) => member.name === name)?.dataDirectory ?? "";
}

/** As the members list each other: `ID, started, NAME, …, isLearner`. */
async function members({ cluster }: Restorable): Promise<readonly string[]> {
  return (await cluster.etcdctl(["member", "list"], { endpoints: [cluster.endpoints[0] ?? ""] })).trim().split("\n");
}

/** All of it is served by the member itself. */
async function expectJoined(site: Restorable): Promise<void> {
  const { cluster } = site;
  const own = cluster.members[1]?.clientUrl ?? "";
  expect(await cluster.etcdctl(["get", "kept", "--print-value-only"], { endpoints: [own] })).toBe("meanwhile\n");
  const list = await members(site);
  expect(list).toHaveLength(3);
  for (const line of list) expect(line).toContain("started");
  const names = await readdir(dataOf(site, "etcd2"));
  expect(names.filter((name) => name.startsWith("member"))).toEqual([
    "member",
    expect.stringMatching(/^member\.before-restore-/),
  ]);
  // The join was for once: an ordinary start finds its data.
  await site.command("etcd2", "stop");
  await site.command("etcd2", "start");
  await expect
    .poll(
      async () => {
        try {
          return await cluster.etcdctl(["get", "kept", "--print-value-only"], { endpoints: [own] });
        } catch {
          return "not yet";
        }
      },
      { timeout: 60_000 },
    )
    .toBe("meanwhile\n");
}

test(
  "a member of etcd 3.6 with TLS that lost its data joins anew as a learner, is promoted, and holds what the others hold",
  slow,
  async () => {
    await using site = await openWounded({ minor: "3.6", tls: true });
    const before = await members(site);
    const [lines = ""] = commandsIn(readPage("docs/operating/restore.md"), "One member lost its data");
    const [plan = [], run = []] = lines.split("\n").map((line) => line.split(" ").slice(1));
    const planned = ended(await site.site.run(plan), 0);
    expect(planned).toContain("etcd2 is a new learner that has not started");
    expect(await members(site)).toEqual(before);
    const wrong = ended(await site.site.run(["restore-member", "etcd9", "--plan"]), 4);
    expect(wrong).toContain('the cluster has no member "etcd9"');
    ended(await site.site.run([...run, ...confirmed]), 0);
    await expectJoined(site);
    expect((await members(site)).join()).not.toContain("true");
    ended(await site.site.run(["backup"]), 0);
  },
);

test(
  "a member of etcd 3.3 joins anew as a voter, also when the command dies after the old one was removed, and its machine with it",
  slow,
  async () => {
    await using site = await openWounded({ minor: "3.3" });
    const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step remove after perform" };
    expect((await site.site.run(["restore-member", "etcd2", ...confirmed], { env })).signal).toBe("SIGKILL");
    // Another machine has the copies of the journal alone.
    await rm(join(site.site.directory, "operations"), { recursive: true });
    // There is no repository, and so no lock that tells whether the first one is dead.
    expect(ended(await site.site.run(["restore-member", "--rollback", ...confirmed]), 11)).toContain("--take-over");
    // Its ID never comes back: the only way is forward.
    const back = await site.site.run(["restore-member", "--rollback", "--take-over", ...confirmed]);
    expect(ended(back, 4)).toContain("was removed from the cluster");
    ended(await site.site.run(["restore-member", "--resume", ...confirmed]), 0);
    await expectJoined(site);
  },
);

test(
  "before the member is removed all is taken back, and quorum that would be lost is a refusal with the numbers",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 3 });
    const before = await members(site);
    const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step aside.h2 after perform" };
    expect((await site.site.run(["restore-member", "etcd2", ...confirmed], { env })).signal).toBe("SIGKILL");
    expect(await site.runs("etcd2")).toBe(false);
    ended(await site.site.run(["restore-member", "--rollback", ...confirmed]), 0);
    expect(await site.runs("etcd2")).toBe(true);
    expect(await members(site)).toEqual(before);
    expect((await readdir(dataOf(site, "etcd2"))).filter((name) => name.startsWith("member"))).toEqual(["member"]);
    await site.command("etcd3", "stop");
    const refused = ended(await site.site.run(["restore-member", "etcd2", "--plan"]), 4);
    expect(refused).toContain("without etcd2 there are 2 voters, 2 of them must answer until it has joined, and 1 do");
  },
);
