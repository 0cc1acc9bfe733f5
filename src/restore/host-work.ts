import { Fault, isFault } from "../faults.ts";
import { acquireLock, type OperationLock } from "../repository/lock.ts";
import type { RunbookPlan } from "../runbook/runbook.ts";
import type { HostDependencies, OpenHost, OpenService } from "./restore.ts";

/** Why a store may not answer at all. */
export const storeAway = [
  "store-unreachable",
  "store-tls",
  "store-denied",
  "store-missing",
  "store-region",
  "store-refused",
  "store-full",
] as const;

/** What every operation on the hosts has in its hands while a process executes it: the lock, and the hosts of its plan with what runs there. */
export class HostWork<Deps extends HostDependencies = HostDependencies> {
  readonly deps: Deps;
  readonly plan: RunbookPlan;
  /** Aborted with a fault when the lock was taken away: somebody else may be at work on the cluster. */
  readonly lost: AbortSignal;
  readonly #losing = new AbortController();
  #lock: OperationLock | undefined;
  #lockedAtMs: number | undefined;
  /** It was ours, and the store cannot be asked whether it still is. */
  #believed = false;

  constructor(deps: Deps, plan: RunbookPlan) {
    this.deps = deps;
    this.plan = plan;
    this.lost = this.#losing.signal;
  }

  get holdsLock(): boolean {
    return this.#believed || (this.#lock !== undefined && !this.#lock.lost.aborted);
  }

  /** Takes the lock, or takes it up again after an earlier process of this operation. */
  async takeLock(signal: AbortSignal): Promise<void> {
    const { repository } = this.deps;
    if (repository === undefined) return;
    await this.#lock?.abandon();
    const held = await acquireLock(repository.lock, "restore", false, signal, this.plan.id);
    held.lost.addEventListener("abort", () => this.#losing.abort(held.lost.reason), { once: true });
    this.#lock = held;
    this.#lockedAtMs = this.deps.clock.elapsed();
  }

  /**
   * Takes up the lock that this operation had. A store that does not answer is no reason to leave a cluster half-changed: a lock that does not lapse is still ours then,
   * unless somebody took it away by hand.
   */
  async takeLockAgain(signal: AbortSignal): Promise<void> {
    try {
      await this.takeLock(signal);
    } catch (error) {
      if (signal.aborted || !isFault(error, ...storeAway)) throw error;
      const message = `the lock of this operation cannot be looked at, and it goes on all the same: ${error.message}`;
      this.deps.emit({ name: "warning", about: "restore", message });
      this.#believed = true;
      this.#lockedAtMs = this.deps.clock.elapsed();
    }
  }

  /** When this process took the lock, or took it up again, by the clock that never goes back; undefined where it has not. */
  get lockedAtMs(): number | undefined {
    return this.#lockedAtMs;
  }

  async releaseLock(signal: AbortSignal): Promise<void> {
    // A process that never had it takes it up first: only who holds it may release it.
    if (this.#lock === undefined) await this.takeLock(signal);
    this.#believed = false;
    const lock = this.#lock;
    this.#lock = undefined;
    await lock?.[Symbol.asyncDispose]();
  }

  host(name: string): OpenHost {
    const found = this.deps.hosts.find(({ host }) => host.name === name);
    if (found !== undefined) return found;
    throw new Fault("runbook-refused", `the plan speaks of a host "${name}", which the configuration does not have`, {
      hint: `describe it under hosts.${name} again as it was when the restore was planned`,
    });
  }

  service(host: string, name: string): OpenService {
    const found = this.host(host).services.find(({ service }) => service.name === name);
    if (found !== undefined) return found;
    throw new Fault("runbook-refused", `the plan speaks of ${name} on ${host}, which the configuration does not have`, {
      hint: `describe it under hosts.${host}.services again as it was when the restore was planned`,
    });
  }

  etcdOf(name: string): NonNullable<OpenHost["etcd"]> {
    const { etcd } = this.host(name);
    if (etcd !== undefined) return etcd;
    throw new Fault("runbook-refused", `the plan speaks of a member on ${name}, where the configuration has none`, {
      hint: `describe it under hosts.${name}.etcd again as it was when the restore was planned`,
    });
  }

  /** Leaves what other processes need to go on: the lock stays held. */
  async abandon(): Promise<void> {
    await this.#lock?.abandon();
  }
}
