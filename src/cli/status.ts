import { chooseSources } from "../cluster/choose.ts";
import type { ClusterFacts } from "../cluster/observe.ts";
import { escapeControls, formatAge, formatBytes, formatDuration, formatTime } from "../format.ts";
import type { Fault } from "../faults.ts";
import { formatId, formatInstant } from "../repository/documents.ts";
import type { Manifest } from "../repository/manifest.ts";
import { lockDocument, lockLines } from "./lock.ts";
import { readOverview, type CopyFacts, type Overview, type RepositoryFacts, type ScheduleFacts } from "./overview.ts";
import { formatTable } from "./table.ts";
import { printJson, type CommonOptions, type Environment } from "./tools.ts";
import { findTroubles, toleranceOf, usualLimits, type Trouble } from "./troubles.ts";

/** Looks at the cluster and the repository; fails with the first of the two that cannot be seen, and with 4 when the history is foreign. */
export async function statusCommand(environment: Environment, options: CommonOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const overview = await readOverview(tools, { brief: false }, signal);
  const { cluster, repository } = overview;
  const document = documentOf(overview, tools.loaded.config.cluster.name);
  if (options.json === true) printJson(console, document);
  else console.out(statusText(overview, document));
  for (const fault of [cluster.fault, repository.fault]) {
    if (fault === undefined) continue;
    console.err(`error: ${escapeControls(fault.message)}\n`);
    if (fault.hint !== undefined) console.err(`hint: ${escapeControls(fault.hint)}\n`);
  }
  if (cluster.fault !== undefined) return cluster.fault.exitStatus;
  if (repository.fault !== undefined) return repository.fault.exitStatus;
  return repository.value.foreign === undefined ? 0 : 4;
}

function documentOf(overview: Overview, name: string) {
  const { cluster, repository, lock, schedules, spool, copies, retention } = overview;
  return {
    schema: "etcd-lifeboat/status/v1",
    cluster: name,
    restorable: judgeRestorable(overview),
    troubles: findTroubles(overview, ({ intervalMs }) => usualLimits(intervalMs)),
    etcd: cluster.value === undefined ? null : describeCluster(cluster.value),
    etcdFault: describeFault(cluster.fault),
    repository: repository.value === undefined ? null : describeRepository(repository.value),
    repositoryFault: describeFault(repository.fault),
    lock: lock === undefined ? null : lockDocument(lock),
    schedules: schedules.map(describeSchedule),
    spool: spool ?? null,
    copies: copies.map(describeCopy),
    retention: retention ?? null,
  };
}

type StatusDocument = ReturnType<typeof documentOf>;

function describeFault(fault: Fault | undefined): { readonly code: string; readonly message: string } | null {
  return fault === undefined ? null : { code: fault.code, message: fault.message };
}

/** Whether what the cluster holds now could be had back, and from when on that is so. */
interface Restorable {
  /** `old`: there is a backup, and more than the schedules allow came after it. */
  readonly verdict: "yes" | "old" | "no" | "unknown";
  /** `yes`: the oldest backup of this history; `old`: when the newest became too old. */
  readonly since: string | null;
  readonly backup: string | null;
  readonly proven: boolean | null;
  /** How many revisions of the cluster are not in that backup. */
  readonly revisionsBehind: bigint | null;
}

function judgeRestorable({ cluster, repository, schedules, nowMs }: Overview): Restorable {
  const nothing = { since: null, backup: null, proven: null, revisionsBehind: null };
  if (repository.value === undefined) return { verdict: "unknown", ...nothing };
  const { newest, newestProven, foreign, oldestMs } = repository.value;
  if (newest === undefined || foreign !== undefined) return { verdict: "no", ...nothing };
  const limits = schedules.flatMap(({ intervalMs }) => usualLimits(intervalMs).criticalMs ?? []);
  const tooOldMs = Date.parse(newest.committedAt) + Math.min(Infinity, ...limits);
  const live = cluster.value?.highestRevision;
  const old = nowMs > tooOldMs;
  const sinceMs = old ? tooOldMs : oldestMs;
  return {
    verdict: old ? "old" : "yes",
    since: sinceMs === undefined ? null : formatInstant(sinceMs),
    backup: newest.backup,
    proven: newest.backup === newestProven?.backup && newest.lineage === newestProven.lineage,
    revisionsBehind: live === undefined || live < newest.content.revision ? null : live - newest.content.revision,
  };
}

