import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { dieAt, ended, memberDirectories, openDamaged, quick, slow } from "./restoring.ts";
import { manifestsOf } from "./site.ts";

test("a restore that was killed with the old data aside is resumed, and ends as one that was not", slow, async () => {
  await using site = await openDamaged();
  const lineages = async (): Promise<readonly string[]> =>
    manifestsOf(await site.site.objects()).map((name) => name.split("/")[1] ?? "");
  const [before = ""] = await lineages();
  await dieAt(site, "swap.h1 after perform");
  // Held: nothing starts in the meantime, and nobody else begins.
  expect(await site.runs("etcd1")).toBe(false);
  expect(await site.runs("api1")).toBe(false);
  ended(await site.site.run(["restore", ...quick]), 11);
  ended(await site.site.run(["backup"]), 11);
  ended(await site.site.run(["restore", "--resume", ...quick]), 0);
  expect(await site.cluster.get("kept")).toBe("then");
  expect(await site.runs("api1")).toBe(true);
  // Its own first backup and every later one belong to the history that began with it; the old history ends with what was saved of it.
  const { lineage } = await site.site.json<{ lineage: string }>(["backup"]);
  expect(lineage).not.toBe(before);
  expect((await lineages()).toSorted()).toEqual([before, before, lineage, lineage].toSorted());
  const text = await readFile(join(site.site.store, "lineages", lineage, "lineage.json"), "utf8");
  expect(JSON.parse(text)).toMatchObject({ parent: before });
});

test("an API server that had died with etcd before anybody planned runs afterwards, and is ready", slow, async () => {
  await using site = await openDamaged();
  for (const service of ["api1", "etcd1"]) await site.command(service, "stop");
  const restored = await site.site.run(["restore", ...quick]);
  ended(restored, 0);
  expect(restored.stderr).toContain("kube-apiserver on h1 does not run now, and is started afterwards");
  expect(restored.stdout + restored.stderr).toContain("kube-apiserver on h1 runs and is ready");
  expect(await site.runs("api1")).toBe(true);
  expect(await site.cluster.get("kept")).toBe("then");
});

test(
  "an etcd that runs and does not answer is not taken to be silent while somebody stays connected to it",
  slow,
  async () => {
    await using site = await openDamaged();
    const { clientUrl } = site.cluster.members[0]!;
    const [pid = ""] = (await readFile(join(site.directoryOf("etcd1"), "child"), "utf8")).split(" ");
    const { hostname, port } = new URL(clientUrl);
    const stranger = connect(Number(port), hostname);
    await once(stranger, "connect");
    process.kill(Number(pid), "SIGSTOP");
    try {
      const stopped = await site.site.run(["restore", ...quick]);
      ended(stopped, 5);
      expect(stopped.stderr).toMatch(/127\.0\.0\.1:\d+ is connected to etcd1/);
      expect(stopped.stderr).toContain("stop the etcd of etcd1 on h1 by hand");
    } finally {
      process.kill(Number(pid), "SIGCONT");
      stranger.destroy();
    }
    ended(await site.site.run(["restore", "--resume", ...quick]), 0);
    expect(await site.cluster.get("kept")).toBe("then");
    expect(await site.runs("api1")).toBe(true);
  },
);

test(
  "a restore that was killed with the new members up, and no client answered, is taken back to the old data",
  slow,
  async () => {
    await using site = await openDamaged();
    await dieAt(site, "healthy after done");
    ended(await site.site.run(["restore", "--rollback", ...quick]), 0);
    expect(await site.cluster.get("kept")).toBe("now");
    expect(await site.runs("api1")).toBe(true);
    expect(await memberDirectories(site)).toEqual(["member", expect.stringMatching(/^member\.rolled-back-/)]);
    // The old history goes on where it was.
    ended(await site.site.run(["backup"]), 0);
  },
);

test(
  "once a client was answered from the restored data it is too late to take it back, and the restore can be finished",
  slow,
  async () => {
    await using site = await openDamaged();
    await dieAt(site, "start.h1.kube-apiserver after perform");
    const refused = await site.site.run(["restore", "--rollback", ...quick]);
    ended(refused, 4);
    expect(refused.stderr).toContain("clients may have seen the restored data");
    // What it advises then.
    const old = /--file (\S+) --accept-unproven/.exec(refused.stderr)?.[1] ?? "";
    expect((await stat(old)).size).toBeGreaterThan(0);
    ended(await site.site.run(["restore", "--resume", ...quick]), 0);
    expect(await site.cluster.get("kept")).toBe("then");
  },
);

test(
  "an API server that its stop command only kills, and whose probe lies, is heard by etcd, and nothing is moved",
  slow,
  async () => {
    await using site = await openDamaged();
    const [host] = Object.values(site.site.config.hosts ?? {});
    const command = host?.services?.[0]?.command;
    if (command === undefined) throw new Error("the site has no API server");
    command.stop[2] = "kill";
    command.probe[2] = "lie";
    delete command.disable;
    delete command.enable;
    delete command.enabled;
    const stopped = await site.site.run(["restore", ...quick, "--accept-reboot-risk"]);
    ended(stopped, 5);
    expect(stopped.stderr).toMatch(/somebody still talks to etcd: .*etcd1 (?:answered|has)/);
    expect(await memberDirectories(site)).toEqual(["member", expect.stringMatching(/^member\.restore-/)]);
    expect(await site.cluster.get("kept")).toBe("now");
    ended(await site.site.run(["restore", "--rollback", ...quick]), 0);
    expect(await memberDirectories(site)).toEqual(["member"]);
    expect(await site.cluster.get("kept")).toBe("now");
  },
);

test("a plan touches nothing, and a name that is not the cluster's stops before anything", slow, async () => {
  await using site = await openDamaged();
  const before = await site.cluster.revision();
  const planned = await site.site.run(["restore", "--plan", "--json"]);
  ended(planned, 0);
  const { plan, refusals, lost } = JSON.parse(planned.stdout) as {
    plan: { steps: { id: string }[] };
    refusals: unknown[];
    lost: string;
  };
  expect(refusals).toEqual([]);
  expect(lost).toMatch(/\d+ revisions/);
  expect(plan.steps.map(({ id }) => id)).toContain("swap.h1");
  // A newer backup that died before it was proven is passed over, and taken only by name.
  const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "manifest-stored" };
  expect((await site.site.run(["backup"], { env })).signal).toBe("SIGKILL");
  const passedOver = await site.site.run(["restore", "--plan"]);
  ended(passedOver, 0);
  expect(passedOver.stderr).toMatch(/warning: \S+ is newer and not proven, so it is not taken/);
  const byName = await site.site.run(["restore", "--plan", "--backup", "latest"]);
  ended(byName, 4);
  expect(byName.stderr).toContain("is not proven");
  ended(await site.site.run(["restore", "--plan", "--backup", "latest", "--accept-unproven"]), 0);
  const wrong = await site.site.run(["restore", "--yes", "--confirm-cluster", "other"]);
  ended(wrong, 4);
  expect(await memberDirectories(site)).toEqual(["member"]);
  expect(await site.runs("api1")).toBe(true);
  expect(await site.cluster.revision()).toBeGreaterThanOrEqual(before);
});
