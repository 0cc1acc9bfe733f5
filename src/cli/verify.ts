import { resolve } from "node:path";
import { escapeControls } from "../format.ts";
import { findEntry, type BelievedEntry, type CatalogEntry } from "../repository/catalog.ts";
import type { Emit } from "../events.ts";
import { Fault, isFault } from "../faults.ts";
import { recordBoot, type Booted } from "../snapshot/boot.ts";
import { liveFault, proveLive } from "../snapshot/live.ts";
import type { Finding } from "../snapshot/prove.ts";
import { recordFinding } from "../snapshot/record.ts";
import { verifyBackup, verifyLevels, type VerifyDependencies, type VerifyLevel } from "../snapshot/verify.ts";
import type { Store } from "../store/store.ts";
import { openAt, type StoreOptions } from "./copy.ts";
import { openCatalog, openWhole, tellRefused } from "./list.ts";
import { formatAnswer } from "./show-proof.ts";
import { formatTable } from "./table.ts";
import { printJson, type Console, type Environment, type Tools } from "./tools.ts";

export interface VerifyOptions extends StoreOptions {
  readonly level: string;
  readonly tools?: string;
  readonly live?: boolean;
}

/** Verifies the named backups, or all of them; 12 when one is damaged, 4 when a level cannot be done for want of a key or a program. */
export async function verifyCommand(
  environment: Environment,
  wanted: readonly string[],
  options: VerifyOptions,
): Promise<number> {
  const { console, signal } = environment;
  const level = verifyLevels.find((known) => known === options.level);
  if (level === undefined) {
    throw new Fault("usage", `unknown level "${options.level}"`, { hint: `one of: ${verifyLevels.join(", ")}` });
  }
  await using tools = openAt(environment, options);
  const { entries, store } = await openEntries(tools, wanted, console, signal);
  const directory = options.tools === undefined ? undefined : resolve(options.tools);
  const deps: VerifyDependencies = {
    store,
    spool: async () => {
      const spool = await tools.spool();
      // What a run that was killed left holds as much as this one needs.
      await spool.sweep();
      return spool;
    },
    scan: tools.scan,
    identities: tools.identities,
    newId: tools.newId,
    boot: () => tools.boot(directory),
  };
  const results: Result[] = [];
  const listener = environment.listen(console);
  try {
    for await (const entry of entries) {
      const work = { tools, deps, level, live: options.live === true, emit: listener.emit };
      results.push(await verifyEntry(work, entry, signal));
    }
  } finally {
    listener.close();
  }
  if (results.length === 0)
    throw new Fault("not-found", `no backup in ${store.description}`, { hint: "run: etcd-lifeboat backup" });
  if (options.json === true)
    printJson(console, { schema: "etcd-lifeboat/verify/v1", level, results: documents(results) });
  else printResults(console, level, results);
  return results.reduce((worst, { fault }) => (fault === undefined ? worst : worse(worst, fault)), 0);
}

type Entry = Pick<CatalogEntry, "manifest" | "refused"> & {
  readonly listed: { readonly lineage: string; readonly backup: string };
  readonly manifestSha256?: string;
};

interface Result {
  readonly lineage: string;
  readonly backup: string;
  readonly fault: Fault | undefined;
  /** Present where it was started or tried to. */
  readonly boot: (Booted & Recorded) | undefined;
  /** Present where members were asked. */
  readonly live: (Finding & Recorded) | undefined;
}

/** Whether what was found is stored beside the backup, and why not. */
interface Recorded {
  readonly recorded: boolean;
}

interface Work {
  readonly tools: Tools;
  readonly deps: VerifyDependencies;
  readonly level: VerifyLevel;
  readonly live: boolean;
  readonly emit: Emit;
}

async function verifyEntry(work: Work, entry: Entry, signal: AbortSignal): Promise<Result> {
  const { tools, deps, level } = work;
  const { lineage, backup } = entry.listed;
  const result = { lineage, backup, fault: entry.refused, boot: undefined, live: undefined };
  if (entry.manifest === undefined || entry.manifestSha256 === undefined) return result;
  const committed = { manifest: entry.manifest, manifestSha256: entry.manifestSha256 };
  let boot: Result["boot"];
  let live: Result["live"];
  try {
    const booted = await verifyBackup(deps, committed.manifest, level, signal);
    if (booted !== undefined) {
      const record = async (recording: Recording): Promise<void> => recordBoot(recording, committed, booted, signal);
      boot = { ...booted, recorded: await recorded(work, "boot", record) };
    }
    if (work.live) {
      const finding = await proveLive({ ...(await tools.backup(work.emit)), ...deps }, committed.manifest, signal);
      const record = async (recording: Recording): Promise<void> =>
        void (await recordFinding(recording, committed, finding, signal));
      // What was not proven adds nothing to what is known; what was may be the first that is.
      live = { ...finding, recorded: finding.verdict === "proven" && (await recorded(work, "hashkv", record)) };
    }
  } catch (error) {
    if (!isFault(error) || error.code === "interrupted") throw error;
    return { ...result, boot, fault: error };
  }
  const fault = boot?.fault ?? (live === undefined ? undefined : liveFault(committed.manifest, live));
  return { ...result, fault, boot, live };
}

