import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../clock.ts";
import type { Emit, LifeboatEvent } from "../events.ts";
import { failpoint } from "../failpoints.ts";
import { Fault, isFault, throwIfAborted } from "../faults.ts";
import { openCatalogCache, type CatalogCache } from "../repository/cache.ts";
import { readLineages, type Belief } from "../repository/catalog.ts";
import { formatInstant } from "../repository/documents.ts";
import { markGone, readGone } from "../repository/gone.ts";
import { readIdentity } from "../repository/identity.ts";
import { listRepository, type ListedBackup, type Listing } from "../repository/listing.ts";
import { goneName, manifestName } from "../repository/names.ts";
import { listPins, readPin } from "../repository/pin.ts";
import { standingOf } from "../repository/row.ts";
import { eachRow, type CatalogRow } from "../repository/rows.ts";
import { listSpent } from "../repository/spent.ts";
import type { Signer, TrustedKeys } from "../repository/signature.ts";
import type { Store } from "../store/store.ts";
import {
  besides,
  collectRow,
  decideCollect,
  listUnits,
  type CollectBounds,
  type Collection,
  type CollectRow,
  type Unit,
  type Units,
} from "./collect.ts";
import { describeSkew } from "./skew.ts";
import { decideKeep, type HeldBackup, type RetentionPolicy, type Verdict } from "./keep.ts";

/** What is too old by retention is found, told and removed: manifests first, their data a grace later, and what nobody ever committed. */

export interface ExpireDependencies {
  readonly store: Store;
  readonly clock: Clock;
  readonly emit: Emit;
  readonly belief: Belief;
  readonly signer: Signer | undefined;
  readonly cache: CatalogCache;
  /** Undefined: no retention is configured, and nothing goes but by name. */
  readonly policy: RetentionPolicy | undefined;
  readonly bounds: CollectBounds;
  /** `repository.coordination.prefix`: what daemons agreed by is removed once nobody reads it any more. */
  readonly coordination: string;
  /** Why nothing may be removed now: a pause, or an operation that has the cluster for itself; undefined: nothing stands against it. */
  readonly gate: (signal: AbortSignal) => Promise<Fault | undefined>;
}

/** Where expiry works; what `openExpiry` makes its dependencies of. */
export interface ExpirySource extends Omit<ExpireDependencies, "belief" | "cache"> {
  /** `cluster.name` of the configuration. */
  readonly cluster: string;
  readonly trusted: TrustedKeys | undefined;
  readonly catalogDirectory: string;
}

/** Undefined where there is no repository yet. */
export async function openExpiry(source: ExpirySource, signal: AbortSignal): Promise<ExpireDependencies | undefined> {
  const { store, cluster, trusted, catalogDirectory, clock } = source;
  const identity = await readIdentity(store, cluster, signal);
  if (identity === undefined) return undefined;
  const belief = { repository: identity.id, trusted };
  const cache = await openCatalogCache(catalogDirectory, { ...belief, store: store.description }, clock.now());
  return { ...source, belief, cache };
}

/** A backup as retention sees it, with what finds it again. */
export interface Held extends HeldBackup {
  readonly listed: ListedBackup;
  readonly snapshot: string | undefined;
  readonly label: string | null;
}

export interface RetentionSurvey {
  readonly listing: Listing;
  /** Oldest first. */
  readonly verdicts: readonly Verdict<Held>[];
  readonly collection: Collection;
  /** The time by the store's clock, and how far ours is ahead of it; undefined: the store does not tell. */
  readonly storeNowMs: number | undefined;
  readonly aheadMs: number | undefined;
}

/** Manifests that are read at the same time. */
const readAtOnce = 8;

