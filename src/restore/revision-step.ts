import { Fault } from "../faults.ts";
import type { StepHandler } from "../runbook/runbook.ts";
import { noted } from "./data-steps.ts";
import { readStopped } from "./stopped.ts";
import type { RestoreWork } from "./work.ts";

/**
 * The first revision was chosen, and the new data built, while the cluster still worked. Now that every member is stopped, their own files say whether any of them came
 * further than was thought: also one that could not be asked then.
 */
export function revisionStep(work: RestoreWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(_step, { note, left }, signal) {
      const first = BigInt(work.facts.first.revision);
      const reached: Record<string, string> = {};
      const stopped = work.plan.steps.filter(({ kind, host = "" }) => kind === "stop-etcd" && !left.has(host));
      for (const { host: name = "" } of stopped) {
        const open = work.host(name);
        const found = await readStopped(open, work.deps.wal, signal);
        if (found === undefined) continue;
        const { member } = work.etcdOf(name);
        for (const what of found.broken) {
          const message = `${member} is stopped on ${name}, and ${what}`;
          work.deps.emit({ name: "warning", about: "restore", message });
        }
        if (found.revision === undefined) continue;
        const revision = found.revision + found.logEntries;
        reached[member] = revision.toString();
        if (revision < first) continue;
        throw new Fault(
          "plan-stale",
          `${member} may have reached revision ${revision} before it was stopped, and the restored cluster would start at ${first}: clients would see revisions go back`,
          { hint: `take it back and plan again: etcd-lifeboat restore --rollback ${work.plan.id}` },
        );
      }
      await note({ reached });
      return { reached };
    },
  };
}
