import { describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import type { Outcome } from "../../src/runbook/runbook.ts";
import { openModel, openScratch, type Model } from "./model.ts";

/** A host of three is lost amid a restore: cut off, or without power. */

const patient = { timeout: 300_000 };
const options = { members: 3 } as const;

const stopped = { code: "runbook-stopped", exitStatus: 5, message: expect.stringContaining("h3 cannot be reached") };

describe("a host that is lost", patient, () => {
  test("before the first restored member was started stops it, and everything goes back without it", async () => {
    using scratch = openScratch();
    const model = await openModel(options, scratch.directory);
    model.loseAt("h3", "swap.h3 before start");
    expect(await model.process("run")).toMatchObject(stopped);
    expect(model.isLost("h3")).toBe(true);
    // Forward there is no way yet.
    expect(await model.process("resume")).toMatchObject(stopped);
    expect(await model.process("rollback")).toMatchObject({ kind: "rolled-back", left: ["h3"] });
    model.pass();
    expect(model.runs("h1", "kube-apiserver.service")).toBe(true);
    expect(model.events).toContainEqual(expect.objectContaining({ name: "host.left", host: "h3" }));
    expect(model.needsRejoin()).toEqual(["h3"]);
    model.findAgain("h3");
    expect(await model.process("rollback")).toMatchObject({ kind: "rolled-back", left: [] });
    model.mustBe("old", "rolled-back");
    expect(model.violations).toEqual([]);
  });

  test("after that is left, the majority goes on, and it joins again by a resume when it is back", async () => {
    using scratch = openScratch();
    const model = await openModel(options, scratch.directory);
    model.loseAt("h3", "start-etcd.h3 after start");
    expect(await model.process("run")).toMatchObject({ kind: "done", left: ["h3"] });
    expect(model.isLost("h3")).toBe(true);
    model.pass();
    expect(model.runs("h1", "kube-apiserver.service")).toBe(true);
    expect(model.needsRejoin()).toEqual(["h3"]);
    // Still away.
    expect(await model.process("resume")).toMatchObject({ kind: "done", left: ["h3"] });
    model.findAgain("h3");
    expect(await model.process("resume")).toMatchObject({ kind: "done", left: [] });
    model.mustBe("new", "done");
    expect(model.needsRejoin()).toEqual([]);
    expect(model.violations).toEqual([]);
  });

  test("is no majority's when it is the only one", async () => {
    using scratch = openScratch();
    const model = await openModel({ members: 1 }, scratch.directory);
    model.loseAt("h1", "start-etcd.h1 after perform");
    expect(await model.process("run")).toMatchObject({ code: "runbook-stopped" });
    model.findAgain("h1");
    expect(await model.process("resume")).toMatchObject({ kind: "done", left: [] });
    model.mustBe("new", "done");
    expect(model.violations).toEqual([]);
  });

  test("at whatever instant leads somewhere whole, without it and with it", async () => {
    using scratch = openScratch();
    const whole = await openModel(options, scratch.directory);
    await whole.process("run");
    const labels = [...new Set(whole.labels)].filter((label) =>
      /^(?:place|stop|swap|start)[-.]|^quiet|^healthy/.test(label),
    );
    const count = { left: 0, refused: 0, stopped: 0, rolledBack: 0, late: 0 };
    for (const [index, label] of labels.entries()) {
      if (index % 3 !== 0) continue;
      for (const after of ["resume", "rollback"] as const) {
        const model = await openModel(options, scratch.directory);
        model.loseAt("h3", label);
        const first = await model.process("run");
        expect(model.isLost("h3"), label).toBe(true);
        if (first instanceof Fault && first.code === "restore-refused") {
          // While things are made ready it is taken back at once, and there too when it is back.
          expect(label).toMatch(/^place/);
          count.refused += 1;
          model.findAgain("h3");
          expect(await model.process("rollback"), label).toMatchObject({ left: [] });
          model.mustBe("old", "rolled-back");
          expect(model.violations, label).toEqual([]);
          continue;
        }
        if (isEnded(first)) count.left += 1;
        else expect(first, label).toMatchObject({ code: "runbook-stopped" });
        if (!isEnded(first)) count.stopped += 1;
        const second = await model.process(after);
        if (isEnded(second) && second.kind === "rolled-back") count.rolledBack += 1;
        model.pass();
        model.findAgain("h3");
        const third = await model.process(after);
        const late = third instanceof Fault && third.code === "rollback-too-late";
        if (late) count.late += 1;
        const last = late ? await model.process("resume") : third;
        expect(last, `${label}, then ${after}`).toMatchObject({ left: [] });
        const back = after === "rollback" && !late;
        model.mustBe(back ? "old" : "new", back ? "rolled-back" : "done");
        expect(model.violations, `${label}, then ${after}`).toEqual([]);
      }
    }
    console.log(`${labels.length} places: ${JSON.stringify(count)}`);
    for (const often of Object.values(count)) expect(often).toBeGreaterThan(0);
  });
});

function isEnded(outcome: Awaited<ReturnType<Model["process"]>>): outcome is Outcome {
  return outcome !== "died" && !(outcome instanceof Fault);
}
