import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { Fault, isFault, throwIfAborted, type FaultCode } from "../faults.ts";
import { readEntry, type Belief } from "../repository/catalog.ts";
import { readIdentity, type RepositoryIdentity } from "../repository/identity.ts";
import { listRepository, type ListedBackup, type Listing } from "../repository/listing.ts";
import { manifestName, repositoryDocumentName } from "../repository/names.ts";
import type { TrustedKeys } from "../repository/signature.ts";
import type { Store } from "../store/store.ts";
import { copyBackup, copyBesides, copyLineages, nameOf, takenFault } from "./copy-backup.ts";

/**
 * Copies of a repository in further stores. A copy is a whole repository with the same identity: the objects of each backup are verified there before its
 * manifest comes, last and create-only. What a copy has is always its store's word, so that one that was interrupted goes on, whoever interrupted it.
 */

/** A further store, by the name that the configuration gives it. */
export interface CopyTarget {
  readonly name: string;
  readonly store: Store;
}

export interface CopyDependencies {
  /** The first store. */
  readonly store: Store;
  readonly target: CopyTarget;
  /** `cluster.name` of the configuration. */
  readonly cluster: string;
  readonly trusted: TrustedKeys | undefined;
  /** As for the first store: larger objects are compared by a checksum, where the store has one. */
  readonly readBackBelowBytes: number | undefined;
  readonly clock: Clock;
  readonly emit: Emit;
}

/** Who asks for a round, and what is known besides. */
export interface CopyRequest {
  /** Schedules whose freshness in the copy is told. */
  readonly schedules: readonly string[];
  /** Backups that need not come now, since another daemon has just committed them and copies them. */
  readonly postponed: (listed: ListedBackup) => boolean;
  /** Backups that the copy has given up, or that cannot be believed: remembered from round to round, so that they are not read each time. */
  readonly settled: Set<string>;
}

/** What one look at both stores gives. */
export interface CopySurvey {
  /** Whether the copy's place is a repository yet. */
  readonly opened: boolean;
  readonly belief: Belief;
  readonly source: Listing;
  readonly copy: Listing;
  /** Backups of the first store that the copy does not have, newest first. */
  readonly missing: readonly ListedBackup[];
  /** Backups whose manifest in the copy cannot be the same: it has another size. */
  readonly differing: readonly ListedBackup[];
}

export interface CopyOutcome {
  readonly copied: number;
  /** Backups that are still missing, and may come at the next time. */
  readonly missing: number;
  /** What went wrong with single backups; anything else rejects. */
  readonly failed: readonly { readonly backup: string; readonly fault: Fault }[];
}

/**
 * One round: a copy gets what it lacks, and tells it. Undefined while there is no repository to copy. What concerns one backup alone is told, and is in the outcome; every
 * other trouble rejects, and the next round begins with a new look.
 */
export async function copyRepository(
  deps: CopyDependencies,
  request: CopyRequest,
  signal: AbortSignal,
): Promise<CopyOutcome | undefined> {
  const { target, emit, clock } = deps;
  const store = target.name;
  const survey = await surveyCopy(deps, signal);
  if (survey === undefined) return undefined;
  const nowMs = clock.now();
  const schedules: { schedule: string; lastSuccessMs: number | undefined }[] = [];
  for (const schedule of request.schedules)
    schedules.push({ schedule, lastSuccessMs: await lastCopied(target, survey, schedule, nowMs, signal) });
  const unsettled = survey.missing.filter((listed) => !request.settled.has(nameOf(listed)));
  emit({
    name: "copy.compared",
    store,
    backups: survey.copy.backups.length,
    missing: unsettled.length,
    schedules,
  });
  const outcome = await copyMissing(deps, survey, request, signal);
  for (const { backup, fault } of outcome.failed) {
    const { code, message, hint } = fault;
    emit({ name: "copy.failed", store, backup, code, message, hint });
  }
  if (outcome.failed.length === 0)
    emit({ name: "copy.finished", store, copied: outcome.copied, missing: outcome.missing });
  return outcome;
}

/**
 * Compares the first store with a copy; writes nothing. Undefined while there is no first one. Rejects with `repository-foreign` where the copy's place
 * holds another repository: nothing is ever mixed into it.
 */
