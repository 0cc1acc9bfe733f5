import { afterEach, describe, expect, test } from "vitest";
import type { Journals } from "../../src/runbook/journal.ts";
import { modelPlan } from "../runbook/model.ts";

/** What every kind of Journals keeps. Two of them open the same journals, as two processes do. */
export interface JournalsSubject extends AsyncDisposable {
  readonly one: Journals;
  readonly other: Journals;
}

const signal = new AbortController().signal;
let count = 0;

/** A plan of two steps with an id of its own; ids sort by creation. */
function planOf() {
  count += 1;
  return { ...modelPlan([{}, {}]), id: `01JQ${String(count).padStart(22, "0")}` };
}

export function journalsContract(name: string, openSubject: () => Promise<JournalsSubject>): void {
  describe(name, () => {
    let subject: JournalsSubject | undefined;
    const open = async (): Promise<JournalsSubject> => (subject = await openSubject());
    afterEach(async () => {
      await subject?.[Symbol.asyncDispose]();
      subject = undefined;
    });

    test("what was appended is read by another process, in its order", async () => {
      const { one, other } = await open();
      const plan = planOf();
      await using journal = await one.create(plan, signal);
      const entries = [
        { kind: "opened", mode: "run", timeMs: 1 },
        { kind: "start", step: "s0", timeMs: 2 },
        { kind: "note", step: "s0", facts: { text: "ä\n\u0000" }, timeMs: 3 },
        { kind: "done", step: "s0", performed: true, timeMs: 4 },
      ] as const;
      await Promise.all(entries.map((entry) => journal.append(entry)));
      expect(journal.entries).toEqual(entries);
      const read = await other.read(plan.id, signal);
      expect(read).toMatchObject({ plan, entries });
      expect(read.executing).toBeDefined();
    });

    test("one process alone executes an operation, and the next one when it is done", async () => {
      const { one, other } = await open();
      const plan = planOf();
      const journal = await one.create(plan, signal);
      await journal.append({ kind: "opened", mode: "run", timeMs: 1 });
      await journal.append({ kind: "start", step: "s0", timeMs: 1 });
      await expect(other.open(plan.id, signal)).rejects.toMatchObject({ code: "journal-locked" });
      await expect(other.create(planOf(), signal)).rejects.toMatchObject({ code: "journal-locked" });
      await journal[Symbol.asyncDispose]();
      expect((await other.read(plan.id, signal)).executing).toBeUndefined();
      await using again = await other.open(plan.id, signal);
      expect(again.entries).toHaveLength(2);
      await again.append({ kind: "done", step: "s0", performed: true, timeMs: 2 });
      expect((await one.read(plan.id, signal)).entries).toHaveLength(3);
    });

    test("nothing begins while another operation is unfinished", async () => {
      const { one, other } = await open();
      const plan = planOf();
      const journal = await one.create(plan, signal);
      await journal.append({ kind: "opened", mode: "run", timeMs: 1 });
      await journal.append({ kind: "start", step: "s0", timeMs: 1 });
      await journal[Symbol.asyncDispose]();
      await expect(other.create(planOf(), signal)).rejects.toMatchObject({ code: "journal-unfinished" });
      // Another cluster's is in nobody's way.
      await (await other.create({ ...planOf(), cluster: "elsewhere" }, signal))[Symbol.asyncDispose]();
      const taken = await other.open(plan.id, signal);
      await taken.append({ kind: "ended", outcome: "rolled-back", timeMs: 2 });
      await taken[Symbol.asyncDispose]();
      const next = planOf();
      await using _ = await other.create(next, signal);
      expect((await one.list(signal)).map(({ plan: { id } }) => id)).toEqual(
        expect.arrayContaining([plan.id, next.id]),
      );
    });

    test("an operation that does not exist is not found, and one that does is not begun again", async () => {
      const { one } = await open();
      const { id } = planOf();
      await expect(one.read(id, signal)).rejects.toMatchObject({ code: "not-found" });
      await expect(one.open(id, signal)).rejects.toMatchObject({ code: "not-found" });
      expect(await one.list(signal)).toEqual([]);
      const plan = planOf();
      await (await one.create(plan, signal))[Symbol.asyncDispose]();
      await expect(one.create(plan, signal)).rejects.toMatchObject({ code: "journal-failed" });
    });
  });
}
