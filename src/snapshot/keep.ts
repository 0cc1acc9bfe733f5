/** What retention keeps of a repository, as a pure function: it never looks at a clock or a store, and says why for each backup. */

export interface RetentionPolicy {
  /** The newest of each schedule, and of those on demand. */
  readonly last: number;
  readonly hourly: number;
  readonly daily: number;
  readonly weekly: number;
  readonly monthly: number;
  readonly yearly: number;
  /** Everything committed so long before the newest; 0: no such rule. */
  readonly withinMs: number;
  /** Stored bytes that what these rules keep may have in all; minProven and pins go beyond it. */
  readonly maxBytes: number | undefined;
  /** So many of the newest proven backups stay, whatever else is said; taken as 1 at least. */
  readonly minProven: number;
  /** The schedules that are configured: what is due is decided by the newest backup of each, so it stays. */
  readonly schedules: readonly string[];
}

/** What retention has to know of a backup. */
export interface HeldBackup {
  readonly lineage: string;
  readonly backup: string;
  /** `foreign`: imported, nothing says whose; `refused`: its manifest or its lineage cannot be believed. */
  readonly kind: "live" | "foreign" | "refused";
  /** Of the slot, or when a backup on demand began: the time in its name. */
  readonly timeMs: number;
  /** By the clock of the daemon that took it. */
  readonly committedMs: number;
  /** By the store's clock. */
  readonly storedAtMs: number;
  readonly revision: bigint;
  /** Undefined: on demand. */
  readonly schedule: string | undefined;
  readonly proven: boolean;
  /** Why it is pinned; undefined: it is not. */
  readonly pinned: string | undefined;
  /** Of all objects of the backup. */
  readonly storedBytes: number;
}

export interface Verdict<B extends HeldBackup = HeldBackup> {
  readonly held: B;
  readonly keep: boolean;
  /** Every reason, in words; never empty. */
  readonly reasons: readonly string[];
}

/** Clocks of daemons may differ by so much; what is dated later is no history yet. */
const futureMs = 3_600_000;
/** A history that ended stays as its own rules keep it for so long: time to find out that it was the right one. */
const endedMs = 31 * 86_400_000;

/**
 * Decides what stays. In short (docs/operating/retention.md says it at length):
 * - Each lineage is judged by itself, so nothing that happens in one pushes backups out of another.
 * - Every rule is applied twice: to all backups, and to the proven ones alone. Unproven ones never push out a proven one.
 * - Imported, refused and future-dated backups are not counted and stay.
 * - `maxBytes` takes away unproven ones first, then the oldest; pins, the newest and the newest proven backups are beyond all rules.
 * - A lineage that has ended loses what it is only kept for by count, when its successor has `minProven` proven backups and a month has passed.
 * The answers come in the order of `backups`.
 */
export function decideKeep<B extends HeldBackup>(
  policy: RetentionPolicy,
  backups: readonly B[],
  nowMs: number,
): readonly Verdict<B>[] {
  const reasons = new Map<HeldBackup, Reasons>(backups.map((held) => [held, { guards: [], rules: [], against: [] }]));
  const counted = backups.filter((held) => isCounted(held, nowMs));
  for (const lineage of lineagesOf(policy, counted)) judgeLineage(policy, lineage, reasons);
  guardRepository(policy, counted, reasons);
  for (const held of backups) guardAlone(held, nowMs, reasons.get(held)?.guards ?? []);
  const over = overBudget(policy, counted, reasons);
  return backups.map((held) => {
    const { guards = [], rules = [], against = [] } = reasons.get(held) ?? {};
    if (guards.length > 0) return { held, keep: true, reasons: [...guards, ...rules] };
    if (over.has(held)) {
      const why = `maxBytes: more is stored than ${policy.maxBytes} bytes, and ${held.proven ? "older ones" : "unproven ones"} go first`;
      return { held, keep: false, reasons: [why, ...rules.map((rule) => `although ${rule}`)] };
    }
    if (rules.length > 0) return { held, keep: true, reasons: rules };
    return { held, keep: false, reasons: against.length > 0 ? against : ["no rule keeps it"] };
  });
}

