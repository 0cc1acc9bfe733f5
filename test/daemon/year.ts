import { parseCron } from "../../src/config/cron.ts";
import type { Clock } from "../../src/clock.ts";
import { stableDelay } from "../../src/daemon/due.ts";
import { runSchedules, type LoopDependencies, type Schedule } from "../../src/daemon/loop.ts";
import type { CronFields } from "../../src/daemon/slots.ts";
import { abortFault, Fault, isFault } from "../../src/faults.ts";
import { unknown } from "../../src/snapshot/prove.ts";
import type { BackupOutcome, FailedBackup } from "../../src/snapshot/backup.ts";
import { formatBackupName, manifestName } from "../../src/repository/names.ts";
import { createRepository } from "../../src/repository/identity.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { lineageId, repositoryId, sampleManifest } from "../repository/sample.ts";
import { calm } from "../snapshot/bytes.ts";

/** A simulated year of the real loop, judged by a list of slots that another way of counting made. */

export const expressions: readonly string[] = [
  "0 * * * *",
  "30 * * * *",
  "*/30 * * * *",
  "*/20 8-18 * * 1-5",
  "15 */2 * * *",
  "0 */6 * * *",
  "5 0,12 * * *",
  "0 0 * * *",
  "30 2 * * *",
  "0 3 * * *",
  "45 1 * * *",
  "59 23 * * *",
  "0 2 * * 0",
  "30 2 * * 1-5",
  "30 2 28-31 * *",
  "0 0 1 * *",
  "0 0 31 * *",
  "0 12 1 */3 *",
  "0 0 29 2 *",
  "15 30 4 * * 6",
];

export const zones: readonly string[] = [
  "UTC",
  "Europe/Berlin",
  "America/New_York",
  "Australia/Lord_Howe",
  "Africa/Cairo",
];

const manifest = sampleManifest({});

export interface YearOptions {
  readonly zone: string;
  readonly seed: number;
  readonly fromMs: number;
  readonly days: number;
}

export interface YearResult {
  readonly slots: number;
  readonly served: number;
  readonly missed: number;
  readonly restarts: number;
  readonly jumps: number;
  readonly failures: number;
  /** What must not be: each a sentence. */
  readonly wrong: readonly string[];
}

/** What happens to the machine, by its uptime. */
type Mishap =
  | { readonly atMs: number; readonly kind: "jump"; readonly byMs: number }
  | { readonly atMs: number; readonly kind: "down"; readonly forMs: number };

