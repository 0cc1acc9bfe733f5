import type { LogLine } from "../cluster/daemon.ts";

/** Work that was done for a slot besides the run that committed it: each with its cause. Pure: it reads nothing. */

export type RepeatedCause =
  /** The run failed, and said so. */
  | "failed"
  /** The process ended in the middle of it. */
  | "killed"
  /** Somebody fell silent, and the slot was taken over. */
  | "stale"
  /** The claim could not be written or read, and a warning says so. */
  | "unclaimed"
  /** None is known: there may be no such run. */
  | "without a cause";

export interface RepeatedWork {
  /** Runs that drained a member. */
  readonly drains: number;
  readonly repeated: Readonly<Record<RepeatedCause, number>>;
  /** Slots of those without a cause. */
  readonly unexplained: readonly string[];
}

/** `daemons`: the lines of each, over all its lives. */
export function findRepeatedWork(daemons: readonly (readonly LogLine[])[]): RepeatedWork {
  const lines = daemons.flat();
  const runsOf = (event: string): ReadonlySet<unknown> =>
    new Set(lines.filter((line) => line.event === event).map((line) => line["run"]));
  const [drained, committed, failed] = [runsOf("source.chosen"), runsOf("backup.committed"), runsOf("backup.failed")];
  const superseded = runsOf("backup.superseded");
  const slots = (event: string): ReadonlySet<unknown> =>
    new Set(lines.filter((line) => line.event === event).map((line) => line["slotMs"]));
  const stale = slots("claim.taken");
  const repeated: Record<RepeatedCause, number> = {
    failed: 0,
    killed: 0,
    stale: 0,
    unclaimed: 0,
    "without a cause": 0,
  };
  const unexplained: string[] = [];
  for (const daemon of daemons) {
    const unclaimed = daemon.some(({ event, about }) => event === "warning" && about === "claim");
    for (const { event, run, slotMs } of daemon) {
      if (event !== "backup.started" || !drained.has(run) || committed.has(run)) continue;
      const cause: RepeatedCause = failed.has(run)
        ? "failed"
        : !superseded.has(run)
          ? "killed"
          : stale.has(slotMs)
            ? "stale"
            : unclaimed
              ? "unclaimed"
              : "without a cause";
      repeated[cause] += 1;
      if (cause === "without a cause") unexplained.push(new Date(Number(slotMs)).toISOString());
    }
  }
  return { drains: drained.size, repeated, unexplained };
}
