import { Fault } from "../../src/faults.ts";
import type { Journal, JournalEntry, JournalRecord, MirroredJournals } from "../../src/runbook/journal.ts";
import type { RunbookPlan } from "../../src/runbook/runbook.ts";
import { isUnfinished } from "../../src/runbook/standing.ts";

/** Journals in memory, one of them there from the beginning. `onAppend` is called before and after each line is durable; what it throws is the death of the process. */
export function fakeJournals(
  onAppend: (when: "before" | "after", entry: JournalEntry) => void = () => {},
  first?: Pick<JournalRecord, "plan" | "entries">,
): MirroredJournals {
  const kept = new Map<string, { plan: RunbookPlan; entries: JournalEntry[]; executing: boolean }>();
  if (first !== undefined) kept.set(first.plan.id, { plan: first.plan, entries: [...first.entries], executing: false });
  const known = (id: string) => {
    const found = kept.get(id);
    if (found === undefined) throw new Fault("not-found", `there is no operation ${id}`);
    return found;
  };
  const recordOf = (id: string): JournalRecord => {
    const { plan, entries, executing } = known(id);
    return { plan, entries: [...entries], executing: executing ? "this process" : undefined, place: "memory" };
  };
  const open = async (id: string): Promise<Journal> => {
    const found = known(id);
    if (found.executing) throw new Fault("journal-locked", `operation ${id} is executed by this process`);
    found.executing = true;
    const { plan, entries } = found;
    return await Promise.resolve({
      plan,
      entries,
      append: async (entry) => {
        onAppend("before", entry);
        entries.push(structuredClone(entry));
        onAppend("after", entry);
        await Promise.resolve();
      },
      [Symbol.asyncDispose]: async () => {
        found.executing = false;
        await Promise.resolve();
      },
    });
  };
  return {
    async create(plan) {
      for (const [id, { executing, ...record }] of kept) {
        if (record.plan.cluster !== plan.cluster) continue;
        if (executing) throw new Fault("journal-locked", `operation ${id} is executed by this process`);
        if (isUnfinished(record)) throw new Fault("journal-unfinished", `operation ${id} is not finished`);
      }
      if (kept.has(plan.id)) throw new Fault("journal-failed", `there is an operation ${plan.id} already`);
      kept.set(plan.id, { plan: structuredClone(plan), entries: [], executing: false });
      return await open(plan.id);
    },
    open,
    read: async (id) => await Promise.resolve(recordOf(id)),
    list: async () => await Promise.resolve([...kept.keys()].sort().map(recordOf)),
    async find(wanted) {
      const records = [...kept.keys()].sort().map(recordOf);
      const those = records.filter((record) =>
        wanted === undefined ? isUnfinished(record) : record.plan.id === wanted,
      );
      const found = those.map((record) => ({ record, lines: [], elsewhere: false }));
      return await Promise.resolve({ found, refused: [], silent: [], hearsay: [] });
    },
    adopt: async () => await Promise.reject(new Error("there are no copies of journals in memory")),
    removeCopies: async () => await Promise.resolve([]),
  };
}
