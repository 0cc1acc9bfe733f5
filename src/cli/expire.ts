import type { Config } from "../config/schema.ts";
import { Fault } from "../faults.ts";
import { escapeControls, formatAge, formatBytes, formatTime } from "../format.ts";
import { formatInstant } from "../repository/documents.ts";
import { closedGate, judgeLock } from "../repository/gates.ts";
import { readLock } from "../repository/lock.ts";
import { collectBounds } from "../snapshot/collect.ts";
import {
  applyRetention,
  countsOf,
  expireNamed,
  openExpiry,
  requireClock,
  surveyRetention,
  type ExpireDependencies,
  type Held,
  type RetentionOutcome,
  type RetentionSurvey,
} from "../snapshot/expire.ts";
import type { RetentionPolicy, Verdict } from "../snapshot/keep.ts";
import { openAt, type StoreOptions } from "./copy.ts";
import { formatTable } from "./table.ts";
import { printJson, type Console, type Environment, type Tools } from "./tools.ts";

export interface ExpireOptions extends StoreOptions {
  readonly yes?: boolean;
}

/** Shows what retention keeps and lets go, or what is named, and removes it with --yes. */
export async function expireCommand(
  environment: Environment,
  names: readonly string[],
  options: ExpireOptions,
): Promise<number> {
  const { console, signal } = environment;
  await using tools = openAt(environment, options);
  const listener = environment.listen(console);
  try {
    const { config } = tools.loaded;
    const policy = names.length > 0 ? undefined : requirePolicy(config, tools.loaded.path);
    const deps = await openExpiry(
      {
        cluster: config.cluster.name,
        store: await tools.store(),
        trusted: await tools.trusted(),
        signer: await tools.signer(),
        clock: tools.clock,
        catalogDirectory: tools.catalogDirectory,
        emit: listener.emit,
        policy,
        bounds: collectBounds,
        coordination: config.repository.coordination.prefix,
        gate: (signal) => closedToExpiry(tools, signal),
      },
      signal,
    );
    if (deps === undefined)
      throw new Fault("not-found", "there is no repository yet", { hint: "run: etcd-lifeboat backup" });
    const survey = await surveyRetention(deps, signal);
    const chosen = names.length > 0 ? chooseNamed(survey, names) : survey.verdicts;
    if (options.yes === true) {
      requireClock(survey);
      const closed = await closedToExpiry(tools, signal);
      if (closed !== undefined) throw closed;
    }
    if (options.json !== true) console.out(tableOf(survey, chosen));
    const outcome =
      options.yes === true ? await act(deps, survey, names.length > 0 ? chosen : undefined, signal) : undefined;
    listener.close();
    if (options.json === true) printJson(console, documentOf(deps, survey, chosen, outcome));
    else tell(console, survey, chosen, outcome);
    return 0;
  } finally {
    listener.close();
  }
}

/** What retention is asked for by the configuration. */
export function policyOf({ retention, schedules }: Config): RetentionPolicy | undefined {
  if (retention === undefined) return undefined;
  return { ...retention, maxBytes: retention.maxBytes, schedules: schedules.map(({ name }) => name) };
}

function requirePolicy(config: Config, path: string): RetentionPolicy {
  const policy = policyOf(config);
  if (policy !== undefined) return policy;
  throw new Fault("config-invalid", `${path} has no retention, so nothing is too old`, {
    hint: "write a section such as: retention: { hourly: 24, daily: 7, weekly: 5, within: 48h }",
  });
}

/** Only what retention never counts is removed by its name: for the others it decides. */
function chooseNamed({ verdicts }: RetentionSurvey, names: readonly string[]): readonly Verdict<Held>[] {
  return names.map((name) => {
    const found = verdicts.filter(({ held }) => held.backup === name || `${held.lineage}/${held.backup}` === name);
    const [verdict, second] = found;
    if (verdict === undefined) throw new Fault("not-found", `no backup "${name}"`, { hint: "run: etcd-lifeboat list" });
    if (second !== undefined)
      throw new Fault("usage", `"${name}" names more than one backup`, { hint: "give the lineage too: LINEAGE/ID" });
    const { held } = verdict;
    if (held.kind !== "foreign") {
      throw new Fault("usage", `${name} is no imported file, and only those are expired by name`, {
        hint: "what retention does with it: etcd-lifeboat expire",
      });
    }
    if (held.pinned !== undefined)
      throw new Fault("usage", `${name} is pinned: ${held.pinned}`, { hint: `first: etcd-lifeboat unpin ${name}` });
    return { held, keep: false, reasons: ["imported, and named"] };
  });
}

