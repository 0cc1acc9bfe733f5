import { decideKeep, type RetentionPolicy } from "../../src/snapshot/keep.ts";
import type { Evidence, Line } from "./evidence.ts";
import type { Look, Seen } from "./looks.ts";

/** Whether everything that went had to go, and everything that had to go went, through the whole history of a repository. */
export interface KeptReport {
  readonly seen: number;
  readonly expired: number;
  /** Removals that no line tells, since their daemon was killed just then. */
  readonly untold: number;
  readonly surveys: number;
  readonly violations: readonly string[];
}

export function checkKept(evidence: Evidence): KeptReport {
  const { looks, lines, policy } = evidence;
  const violations: string[] = [];
  const seen = new Set(looks.flatMap(({ backups }) => [...backups.keys()]));
  const expired: Expired[] = [];
  for (const [index, after] of looks.entries()) {
    const before = looks[index - 1];
    if (before === undefined) continue;
    expired.push(...removedBetween(before, after).map((backup) => ({ backup, before, after })));
    violations.push(...checkRemoved(policy, before, after), ...checkNewestProven(policy, before, after));
  }
  const told = new Map(
    lines
      .filter(({ event }) => event === "backup.expired")
      .map((line) => [`${String(line.fields["lineage"])}/${String(line.fields["backup"])}`, line]),
  );
  let untold = 0;
  for (const { backup, before, after } of expired) {
    const key = keyOf(backup);
    if (told.has(key)) continue;
    untold += 1;
    const excused = evidence.lives.some(
      ({ killed, endedMs }) => killed && endedMs > before.atMs - 2000 && endedMs < after.atMs + 2000,
    );
    if (!excused) violations.push(`${key} went, and no line tells who removed it`);
  }
  const gone = new Set(expired.map(({ backup }) => keyOf(backup)));
  for (const [key, line] of told) {
    if (!gone.has(key)) violations.push(`${key} was told as expired by ${line.process}, and it did not go`);
  }
  const surveys = lines.filter(({ event }) => event === "retention.applied");
  for (const applied of surveys) violations.push(...checkApplied(evidence, applied));
  return { seen: seen.size, expired: expired.length, untold, surveys: surveys.length, violations };
}

interface Expired {
  readonly backup: Seen;
  readonly before: Look;
  readonly after: Look;
}

function keyOf({ lineage, backup }: Seen): string {
  return `${lineage}/${backup}`;
}

function removedBetween(before: Look, after: Look): readonly Seen[] {
  return [...before.backups.values()].filter((backup) => !after.backups.has(keyOf(backup)));
}

/** Who decided knew at most what both looks saw; and what was decided earlier holds, since what came since can only push out more. */
function checkRemoved(policy: RetentionPolicy, before: Look, after: Look): readonly string[] {
  const removed = removedBetween(before, after);
  if (removed.length === 0) return [];
  const together = [...new Map([...before.backups, ...after.backups]).values()];
  const kept = decideKeep(policy, together, after.atMs).filter(
    ({ held, keep }) => keep && removed.some((one) => keyOf(one) === keyOf(held)),
  );
  return kept.map(({ held, reasons }) => `${keyOf(held)} went at ${at(after)} and had to stay: ${reasons.join("; ")}`);
}

/** Without keep.ts: the newest proven backup never goes, and of proven ones there are never fewer than must stay. */
function checkNewestProven({ minProven }: RetentionPolicy, before: Look, after: Look): readonly string[] {
  const proven = [...before.backups.values()].filter((backup) => backup.proven);
  const newest = proven.toSorted((a, b) => Number(b.revision - a.revision) || b.committedMs - a.committedMs)[0];
  if (newest === undefined) return [];
  const left = [...after.backups.values()].filter((backup) => backup.proven).length;
  const violations: string[] = [];
  if (!after.backups.has(keyOf(newest)))
    violations.push(`${keyOf(newest)} went at ${at(after)} and was the newest proven backup`);
  if (left < Math.min(proven.length, Math.max(1, minProven)))
    violations.push(`${left} proven backups were left at ${at(after)}, of ${proven.length} before`);
  return violations;
}

/** What an expiry let go by what was there before it, and still would by what was there after it, must not be there after it. */
function checkApplied({ looks, lines, policy }: Evidence, applied: Line): readonly string[] {
  if (Number(applied.fields["left"]) > 0) return [];
  const surveyed = lines.findLast(
    ({ event, process, atMs }) => event === "retention.surveyed" && process === applied.process && atMs <= applied.atMs,
  );
  // An expiry follows a commit of its own daemon, and whatever came before that it saw.
  const committed = lines.findLast(
    ({ event, process, atMs }) =>
      event === "backup.committed" && process === applied.process && surveyed !== undefined && atMs <= surveyed.atMs,
  );
  const before = looks.findLast(({ atMs }) => committed !== undefined && atMs < committed.atMs);
  const after = looks.find(({ atMs }) => atMs > applied.atMs);
  if (before === undefined || after === undefined) return [];
  const went = goingAt(policy, before);
  return [...goingAt(policy, after)]
    .filter((key) => went.has(key))
    .map((key) => `${key} stayed at ${at(after)}, and ${applied.process} had to let it go`);
}

/** By S3 a date has no parts of a second, so that a backup may be younger than it says. */
function goingAt(policy: RetentionPolicy, look: Look): ReadonlySet<string> {
  const backups = [...look.backups.values()].map((backup) => ({ ...backup, storedAtMs: backup.storedAtMs + 1000 }));
  const going = decideKeep(policy, backups, look.atMs).filter(({ keep }) => !keep);
  return new Set(going.map(({ held }) => keyOf(held)));
}

/** What went from a copy, which is judged by itself; no line names what went there. */
export function checkCopy(policy: RetentionPolicy, looks: readonly Look[]): readonly string[] {
  return looks.flatMap((after, index) => {
    const before = looks[index - 1];
    if (before === undefined) return [];
    return [...checkRemoved(policy, before, after), ...checkNewestProven(policy, before, after)];
  });
}

/** The end of a soak: between the looks somebody let go by hand what had to go. */
export function checkExpiry(policy: RetentionPolicy, before: Look, after: Look): readonly string[] {
  return [
    ...checkRemoved(policy, before, after),
    ...checkNewestProven(policy, before, after),
    ...[...goingAt(policy, after)].map((key) => `${key} is there at the end, and no rule keeps it`),
  ];
}

function at({ atMs }: Look): string {
  return new Date(atMs).toISOString();
}
