import type { JsonObject, RunbookPlan, RunbookStep } from "../runbook/runbook.ts";
import type { EtcdHostFacts, HookPhase, HostFacts, RestoreFacts, RestoreRequest, ServiceFacts } from "./facts.ts";
import { replaced } from "./aside-names.ts";
import { isMoved, type TargetMember } from "./choose.ts";
import { isToRun, type Preflight } from "./gates.ts";

/**
 * The steps of a restore, each a condition that shall become true. Pure: what `--plan` prints is what a run does. Everything that can fail without touching the
 * cluster comes first; from the first stopped service on, each step says until when it must hold, and knows its way back. Hooks run also where no API server is
 * described: they may be what stops and starts them.
 */
export function planRestore(facts: RestoreFacts, request: RestoreRequest, preflight: Preflight): RunbookPlan {
  const carriers = preflight.targets.flatMap((target): Carrier[] => {
    const host = facts.hosts.find(({ name }) => name === target.host);
    return host?.etcd === undefined ? [] : [{ target, etcd: host.etcd }];
  });
  const order = stopOrder(facts.hosts);
  const hook = (phase: HookPhase): readonly RunbookStep[] => (request.hooks.includes(phase) ? [hookStep(phase)] : []);
  return {
    schema: "etcd-lifeboat/plan/v1",
    operation: "restore",
    id: request.id,
    cluster: facts.cluster,
    createdAt: facts.now,
    facts: planFacts(facts, request, preflight),
    warnings: preflight.warnings,
    steps: [
      ...prepare(facts, request, carriers),
      ...hook("before-stop-api-servers"),
      ...order.map(stopService),
      ...hook("after-stop-api-servers"),
      quietStep(facts, request),
      ...hook("before-stop-etcd"),
      ...carriers.map((carrier) => stopEtcd(carrier)),
      ...hook("after-stop-etcd"),
      revisionStep(preflight),
      ...(request.lineage === undefined ? [] : [lineageStep(request.lineage)]),
      ...carriers.map((carrier) => swapStep(carrier, request.id)),
      ...hook("before-start-etcd"),
      ...carriers.map((carrier) => startEtcd(carrier)),
      healthyStep(),
      ...hook("after-start-etcd"),
      ...hook("before-start-api-servers"),
      ...startOrder(facts.hosts).map(startService),
      ...hook("after-start-api-servers"),
      ...finish(request),
    ],
  };
}

/** How long a restore is expected to keep from work what it stops, by steps that are done one after another. */
export function expectAway({ steps }: Pick<RunbookPlan, "steps">): {
  readonly what: "API servers" | "services" | "etcd";
  /** Steps of the plan. */
  readonly from: string;
  readonly until: string;
  readonly durationMs: number;
} {
  const stopped = steps.filter(({ kind }) => kind === "stop-service");
  const first = stopped[0] ?? steps.find(({ kind }) => kind === "stop-etcd");
  const last = steps.find(({ kind, args }) => kind === "start-service" && args["runs"] === true);
  const [from, until] = [first?.id ?? "", last?.id ?? "healthy"];
  const between = steps.slice(
    steps.findIndex(({ id }) => id === from),
    steps.findIndex(({ id }) => id === until) + 1,
  );
  // What is done at once takes as long as its longest.
  const groups = new Map<string, number>();
  for (const { id, phase, group, expectedMs = 0 } of between) {
    const key = group === undefined ? id : `${phase} ${group}`;
    groups.set(key, Math.max(groups.get(key) ?? 0, expectedMs));
  }
  const isApi = stopped.some(({ group }) => group?.startsWith("stop-api-server-") === true);
  return {
    what: isApi ? "API servers" : stopped.length > 0 ? "services" : "etcd",
    from,
    until,
    durationMs: [...groups.values()].reduce((sum, ms) => sum + ms, 0),
  };
}

interface Carrier {
  readonly target: TargetMember;
  readonly etcd: EtcdHostFacts;
}

