import { z } from "zod";
import { Fault, isFault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { formatInstant, hexId, int64Field, readDocument, timeField, ulidField, writeDocument } from "./documents.ts";
import { lineageDocumentName } from "./names.ts";

/** `lineage.json`: one unbroken history of revisions. Created once, never changed; ids sort by creation. */
const lineageDocument = z.strictObject({
  schema: z.literal("etcd-lifeboat/lineage/v1"),
  /** A lineage that was copied from another repository is not this cluster's. */
  repository: ulidField,
  lineage: ulidField,
  /** `live`: what this cluster lived through; `foreign`: an imported file, never counted for freshness. */
  kind: z.enum(["live", "foreign"]),
  createdAt: timeField,
  /** Of the live cluster when the lineage began; an imported file carries none. */
  clusterId: hexId.nullable(),
  /** The lineage that was current before. */
  parent: ulidField.nullable(),
  /** Backups of this lineage have at least this revision. */
  minimumRevision: int64Field,
  /** Why it began, in words. */
  reason: z.string(),
});

export type Lineage = z.output<typeof lineageDocument>;

/** Creates a lineage. One that exists already under this id is believed as it is, so that daemons that start together agree. */
export async function createLineage(
  store: Store,
  lineage: Omit<Lineage, "schema" | "createdAt">,
  nowMs: number,
  signal: AbortSignal,
): Promise<Lineage> {
  const name = lineageDocumentName(lineage.lineage);
  try {
    await store.create(
      name,
      writeDocument({ schema: "etcd-lifeboat/lineage/v1", createdAt: formatInstant(nowMs), ...lineage }),
      signal,
    );
  } catch (error) {
    if (!isFault(error, "store-exists")) throw error;
  }
  return readLineage(store, lineage.repository, lineage.lineage, signal);
}

/** Reads a lineage of this repository; rejects with `manifest-invalid` for one that was copied from another place. */
export async function readLineage(
  store: Store,
  repository: string,
  lineage: string,
  signal: AbortSignal,
): Promise<Lineage> {
  const name = lineageDocumentName(lineage);
  const document = readDocument(name, await store.read(name, signal), lineageDocument);
  if (document.repository !== repository || document.lineage !== lineage) {
    throw new Fault(
      "manifest-invalid",
      `${name} holds lineage ${document.lineage} of repository ${document.repository}, and this is ${repository}`,
      {
        hint: "an object was copied from another repository, or renamed inside the store",
      },
    );
  }
  return document;
}

/** What is known of a lineage's past when a new backup of it is judged. */
export interface LineageHistory {
  readonly lineage: Lineage;
  /** The highest revision that any manifest of the lineage has recorded. */
  readonly highestRevision: bigint;
  readonly highestRaftIndex: bigint;
}

/** What the live cluster says of its own history. */
export interface LiveHistory {
  readonly clusterId: string;
  readonly revision: bigint;
  readonly raftIndex: bigint;
  /** Without quorum a lower revision may be a lagging member's, so only the cluster ID is judged. */
  readonly quorum: boolean;
}

export type Judgement =
  | { readonly kind: "continues"; readonly history: LineageHistory }
  /** The repository knows no live history yet. */
  | { readonly kind: "first" }
  | { readonly kind: "foreign"; readonly seen: string };

/**
 * Which lineage a live cluster continues: the newest live one with its cluster ID, when its past is not above what the cluster says now.
 * Anything else is another history: it is told, never mixed. Older lineages with the same ID are over; a cluster that fits one of them again was
 * restored behind our back.
 */
export function judgeHistory(histories: readonly LineageHistory[], live: LiveHistory): Judgement {
  const known = histories
    .filter(({ lineage }) => lineage.kind === "live")
    .toSorted((a, b) => (a.lineage.lineage < b.lineage.lineage ? 1 : -1));
  const [newest] = known;
  if (newest === undefined) return { kind: "first" };
  const newestSame = known.find(({ lineage }) => lineage.clusterId === live.clusterId);
  if (newestSame === undefined) {
    const seen = `the cluster's ID is ${live.clusterId}, the newest lineage ${newest.lineage.lineage} was taken from ${newest.lineage.clusterId ?? "an unknown one"}`;
    return { kind: "foreign", seen };
  }
  const fits =
    newestSame.highestRevision <= live.revision &&
    newestSame.lineage.minimumRevision <= live.revision &&
    newestSame.highestRaftIndex <= live.raftIndex;
  return fits || !live.quorum
    ? { kind: "continues", history: newestSame }
    : { kind: "foreign", seen: wentBack(newestSame, live) };
}

function wentBack(history: LineageHistory, live: LiveHistory): string {
  const { lineage, highestRevision, highestRaftIndex } = history;
  if (highestRevision > live.revision) {
    return `the cluster is at revision ${live.revision}, but lineage ${lineage.lineage} has seen ${highestRevision}: the revision went back`;
  }
  if (lineage.minimumRevision > live.revision) {
    return `the cluster is at revision ${live.revision}, but lineage ${lineage.lineage} begins at ${lineage.minimumRevision}`;
  }
  return `the cluster is at raft index ${live.raftIndex}, but lineage ${lineage.lineage} has seen ${highestRaftIndex}: the log went back`;
}

/** A stored row of the past whose bytes are different now ends a lineage; rows that were compacted away say nothing. */
export function findContradiction(
  past: readonly { readonly main: bigint; readonly sub: bigint; readonly sha256: string }[],
  present: readonly { readonly main: bigint; readonly sub: bigint; readonly sha256: string }[],
): string | undefined {
  const now = new Map(present.map((row) => [`${row.main}.${row.sub}`, row.sha256]));
  const differing = past.find((row) => (now.get(`${row.main}.${row.sub}`) ?? row.sha256) !== row.sha256);
  return differing === undefined
    ? undefined
    : `revision ${differing.main}.${differing.sub} holds another row than in an earlier backup`;
}
