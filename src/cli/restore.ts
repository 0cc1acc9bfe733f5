import { resolve } from "node:path";
import { Fault, isFault } from "../faults.ts";
import { escapeControls, formatBytes, formatDuration, formatTime } from "../format.ts";
import { findEntry, readHistories, listRepository } from "../repository/catalog.ts";
import { readClusterName } from "../repository/identity.ts";
import { readProofs } from "../repository/proofs.ts";
import { newestProven } from "../repository/proven.ts";
import { proofRowOf, standingOf } from "../repository/row.ts";
import type { HighWater, HookPhase, RestoreRequest } from "../restore/facts.ts";
import type { Preflight } from "../restore/gates.ts";
import { seenInJournals, seenInRepository } from "../restore/seen-revisions.ts";
import { storeAway } from "../restore/host-work.ts";
import { findingsOf, readHygiene } from "../restore/hygiene.ts";
import { executeRestore, prepareRestore, refuseStalePlan } from "../restore/run.ts";
import { backupSource, fileSource, lazySource, type Source } from "../restore/source.ts";
import { renderStanding } from "../runbook/render.ts";
import type { JsonObject, Outcome, RunbookMode, RunbookPlan } from "../runbook/runbook.ts";
import { needsRejoin, standingOf as standingOfSteps } from "../runbook/standing.ts";
import type { FoundJournal, JournalRecord } from "../runbook/journal.ts";
import { decryptionFor } from "../snapshot/verify.ts";
import { openCatalog } from "./list.ts";
import {
  confirm,
  continueOperation,
  hookOnFailure,
  refuseUnfinished,
  sayHearsay,
  saySilent,
  unfinishedOf,
  repositoryId,
  type Continuing,
} from "./operation.ts";
import { describeRestore, documentRestore } from "./restore-plan.ts";
import { printJson, type CommonOptions, type GivenLogin, type Console, type Environment, type Tools } from "./tools.ts";

export interface RestoreOptions extends CommonOptions, Continuing {
  readonly backup?: string;
  readonly file?: string;
  readonly fromMember?: string;
  readonly withoutRepository?: boolean;
  readonly asNew?: boolean;
  readonly plan?: boolean;
  readonly resume?: string | true;
  readonly rollback?: string | true;
  readonly snapshotUsername?: string;
  readonly snapshotPasswordFile?: string;
  readonly acceptUnproven?: boolean;
  readonly acceptRebootRisk?: boolean;
  readonly quietSeconds?: string;
  readonly etcdMinor?: string;
  readonly builder?: string;
  readonly tools?: string;
}

/** For a look that tells nothing on the way. */
const quiet = (): void => undefined;

const describe = { bytes: formatBytes, time: formatTime, duration: formatDuration };

/** Brings the whole cluster back: plans, asks, executes; or goes on with, or takes back, a restore that stopped. */
export async function restoreCommand(environment: Environment, options: RestoreOptions): Promise<number> {
  refuseTogether(options);
  await using opened = environment.open(options.config);
  const tools = options.withoutRepository === true ? withoutStore(opened) : opened;
  if (Object.values(tools.loaded.config.hosts).length === 0) {
    throw new Fault("config-invalid", `${tools.loaded.path} describes no hosts, so there is nothing to restore on`, {
      hint: "describe each host of the cluster under hosts; or restore by hand: etcd-lifeboat fetch",
    });
  }
  if (options.resume !== undefined) return await continueRestore(environment, tools, options, "resume", options.resume);
  if (options.rollback !== undefined)
    return await continueRestore(environment, tools, options, "rollback", options.rollback);
  return await beginRestore(environment, tools, options);
}

/** The same, and the store is neither asked nor told anything. */
function withoutStore(tools: Tools): Tools {
  return {
    ...tools,
    journals: (emit) => tools.journals(emit, "hosts-only"),
    store: () => Promise.reject(new Fault("usage", "--without-repository asks no store, and this needs it")),
  };
}

