import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { restoreCommand, restoreStatusCommand, type RestoreOptions } from "../../src/cli/restore.ts";
import { restoreMemberCommand } from "../../src/cli/restore-member.ts";
import type { Environment, Tools } from "../../src/cli/tools.ts";
import { Fault } from "../../src/faults.ts";
import { createRepository } from "../../src/repository/identity.ts";
import type { Store } from "../../src/store/store.ts";
import type { LockScope } from "../../src/repository/lock.ts";
import type { MirroredJournals } from "../../src/runbook/journal.ts";
import { openJournalFiles } from "../../src/runbook/journal-file.ts";
import type { RestoreDependencies } from "../../src/restore/restore.ts";
import { memoryMirror } from "../fakes/mirror.ts";
import { memoryStore } from "../fakes/store.ts";
import { openModel, openScratch, type Model } from "../restore/model.ts";

/** What the commands decide before and after a restore executes, on the cluster in memory. */

const never = new AbortController().signal;
const confirmed = { yes: true, confirmCluster: "prod" } as const;

interface Given {
  /** `cluster.name` of the configuration. */
  readonly cluster?: string;
  readonly deps?: RestoreDependencies;
  /** What is typed when the name is asked for. */
  readonly typed?: string;
  readonly journals?: MirroredJournals;
  readonly lock?: LockScope;
  readonly heard?: string[];
  readonly store?: () => Promise<Store>;
}

function environmentOf(model: Model, given: Given, removed: string[] = []) {
  const { cluster = "prod", deps = model.deps, typed, journals = model.journals, lock = model.lock, heard } = given;
  const memory = memoryStore(() => 0);
  const inMemory = async (): Promise<Store> => {
    const repository = model.plan.facts["repository"] as string;
    const ids = { repository, firstLineage: "01JQ0000000000000000000088" };
    if (cluster === "prod") await createRepository(memory, "prod", ids, 0, never);
    return memory;
  };
  const store = given.store ?? inMemory;
  const tools = {
    loaded: { path: "config.yaml", config: { cluster: { name: cluster }, hosts: { h1: {} }, hooks: {} } },
    clock: deps.clock,
    newId: () => model.plan.id,
    store,
    trusted: async () => undefined,
    scanAny: () => Promise.reject(new Error("no scan here")),
    holders: async () => [],
    journals: () => journals,
    lock: async () => lock,
    restore: async () => ({ ...deps, cluster }),
    hosts: async () => ({ ...deps, cluster }),
    hook: async () => undefined,
    removeWork: async (id: string) => void removed.push(id),
    [Symbol.asyncDispose]: async () => undefined,
  } as unknown as Tools;
  const environment: Environment = {
    console: {
      out: (text) => void heard?.push(text),
      err: (text) => void heard?.push(text),
      interactive: false,
      ...(typed !== undefined && { ask: async () => typed }),
      columns: () => undefined,
      env: {},
    },
    version: "0.0.0",
    signal: never,
    open: () => tools,
    listen: () => ({ emit: () => undefined, close: () => undefined }),
    daemon: async () => undefined,
  };
  return environment;
}

async function said(environment: Environment, options: Partial<RestoreOptions>): Promise<unknown> {
  return await restoreCommand(environment, { config: "config.yaml", ...options }).catch((error: unknown) => error);
}

test("an operation of another cluster is neither found nor continued, and is in nobody's way", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  expect(await model.process("run", 120)).toBe("died");
  const before = model.tree();
  const staging = environmentOf(model, { cluster: "staging" });
  const accepted = { yes: true, confirmCluster: "staging" } as const;
  for (const way of ["resume", "rollback"] as const) {
    expect(await said(staging, { ...accepted, [way]: true })).toMatchObject({ code: "not-found" });
    expect(await said(staging, { ...accepted, [way]: model.plan.id })).toMatchObject({
      code: "runbook-refused",
      message: expect.stringMatching(/is of the cluster prod, and this configuration is of staging/),
      hint: expect.stringMatching(/the configuration of prod/),
    });
  }
  const member = restoreMemberCommand(staging, undefined, { config: "config.yaml", ...accepted, resume: true });
  await expect(member).rejects.toMatchObject({ code: "not-found" });
  // A new one of its own is refused for anything but prod's.
  expect(await said(staging, { file: "/backup.db" })).not.toMatchObject({ code: "journal-unfinished" });
  expect(await said(environmentOf(model, {}), { file: "/backup.db" })).toMatchObject({ code: "journal-unfinished" });
  expect(model.tree()).toEqual(before);
  expect(await model.process("resume")).toMatchObject({ kind: "done" });
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
});