interface Reasons {
  /** Beyond every rule and limit. */
  readonly guards: string[];
  readonly rules: string[];
  /** What each rule says to one that it does not keep. */
  readonly against: string[];
}

function isCounted(held: HeldBackup, nowMs: number): boolean {
  return held.kind === "live" && !isAhead(held, nowMs);
}

function isAhead({ timeMs, committedMs }: HeldBackup, nowMs: number): boolean {
  return Math.max(timeMs, committedMs) > nowMs + futureMs;
}

function guardAlone(held: HeldBackup, nowMs: number, guards: string[]): void {
  if (held.pinned !== undefined) guards.unshift(`pinned: ${held.pinned}`);
  if (held.kind === "foreign") guards.push("imported: goes by name only");
  if (held.kind === "refused") guards.push("cannot be believed: never expired");
  if (held.kind === "live" && isAhead(held, nowMs)) guards.push("dated in the future: a clock is or was wrong");
}

interface LineageState {
  /** Newest first: by revision, which no wrong clock moves. */
  readonly backups: readonly HeldBackup[];
  /** What `within` counts from: the newest commit, and for proven ones the newest of those. */
  readonly newestMs: number;
  readonly newestProvenMs: number;
  /** Its successor is proven, and a month old: only the calendar keeps something of it. */
  readonly over: boolean;
  readonly current: boolean;
}

/** The newest lineage with a backup is the current one; ids sort by creation. */
function lineagesOf(policy: RetentionPolicy, counted: readonly HeldBackup[]): readonly LineageState[] {
  const byLineage = [...Map.groupBy(counted, ({ lineage }) => lineage)].toSorted(([a], [b]) => (a < b ? 1 : -1));
  const [, current = []] = byLineage[0] ?? [];
  const successors = current.filter((held) => held.proven);
  const successorMs = newestCommit(successors);
  return byLineage.map(([, own], index) => {
    const newestMs = newestCommit(own);
    const over = index > 0 && successors.length >= leastProven(policy) && successorMs - newestMs >= endedMs;
    return {
      backups: own.toSorted(byRevision),
      newestMs: over ? successorMs : newestMs,
      newestProvenMs: over ? successorMs : newestCommit(own.filter((held) => held.proven)),
      over,
      current: index === 0,
    };
  });
}

function judgeLineage(policy: RetentionPolicy, lineage: LineageState, reasons: ReadonlyMap<HeldBackup, Reasons>): void {
  const { backups, over, current } = lineage;
  const of = (held: HeldBackup): Reasons => reasons.get(held) ?? { guards: [], rules: [], against: [] };
  if (!over) {
    const where = current ? "" : " of a lineage that ended";
    const newest = new Set([backups[0], backups.find((held) => held.committedMs === newestCommit(backups))]);
    for (const held of newest) if (held !== undefined) of(held).guards.push(`the newest backup${where}`);
    // By revision, which no wrong clock moves, and by time, as people count.
    const proven = backups.filter((held) => held.proven);
    const least = [proven, proven.toSorted(byCommit)].flatMap((order) => order.slice(0, leastProven(policy)));
    for (const held of new Set(least)) of(held).guards.push(`minProven: one of the newest proven${where}`);
    applyLast(policy.last, backups, of);
  } else if (policy.last > 0) {
    for (const held of backups) of(held).against.push("last: its lineage ended, and the next one is proven");
  }
  applyWithin(policy.withinMs, lineage, of);
  for (const rule of calendarRules) applyCalendar(rule, policy[rule.name], lineage, of);
}

