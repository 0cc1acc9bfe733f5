import { expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import type { HookPhase } from "../../src/restore/facts.ts";
import { openModel, openScratch } from "./model.ts";

/** Hooks amid a real restore of a model cluster. */

const phases: readonly HookPhase[] = [
  "before-stop-api-servers",
  "after-stop-api-servers",
  "before-stop-etcd",
  "after-stop-etcd",
  "before-start-etcd",
  "after-start-etcd",
  "before-start-api-servers",
  "after-start-api-servers",
];
const [etcd, api, controller] = ["etcd.service", "kube-apiserver.service", "kube-controller-manager.service"];

test("each is run once, when what its name says is so", async () => {
  using scratch = openScratch();
  const called: (readonly [string, readonly string[]])[] = [];
  const hook = (phase: string, running: readonly string[]): undefined => void called.push([phase, running]);
  const model = await openModel({ members: 3, hooks: phases, hook }, scratch.directory);
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  expect(called).toEqual([
    ["before-stop-api-servers", [etcd, api, controller]],
    ["after-stop-api-servers", [etcd]],
    ["before-stop-etcd", [etcd]],
    ["after-stop-etcd", []],
    ["before-start-etcd", []],
    ["after-start-etcd", [etcd]],
    ["before-start-api-servers", [etcd]],
    ["after-start-api-servers", [etcd, api, controller]],
  ]);
  expect(model.violations).toEqual([]);
});

test.each(phases)("one at %s that stops it leaves it to be resumed, or to be rolled back", async (phase) => {
  using scratch = openScratch();
  for (const after of ["resume", "rollback"] as const) {
    let refuses = true;
    const hook = (): undefined => {
      if (refuses) throw new Fault("hook-stopped", "the hook says no", { hint: "ask it" });
    };
    const model = await openModel({ members: 1, hooks: [phase], hook }, scratch.directory);
    const stopped = await model.process("run");
    expect(stopped).toMatchObject({
      message: expect.stringContaining("the hook says no"),
      hint: expect.stringContaining("ask it"),
    });
    // Without a lock nothing was touched before the first of them.
    refuses = false;
    const ended = await model.process(after);
    const late = ended instanceof Fault && ended.code === "rollback-too-late";
    expect(late).toBe(after === "rollback" && phase === "after-start-api-servers");
    if (!late) model.mustBe(after === "resume" ? "new" : "old", after === "resume" ? "done" : "rolled-back");
    expect(model.violations).toEqual([]);
  }
});

test("what one warns of is told, and it goes on", async () => {
  using scratch = openScratch();
  const options = { members: 1, hooks: ["before-stop-etcd"], hook: () => "one back end stayed" } as const;
  const model = await openModel(options, scratch.directory);
  expect(await model.process("run")).toMatchObject({ kind: "done" });
  expect(model.events).toContainEqual({
    name: "warning",
    about: "hook before-stop-etcd",
    message: "one back end stayed",
  });
});
