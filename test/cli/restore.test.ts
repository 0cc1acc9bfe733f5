import { expect, test } from "vitest";
import { restoreCommand, type RestoreOptions } from "../../src/cli/restore.ts";
import { restoreMemberCommand } from "../../src/cli/restore-member.ts";
import type { Environment, Tools } from "../../src/cli/tools.ts";
import type { RestoreDependencies } from "../../src/restore/restore.ts";
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
}

function environmentOf(model: Model, { cluster = "prod", deps = model.deps, typed }: Given, removed: string[] = []) {
  const store = memoryStore(() => 0);
  const tools = {
    loaded: { path: "config.yaml", config: { cluster: { name: cluster }, hosts: { h1: {} }, hooks: {} } },
    clock: deps.clock,
    newId: () => model.plan.id,
    store: async () => store,
    trusted: async () => undefined,
    scanAny: () => Promise.reject(new Error("no scan here")),
    holders: async () => [],
    journals: () => model.journals,
    restore: async () => ({ ...deps, cluster }),
    hosts: async () => ({ ...deps, cluster }),
    hook: async () => undefined,
    removeWork: async (id: string) => void removed.push(id),
    [Symbol.asyncDispose]: async () => undefined,
  } as unknown as Tools;
  const environment: Environment = {
    console: {
      out: () => undefined,
      err: () => undefined,
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
