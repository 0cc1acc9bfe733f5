import { createHash } from "node:crypto";
import { observeCluster } from "../cluster/observe.ts";
import { Fault, isFault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import { listRepository, readHistories } from "../repository/catalog.ts";
import { judgeHistory } from "../repository/lineage.ts";
import { acquireLock } from "../repository/lock.ts";
import { newestProven } from "../repository/proven.ts";
import { isUlid } from "../repository/names.ts";
import type { Journal, JournalRecord, Journals, MirroredJournals } from "../runbook/journal.ts";
import { isUnfinished, standingOf } from "../runbook/standing.ts";
import { liveHistory } from "../snapshot/backup.ts";
import { operationOfAside } from "./aside-names.ts";
import { refuseOtherPlaces, refuseStrangeFacts } from "./bound.ts";
import { findAsides, type Aside, type Asides } from "./asides.ts";
import type { Refusal } from "./choose.ts";
import type { HostDependencies, RestoreRepository } from "./restore.ts";

/** Removing old data: nothing else of this program ever does. It goes only when the cluster that took its place is whole and has a backup that is proven. */

export interface CleanupPlan extends Asides {
  readonly refusals: readonly Refusal[];
  /** The backup that stands in for what goes; undefined where there is none. */
  readonly backup: string | undefined;
}

/**
 * Takes in from their copies the journals of operations that have left old data on the hosts and that this machine does not know: those alone that are of this cluster
 * and its hosts as they are configured. The others stay strange.
 */
export async function adoptStrangers(
  deps: HostDependencies,
  journals: MirroredJournals,
  signal: AbortSignal,
): Promise<void> {
  const { strange } = await findAsides(deps, await journals.list(signal), signal);
  const ids = new Set(strange.flatMap(({ path }) => operationOfAside(path) ?? []).filter(isUlid));
  for (const id of ids) {
    const [found] = (await journals.find(id, signal)).found;
    if (found?.elsewhere !== true) continue;
    try {
      refuseStrangeFacts(found.record.plan);
      refuseOtherPlaces(found.record, deps);
    } catch (error) {
      if (!isFault(error, "journal-invalid", "runbook-refused")) throw error;
      continue;
    }
    await journals.adopt(found, signal);
  }
}

/** Looks at what operations left and whether it may go; touches nothing. `only`: the ULID of one operation. */
export async function planCleanup(
  deps: HostDependencies,
  journals: Pick<Journals, "list">,
  only: string | undefined,
  signal: AbortSignal,
): Promise<CleanupPlan> {
  return await look(deps, journals, only, new Set(), signal);
}

/** `own`: the operations whose journals this very clean-up has open. */
async function look(
  deps: HostDependencies,
  journals: Pick<Journals, "list">,
  only: string | undefined,
  own: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<CleanupPlan> {
  const records = await journals.list(signal);
  const { found: all, strange } = await findAsides(deps, records, signal);
  const found = all.filter(({ operation }) => only === undefined || operation === only);
  if (only !== undefined && found.length === 0) {
    throw new Fault("not-found", `operation ${only} has left no old data on any host`, {
      hint: "see what there is: etcd-lifeboat cleanup --plan",
    });
  }
  const refusals: Refusal[] = [];
  judgeOperations(
    records.filter(({ plan }) => plan.cluster === deps.cluster),
    own,
    refusals,
  );
  await judgeHosts(deps, found, refusals, signal);
  const backup = await judgeCluster(deps, records, found, refusals, signal);
  return { found, strange, refusals: found.length === 0 ? [] : refusals, backup };
}

function judgeOperations(records: readonly JournalRecord[], own: ReadonlySet<string>, refusals: Refusal[]): void {
  for (const record of records) {
    const { id, operation } = record.plan;
    if (!isUnfinished(record) && (record.executing === undefined || own.has(id))) continue;
    refusals.push({
      message: `the ${operation} ${id} is not finished, and may need any old data yet`,
      hint: `finish it first: etcd-lifeboat ${operation} --resume ${id}, or --rollback ${id}`,
    });
  }
}

async function judgeHosts(
  { hosts }: HostDependencies,
  found: readonly Aside[],
  refusals: Refusal[],
  signal: AbortSignal,
): Promise<void> {
  for (const aside of found) {
    const host = hosts.find((one) => one.host.name === aside.host)?.host;
    const refusal = host === undefined ? undefined : await withoutDatabase(host, aside, signal);
    if (refusal !== undefined) refusals.push(refusal);
  }
}

/** Why what is aside must stay: nothing is in its place. */
async function withoutDatabase(
  host: Host,
  { member, current }: Aside,
  signal: AbortSignal,
): Promise<Refusal | undefined> {
  const there = await host.stat(`${current}/snap/db`, signal);
  if (there?.kind === "file") return undefined;
  return {
    message: `${current} of ${host.name} has no database: what is aside is all that ${member} has`,
    hint: "bring the member back first: etcd-lifeboat restore-member, or restore",
  };
}

async function judgeCluster(
  deps: HostDependencies,
  records: readonly JournalRecord[],
  found: readonly Aside[],
  refusals: Refusal[],
  signal: AbortSignal,
): Promise<string | undefined> {
  let facts;
  try {
    facts = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    const hint = "the old data may be the only one that is whole: bring the cluster up first";
    refusals.push({ message: `the cluster cannot be looked at: ${error.message}`, hint });
    return undefined;
  }
  const heal = "see: etcd-lifeboat status";
  if (!facts.quorum) refusals.push({ message: "the cluster has no quorum", hint: heal });
  for (const { name, seen } of facts.members) {
    if (!seen.up) refusals.push({ message: `${name} does not answer: ${seen.fault.message}`, hint: heal });
  }
  for (const { kind } of facts.alarms ?? []) refusals.push({ message: `an alarm ${kind} is active`, hint: heal });
  const old = new Set(
    records
      .filter(
        ({ plan, entries }) =>
          standingOf(plan, entries).ended === "done" && found.some(({ operation }) => operation === plan.id),
      )
      .flatMap(({ plan }) => oldClusterOf(plan.facts["old"])),
  );
  if (old.has(facts.clusterId.toString(16))) {
    refusals.push({
      message: "the members that answer are those of the cluster whose data is aside",
      hint: "somebody put old data back: look at each host before anything is removed",
    });
  }
  const backup = deps.repository === undefined ? undefined : await provenBackup(deps, deps.repository, facts, signal);
  if (backup === undefined) {
    refusals.push({
      message: "no backup of what runs now is proven",
      hint: "take one: etcd-lifeboat backup",
    });
  }
  return backup;
}

function oldClusterOf(old: unknown): readonly string[] {
  const id = (old as { readonly clusterId?: unknown } | null | undefined)?.clusterId;
  return typeof id === "string" ? [id] : [];
}

/** The newest proven backup of the history that the live cluster continues. */
async function provenBackup(
  { clock }: HostDependencies,
  { id, backup: { store, trusted } }: RestoreRepository,
  facts: Parameters<typeof liveHistory>[0],
  signal: AbortSignal,
): Promise<string | undefined> {
  const belief = { repository: id, trusted };
  const listing = await listRepository(store, signal);
  const judgement = judgeHistory(await readHistories(store, listing, belief, clock.now(), signal), liveHistory(facts));
  if (judgement.kind !== "continues") return undefined;
  const { lineage } = judgement.history.lineage;
  const own = listing.backups.filter((backup) => backup.lineage === lineage);
  const manifest = await newestProven(store, listing, own, belief, signal);
  return manifest === undefined ? undefined : `${lineage}/${manifest.backup}`;
}

/**
 * Removes what a plan found, under the operation lock and the journals of the operations that left it, once a second look finds the same and nothing against it: much
 * can happen while a prompt waits. Killed anywhere, nothing is left under its name that is not whole: it gets another name first, and the next clean-up goes on with
 * that. `onRemoved` is told of each. Rejects with `cleanup-refused` and `plan-stale`.
 */
export async function executeCleanup(
  deps: HostDependencies,
  journals: Pick<Journals, "open" | "list">,
  { plan, only }: { readonly plan: CleanupPlan; readonly only: string | undefined },
  onRemoved: (host: string, path: string, bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const { repository, hosts } = deps;
  if (repository === undefined) throw new Fault("cleanup-refused", "no repository keeps a backup of what runs now");
  const operations = [...new Set(plan.found.map(({ operation }) => operation))];
  const [first] = operations;
  if (first === undefined) return;
  // The journals first: as long as they are open, no rollback and no other clean-up is at work on the same.
  await using open = new AsyncDisposableStack();
  const opened = new Map<string, Journal>();
  for (const operation of operations) opened.set(operation, open.use(await journals.open(operation, signal)));
  // It lapses after a death, and whoever cleans up the same takes it up at once.
  await using held = await acquireLock(repository.lock, "restore", true, signal, lockIdOf(first));
  const stop = AbortSignal.any([signal, held.lost]);
  const { found, refusals } = await look(deps, journals, only, new Set(operations), stop);
  refuse(refusals[0]);
  if (JSON.stringify(found.map(placesOf)) !== JSON.stringify(plan.found.map(placesOf))) {
    throw new Fault("plan-stale", "the old data is not what it was when it was listed: nothing was removed", {
      hint: "look again: etcd-lifeboat cleanup --plan",
    });
  }
  for (const aside of found) {
    const host = hosts.find((one) => one.host.name === aside.host)?.host;
    const journal = opened.get(aside.operation);
    if (host === undefined || journal === undefined) throw new Error(`${aside.host} was there when it was looked at`);
    await removeAside(deps, host, aside, journal, onRemoved, stop);
  }
}

async function removeAside(
  { clock, failpoint }: HostDependencies,
  host: Host,
  aside: Aside,
  journal: Journal,
  onRemoved: (host: string, path: string, bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const { name } = host;
  for (const { path, removing, half, bytes } of aside.paths) {
    refuse(await withoutDatabase(host, aside, signal));
    // From here on the operation cannot be taken back.
    await journal.append({ timeMs: clock.now(), kind: "note", step: aside.step, facts: { removed: path } });
    if (!half) {
      // What an earlier clean-up left under that name goes first.
      await host.removeTree(removing, signal);
      failpoint(`cleanup ${name} before rename`);
      await host.rename(path, removing, signal);
    }
    failpoint(`cleanup ${name} before remove`);
    await host.removeTree(removing, signal);
    onRemoved(name, path, bytes);
  }
}

function refuse(refusal: Refusal | undefined): void {
  if (refusal !== undefined) throw new Fault("cleanup-refused", refusal.message, { hint: refusal.hint });
}

function placesOf({ operation, host, paths }: Aside): unknown {
  return { operation, host, paths: paths.map(({ path, half }) => ({ path, half })) };
}

/** A ULID of the operation's clean-up: not that of the operation, since a rollback of it would take up a lock of the same ID. */
function lockIdOf(operation: string): string {
  const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const digest = createHash("sha256").update(`cleanup ${operation}`).digest();
  return [...digest.subarray(0, 26)].map((byte, index) => letters[byte % (index === 0 ? 8 : 32)]).join("");
}
