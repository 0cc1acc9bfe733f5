import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BuiltCluster, BuiltMember } from "../datadir/datadir.ts";
import { minorOf } from "../datadir/minors.ts";
import { Fault } from "../faults.ts";
import { acquireLock, type OperationLock } from "../repository/lock.ts";
import type { RunbookPlan } from "../runbook/runbook.ts";
import type { OpenHost, OpenService, RestoreDependencies } from "./restore.ts";
import type { Fetched } from "./source.ts";

/**
 * What a restore has in its hands while a process executes it: the lock, the database, what was built of it. All of it can be had again from the plan, so that any
 * process can go on.
 */
export class RestoreWork {
  readonly deps: RestoreDependencies;
  readonly plan: RunbookPlan;
  readonly facts: PlanFacts;
  /** Aborted with a fault when the lock was taken away: somebody else may be at work on the cluster. */
  readonly lost: AbortSignal;
  readonly #losing = new AbortController();
  #lock: OperationLock | undefined;
  #lockedAtMs: number | undefined;
  #fetched: Fetched | undefined;
  #building: Promise<BuiltCluster> | undefined;

  constructor(deps: RestoreDependencies, plan: RunbookPlan, fetched?: Fetched) {
    this.deps = deps;
    this.plan = plan;
    this.facts = plan.facts as unknown as PlanFacts;
    this.#fetched = fetched;
    this.lost = this.#losing.signal;
  }

  get holdsLock(): boolean {
    return this.#lock !== undefined && !this.#lock.lost.aborted;
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

  /** When this process took the lock, or took it up again, by the clock that never goes back; undefined where it has not. */
  get lockedAtMs(): number | undefined {
    return this.#lockedAtMs;
  }

  async releaseLock(signal: AbortSignal): Promise<void> {
    // A process that never had it takes it up first: only who holds it may release it.
    if (this.#lock === undefined) await this.takeLock(signal);
    const lock = this.#lock;
    this.#lock = undefined;
    await lock?.[Symbol.asyncDispose]();
  }

  /** The database, fetched again when it is not here any more. It must be the very one that was planned with. */
  async fetched(signal: AbortSignal): Promise<Fetched> {
    this.#fetched ??= await this.deps.source.fetch(this.deps.workDirectory, () => undefined, signal);
    const { sha256 } = this.#fetched.facts;
    if (sha256 === this.facts.source.sha256) return this.#fetched;
    throw new Fault(
      "runbook-refused",
      `${this.deps.source.name} is another database than when the restore was planned`,
      {
        hint: "the file was replaced meanwhile: plan again",
      },
    );
  }

  get hasFetched(): boolean {
    return this.#fetched !== undefined;
  }

  /** What goes to the hosts; built again, to the same bytes, when this process did not build it. Hosts that ask at once share one build. */
  async built(signal: AbortSignal): Promise<BuiltCluster> {
    this.#building ??= this.#build(signal);
    try {
      return await this.#building;
    } catch (error) {
      this.#building = undefined;
      throw error;
    }
  }

  async #build(signal: AbortSignal): Promise<BuiltCluster> {
    const { path } = await this.fetched(signal);
    const { minor: text, token, members, first } = this.facts;
    const minor = minorOf(text);
    if (minor === undefined) throw new Fault("runbook-refused", `etcd ${text} is not known to this program`);
    const directory = join(this.deps.workDirectory, "built");
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const bump = BigInt(first.bump);
    return await this.deps.builder.build(path, directory, { minor, token, members, bump }, signal);
  }

  async builtMember(name: string, signal: AbortSignal): Promise<BuiltMember> {
    const found = (await this.built(signal)).members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`nothing was built for ${name}`);
    return found;
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

  /** Leaves what other processes need to go on: the lock stays held, the database stays here. */
  async abandon(): Promise<void> {
    await this.#lock?.abandon();
  }

  /** Removes the database and what was built of it; hosts are not touched. */
  async removeWork(): Promise<void> {
    await rm(this.deps.workDirectory, { recursive: true, force: true });
  }
}

/** What `planFacts` of plan.ts wrote, as it is read back from a journal. */
export interface PlanFacts {
  readonly source: {
    readonly kind: "backup" | "file" | "member";
    readonly name: string;
    readonly revision: string;
    readonly sha256: string;
    readonly dbBytes: number;
    readonly takenMs?: number;
    readonly authEnabled: boolean;
    readonly downgrade: string | null;
  };
  readonly lost: string;
  readonly first: { readonly revision: string; readonly bump: string; readonly why: string };
  readonly token: string;
  readonly lineage: string | null;
  readonly parent: string | null;
  readonly minor: string;
  readonly builder: string;
  readonly members: readonly { readonly host: string; readonly name: string; readonly peerUrls: readonly string[] }[];
  readonly old: {
    readonly clusterId: string;
    readonly members: readonly {
      readonly name: string;
      readonly clientUrls: readonly string[];
      readonly up: boolean;
    }[];
  } | null;
  readonly clientUrls: readonly { readonly name: string; readonly urls: readonly string[] }[];
  readonly seen: object;
}
