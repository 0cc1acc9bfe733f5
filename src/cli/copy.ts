import { Fault, isFault } from "../faults.ts";
import { escapeControls } from "../format.ts";
import type { BackupDependencies } from "../snapshot/backup.ts";
import { copyRepository, type CopyOutcome, type CopyTarget } from "../snapshot/copy.ts";
import { refuseClosed } from "./lock.ts";
import { printJson, type CommonOptions, type Console, type Environment, type Tools } from "./tools.ts";

export interface StoreOptions extends CommonOptions {
  /** Name of a copy that is read instead of the first store. */
  readonly store?: string;
}

/** Opens the tools; with --store everything that reads or writes the repository means that copy. */
export function openAt(environment: Environment, { config, store }: StoreOptions): Tools {
  const tools = environment.open(config);
  if (store === undefined) return tools;
  const copy = async (): Promise<CopyTarget["store"]> => (await findCopy(tools, store)).store;
  return {
    ...tools,
    store: copy,
    backup: async (emit) => ({ ...(await tools.backup(emit)), store: await copy() }),
  };
}

async function findCopy(tools: Tools, name: string): Promise<CopyTarget> {
  const copies = await tools.copies();
  const found = copies.find((copy) => copy.name === name);
  if (found !== undefined) return found;
  const names = copies.map((copy) => copy.name).join(", ");
  throw new Fault("usage", `there is no copy "${name}" in ${tools.loaded.path}`, {
    hint: names === "" ? "repository.copies is empty there" : `there is: ${names}`,
  });
}

/** Brings the copies up to date now, or the one that --store names. 3 when something is missing from one of them. */
export async function copyCommand(environment: Environment, options: StoreOptions): Promise<number> {
  const { console, signal } = environment;
  await using tools = environment.open(options.config);
  const copies = options.store === undefined ? await tools.copies() : [await findCopy(tools, options.store)];
  if (copies.length === 0) {
    throw new Fault("config-invalid", `${tools.loaded.path} has no repository.copies`, {
      hint: "write a section such as: copies: [{ name: offsite, store: { directory: /mnt/offsite } }]",
    });
  }
  await refuseClosed(tools, signal);
  const listener = environment.listen(console);
  let results: readonly CopyResult[];
  try {
    results = await bringCopies(tools, await tools.backup(listener.emit), copies, undefined, signal);
  } finally {
    listener.close();
  }
  if (options.json === true) printJson(console, { schema: "etcd-lifeboat/copy/v1", copies: results.map(documentOf) });
  else tellCopies(console, results);
  return results.some(isMissing) ? 3 : 0;
}

/** How the round of one copy ended. */
export interface CopyResult {
  readonly copy: CopyTarget;
  /** Undefined: nothing was there to copy, or the round failed as a whole. */
  readonly outcome: CopyOutcome | undefined;
  readonly fault: Fault | undefined;
}

/** So young a backup of another process is copied by that one. */
const graceMs = 10 * 60_000;

/** Brings copies up to date side by side; trouble is in the results. `own`: the backup that this process has just committed; undefined: everything is copied. */
export async function bringCopies(
  tools: Tools,
  deps: BackupDependencies,
  copies: readonly CopyTarget[],
  own: { readonly lineage: string; readonly backup: string } | undefined,
  signal: AbortSignal,
): Promise<readonly CopyResult[]> {
  const { store, cluster, trusted, clock, emit, encoder } = deps;
  const nowMs = clock.now();
  const request = {
    schedules: tools.loaded.config.schedules.map(({ name }) => name),
    postponed: (listed: {
      readonly lineage: string;
      readonly backup: string;
      readonly stored?: { modifiedMs: number };
    }) =>
      own !== undefined &&
      !(listed.lineage === own.lineage && listed.backup === own.backup) &&
      Math.abs(nowMs - (listed.stored?.modifiedMs ?? 0)) < graceMs,
  };
  const { readBackBelowBytes } = encoder;
  const bring = async (copy: CopyTarget): Promise<CopyResult> => {
    try {
      const by = { store, target: copy, cluster, trusted, readBackBelowBytes, clock, emit };
      const outcome = await copyRepository(by, { ...request, settled: new Set() }, signal);
      return { copy, outcome, fault: outcome?.failed[0]?.fault };
    } catch (error) {
      if (!isFault(error)) throw error;
      return { copy, outcome: undefined, fault: error };
    }
  };
  return await Promise.all(copies.map(bring));
}

/** Whether something that ought to be in the copy is not. */
export function isMissing({ fault }: CopyResult): boolean {
  return fault !== undefined;
}

export function tellCopies(console: Console, results: readonly CopyResult[]): void {
  for (const { copy, outcome, fault } of results) {
    if (outcome !== undefined)
      console.err(`copy ${copy.name}: ${outcome.copied} backups copied to ${copy.store.description}\n`);
    for (const failed of outcome?.failed ?? [])
      console.err(`warning: copy ${copy.name}: ${failed.backup} is missing: ${escapeControls(failed.fault.message)}\n`);
    if (outcome === undefined && fault !== undefined)
      console.err(`warning: copy ${copy.name}: not up to date: ${escapeControls(fault.message)}\n`);
    if (fault?.hint !== undefined) console.err(`copy ${copy.name}: ${escapeControls(fault.hint)}\n`);
  }
}

/** A copy in a JSON document. */
export function documentOf({ copy, outcome, fault }: CopyResult): object {
  return {
    name: copy.name,
    store: copy.store.description,
    ok: fault === undefined,
    copied: outcome?.copied ?? null,
    failed: outcome?.failed.map(({ backup, fault: { code, message } }) => ({ backup, code, message })) ?? [],
    code: fault?.code ?? null,
    message: fault?.message ?? null,
  };
}
