import { describe, expect, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { execute, type ExecuteDependencies } from "../../src/runbook/execute.ts";
import type { JournalEntry } from "../../src/runbook/journal.ts";
import type { RunbookMode, StepHandler } from "../../src/runbook/runbook.ts";
import { isUnfinished, standingOf } from "../../src/runbook/standing.ts";
import { steeredClock } from "../fakes/clock.ts";
import { fakeJournals } from "../fakes/journal.ts";
import { modelPlan, type ModelStep } from "./model.ts";

const signal = new AbortController().signal;

/** A plan whose steps become so when they are performed; `handler` says what is otherwise. */
async function rig(steps: readonly ModelStep[], handler: Partial<StepHandler> = {}) {
  const plan = modelPlan(steps);
  const so = new Set<string>();
  const done: string[] = [];
  const events: LifeboatEvent[] = [];
  const journals = fakeJournals();
  const journal = await journals.create(plan, signal);
  const usual: StepHandler = {
    check: async ({ id }) => await Promise.resolve({ state: so.has(id) ? "done" : "pending" }),
    perform: async ({ id }) => {
      done.push(`do ${id}`);
      so.add(id);
      return await Promise.resolve({ of: id });
    },
    undo: async ({ id }) => {
      done.push(`undo ${id}`);
      so.delete(id);
      await Promise.resolve();
    },
  };
  const run = async (mode: RunbookMode, more: Partial<ExecuteDependencies> = {}, within: AbortSignal = signal) =>
    await execute(
      journal,
      mode,
      {
        handlers: { model: { ...usual, ...handler } },
        emit: (event) => events.push(event),
        clock: steeredClock(0),
        ...more,
      },
      within,
    );
  return { plan, so, done, events, journals, journal, run, standing: () => standingOf(plan, journal.entries) };
}

const failAt = (id: string, fault: Error): Partial<StepHandler> => ({
  perform: async (step) => {
    if (step.id === id) throw fault;
    return await Promise.resolve(undefined);
  },
  check: async (step, context) =>
    await Promise.resolve({ state: context.notes.length > 0 || step.id === "s0" ? "done" : "pending" }),
});

describe("results and notes", () => {
  test("what was noted is forgotten with what was taken back, so that no step is passed over for it", () => {
    const noteAndDone = (step: string) =>
      [
        { kind: "start", step },
        { kind: "note", step, facts: { proven: true } },
        { kind: "done", step, performed: true },
      ] as const;
    const opened = { kind: "opened", mode: "run", by: "test" } as const;
    const back = [opened, ...noteAndDone("s0"), ...noteAndDone("s1"), { kind: "undo-start", step: "s0" } as const];
    const stands = (entries: readonly object[]) =>
      standingOf(
        modelPlan([{}, {}]),
        entries.map((entry) => ({ timeMs: 0, ...entry }) as JournalEntry),
      ).steps;
    // To take s0 back its notes may be needed; what came after it is no longer known.
    expect(stands(back).get("s0")?.notes).toHaveLength(1);
    expect(stands(back).get("s1")).toMatchObject({ state: "pending", notes: [] });
    expect(stands([...back, { kind: "undone", step: "s0" }]).get("s0")).toMatchObject({ state: "undone", notes: [] });
  });

  test("a later step reads what an earlier one gave, also after an interruption", async () => {
    const seen: unknown[] = [];
    const { run, so } = await rig([{}, {}], {
      perform: async ({ id }, { results }) => {
        seen.push([id, Object.fromEntries(results)]);
        if (id === "s1" && seen.length === 2) throw new Fault("host-failed", "no");
        so.add(id);
        return await Promise.resolve({ of: id });
      },
    });
    await expect(run("run")).rejects.toMatchObject({ code: "runbook-stopped" });
    const outcome = await run("resume");
    expect(seen).toEqual([
      ["s0", {}],
      ["s1", { s0: { of: "s0" } }],
      ["s1", { s0: { of: "s0" } }],
    ]);
    expect([...outcome.results.keys()]).toEqual(["s0", "s1"]);
  });

  test("what was noted in a step is there when it is performed again", async () => {
    const names: unknown[] = [];
    const { run, so } = await rig([{}], {
      perform: async ({ id }, { notes, note }) => {
        names.push(notes[0]?.["name"]);
        if (notes.length === 0) {
          await note({ name: "chosen" });
          throw new Fault("host-failed", "no");
        }
        so.add(id);
        return undefined;
      },
    });
    await expect(run("run")).rejects.toThrow(Fault);
    await run("resume");
    expect(names).toEqual([undefined, "chosen"]);
  });
});

describe("a step that fails", () => {
  test("stops the run with status 5 when something was changed, and says how to go on and back", async () => {
    const fault = new Fault("host-space", "no room on cp1", { hint: "make room" });
    const { run, journals, plan } = await rig([{}, {}], {
      perform: async ({ id }, context) => {
        if (id === "s1") throw fault;
        await context.note({});
        return undefined;
      },
      check: async ({ id }, { notes }) => await Promise.resolve({ state: notes.length > 0 ? "done" : "pending", id }),
    });
    const stopped: unknown = await run("run").catch((error: unknown) => error);
    expect(stopped).toMatchObject({
      code: "runbook-stopped",
      exitStatus: 5,
      message: `restore ${plan.id} stopped before s1 is so: no room on cp1`,
      hint: `make room; then go on: etcd-lifeboat restore --resume ${plan.id}; or go back: etcd-lifeboat restore --rollback ${plan.id}`,
      cause: fault,
    });
    expect(isUnfinished(await journals.read(plan.id, signal))).toBe(true);
  });

  test("refuses with status 4 when only harmless steps were performed, and leaves nothing to resume", async () => {
    const { run, journals, plan } = await rig([{ harmless: true }, { harmless: true }], {
      ...failAt("s1", new Fault("hook-stopped", "the hook said no")),
    });
    await expect(run("run")).rejects.toMatchObject({
      code: "runbook-refused",
      exitStatus: 4,
      message: expect.stringContaining("the hook said no (nothing was changed)") as string,
    });
    expect(isUnfinished(await journals.read(plan.id, signal))).toBe(false);
    await expect(run("resume")).rejects.toMatchObject({ code: "runbook-refused" });
  });

  test("of a group leaves the others to their end", async () => {
    const { run, standing } = await rig([{ group: "g" }, { group: "g" }, { group: "g" }, {}], {
      perform: async ({ id }, { note }) => {
        if (id === "s0") throw new Fault("host-failed", "no");
        await new Promise((resolve) => setImmediate(resolve));
        await note({});
        return undefined;
      },
      check: async (_, { notes }) => await Promise.resolve({ state: notes.length > 0 ? "done" : "pending" }),
    });
    await expect(run("run")).rejects.toMatchObject({ code: "runbook-stopped" });
    expect([...standing().steps.values()].map(({ state }) => state)).toEqual(["failed", "done", "done", "pending"]);
  });

  test("is one whose condition is not true afterwards", async () => {
    const { run } = await rig([{}], {
      check: async () => await Promise.resolve({ state: "pending", detail: "pid 7" }),
    });
    await expect(run("run")).rejects.toThrow("it was done, and it is still not so that s0 is so: pid 7");
  });

  test("is one of which nothing can be said, and it is not performed", async () => {
    const { run, done } = await rig([{}], { check: async () => await Promise.resolve({ state: "unknown" }) });
    await expect(run("run")).rejects.toMatchObject({ code: "runbook-refused" });
    expect(done).toEqual([]);
  });

  test("that is our bug crashes as what it is before changes, and says amid them how to go on, after it was written down", async () => {
    const bug = new TypeError("x is undefined");
    const { run, standing } = await rig([{}], { perform: () => Promise.reject(bug) });
    const harmless = await rig([{ harmless: true }], { perform: () => Promise.reject(bug) });
    await expect(harmless.run("run")).rejects.toThrow(TypeError);
    await expect(run("run")).rejects.toMatchObject({
      code: "runbook-stopped",
      exitStatus: 5,
      message: expect.stringMatching(/x is undefined/),
      hint: expect.stringMatching(/--resume .*--rollback/),
      cause: bug,
    });
    expect(standing().steps.get("s0")).toMatchObject({ state: "failed", message: "x is undefined" });
  });
});

describe("an interruption", () => {
  test("before anything was changed is just that", async () => {
    const controller = new AbortController();
    controller.abort();
    const { run } = await rig([{}]);
    await expect(run("run", {}, controller.signal)).rejects.toMatchObject({ code: "interrupted" });
  });

  test("amid changes says how to go on", async () => {
    const controller = new AbortController();
    const { run, so } = await rig([{}, {}], {
      perform: async ({ id }) => {
        so.add(id);
        controller.abort();
        return await Promise.resolve(undefined);
      },
    });
    await expect(run("run", {}, controller.signal)).rejects.toMatchObject({ code: "runbook-stopped", exitStatus: 5 });
    expect(await run("resume")).toMatchObject({ kind: "done", performed: 1 });
  });
});

describe("a lost host", () => {
  const lost = new Fault("host-unreachable", "b does not answer");
  const plan: readonly ModelStep[] = [{ host: "a" }, { host: "b" }, { host: "b" }, { host: "a" }];

  test("stops the run where nobody may give it up", async () => {
    const { run } = await rig(plan, failAt("s1", lost));
    await expect(run("run")).rejects.toMatchObject({ message: expect.stringContaining("b does not answer") as string });
  });

  test("is left where it may be, with all that was still to be done on it", async () => {
    const asked: string[] = [];
    const r = await rig(plan, {
      perform: async ({ id, host }) => {
        if (host === "b") throw lost;
        r.so.add(id);
        return await Promise.resolve(undefined);
      },
    });
    const outcome = await r.run("run", {
      lostHost: async ({ id }) => {
        asked.push(id);
        return await Promise.resolve(true);
      },
    });
    expect(outcome).toMatchObject({ kind: "done", left: ["b"] });
    expect(asked).toEqual(["s1"]);
    expect([...r.so]).toEqual(["s0", "s3"]);
    expect(r.standing().steps.get("s2")?.state).toBe("left");
    expect(r.events.map(({ name }) => name)).toContain("host.left");
  });

  test("is told when it was booted since it was last touched", async () => {
    let boot = 0;
    const r = await rig([{ host: "a" }, { host: "a" }]);
    await r.run("run", { bootId: async () => await Promise.resolve(`boot ${(boot += 1)}`) });
    expect(r.events.filter(({ name }) => name === "host.rebooted")).toHaveLength(1);
  });
});

describe("a rollback", () => {
  test("takes back what was begun, the last first, and nothing else", async () => {
    const r = await rig([{}, {}, {}]);
    r.so.add("s1");
    await r.run("run");
    expect(await r.run("rollback")).toMatchObject({ kind: "rolled-back", performed: 2 });
    expect(r.done).toEqual(["do s0", "do s2", "undo s2", "undo s0"]);
    expect([...r.so]).toEqual(["s1"]);
  });

  test("is refused before anything is taken back where it is too late, and resume still goes on", async () => {
    let stuck = true;
    const r = await rig([{}, {}], {
      perform: async ({ id }) => {
        if (id === "s1" && stuck) throw new Fault("host-failed", "no");
        r.so.add(id);
        return await Promise.resolve(undefined);
      },
    });
    await expect(r.run("run")).rejects.toThrow(Fault);
    const late = new Fault("rollback-too-late", "clients were answered");
    await expect(r.run("rollback", { mayRollBack: () => Promise.reject(late) })).rejects.toBe(late);
    expect(r.done).toEqual([]);
    stuck = false;
    expect(await r.run("resume")).toMatchObject({ kind: "done" });
  });

  test("that fails says so and is repeated", async () => {
    let stuck = true;
    const r = await rig([{}, {}], {
      undo: async ({ id }) => {
        if (id === "s0" && stuck) throw new Fault("host-failed", "no");
        r.so.delete(id);
        return await Promise.resolve();
      },
    });
    await r.run("run");
    await expect(r.run("rollback")).rejects.toMatchObject({
      code: "runbook-stopped",
      message: expect.stringContaining("the rollback of restore") as string,
    });
    stuck = false;
    expect(await r.run("rollback")).toMatchObject({ kind: "rolled-back", performed: 1 });
  });
});

test("a plan with steps of a kind that nobody knows is refused before it begins", async () => {
  const { run } = await rig([{}]);
  await expect(run("run", { handlers: {} })).rejects.toMatchObject({ code: "journal-invalid" });
});

test("done steps that must still hold are looked at again by a resume, and performed again where they do not", async () => {
  const r = await rig([{ holdsUntil: 2 }, {}, {}], {
    perform: async ({ id }) => {
      if (id === "s2" && r.done.length < 3) throw new Fault("host-failed", "no");
      r.done.push(`do ${id}`);
      r.so.add(id);
      return await Promise.resolve(undefined);
    },
  });
  await expect(r.run("run")).rejects.toThrow(Fault);
  r.so.delete("s0");
  r.so.delete("s1");
  await r.run("resume");
  expect(r.done).toEqual(["do s0", "do s1", "do s0", "do s2"]);
});