test("what the configuration says otherwise than the plan is refused by name", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1, walDirectory: true }, scratch.directory);
  expect(await model.process("run", 120)).toBe("died");
  const [open] = model.deps.hosts;
  const etcd = open!.etcd!;
  const cases = [
    [/no host h1/, []],
    [/no kube-controller-manager on h1/, [{ ...open!, services: open!.services.slice(1) }]],
    [/no member on h1/, [{ ...open!, etcd: undefined }]],
    [
      /the data of h1 is in \/var\/lib\/etcd, and not in \/srv\/etcd/,
      [{ ...open!, etcd: { ...etcd, dataDirectory: "/srv/etcd" } }],
    ],
    [
      /the log of h1 is in \/wal\/etcd, and not in \/srv\/wal/,
      [{ ...open!, etcd: { ...etcd, walDirectory: "/srv/wal" } }],
    ],
  ] as const;
  for (const [message, hosts] of cases) {
    const environment = environmentOf(model, { deps: { ...model.deps, hosts } });
    for (const way of ["resume", "rollback"] as const) {
      expect(await said(environment, { ...confirmed, [way]: true })).toMatchObject({
        code: "runbook-refused",
        message: expect.stringMatching(message),
        hint: expect.stringMatching(/^describe hosts\.h1/),
      });
    }
  }
  expect(await model.process("rollback")).toMatchObject({ kind: "rolled-back" });
  model.mustBe("old", "rolled-back");
  expect(model.violations).toEqual([]);
});

test("the database that was fetched goes when the restore is not begun", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  const ends: readonly (readonly [string, Given, Partial<RestoreOptions>])[] = [
    ["restore-refused", {}, { acceptUnproven: false }],
    ["restore-refused", { typed: "staging" }, {}],
    ["restore-refused", {}, {}],
  ];
  for (const [code, given, options] of ends) {
    const removed: string[] = [];
    const environment = environmentOf(model, given, removed);
    expect(await said(environment, { file: "/backup.db", acceptUnproven: true, ...options })).toMatchObject({ code });
    expect(removed).toEqual([model.plan.id]);
  }
  const removed: string[] = [];
  const begun = { ...confirmed, file: "/backup.db", acceptUnproven: true };
  await said(environmentOf(model, {}, removed), begun);
  expect((await model.journals.list(never)).length).toBe(1);
  expect(removed).toEqual([]);
});

/** The journals of another machine, which has never seen the operation: its copies are on one host, but for their last lines, and a store that does not answer. */
async function elsewhere(model: Model, directory: string, lacks = 0): Promise<MirroredJournals> {
  const { plan, entries } = await model.journals.read(model.plan.id, never);
  const [host, store] = [memoryMirror("host h1"), memoryMirror("store")];
  const lines = [plan, ...entries].map((line) => JSON.stringify(line));
  host.kept.set(plan.id, lines.slice(0, lines.length - lacks));
  store.trouble = () => {
    throw new Fault("store-unreachable", "no route");
  };
  return openJournalFiles({ directory, mirrors: [host, store], by: "there", emit: () => undefined });
}

describe("on another machine than that which began it", () => {
  test("an operation is found by its copies, keeps a new one from beginning, and goes on", async () => {
    using scratch = openScratch();
    const model = await openModel({ members: 1 }, scratch.directory);
    expect(await model.process("run", 200)).toBe("died");
    const journals = await elsewhere(model, join(scratch.directory, "operations"));
    const heard: string[] = [];
    const there = environmentOf(model, { journals, heard });
    expect(await said(there, { file: "/backup.db" })).toMatchObject({
      code: "journal-unfinished",
      message: expect.stringMatching(
        /begun on another machine and not finished: a copy on host h1 tells so$/,
      ) as string,
    });
    expect(await restoreStatusCommand(there, undefined, { config: "config.yaml" })).toBe(0);
    expect(heard.join("")).toMatch(/NOT FINISHED[^]*journal: a copy on host h1/);
    expect(heard.join("")).toMatch(/whether store has a copy of a journal is not known: no route/);
    // Without a lock nothing tells whether the other machine is dead.
    expect(await said(there, { ...confirmed, resume: true })).toMatchObject({
      code: "locked",
      hint: expect.stringContaining("--take-over") as string,
    });
    expect(await journals.list(never)).toEqual([]);
    expect(await said(there, { ...confirmed, resume: true, takeOver: true })).toBe(0);
    expect((await journals.read(model.plan.id, never)).entries.at(-1)).toMatchObject({
      kind: "ended",
      outcome: "done",
    });
    expect(model.host("h1").host.tree()["/var/lib/etcd/member/snap/db"]).not.toMatch(/^old/);
  });

  test("an operation is refused whose copies lack what was done", async () => {
    using scratch = openScratch();
    const model = await openModel({ members: 1 }, scratch.directory);
    expect(await model.process("run", 200)).toBe("died");
    const journals = await elsewhere(model, join(scratch.directory, "operations"), 12);
    const before = model.tree();
    for (const way of ["resume", "rollback"] as const)
      expect(
        await said(environmentOf(model, { journals }), { ...confirmed, [way]: model.plan.id, takeOver: true }),
      ).toMatchObject({
        code: "journal-behind",
        message: expect.stringMatching(/as a copy on host h1 tells it lacks what was done: on h1 /) as string,
      });
    expect(model.tree()).toEqual(before);
    expect(await journals.list(never)).toEqual([]);
  });

  test("an operation is refused while the lock shows that its machine is at work, and taken over when that is said", async () => {
    using scratch = openScratch();
    const model = await openModel({ members: 1, repository: true }, scratch.directory);
    expect(await model.process("run", 260)).toBe("died");
    const journals = await elsewhere(model, join(scratch.directory, "operations"));
    const lock = { ...model.lock, author: { ...model.lock.author, host: "there" } };
    const at = (scope: LockScope): Environment => environmentOf(model, { journals, lock: scope });
    expect(await said(at(lock), { ...confirmed, rollback: true })).toMatchObject({
      code: "locked",
      message: expect.stringMatching(/is held by restore since .*, root on here \(process 1\); it was alive/) as string,
      hint: expect.stringContaining("--take-over") as string,
    });
    const away = { ...lock, store: { ...lock.store, list: () => [].values() as never } };
    away.store.list = () => {
      throw new Fault("store-unreachable", "no route");
    };
    expect(await said(at(away), { ...confirmed, rollback: true })).toMatchObject({
      code: "locked",
      message: expect.stringMatching(/is not known: no route/) as string,
    });
    expect(await said(at(lock), { ...confirmed, rollback: true, takeOver: true })).toBe(0);
    expect(model.host("h1").host.tree()["/var/lib/etcd/member/snap/db"]).toMatch(/^old data/);
  });
});

