import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openRestorable, type Restorable } from "./restorable.ts";
import { confirmed, ended, memberDirectories, quick } from "./restoring.ts";

/** That it is refused for this reason, and that nothing went. */
async function refused(site: Restorable, reason: RegExp): Promise<void> {
  const before = await memberDirectories(site);
  const attempt = await site.site.run(["cleanup", ...confirmed]);
  ended(attempt, 4);
  expect(attempt.stderr).toMatch(reason);
  expect(await memberDirectories(site)).toEqual(before);
}

test(
  "old data goes only by its own command, when what took its place is finished, healthy and backed up, and a killed one goes on",
  { timeout: 400_000 },
  async () => {
    await using site = await openRestorable({ minor: "3.6", members: 1 });
    const { cluster } = site;
    await cluster.put("kept", "then");
    ended(await site.site.run(["backup"]), 0);
    await cluster.put("kept", "now");
    const env = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step healthy after done" };
    const died = await site.site.run(["restore", ...quick], { env });
    expect(died.signal, died.stderr).toBe("SIGKILL");
    const nothing = await site.site.run(["cleanup", "--plan"]);
    ended(nothing, 0);
    expect(nothing.stderr).toContain("no old data is left on any host");
    ended(await site.site.run(["restore", "--resume", ...confirmed]), 0);
    const old = (await memberDirectories(site)).find((name) => name !== "member") ?? "";
    expect(old).toMatch(/^member\.before-restore-/);
    const operation = old.slice("member.before-restore-".length);

    // Somebody else's is shown, and not touched.
    const data = cluster.members[0]?.dataDirectory ?? "";
    const strange = "member.before-restore-01JQ000000000000000000000A";
    await mkdir(join(data, strange));
    const plan = await site.site.json<Record<"found" | "strange" | "refusals", readonly object[]>>([
      "cleanup",
      "--plan",
    ]);
    expect(plan).toMatchObject({
      found: [{ operation, command: "restore", host: "h1", member: "etcd1", paths: [{ path: join(data, old) }] }],
      strange: [{ host: "h1", path: join(data, strange) }],
      refusals: [],
    });

    ended(await site.site.run(["cleanup", "--yes", "--confirm-cluster", "other"]), 4);
    await site.command("etcd1", "stop");
    await refused(site, /the cluster cannot be looked at/);
    await rename(join(data, "member"), join(data, "member.elsewhere"));
    await refused(site, /member of h1 has no database: what is aside is all that etcd1 has/);
    await rename(join(data, "member.elsewhere"), join(data, "member"));
    await site.command("etcd1", "start");
    await cluster.put("kept", "again");
    const lineages = join(site.site.store, "lineages");
    const proofs = (await readdir(lineages)).map((lineage) => join(lineages, lineage, "proofs"));
    for (const [index, path] of proofs.entries()) await rename(path, join(site.site.directory, `proofs-${index}`));
    await refused(site, /no backup of what runs now is proven/);
    for (const [index, path] of proofs.entries()) await rename(join(site.site.directory, `proofs-${index}`), path);

    const half = { LIFEBOAT_FAILPOINTS: "on", LIFEBOAT_FAILPOINT: "step cleanup h1 before remove" };
    const killed = await site.site.run(["cleanup", ...confirmed], { env: half });
    expect(killed.signal, killed.stderr).toBe("SIGKILL");
    expect(await memberDirectories(site)).toEqual(["member", strange, `member.removing-${operation}`]);
    const again = await site.site.run(["cleanup", ...confirmed]);
    ended(again, 0);
    expect(again.stderr).toContain("half removed");
    expect(await memberDirectories(site)).toEqual(["member", strange]);
    ended(await site.site.run(["cleanup", ...confirmed]), 0);
    ended(await site.site.run(["cleanup", operation, ...confirmed]), 10);
    expect(await cluster.get("kept")).toBe("again");
    // What it would go back to is gone.
    const rollback = await site.site.run(["restore", "--rollback", operation, ...confirmed]);
    ended(rollback, 4);
    expect(rollback.stderr).toContain("was removed by a clean-up");
    expect(await cluster.get("kept")).toBe("again");
    await rm(join(data, strange), { recursive: true });
  },
);
