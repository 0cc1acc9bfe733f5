import { Fault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import type { HostWork } from "../restore/host-work.ts";
import { textOf } from "../restore/service-steps.ts";
import type { RunbookStep, StepHandler } from "../runbook/runbook.ts";

interface Places {
  readonly member: string;
  readonly oldMember: string;
  readonly wal: string | undefined;
  readonly oldWal: string | undefined;
}

function placesOf(step: RunbookStep): Places {
  const [data, oldName] = [textOf(step, "data"), textOf(step, "oldName")];
  const wal = step.args["wal"] === undefined ? undefined : textOf(step, "wal");
  return {
    member: `${data}/member`,
    oldMember: `${data}/member.${oldName}`,
    wal,
    // Beside it, not in it: an etcd that begins anew removes its WAL directory with all that is in it (wal.Create).
    oldWal: wal === undefined ? undefined : `${wal}.${oldName}`,
  };
}

/** What is left of the member's data gets another name; nothing is removed. */
export function asideStep(work: HostWork): StepHandler {
  return {
    async check(step, _context, signal) {
      const { host } = work.host(step.host ?? "");
      const { member, wal } = placesOf(step);
      const left = (await host.stat(member, signal)) !== undefined || (await hasLog(host, wal, signal));
      return { state: left ? "pending" : "done" };
    },
    async perform(step, _context, signal) {
      const { host } = work.host(step.host ?? "");
      const { member, oldMember, wal, oldWal } = placesOf(step);
      if ((await host.stat(member, signal)) !== undefined) await host.rename(member, oldMember, signal);
      if (wal === undefined || oldWal === undefined) return undefined;
      const facts = await host.stat(wal, signal);
      if (facts !== undefined && (await hasLog(host, wal, signal))) await host.rename(wal, oldWal, signal);
      const { mode, uid, gid } = facts ?? (await host.stat(oldWal, signal)) ?? { mode: 0o700, uid: 0, gid: 0 };
      await host.makeDirectory(wal, { mode: mode & 0o777, owner: { uid, gid } }, signal);
      return undefined;
    },
    async undo(step, _context, signal) {
      const { host } = work.host(step.host ?? "");
      const { member, oldMember, wal, oldWal } = placesOf(step);
      if ((await host.stat(oldMember, signal)) !== undefined) await host.rename(oldMember, member, signal);
      if (wal === undefined || oldWal === undefined || (await host.stat(oldWal, signal)) === undefined) return;
      const names = await host.list(wal, signal);
      if (names !== undefined && names.length > 0) {
        throw new Fault("host-exists", `${wal} of ${host.name} is not empty`, {
          hint: `look what is in it; the log of before lies in ${oldWal}`,
        });
      }
      await host.removeTree(wal, signal);
      await host.rename(oldWal, wal, signal);
    },
  };
}

async function hasLog(host: Host, wal: string | undefined, signal: AbortSignal): Promise<boolean> {
  if (wal === undefined) return false;
  return ((await host.list(wal, signal)) ?? []).some((name) => name.endsWith(".wal"));
}