export async function simulateYear({ zone, seed, fromMs, days }: YearOptions): Promise<YearResult> {
  const random = randomFrom(seed);
  const schedules = expressions.map((cron, index): Schedule => {
    const name = `s${index}`;
    return { name, fields: parseCron(cron), timeZone: zone, jitterMs: index % 3 === 0 ? 0 : 60_000 * (index % 7) };
  });
  // In the end everything is to be served.
  const mishaps = plan(random, days - 2);
  const books = new Map(schedules.map((schedule) => [schedule.name, openBook(schedule, fromMs, days)]));
  const excuse = (): void => {
    for (const book of books.values()) book.excused = true;
  };
  const time = openTime(fromMs, days, mishaps, excuse);
  const store = memoryStore(() => time.clock.now());
  await createRepository(store, "prod", { repository: repositoryId, firstLineage: lineageId }, fromMs, calm);
  const wrong: string[] = [];
  let failures = 0;
  let restarts = 0;

  while (!time.over()) {
    const controller = new AbortController();
    time.onDown(() => controller.abort(new Fault("interrupted", "the machine is down")));
    let calmSinceStart = false;
    const missedBefore = new Map<string, number>();
    const tried = new Map<string, number>();
    const deps: LoopDependencies = {
      cluster: "prod",
      schedules,
      store: listingOf(store),
      trusted: undefined,
      clock: time.clock,
      emit(event) {
        if (event.name === "schedule.missed") missedBefore.set(event.schedule, event.slots);
        if (event.name === "schedule.planned") calmSinceStart = true;
      },
      gate: async () => undefined,
      async backup(request, signal): Promise<BackupOutcome | FailedBackup> {
        if (request.trigger !== "schedule") throw new Error("not by schedule");
        const { schedule, slotMs } = request;
        const book = books.get(schedule);
        if (book === undefined) throw new Error(`no schedule ${schedule}`);
        const nowMs = time.clock.now();
        const what = `${schedule} "${expressions[Number(schedule.slice(1))]}" in ${zone}: ${new Date(slotMs).toISOString()}`;
        if (nowMs < slotMs) wrong.push(`${what} early, at ${new Date(nowMs).toISOString()}`);
        if (calmSinceStart && book.planned && nowMs < slotMs + book.delayMs && !book.retrying) {
          wrong.push(`${what} before its jitter, at ${new Date(nowMs).toISOString()}`);
        }
        // At the first start, the latest slot of a rare schedule may lie years back.
        if (slotMs > fromMs - 30 * 86_400_000 && !book.reference.has(slotMs)) wrong.push(`${what} is no slot`);
        if (book.served.has(slotMs)) wrong.push(`${what} doubled`);
        // What passed before a run that failed was told before that one.
        const servedMs = book.newestServed(nowMs);
        const triedMs = tried.get(schedule) ?? -Infinity;
        const untold =
          servedMs === -Infinity ? [] : book.between(triedMs > slotMs ? servedMs : Math.max(servedMs, triedMs), slotMs);
        const told = missedBefore.get(schedule) ?? 0;
        if (told !== Math.min(untold.length, 1000))
          wrong.push(`${what} serves ${untold.length} others, and ${told} were told`);
        missedBefore.delete(schedule);
        tried.set(schedule, slotMs);
        // What happens while it runs excuses the next one.
        const { excused } = book;
        book.excused = false;
        try {
          await time.clock.sleep(1000 + random() * 90_000, signal);
        } catch (error) {
          if (!isFault(error)) throw error;
          return { kind: "failed", fault: error, phase: "drain" };
        }
        if (random() < 0.03) {
          failures += 1;
          book.retrying = true;
          book.excused = true;
          return { kind: "failed", fault: new Fault("etcd-unreachable", "no"), phase: "choose" };
        }
        const newest = book.newestServed(nowMs);
        const between = newest === -Infinity ? [] : book.between(newest, slotMs);
        const [earliest] = between;
        if (earliest !== undefined && !excused && nowMs - earliest > longestQueueMs) {
          wrong.push(`${what} leaves out ${new Date(earliest).toISOString()} without a cause`);
        }
        for (const at of between) book.missed.add(at);
        book.retrying = false;
        book.served.add(slotMs);
        commit(store, schedule, slotMs, nowMs);
        return {
          kind: "committed",
          manifest,
          manifestSha256: "0".repeat(64),
          finding: unknown("not asked"),
          proof: undefined,
        };
      },
      onTurn: () => undefined,
      during: (work) => work(),
    };
    for (const book of books.values()) {
      book.planned = false;
      book.excused = true;
    }
    const listen = deps.emit;
    await runSchedules(
      {
        ...deps,
        emit(event) {
          const book = event.name === "schedule.planned" ? books.get(event.schedule) : undefined;
          if (book !== undefined) book.planned = true;
          listen(event);
        },
      },
      controller.signal,
    );
    restarts += 1;
    time.up();
  }
  let [slots, served, missed] = [0, 0, 0];
  for (const [name, book] of books) {
    const first = [...book.served].reduce((a, b) => Math.min(a, b), Infinity);
    for (const at of book.reference) {
      if (at < Math.max(first, fromMs) || at > time.clock.now() - book.delayMs - 3_600_000) continue;
      slots += 1;
      if (book.served.has(at)) served += 1;
      else if (book.missed.has(at)) missed += 1;
      else wrong.push(`${name} "${expressions[Number(name.slice(1))]}" in ${zone}: ${new Date(at).toISOString()} lost`);
    }
  }
  const jumps = mishaps.filter(({ kind }) => kind === "jump").length;
  return { slots, served, missed, restarts: restarts - 1, jumps, failures, wrong };
}