/** Reads the whole repository and decides what of it goes; writes nothing. */
export async function surveyRetention(deps: ExpireDependencies, signal: AbortSignal): Promise<RetentionSurvey> {
  const { store, belief, clock } = deps;
  const storeNowMs = await store.now(signal);
  const listing = await listRepository(store, signal);
  const { lineages } = await readLineages(store, listing, belief, signal);
  const live = new Set(lineages.filter(({ kind }) => kind === "live").map(({ lineage }) => lineage));
  const known = new Set(lineages.map(({ lineage }) => lineage));
  const units = await listUnits(store, listing.lineages, signal);
  const held: Held[] = [];
  const rows: CollectRow[] = [];
  for await (const row of eachRow(store, listing, belief, deps.cache, readAtOnce, signal)) {
    rows.push(collectRow(row));
    const { lineage } = row.listed;
    held.push(heldOf(row, known.has(lineage) ? (live.has(lineage) ? "live" : "foreign") : "refused", units));
  }
  const nowMs = storeNowMs ?? clock.now();
  // Each step takes some ten milliseconds with ten thousand backups, and a scrape may wait.
  await nextTurn();
  const verdicts =
    deps.policy === undefined
      ? held.map((backup) => ({ held: backup, keep: true, reasons: ["no retention is configured"] }))
      : decideKeep(deps.policy, held, nowMs);
  await nextTurn();
  const collection = decideCollect(listing, rows, units, deps.bounds, nowMs);
  await nextTurn();
  const aheadMs = storeNowMs === undefined ? undefined : clock.now() - storeNowMs;
  const survey = { listing, verdicts, collection, storeNowMs, aheadMs };
  const stay = verdicts.filter(({ keep }) => keep).map(({ held: { timeMs } }) => timeMs);
  const oldestMs = stay.length === 0 ? undefined : stay.reduce((least, timeMs) => Math.min(least, timeMs));
  deps.emit({ name: "retention.surveyed", ...countsOf(survey), oldestMs });
  return survey;
}

function heldOf(row: CatalogRow, kind: HeldBackup["kind"], units: Units): Held {
  const { listed } = row;
  const { lineage, backup, name } = listed;
  const storedAtMs = listed.stored?.modifiedMs ?? name.timeMs;
  const known = {
    lineage,
    backup,
    listed,
    timeMs: name.timeMs,
    storedAtMs,
    schedule: name.kind === "slot" ? name.schedule : undefined,
  };
  if (row.row === undefined) {
    const nothing = { revision: 0n, proven: false, pinned: undefined, storedBytes: 0, snapshot: row.late, label: null };
    return { ...known, ...nothing, kind: "refused", committedMs: name.timeMs };
  }
  const { snapshot, label, revision, committedAt, trigger, storedBytes } = row.row;
  return {
    ...known,
    kind: kind === "live" && trigger === "import" ? "foreign" : kind,
    committedMs: Date.parse(committedAt),
    revision,
    proven: standingOf(row.proofs).proof === "proven",
    pinned: row.pin?.pinned === true ? row.pin.reason : undefined,
    storedBytes: units.get(goneName(lineage, snapshot))?.storedBytes ?? storedBytes,
    snapshot,
    label,
  };
}

/** Sums of a survey, as they are told. */
export function countsOf({ verdicts, collection }: Pick<RetentionSurvey, "verdicts" | "collection">): {
  readonly kept: number;
  readonly storedBytes: number;
  readonly going: number;
  readonly expiringBytes: number;
  readonly pinned: number;
  readonly foreign: number;
  readonly refused: number;
  readonly orphanBytes: number;
} {
  const bytesOf = (backups: readonly { readonly storedBytes: number }[]): number =>
    backups.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const own = verdicts.filter(({ held }) => held.kind === "live");
  const kept = own.filter(({ keep }) => keep).map(({ held }) => held);
  const going = own.filter(({ keep }) => !keep).map(({ held }) => held);
  return {
    kept: kept.length,
    storedBytes: bytesOf(kept),
    going: going.length,
    expiringBytes: bytesOf(going),
    pinned: verdicts.filter(({ held }) => held.pinned !== undefined).length,
    foreign: verdicts.filter(({ held }) => held.kind === "foreign").length,
    refused: verdicts.filter(({ held }) => held.kind === "refused").length,
    orphanBytes: bytesOf([...collection.orphans, ...collection.due, ...collection.waiting]),
  };
}

/** What an expiry did, as its event tells it. */
export type RetentionOutcome = Omit<Extract<LifeboatEvent, { readonly name: "retention.applied" }>, "name">;

