import type { Clock } from "../clock.ts";
import { isFault, type Fault } from "../faults.ts";
import { readEntries, type Belief, type CatalogEntry } from "../repository/catalog.ts";
import { readIdentity } from "../repository/identity.ts";
import { listRepository } from "../repository/listing.ts";
import type { TrustedKeys } from "../repository/signature.ts";
import type { Unproven } from "../snapshot/backup.ts";
import { proveClaim, type Claim, type ProveDependencies } from "../snapshot/prove.ts";
import { recordFinding, tellFinding, type Committed, type RecordDependencies } from "../snapshot/record.ts";
import type { Spool } from "../snapshot/spool.ts";

export interface LaterDependencies extends ProveDependencies, RecordDependencies {
  readonly cluster: string;
  readonly trusted: TrustedKeys | undefined;
  readonly spool: Pick<Spool, "requireSpace">;
  /** Why nothing heavy may begin now; undefined: nothing stands against it. */
  readonly gate: (signal: AbortSignal) => Promise<Fault | undefined>;
}

/** Proves backups later that could not be proven in their run. */
export interface LaterProofs {
  /** Takes a backup over; its spool file is kept for a while, and removed by this. */
  readonly keep: (unproven: Unproven) => Promise<void>;
  /** Runs a backup: nothing is asked meanwhile, and the spool file of the one before is removed first, for its room. */
  readonly besides: <T>(backup: () => Promise<T>) => Promise<T>;
  /** Asks until the signal is aborted, then removes what was kept. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

/** A backup that waits, and since when. */
interface Waiting {
  readonly committed: Committed;
  readonly claim: Claim;
  /** Its spool file, while it is kept. */
  kept: { readonly file: AsyncDisposable; readonly sinceMs: number } | undefined;
  tries: number;
  atMs: number;
  /** It was sealed by another process: only that it is proven would be news. */
  readonly recalled: boolean;
}

const turnMs = 5000;
const firstPauseMs = 30_000;
const longestPauseMs = 600_000;
/** Each question makes members read their whole data: after an hour or two the next backup is the better question. */
const triesAtMost = 12;
const keepMs = 15 * 60_000;
const waitingAtMost = 4;

/** Opens what `run` and the backups share. */
export function openLaterProofs(deps: LaterDependencies): LaterProofs {
  let waiting: readonly Waiting[] = [];
  let backups = 0;
  let ended = false;
  let asking: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;

  async function remove(one: Waiting): Promise<void> {
    const { kept } = one;
    one.kept = undefined;
    try {
      await kept?.file[Symbol.asyncDispose]();
    } catch (error) {
      if (!isFault(error)) throw error;
      deps.emit({ name: "warning", about: "spool", message: error.message });
    }
  }
  async function removeAll(): Promise<void> {
    for (const one of waiting) await remove(one);
  }
  async function drop(one: Waiting): Promise<void> {
    waiting = waiting.filter((other) => other !== one);
    await remove(one);
  }

  /** One question; what is left of it is that it is dropped, or waits for the next. */
  async function ask(one: Waiting, signal: AbortSignal): Promise<void> {
    const claim = one.kept === undefined ? { ...one.claim, path: undefined } : one.claim;
    const found = await proveClaim(deps, claim, signal);
    one.tries += 1;
    const last = one.tries >= triesAtMost;
    if (found.verdict === "sealed" && found.passing && !last) return wait(deps.clock, one);
    if (found.verdict !== "proven" && one.recalled) return await drop(one);
    const { finding } = await recordFinding(deps, one.committed, last ? { ...found, passing: false } : found, signal);
    if (finding.why === "unrecorded" && !last) return wait(deps.clock, one);
    tellFinding(deps.emit, claim.run, one.committed, finding);
    await drop(one);
  }

  async function turn(signal: AbortSignal): Promise<void> {
    const nowMs = deps.clock.elapsed();
    for (const one of waiting) {
      if (one.kept !== undefined && (nowMs - one.kept.sinceMs > keepMs || !(await hasRoom(deps)))) await remove(one);
    }
    const due = waiting.findLast(({ atMs }) => atMs <= nowMs);
    if (due === undefined || backups > 0) return;
    if ((await deps.gate(signal)) !== undefined) return wait(deps.clock, due);
    // A backup may have begun while the lock was read.
    if (backups > 0) return;
    const stop = new AbortController();
    const done = ask(due, AbortSignal.any([signal, stop.signal])).catch((error: unknown) => {
      if (!isFault(error)) throw error;
      // Given up for a backup, it is no try; a file that cannot be hashed is.
      if (stop.signal.aborted || signal.aborted) return;
      due.tries += 1;
      deps.emit({ name: "warning", about: "proof", message: `members could not be asked: ${error.message}` });
      wait(deps.clock, due);
    });
    asking = { stop, done };
    await done;
    asking = undefined;
  }

  return {
    async keep(unproven) {
      const kept = { file: unproven, sinceMs: deps.clock.elapsed() };
      const { committed, claim } = unproven;
      const one: Waiting = { committed, claim, kept, tries: 0, atMs: 0, recalled: false };
      wait(deps.clock, one);
      if (ended) return await remove(one);
      await removeAll();
      for (const oldest of waiting.slice(0, -waitingAtMost + 1)) await drop(oldest);
      waiting = [...waiting, one];
    },
    async besides(backup) {
      backups += 1;
      try {
        asking?.stop.abort();
        await asking?.done;
        await removeAll();
        return await backup();
      } finally {
        backups -= 1;
      }
    },
    async run(signal) {
      let recalled = false;
      try {
        while (!signal.aborted) {
          if (!recalled) {
            const before = await recall(deps, signal);
            recalled = before !== undefined;
            const known = new Set(waiting.map(({ committed }) => committed.manifestSha256));
            waiting = [...(before ?? []).filter(({ committed }) => !known.has(committed.manifestSha256)), ...waiting];
          }
          await turn(signal);
          await deps.clock.sleep(turnMs, signal);
        }
      } catch (error) {
        if (!signal.aborted || !isFault(error)) throw error;
      } finally {
        ended = true;
        await removeAll();
      }
    },
  };
}

function wait(clock: Clock, one: Waiting): void {
  one.atMs = clock.elapsed() + Math.min(longestPauseMs, firstPauseMs * 2 ** one.tries);
}

/** The disk may be etcd's own: what is kept for a proof gives way first. */
async function hasRoom({ spool }: LaterDependencies): Promise<boolean> {
  try {
    await spool.requireSpace(0);
    return true;
  } catch (error) {
    if (!isFault(error)) throw error;
    return false;
  }
}

/** The newest backups that a process before this one could not prove: without their files, but while nothing was compacted their recorded hash is enough. Undefined: the store cannot be asked. */
async function recall(deps: LaterDependencies, signal: AbortSignal): Promise<readonly Waiting[] | undefined> {
  const newest = 2;
  try {
    const identity = await readIdentity(deps.store, deps.cluster, signal);
    if (identity === undefined) return [];
    const belief: Belief = { repository: identity.id, trusted: deps.trusted };
    const listing = await listRepository(deps.store, signal);
    const proven = new Set(
      listing.proofs.flatMap(({ lineage, proof }) =>
        proof.kind === "hashkv" && proof.verdict === "proven" ? [`${lineage}/${proof.backup}`] : [],
      ),
    );
    const unproven = listing.backups
      .slice(-newest)
      .filter(({ lineage, backup }) => !proven.has(`${lineage}/${backup}`));
    const entries = await readEntries(deps.store, unproven, belief, signal);
    return entries.flatMap((entry) => recalled(deps, entry));
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    // A repository that is damaged or another cluster's is told by who needs it.
    return isFault(error, "store-unreachable") ? undefined : [];
  }
}

function recalled(deps: LaterDependencies, entry: CatalogEntry): readonly Waiting[] {
  if (entry.manifest === undefined) return [];
  const { manifest, manifestSha256 } = entry;
  // An imported file is of no cluster that could be asked.
  if (manifest.source === null || manifest.cluster.id === null) return [];
  const { content, source, cluster } = manifest;
  const claim: Claim = {
    run: deps.newId(),
    clusterId: BigInt(`0x${cluster.id}`),
    source: BigInt(`0x${source.memberId}`),
    revision: content.revision,
    compactRevision: content.compactRevision,
    hashKv: content.hashKv,
    keys: content.keys,
    path: undefined,
  };
  const committed = { manifest, manifestSha256 };
  return [{ committed, claim, kept: undefined, tries: 0, atMs: deps.clock.elapsed(), recalled: true }];
}