/** What is known of one schedule, beside the loop. */
interface Book {
  readonly delayMs: number;
  readonly reference: ReadonlySet<number>;
  readonly between: (afterMs: number, beforeMs: number) => readonly number[];
  readonly served: Set<number>;
  readonly newestServed: (untilMs: number) => number;
  readonly missed: Set<number>;
  planned: boolean;
  retrying: boolean;
  /** Something happened since the last commit that may cost slots: a restart, a clock that was set, a failed run. */
  excused: boolean;
}

/** While other schedules' backups run, a slot may wait so long, and give way to the next one. */
const longestQueueMs = 50 * 60_000;

function openBook(schedule: Schedule, fromMs: number, days: number): Book {
  const sorted = referenceSlots(schedule.fields, schedule.timeZone, fromMs, days);
  const served = new Set<number>();
  return {
    delayMs: stableDelay("prod", schedule.name, schedule.jitterMs),
    reference: new Set(sorted),
    newestServed(untilMs) {
      // Backwards from there, since it is seldom far.
      for (let at = lowerBound(sorted, untilMs + 1) - 1; at >= 0; at -= 1) {
        if (served.has(sorted[at] ?? 0)) return sorted[at] ?? 0;
      }
      return -Infinity;
    },
    between(afterMs, beforeMs) {
      const first = lowerBound(sorted, afterMs + 1);
      return sorted.slice(first, lowerBound(sorted, beforeMs));
    },
    served,
    missed: new Set(),
    planned: false,
    retrying: false,
    excused: true,
  };
}

function lowerBound(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? Infinity) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Every minute of the time is looked at on the zone's clocks, as somebody with a watch and a cron table would. */
function referenceSlots(fields: CronFields, zone: string, fromMs: number, days: number): readonly number[] {
  const everyHour = fields.hour.length === 24;
  const slots = new Set<number>();
  const matches = (local: number): boolean => {
    const date = new Date(local);
    return (
      fields.minute.includes(date.getUTCMinutes()) &&
      fields.hour.includes(date.getUTCHours()) &&
      fields.dayOfMonth.includes(date.getUTCDate()) &&
      fields.month.includes(date.getUTCMonth() + 1) &&
      fields.dayOfWeek.includes(date.getUTCDay())
    );
  };
  const add = (atMs: number): void => {
    for (const second of fields.second) slots.add(atMs + second * 1000);
  };
  // The latest time that clocks have shown: what is not beyond it comes for the second time.
  let shown = -Infinity;
  // Years back, for what was due last before the beginning.
  const beginMs = fromMs - 40 * 86_400_000;
  for (let at = beginMs; at < fromMs + (days + 10) * 86_400_000; at += 60_000) {
    const local = at + wallOffset(zone, at);
    if (local > shown + 60_000 && shown !== -Infinity && !everyHour) {
      for (let skipped = shown + 60_000; skipped < local; skipped += 60_000) if (matches(skipped)) slots.add(at);
    }
    if (matches(local) && (everyHour || local > shown)) add(at);
    shown = Math.max(shown, local);
  }
  return [...slots].toSorted((a, b) => a - b);
}

const offsets = new Map<string, Map<number, number>>();
const formats = new Map<string, Intl.DateTimeFormat>();

