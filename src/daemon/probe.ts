import type { Clock } from "../clock.ts";
import type { ClusterFacts } from "../cluster/observe.ts";
import { probeMember, type MemberProbe } from "../cluster/probe.ts";
import { meanBetween, quantileBetween } from "../cluster/quantile.ts";
import type { Etcd, MemberAddress, ServerMetrics } from "../etcd/etcd.ts";
import type { Emit } from "../events.ts";
import { Fault, isFault } from "../faults.ts";

export interface ProberDependencies {
  readonly etcd: Etcd;
  /** True while nothing may be asked that etcd counts as a client's call. */
  readonly hushed: () => boolean;
  readonly clock: Clock;
  readonly emit: Emit;
}

/** Asks each member again and again how it does; each by a loop of its own, so that a sick one holds up nobody else's answers. */
export interface Prober extends AsyncDisposable {
  /** From now on these members are asked, and no others. One that was never reached is asked only where its address is known. */
  follow(facts: Pick<ClusterFacts, "clusterId" | "members">): void;
  /** The quota by a member's own metrics, which know it also where Status does not tell (before etcd 3.6.6). */
  quotaBytes(member: string): number | undefined;
}

/** Between two probes of one member; a probe is a handful of bounded calls, and never overlaps the next one. */
const everyMs = 15_000;
const callTimeoutMs = 5000;

interface Target {
  readonly address: MemberAddress;
  readonly clusterId: bigint;
  readonly memberId: bigint;
}

export function openProber(deps: ProberDependencies): Prober {
  const loops = new Map<string, { target: Target; readonly end: AbortController; readonly ended: Promise<void> }>();
  const quotas = new Map<string, number>();
  let names: ReadonlyMap<bigint, string> = new Map();

  function start(name: string, target: Target): void {
    const end = new AbortController();
    const of = (): Target => loops.get(name)?.target ?? target;
    const heard = (probe: MemberProbe): void => {
      const quotaBytes = probe.server?.quotaBytes;
      if (quotaBytes !== undefined) quotas.set(name, quotaBytes);
    };
    const loop = { target, end, ended: Promise.resolve() };
    loops.set(name, { ...loop, ended: probeForever(deps, name, of, (id) => names.get(id), heard, end.signal) });
  }
  async function stop(name: string): Promise<void> {
    const loop = loops.get(name);
    loops.delete(name);
    quotas.delete(name);
    loop?.end.abort(new Fault("interrupted", "the member is not asked any more"));
    await loop?.ended;
  }

  const stopping = new Set<Promise<void>>();
  return {
    follow({ clusterId, members }) {
      names = new Map(members.map(({ id, name }) => [id, name]));
      const started = members.filter((member) => member.started);
      for (const name of [...loops.keys()].filter((each) => started.every((member) => member.name !== each))) {
        const stopped = stop(name).finally(() => stopping.delete(stopped));
        stopping.add(stopped);
      }
      for (const { id, name, seen } of started) {
        const address = seen.up ? seen.address : (loops.get(name)?.target.address ?? seen.tried);
        if (address === undefined) continue;
        const target = { address, clusterId, memberId: id };
        const loop = loops.get(name);
        if (loop === undefined) start(name, target);
        else loop.target = target;
      }
    },
    quotaBytes: (member) => quotas.get(member),
    async [Symbol.asyncDispose]() {
      await Promise.all([...[...loops.keys()].map(stop), ...stopping]);
    },
  };
}

/** Probes one member until the signal is aborted; trouble is told as what is not known, never thrown. */
async function probeForever(
  { etcd, hushed, clock, emit }: ProberDependencies,
  member: string,
  target: () => Target,
  nameOf: (id: bigint) => string | undefined,
  heard: (probe: MemberProbe) => void,
  signal: AbortSignal,
): Promise<void> {
  let looks: readonly Look[] = [];
  while (!signal.aborted) {
    try {
      const { address, ...expected } = target();
      const probe = await probeMember(
        etcd,
        address,
        clock,
        { expected, callTimeoutMs, withoutReads: hushed() },
        signal,
      );
      heard(probe);
      looks = look(looks, probe.server, clock.elapsed());
      emit({
        name: "member.probed",
        member,
        calls: probe.calls.map(({ method, durationMs }) => ({ method, durationMs })),
        certificateNotAfterMs: probe.certificate?.notAfterMs,
        ...raftOf(probe),
        ...serverOf(looks, nameOf),
      });
      await clock.sleep(everyMs, signal);
    } catch (error) {
      // A fault here is the end: what a member does wrong is part of the probe.
      if (!isFault(error) || !signal.aborted) throw error;
    }
  }
}

/** What a member's own metrics said, and when. */
interface Look {
  readonly atMs: number;
  readonly server: ServerMetrics;
}

/** The newest look and what it is compared with. Disks are judged by the last minute or so; round trips are measured by etcd every half minute. */
const diskMs = 60_000;
const peerMs = 120_000;

/** Bounded by its age. A page that cannot be read breaks nothing off; a process that began anew does. */
function look(looks: readonly Look[], server: ServerMetrics | undefined, atMs: number): readonly Look[] {
  if (server === undefined) return [];
  const anew = looks.some((each) => each.server.startedMs !== server.startedMs);
  const kept = anew ? [] : looks.filter((each) => atMs - each.atMs <= peerMs + everyMs);
  return [...kept, { atMs, server }];
}

/** The newest look that is at least so old, else the oldest that there is. */
function lookBack(looks: readonly Look[], ms: number): Look | undefined {
  const nowMs = looks.at(-1)?.atMs ?? 0;
  return looks.findLast(({ atMs }) => nowMs - atMs >= ms) ?? looks[0];
}

function raftOf({ status }: MemberProbe): {
  readonly raftTerm: bigint | undefined;
  readonly raftIndex: bigint | undefined;
  readonly raftAppliedIndex: bigint | undefined;
} {
  return {
    raftTerm: status?.raftTerm,
    raftIndex: status?.raftIndex,
    raftAppliedIndex: status?.raftAppliedIndex,
  };
}

function serverOf(looks: readonly Look[], nameOf: (id: bigint) => string | undefined) {
  const now = looks.at(-1)?.server;
  const minuteAgo = lookBack(looks, diskMs)?.server;
  const longAgo = lookBack(looks, peerMs)?.server;
  const p99Ms = (part: "walFsync" | "backendCommit"): number | undefined => {
    const [before, after] = [minuteAgo?.[part], now?.[part]];
    return before === undefined || after === undefined ? undefined : toMs(quantileBetween(before, after, 0.99));
  };
  const peers = [...(now?.peerRoundTrips ?? [])].flatMap(([id, after]) => {
    // A peer appears on the page with the first round trip that the member measures.
    const before = longAgo?.peerRoundTrips.get(id) ?? { count: 0, seconds: 0 };
    const roundTripMs = longAgo === now ? undefined : toMs(meanBetween(before, after));
    const peer = nameOf(id);
    return peer === undefined || roundTripMs === undefined ? [] : [{ peer, roundTripMs }];
  });
  return {
    residentBytes: now?.residentBytes,
    cpuMs: toMs(now?.cpuSeconds),
    leaderChanges: now?.leaderChanges,
    heartbeatFailures: now?.heartbeatFailures,
    walFsyncP99Ms: p99Ms("walFsync"),
    backendCommitP99Ms: p99Ms("backendCommit"),
    peers,
  };
}

function toMs(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}
