import { expect, test } from "vitest";
import type { MemberConnection } from "../../src/etcd/etcd.ts";
import type { RestoreDependencies } from "../../src/restore/restore.ts";
import { openModel, openScratch } from "./model.ts";

test("that the members were compared with each other alone is told, and recorded without a hash", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 3, expired: "3.5.9" }, scratch.directory);
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  const told = model.events.flatMap((event) => (event.name === "warning" ? [event.message] : []));
  expect(told.filter((message) => message.includes("were not compared with the file"))).toHaveLength(1);
  expect(model.results("healthy")).toMatchObject({ hash: null, notCompared: expect.stringContaining("leases") });
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
});

test("a restored member with another switch of authentication than the backup's holds other data", async () => {
  using scratch = openScratch();
  const withAuth = (connection: MemberConnection): MemberConnection =>
    new Proxy(connection, {
      get: (target, key) =>
        key === "authStatus" ? async () => ({ enabled: true, revision: 7n }) : (Reflect.get(target, key) as unknown),
    });
  const breakDeps = (deps: RestoreDependencies): RestoreDependencies => ({
    ...deps,
    restored: { ...deps.restored, connect: (address) => withAuth(deps.restored.connect(address)) },
  });
  const model = await openModel({ members: 1, breakDeps }, scratch.directory);
  expect(await model.process("run")).toMatchObject({
    code: "runbook-stopped",
    message: expect.stringContaining("m1 holds other data than was restored: authentication is on and not off"),
  });
  expect(await model.process("rollback")).toMatchObject({ kind: "rolled-back" });
  model.mustBe("old", "rolled-back");
  expect(model.violations).toEqual([]);
});