function prepare(facts: RestoreFacts, request: RestoreRequest, carriers: readonly Carrier[]): readonly RunbookStep[] {
  const { source } = facts;
  const answering = facts.live?.members.some(({ up }) => up) === true;
  const steps: RunbookStep[] = [
    {
      id: "fetch",
      kind: "fetch",
      phase: "prepare",
      title: `${source.name} is on this machine, whole, and the same as when this was planned`,
      args: {},
      harmless: true,
    },
    {
      id: "build",
      kind: "build",
      phase: "prepare",
      title: `a new data directory for each of ${carriers.map(({ target }) => target.name).join(", ")} is built and checked`,
      args: {},
      harmless: true,
    },
  ];
  if (request.lineage !== undefined) {
    steps.unshift({
      id: "lock",
      kind: "lock",
      phase: "prepare",
      title: "the operation lock is ours; backups and expiry wait",
      args: {},
      holdsUntil: "unlock",
    });
  }
  if (answering && request.lineage !== undefined) {
    steps.push({
      id: "safety-backup",
      kind: "safety-backup",
      phase: "prepare",
      // One reads from members what the other writes beside their data: neither waits for the other.
      group: "place",
      title: "what the cluster holds now is backed up once more, if a member can give it",
      args: {},
      harmless: true,
    });
  }
  for (const { target, etcd } of carriers) {
    steps.push({
      id: `place.${target.host}`,
      kind: "place",
      phase: "prepare",
      host: target.host,
      group: "place",
      title: `the new data of ${target.name} is on ${target.host}${etcd.hasMember ? ", beside the old," : ""} and reads back as it was built`,
      args: { ...directories(etcd, request.id), member: target.name },
    });
  }
  return steps;
}

/** Where the data of one member is, was, and will be: all names in its own directories, so that a rename is enough. */
function directories(etcd: EtcdHostFacts, id: string): JsonObject {
  return {
    data: etcd.dataDirectory,
    ...(etcd.walDirectory !== undefined && { wal: etcd.walDirectory }),
    newName: `restore-${id}`,
    oldName: `${replaced}${id}`,
    hadMember: etcd.hasMember,
    uid: etcd.owner?.uid ?? 0,
    gid: etcd.owner?.gid ?? 0,
  };
}

interface Placed {
  readonly host: string;
  readonly service: ServiceFacts;
  /** Position within its host's services of the same role. */
  readonly rank: number;
}

/** Controllers act on what API servers say, API servers on what etcd says: the last word is silenced last. */
const stopRoles = ["controller", "api-server", "client"] as const;

function stopOrder(hosts: readonly HostFacts[]): readonly Placed[] {
  return stopRoles.flatMap((role) => ofRole(hosts, role).toSorted((a, b) => a.rank - b.rank));
}

/** In reverse. The first API server alone: whether it can serve from what was restored is seen on one, not on all. */
function startOrder(hosts: readonly HostFacts[]): readonly (Placed & { readonly first: boolean })[] {
  const order = stopRoles.toReversed().flatMap((role) => ofRole(hosts, role).toSorted((a, b) => b.rank - a.rank));
  const first = order.find(({ service }) => service.role === "api-server" && isToRun(service));
  return order.map((placed) => ({ ...placed, first: placed === first }));
}

function ofRole(hosts: readonly HostFacts[], role: ServiceFacts["role"]): readonly Placed[] {
  return hosts.flatMap(({ name, services }) =>
    services.filter((service) => service.role === role).map((service, rank) => ({ host: name, service, rank })),
  );
}

function stopService({ host, service, rank }: Placed): RunbookStep {
  return {
    id: `stop.${host}.${service.name}`,
    kind: "stop-service",
    phase: "stop",
    host,
    group: `stop-${service.role}-${rank}`,
    title: `${service.name} on ${host} is stopped and stays so`,
    args: {
      service: service.name,
      way: service.way,
      wasRunning: service.running,
      runs: isToRun(service),
      boots: service.boots,
    },
    holdsUntil: `start.${host}.${service.name}`,
    expectedMs: service.role === "api-server" ? 65_000 : 5_000,
  };
}