export async function surveyCopy(
  deps: Pick<CopyDependencies, "store" | "target" | "cluster" | "trusted">,
  signal: AbortSignal,
): Promise<CopySurvey | undefined> {
  const { store, target, cluster, trusted } = deps;
  const identity = await readIdentity(store, cluster, signal);
  if (identity === undefined) return undefined;
  const own = await readIdentity(target.store, cluster, signal);
  if (own !== undefined) requireSame(deps, identity, own);
  const source = await listRepository(store, signal);
  const copy = await listRepository(target.store, signal);
  const there = new Map(copy.backups.map((listed) => [nameOf(listed), listed.manifestBytes]));
  return {
    opened: own !== undefined,
    belief: { repository: identity.id, trusted },
    source,
    copy,
    missing: source.backups.filter((listed) => !there.has(nameOf(listed))).toReversed(),
    differing: source.backups.filter(
      (listed) => (there.get(nameOf(listed)) ?? listed.manifestBytes) !== listed.manifestBytes,
    ),
  };
}

function requireSame(
  { store, target }: Pick<CopyDependencies, "store" | "target">,
  { id }: Pick<RepositoryIdentity, "id">,
  own: RepositoryIdentity,
): void {
  if (own.id === id) return;
  throw new Fault(
    "repository-foreign",
    `${target.store.description} holds repository ${own.id}, and the copy ${target.name} is of ${id} in ${store.description}`,
    {
      hint: "give the copy an empty prefix or directory; was the first store lost and made anew, restore from the copy: --store takes its name",
    },
  );
}

/** Makes the copy's place the same repository; who was faster made the same one. */
async function openTarget(deps: CopyDependencies, { repository }: Belief, signal: AbortSignal): Promise<void> {
  const { store, target, cluster } = deps;
  try {
    await target.store.create(repositoryDocumentName, await store.read(repositoryDocumentName, signal), signal);
  } catch (error) {
    if (!isFault(error, "store-exists")) throw error;
  }
  const own = await readIdentity(target.store, cluster, signal);
  if (own !== undefined) requireSame(deps, { id: repository }, own);
}

/** Copies what the survey found missing: lineages, backups with the newest first, then proofs and pins. */
async function copyMissing(
  deps: CopyDependencies,
  survey: CopySurvey,
  { postponed, settled }: CopyRequest,
  signal: AbortSignal,
): Promise<CopyOutcome> {
  const failed = survey.differing.map(({ lineage, backup }) => ({
    backup,
    fault: takenFault(deps.target, manifestName(lineage, backup)),
  }));
  const copied = new Set<string>();
  let missing = failed.length;
  if (!survey.opened) await openTarget(deps, survey.belief, signal);
  await copyLineages(deps, survey, signal);
  const wanted = survey.missing.filter((listed) => !settled.has(nameOf(listed)));
  for (const listed of wanted) {
    throwIfAborted(signal);
    if (postponed(listed)) {
      missing += 1;
      continue;
    }
    try {
      const state = await copyBackup(deps, survey, listed, signal);
      if (state === "copied") copied.add(nameOf(listed));
      if (state === "settled") settled.add(nameOf(listed));
    } catch (error) {
      if (!isFault(error, ...faultsOfOne)) throw error;
      missing += 1;
      failed.push({ backup: listed.backup, fault: error });
    }
  }
  await copyBesides(deps, survey, copied, signal);
  // What is listed no more needs no memory.
  const names = new Set(survey.missing.map(nameOf));
  for (const name of settled) if (!names.has(name)) settled.delete(name);
  return { copied: copied.size, missing, failed };
}

/** Faults of one backup, which leave hope for the next one. */
const faultsOfOne: readonly FaultCode[] = [
  "store-exists",
  "store-object-missing",
  "store-damaged",
  "object-damaged",
  "manifest-invalid",
  "backup-late",
];

/** When the newest believed backup of a schedule in a copy was committed to the first store; undefined: the last few there are none, or cannot be believed. */
export async function lastCopied(
  { store }: CopyTarget,
  { copy, belief }: Pick<CopySurvey, "copy" | "belief">,
  schedule: string,
  nowMs: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  const looksBack = 10;
  const own = copy.backups.filter(
    ({ name }) => name.kind === "slot" && name.schedule === schedule && name.timeMs <= nowMs,
  );
  for (const listed of own.slice(-looksBack).toReversed()) {
    const { manifest } = await readEntry(store, listed, belief, signal);
    if (manifest !== undefined) return Date.parse(manifest.committedAt);
  }
  return undefined;
}
