import { decideDue } from "../daemon/due.ts";
import { Fault } from "../faults.ts";
import { readIdentity } from "../repository/identity.ts";
import { listRepository } from "../repository/listing.ts";
import { scheduledLineage } from "../repository/proven.ts";
import { runBackup, type BackupDependencies, type CommittedBackup } from "../snapshot/backup.ts";
import { refuseClosed } from "./lock.ts";
import type { Tools } from "./tools.ts";

/** How a look at one schedule ended. */
export type IfDue =
  /** The latest slot is committed already. */
  | { readonly kind: "not-due"; readonly slotMs: number | undefined; readonly nextMs: number | undefined }
  | { readonly kind: "committed"; readonly committed: CommittedBackup; readonly missed: number }
  /** Somebody else committed the slot meanwhile. */
  | { readonly kind: "superseded"; readonly slotMs: number; readonly backup: string; readonly missed: number };

/**
 * One turn of the daemon's loop for one schedule, for who starts it by a timer: the same question, the same key, the same fence. Any number of callers and daemons
 * commit a slot once. Jitter is the timer's business.
 */
export async function backupIfDue(
  tools: Tools,
  deps: BackupDependencies,
  schedule: string,
  signal: AbortSignal,
): Promise<IfDue> {
  const { fields, timeZone } = findSchedule(tools, schedule);
  const nowMs = tools.clock.now();
  const newestSlotMs = await newestSlot(deps, schedule, nowMs, signal);
  const due = decideDue({ fields, timeZone, delayMs: 0, newestSlotMs, starting: true }, nowMs);
  if (due.kind !== "due") {
    return { kind: "not-due", slotMs: newestSlotMs, nextMs: due.kind === "wait" ? due.untilMs : undefined };
  }
  await refuseClosed(tools, signal);
  const { slotMs, missed } = due;
  if (missed > 0) deps.emit({ name: "schedule.missed", schedule, slots: missed, newestSlotMs: slotMs });
  const outcome = await runBackup(deps, { trigger: "schedule", schedule, slotMs }, signal);
  return outcome.kind === "committed"
    ? { kind: "committed", committed: outcome, missed }
    : { kind: "superseded", slotMs, backup: outcome.backup, missed };
}

function findSchedule(tools: Tools, name: string): Tools["loaded"]["config"]["schedules"][number] {
  const { config, path } = tools.loaded;
  const found = config.schedules.find((schedule) => schedule.name === name);
  if (found !== undefined) return found;
  const names = config.schedules.map((schedule) => schedule.name).join(", ");
  throw new Fault("usage", `there is no schedule "${name}" in ${path}`, {
    hint: names === "" ? "schedules is empty there" : `there is: ${names}`,
  });
}

/** The newest committed slot that does not lie in the future, as the daemon's loop sees it. */
async function newestSlot(
  deps: BackupDependencies,
  schedule: string,
  nowMs: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  const identity = await readIdentity(deps.store, deps.cluster, signal);
  if (identity === undefined) return undefined;
  const listing = await listRepository(deps.store, signal);
  const belief = { repository: identity.id, trusted: deps.trusted };
  const current = await scheduledLineage(deps.store, listing, belief, signal);
  let newest: number | undefined;
  for (const { lineage, name } of listing.backups) {
    if (current !== undefined && lineage !== current) continue;
    if (name.kind !== "slot" || name.schedule !== schedule || name.timeMs > nowMs) continue;
    newest = Math.max(newest ?? name.timeMs, name.timeMs);
  }
  return newest;
}
