import { afterEach, describe, expect, test } from "vitest";
import type { JournalMirror } from "../../src/runbook/journal.ts";

/** What every place keeps that journals are copied to. Two of them open the same place, as two machines do. */
export interface MirrorSubject extends AsyncDisposable {
  readonly one: JournalMirror;
  readonly other: JournalMirror;
}

const { signal } = new AbortController();
const first = "01JQ0000000000000000000001";
const second = "01JQ0000000000000000000002";

export function mirrorContract(name: string, openSubject: () => Promise<MirrorSubject>): void {
  describe(name, () => {
    let subject: MirrorSubject | undefined;
    const open = async (): Promise<MirrorSubject> => (subject = await openSubject());
    afterEach(async () => {
      await subject?.[Symbol.asyncDispose]();
      subject = undefined;
    });

    test("what was appended is read by another machine, in its order", async () => {
      const { one, other } = await open();
      expect(await other.read(first, signal)).toEqual([]);
      expect(await other.list(signal)).toEqual([]);
      await one.append(first, 0, ["plan"], signal);
      await one.append(first, 1, ['{"text":"ä\\u0000"}', "two"], signal);
      await one.append(second, 0, ["another plan"], signal);
      expect(await other.read(first, signal)).toEqual(["plan", '{"text":"ä\\u0000"}', "two"]);
      expect((await other.list(signal)).toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual([
        { id: first, last: "two" },
        { id: second, last: "another plan" },
      ]);
    });

    test("lines that are there already, or a part of them, are no others", async () => {
      const { one } = await open();
      await one.append(first, 0, ["plan", "a"], signal);
      await one.append(first, 0, ["plan", "a"], signal);
      await one.append(first, 0, ["plan", "a", "b"], signal);
      await one.append(first, 2, ["b", "c"], signal);
      await one.append(first, 3, ["c"], signal);
      expect(await one.read(first, signal)).toEqual(["plan", "a", "b", "c"]);
    });

    test("of two machines that write at one place, one does", async () => {
      const { one, other } = await open();
      await one.append(first, 0, ["plan", "a"], signal);
      await other.append(first, 2, ["mine"], signal);
      await expect(one.append(first, 2, ["b"], signal)).rejects.toMatchObject({ code: "journal-taken" });
      await expect(one.append(first, 2, ["b", "c"], signal)).rejects.toMatchObject({ code: "journal-taken" });
      expect(await one.read(first, signal)).toEqual(["plan", "a", "mine"]);
    });

    test("what is removed is gone, of one operation alone, and may be removed again", async () => {
      const { one, other } = await open();
      await one.append(first, 0, ["plan"], signal);
      await one.append(first, 1, ["a"], signal);
      await one.append(second, 0, ["another plan"], signal);
      await other.remove(first, signal);
      await other.remove(first, signal);
      expect(await one.read(first, signal)).toEqual([]);
      expect(await one.list(signal)).toEqual([{ id: second, last: "another plan" }]);
    });
  });
}