function refuseTogether(options: RestoreOptions): void {
  const { backup, file, fromMember, withoutRepository, asNew, resume, rollback, plan, takeOver } = options;
  const ways = {
    "--backup": backup,
    "--file": file,
    "--from-member": fromMember,
    "--resume": resume,
    "--rollback": rollback,
  };
  const given = Object.entries(ways).flatMap(([flag, value]) => (value === undefined ? [] : [flag]));
  if (given.length > 1) throw new Fault("usage", `${given.join(" and ")} do not go together`);
  if (asNew === true && (fromMember ?? resume ?? rollback) !== undefined)
    throw new Fault("usage", "--as-new goes with --backup and --file only");
  if (withoutRepository === true && (asNew === true || (file ?? fromMember ?? resume ?? rollback) === undefined))
    throw new Fault("usage", "--without-repository goes with --file, --from-member, --resume and --rollback only", {
      hint: "a backup is in the repository; a file that was copied from it in time is given by --file",
    });
  if (takeOver === true && (resume ?? rollback) === undefined)
    throw new Fault("usage", "--take-over goes with --resume and --rollback only");
  if (plan === true && (resume !== undefined || rollback !== undefined))
    throw new Fault(
      "usage",
      "--plan shows a new restore; what is left of one that was begun: etcd-lifeboat restore status",
    );
}

async function beginRestore(environment: Environment, tools: Tools, options: RestoreOptions): Promise<number> {
  const { console, signal } = environment;
  if (options.plan !== true) await refuseUnfinished(environment, tools);
  const id = tools.newId();
  const listener = environment.listen(console);
  let begun = false;
  try {
    const { source, seen, repository } = await openSource(tools, options, signal);
    const earlier = seenInJournals(await tools.journals(quiet).list(signal), tools.loaded.config.cluster.name);
    const deps = await tools.restore({
      id,
      source,
      repository,
      login: loginOf(options),
      builder: options.builder,
      toolDirectory: options.tools,
      emit: listener.emit,
    });
    const request = requestOf(tools, options, id, repository);
    const onBytes = (doneBytes: number): void =>
      listener.emit({
        name: "backup.progress",
        run: id,
        phase: "readback",
        doneBytes,
        totalBytes: source.bytes ?? doneBytes,
      });
    const prepared = await prepareRestore(deps, request, [...seen, ...earlier], describe, onBytes, signal);
    const { plan, preflight } = prepared;
    if (options.json === true && (options.plan === true || plan === undefined))
      printJson(console, documentRestore(prepared));
    else console.err(describeRestore(prepared, request.asNew));
    if (plan === undefined) throw refusal(preflight);
    if (options.plan === true) return 0;
    await confirm(console, options, tools.loaded.config.cluster.name);
    await refuseStalePlan(deps, prepared, request, describe, signal);
    await using journal = await tools.journals(listener.emit).create(plan, signal);
    begun = true;
    const outcome = await executeRestore(
      deps,
      journal,
      "run",
      prepared.fetched,
      hookOnFailure(tools, listener.emit),
      signal,
    );
    tellOutcome(console, options, plan, outcome, "run");
    return 0;
  } finally {
    listener.close();
    // The database is plaintext: without a journal nobody ever comes back for it.
    if (!begun) await tools.removeWork(id);
  }
}

