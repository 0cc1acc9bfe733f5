import { expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { acquireLock } from "../../src/repository/lock.ts";
import type { Source } from "../../src/restore/source.ts";
import { openModel, openScratch, type Model, type ModelOptions } from "./model.ts";

const { signal } = new AbortController();

/** When a restore may still be taken back, and what is kept of what it brought. */

/** Dies at a place of its plan, such as `healthy after done`. */
async function dieAt(options: ModelOptions, place: string, scratch: string): Promise<Model> {
  const tried = await openModel(options, `${scratch}/tried`);
  await tried.process("run");
  const instant = tried.labels.indexOf(place) + 1;
  expect(instant, `${place} is no instant of ${tried.labels.join(", ")}`).toBeGreaterThan(0);
  const model = await openModel(options, `${scratch}/dies`);
  expect(await model.process("run", instant)).toBe("died");
  return model;
}

const kept = (model: Model): readonly string[] =>
  Object.values(model.tree()).flatMap((tree) => Object.keys(tree).filter((path) => path.includes("rolled-back-")));

test("what members ran on is kept aside by a rollback, and what none ran on is not", async () => {
  using scratch = openScratch();
  const served = await dieAt({ members: 1 }, "healthy after done", `${scratch.directory}/served`);
  expect(await served.process("rollback")).toMatchObject({ kind: "rolled-back" });
  served.mustBe("old", "rolled-back");
  expect(kept(served).some((path) => path.endsWith("/snap/db"))).toBe(true);
  const swapped = await dieAt({ members: 1 }, "swap.h1 after done", `${scratch.directory}/swapped`);
  expect(await swapped.process("rollback")).toMatchObject({ kind: "rolled-back" });
  swapped.mustBe("old", "rolled-back");
  expect(kept(swapped)).toEqual([]);
});

test("a restore that is done is not taken back once a member has gone or was started again, clients of ours or none", async () => {
  using scratch = openScratch();
  const noClients: ModelOptions = {
    members: 1,
    breakDeps: (deps) => ({ ...deps, hosts: deps.hosts.map((host) => ({ ...host, services: [] })) }),
  };
  const model = await openModel(noClients, scratch.directory);
  expect(model.plan.steps.filter(({ kind }) => kind === "start-service")).toEqual([]);
  model.host("h1").systemd.kill("kube-apiserver.service");
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  model.pass("kill all etcd silently");
  const before = model.tree();
  const refused = await model.process("rollback");
  expect(refused).toBeInstanceOf(Fault);
  expect(refused).toMatchObject({ code: "rollback-too-late" });
  expect(model.tree()).toEqual(before);
});

test("a restore that is done is not taken back where another cluster answers by now", async () => {
  using scratch = openScratch();
  const model = await dieAt({ members: 1 }, "healthy after done", scratch.directory);
  model.makeAnew(4711n);
  const before = model.tree();
  expect(await model.process("rollback")).toMatchObject({
    code: "rollback-too-late",
    message: expect.stringContaining("another cluster answers at ") as string,
  });
  expect(model.tree()).toEqual(before);
});

test("who cannot ask a restored member does not take that for silence", async () => {
  using scratch = openScratch();
  let blind = false;
  const options: ModelOptions = {
    members: 1,
    breakDeps: (deps) => ({
      ...deps,
      restored: {
        ...deps.restored,
        connect: (address) => ({
          ...deps.restored.connect(address),
          ...(blind && {
            status: () => Promise.reject(new Fault("secret-unreadable", "the password's file cannot be read")),
          }),
        }),
      },
    }),
  };
  const model = await dieAt(options, "start-etcd.h1 after done", scratch.directory);
  model.talk(true);
  model.pass();
  expect(await model.process("rollback")).toMatchObject({ code: "rollback-too-late" });
  blind = true;
  const before = model.tree();
  expect(await model.process("rollback")).toMatchObject({
    message: expect.stringContaining("cannot be read") as string,
  });
  expect(model.tree()).toEqual(before);
});

test("while another operation holds the lock, a restore that was killed neither goes on nor back, and either works afterwards", async () => {
  for (const mode of ["resume", "rollback"] as const) {
    using scratch = openScratch();
    // Released, as somebody would who believes that the process is gone for good.
    const model = await dieAt({ members: 1, repository: true }, "swap.h1 after perform", scratch.directory);
    const { id } = model.plan;
    await using own = await acquireLock(model.lock, "restore", false, signal, id);
    await own[Symbol.asyncDispose]();
    const before = model.tree();
    {
      await using _other = await acquireLock(model.lock, "defragment", false, signal);
      expect(await model.process(mode), mode).toMatchObject({
        message: expect.stringContaining("defragment") as string,
      });
      expect(model.tree()).toEqual(before);
    }
    expect(await model.process(mode), mode).toMatchObject({ kind: mode === "resume" ? "done" : "rolled-back" });
    model.mustBe(mode === "resume" ? "new" : "old", mode === "resume" ? "done" : "rolled-back");
  }
});

test("the way back needs neither the backup nor its key, nor a store that answers", async () => {
  using scratch = openScratch();
  let away = false;
  const lost = (source: Source): Source => ({
    ...source,
    fetch: async (...parts) => {
      if (away) throw new Fault("key-missing", "the key is gone, too");
      return await source.fetch(...parts);
    },
  });
  const options: ModelOptions = {
    members: 3,
    repository: true,
    breakDeps: (deps) => ({ ...deps, source: lost(deps.source) }),
  };
  const model = await dieAt(options, "swap.h2 after perform", scratch.directory);
  away = true;
  model.storeAway(true);
  // Everything is back but the lock, which only the store can give up.
  const stopped = await model.process("rollback");
  expect(stopped).toMatchObject({ code: "runbook-stopped" });
  expect(model.events.filter(({ name }) => name === "warning")).toContainEqual(
    expect.objectContaining({
      message: expect.stringContaining("the lock of this operation cannot be looked at") as string,
    }),
  );
  for (const tree of Object.values(model.tree()))
    expect(
      Object.entries(tree).some(([path, text]) => path === "/var/lib/etcd/member/snap/db" && text.startsWith("old")),
    ).toBe(true);
  model.storeAway(false);
  expect(await model.process("rollback")).toMatchObject({ kind: "rolled-back" });
  model.mustBe("old", "rolled-back");
});

test("a restore that was killed goes on without the store until it needs it", async () => {
  using scratch = openScratch();
  const model = await dieAt({ members: 1, repository: true }, "swap.h1 after perform", scratch.directory);
  model.storeAway(true);
  expect(await model.process("resume")).toMatchObject({ code: "runbook-stopped" });
  // It came to the first backup, with everything up.
  expect(model.labels).toContain("start.h1.kube-apiserver after done");
  model.storeAway(false);
  expect(await model.process("resume")).toMatchObject({ kind: "done" });
  model.mustBe("new", "done");
});

test("old data that somebody put back by hand is not started as if it were the new", async () => {
  using scratch = openScratch();
  const model = await dieAt({ members: 1 }, "start-etcd.h1 after done", scratch.directory);
  const { host, systemd } = model.host("h1");
  systemd.kill("etcd.service");
  const names = (await host.list("/var/lib/etcd", signal)) ?? [];
  const aside = names.find((name) => name.startsWith("member.before-restore-")) ?? "";
  await host.rename("/var/lib/etcd/member", "/var/lib/etcd/member.by-hand", signal);
  await host.rename(`/var/lib/etcd/${aside}`, "/var/lib/etcd/member", signal);
  const stopped = await model.process("resume");
  expect(stopped).toMatchObject({
    code: "runbook-stopped",
    message: expect.stringContaining("the old data, is gone") as string,
  });
});
