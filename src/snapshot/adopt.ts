import { observeCluster } from "../cluster/observe.ts";
import { Fault } from "../faults.ts";
import { listRepository, readHistories } from "../repository/catalog.ts";
import { formatId } from "../repository/documents.ts";
import { readIdentity } from "../repository/identity.ts";
import { createLineage, findContradiction, judgeHistory, type Lineage } from "../repository/lineage.ts";
import { believe, liveHistory, type BackupDependencies } from "./backup.ts";
import { PhaseTimer } from "./phases.ts";
import { takeSnapshot } from "./take.ts";

/** What `adopt` would accept: the reason why backups are refused, and the lineage that the new one follows. */
export interface ForeignHistory {
  readonly seen: string;
  readonly clusterId: string;
  readonly revision: bigint;
  readonly parent: Lineage;
}

/**
 * Looks whether the live cluster has another history than the repository; undefined when it simply continues. Where cluster ID and revision fit, a
 * snapshot is taken into the spool and its rows are compared, as a backup does. Needs quorum, so that no lagging member is mistaken for a new history.
 */
export async function findForeignHistory(
  deps: BackupDependencies,
  signal: AbortSignal,
): Promise<ForeignHistory | undefined> {
  const identity = await readIdentity(deps.store, deps.cluster, signal);
  if (identity === undefined) {
    throw new Fault("not-found", `${deps.store.description} holds no repository yet: there is nothing to adopt`, {
      hint: "run: etcd-lifeboat backup",
    });
  }
  const run = deps.newId();
  const phases = new PhaseTimer(run, deps.clock, deps.emit);
  const facts = await observeCluster(deps.etcd, deps.observe, signal);
  if (!facts.quorum) {
    throw new Fault("etcd-refused", "the cluster has no quorum: a lagging member would look like another history", {
      hint: "bring back enough members, then run adopt again",
    });
  }
  const histories = await readHistories(
    deps.store,
    await listRepository(deps.store, signal),
    believe(deps, identity),
    deps.clock.now(),
    signal,
  );
  const live = liveHistory(facts);
  const judgement = judgeHistory(histories, live);
  const newest = histories.filter(({ lineage }) => lineage.kind === "live").at(-1);
  if (judgement.kind === "first" || newest === undefined) return undefined;
  const found = { clusterId: formatId(facts.clusterId), revision: live.revision, parent: newest.lineage };
  if (judgement.kind === "foreign") return { ...found, seen: judgement.seen };
  const samples = histories.find(({ lineage }) => lineage === judgement.history.lineage)?.newest?.samples ?? [];
  await using taken = await takeSnapshot(deps, facts, samples, new Set(), run, () => undefined, phases, signal);
  const contradiction = findContradiction(samples, taken.facts.probed);
  return contradiction === undefined ? undefined : { ...found, seen: contradiction };
}

/** Accepts another history: from now on backups of the live cluster belong to a new lineage. */
export async function adoptHistory(
  deps: BackupDependencies,
  found: ForeignHistory,
  signal: AbortSignal,
): Promise<Lineage> {
  const id = deps.newId();
  if (id <= found.parent.lineage) {
    // Ids sort by creation, and the newest lineage is the current one: this one would be passed over for ever.
    throw new Fault(
      "failed",
      `this host's clock is behind the time at which lineage ${found.parent.lineage} began (${found.parent.createdAt})`,
      {
        hint: "set the clock, then run adopt again",
      },
    );
  }
  const lineage = await createLineage(
    deps.store,
    {
      repository: found.parent.repository,
      lineage: id,
      kind: "live",
      clusterId: found.clusterId,
      parent: found.parent.lineage,
      minimumRevision: 0n,
      reason: `adopted: ${found.seen}`,
    },
    deps.clock.now(),
    signal,
  );
  deps.emit({ name: "lineage.created", lineage: lineage.lineage, reason: lineage.reason, clusterId: found.clusterId });
  return lineage;
}