type Recording = Parameters<typeof recordFinding>[0];

/** Stores a proof where it can be believed later; what was found stands also where that fails, and a warning says so. */
async function recorded(
  { tools, emit }: Work,
  kind: string,
  record: (recording: Recording) => Promise<void>,
): Promise<boolean> {
  try {
    const recording = await tools.backup(emit);
    if ((await tools.trusted()) !== undefined && recording.encoder.signer === undefined) {
      throw new Fault("config-invalid", "proofs must be signed here, and repository.signing.key is not configured");
    }
    let failed = false;
    const heard: Emit = (event) => {
      failed ||= event.name === "warning";
      emit(event);
    };
    await record({ ...recording, emit: heard });
    return !failed;
  } catch (error) {
    if (!isFault(error) || error.code === "interrupted") throw error;
    emit({ name: "warning", about: "proof", message: `the ${kind} proof was not stored: ${error.message}` });
    return false;
  }
}

function documents(results: readonly Result[]): readonly object[] {
  return results.map(({ lineage, backup, fault, boot, live }) => ({
    lineage,
    backup,
    ok: fault === undefined,
    code: fault?.code ?? null,
    message: fault?.message ?? null,
    boot:
      boot === undefined
        ? null
        : {
            verdict: boot.fault === undefined ? "passed" : "failed",
            reason: boot.reason,
            minor: boot.minor,
            programs: boot.programs,
            hash: boot.hash,
            keys: boot.keys,
            tookMs: boot.tookMs,
            recorded: boot.recorded,
          },
    live:
      live === undefined
        ? null
        : {
            verdict: live.verdict,
            reason: live.reason,
            voters: live.voters,
            needed: live.needed,
            agreeing: live.agreeing,
            diverged: live.diverged,
            alone: live.alone,
            compactRevision: live.compactRevision ?? null,
            hash: live.hash ?? null,
            answers: live.answers,
            recorded: live.recorded,
          },
  }));
}

function printResults(console: Console, level: VerifyLevel, results: readonly Result[]): void {
  const rows = results.map(({ backup, fault, live }) => [
    backup,
    fault === undefined ? "ok" : "FAILED",
    fault === undefined ? `${level}${live === undefined ? "" : ", live"}` : escapeControls(fault.message),
  ]);
  console.out(formatTable([["BACKUP", "RESULT", "LEVEL OR REASON"], ...rows]));
  for (const { backup, fault, boot, live } of results) {
    if (fault?.hint !== undefined) console.err(`${backup}: ${escapeControls(fault.hint)}\n`);
    if (boot !== undefined) {
      console.out(`${backup}: started with ${boot.programs.join(" and ")} in ${(boot.tookMs / 1000).toFixed(1)} s\n`);
    }
    if (live === undefined) continue;
    console.out(`${backup}: ${live.verdict}: ${escapeControls(live.reason)}\n`);
    for (const answer of live.answers) console.out(`  ${escapeControls(formatAnswer(answer))}\n`);
  }
}

/** The named backups, or all: these are read one by one, since all manifests together can be gigabytes. */
async function openEntries(
  tools: Tools,
  wanted: readonly string[],
  console: Console,
  signal: AbortSignal,
): Promise<{ readonly entries: Iterable<Entry> | AsyncIterable<Entry>; readonly store: Store }> {
  if (wanted.length === 0) {
    const { catalog, store } = await openWhole(tools, 1, signal);
    return { entries: catalog.entries, store };
  }
  const { catalog, store } = await openCatalog(tools, wanted, signal);
  tellRefused(console, catalog);
  return { entries: wanted.map((id): BelievedEntry => findEntry(catalog, id)), store };
}

/** Damage outranks everything; otherwise the first failure's status stays. */
function worse(status: number, fault: Fault): number {
  if (fault.exitStatus === 12) return 12;
  return status === 0 ? fault.exitStatus : status;
}
