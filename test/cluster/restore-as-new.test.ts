import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { commandsIn, readPage } from "../docs/pages.ts";
import { openRestorable } from "./restorable.ts";
import { ended, slow } from "./restoring.ts";

/** Another cluster from a backup, for staging, while the original goes on. */

test(
  "a backup becomes another cluster on an empty machine, and neither the original nor its repository is touched",
  slow,
  async () => {
    await using original = await openRestorable({ minor: "3.6", members: 1 });
    await original.cluster.put("kept", "then");
    const { backup } = await original.site.json<{ backup: string }>(["backup"]);
    await original.cluster.put("kept", "now");
    const [objects, revision] = [await original.site.objects(), await original.cluster.revision()];
    const list = await original.cluster.etcdctl(["member", "list"]);

    await using staging = await openRestorable({ minor: "3.6", members: 1, name: "stage" });
    const { site, cluster } = staging;
    site.config.cluster.name = "staging";
    site.config.repository = structuredClone(original.site.config.repository);
    const foreign = join(site.directory, "foreign.db");
    await cluster.etcdctl(["snapshot", "save", foreign]);
    for (const [index, { name, dataDirectory, peerUrl }] of cluster.members.entries()) {
      await staging.command(name, "stop");
      await rm(join(dataDirectory, "member"), { recursive: true });
      const etcd = site.config.hosts?.[`h${index + 1}`]?.etcd;
      if (etcd !== undefined) etcd.peerUrls = [peerUrl];
    }
    const confirmed = ["--as-new", "--yes", "--confirm-cluster", "staging", "--quiet-seconds", "3"];

    // The original's own configuration, and one of its addresses among the new ones.
    expect(ended(await original.site.run(["restore", "--as-new", "--plan"]), 2)).toContain("are of prod itself");
    const reaching = await site.run(["restore", ...confirmed], {
      change: (config) => config.cluster.endpoints.push(original.cluster.endpoints[0] ?? ""),
    });
    expect(ended(reaching, 4)).toMatch(
      /is a place of etcd1 of the original cluster|the very cluster that the backup is of/,
    );
    const mixed = await original.site.run(["restore", "--file", foreign, "--accept-unproven", "--plan"]);
    expect(ended(mixed, 4)).toMatch(/foreign\.db is of another cluster: its members were stage1, and .* are etcd1/);
    // Without --as-new it is another cluster's repository.
    ended(await site.run(["restore", "--plan"]), 4);

    const [lines = ""] = commandsIn(
      readPage("docs/operating/restore.md"),
      "Another cluster from a backup, for staging",
    );
    const [plan = [], run = []] = lines.split("\n").map((line) =>
      line
        .replace(/ --config \S+/, "")
        .replace(/(--backup) \S+/, `$1 ${backup}`)
        .split(" ")
        .slice(1),
    );
    ended(await site.run(plan), 0);
    expect(ended(await site.run([...run, ...confirmed.slice(1)]), 0)).toContain("as a new cluster, staging");
    expect(await cluster.get("kept")).toBe("then");
    await cluster.put("kept", "staged");
    expect(await original.cluster.get("kept")).toBe("now");
    expect(await original.cluster.revision()).toBe(revision);
    expect(await original.cluster.etcdctl(["member", "list"])).toBe(list);
    expect(await original.site.objects()).toEqual(objects);
    ended(await original.site.run(["backup"]), 0);
  },
);
