import { writeFile } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { isMainThread } from "node:worker_threads";
import { compose } from "../../src/compose.ts";
import type { Etcd, MemberConnection } from "../../src/etcd/etcd.ts";
import { Fault } from "../../src/faults.ts";
import { tuneHeap } from "../../src/heap.ts";
import { runBackup } from "../../src/snapshot/backup.ts";
import "../../src/workers/worker.ts";

/** One backup as `etcd-lifeboat backup` takes it: `backup.ts CONFIG FIGURES [unproven]`. Phases and the event loop's lag go to FIGURES, in milliseconds. */
export interface Figures {
  readonly lagP99Ms: number;
  readonly lagMostMs: number;
  readonly phasesMs: Readonly<Record<string, number>>;
  readonly verdict: string;
  /** How often the drain was slowed, and the lowest pace in bytes per second; zero where it was not paced. */
  readonly slowed: number;
  readonly slowest: number;
}

if (isMainThread) await main();

async function main(): Promise<void> {
  tuneHeap(false);
  const [config = "", figures = "", proof] = process.argv.slice(2);
  const { signal } = new AbortController();
  const quiet = { out: () => undefined, err: () => undefined, interactive: false, columns: () => undefined };
  const environment = compose("0.0.0", { ...quiet, env: process.env }, signal, () => ({
    [Symbol.dispose]: () => undefined,
  }));
  await using tools = environment.open(config);
  const phasesMs: Record<string, number> = {};
  const rates: number[] = [];
  let slowed = 0;
  const deps = await tools.backup((event) => {
    if (event.name === "backup.phase") phasesMs[event.phase] = event.durationMs;
    if (event.name !== "drain.paced") return;
    rates.push(event.rate);
    slowed += event.slowed ? 1 : 0;
  });
  const lag = monitorEventLoopDelay({ resolution: 10 });
  lag.enable();
  const etcd = proof === "unproven" ? withoutHashes(deps.etcd) : deps.etcd;
  const outcome = await runBackup({ ...deps, etcd }, { trigger: "demand", label: undefined }, signal);
  const found: Figures = {
    lagP99Ms: lag.percentile(99) / 1e6,
    lagMostMs: lag.max / 1e6,
    phasesMs,
    verdict: outcome.kind === "committed" ? outcome.finding.verdict : outcome.kind,
    slowed,
    slowest: Math.min(...rates, rates.length === 0 ? 0 : Infinity),
  };
  await writeFile(figures, JSON.stringify(found));
}

/** Members that refuse to hash, at once: what a backup costs without its proof. */
function withoutHashes(etcd: Etcd): Etcd {
  const connect = (address: Parameters<Etcd["connect"]>[0]): MemberConnection => {
    const member = etcd.connect(address);
    return {
      address,
      status: (signal) => member.status(signal),
      alarms: (signal) => member.alarms(signal),
      hashKv: () => Promise.reject(new Fault("etcd-unsupported", "hashes are not asked for")),
      disarm: (alarm, signal) => member.disarm(alarm, signal),
      cancelDowngrade: (signal) => member.cancelDowngrade(signal),
      authStatus: (signal) => member.authStatus(signal),
      addMember: (peerUrls, learner, signal) => member.addMember(peerUrls, learner, signal),
      removeMember: (id, signal) => member.removeMember(id, signal),
      promoteMember: (id, signal) => member.promoteMember(id, signal),
      members: (signal) => member.members(signal),
      clientCalls: (signal) => member.clientCalls(signal),
      linearizableRead: (signal) => member.linearizableRead(signal),
      serializableRead: (signal) => member.serializableRead(signal),
      serverCertificate: (signal) => member.serverCertificate(signal),
      serverMetrics: (signal) => member.serverMetrics(signal),
      v2Content: (signal) => member.v2Content(signal),
      defragmenting: (signal) => member.defragmenting(signal),
      diskTimes: (signal) => member.diskTimes(signal),
      snapshot: (signal) => member.snapshot(signal),
      get connections() {
        return member.connections;
      },
      [Symbol.asyncDispose]: () => member[Symbol.asyncDispose](),
    };
  };
  return {
    members: (signal) => etcd.members(signal),
    connect,
    certificates: () => etcd.certificates(),
    [Symbol.asyncDispose]: () => etcd[Symbol.asyncDispose](),
  };
}
