import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";
import type { ClusterFacts, MemberFacts } from "../cluster/observe.ts";
import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import type { DiskTimes, Etcd, MemberAddress, MemberConnection } from "../etcd/etcd.ts";
import type { Emit, PaceSense } from "../events.ts";
import { isFault } from "../faults.ts";
import { nextPace, paceLimits, startPace, type Felt, type Pace } from "./pace.ts";

/** Whether a drain is paced by what writers feel; `auto`: where a member runs on this machine, whose cores and disk are then shared. */
export type PaceMode = "auto" | "always" | "never";

export interface PacerDependencies {
  readonly etcd: Etcd;
  readonly clock: Clock;
  readonly emit: Emit;
  readonly pace: PaceMode;
}

/** What a paced drain needs to know of the run. */
export interface PacedRun {
  readonly run: string;
  readonly member: string;
  readonly dbBytes: number;
  readonly maxRate: number | undefined;
}

/** Listens to writers while a drain runs; to be disposed with it. */
export interface Pacer extends AsyncDisposable {
  /** Bytes per second that may be taken now; `doneBytes` is what was taken so far. */
  rate(doneBytes: number): number;
}

const probeEveryMs = 25;
const probeTimeoutMs = 5000;
const usualProbes = 12;
const decideEveryMs = 250;
/** A page of metrics takes a member some milliseconds to write. */
const diskEveryMs = 1000;
/** Events of a pace that only grows. */
const tellEveryMs = 1000;

/**
 * Paces a drain by linearizable reads and by the disk times of the members that share the work: the source, and every member on this machine. Undefined
 * where nothing is shared, or where nobody can write and so nobody feels anything.
 */
export async function openPacer(
  deps: PacerDependencies,
  facts: ClusterFacts,
  source: MemberAddress,
  run: PacedRun,
  signal: AbortSignal,
): Promise<Pacer | undefined> {
  if (deps.pace === "never" || !facts.quorum) return undefined;
  const here = await membersHere(facts.members);
  if (deps.pace === "auto" && here.length === 0) return undefined;
  const addresses = new Map([source, ...here].map((address) => [address.url, address]));
  await using stack = new AsyncDisposableStack();
  const connections = [...addresses.values()].map((address) => stack.use(deps.etcd.connect(address)));
  const listener = new Listener(deps, connections, run);
  if (!(await listener.learnUsual(signal))) return undefined;
  const controller = new AbortController();
  const listening = listener.listen(AbortSignal.any([signal, controller.signal]));
  const owned = stack.move();
  return {
    rate: (doneBytes) => listener.rate(doneBytes),
    async [Symbol.asyncDispose]() {
      controller.abort();
      await listening;
      await owned.disposeAsync();
    },
  };
}

class Listener {
  readonly #deps: PacerDependencies;
  readonly #connections: readonly MemberConnection[];
  readonly #run: PacedRun;
  readonly #limits: ReturnType<typeof paceLimits>;
  readonly #disks = new Map<MemberConnection, DiskTimes>();
  /** When a probe under way began; what has not answered yet is felt, too. */
  readonly #open = new Map<MemberConnection, number>();
  #usualMs = 0;
  #slowestMs = 0;
  #diskFelt: readonly Felt[] = [];
  #pace: Pace;
  #doneBytes = 0;
  #toldMs = -Infinity;

  constructor(deps: PacerDependencies, connections: readonly MemberConnection[], run: PacedRun) {
    this.#deps = deps;
    this.#connections = connections;
    this.#run = run;
    this.#limits = paceLimits(run.dbBytes, run.maxRate);
    this.#pace = startPace(this.#limits);
  }

  rate(doneBytes: number): number {
    this.#doneBytes = doneBytes;
    return this.#pace.rate;
  }

