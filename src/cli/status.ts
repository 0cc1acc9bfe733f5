import { observeCluster, type ClusterFacts } from "../cluster/observe.ts";
import { chooseSources } from "../cluster/choose.ts";
import { escapeControls, formatAge, formatBytes } from "../format.ts";
import { isFault, type Fault } from "../faults.ts";
import { listRepository, readHistories } from "../repository/catalog.ts";
import { formatId } from "../repository/documents.ts";
import { readIdentity } from "../repository/identity.ts";
import type { Manifest } from "../repository/manifest.ts";
import { divergedMembers, newestProven, type Diverged } from "../repository/proven.ts";
import { judgeHistory } from "../repository/lineage.ts";
import { liveHistory } from "../snapshot/backup.ts";
import { lockDocument, lockLines, look } from "./lock.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

/** Looks at the cluster and the repository; fails with the first of the two that cannot be seen, and with 4 when the history is foreign. */
export async function statusCommand(environment: Environment, options: CommonOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const deps = await tools.backup(() => undefined);
  const cluster = await seen(() => observeCluster(deps.etcd, deps.observe, signal));
  const repository = await seen(() => readRepository(tools, cluster.value, signal));
  const lock = repository.value === undefined ? undefined : (await seen(() => look(tools, signal))).value;
  const document = {
    schema: "etcd-lifeboat/status/v1",
    cluster: tools.loaded.config.cluster.name,
    etcd: cluster.value === undefined ? null : describeCluster(cluster.value),
    etcdFault: cluster.fault === undefined ? null : { code: cluster.fault.code, message: cluster.fault.message },
    repository: repository.value ?? null,
    repositoryFault:
      repository.fault === undefined ? null : { code: repository.fault.code, message: repository.fault.message },
    lock: lock === undefined ? null : lockDocument(lock),
  };
  if (options.json === true) printJson(console, document);
  else {
    console.out(statusText(document, tools.clock.now()));
    if (lock !== undefined)
      console.out(
        lockLines(lock)
          .map((line) => `lock: ${line}`)
          .join(""),
      );
  }
  for (const fault of [cluster.fault, repository.fault]) {
    if (fault === undefined) continue;
    console.err(`error: ${escapeControls(fault.message)}\n`);
    if (fault.hint !== undefined) console.err(`hint: ${escapeControls(fault.hint)}\n`);
  }
  if (cluster.fault !== undefined) return cluster.fault.exitStatus;
  if (repository.fault !== undefined) return repository.fault.exitStatus;
  return repository.value?.foreign === null ? 0 : 4;
}

type Seen<T> =
  { readonly value: T; readonly fault?: undefined } | { readonly value?: undefined; readonly fault: Fault };

async function seen<T>(look: () => Promise<T>): Promise<Seen<T>> {
  try {
    return { value: await look() };
  } catch (error) {
    if (!isFault(error) || error.code === "interrupted") throw error;
    return { fault: error };
  }
}

interface RepositoryDocument {
  readonly store: string;
  readonly id: string | null;
  readonly backups: number;
  readonly lineages: number;
  /** Why the live cluster's history is another one; null when it continues, or when the cluster could not be seen. */
  readonly foreign: string | null;
  readonly newest: {
    readonly backup: string;
    readonly lineage: string;
    readonly committedAt: string;
    readonly revision: bigint;
  } | null;
  /** The newest backup that a majority of the voters vouched for. */
  readonly newestProven: {
    readonly backup: string;
    readonly lineage: string;
    readonly committedAt: string;
    readonly revision: bigint;
  } | null;
  /** Members that held other data than the majority when they were last compared. */
  readonly diverged: readonly Diverged[];
}

async function readRepository(
  tools: Tools,
  facts: ClusterFacts | undefined,
  signal: AbortSignal,
): Promise<RepositoryDocument> {
  const store = await tools.store();
  const identity = await readIdentity(store, tools.loaded.config.cluster.name, signal);
  const listing = await listRepository(store, signal);
  const belief = identity === undefined ? undefined : { repository: identity.id, trusted: await tools.trusted() };
  const histories = belief === undefined ? [] : await readHistories(store, listing, belief, tools.clock.now(), signal);
  const newest = histories
    .filter(({ lineage }) => lineage.kind === "live")
    .flatMap((history) => (history.newest === undefined ? [] : [history.newest]))
    .toSorted((a, b) => (a.committedAt < b.committedAt ? 1 : -1))
    .at(0);
  const judgement = facts === undefined ? undefined : judgeHistory(histories, liveHistory(facts));
  const proven = belief === undefined ? undefined : await newestProven(store, listing, listing.backups, belief, signal);
  const diverged = belief === undefined ? [] : await divergedMembers(store, listing, belief, signal);
  return {
    store: store.description,
    id: identity?.id ?? null,
    backups: listing.backups.length,
    lineages: listing.lineages.length,
    foreign: judgement?.kind === "foreign" ? judgement.seen : null,
    newest: newest === undefined ? null : briefly(newest),
    newestProven: proven === undefined ? null : briefly(proven),
    // One that has left the cluster is nobody's trouble any more.
    diverged: diverged.filter(({ member }) => facts?.members.some(({ name }) => name === member) ?? true),
  };
}