/** Throws `clock-skewed` where our clock and the store's do not agree: then no date of a backup can be judged. */
export function requireClock({ storeNowMs, aheadMs }: Pick<RetentionSurvey, "storeNowMs" | "aheadMs">): void {
  const hint = "synchronise the clocks (chrony, systemd-timesyncd) of this host and of the store; nothing was removed";
  if (storeNowMs === undefined || aheadMs === undefined)
    throw new Fault("clock-skewed", "the store does not tell its time, so nothing can be called old", { hint });
  const skew = describeSkew(storeNowMs, storeNowMs + aheadMs);
  if (skew !== undefined) throw new Fault("clock-skewed", skew, { hint });
}

/**
 * Does what a survey decided: up to `most` backups lose their manifest, oldest first, then what is due is collected. Killed anywhere, the next run goes on.
 * Rejects with `clock-skewed` before anything is removed, and with `store-denied` where the store lets us remove nothing.
 */
export async function applyRetention(
  deps: ExpireDependencies,
  survey: RetentionSurvey,
  most: number,
  signal: AbortSignal,
): Promise<RetentionOutcome> {
  requireClock(survey);
  const going = survey.verdicts.filter(({ keep }) => !keep).toSorted((a, b) => a.held.committedMs - b.held.committedMs);
  const run = openRun(deps, survey.storeNowMs ?? 0);
  for (const { held, reasons } of going.slice(0, most)) {
    await passGate(run, signal);
    await expireBackup(run, survey.listing, held, reasons, signal);
    // Locks end in the order in which they began: what comes later is locked as well.
    if (run.locked >= mostLocked) break;
  }
  const left = going.length - run.expired;
  await collect(run, survey.collection, signal);
  const outcome = { ...outcomeOf(run), left };
  deps.emit({ name: "retention.applied", ...outcome });
  return outcome;
}

/** Removes backups that somebody named, whatever retention says; for what retention never removes. */
export async function expireNamed(
  deps: ExpireDependencies,
  survey: RetentionSurvey,
  named: readonly Held[],
  signal: AbortSignal,
): Promise<RetentionOutcome> {
  requireClock(survey);
  const run = openRun(deps, survey.storeNowMs ?? 0);
  for (const held of named) {
    await passGate(run, signal);
    await expireBackup(run, survey.listing, held, ["named"], signal);
  }
  return { ...outcomeOf(run), left: named.length - run.expired };
}

interface Run {
  readonly deps: ExpireDependencies;
  gateSeenMs: number;
  readonly storeNowMs: number;
  expired: number;
  objects: number;
  freedBytes: number;
  orphans: number;
  locked: number;
  lockedUntilMs: number | undefined;
}

function openRun(deps: ExpireDependencies, storeNowMs: number): Run {
  const nothing = { expired: 0, objects: 0, freedBytes: 0, orphans: 0, locked: 0 };
  return { deps, storeNowMs, gateSeenMs: -Infinity, ...nothing, lockedUntilMs: undefined };
}

/** A removal of thousands takes hours: a pause, or a restore, must not wait for its end. */
const gateEveryMs = 30_000;

/** Throws why no more may be removed: `paused`, `locked` or `lock-damaged`. */
async function passGate(run: Run, signal: AbortSignal): Promise<void> {
  throwIfAborted(signal);
  const { clock, gate } = run.deps;
  if (clock.elapsed() - run.gateSeenMs < gateEveryMs) return;
  const closed = await gate(signal);
  if (closed !== undefined) throw closed;
  run.gateSeenMs = clock.elapsed();
}

function outcomeOf(run: Run): Omit<RetentionOutcome, "left"> {
  const { expired, objects, freedBytes, orphans, locked, lockedUntilMs } = run;
  return { expired, objects, freedBytes, orphans, locked, lockedUntilMs };
}

async function expireBackup(
  run: Run,
  listing: Listing,
  held: Held,
  reasons: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const { store, belief, emit } = run.deps;
  const { lineage, backup, snapshot, storedBytes } = held;
  // Somebody may have pinned it since the survey.
  const pins = await listPins(store, lineage, backup, signal);
  if ((await readPin(store, pins, belief, signal))?.pinned === true) return;
  if (!(await removeUnlocked(run, manifestName(lineage, backup), signal))) return;
  failpoint("expired-manifest-removed");
  run.expired += 1;
  emit({ name: "backup.expired", backup, lineage, reasons, storedBytes });
  if (snapshot !== undefined) await giveUp(run, { lineage, snapshot }, "expired", signal);
  failpoint("expired-snapshot-given-up");
  for (const name of besides({ proofs: listing.proofs, pins }, lineage, backup)) {
    await removeUnlocked(run, name, signal);
  }
  failpoint("expired-proofs-removed");
}

