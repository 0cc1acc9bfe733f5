import { formatBackupName } from "../../src/repository/names.ts";
import { noLine, type Evidence, type LifeEvidence, type Line, type ScheduleEvidence, type Span } from "./evidence.ts";

/** Whether every slot of a soak is accounted for: committed once, or failed or missed with a line of a log that says so, and missed for a reason. */
export interface SlotReport {
  readonly counts: Readonly<Record<"committed" | "failed" | "missed" | "held" | "lost", number>>;
  readonly violations: readonly string[];
}

export function checkSlots(evidence: Evidence): SlotReport {
  const counts = { committed: 0, failed: 0, missed: 0, held: 0, lost: 0 };
  const violations: string[] = [];
  const presence = presenceOf(evidence);
  const runs = new Map(evidence.lives.map((life) => [life, runsOf(life, evidence.lines)]));
  for (const schedule of evidence.schedules) {
    const lines = evidence.lines.filter(({ fields }) => fields["schedule"] === schedule.name);
    for (const slotMs of schedule.slots) {
      const fate = fateOf(presence, schedule, lines, slotMs, violations);
      counts[fate] += 1;
      const named = nameOf(schedule, slotMs);
      if (fate === "lost")
        violations.push(`${named} was neither committed, nor does a line say that it failed or was missed`);
      if (fate !== "missed" && fate !== "lost") continue;
      const nextMs = schedule.slots.find((other) => other > slotMs) ?? slotMs;
      for (const life of evidence.lives) {
        const freeMs = longestFree(evidence, schedule.name, life, firstRead(life, lines), runs.get(life) ?? [], {
          fromMs: slotMs,
          toMs: nextMs,
        });
        // Less is how long a busy machine takes to notice anything.
        if (freeMs > 0.75 * (nextMs - slotMs))
          violations.push(
            `${named} was passed over by ${life.process}, which was free for ${freeMs} ms and began nothing`,
          );
      }
    }
  }
  for (const line of evidence.lines) {
    if (line.event === noLine)
      violations.push(`${line.process} wrote what is no line of its log: ${String(line.fields["text"])}`);
  }
  return { counts, violations };
}

function nameOf({ name }: ScheduleEvidence, slotMs: number): string {
  return formatBackupName({ kind: "slot", timeMs: slotMs, schedule: name });
}

function fateOf(
  presence: ReadonlyMap<string, Presence>,
  schedule: ScheduleEvidence,
  lines: readonly Line[],
  slotMs: number,
  violations: string[],
): keyof SlotReport["counts"] {
  const backup = nameOf(schedule, slotMs);
  const own = lines.filter(({ fields }) => fields["slotMs"] === slotMs);
  const commits = own.filter(({ event }) => event === "backup.committed");
  if (commits.length > 1) {
    const by = commits.map(({ process, atMs }) => `${process} at ${new Date(atMs).toISOString()}`);
    violations.push(`${backup} was committed ${commits.length} times: by ${by.join(", by ")}`);
  }
  const { appeared = 0, atOnce = 0 } = presence.get(backup) ?? {};
  if (atOnce > 1) violations.push(`${backup} is there in two lineages`);
  if (appeared > 1) violations.push(`${backup} went and came again`);
  if (appeared === 0 && commits.length > 0) violations.push(`${backup} was told as committed, and no look ever saw it`);
  if (appeared > 0) return "committed";
  if (own.some(({ event, level }) => event === "backup.failed" && level === "error")) return "failed";
  if (own.some(({ event }) => event === "schedule.held")) return "held";
  return lines.some((line) => covers(schedule, line, slotMs)) ? "missed" : "lost";
}

/** How often a backup came, and in how many lineages it was at the same time. */
interface Presence {
  readonly appeared: number;
  readonly atOnce: number;
}

