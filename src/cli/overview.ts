import { observeCluster, type ClusterFacts } from "../cluster/observe.ts";
import { decideDue, stableDelay } from "../daemon/due.ts";
import { slotAfter, slotInterval } from "../daemon/slots.ts";
import { Fault, isFault } from "../faults.ts";
import { formatDuration } from "../format.ts";
import { listRepository, readHistories, type Belief, type ListedBackup, type Listing } from "../repository/catalog.ts";
import type { Judgement } from "../repository/gates.ts";
import { readIdentity } from "../repository/identity.ts";
import { judgeHistory } from "../repository/lineage.ts";
import type { Manifest } from "../repository/manifest.ts";
import {
  divergedMembers,
  newestBelieved,
  newestProven,
  scheduledLineage,
  type Diverged,
} from "../repository/proven.ts";
import { liveHistory, type BackupDependencies } from "../snapshot/backup.ts";
import { collectBounds } from "../snapshot/collect.ts";
import { lastCopied, surveyCopy, type CopyTarget } from "../snapshot/copy.ts";
import { countsOf, openExpiry, surveyRetention } from "../snapshot/expire.ts";
import { policyOf } from "./expire.ts";
import { look } from "./lock.ts";
import type { Tools } from "./tools.ts";

/** What `status` and `check` know: one look at the cluster, the repository and this host, none of which hides another. */
export interface Overview {
  readonly nowMs: number;
  readonly cluster: Seen<ClusterFacts>;
  readonly repository: Seen<RepositoryFacts>;
  /** Undefined where it cannot be read. */
  readonly lock: Judgement | undefined;
  readonly schedules: readonly ScheduleFacts[];
  /** Undefined where it cannot be looked at. */
  readonly spool: { readonly directory: string; readonly freeBytes: number; readonly sizeBytes: number } | undefined;
  /** The further stores, in the order of the configuration. */
  readonly copies: readonly CopyFacts[];
  /** Undefined where none is configured, it was not asked for, or the repository cannot be read. */
  readonly retention: RetentionFacts | undefined;
}

export type Seen<T> =
  { readonly value: T; readonly fault?: undefined } | { readonly value?: undefined; readonly fault: Fault };

export interface RepositoryFacts {
  readonly store: string;
  /** Undefined: there is none yet. */
  readonly id: string | undefined;
  readonly backups: number;
  readonly lineages: number;
  /** Why the live cluster's history is another one; undefined when it continues, or when the cluster could not be seen. */
  readonly foreign: string | undefined;
  readonly newest: Manifest | undefined;
  /** The newest backup that a majority of the voters vouched for. */
  readonly newestProven: Manifest | undefined;
  /** When the oldest backup of the newest one's history was begun. */
  readonly oldestMs: number | undefined;
  /** Members that held other data than the majority when they were last compared. */
  readonly diverged: readonly Diverged[];
  /** By schedule: when its newest and its newest proven backup were committed. */
  readonly fresh: ReadonlyMap<string, Freshness>;
}

interface Freshness {
  /** The newest slot that has a backup. */
  readonly slotMs: number | undefined;
  readonly committedMs: number | undefined;
  readonly provenMs: number | undefined;
}

export interface ScheduleFacts {
  readonly name: string;
  /** Undefined: it never runs twice. */
  readonly intervalMs: number | undefined;
  /** Undefined: none is known. */
  readonly committedMs: number | undefined;
  readonly provenMs: number | undefined;
  /** A slot has passed without a backup. */
  readonly due: boolean;
  /** When the next one starts, jitter included; undefined: never. */
  readonly nextMs: number | undefined;
}

/** What a further store has of the first one. */
export interface CopyFacts {
  readonly name: string;
  readonly store: string;
  /** Undefined while the first store has no repository. */
  readonly compared: Seen<ComparedCopy | undefined>;
}

interface ComparedCopy {
  readonly backups: number;
  /** Backups of the first store that it does not have; also those that its own retention gave up. */
  readonly missing: number;
  /** Backups that it has under the same name and not as the same. */
  readonly differing: number;
  /** By schedule: when the newest backup that it has was committed to the first store. */
  readonly committedMs: ReadonlyMap<string, number | undefined>;
}

interface RetentionFacts {
  readonly kept: number;
  readonly storedBytes: number;
  /** Backups that go at the next expiry, oldest first. */
  readonly going: readonly string[];
  readonly goingBytes: number;
  readonly pinned: number;
  /** Whether the daemon removes them by itself. */
  readonly automatic: boolean;
}

