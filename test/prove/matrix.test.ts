import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startCluster, type TestCluster, type TestMember } from "../cluster/harness.ts";
import { openSite, type Site } from "../cluster/site.ts";
import { combinations, shortCombinations } from "./combinations.ts";
import { backUp } from "./proofs.ts";

/** Every minor, alone and with two and four others, proves what it backs up. All of it: `npm run prove:matrix`; CI runs the short form. */
const chosen = process.env["LIFEBOAT_MATRIX"] === "short" ? shortCombinations : combinations;
const rootPassword = "root-of-the-matrix";

describe.each(chosen)("etcd $minor, $members members, TLS $tls, users $auth", ({ minor, members, tls, auth }) => {
  let cluster: TestCluster;
  let site: Site;

  beforeAll(async () => {
    cluster = await startCluster({ minor, members, tls, ...(auth ? { auth: { rootPassword } } : {}) });
    site = await openSite({
      cluster: {
        name: "prod",
        endpoints: [...cluster.endpoints],
        ...(cluster.tls === undefined
          ? {}
          : { tls: { ca: cluster.tls.ca, cert: cluster.tls.cert, key: cluster.tls.key } }),
      },
      signed: true,
    });
    if (auth) {
      const file = join(site.directory, "password");
      await writeFile(file, rootPassword, { mode: 0o600 });
      site.secrets.add(rootPassword);
      site.config.cluster.auth = { username: "root", password: { file } };
    }
    await cluster.fill({ keys: 300, valueBytes: 200 });
  });

  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await cluster[Symbol.asyncDispose]();
  });

  test("a backup that is taken under writes is proven by a majority of all voters", async () => {
    const stop = new AbortController();
    const writing = write(cluster, stop.signal);
    const proof = await backUp(site).finally(() => stop.abort());
    expect(await writing).toBeGreaterThan(0);
    expect(proof).toMatchObject({ verdict: "proven", voters: members, alone: members === 1, diverged: [] });
    expect(proof.agreeing.length).toBeGreaterThanOrEqual(Math.floor(members / 2) + 1);
    // A follower spares the writers; the leader is asked when nobody else is left.
    if (members > 1) expect(proof.answers.map(({ role }) => role)).not.toContain("leader");
  });

  test("a quiet cluster that is compacted up to its newest revision is proven too", async () => {
    // A revision is compacted once: a second try needs a new one.
    await cluster.put("newest", "before the compaction");
    const revision = await cluster.revision();
    await cluster.etcdctl(["compact", "--physical", String(revision)]);
    const proof = await backUp(site);
    expect(proof).toMatchObject({ verdict: "proven", revision: String(revision) });
  });

  test("rows below the compaction that are still in the file change nothing", async () => {
    for (let i = 0; i < 12; i++) await cluster.put("rewritten", `for the ${i}th time`);
    await cluster.etcdctl(["del", "fill/00000003"]);
    await cluster.etcdctl(["compact", String((await cluster.revision()) - 5n)]);
    expect(await backUp(site)).toMatchObject({ verdict: "proven" });
  });

  // A member alone has no quorum to lose.
  const several = members > 1 ? test : none;
  const [byPassword, byCertificate] = auth ? [several, none] : [none, several];

  const withoutQuorum = async <T>(look: (down: readonly TestMember[]) => Promise<T>): Promise<T> => {
    const down = cluster.members.slice(0, Math.floor(members / 2) + 1);
    await Promise.all(down.map((member) => member.stop()));
    try {
      return await look(down);
    } finally {
      await Promise.all(down.map((member) => member.start()));
    }
  };

  several("with one member down the others prove it", async () => {
    const down = cluster.members.at(-1);
    await down?.stop();
    try {
      const proof = await backUp(site);
      expect(proof).toMatchObject({ verdict: "proven", voters: members });
      expect(proof.agreeing).not.toContain(down?.name);
    } finally {
      await down?.start();
    }
  });

  byPassword("without quorum no password can be checked, and the command says so", async () => {
    const refused = await withoutQuorum(() => site.run(["backup"]));
    expect(refused).toMatchObject({ status: 75, stderr: expect.stringContaining("checks a password by consensus") });
  });

  byCertificate("without quorum it is sealed, says so, and is proven by nobody", async () => {
    const { down, proof } = await withoutQuorum(async (down) => ({ down, proof: await backUp(site) }));
    expect(proof).toMatchObject({ verdict: "sealed", voters: members });
    expect(proof.agreeing.length).toBeLessThan(proof.needed);
    for (const { name } of down) expect(proof.reason).toContain(name);
  });

  test("verify --live asks the members again and they agree", async () => {
    const { backup } = await site.json<{ backup: string }>(["backup"]);
    const { results } = await site.json<{ results: readonly unknown[] }>(["verify", backup, "--live"]);
    expect(results).toEqual([expect.objectContaining({ backup, ok: true })]);
  });
});

/** Writes until it is told to stop; resolves with the number of puts. */
async function write(cluster: TestCluster, signal: AbortSignal): Promise<number> {
  let puts = 0;
  while (!signal.aborted) {
    await cluster.put("written", `meanwhile ${(puts += 1)}`);
  }
  return puts;
}

/** In place of `test` where a promise is not made. */
function none(): void {
  // A test that is skipped would count as one that failed.
}
