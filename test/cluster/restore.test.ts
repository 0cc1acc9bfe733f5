import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Ended } from "./command.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { minors } from "./servers.ts";

const confirmed = ["--yes", "--confirm-cluster", "prod", "--quiet-seconds", "3"];

async function restore({ site }: Restorable, ...args: readonly string[]): Promise<Ended> {
  return await site.run(["restore", ...confirmed, ...args]);
}

function succeeded({ status, stdout, stderr }: Ended): void {
  expect(status, stdout + stderr).toBe(0);
}

for (const minor of minors) {
  test(`a cluster of one etcd ${minor} goes back to its backup`, async () => {
    await using site = await openRestorable({ minor, members: 1 });
    const { cluster } = site;
    await cluster.put("kept", "then");
    const { backup } = await site.site.json<{ backup: string }>(["backup"]);
    await cluster.put("kept", "now");
    await cluster.put("added", "later");
    const before = await cluster.revision();
    succeeded(await restore(site, "--backup", backup));
    expect(await cluster.get("kept")).toBe("then");
    expect(await cluster.get("added")).toBeUndefined();
    expect(await cluster.revision()).toBeGreaterThan(before + 1_000_000_000n - 10n);
    // The old data is aside, whole.
    const [member] = cluster.members;
    const names = await readdir(member!.dataDirectory);
    const aside = names.find((name) => name.startsWith("member.before-restore-"));
    expect(aside).toBeDefined();
    expect((await stat(join(member!.dataDirectory, aside!, "snap", "db"))).size).toBeGreaterThan(0);
  });
}

describe("three members with TLS and API servers", () => {
  test("everything goes back, and the API servers are last", { timeout: 400_000 }, async () => {
    await using site = await openRestorable({ minor: "3.6", members: 3, tls: true, apiServers: true });
    const { cluster } = site;
    await cluster.put("kept", "then");
    succeeded(await site.site.run(["backup"]));
    await cluster.put("kept", "now");
    const ended = await restore(site);
    succeeded(ended);
    expect(await cluster.get("kept")).toBe("then");
    for (const name of ["etcd1", "etcd2", "etcd3", "api1", "api2", "api3"]) expect(await site.runs(name)).toBe(true);
    const status = await site.site.run(["restore", "status"]);
    succeeded(status);
    expect(status.stdout).toContain("done");
    const journals = await readdir(join(site.site.directory, "operations"));
    expect(journals.filter((name) => name.endsWith(".work"))).toEqual([]);
    const [journal = ""] = journals.filter((name) => name.endsWith(".jsonl"));
    const done = (await readFile(join(site.site.directory, "operations", journal), "utf8"))
      .trimEnd()
      .split("\n")
      .slice(1)
      .map((line) => JSON.parse(line) as { kind: string; step?: string; result?: object })
      .filter(({ kind }) => kind === "done");
    // Under the restore's own lock, which a scan of the members must not wait for.
    expect(done.find(({ step }) => step === "first-backup")?.result).toMatchObject({ proven: true });
    const steps = done.map(({ step = "" }) => step);
    const last = (prefix: string): number => steps.findLastIndex((step) => step.startsWith(prefix));
    const first = (prefix: string): number => steps.findIndex((step) => step.startsWith(prefix));
    expect(last("stop.")).toBeLessThan(first("quiet"));
    expect(first("quiet")).toBeLessThan(first("stop-etcd."));
    expect(last("stop-etcd.")).toBeLessThan(first("swap."));
    expect(first("healthy")).toBeLessThan(first("start.h"));
  });
});
