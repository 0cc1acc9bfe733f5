import type { Lineage } from "../repository/lineage.ts";
import type { Manifest } from "../repository/manifest.ts";
import type { JournalRecord } from "../runbook/journal.ts";
import type { HighWater } from "./facts.ts";

interface History {
  readonly lineage: Pick<Lineage, "kind" | "lineage" | "minimumRevision" | "createdAt">;
  readonly newest: Pick<Manifest, "lineage" | "backup" | "startedAt"> | undefined;
  readonly highestRevision: bigint;
}

/** The revisions that a repository knows its own cluster to have reached: by its backups, and by where a history began of which there is no backup yet. */
export function seenInRepository(histories: readonly History[]): readonly HighWater[] {
  return histories.flatMap(({ lineage, newest, highestRevision }) => {
    if (lineage.kind !== "live") return [];
    const { lineage: id, minimumRevision, createdAt } = lineage;
    const began = {
      revision: minimumRevision,
      seenMs: Date.parse(createdAt),
      backup: `the beginning of lineage ${id}`,
    };
    if (newest === undefined) return [began];
    const backup = `${newest.lineage}/${newest.backup}`;
    return [began, { revision: highestRevision, seenMs: Date.parse(newest.startedAt), backup }];
  });
}

/** The revisions at which earlier restores of this machine have started the same cluster: a file knows nothing of them, and neither does a repository that was not there. */
export function seenInJournals(records: readonly JournalRecord[], cluster: string): readonly HighWater[] {
  return records.flatMap(({ plan, entries }) => {
    const started = entries.some(
      (entry) =>
        entry.kind === "start" && plan.steps.some(({ id, kind }) => kind === "start-etcd" && id === entry.step),
    );
    const first = plan.facts["first"] as { readonly revision?: unknown } | undefined;
    if (plan.operation !== "restore" || plan.cluster !== cluster || !started) return [];
    if (typeof first?.revision !== "string" || !/^\d{1,19}$/.test(first.revision)) return [];
    const seenMs = entries.at(-1)?.timeMs ?? Date.parse(plan.createdAt);
    return [{ revision: BigInt(first.revision), seenMs, backup: `the restore ${plan.id}` }];
  });
}