/** From the parts of a date as people read it; the product reads the zone's offset by its name. */
function wallOffset(zone: string, atMs: number): number {
  const quarter = Math.floor(atMs / 900_000) * 900_000;
  const known = offsets.get(zone) ?? new Map<number, number>();
  offsets.set(zone, known);
  const found = known.get(quarter);
  if (found !== undefined) return found;
  const format =
    formats.get(zone) ??
    new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
    });
  formats.set(zone, format);
  const part = Object.fromEntries(format.formatToParts(quarter).map(({ type, value }) => [type, Number(value)]));
  const local = Date.UTC(part["year"] ?? 0, (part["month"] ?? 1) - 1, part["day"], part["hour"], part["minute"]);
  known.set(quarter, local - quarter);
  return local - quarter;
}

function commit(store: MemoryStore, schedule: string, slotMs: number, nowMs: number): void {
  const backup = formatBackupName({ kind: "slot", timeMs: slotMs, schedule });
  store.objects.set(manifestName(lineageId, backup), { bytes: new Uint8Array(0), modifiedMs: nowMs });
}

/** The manifests' names are all that counts here; a year of them is not read. */
function listingOf(store: MemoryStore): MemoryStore {
  return {
    ...store,
    read: (name, signal) =>
      name.startsWith("lineages/")
        ? Promise.reject(new Fault("store-object-missing", "not kept"))
        : store.read(name, signal),
  };
}

interface SimulatedTime {
  readonly clock: Clock;
  readonly onDown: (listen: () => void) => void;
  /** The machine starts again after it was down. */
  readonly up: () => void;
  readonly over: () => boolean;
}

/** Time that passes only while somebody sleeps, at once, with the mishaps of the plan on its way. */
function openTime(fromMs: number, days: number, mishaps: readonly Mishap[], onJump: () => void): SimulatedTime {
  let [elapsedMs, wallMs, next, downMs, calls] = [0, fromMs, 0, 0, 0];
  let onDown = (): void => undefined;
  const endMs = days * 86_400_000;
  const pass = (ms: number): void => {
    elapsedMs += ms;
    wallMs += ms;
  };
  return {
    clock: {
      now: () => wallMs,
      elapsed: () => elapsedMs,
      async sleep(ms, signal) {
        let leftMs = Math.max(0, ms);
        calls += 1;
        if (calls % 5000 === 0) await new Promise((resolve) => setImmediate(resolve));
        for (;;) {
          if (signal.aborted) throw abortFault(signal);
          const mishap = mishaps[next];
          if (elapsedMs >= endMs) {
            onDown();
            throw abortFault(signal);
          }
          if (mishap === undefined || mishap.atMs > elapsedMs + leftMs) {
            pass(leftMs);
            return;
          }
          const untilMs = Math.max(0, mishap.atMs - elapsedMs);
          pass(untilMs);
          leftMs -= untilMs;
          next += 1;
          if (mishap.kind === "jump") {
            wallMs += mishap.byMs;
            onJump();
          } else {
            downMs = mishap.forMs;
            onDown();
            throw abortFault(signal);
          }
        }
      },
    },
    onDown: (listen) => {
      onDown = listen;
    },
    up() {
      pass(downMs);
      downMs = 0;
    },
    over: () => elapsedMs >= endMs,
  };
}

/** About one mishap in four days: restarts, nights without power, clocks that are set. */
function plan(random: () => number, days: number): readonly Mishap[] {
  const mishaps: Mishap[] = [];
  for (let atMs = 0; ;) {
    atMs += -Math.log(1 - random()) * 4 * 86_400_000;
    if (atMs >= days * 86_400_000) return mishaps;
    const dice = random();
    const span = (most: number): number => Math.round(random() ** 3 * most);
    if (dice < 0.5) mishaps.push({ atMs, kind: "down", forMs: 1000 + span(3 * 86_400_000) });
    else if (dice < 0.75) mishaps.push({ atMs, kind: "jump", byMs: span(2 * 86_400_000) });
    else mishaps.push({ atMs, kind: "jump", byMs: -span(86_400_000) });
  }
}

/** mulberry32 */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
