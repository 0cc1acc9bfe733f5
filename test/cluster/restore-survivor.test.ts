import { mkdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Etcd3 } from "etcd3";
import { expect, test } from "vitest";
import { lifeboatBuilder } from "../../src/datadir/lifeboat.ts";
import { commandsIn, readPage } from "../docs/pages.ts";
import { layMember } from "./lay.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { ended, quick, slow } from "./restoring.ts";
import { etcdProgram } from "./servers.ts";

/** Quorum is lost, and one member still holds more than any backup. */

/** A directory as `--tools` takes it. */
const tools = ["--tools", dirname(dirname(etcdProgram("3.6", "etcd")))];

/** Ends a member's supervisor and then its etcd as a power cut does; what is on its disk stays. */
async function kill({ directoryOf, runs }: Restorable, name: string): Promise<void> {
  for (const file of ["pid", "child"]) {
    const [pid = ""] = (await readFile(join(directoryOf(name), file), "utf8")).split(" ");
    process.kill(Number(pid), "SIGKILL");
  }
  await expect.poll(async () => await runs(name)).toBe(false);
}

async function destroy(site: Restorable, name: string): Promise<void> {
  await kill(site, name);
  const data = site.cluster.members.find((member) => member.name === name)?.dataDirectory ?? "";
  await rm(data, { recursive: true });
  await mkdir(data, { mode: 0o700 });
}

test(
  "two of three members are destroyed: the third, alive and newer than the backup, is offered first and brought back",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 3, tls: true });
    const { cluster } = site;
    await cluster.put("kept", "then");
    ended(await site.site.run(["backup"]), 0);
    await cluster.put("kept", "now");
    const refused = ended(await site.site.run(["restore", "--from-member", "etcd1", "--plan"]), 4);
    expect(refused).toContain("the cluster has quorum");
    await Promise.all(["etcd2", "etcd3"].map((name) => destroy(site, name)));
    const planned = ended(await site.site.run(["restore", "--plan"]), 0);
    expect(planned).toMatch(/NEWER: etcd1 is alive at revision \d+, \d+ after .*restore --from-member etcd1/);
    const [command = ""] = commandsIn(readPage("docs/operating/restore.md"), "Quorum is lost, and a member survives");
    const [, ...words] = command.split(" ");
    expect(words).toEqual(["restore", "--from-member", "etcd1"]);
    ended(await site.site.run([...words, ...quick]), 0);
    expect(await cluster.get("kept")).toBe("now");
    for (const name of ["etcd1", "etcd2", "etcd3"]) expect(await site.runs(name)).toBe(true);
  },
);

/** The database is written once an hour: whatever comes after the backup is in the log alone. */
const lazy = ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"];

/** A cluster whose members died by a power cut, with one of them left and `now 20` only in its log. */
async function openDead(minor: "3.4" | "3.6", members: 1 | 3): Promise<Restorable> {
  const site = await openRestorable({ minor, members, flags: lazy });
  await site.cluster.put("kept", "then");
  ended(await site.site.run(["backup"]), 0);
  for (let number = 1; number <= 20; number += 1) await site.cluster.put("kept", `now ${number}`);
  await Promise.all(site.cluster.members.map(({ name }) => kill(site, name)));
  const [, ...others] = site.cluster.members;
  for (const { dataDirectory } of others) await rm(join(dataDirectory, "member"), { recursive: true });
  return site;
}

const from = ["restore", "--from-member", "etcd1"];

test(
  "what a stopped member had only in its log comes back by a throw-away etcd, also when the restore dies amid it",
  slow,
  async () => {
    await using site = await openDead("3.6", 3);
    const planned = ended(await site.site.run([...from, "--plan", ...tools]), 0);
    expect(planned).toMatch(/\d+ entries were only in the log of etcd1: etcd 3\.6\.\d+ has applied them to a copy/);
    // It dies when the member's own data is aside: what was taken of it must still be here.
    const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step swap.h1 after perform" };
    expect((await site.site.run([...from, ...quick, ...tools], { env })).signal).toBe("SIGKILL");
    ended(await site.site.run(["restore", "--resume", ...quick]), 0);
    expect(await site.cluster.get("kept")).toBe("now 20");
  },
);

test("a log that nothing here can apply is a refusal with the number of entries and what helps", slow, async () => {
  await using site = await openDead("3.4", 1);
  const refused = ended(await site.site.run([...from, "--plan"], { env: { PATH: "/nowhere" } }), 4);
  expect(refused).toMatch(
    /the database of etcd1 ends at entry \d+ of its log, which goes on to \d+, .*not applied: no etcd 3\.4/,
  );
});

/** Somebody restores by hand, further up than any rate of writes: neither the repository nor a journal knows of it. */
async function restoreByHand({ cluster, command }: Restorable, bump: bigint): Promise<void> {
  const never = new AbortController().signal;
  const { members } = cluster;
  await Promise.all(members.map(async ({ name }) => await command(name, "stop")));
  const work = join(cluster.directory, "by-hand");
  await mkdir(work);
  const planned = members.map(({ name, peerUrl }) => ({ name, peerUrls: [peerUrl] }));
  const database = join(members[0]?.dataDirectory ?? "", "member/snap/db");
  const request = { minor: "3.6", token: "by-hand", members: planned, bump } as const;
  const built = await lifeboatBuilder().build(database, work, request, never);
  for (const { name, dataDirectory } of members) {
    await rm(join(dataDirectory, "member"), { recursive: true });
    await layMember(built, name, dataDirectory);
  }
  await Promise.all(members.map(async ({ name }) => await command(name, "start")));
}

test(
  "when all members died, the first revision is above what their own files say, which nobody else knows",
  slow,
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 3, flags: lazy });
    const { cluster } = site;
    ended(await site.site.run(["backup"]), 0);
    await restoreByHand(site, 5_000_000_000n);
    await cluster.put("back", "by hand");
    const client = new Etcd3({ hosts: [...cluster.endpoints] });
    for (let round = 0; round < 30; round += 1)
      await Promise.all(Array.from({ length: 100 }, async (_, key) => await client.put(`key${key}`).value(`${round}`)));
    client.close();
    const last = await cluster.revision();
    await Promise.all(cluster.members.map(({ name }) => kill(site, name)));
    const planned = ended(await site.site.run(["restore", "--plan"]), 0);
    const said =
      /starts at revision (\d+), .*: above revision (\d+) of the stopped member etcd\d on h\d \((\d+) in its database and at most (\d+) more in its log\)/;
    const [first = 0n, seen = 0n, database = 0n, log = 0n] = (said.exec(planned) ?? []).slice(1).map(BigInt);
    expect(seen, planned).toBe(database + log);
    expect(seen).toBeGreaterThanOrEqual(last);
    expect(first).toBeGreaterThan(seen);
    // What was written since is in the logs alone, and an hour of writes would not come near it.
    expect(log).toBeGreaterThan(3_000n);
    expect(database).toBeGreaterThan(5_000_000_000n);
  },
);
