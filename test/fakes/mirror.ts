import { Fault } from "../../src/faults.ts";
import type { JournalMirror } from "../../src/runbook/journal.ts";
import { takenFault } from "../../src/runbook/journal-follower.ts";

/** Copies of journals in memory. `trouble` is asked before each call; what it throws comes out. */
export interface MemoryMirror extends JournalMirror {
  readonly kept: Map<string, string[]>;
  trouble: (method: "list" | "read" | "append" | "remove") => void | Promise<void>;
}

export function memoryMirror(name: string, believed = true): MemoryMirror {
  const kept = new Map<string, string[]>();
  const mirror: MemoryMirror = {
    name,
    believed,
    kept,
    trouble: () => undefined,
    accepts: () => true,
    async list() {
      await mirror.trouble("list");
      return [...kept].map(([id, lines]) => ({ id, last: lines.at(-1) ?? "" }));
    },
    async read(id) {
      await mirror.trouble("read");
      return [...(kept.get(id) ?? [])];
    },
    async append(id, from, lines) {
      await mirror.trouble("append");
      const there = kept.get(id) ?? [];
      if (there.length < from) throw new Fault("journal-failed", `${name} has ${there.length} lines of ${from}`);
      const has = there.slice(from);
      if (has.some((line, index) => line !== lines[index])) throw takenFault(id, name, "says otherwise");
      kept.set(id, [...there, ...lines.slice(has.length)]);
    },
    async remove(id) {
      await mirror.trouble("remove");
      kept.delete(id);
    },
  };
  return mirror;
}
