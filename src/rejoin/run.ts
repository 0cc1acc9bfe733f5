import { observeCluster } from "../cluster/observe.ts";
import { Fault, isFault } from "../faults.ts";
import { HostWork } from "../restore/host-work.ts";
import { observeHost } from "../restore/observe.ts";
import type { HostDependencies } from "../restore/restore.ts";
import { execute } from "../runbook/execute.ts";
import type { Journal } from "../runbook/journal.ts";
import type { JsonObject, Outcome, RunbookMode, RunbookPlan } from "../runbook/runbook.ts";
import type { RejoinFacts, RejoinRequest } from "./facts.ts";
import { judgeRejoin, type RejoinVerdict } from "./gates.ts";
import { fingerprint, planRejoin } from "./plan.ts";
import { refuseLateRollback, rejoinSteps } from "./steps.ts";

/** One member's way out and in again, looked at from all sides with nothing touched. */
export interface PreparedRejoin {
  readonly facts: RejoinFacts;
  readonly verdict: RejoinVerdict;
  /** Undefined when it was refused. */
  readonly plan: RunbookPlan | undefined;
}

/** Rejects with etcd's faults when nobody gives a member list. */
export async function prepareRejoin(
  deps: HostDependencies,
  request: RejoinRequest,
  signal: AbortSignal,
): Promise<PreparedRejoin> {
  const facts = await observeRejoin(deps, request, signal);
  const verdict = judgeRejoin(facts, request);
  const { refusals, target } = verdict;
  const plan = refusals.length > 0 || target === undefined ? undefined : planRejoin(facts, request, verdict, target);
  return { facts, verdict, plan };
}

async function observeRejoin(
  deps: HostDependencies,
  { member }: RejoinRequest,
  signal: AbortSignal,
): Promise<RejoinFacts> {
  const { clusterId, quorum, members } = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
  const carrier = deps.hosts.find(({ etcd }) => etcd?.member === member);
  const wal = carrier?.etcd?.walDirectory;
  const host = carrier === undefined ? undefined : await observeHost(carrier, deps.clock, undefined, signal);
  const walFacts = wal === undefined || host?.fault !== undefined ? undefined : await carrier?.host.stat(wal, signal);
  return {
    cluster: deps.cluster,
    now: new Date(deps.clock.now()).toISOString(),
    clusterId,
    quorum,
    members: members.map(({ id, name, peerUrls, learner, seen }) => ({
      id,
      name,
      peerUrls,
      learner,
      up: seen.up,
      version: seen.up ? seen.status.version : undefined,
    })),
    host,
    joining: await observeJoining(carrier, signal),
    walIsMountPoint: walFacts?.isMountPoint === true,
  };
}

async function observeJoining(
  carrier: HostDependencies["hosts"][number] | undefined,
  signal: AbortSignal,
): Promise<RejoinFacts["joining"]> {
  const joining = carrier?.etcd?.service.joining;
  if (joining === undefined) {
    return {
      fault: `nothing tells how etcd on ${carrier?.host.name ?? "its host"} is made to join a cluster that runs`,
      hint: "set hosts.NAME.etcd.environmentFile to the file with its ETCD_ variables, or give its commands a join",
    };
  }
  try {
    return { how: await joining.describe(signal) };
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    return { fault: error.message, hint: error.hint ?? "" };
  }
}

/** Looks again just before a run, and refuses a plan that was made for another state of things. */
export async function refuseStaleRejoin(
  deps: HostDependencies,
  request: RejoinRequest,
  { facts }: PreparedRejoin,
  signal: AbortSignal,
): Promise<void> {
  const now = await observeRejoin(deps, request, signal);
  if (JSON.stringify(fingerprint(now)) === JSON.stringify(fingerprint(facts))) return;
  throw new Fault("plan-stale", "the cluster or its hosts are not what they were when this plan was made", {
    hint: "plan again: etcd-lifeboat restore-member --plan",
  });
}

/** Executes the plan of a journal: forward, or back while the member was not removed. Rejects as `execute` does; the lock stays held then. */
export async function executeRejoin(
  deps: HostDependencies,
  journal: Journal,
  mode: RunbookMode,
  onFailure: (facts: JsonObject) => Promise<void>,
  signal: AbortSignal,
): Promise<Outcome> {
  const work = new HostWork(deps, journal.plan);
  const { hosts, emit, clock, failpoint } = deps;
  try {
    return await execute(
      journal,
      mode,
      {
        handlers: rejoinSteps(work),
        emit,
        clock,
        failpoint,
        bootId: async (name, stop) => (await hosts.find(({ host }) => host.name === name)?.host.facts(stop))?.bootId,
        mayRollBack: async (_results, stop) => await refuseLateRollback(work, stop),
      },
      AbortSignal.any([signal, work.lost]),
    );
  } catch (error) {
    await work.abandon();
    if (isFault(error, "runbook-stopped")) {
      const { id, cluster, operation } = journal.plan;
      await onFailure({ operation, id, cluster, message: error.message });
    }
    throw error;
  }
}
