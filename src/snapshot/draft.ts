import type { ClusterFacts } from "../cluster/observe.ts";
import { formatId, formatInstant } from "../repository/documents.ts";
import { manifestSchemaId, type Manifest, type ManifestMember } from "../repository/manifest.ts";
import type { BackupDependencies, BackupRequest, Position } from "./backup.ts";
import type { Draft } from "./commit.ts";
import type { Taken } from "./take.ts";

/** Everything that the manifest of a taken snapshot says, before anything is stored. */
export function writeDraft(
  deps: Pick<BackupDependencies, "toolVersion" | "cluster">,
  request: BackupRequest,
  known: Position & {
    readonly backup: string;
    readonly facts: ClusterFacts;
    readonly taken: Taken;
    readonly startedMs: number;
  },
): Draft {
  const { facts, taken, history, identity } = known;
  const { before, source } = taken;
  return {
    schema: manifestSchemaId,
    tool: { name: "etcd-lifeboat", version: deps.toolVersion },
    repository: identity.id,
    lineage: history.lineage.lineage,
    backup: known.backup,
    trigger: request.trigger,
    slot: request.trigger === "schedule" ? { schedule: request.schedule, time: formatInstant(request.slotMs) } : null,
    label: request.trigger === "demand" ? (request.label ?? null) : null,
    startedAt: formatInstant(known.startedMs),
    cluster: { name: deps.cluster, id: formatId(facts.clusterId) },
    source: {
      memberId: formatId(before.memberId),
      name: source.member.name,
      url: source.member.seen.up ? source.member.seen.address.url : "",
      version: before.version,
      learner: before.learner,
      leader: before.leader === before.memberId,
      raftTerm: before.raftTerm,
      raftIndex: before.raftIndex,
      reason: source.reason,
    },
    live: {
      quorum: facts.quorum,
      highestRevision: highest([history.highestRevision, facts.highestRevision, before.revision, taken.facts.revision]),
      highestRaftIndex: highest([history.highestRaftIndex, facts.highestRaftIndex, before.raftIndex]),
      members: facts.members.map((member) => manifestMember(member.started ? member : { ...member, name: "" })),
      alarms: (facts.alarms ?? []).map(({ memberId, kind }) => ({ memberId: formatId(memberId), kind })),
      v2: facts.v2,
    },
    content: writeContent(taken),
    samples: [...taken.facts.samples],
  };
}

/** What a scanned file says of itself, in the manifest's form. */
export function writeContent({ facts, drained }: Pick<Taken, "facts" | "drained">): Manifest["content"] {
  return {
    revision: facts.revision,
    compactRevision: facts.compactRevision,
    hashKv: facts.hashKv,
    consistentIndex: facts.consistentIndex,
    term: facts.term ?? null,
    storageVersion: facts.storageVersion ?? null,
    clusterVersion: facts.clusterVersion ?? null,
    keys: facts.keys,
    rows: facts.rows,
    leases: facts.leases,
    authEnabled: facts.authEnabled,
    dbBytes: drained.dbBytes,
    logicalBytes: facts.logicalBytes,
    members: facts.members.map(manifestMember),
    alarms: facts.alarms.map(({ memberId, kind }) => ({ memberId: formatId(memberId), kind })),
    seal: drained.seal,
  };
}

function manifestMember(member: {
  readonly id: bigint;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}): ManifestMember {
  const { id, name, peerUrls, clientUrls, learner } = member;
  return { id: formatId(id), name, peerUrls: [...peerUrls], clientUrls: [...clientUrls], learner };
}

function highest(values: readonly bigint[]): bigint {
  return values.reduce((top, value) => (value > top ? value : top), 0n);
}
