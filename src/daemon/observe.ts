import type { Clock } from "../clock.ts";
import { observeCluster, type ClusterFacts, type ObserveOptions } from "../cluster/observe.ts";
import type { Etcd } from "../etcd/etcd.ts";
import type { Emit, ObservedMember } from "../events.ts";
import { isFault } from "../faults.ts";
import type { Spool } from "../snapshot/spool.ts";

export interface ObservationDependencies {
  readonly etcd: Etcd;
  readonly observe: ObserveOptions;
  readonly spool: Spool;
  readonly clock: Clock;
  readonly emit: Emit;
}

/** Between two looks; a look is bounded by the members' timeouts and never overlaps the next one. */
const everyMs = 15_000;

/** Looks at the cluster and the spool again and again, for metrics and readiness; trouble is told, never thrown. */
export async function observeForever(deps: ObservationDependencies, signal: AbortSignal): Promise<void> {
  let told: ReadonlySet<string> = new Set();
  for (;;) {
    // Ends when the signal is aborted: the sleep below rejects then.
    const findings = await observeOnce(deps, signal);
    told = tellNew(deps.emit, findings, told);
    try {
      await deps.clock.sleep(everyMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
  }
}

/** One look; returns what an operator should know, and what could not be seen at all. */
async function observeOnce(deps: ObservationDependencies, signal: AbortSignal): Promise<readonly Told[]> {
  const told: Told[] = [];
  try {
    const facts = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
    deps.emit({
      name: "cluster.observed",
      members: facts.members.map((member) => describe(member, facts)),
      quorum: facts.quorum,
    });
    told.push(...facts.findings);
  } catch (error) {
    if (!isFault(error)) throw error;
    if (!signal.aborted) deps.emit({ name: "cluster.unobserved", code: error.code, message: error.message });
  }
  try {
    deps.emit({ name: "spool.observed", ...(await deps.spool.space()) });
  } catch (error) {
    if (!isFault(error)) throw error;
    told.push({ about: "spool", message: error.message });
  }
  return told;
}

interface Told {
  readonly about: string;
  readonly message: string;
}

/** A finding is told when it appears, and again only after it was gone. */
function tellNew(emit: Emit, findings: readonly Told[], told: ReadonlySet<string>): ReadonlySet<string> {
  for (const { about, message } of findings) {
    if (!told.has(message)) emit({ name: "warning", about, message });
  }
  return new Set(findings.map(({ message }) => message));
}

function describe(member: ClusterFacts["members"][number], facts: ClusterFacts): ObservedMember {
  const { name, seen } = member;
  if (!seen.up) return { member: name, up: false, code: seen.fault.code, message: seen.fault.message };
  const { status } = seen;
  return {
    member: name,
    up: true,
    leader: status.leader === member.id,
    learner: status.learner,
    version: status.version,
    revision: status.revision,
    dbBytes: status.dbBytes,
    dbInUseBytes: status.dbInUseBytes,
    quotaBytes: status.quotaBytes,
    alarms: (facts.alarms ?? []).filter(({ memberId }) => memberId === member.id).map(({ kind }) => kind),
  };
}