async function closedToExpiry(tools: Tools, signal: AbortSignal): Promise<Fault | undefined> {
  const lock = await tools.lock();
  return closedGate(judgeLock(await readLock(lock, signal), tools.clock.now()), "expiry", lock.describe);
}

async function act(
  deps: ExpireDependencies,
  survey: RetentionSurvey,
  named: readonly Verdict<Held>[] | undefined,
  signal: AbortSignal,
): Promise<RetentionOutcome> {
  if (named === undefined) return await applyRetention(deps, survey, Infinity, signal);
  return await expireNamed(
    deps,
    survey,
    named.map(({ held }) => held),
    signal,
  );
}

function tableOf(survey: RetentionSurvey, chosen: readonly Verdict<Held>[]): string {
  const nowMs = survey.storeNowMs ?? Math.max(0, ...chosen.map(({ held }) => held.committedMs));
  const several = new Set(chosen.map(({ held }) => held.lineage)).size > 1;
  const rows = chosen.map(({ held, keep, reasons }) => [
    held.backup,
    formatAge(held.committedMs, nowMs),
    held.kind === "refused" ? "-" : formatBytes(held.storedBytes),
    held.proven ? "proven" : "-",
    keep ? "keep" : "GO",
    ...(several ? [held.lineage] : []),
    reasons.join("; "),
  ]);
  if (rows.length === 0) return "";
  return formatTable([["BACKUP", "AGE", "STORED", "PROOF", "ACTION", ...(several ? ["LINEAGE"] : []), "WHY"], ...rows]);
}

function tell(
  console: Console,
  survey: RetentionSurvey,
  chosen: readonly Verdict<Held>[],
  outcome: RetentionOutcome | undefined,
): void {
  const going = chosen.filter(({ keep }) => !keep).map(({ held }) => held);
  const bytes = formatBytes(going.reduce((sum, { storedBytes }) => sum + storedBytes, 0));
  const { collection } = survey;
  const old = collection.orphans.length;
  if (old > 0) console.err(`${old} snapshots that nobody committed are given up as well\n`);
  for (const lineage of collection.blocked)
    console.err(`in lineage ${lineage} nothing is given up: a manifest there cannot be read, and may name it\n`);
  if (outcome === undefined) {
    console.err(`${going.length} of ${chosen.length} backups go, ${bytes}; nothing was removed: do it with --yes\n`);
    tellSkew(console, survey);
    return;
  }
  console.err(
    `${outcome.expired} of ${going.length} backups expired; their data goes in a day; ${formatBytes(outcome.freedBytes)} of earlier ones freed\n`,
  );
  if (outcome.locked > 0) {
    const { lockedUntilMs } = outcome;
    const until =
      lockedUntilMs === undefined
        ? ""
        : `, the first until ${lockedUntilMs === Infinity ? "a legal hold ends" : formatTime(lockedUntilMs)}`;
    console.err(`the store keeps ${outcome.locked} or more objects under a lock${until}\n`);
  }
}

/** What --yes would be refused for. */
function tellSkew(console: Console, survey: RetentionSurvey): void {
  try {
    requireClock(survey);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    console.err(`warning: clock: ${escapeControls(error.message)}: nothing will be removed\n`);
  }
}

function documentOf(
  deps: ExpireDependencies,
  survey: RetentionSurvey,
  chosen: readonly Verdict<Held>[],
  outcome: RetentionOutcome | undefined,
): object {
  const { collection, storeNowMs, aheadMs } = survey;
  const lockedUntilMs = outcome?.lockedUntilMs;
  return {
    schema: "etcd-lifeboat/expire/v1",
    store: deps.store.description,
    storeTime: storeNowMs === undefined ? null : formatInstant(storeNowMs),
    clockAheadMs: aheadMs === undefined ? null : Math.round(aheadMs),
    backups: chosen.map(({ held, keep, reasons }) => ({
      backup: held.backup,
      lineage: held.lineage,
      kind: held.kind,
      schedule: held.schedule ?? null,
      label: held.label,
      committedAt: formatInstant(held.committedMs),
      storedBytes: held.storedBytes,
      proven: held.proven,
      pinned: held.pinned ?? null,
      keep,
      reasons,
    })),
    ...countsOf(survey),
    orphans: collection.orphans.length,
    blockedLineages: collection.blocked,
    outcome:
      outcome === undefined
        ? null
        : {
            ...outcome,
            lockedUntilMs: undefined,
            lockedUntil:
              lockedUntilMs === undefined || lockedUntilMs === Infinity ? null : formatInstant(lockedUntilMs),
          },
  };
}
