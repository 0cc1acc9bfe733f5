import { readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Ended } from "./command.ts";
import { runEtcdctl } from "./etcdctl.ts";
import { openRestorable, type Restorable } from "./restorable.ts";
import { dieAt, ended, quick } from "./restoring.ts";
import { minors } from "./servers.ts";

async function restore({ site }: Restorable, ...args: readonly string[]): Promise<Ended> {
  return await site.run(["restore", ...quick, ...args]);
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
    ended(await restore(site, "--backup", backup), 0);
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

const services = ["etcd1", "etcd2", "etcd3", "api1", "api2", "api3"];

async function allRun(site: Restorable): Promise<void> {
  for (const name of services) expect(await site.runs(name), name).toBe(true);
}

async function journals(site: Restorable): Promise<readonly string[]> {
  return await readdir(join(site.site.directory, "operations"));
}

/** The machine with the journals, and all that was fetched and built there, is gone; another one has the same configuration. */
async function loseMachine({ site }: Restorable): Promise<void> {
  await rm(join(site.directory, "operations"), { recursive: true });
}

/** The newest journal, and what of it lies on the first host and in the store. */
async function copiesOf(site: Restorable): Promise<readonly string[]> {
  const journal = (await journals(site)).findLast((name) => name.endsWith(".jsonl")) ?? "";
  const { directory, store } = site.site;
  const pieces = (await site.site.objects()).filter((name) => name.startsWith(`operations/${journal.slice(0, 26)}/`));
  const inStore = await Promise.all(pieces.map(async (name) => await readFile(join(store, name), "utf8")));
  return [
    await readFile(join(directory, "operations", journal), "utf8"),
    await readFile(join(directory, "state1", "journals", `h1.${journal}`), "utf8"),
    inStore.join(""),
  ];
}

/** The steps that a journal says are done, in their order. */
async function stepsOf(site: Restorable, journal: string): Promise<readonly string[]> {
  return (await readFile(join(site.site.directory, "operations", journal), "utf8"))
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((line) => JSON.parse(line) as { kind: string; step?: string })
    .filter(({ kind }) => kind === "done")
    .map(({ step = "" }) => step);
}

test(
  "three members with TLS, authentication and API servers go back; also when it dies amid the swap with the machine that it ran on, and another one resumes it, or takes one back",
  { timeout: 900_000 },
  async () => {
    const auth = { rootPassword: "three members" };
    await using site = await openRestorable({ minor: "3.6", members: 3, tls: true, auth, apiServers: true });
    const { cluster } = site;
    const writeOn = async (): Promise<void> => {
      await cluster.put("kept", "then");
      ended(await site.site.run(["backup"]), 0);
      await cluster.put("kept", "now");
    };

    await writeOn();
    const restored = await restore(site);
    ended(restored, 0);
    expect(await cluster.get("kept")).toBe("then");
    await allRun(site);
    const status = await site.site.run(["restore", "status"]);
    ended(status, 0);
    expect(status.stdout).toContain("done");
    // What no restore can put right is told at its end, and again later.
    for (const said of [restored.stderr, status.stdout])
      expect(said).toMatch(/look after: API servers that were alive in the backup: api1, api2, api3\./);
    expect((await journals(site)).filter((name) => name.endsWith(".work"))).toEqual([]);
    const steps = await stepsOf(site, (await journals(site)).find((name) => name.endsWith(".jsonl")) ?? "");
    const last = (prefix: string): number => steps.findLastIndex((step) => step.startsWith(prefix));
    const first = (prefix: string): number => steps.findIndex((step) => step.startsWith(prefix));
    expect(last("stop.")).toBeLessThan(first("quiet"));
    expect(first("quiet")).toBeLessThan(first("stop-etcd."));
    expect(last("stop-etcd.")).toBeLessThan(first("swap."));
    expect(first("healthy")).toBeLessThan(first("start.h"));

    await writeOn();
    await dieAt(site, "swap.h2 after perform");
    await loseMachine(site);
    const found = await site.site.run(["restore", "status"]);
    expect(ended(found, 0)).toMatch(/NOT FINISHED[^]*journal: a copy on host h1, host h2, host h3$/m);
    // The lock names the operation, and the machine that took it may be at work.
    expect(ended(await site.site.run(["restore", "--resume", ...quick]), 11)).toContain("--take-over");
    ended(await site.site.run(["restore", "--resume", "--take-over", ...quick]), 0);
    const [journal = "", ...copies] = await copiesOf(site);
    expect(copies).toEqual([journal, journal]);
    expect(journal).not.toContain(auth.rootPassword);
    expect(await cluster.get("kept")).toBe("then");
    await allRun(site);

    await writeOn();
    await dieAt(site, "healthy after done");
    await loseMachine(site);
    ended(await site.site.run(["restore", "--rollback", "--take-over", ...quick]), 0);
    expect(await cluster.get("kept")).toBe("now");
    await allRun(site);
    // Who may do what is part of what came back: without the password nobody reads.
    const stranger = runEtcdctl("3.6", { endpoints: cluster.endpoints, tls: cluster.tls }, ["get", "kept"]);
    await expect(stranger).rejects.toThrow(/permission denied|user/);
    ended(await site.site.run(["backup"]), 0);
  },
);