export interface OverviewOptions {
  /** Leaves out what only people want to know: v2 content, defragmentation, what retention would do. */
  readonly brief: boolean;
}

/** Rejects only with what is no fault, and when the signal is aborted. */
export async function readOverview(tools: Tools, options: OverviewOptions, signal: AbortSignal): Promise<Overview> {
  const deps = await tools.backup(() => undefined);
  const lock = await seen(() => look(tools, signal));
  const { operation } = lock.value?.holder ?? {};
  // A restore listens whether anybody talks to etcd, and a look by cron must not be what it hears.
  const withoutReads = operation === "restore" || operation === "upgrade";
  const observe = { ...deps.observe, brief: options.brief, withoutReads };
  const cluster = await seen(() => observeCluster(deps.etcd, observe, signal));
  // What does not answer is not waited for twice.
  const repository: Seen<RepositoryFacts> = isFault(lock.fault, "store-unreachable")
    ? { fault: lock.fault }
    : await seen(() => readRepository(tools, cluster.value, signal));
  const retention =
    options.brief || repository.value?.id === undefined
      ? undefined
      : (await seen(() => readRetention(tools, signal))).value;
  return {
    nowMs: tools.clock.now(),
    cluster,
    repository,
    lock: repository.value === undefined ? undefined : lock.value,
    schedules: readSchedules(tools, repository.value),
    spool: (await seen(() => readSpool(tools, deps))).value,
    copies: await readCopies(tools, signal),
    retention,
  };
}

async function seen<T>(look: () => Promise<T>): Promise<Seen<T>> {
  try {
    return { value: await look() };
  } catch (error) {
    if (!isFault(error) || error.code === "interrupted") throw error;
    return { fault: error };
  }
}

async function readRepository(
  tools: Tools,
  facts: ClusterFacts | undefined,
  signal: AbortSignal,
): Promise<RepositoryFacts> {
  const { config } = tools.loaded;
  const store = await tools.store();
  const identity = await readIdentity(store, config.cluster.name, signal);
  const listing = await listRepository(store, signal);
  const counts = { store: store.description, backups: listing.backups.length, lineages: listing.lineages.length };
  if (identity === undefined) return { ...counts, ...nothing };
  const belief = { repository: identity.id, trusted: await tools.trusted() };
  const histories = await readHistories(store, listing, belief, tools.clock.now(), signal);
  const newest = histories
    .filter(({ lineage }) => lineage.kind === "live")
    .flatMap((history) => (history.newest === undefined ? [] : [history.newest]))
    .toSorted((a, b) => (a.committedAt < b.committedAt ? 1 : -1))
    .at(0);
  const judgement = facts === undefined ? undefined : judgeHistory(histories, liveHistory(facts));
  const diverged = await divergedMembers(store, listing, belief, signal);
  const current = await scheduledLineage(store, listing, belief, signal);
  const scheduled = listing.backups.filter(({ lineage }) => current === undefined || lineage === current);
  return {
    ...counts,
    id: identity.id,
    foreign: judgement?.kind === "foreign" ? judgement.seen : undefined,
    newest,
    newestProven: await newestProven(store, listing, listing.backups, belief, signal),
    oldestMs: listing.backups.find(({ lineage }) => lineage === newest?.lineage)?.name.timeMs,
    // One that has left the cluster is nobody's trouble any more.
    diverged: diverged.filter(({ member }) => facts?.members.some(({ name }) => name === member) ?? true),
    fresh: new Map(
      await Promise.all(
        config.schedules.map(
          async ({ name }) => [name, await readFreshness(tools, listing, scheduled, belief, name, signal)] as const,
        ),
      ),
    ),
  };
}

const nothing = {
  id: undefined,
  foreign: undefined,
  newest: undefined,
  newestProven: undefined,
  oldestMs: undefined,
  diverged: [],
  fresh: new Map<string, Freshness>(),
};

const neverFresh: Freshness = { slotMs: undefined, committedMs: undefined, provenMs: undefined };

async function readFreshness(
  tools: Tools,
  listing: Listing,
  scheduled: readonly ListedBackup[],
  belief: Belief,
  schedule: string,
  signal: AbortSignal,
): Promise<Freshness> {
  const store = await tools.store();
  const nowMs = tools.clock.now();
  const own = scheduled.filter((backup) => isOf(backup, schedule) && backup.name.timeMs <= nowMs);
  const newest = await newestBelieved(store, own, belief, signal);
  const proven = await newestProven(store, listing, own, belief, signal);
  return { slotMs: own.at(-1)?.name.timeMs, committedMs: committedMs(newest), provenMs: committedMs(proven) };
}