async function giveUp(
  run: Run,
  { lineage, snapshot }: { readonly lineage: string; readonly snapshot: string },
  why: "orphan" | "expired",
  signal: AbortSignal,
): Promise<void> {
  const { store, belief, signer } = run.deps;
  const mark = { repository: belief.repository, lineage, snapshot, why, madeAt: formatInstant(run.storeNowMs) };
  await markGone(store, mark, signer, signal);
}

async function collect(run: Run, collection: Collection, signal: AbortSignal): Promise<void> {
  const { emit } = run.deps;
  await passGate(run, signal);
  for (const mark of collection.overlooked) {
    emit({
      name: "warning",
      about: "retention",
      message: `snapshot ${mark.snapshot} had been given up and is a backup's: it is kept`,
    });
    await removeUnlocked(run, goneName(mark.lineage, mark.snapshot), signal);
  }
  for (const { lineage, backup } of collection.late) {
    emit({
      name: "warning",
      about: "retention",
      message: `${lineage}/${backup} was committed after its data had been given up, and is removed`,
    });
    await removeUnlocked(run, manifestName(lineage, backup), signal);
  }
  for (const unit of collection.orphans) {
    await passGate(run, signal);
    await giveUp(run, unit, "orphan", signal);
    run.orphans += 1;
    failpoint("orphan-given-up");
  }
  for (const unit of collection.due) {
    await passGate(run, signal);
    await removeData(run, unit, signal);
  }
  const { store, coordination, bounds } = run.deps;
  const spent = await listSpent(
    store,
    coordination,
    { beforeMs: run.storeNowMs - bounds.orphanMs, operationsBeforeMs: run.storeNowMs - bounds.markMs },
    signal,
  );
  const small = [
    ...spent,
    ...collection.beside,
    ...collection.spent.map(({ lineage, snapshot }) => goneName(lineage, snapshot)),
  ];
  for (const name of small) {
    await passGate(run, signal);
    if (run.locked >= mostLocked) return;
    await removeUnlocked(run, name, signal);
  }
}

/** Only what a believed mark gives up goes; and an orphan only where every manifest beside it can be read. */
async function removeData(run: Run, unit: Unit & { readonly blocked: boolean }, signal: AbortSignal): Promise<void> {
  const mark = await readGone(run.deps.store, unit, run.deps.belief, signal);
  if (mark === undefined || (unit.blocked && mark.why === "orphan")) return;
  for (const { name, storedBytes } of unit.objects) {
    if (!(await removeUnlocked(run, name, signal))) continue;
    run.objects += 1;
    run.freedBytes += storedBytes;
    failpoint("expired-data-removed");
  }
}

/** What the store keeps is asked for again each time; so many are enough to know. */
const mostLocked = 10;

/** False where the store keeps the object under a lock, which is no error: it goes when the lock has ended. */
async function removeUnlocked(run: Run, name: string, signal: AbortSignal): Promise<boolean> {
  const { store } = run.deps;
  try {
    await store.remove(name, signal);
    return true;
  } catch (error) {
    if (!isFault(error, "store-locked", "store-denied", "store-refused")) throw error;
    // Not every store says that it is the lock, and not every store says until when.
    const untilMs = (await store.head(name, signal))?.lockedUntilMs;
    const locked = error.code === "store-locked" || (untilMs !== undefined && untilMs > run.storeNowMs);
    if (!locked) throw refusal(error, name);
    run.locked += 1;
    if (untilMs !== undefined) run.lockedUntilMs = Math.min(run.lockedUntilMs ?? Infinity, untilMs);
    return false;
  }
}

function refusal(error: Fault, name: string): Fault {
  if (error.code !== "store-denied") return error;
  return new Fault("store-denied", `the store lets us remove nothing: ${name} stays (${error.message})`, {
    hint: "allow s3:DeleteObject below the prefix, or leave retention.expire off and expire with other credentials; where objects are locked, allow s3:GetObjectRetention",
    cause: error,
  });
}
