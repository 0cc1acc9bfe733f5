import { expect, test } from "vitest";
import { describeHygiene, hygieneOf, readHygiene } from "../../src/restore/hygiene.ts";
import type { RestoreDependencies } from "../../src/restore/restore.ts";
import { openModel, openScratch } from "./model.ts";

const none = { objects: 0, masterLeases: [], leases: [], nodeLeases: 0, encrypted: [] };

test("a cluster without Kubernetes is told nothing", () => {
  expect(describeHygiene(none, "12 revisions")).toEqual([]);
});

test("each thing that a restore cannot put right is told, with what it means", () => {
  const facts = {
    objects: 9,
    masterLeases: ["10.0.0.11"],
    leases: ["kube-system/kube-scheduler"],
    nodeLeases: 3,
    encrypted: [{ resource: "secrets", key: "aescbc:v1:key1", objects: 4 }],
  };
  const text = describeHygiene(facts, "12 revisions").join("\n");
  for (const word of [
    "12 revisions",
    "10.0.0.11",
    "kube-system/kube-scheduler",
    "3 nodes",
    "4 secrets",
    "aescbc:v1:key1",
  ])
    expect(text).toContain(word);
  expect(describeHygiene({ ...facts, encrypted: [] }, "").join("\n")).toContain("must include identity");
});

test("a journal keeps it in bounds, and gives it back", () => {
  const leases = Array.from({ length: 1000 }, (_, number) => `kube-system/${number}`);
  const kept = hygieneOf({ ...none, objects: 1000, leases });
  expect(readHygiene({ hygiene: kept })).toMatchObject({ objects: 1000, leases: leases.slice(0, 50) });
  expect(readHygiene({})).toBe(undefined);
  expect(readHygiene(undefined)).toBe(undefined);
});

test("what is left to look after is told when a restore is done, and not when it was taken back", async () => {
  using scratch = openScratch();
  const survey = async () => await Promise.resolve({ ...none, objects: 7, nodeLeases: 3 });
  const options = { members: 1, breakDeps: (deps: RestoreDependencies) => ({ ...deps, survey }) } as const;
  const told = async (after?: "resume" | "rollback") => {
    const model = await openModel(options, scratch.directory);
    if (after === undefined) expect(await model.process("run")).toMatchObject({ kind: "done" });
    else {
      expect(await model.process("run", 150)).toBe("died");
      expect(await model.process(after)).toMatchObject({ kind: after === "resume" ? "done" : "rolled-back" });
    }
    return model.events.filter(({ name }) => name === "restore.hygiene");
  };
  const event = {
    objects: 7,
    findings: expect.arrayContaining([expect.stringMatching(/leases of 3 nodes/)]) as string[],
  };
  expect(await told()).toEqual([expect.objectContaining(event)]);
  expect(await told("resume")).toEqual([expect.objectContaining(event)]);
  expect(await told("rollback")).toEqual([]);
});