async function continueRestore(
  environment: Environment,
  tools: Tools,
  options: RestoreOptions,
  mode: Exclude<RunbookMode, "run">,
  wanted: string | true,
): Promise<number> {
  const { plan, outcome } = await continueOperation(environment, tools, options, {
    operation: "restore",
    mode,
    wanted,
    check({ id, facts: { repository } }) {
      if (options.withoutRepository !== true || typeof repository !== "string") return;
      throw new Fault("usage", `operation ${id} was begun with its repository`, {
        hint: "leave --without-repository out: it goes on without the store as far as the store is not needed",
      });
    },
    open: async (of, emit, elsewhere) => {
      const { builder, repository } = of.facts;
      // A file of this machine is given out as a password only when somebody here has said so.
      if (elsewhere && plannedLogin(of) !== undefined && loginOf(options) === undefined) {
        throw new Fault(
          "usage",
          `the plan of operation ${of.id} needs the password of then, which the lost machine had in a file`,
          {
            hint: "give it here: --snapshot-username NAME --snapshot-password-file FILE",
          },
        );
      }
      return await tools.restore({
        id: of.id,
        // Opened only when the database is needed: the way back needs neither the backup nor its key.
        source: lazySource(nameOfSource(of), async (stop) => await reopenSource(tools, of, options, stop)),
        repository: typeof repository === "string" ? repository : undefined,
        login: loginOf(options) ?? plannedLogin(of),
        builder: options.builder ?? (typeof builder === "string" ? builder : undefined),
        toolDirectory: options.tools,
        emit,
      });
    },
    execute: async (deps, journal, onFailure, signal) =>
      await executeRestore(deps, journal, mode, undefined, onFailure, signal),
  });
  tellOutcome(environment.console, options, plan, outcome, mode);
  return 0;
}

function loginOf({ snapshotUsername, snapshotPasswordFile }: RestoreOptions): GivenLogin | undefined {
  if (snapshotUsername === undefined && snapshotPasswordFile === undefined) return undefined;
  if (snapshotUsername === undefined || snapshotPasswordFile === undefined)
    throw new Fault("usage", "--snapshot-username and --snapshot-password-file go together");
  return { username: snapshotUsername, passwordFile: resolve(snapshotPasswordFile) };
}

/** As the plan has it, for another process. */
function plannedLogin({ facts: { login } }: RunbookPlan): GivenLogin | undefined {
  return login === undefined ? undefined : (login as unknown as GivenLogin);
}

/** Where every restore of this machine stands, and what others have left unfinished; or one of them step by step. */
export async function restoreStatusCommand(
  environment: Environment,
  id: string | undefined,
  options: CommonOptions,
): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const journals = tools.journals(quiet);
  const { found, refused, silent, hearsay } = await journals.find(id, signal);
  for (const one of silent) console.err(saySilent(one));
  for (const one of hearsay) console.err(sayHearsay(one));
  const [first] = refused;
  if (id !== undefined && first !== undefined) throw first.fault;
  if (id !== undefined && found.length === 0)
    throw new Fault("not-found", `there is no operation ${id}`, { hint: "see: etcd-lifeboat restore status" });
  for (const { fault } of refused) console.err(`warning: ${escapeControls(fault.message)}\n`);
  const records =
    id === undefined
      ? together(await journals.list(signal), unfinishedOf(tools, found))
      : found.map(({ record }) => record);
  if (options.json === true) {
    const operations = records.map((record) => ({ ...record, needsRejoin: needsRejoin(record) }));
    printJson(console, { schema: "etcd-lifeboat/restore-status/v1", operations });
  } else if (records.length === 0) console.out("no restore was ever begun here\n");
  else console.out(records.map(standingText).join("\n"));
  return records.length === 0 ? 10 : 0;
}

/** The restores of this machine, and of others what copies tell; of both where they tell more. The oldest first. */
function together(here: readonly JournalRecord[], found: readonly FoundJournal[]): readonly JournalRecord[] {
  const records = new Map(here.map((record) => [record.plan.id, record]));
  for (const { record, elsewhere } of found) if (elsewhere) records.set(record.plan.id, record);
  return [...records.values()]
    .filter(({ plan }) => plan.operation.startsWith("restore"))
    .toSorted((a, b) => (a.plan.id < b.plan.id ? -1 : 1));
}

interface OpenedSource {
  readonly source: Source;
  /** What its repository knows of the cluster's revisions. */
  readonly seen: readonly HighWater[];
  /** ULID of the repository; undefined for a file where there is none. */
  readonly repository: string | undefined;
}