function applyLast(last: number, newestFirst: readonly HeldBackup[], of: (held: HeldBackup) => Reasons): void {
  if (last === 0) return;
  for (const group of Map.groupBy(newestFirst, ({ schedule }) => schedule ?? "").values()) {
    const of1 = group[0]?.schedule === undefined ? "on demand" : `of ${group[0].schedule}`;
    const all = new Set(group.slice(0, last));
    const proven = new Set(group.filter((held) => held.proven).slice(0, last));
    for (const [index, held] of group.entries()) {
      if (all.has(held)) of(held).rules.push(`last: number ${index + 1} of ${last} ${of1}`);
      else if (proven.has(held)) of(held).rules.push(`last: one of the ${last} newest proven ${of1}`);
      else of(held).against.push(`last: number ${index + 1} ${of1}, and ${last} are kept`);
    }
  }
}

/** The store's own date counts as well: a daemon whose clock was years back must not lose its backups at once. */
function applyWithin(withinMs: number, lineage: LineageState, of: (held: HeldBackup) => Reasons): void {
  if (withinMs === 0) return;
  for (const held of lineage.backups) {
    const fromMs = held.proven ? lineage.newestProvenMs : lineage.newestMs;
    const agoMs = fromMs - Math.max(held.committedMs, held.storedAtMs);
    const said = `${inWords(Math.max(0, agoMs))} before the newest${held.proven ? " proven" : ""}`;
    if (agoMs <= withinMs) of(held).rules.push(`within ${inWords(withinMs)}: ${said}`);
    else of(held).against.push(`within ${inWords(withinMs)}: ${said}`);
  }
}

interface CalendarRule {
  readonly name: "hourly" | "daily" | "weekly" | "monthly" | "yearly";
  readonly span: string;
  /** Number of the hour, day, week (from Monday), month or year, in UTC. */
  readonly indexOf: (timeMs: number) => number;
}

const dayMs = 86_400_000;
const calendarRules: readonly CalendarRule[] = [
  { name: "hourly", span: "hour", indexOf: (timeMs) => Math.floor(timeMs / 3_600_000) },
  { name: "daily", span: "day", indexOf: (timeMs) => Math.floor(timeMs / dayMs) },
  // 1970-01-01 was a Thursday.
  { name: "weekly", span: "week", indexOf: (timeMs) => Math.floor((Math.floor(timeMs / dayMs) + 3) / 7) },
  { name: "monthly", span: "month", indexOf: monthOf },
  { name: "yearly", span: "year", indexOf: (timeMs) => Math.floor(monthOf(timeMs) / 12) },
];

/**
 * The last `count` hours (days, ...) that have a backup, counted over all schedules: of each the newest proven one, or the newest where none is proven.
 * The same again for those that have a proven one. Of a lineage that is over, no further back than `count` hours by the calendar.
 */
function applyCalendar(
  { name, span, indexOf }: CalendarRule,
  count: number,
  { backups, over, newestMs }: LineageState,
  of: (held: HeldBackup) => Reasons,
): void {
  if (count === 0) return;
  const buckets = [...Map.groupBy(backups.toSorted(byTime), ({ timeMs }) => indexOf(timeMs))];
  const inReach = buckets.filter(([index]) => !over || indexOf(newestMs) - index < count);
  const withProven = inReach.filter(([, bucket]) => bucket.some((held) => held.proven));
  const kept = new Set([...inReach.slice(0, count), ...withProven.slice(0, count)].map(([index]) => index));
  for (const [index, bucket] of buckets) {
    const standing = bucket.find((held) => held.proven) ?? bucket[0];
    for (const held of bucket) {
      if (!kept.has(index)) of(held).against.push(`${name}: its ${span} is not among the last ${count}`);
      else if (held === standing) of(held).rules.push(`${name}: stands for its ${span}`);
      else of(held).against.push(`${name}: ${standing?.backup} stands for its ${span}`);
    }
  }
}