function startService({ host, service, rank, first }: Placed & { readonly first: boolean }): RunbookStep {
  return {
    id: `start.${host}.${service.name}`,
    kind: "start-service",
    phase: "start",
    host,
    ...(!first && { group: `start-${service.role}-${rank}` }),
    title: isToRun(service)
      ? `${service.name} on ${host} runs${service.tellsReady ? " and is ready" : ""}`
      : `${service.name} on ${host} is as it was found: disabled, and not running`,
    args: { service: service.name, runs: isToRun(service) },
    expectedMs: service.role === "api-server" ? 10_000 : 2_000,
  };
}

function quietStep(facts: RestoreFacts, { quietMs }: RestoreRequest): RunbookStep {
  const answering = facts.live?.members.some(({ up }) => up) === true;
  return {
    id: "quiet",
    kind: "quiet",
    phase: "stop",
    title: answering
      ? `no client talks to etcd any more: its own counters show none for ${quietMs / 1000} s`
      : "no client talks to etcd any more",
    args: { quietMs, hadQuorum: facts.live?.quorum === true },
    harmless: true,
    // Until the data is moved, which needs that no etcd runs: a later process proves it again.
    holdsUntil: "healthy",
    ...(answering && { expectedMs: quietMs }),
  };
}

function stopEtcd({ target, etcd }: Carrier): RunbookStep {
  return {
    id: `stop-etcd.${target.host}`,
    kind: "stop-etcd",
    phase: "replace",
    host: target.host,
    group: "stop-etcd",
    title: `etcd on ${target.host} is stopped and stays so`,
    args: {
      data: etcd.dataDirectory,
      way: etcd.service.way,
      wasRunning: etcd.service.running,
      boots: etcd.service.boots,
    },
    holdsUntil: `start-etcd.${target.host}`,
    expectedMs: 8_000,
  };
}

/** Members that could not be asked, and writes since the plan: their own files tell. */
function revisionStep({ first }: Preflight): RunbookStep {
  return {
    id: "revision",
    kind: "revision",
    phase: "replace",
    title: `no stopped member has come to revision ${first.revision}, at which the restored cluster starts`,
    args: {},
    harmless: true,
  };
}

function lineageStep(lineage: string): RunbookStep {
  return {
    id: "lineage",
    kind: "lineage",
    phase: "replace",
    title: "the repository knows the new history, so that later backups belong to it",
    args: { lineage },
  };
}

function swapStep({ target, etcd }: Carrier, id: string): RunbookStep {
  return {
    id: `swap.${target.host}`,
    kind: "swap",
    phase: "replace",
    host: target.host,
    group: "swap",
    title: etcd.hasMember
      ? `the old data of ${target.name} is renamed, and the new is in its place`
      : `the new data of ${target.name} is in its place`,
    args: { ...directories(etcd, id), member: target.name },
    holdsUntil: "healthy",
    expectedMs: 1_000,
  };
}

function startEtcd({ target, etcd }: Carrier): RunbookStep {
  return {
    id: `start-etcd.${target.host}`,
    kind: "start-etcd",
    phase: "replace",
    host: target.host,
    group: "start-etcd",
    title: `etcd on ${target.host} runs on the restored data`,
    args: { data: etcd.dataDirectory, member: target.name },
    expectedMs: 3_000,
  };
}

function healthyStep(): RunbookStep {
  return {
    id: "healthy",
    kind: "healthy",
    phase: "replace",
    title: "etcd has one leader and exactly these members, and by HashKV each holds what was restored",
    args: {},
    harmless: true,
    expectedMs: 5_000,
  };
}

function hookStep(phase: HookPhase): RunbookStep {
  return {
    id: `hook.${phase}`,
    kind: "hook",
    phase: "hooks",
    title: `the hook ${phase} has run`,
    args: { hook: phase },
  };
}