  /** How long things take without a drain; false when the members cannot be asked. */
  async learnUsual(signal: AbortSignal): Promise<boolean> {
    const taken: number[] = [];
    try {
      for (const connection of this.#connections) {
        // The first call also pays for the connection.
        await this.#probe(connection, signal);
        for (let count = 0; count < usualProbes; count += 1) taken.push(await this.#probe(connection, signal));
        await this.#readDisk(connection, signal);
      }
    } catch (error) {
      if (signal.aborted || !isFault(error)) throw error;
      this.#deps.emit({ name: "warning", about: "pace", message: `the drain is not paced: ${error.message}` });
      return false;
    }
    this.#usualMs = taken.toSorted((a, b) => a - b)[Math.floor(taken.length * 0.9)] ?? 0;
    return true;
  }

  /** Probes and decides until the signal is aborted; never rejects. */
  async listen(signal: AbortSignal): Promise<void> {
    const probing = this.#connections.map((connection) =>
      this.#forever(signal, probeEveryMs, () => this.#feel(connection, signal)),
    );
    const reading = this.#forever(signal, diskEveryMs, async () => {
      this.#diskFelt = (await Promise.all(this.#connections.map((each) => this.#readDisk(each, signal)))).flat();
    });
    let [lastMs, lastBytes] = [this.#deps.clock.elapsed(), this.#doneBytes];
    const deciding = this.#forever(signal, decideEveryMs, async () => {
      const nowMs = this.#deps.clock.elapsed();
      const takenRate = ((this.#doneBytes - lastBytes) / Math.max(1, nowMs - lastMs)) * 1000;
      [lastMs, lastBytes] = [nowMs, this.#doneBytes];
      this.#decide(takenRate, nowMs);
    });
    await Promise.all([...probing, reading, deciding]);
  }

  #decide(takenRate: number, nowMs: number): void {
    const openMs = [...this.#open.values()].map((sinceMs) => nowMs - sinceMs);
    const probe = { sense: "probe", ms: Math.max(this.#slowestMs, ...openMs), usualMs: this.#usualMs } as const;
    const before = this.#pace;
    this.#pace = nextPace(before, [probe, ...this.#diskFelt], takenRate, this.#limits);
    this.#slowestMs = 0;
    this.#diskFelt = [];
    const slowed = this.#pace.rate < before.rate;
    if (!slowed && nowMs - this.#toldMs < tellEveryMs) return;
    this.#toldMs = nowMs;
    this.#deps.emit({
      name: "drain.paced",
      run: this.#run.run,
      member: this.#run.member,
      rate: Math.round(this.#pace.rate),
      takenRate: Math.round(takenRate),
      reason: this.#pace.reason,
      slowed,
    });
  }

  async #feel(connection: MemberConnection, signal: AbortSignal): Promise<void> {
    this.#open.set(connection, this.#deps.clock.elapsed());
    try {
      this.#slowestMs = Math.max(this.#slowestMs, await this.#probe(connection, signal));
    } finally {
      this.#open.delete(connection);
    }
  }

  async #probe(connection: MemberConnection, signal: AbortSignal): Promise<number> {
    using deadline = withDeadline(signal, probeTimeoutMs, `${connection.address.name} did not answer a read`);
    const startedMs = this.#deps.clock.elapsed();
    await connection.linearizableRead(deadline.signal);
    return this.#deps.clock.elapsed() - startedMs;
  }

  /** What the disk took on average since it was last asked for; what it always took is the usual. */
  async #readDisk(connection: MemberConnection, signal: AbortSignal): Promise<readonly Felt[]> {
    const now = await connection.diskTimes(signal);
    if (now === undefined) return [];
    const before = this.#disks.get(connection);
    this.#disks.set(connection, now);
    if (before === undefined) return [];
    const senses: readonly (readonly [PaceSense, keyof DiskTimes])[] = [
      ["wal-fsync", "walFsync"],
      ["backend-commit", "backendCommit"],
    ];
    return senses.flatMap(([sense, key]) => {
      const count = now[key].count - before[key].count;
      if (count <= 0 || before[key].count <= 0) return [];
      const ms = ((now[key].seconds - before[key].seconds) / count) * 1000;
      return [{ sense, ms, usualMs: (before[key].seconds / before[key].count) * 1000 }];
    });
  }

  /** Does something over and over, with a pause. A member that does not answer is felt as slow by then: that it failed adds nothing. */
  async #forever(signal: AbortSignal, everyMs: number, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      try {
        await work();
        await this.#deps.clock.sleep(everyMs, signal);
      } catch (error) {
        if (!isFault(error)) throw error;
        if (!signal.aborted) {
          this.#slowestMs = Infinity;
          // Rejects only when it is aborted, and then the loop ends.
          await this.#deps.clock.sleep(everyMs, signal).catch(() => undefined);
        }
      }
    }
  }
}

/** The members that run on this machine, by their address. */
async function membersHere(members: readonly MemberFacts[]): Promise<readonly MemberAddress[]> {
  const own = new Set(Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address)));
  const reached = members.flatMap(({ seen }) => (seen.up ? [seen.address] : []));
  const here = await Promise.all(reached.map(async (address) => await isHere(address, own)));
  return reached.filter((_, index) => here[index] === true);
}

async function isHere({ url, socket }: MemberAddress, own: ReadonlySet<string>): Promise<boolean> {
  if (socket !== undefined) return true;
  const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
  // A name that cannot be looked up is no address of ours; what is wrong with it is told by whoever connects.
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.some(({ address }) => own.has(address) || address.startsWith("127."));
}