function briefly({ backup, lineage, committedAt, content }: Manifest): NonNullable<RepositoryDocument["newest"]> {
  return { backup, lineage, committedAt, revision: content.revision };
}

function describeCluster(facts: ClusterFacts) {
  const { candidates } = chooseSources(facts);
  return {
    clusterId: formatId(facts.clusterId),
    quorum: facts.quorum,
    revision: facts.highestRevision,
    nextSource:
      candidates[0] === undefined ? null : { member: candidates[0].member.name, reason: candidates[0].reason },
    v2: facts.v2,
    alarms: facts.alarms?.map(({ memberId, kind }) => ({ memberId: formatId(memberId), kind })) ?? null,
    findings: facts.findings,
    members: facts.members.map((member) => ({
      id: formatId(member.id),
      name: member.name,
      learner: member.learner,
      up: member.seen.up,
      ...(member.seen.up
        ? {
            url: member.seen.address.url,
            version: member.seen.status.version,
            leader: member.seen.status.leader === member.id,
            revision: member.seen.status.revision,
            dbBytes: member.seen.status.dbBytes,
            dbInUseBytes: member.seen.status.dbInUseBytes ?? null,
            quotaBytes: member.seen.status.quotaBytes ?? null,
            errors: member.seen.status.errors,
          }
        : { fault: member.seen.fault.message }),
    })),
  };
}

function statusText(
  document: {
    readonly cluster: string;
    readonly etcd: ReturnType<typeof describeCluster> | null;
    readonly repository: RepositoryDocument | null;
  },
  nowMs: number,
): string {
  const lines: string[] = [];
  if (document.etcd !== null) {
    const { etcd } = document;
    lines.push(
      `cluster ${document.cluster} (${etcd.clusterId}), revision ${etcd.revision}, ${etcd.quorum ? "quorum" : "NO QUORUM"}\n`,
    );
    lines.push(
      formatTable([
        ["MEMBER", "STATE", "VERSION", "REVISION", "DB", "IN USE", "URL OR REASON"],
        ...etcd.members.map((member) =>
          "fault" in member
            ? [member.name, "DOWN", "", "", "", "", member.fault ?? ""]
            : [
                member.name,
                member.leader ? "leader" : member.learner ? "learner" : "follower",
                member.version,
                member.revision.toString(),
                formatBytes(member.dbBytes),
                member.dbInUseBytes === null ? "unknown" : formatBytes(member.dbInUseBytes),
                member.errors.length === 0 ? member.url : `${member.url} ${member.errors.join("; ")}`,
              ],
        ),
      ]),
    );
    for (const { message } of etcd.findings) lines.push(`finding: ${escapeControls(message)}\n`);
    const next = etcd.nextSource === null ? "none" : `${etcd.nextSource.member} (${etcd.nextSource.reason})`;
    lines.push(`next source: ${escapeControls(next)}\n`);
    lines.push(`v2 content: ${etcd.v2.state} (${escapeControls(etcd.v2.why)})\n`);
  }
  if (document.repository !== null) {
    const { repository } = document;
    lines.push(`repository ${repository.store}: ${repository.backups} backups in ${repository.lineages} lineages\n`);
    if (repository.newest !== null) {
      const age = formatAge(Date.parse(repository.newest.committedAt), nowMs);
      lines.push(`newest backup: ${repository.newest.backup}, ${age}, revision ${repository.newest.revision}\n`);
    }
    if (repository.newestProven !== null) {
      const age = formatAge(Date.parse(repository.newestProven.committedAt), nowMs);
      const { backup, revision } = repository.newestProven;
      lines.push(`newest proven backup: ${backup}, ${age}, revision ${revision}\n`);
    } else if (repository.newest !== null) lines.push("newest proven backup: none\n");
    for (const { member, backup } of repository.diverged) {
      lines.push(`DIVERGED: ${escapeControls(member)} held other data than the majority (${backup}): replace it\n`);
    }
    if (repository.foreign !== null) {
      lines.push(
        `FOREIGN HISTORY: ${escapeControls(repository.foreign)}\nbackups are refused until: etcd-lifeboat adopt\n`,
      );
    }
  }
  return lines.join("");
}