test("a plan from elsewhere is believed only when it is such as this program writes", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  expect(await model.process("run", 200)).toBe("died");
  const facts = model.plan.facts as unknown as { source: object };
  const steps = (change: Record<string, string>): object => ({
    steps: model.plan.steps.map((step) =>
      step.kind === "swap" ? { ...step, args: { ...step.args, ...change } } : step,
    ),
  });
  for (const [change, why] of [
    [{ operation: "shutdown" }, /is no restore/],
    [{ facts: { ...facts, source: { ...facts.source, sha256: "x" } } }, /has no source/],
    [{ facts: { ...facts, members: {} } }, /has no members/],
    [{ facts: { ...facts, repository: "01JQ0000000000000000000077" } }, /planned with another repository/],
    [
      { facts: { ...facts, login: { username: "root", passwordFile: "/etc/shadow" } } },
      /needs the password of then, which the lost machine had in a file/,
    ],
    [steps({ oldName: "../../../etc" }), /moves data to names that are not its own/],
    [steps({ newName: "restore-x" }), /moves data to names that are not its own/],
    [steps({ data: "/etc" }), /the data of h1 is in \/etc, and not in \/var\/lib\/etcd/],
  ] as const) {
    const mirror = memoryMirror("store");
    const { entries } = await model.journals.read(model.plan.id, never);
    mirror.kept.set(
      model.plan.id,
      [{ ...model.plan, ...change }, ...entries].map((line) => JSON.stringify(line)),
    );
    const directory = join(scratch.directory, "operations");
    const journals = openJournalFiles({ directory, mirrors: [mirror], by: "there", emit: () => undefined });
    const before = model.tree();
    const environment = environmentOf(model, { journals });
    expect(await said(environment, { ...confirmed, resume: model.plan.id, takeOver: true })).toMatchObject({
      message: expect.stringMatching(why) as string,
    });
    expect(model.tree()).toEqual(before);
  }
});

test("a file is restored without the repository where that is said, and the plan and the end say what is left out", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  const asked: string[] = [];
  const heard: string[] = [];
  const store = async (): Promise<Store> => {
    asked.push("the store");
    throw await Promise.resolve(new Fault("store-unreachable", "no route to the store"));
  };
  const environment = environmentOf(model, { store, heard });
  const file = { ...confirmed, file: "/root/last.db", acceptUnproven: true };
  expect(await said(environment, file)).toMatchObject({
    code: "store-unreachable",
    hint: "where the store is gone: --without-repository",
  });
  expect(asked).toHaveLength(1);
  expect(await said(environment, { ...file, plan: true, withoutRepository: true })).toBe(0);
  for (const part of ["no lock is taken", "is not looked at", "etcd-lifeboat adopt, then etcd-lifeboat backup"])
    expect(heard.join()).toContain(part);
  expect(heard.join()).not.toMatch(/operation lock|has a backup of its own/);
  heard.length = 0;
  expect(await said(environment, { ...file, withoutRepository: true })).toBe(0);
  const told = model.events.flatMap((event) => (event.name === "restore.hygiene" ? event.findings : []));
  expect(told).toEqual([expect.stringContaining("the repository knows nothing of this restore")]);
  expect(asked).toHaveLength(1);
  for (const wrong of [{ backup: "latest" }, { asNew: true, file: "/root/last.db" }, {}])
    expect(await said(environment, { ...wrong, withoutRepository: true })).toMatchObject({ code: "usage" });
});