function describeRepository({ newest, newestProven, ...others }: RepositoryFacts) {
  const { store, id, backups, lineages, foreign, diverged } = others;
  return {
    store,
    id: id ?? null,
    backups,
    lineages,
    foreign: foreign ?? null,
    newest: newest === undefined ? null : briefly(newest),
    newestProven: newestProven === undefined ? null : briefly(newestProven),
    diverged,
  };
}

function briefly({ backup, lineage, committedAt, content }: Manifest) {
  return { backup, lineage, committedAt, revision: content.revision };
}

function describeSchedule({ name, intervalMs, committedMs, provenMs, due, nextMs }: ScheduleFacts) {
  const at = (timeMs: number | undefined): string | null => (timeMs === undefined ? null : formatInstant(timeMs));
  return {
    name,
    intervalMs: intervalMs ?? null,
    committedAt: at(committedMs),
    provenAt: at(provenMs),
    overdueAfterMs: usualLimits(intervalMs).criticalMs ?? null,
    due,
    next: at(nextMs),
  };
}

function describeCopy({ name, store, compared: { value, fault } }: CopyFacts) {
  return {
    name,
    store,
    backups: value?.backups ?? null,
    missing: value?.missing ?? null,
    differing: value?.differing ?? null,
    schedules: [...(value?.committedMs ?? [])].map(([schedule, timeMs]) => ({
      schedule,
      committedAt: timeMs === undefined ? null : formatInstant(timeMs),
    })),
    fault: describeFault(fault),
  };
}

