import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { editValue } from "../cluster/edit-row.ts";
import { startCluster, type TestCluster, type TestMember } from "../cluster/harness.ts";
import { etcdProgram } from "../cluster/servers.ts";
import { openSite, type Site } from "../cluster/site.ts";
import { backUp } from "./proofs.ts";

/** A member whose data is not the cluster's is found by the next backup, whichever member that is taken from. */

describe.each(["3.4", "3.6"] as const)("three members of etcd %s", (minor) => {
  let cluster: TestCluster;
  let site: Site;

  beforeAll(async () => {
    cluster = await startCluster({ minor, members: 3 });
    site = await openSite({ cluster: { name: "prod", endpoints: [...cluster.endpoints] } });
    await cluster.fill({ keys: 200, valueBytes: 100 });
    await cluster.put("first", "what the cluster agreed on, one");
    await cluster.put("second", "what the cluster agreed on, two");
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });

  test("the backup of a diverged follower is not kept: another member is taken, and the diverged one is named", async () => {
    const [chosen] = await followers(cluster);
    // The first by name among followers that keep up is the source.
    await edit(chosen, "what the cluster agreed on, one", "what the cluster never said, 1.");
    const proof = await backUp(site);
    expect(proof).toMatchObject({ verdict: "proven", diverged: [chosen?.name] });
    expect(proof.source?.name).not.toBe(chosen?.name);
    expect(proof.agreeing).not.toContain(chosen?.name);
    const status = await site.run(["status"]);
    expect(status.stdout).toMatch(new RegExp(`${chosen?.name}.*(diverged|other data|disagree)`, "i"));
    // The edit is taken back, and nobody is accused any more.
    await edit(chosen, "what the cluster never said, 1.", "what the cluster agreed on, one");
    expect(await backUp(site)).toMatchObject({ verdict: "proven", diverged: [] });
  });

  test("a diverged member that is not the source is named, and the backup is proven by the others", async () => {
    const [, other] = await followers(cluster);
    await edit(other, "what the cluster agreed on, two", "what the cluster never said, 2.");
    const proof = await backUp(site);
    expect(proof).toMatchObject({ verdict: "proven", diverged: [other?.name] });
    expect(proof.agreeing).toHaveLength(2);
  });

  test("three members with three opinions prove nothing: sealed, loudly, with everybody's words", async () => {
    const [first] = await followers(cluster);
    await edit(first, "what the cluster agreed on, one", "what the cluster never said, 3.");
    const proof = await backUp(site);
    expect(proof).toMatchObject({ verdict: "sealed" });
    expect(proof.reason).toMatch(/disagree/);
    // Nobody is believed on one answer: each of the others was asked twice.
    expect(proof.answers.filter(({ outcome }) => outcome.kind === "hash").length).toBeGreaterThanOrEqual(4);
  });
});

describe("an address behind which another cluster answers", () => {
  test("is no witness, and the others prove the backup", async () => {
    await using cluster = await startCluster({ members: 3 });
    await using stranger = await startCluster({ members: 1 });
    await cluster.fill({ keys: 100, valueBytes: 50 });
    const [strange = ""] = stranger.endpoints;
    const [, replaced] = await followers(cluster);
    await using site = await openSite({
      cluster: {
        name: "prod",
        endpoints: [...cluster.endpoints],
        members: { [replaced?.name ?? ""]: { url: strange } },
      },
    });
    const proof = await backUp(site);
    expect(proof).toMatchObject({ verdict: "proven", diverged: [] });
    expect(proof.agreeing).not.toContain(replaced?.name);
  });
});

/** A directory as `--tools` takes it, with the programs of all minors. */
const tools = dirname(dirname(etcdProgram("3.6", "etcd")));

describe("equal members without a key left, whose compactions have removed more or fewer old rows", () => {
  test("are accused of nothing, although etcd's hashes differ", async () => {
    // Slow enough that it is under way until the end.
    const flags = ["--experimental-compaction-batch-limit=20", "--experimental-compaction-sleep-interval=1s"];
    await using cluster = await startCluster({ minor: "3.5", members: 3, flags });
    await using site = await openSite({ cluster: { name: "prod", endpoints: [...cluster.endpoints] } });
    await cluster.fill({ keys: 2000, valueBytes: 20 });
    await cluster.etcdctl(["del", "", "--prefix"]);
    const revision = await cluster.revision();
    const late = (await followers(cluster)).at(-1);
    late?.pause();
    try {
      await cluster.etcdctl(["compact", revision.toString()], { endpoints: others(cluster, late) });
      await sleep(5000);
    } finally {
      late?.resume();
    }
    // A revision after the compaction, at which there is no key either.
    await cluster.put("short", "lived");
    await cluster.etcdctl(["del", "short"]);
    const proof = await backUp(site);
    expect(proof).toMatchObject({ diverged: [] });
    expect(proof.verdict === "proven" || /no key is left/.test(proof.reason), proof.reason).toBe(true);
    const told = await site.json<{ content: { hashKv: number; keys: number } }>(["show", "latest"]);
    expect(told.content.keys).toBe(0);
    const hashes = proof.answers.flatMap(({ outcome }) => (outcome.hash === undefined ? [] : [outcome.hash]));
    expect(new Set([told.content.hashKv, ...hashes]).size, "different hashes").toBeGreaterThan(1);
    // The member that is started from it goes on with the compaction.
    const verified = await site.run(["verify", "latest", "--level", "boot", "--tools", tools]);
    expect(verified, verified.stderr + verified.stdout).toMatchObject({ status: 0 });
  });
});

function others(cluster: TestCluster, member: TestMember | undefined): readonly string[] {
  return cluster.endpoints.filter((url) => url !== member?.clientUrl);
}

/** The members that do not lead, by name. */
async function followers(cluster: TestCluster): Promise<readonly TestMember[]> {
  const status = JSON.parse(await cluster.etcdctl(["endpoint", "status", "--write-out", "json"])) as readonly {
    readonly Endpoint: string;
    readonly Status: { readonly header: { readonly member_id: unknown }; readonly leader: unknown };
  }[];
  const following = status
    .filter(({ Status }) => String(Status.header.member_id) !== String(Status.leader))
    .map(({ Endpoint }) => Endpoint);
  return cluster.members
    .filter(({ clientUrl }) => following.includes(clientUrl))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

async function edit(member: TestMember | undefined, from: string, to: string): Promise<void> {
  if (member === undefined) throw new Error("no such follower");
  await member.stop();
  await editValue(member, from, to);
  await member.start();
}