async function openSource(tools: Tools, options: RestoreOptions, signal: AbortSignal): Promise<OpenedSource> {
  if (options.asNew === true) {
    const source =
      options.file === undefined
        ? await openBackup(await originalOf(tools, signal), options.backup, signal)
        : fileSource(fileReadingOf(tools), options.file);
    // Nothing is written where the original's backups are: no lock, no lineage, no backup.
    return { source, seen: [], repository: undefined };
  }
  const { seen, repository } = await openRepository(tools, options, signal);
  if (options.file !== undefined) return { source: fileSource(fileReadingOf(tools), options.file), seen, repository };
  if (options.fromMember !== undefined)
    return { source: await openSurvivor(tools, options.fromMember, options, signal), seen, repository };
  return { source: await openBackup(tools, options.backup, signal), seen, repository };
}

async function openRepository(
  tools: Tools,
  { file, fromMember, withoutRepository }: RestoreOptions,
  signal: AbortSignal,
): Promise<Pick<OpenedSource, "seen" | "repository">> {
  if (withoutRepository === true) return { seen: [], repository: undefined };
  try {
    const repository = await repositoryId(tools, signal);
    return { seen: repository === undefined ? [] : await readSeen(tools, repository, signal), repository };
  } catch (error) {
    if (signal.aborted || !isFault(error, ...storeAway) || (file ?? fromMember) === undefined) throw error;
    const hint = `${error.hint === undefined ? "" : `${error.hint}; `}where the store is gone: --without-repository`;
    throw new Fault(error.code, error.message, { hint, cause: error });
  }
}

function fileReadingOf({ scanAny, holders }: Tools): Parameters<typeof fileSource>[0] {
  return { scan: scanAny, holders };
}

/** The same store, read as what it is: another cluster's. */
async function originalOf(tools: Tools, signal: AbortSignal): Promise<Tools> {
  const store = await tools.store();
  const { loaded } = tools;
  const { cluster } = loaded.config;
  const name = await readClusterName(store, signal);
  if (name === undefined)
    throw new Fault("not-found", `${store.description} holds no backups`, {
      hint: "repository.store must be that of the cluster whose backup is meant",
    });
  if (name === cluster.name) {
    throw new Fault(
      "usage",
      `the backups in ${store.description} are of ${name} itself, and so is this configuration`,
      {
        hint: "--as-new takes a configuration of the new cluster, with a cluster.name of its own and the original's repository",
      },
    );
  }
  return { ...tools, loaded: { ...loaded, config: { ...loaded.config, cluster: { ...cluster, name } } } };
}

/** The backup of that name. When none is named: the newest, or the newest proven one of its lineage where the newest is not proven. */
async function openBackup(tools: Tools, named: string | undefined, signal: AbortSignal): Promise<Source> {
  const wanted = named ?? "latest";
  const { catalog, store } = await openCatalog(tools, [wanted], signal);
  const entry = findEntry(catalog, wanted);
  const belief = { repository: entry.manifest.repository, trusted: await tools.trusted() };
  const { proofs } = await readProofs(store, catalog, entry, belief, signal);
  const standing = standingOf(proofs.map(proofRowOf));
  const unproven =
    standing.proof === "proven"
      ? undefined
      : standing.proof === "sealed"
        ? "members could not be compared with it, or disagreed"
        : "no member was compared with it";
  let chosen = { manifest: entry.manifest, unproven, passedOver: undefined as string | undefined };
  if (named === undefined && unproven !== undefined) {
    const listing = await listRepository(store, signal);
    const own = listing.backups.filter(({ lineage }) => lineage === entry.listed.lineage);
    const manifest = await newestProven(store, listing, own, belief, signal);
    if (manifest !== undefined) chosen = { manifest, unproven: undefined, passedOver: entry.manifest.backup };
  }
  return backupSource({ store, scan: tools.scan }, chosen, await decryptionFor(chosen.manifest, tools.identities));
}

function nameOfSource({ facts }: RunbookPlan): string {
  return (facts["source"] as { readonly name: string }).name;
}