function isOf({ name }: ListedBackup, schedule: string): boolean {
  return name.kind === "slot" && name.schedule === schedule;
}

function committedMs(manifest: Manifest | undefined): number | undefined {
  return manifest === undefined ? undefined : Date.parse(manifest.committedAt);
}

function readSchedules(tools: Tools, repository: RepositoryFacts | undefined): readonly ScheduleFacts[] {
  const { cluster, schedules } = tools.loaded.config;
  const nowMs = tools.clock.now();
  return schedules.map(({ name, fields, timeZone, jitterMs }) => {
    const delayMs = stableDelay(cluster.name, name, jitterMs);
    const { slotMs, ...known } = repository?.fresh.get(name) ?? neverFresh;
    const facts = { fields, timeZone, delayMs, newestSlotMs: slotMs, starting: false };
    const due = repository !== undefined && decideDue(facts, nowMs).kind === "due";
    const next = slotAfter(fields, timeZone, nowMs - delayMs);
    return {
      name,
      intervalMs: slotInterval(fields, timeZone, nowMs),
      ...known,
      due,
      nextMs: next === undefined ? undefined : next + delayMs,
    };
  });
}

async function readSpool(tools: Tools, { spool }: BackupDependencies): Promise<NonNullable<Overview["spool"]>> {
  const { freeBytes, sizeBytes } = await spool.space();
  return { directory: tools.loaded.config.spool.directory, freeBytes, sizeBytes };
}

/** `check` has a minute in all, and a copy that is dead must not hide what is known of the first store. */
const copyTimeoutMs = 20_000;

/** All side by side, each within its time: one that is slow or dead holds up no other. */
async function readCopies(tools: Tools, signal: AbortSignal): Promise<readonly CopyFacts[]> {
  const { cluster, schedules } = tools.loaded.config;
  const read = async (target: CopyTarget, until: AbortSignal): Promise<ComparedCopy | undefined> => {
    const from = { store: await tools.store(), target, cluster: cluster.name, trusted: await tools.trusted() };
    const survey = await surveyCopy(from, until);
    if (survey === undefined) return undefined;
    const newest = async (name: string): Promise<readonly [string, number | undefined]> => [
      name,
      await lastCopied(target, survey, name, tools.clock.now(), until),
    ];
    return {
      backups: survey.copy.backups.length,
      missing: survey.missing.length,
      differing: survey.differing.length,
      committedMs: new Map(await Promise.all(schedules.map(({ name }) => newest(name)))),
    };
  };
  return await Promise.all(
    (await tools.copies()).map(async (target) => ({
      name: target.name,
      store: target.store.description,
      compared: await seen(() => inTime(target.name, signal, (until) => read(target, until))),
    })),
  );
}

async function inTime<T>(copy: string, signal: AbortSignal, look: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(
    () =>
      late.abort(
        new Fault("store-unreachable", `the copy ${copy} could not be read within ${formatDuration(copyTimeoutMs)}`),
      ),
    copyTimeoutMs,
  );
  try {
    return await look(AbortSignal.any([signal, late.signal]));
  } finally {
    clearTimeout(timer);
  }
}

async function readRetention(tools: Tools, signal: AbortSignal): Promise<RetentionFacts | undefined> {
  const { config } = tools.loaded;
  const policy = policyOf(config);
  if (policy === undefined) return undefined;
  const deps = await openExpiry(
    {
      cluster: config.cluster.name,
      store: await tools.store(),
      trusted: await tools.trusted(),
      signer: undefined,
      clock: tools.clock,
      catalogDirectory: tools.catalogDirectory,
      emit: () => undefined,
      policy,
      bounds: collectBounds,
      coordination: config.repository.coordination.prefix,
      gate: async () => undefined,
    },
    signal,
  );
  if (deps === undefined) return undefined;
  const survey = await surveyRetention(deps, signal);
  const { kept, storedBytes, expiringBytes, pinned } = countsOf(survey);
  return {
    kept,
    storedBytes,
    going: survey.verdicts.filter(({ keep }) => !keep).map(({ held }) => held.backup),
    goingBytes: expiringBytes,
    pinned,
    automatic: config.retention?.expire === true,
  };
}
