import { expect, test } from "vitest";
import { acquireLock } from "../../src/repository/lock.ts";
import { join } from "node:path";
import { adoptStrangers, executeCleanup, planCleanup } from "../../src/restore/cleanup.ts";
import { openJournalFiles } from "../../src/runbook/journal-file.ts";
import { memoryMirror } from "../fakes/mirror.ts";
import { openModel, openScratch, type Model } from "./model.ts";

/** What may be removed is judged when it is removed, and not when somebody was asked. */

const never = new AbortController().signal;

async function restored(directory: string, walDirectory = false): Promise<Model> {
  const model = await openModel({ members: 1, repository: true, walDirectory }, directory);
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  return model;
}

async function cleanUp(
  { deps, journals }: Model,
  plan: Awaited<ReturnType<typeof planCleanup>>,
  onRemoved: (path: string) => void = () => undefined,
): Promise<void> {
  const told = (_host: string, path: string): void => onRemoved(path);
  await executeCleanup(deps, journals, { plan, only: undefined }, told, never);
}

function asides(model: Model): readonly string[] {
  return Object.keys(model.tree()["h1"] ?? {}).filter((path) => path.includes("before-restore-"));
}

test("old data goes when nothing is against it", async () => {
  using scratch = openScratch();
  const model = await restored(scratch.directory);
  const plan = await planCleanup(model.deps, model.journals, undefined, never);
  expect(plan).toMatchObject({ refusals: [], strange: [] });
  expect(asides(model)).not.toEqual([]);
  await cleanUp(model, plan);
  expect(asides(model)).toEqual([]);
});

test("a cluster that died, data that went, and other old data while the prompt was open are refused, and everything stays", async () => {
  using scratch = openScratch();
  const changes: readonly (readonly [RegExp, (model: Model) => Promise<void>])[] = [
    [/no quorum|cannot be looked at/, async (model) => model.host("h1").systemd.kill("etcd.service")],
    [
      /member of h1 has no database: what is aside is all that m1 has/,
      async (model) => await model.host("h1").host.removeTree("/var/lib/etcd/member/snap/db", never),
    ],
    [
      /not what it was when it was listed/,
      async (model) => {
        const [path = ""] = asides(model);
        const directory = /^.*before-restore-[^/]+/.exec(path)?.[0] ?? "";
        await model.host("h1").host.rename(directory, directory.replace("before-restore-", "removing-"), never);
      },
    ],
  ];
  for (const [reason, change] of changes) {
    const model = await restored(scratch.directory);
    const plan = await planCleanup(model.deps, model.journals, undefined, never);
    expect(plan.refusals).toEqual([]);
    await change(model);
    model.pass();
    const before = model.tree();
    await expect(cleanUp(model, plan)).rejects.toMatchObject({ message: expect.stringMatching(reason), exitStatus: 4 });
    expect(model.tree()).toEqual(before);
  }
});

test("data that goes while old data is removed keeps what is not removed yet", async () => {
  using scratch = openScratch();
  const model = await restored(scratch.directory, true);
  const plan = await planCleanup(model.deps, model.journals, undefined, never);
  const { host } = model.host("h1");
  const removed: string[] = [];
  const [found] = plan.found;
  expect(found?.paths).toHaveLength(2);
  host.onCall = (method, [path]) => {
    host.onCall = () => undefined;
    if (method === "rename" && path === found?.paths[0]?.path) void host.removeTree("/var/lib/etcd/member", never);
    else host.onCall = watch;
  };
  const watch = host.onCall;
  await expect(cleanUp(model, plan, (path) => void removed.push(path))).rejects.toMatchObject({
    code: "cleanup-refused",
    message: expect.stringMatching(/has no database/),
  });
  expect(removed).toEqual([found?.paths[0]?.path]);
  expect(asides(model).length).toBeGreaterThan(0);
});

test("neither a rollback of the operation nor a second clean-up is at work beside it", async () => {
  using scratch = openScratch();
  const model = await restored(scratch.directory);
  const plan = await planCleanup(model.deps, model.journals, undefined, never);
  const before = model.tree();
  // Of another machine, by the lock alone.
  const other = { ...model.lock, author: { host: "bastion", user: "alice", pid: 7, version: "0.0.0" } };
  {
    await using _rollback = await acquireLock(other, "restore", false, never, model.plan.id);
    await expect(cleanUp(model, plan)).rejects.toMatchObject({ code: "locked" });
  }
  // Of this one, by the journal.
  {
    await using _rollback = await model.journals.open(model.plan.id, never);
    await expect(cleanUp(model, plan)).rejects.toMatchObject({ code: "journal-locked" });
  }
  expect(model.tree()).toEqual(before);
  await cleanUp(model, plan);
  expect(asides(model)).toEqual([]);
});

test("old data that no operation of this machine has left is listed in each directory of the member, and beside its log", async () => {
  using scratch = openScratch();
  const model = await restored(scratch.directory, true);
  const { host } = model.host("h1");
  const id = "01JQ000000000000000000000A";
  const strange = [
    `/var/lib/etcd/member.before-restore-${id}`,
    `/wal/etcd/before-restore-${id}`,
    `/wal/etcd.before-restore-${id}`,
  ];
  for (const path of strange) await host.makeDirectory(path, { mode: 0o700 }, never);
  const plan = await planCleanup(model.deps, model.journals, undefined, never);
  expect(plan.strange).toEqual(strange.map((path) => ({ host: "h1", path })));
  await cleanUp(model, plan);
  for (const path of strange) expect(await host.stat(path, never), path).toMatchObject({ kind: "directory" });
});

test("old data of an operation that another machine has run goes as well, where a copy of its journal is", async () => {
  using scratch = openScratch();
  const model = await restored(scratch.directory);
  const { plan: operation, entries } = await model.journals.read(model.plan.id, never);
  const mirror = memoryMirror("host h1");
  const lines = (of: object): string[] => [of, ...entries].map((line) => JSON.stringify(line));
  const directory = join(scratch.directory, "operations");
  const journals = openJournalFiles({ directory, mirrors: [mirror], by: "there", emit: () => undefined });
  const here = { deps: model.deps, journals };
  for (const forged of [
    { ...operation, cluster: "staging" },
    { ...operation, steps: operation.steps.map((step) => ({ ...step, args: { ...step.args, oldName: "snap" } })) },
  ]) {
    mirror.kept.set(operation.id, lines(forged));
    await adoptStrangers(here.deps, here.journals, never);
    expect((await planCleanup(here.deps, here.journals, undefined, never)).found).toEqual([]);
  }
  mirror.kept.set(operation.id, lines(operation));
  await adoptStrangers(here.deps, here.journals, never);
  const plan = await planCleanup(here.deps, here.journals, undefined, never);
  expect(plan).toMatchObject({ refusals: [], strange: [] });
  await executeCleanup(here.deps, here.journals, { plan, only: undefined }, () => undefined, never);
  expect(asides(model)).toEqual([]);
  expect(mirror.kept.get(operation.id)?.at(-1)).toContain("removed");
  expect(await journals.removeCopies([operation.id], never)).toEqual([]);
  expect(mirror.kept.size).toBe(0);
});
