import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BuiltCluster, BuiltMember } from "../datadir/datadir.ts";
import { minorOf } from "../datadir/minors.ts";
import { Fault } from "../faults.ts";
import type { RunbookPlan } from "../runbook/runbook.ts";
import { HostWork } from "./host-work.ts";
import type { RestoreDependencies } from "./restore.ts";
import { onOwnDisk, type Fetched } from "./source.ts";

/**
 * What a restore has in its hands while a process executes it: the lock, the database, what was built of it. All of it can be had again from the plan, so that any
 * process can go on.
 */
export class RestoreWork extends HostWork<RestoreDependencies> {
  readonly facts: PlanFacts;
  #fetched: Fetched | undefined;
  #building: Promise<BuiltCluster> | undefined;

  constructor(deps: RestoreDependencies, plan: RunbookPlan, fetched?: Fetched) {
    super(deps, plan);
    this.facts = plan.facts as unknown as PlanFacts;
    this.#fetched = fetched;
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
    const bump = BigInt(first.bump);
    return await onOwnDisk(directory, async () => {
      await rm(directory, { recursive: true, force: true });
      await mkdir(directory, { recursive: true, mode: 0o700 });
      return await this.deps.builder.build(path, directory, { minor, token, members, bump }, signal);
    });
  }

  async builtMember(name: string, signal: AbortSignal): Promise<BuiltMember> {
    const found = (await this.built(signal)).members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`nothing was built for ${name}`);
    return found;
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
    /** Null where authentication is off; absent in plans of earlier versions. */
    readonly authRevision?: string | null;
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
