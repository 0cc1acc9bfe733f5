import type { Clock } from "../clock.ts";
import { observeCluster, type ClusterFacts, type ObserveOptions } from "../cluster/observe.ts";
import type { Etcd } from "../etcd/etcd.ts";
import type { Emit, ObservedMember } from "../events.ts";
import { isFault } from "../faults.ts";
import { openDiskLook, type DiskReaders, type WatchedDisk } from "./disks.ts";
import { openForecast, type Forecast } from "./forecast.ts";
import { openProber, type Prober } from "./probe.ts";

export interface ObservationDependencies {
  readonly etcd: Etcd;
  readonly observe: ObserveOptions;
  /** Those of the spool and of the members that run on this machine. */
  readonly disks: readonly WatchedDisk[];
  readonly readDisks?: DiskReaders;
  /** True while nothing may be asked that etcd counts as a client's call; looked at before each look. */
  readonly hushed: () => boolean;
  readonly clock: Clock;
  readonly emit: Emit;
}

/** Between two looks; a look is bounded by the members' timeouts and never overlaps the next one. */
const everyMs = 15_000;

/**
 * Looks at the cluster, at each of its members and at the disks again and again, for metrics and readiness. Each has a loop of its own: nothing waits for a
 * sick member, or for a disk that hangs. Trouble is told, never thrown.
 */
export async function observeForever(deps: ObservationDependencies, signal: AbortSignal): Promise<void> {
  const forecast = openForecast();
  const lookAtDisks = openDiskLook({ ...deps, forecast, ...(deps.readDisks && { read: deps.readDisks }) });
  await using prober = openProber(deps);
  await Promise.all([
    again(deps, signal, () => observeOnce(deps, prober, forecast, signal)),
    again(deps, signal, async () => (await lookAtDisks(signal)).map((message) => ({ about: "disk", message }))),
    again(deps, signal, () => lookAtCertificates(deps)),
  ]);
}

/** Looks, tells what is new, and sleeps, until the signal is aborted. */
async function again(
  { clock, emit }: ObservationDependencies,
  signal: AbortSignal,
  look: () => Promise<readonly Told[]>,
): Promise<void> {
  let told: ReadonlySet<string> = new Set();
  while (!signal.aborted) {
    try {
      told = tellNew(emit, await look(), told);
      await clock.sleep(everyMs, signal);
    } catch (error) {
      if (!signal.aborted || !isFault(error)) throw error;
    }
  }
}

/** One look at the cluster; returns what an operator should know. */
async function observeOnce(
  deps: ObservationDependencies,
  prober: Prober,
  forecast: Forecast,
  signal: AbortSignal,
): Promise<readonly Told[]> {
  try {
    const options = { ...deps.observe, brief: true, withoutReads: deps.hushed() };
    const facts = await observeCluster(deps.etcd, options, signal);
    const members = facts.members.map((member) => describe(member, facts, prober.quotaBytes(member.name)));
    deps.emit({
      name: "cluster.observed",
      members: members.map((member) => foresee(member, forecast, deps.clock.now())),
      quorum: facts.quorum,
    });
    prober.follow(facts);
    return facts.findings;
  } catch (error) {
    if (!isFault(error)) throw error;
    if (!signal.aborted) deps.emit({ name: "cluster.unobserved", code: error.code, message: error.message });
    return [];
  }
}

/** How long our own certificates are valid still. Files that cannot be read are what etcd's trouble says, and nothing is known of them. */
async function lookAtCertificates({ etcd, emit }: ObservationDependencies): Promise<readonly Told[]> {
  try {
    const { client, ca } = await etcd.certificates();
    const caNotAfterMs = ca.length === 0 ? undefined : Math.min(...ca.map(({ notAfterMs }) => notAfterMs));
    emit({ name: "certificates.observed", clientNotAfterMs: client?.notAfterMs, caNotAfterMs });
    return [];
  } catch (error) {
    if (!isFault(error)) throw error;
    emit({ name: "certificates.observed", clientNotAfterMs: undefined, caNotAfterMs: undefined });
    return [{ about: "certificates", message: error.message }];
  }
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

function describe(
  member: ClusterFacts["members"][number],
  facts: ClusterFacts,
  quotaBytes: number | undefined,
): ObservedMember {
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
    quotaBytes: quotaBytes ?? status.quotaBytes,
    alarms: (facts.alarms ?? []).filter(({ memberId }) => memberId === member.id).map(({ kind }) => kind),
  };
}

function foresee(member: ObservedMember, forecast: Forecast, nowMs: number): ObservedMember {
  if (!member.up || member.quotaBytes === undefined) return member;
  const sample = { atMs: nowMs, value: member.dbBytes };
  return { ...member, quotaFullMs: forecast(`quota of ${member.member}`, sample, member.quotaBytes, true) };
}