/** What must stay in the repository as a whole, whatever lineage it is in. */
function guardRepository(
  policy: RetentionPolicy,
  counted: readonly HeldBackup[],
  reasons: ReadonlyMap<HeldBackup, Reasons>,
): void {
  const proven = counted.filter((held) => held.proven).toSorted(byCommit);
  for (const held of proven.slice(0, leastProven(policy))) {
    const guards = reasons.get(held)?.guards ?? [];
    if (!guards.some((reason) => reason.startsWith("minProven"))) guards.push("minProven: one of the newest proven");
  }
  for (const schedule of new Set(policy.schedules)) {
    const own = counted.filter((held) => held.schedule === schedule).toSorted(byTime);
    for (const held of new Set([own[0], own.find(({ proven }) => proven)])) {
      if (held !== undefined) reasons.get(held)?.guards.push(`the newest of ${schedule}: says what is due`);
    }
  }
}

/**
 * The backups that do not fit into `maxBytes`, in an order that no rule moves: unproven ones go first, then the oldest. Those that nothing may touch count
 * where they stand in it, so that one more of them never costs another backup.
 */
function overBudget(
  { maxBytes }: RetentionPolicy,
  counted: readonly HeldBackup[],
  reasons: ReadonlyMap<HeldBackup, Reasons>,
): ReadonlySet<HeldBackup> {
  const over = new Set<HeldBackup>();
  if (maxBytes === undefined) return over;
  const kept = counted.filter((held) => {
    const { guards = [], rules = [] } = reasons.get(held) ?? {};
    return guards.length + rules.length > 0;
  });
  let bytes = 0;
  for (const held of kept.toSorted((a, b) => Number(b.proven) - Number(a.proven) || byCommit(a, b))) {
    bytes += held.storedBytes;
    if (bytes > maxBytes) over.add(held);
  }
  return over;
}

function leastProven({ minProven }: RetentionPolicy): number {
  return Math.max(1, minProven);
}

function newestCommit(backups: readonly HeldBackup[]): number {
  return backups.reduce((newest, { committedMs }) => Math.max(newest, committedMs), -Infinity);
}

/** Each order is whole: the same backups are in the same order whatever order they came in. */
function byRevision(a: HeldBackup, b: HeldBackup): number {
  return a.revision === b.revision ? byCommit(a, b) : a.revision < b.revision ? 1 : -1;
}

function byCommit(a: HeldBackup, b: HeldBackup): number {
  return b.committedMs - a.committedMs || b.timeMs - a.timeMs || byName(a, b);
}

function byTime(a: HeldBackup, b: HeldBackup): number {
  return b.timeMs - a.timeMs || b.committedMs - a.committedMs || byName(a, b);
}

function byName(a: HeldBackup, b: HeldBackup): number {
  const [left, right] = [`${a.lineage}/${a.backup}`, `${b.lineage}/${b.backup}`];
  return left === right ? 0 : left < right ? 1 : -1;
}

/** Months since 1970-01: days to the civil calendar in whole numbers, with years that begin in March and eras of 400 years. */
function monthOf(timeMs: number): number {
  const days = Math.floor(timeMs / dayMs) + 719_468;
  const era = Math.floor(days / 146_097);
  const day = days - era * 146_097;
  const year = Math.floor((day - Math.floor(day / 1460) + Math.floor(day / 36_524) - Math.floor(day / 146_096)) / 365);
  const dayOfYear = day - (365 * year + Math.floor(year / 4) - Math.floor(year / 100));
  return (era * 400 + year - 1970) * 12 + Math.floor((5 * dayOfYear + 2) / 153) + 2;
}

function inWords(ms: number): string {
  if (ms >= 2 * dayMs) return `${Math.floor(ms / dayMs)}d`;
  if (ms >= 2 * 3_600_000) return `${Math.floor(ms / 3_600_000)}h`;
  return `${Math.floor(ms / 60_000)}m`;
}