function finish(request: RestoreRequest): readonly RunbookStep[] {
  if (request.lineage === undefined) return [];
  return [
    {
      id: "first-backup",
      kind: "first-backup",
      phase: "finish",
      title: "the restored cluster has a backup of its own",
      args: {},
      harmless: true,
    },
    { id: "unlock", kind: "unlock", phase: "finish", title: "the operation lock is released", args: {} },
  ];
}

/** What people read above the steps, and what the steps need to be done again by another process. Never a secret. */
function planFacts(facts: RestoreFacts, request: RestoreRequest, preflight: Preflight): JsonObject {
  const { source, live, login } = facts;
  return {
    source: {
      kind: source.kind,
      name: source.name,
      revision: source.revision.toString(),
      sha256: source.sha256,
      dbBytes: source.dbBytes,
      ...(source.takenMs !== undefined && { takenMs: source.takenMs }),
      alarms: source.alarms.map(({ memberId, kind }) => ({ memberId: memberId.toString(16), kind })),
      authEnabled: source.authEnabled,
      authRevision: facts.login.proof?.authRevision.toString() ?? null,
      downgrade: source.downgradeTarget ?? null,
    },
    lost: preflight.lost,
    first: {
      revision: preflight.first.revision.toString(),
      bump: preflight.first.bump.toString(),
      why: preflight.first.why,
    },
    token: request.token,
    repository: request.repository ?? null,
    ...(request.withoutRepository && { withoutRepository: true }),
    lineage: request.lineage ?? null,
    parent: source.lineage ?? null,
    asNew: request.asNew,
    minor: preflight.minor ?? "",
    builder: request.builder,
    /** Who is given for the time after the start alone; undefined for who is configured. */
    ...(login.by === "given" && { login: { username: login.username ?? "", passwordFile: login.passwordFile ?? "" } }),
    members: preflight.targets.map(({ host, name, peerUrls }) => ({ host, name, peerUrls })),
    old:
      live === undefined
        ? null
        : {
            clusterId: live.clusterId.toString(16),
            members: live.members.map(({ name, clientUrls, up }) => ({ name, clientUrls, up })),
          },
    clientUrls: preflight.targets.map(({ name, peerUrls }) => ({ name, urls: clientUrlsOf(facts, name, peerUrls) })),
    /** A run looks again, and goes on only when it sees the same. */
    seen: fingerprint(facts),
  };
}

/** As they are, or were; of a member that does not run and is somewhere else than the backup's, only the configuration knows them. */
function clientUrlsOf({ live, source }: RestoreFacts, member: string, peerUrls: readonly string[]): readonly string[] {
  const found = (live ?? source).members.find(({ name }) => name === member);
  return found === undefined || (live === undefined && isMoved(peerUrls, found)) ? [] : found.clientUrls;
}

/** What must not have changed between a plan that was read and its run; revisions and times do, and are looked at apart. */
export function fingerprint({ source, live, hosts }: RestoreFacts): JsonObject {
  return {
    source: source.sha256,
    live:
      live === undefined
        ? null
        : {
            clusterId: live.clusterId.toString(16),
            members: live.members.map(({ id, name, peerUrls, up }) => ({
              id: id.toString(16),
              name,
              peerUrls: peerUrls.toSorted(),
              // Whether others are back decides whether a survivor may still be taken.
              ...(source.kind === "member" && { up }),
            })),
            quorum: live.quorum,
          },
    hosts: hosts.map(({ name, etcd, services }) => ({
      name,
      member: etcd?.member ?? null,
      data: etcd?.dataDirectory ?? null,
      wal: etcd?.walDirectory ?? null,
      hasMember: etcd?.hasMember ?? false,
      etcd: etcd?.service.running ?? null,
      services: [...services, ...(etcd === undefined ? [] : [etcd.service])].map((service) => ({
        name: service.name,
        way: service.way,
        // Whether it runs at this very moment is chance, while etcd is dead and everything above it falls over again and again.
        runs: isToRun(service),
        heldBy: service.heldBy ?? null,
        canHold: service.canHold,
        boots: service.boots,
      })),
    })),
  };
}