function presenceOf({ looks }: Evidence): ReadonlyMap<string, Presence> {
  const presence = new Map<string, Presence>();
  let before = new Set<string>();
  for (const { backups } of looks) {
    const there = Map.groupBy(backups.values(), ({ backup }) => backup);
    for (const [backup, seen] of there) {
      const { appeared = 0, atOnce = 0 } = presence.get(backup) ?? {};
      presence.set(backup, {
        appeared: before.has(backup) ? appeared : appeared + 1,
        atOnce: Math.max(atOnce, seen.length),
      });
    }
    before = new Set(there.keys());
  }
  return presence;
}

/** `schedule.missed` counts the slots before the one that is served. */
function covers({ slots }: ScheduleEvidence, { event, fields }: Line, slotMs: number): boolean {
  if (event !== "schedule.missed") return false;
  const newest = slots.findLastIndex((slot) => slot <= Number(fields["newestSlotMs"]));
  const index = slots.indexOf(slotMs);
  return index < newest && index >= newest - Number(fields["slots"]);
}

/** A backup from its start to when its daemon could look at its schedules again. */
interface Run extends Span {
  readonly schedule: unknown;
  readonly failed: boolean;
}

function runsOf(life: LifeEvidence, lines: readonly Line[]): readonly Run[] {
  const own = lines.filter(({ process }) => process === life.process);
  const starts = own.filter(({ event }) => event === "backup.started");
  return starts.map((start, index) => {
    const nextMs = starts[index + 1]?.atMs ?? Infinity;
    const ofRun = own.filter((line) => line.fields["run"] === start.fields["run"]);
    const ends = ["backup.failed", "backup.superseded", "backup.proven", "backup.sealed"];
    const end = ofRun.find(({ event }) => ends.includes(event));
    // An expiry belongs to the backup before it.
    const last = own.findLast(
      ({ event, atMs }) =>
        atMs >= start.atMs && atMs < nextMs && (event.startsWith("retention.") || event === end?.event),
    );
    // What was not told of its end ended when the next began, at the latest.
    const toMs = Math.min(end === undefined ? life.endedMs : Math.max(end.atMs, last?.atMs ?? 0), nextMs);
    return {
      fromMs: start.atMs,
      toMs,
      schedule: start.fields["schedule"],
      failed: end?.event === "backup.failed",
    };
  });
}

/** A daemon needs so long to notice. */
const settlingMs = 3000;

/** When a process knew what was committed before it; until then it is ready, and has nothing to decide by. */
function firstRead({ process, readyMs, endedMs }: LifeEvidence, lines: readonly Line[]): number | undefined {
  if (readyMs === undefined) return undefined;
  const read = lines.find((line) => line.process === process && line.event === "schedule.read");
  // One that never reads, in all that time, is one that hangs.
  return Math.max(readyMs, read?.atMs ?? Math.min(readyMs + neverReadMs, endedMs));
}

/** A store under load takes some twenty seconds for a whole look. */
const neverReadMs = 60_000;

/** The longest while within a span in which a process could have begun a backup. */
function longestFree(
  { troubles }: Evidence,
  schedule: string,
  life: LifeEvidence,
  readMs: number | undefined,
  runs: readonly Run[],
  { fromMs, toMs }: Span,
): number {
  if (readMs === undefined) return 0;
  const busy = [...life.paused, ...troubles, ...runs];
  const isBusy = (atMs: number): boolean =>
    busy.some((span) => span.fromMs <= atMs && atMs < span.toMs + settlingMs) || isWaiting(schedule, runs, atMs);
  const stepMs = 250;
  let longest = 0;
  let free = 0;
  for (let atMs = Math.max(fromMs, readMs + settlingMs); atMs < Math.min(toMs, life.endedMs); atMs += stepMs) {
    free = isBusy(atMs) ? 0 : free + stepMs;
    longest = Math.max(longest, free);
  }
  return longest;
}

/** After a failure a schedule pauses until it is tried again. */
function isWaiting(schedule: string, runs: readonly Run[], atMs: number): boolean {
  const last = runs.filter((run) => run.schedule === schedule).findLast(({ fromMs }) => fromMs <= atMs);
  return last?.failed === true;
}