function describeCluster(facts: ClusterFacts) {
  const { candidates } = chooseSources(facts);
  const { advice, ...tolerance } = toleranceOf(facts);
  return {
    clusterId: formatId(facts.clusterId),
    quorum: facts.quorum,
    revision: facts.highestRevision,
    tolerance: { ...tolerance, advice: advice ?? null },
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

function statusText(overview: Overview, document: StatusDocument): string {
  const { nowMs, lock } = overview;
  return [
    ...restorableLines(document.restorable, document.repository, nowMs),
    ...troubleLines(document.troubles),
    ...clusterLines(document),
    ...repositoryLines(document.repository, nowMs),
    ...scheduleLines(overview),
    ...copyLines(overview),
    ...hostLines(overview),
    ...(lock === undefined ? [] : lockLines(lock).map((line) => `lock: ${line}`)),
  ].join("");
}

function restorableLines(
  { verdict, since, proven, revisionsBehind }: Restorable,
  repository: StatusDocument["repository"],
  nowMs: number,
): readonly string[] {
  if (verdict === "unknown") return ["RESTORABLE? not known: the repository cannot be read\n"];
  const newest = repository?.newest ?? null;
  if (verdict === "no" || newest === null) {
    return [
      `NOT RESTORABLE: there is no backup of ${newest === null ? "this cluster" : "the cluster's present history"}\n`,
    ];
  }
  const age = formatAge(Date.parse(newest.committedAt), nowMs);
  const behind = revisionsBehind === null ? "" : `, ${revisionsBehind} revisions behind the cluster`;
  const what = `${newest.backup}, ${age}, ${proven === true ? "proven" : "not proven"}${behind}`;
  const from = since === null ? "" : formatTime(Date.parse(since));
  return verdict === "yes"
    ? [`RESTORABLE: ${what}; backups since ${from}\n`]
    : [`RESTORABLE, BUT OLD since ${from}: ${what}\n`];
}

function troubleLines(troubles: readonly Trouble[]): readonly string[] {
  if (troubles.length === 0) return ["nothing is wrong\n\n"];
  return [
    "\n",
    formatTable([
      ["WRONG", "ABOUT", "WHAT", "HELPS"],
      ...troubles.map(({ severity, about, message, help }) => [severity.toUpperCase(), about, message, help]),
    ]),
    "\n",
  ];
}

function clusterLines({ cluster, etcd }: StatusDocument): readonly string[] {
  if (etcd === null) return [];
  const { votersUp, voters, tolerates, advice } = etcd.tolerance;
  const next = etcd.nextSource === null ? "none" : `${etcd.nextSource.member} (${etcd.nextSource.reason})`;
  return [
    `cluster ${cluster} (${etcd.clusterId}), revision ${etcd.revision}, ${etcd.quorum ? "quorum" : "NO QUORUM"}\n`,
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
    `failures: ${votersUp} of ${voters} voters answer, and ${tolerates === 0 ? "no further failure is" : `${tolerates} more may fail: that is`} survived\n`,
    ...(advice === null ? [] : [`voters: ${escapeControls(advice)}\n`]),
    ...etcd.findings.map(({ message }) => `finding: ${escapeControls(message)}\n`),
    `next source: ${escapeControls(next)}\n`,
    `v2 content: ${etcd.v2.state} (${escapeControls(etcd.v2.why)})\n`,
  ];
}

function repositoryLines(repository: StatusDocument["repository"], nowMs: number): readonly string[] {
  if (repository === null) return [];
  const { newest, newestProven, foreign } = repository;
  const lines = [`repository ${repository.store}: ${repository.backups} backups in ${repository.lineages} lineages\n`];
  const one = (what: string, { backup, committedAt, revision }: NonNullable<typeof newest>): string =>
    `${what}: ${backup}, ${formatAge(Date.parse(committedAt), nowMs)}, revision ${revision}\n`;
  if (newest !== null) lines.push(one("newest backup", newest));
  if (newestProven !== null) lines.push(one("newest proven backup", newestProven));
  else if (newest !== null) lines.push("newest proven backup: none\n");
  for (const { member, backup } of repository.diverged) {
    lines.push(`DIVERGED: ${escapeControls(member)} held other data than the majority (${backup}): replace it\n`);
  }
  if (foreign !== null) {
    lines.push(`FOREIGN HISTORY: ${escapeControls(foreign)}\nbackups are refused until: etcd-lifeboat adopt\n`);
  }
  return lines;
}

function scheduleLines({ schedules, nowMs }: Overview): readonly string[] {
  if (schedules.length === 0) return ["schedules: none; backups are taken by the command backup alone\n"];
  const age = (timeMs: number | undefined): string => (timeMs === undefined ? "none" : formatAge(timeMs, nowMs));
  return [
    formatTable([
      ["SCHEDULE", "NEWEST", "PROVEN", "EVERY", "NEXT"],
      ...schedules.map(({ name, intervalMs, committedMs, provenMs, due, nextMs }) => [
        name,
        age(committedMs),
        age(provenMs),
        intervalMs === undefined ? "" : formatDuration(intervalMs),
        due ? "due" : nextMs === undefined ? "never" : `${formatTime(nextMs)} (${formatAge(nextMs, nowMs)})`,
      ]),
    ]),
  ];
}

function copyLines({ copies, nowMs }: Overview): readonly string[] {
  if (copies.length === 0) return [];
  const newest = (committedMs: ReadonlyMap<string, number | undefined>): string => {
    const known = [...committedMs.values()].flatMap((timeMs) => timeMs ?? []);
    return known.length === 0 ? "none" : formatAge(Math.max(...known), nowMs);
  };
  return [
    formatTable([
      ["COPY", "BACKUPS", "NOT THERE", "NEWEST", "STORE OR REASON"],
      ...copies.map(({ name, store, compared: { value, fault } }) =>
        value === undefined
          ? [name, "", "", "", fault?.message ?? "nothing to copy yet"]
          : [name, String(value.backups), String(value.missing), newest(value.committedMs), store],
      ),
    ]),
  ];
}

/** So many names are told; the command expire tells all. */
const namesShown = 3;

function hostLines({ spool, retention }: Overview): readonly string[] {
  const lines: string[] = [];
  if (spool !== undefined) {
    const { directory, freeBytes, sizeBytes } = spool;
    lines.push(`spool ${escapeControls(directory)}: ${formatBytes(freeBytes)} of ${formatBytes(sizeBytes)} free\n`);
  }
  if (retention !== undefined) {
    const { kept, storedBytes, going, goingBytes, automatic, pinned } = retention;
    const pins = pinned === 0 ? "" : `, ${pinned} of all pinned`;
    lines.push(`retention: ${kept} backups stay (${formatBytes(storedBytes)})${pins}\n`);
    if (going.length > 0) {
      const names = going.slice(0, namesShown).join(", ");
      const more = going.length > namesShown ? ` and ${going.length - namesShown} more` : "";
      const who = automatic ? "the daemon removes them" : "remove them: etcd-lifeboat expire --yes";
      lines.push(`retention: ${going.length} go next (${formatBytes(goingBytes)}): ${names}${more}; ${who}\n`);
    }
  }
  return lines;
}