async function reopenSource(
  tools: Tools,
  { facts }: RunbookPlan,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<Source> {
  const { kind, name } = facts["source"] as { readonly kind: string; readonly name: string };
  if (kind === "file") return fileSource(fileReadingOf(tools), name);
  if (kind === "member") return await openSurvivor(tools, name.replace(/^member /, ""), options, signal);
  return await openBackup(facts["asNew"] === true ? await originalOf(tools, signal) : tools, name, signal);
}

async function openSurvivor(
  tools: Tools,
  member: string,
  options: RestoreOptions,
  signal: AbortSignal,
): Promise<Source> {
  return await tools.survivor({ member, minor: options.etcdMinor, toolDirectory: options.tools }, signal);
}

/** The revisions that the repository knows of the cluster's own history. */
async function readSeen(tools: Tools, repository: string, signal: AbortSignal): Promise<readonly HighWater[]> {
  const store = await tools.store();
  const belief = { repository, trusted: await tools.trusted() };
  const listing = await listRepository(store, signal);
  return seenInRepository(await readHistories(store, listing, belief, tools.clock.now(), signal));
}

function requestOf(tools: Tools, options: RestoreOptions, id: string, repository: string | undefined): RestoreRequest {
  const { hooks } = tools.loaded.config;
  const quietSeconds = Number(options.quietSeconds ?? 25);
  if (!Number.isInteger(quietSeconds) || quietSeconds < 1 || quietSeconds > 3600)
    throw new Fault("usage", `--quiet-seconds ${options.quietSeconds ?? ""} is no number of seconds from 1 to 3600`);
  return {
    id,
    asNew: options.asNew === true,
    acceptUnproven: options.acceptUnproven === true,
    acceptRebootRisk: options.acceptRebootRisk === true,
    quietMs: quietSeconds * 1000,
    token: `restore-${id}`,
    repository,
    withoutRepository: options.withoutRepository === true,
    lineage: repository === undefined ? undefined : tools.newId(),
    builder: options.builder ?? "lifeboat",
    minor: options.etcdMinor,
    hooks: Object.entries(hooks).flatMap(([phase, hook]) =>
      hook === undefined || phase === "on-failure" ? [] : [phase as HookPhase],
    ),
  };
}

function refusal({ refusals }: Preflight): Fault {
  const [first] = refusals;
  const more = refusals.length > 1 ? ` (and ${refusals.length - 1} more, above)` : "";
  return new Fault("restore-refused", `${first?.message ?? "the restore cannot begin"}${more}`, { hint: first?.hint });
}

function tellOutcome(
  console: Console,
  options: RestoreOptions,
  plan: RunbookPlan,
  outcome: Outcome,
  mode: RunbookMode,
): void {
  const { id } = plan;
  if (options.json === true) {
    printJson(console, {
      schema: "etcd-lifeboat/restore/v1",
      operation: id,
      mode,
      outcome: outcome.kind,
      left: outcome.left,
      hygiene: outcome.kind === "done" ? (readHygiene(outcome.results.get("build")) ?? null) : null,
    });
    return;
  }
  console.out(
    outcome.kind === "done"
      ? `restored by operation ${id}\n`
      : `operation ${id} is taken back: the old data is in place\n`,
  );
  for (const host of outcome.left) {
    const again = `etcd-lifeboat restore ${outcome.kind === "done" ? "--resume" : "--rollback"} ${id}`;
    console.err(`${host} was lost on the way and must be joined again (needs-rejoin); when it is back: ${again}\n`);
  }
  if (outcome.kind !== "done") return;
  for (const { host, args } of plan.steps.filter(({ kind }) => kind === "swap")) {
    const { data, oldName, hadMember } = args;
    if (hadMember === true && typeof data === "string" && typeof oldName === "string")
      console.err(`the old data of ${host ?? ""} stays aside, in ${data}/member.${oldName}\n`);
  }
}

/** What is left to look at after a finished restore, said again; empty where there is nothing to say. */
function hygieneText(plan: RunbookPlan, built: JsonObject | undefined): string {
  return findingsOf(plan, built)
    .map((line) => `look after: ${escapeControls(line)}\n`)
    .join("");
}

function standingText(record: JournalRecord): string {
  const { ended, steps } = standingOfSteps(record.plan, record.entries);
  const text = renderStanding(record);
  return ended === "done" ? `${text}${hygieneText(record.plan, steps.get("build")?.result)}` : text;
}
