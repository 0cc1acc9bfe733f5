import { parseDuration } from "../config/units.ts";
import { abortFault, Fault, isFault } from "../faults.ts";
import { escapeControls, formatAge, formatDuration } from "../format.ts";
import { readOverview, type Overview, type ScheduleFacts } from "./overview.ts";
import type { CommonOptions, Environment } from "./tools.ts";
import { findTroubles, toleranceOf, usualLimits, type AgeLimits, type Trouble } from "./troubles.ts";

export interface CheckOptions extends CommonOptions {
  readonly warning?: string;
  readonly critical?: string;
  readonly proofWarning?: string;
  readonly proofCritical?: string;
  readonly timeout: string;
}

/** Statuses and words as Nagios and its heirs read them. */
export const nagios = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const;

/**
 * One line with performance data, and 0 to 3, for Nagios, Icinga, Checkmk and the like. Whatever keeps it from looking is UNKNOWN, never an error of another
 * status, and it ends before the caller loses patience.
 */
export async function checkCommand(
  environment: Environment,
  chosen: readonly string[],
  options: CheckOptions,
): Promise<number> {
  const { console } = environment;
  try {
    const { overview, limits } = await lookInTime(environment, chosen, options);
    const troubles = findTroubles(overview, limits);
    const worst = troubles[0]?.severity ?? "ok";
    const says = troubles.length === 0 ? allWell(overview) : troubles.map(inWords).join("; ");
    console.out(`${worst.toUpperCase()}: ${plain(says)} | ${perfdata(overview, limits)}\n`);
    return nagios[worst];
  } catch (error) {
    if (!isFault(error)) throw error;
    console.out(unknownLine(error));
    return nagios.unknown;
  }
}

/** What is printed where nothing could be looked at. */
export function unknownLine({ message, hint }: Fault): string {
  return `UNKNOWN: ${plain(message)}${hint === undefined ? "" : ` (${plain(hint)})`}\n`;
}

async function lookInTime(
  { open, signal: outer }: Environment,
  chosen: readonly string[],
  options: CheckOptions,
): Promise<{ readonly overview: Overview; readonly limits: (schedule: ScheduleFacts) => AgeLimits }> {
  const limits = readLimits(options);
  const timeoutMs = readDuration("--timeout", options.timeout) ?? 50_000;
  const late = AbortSignal.timeout(timeoutMs);
  const controller = new AbortController();
  late.addEventListener("abort", () =>
    controller.abort(new Fault("interrupted", `no answer within ${formatDuration(timeoutMs)}`)),
  );
  const signal = AbortSignal.any([outer, controller.signal]);
  await using tools = open(options.config);
  const names = tools.loaded.config.schedules.map(({ name }) => name);
  const missing = chosen.find((name) => !names.includes(name));
  if (missing !== undefined) {
    throw new Fault("usage", `there is no schedule "${missing}" in ${tools.loaded.path}`, {
      hint: names.length === 0 ? "schedules is empty there" : `there is: ${names.join(", ")}`,
    });
  }
  const overview = await readOverview(tools, { brief: true }, signal);
  if (signal.aborted) throw abortFault(signal);
  const schedules = overview.schedules.filter(({ name }) => chosen.length === 0 || chosen.includes(name));
  return { overview: { ...overview, schedules }, limits };
}

/** A flag holds for every schedule; without one, each schedule's own interval decides. */
function readLimits(options: CheckOptions): (schedule: ScheduleFacts) => AgeLimits {
  const given = {
    warningMs: readDuration("--warning", options.warning),
    criticalMs: readDuration("--critical", options.critical),
    proofWarningMs: readDuration("--proof-warning", options.proofWarning),
    proofCriticalMs: readDuration("--proof-critical", options.proofCritical),
  };
  return ({ intervalMs }) => {
    const usual = usualLimits(intervalMs);
    return {
      warningMs: given.warningMs ?? usual.warningMs,
      criticalMs: given.criticalMs ?? usual.criticalMs,
      proofWarningMs: given.proofWarningMs ?? usual.proofWarningMs,
      proofCriticalMs: given.proofCriticalMs ?? usual.proofCriticalMs,
    };
  };
}

function readDuration(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const durationMs = parseDuration(text);
  if (durationMs !== undefined && durationMs > 0) return durationMs;
  throw new Fault("usage", `${flag} "${text}" is no duration`, {
    hint: "write a number and a unit, such as 90s, 5m or 24h",
  });
}

function allWell({ schedules, repository, cluster, nowMs }: Overview): string {
  const ages = schedules.map(({ name, committedMs }) =>
    committedMs === undefined ? `${name} not due yet` : `${name} ${formatAge(committedMs, nowMs)}`,
  );
  const { newest, newestProven } = repository.value ?? {};
  const proven = newestProven === undefined ? "" : `, proven ${formatAge(Date.parse(newestProven.committedAt), nowMs)}`;
  const unscheduled = newest === undefined ? "none" : formatAge(Date.parse(newest.committedAt), nowMs);
  const voters = cluster.value === undefined ? "" : `, ${votersInWords(cluster.value)}`;
  return `backup ${ages.length === 0 ? unscheduled : ages.join(", ")}${proven}${voters}`;
}

function votersInWords(facts: NonNullable<Overview["cluster"]["value"]>): string {
  const { votersUp, voters } = toleranceOf(facts);
  return `${votersUp} of ${voters} voters up`;
}

function inWords({ about, message, severity }: Trouble): string {
  return severity === "warning" ? `${about}: ${message}` : `${severity.toUpperCase()} ${about}: ${message}`;
}

/** `'label'=value[unit];[warning];[critical];[least];[most]`; a value that is not known is left out. */
function perfdata(
  { schedules, repository, cluster, copies, spool, nowMs }: Overview,
  limits: (schedule: ScheduleFacts) => AgeLimits,
): string {
  const data: string[] = [];
  const seconds = (ms: number | undefined): string => (ms === undefined ? "" : String(Math.round(ms / 1000)));
  for (const schedule of schedules) {
    const { warningMs, criticalMs, proofWarningMs, proofCriticalMs } = limits(schedule);
    const { name, committedMs, provenMs } = schedule;
    const age = (
      what: string,
      thenMs: number | undefined,
      warn: number | undefined,
      critical: number | undefined,
    ): void => {
      if (thenMs === undefined) return;
      data.push(`'${name}_${what}'=${seconds(Math.max(0, nowMs - thenMs))}s;${seconds(warn)};${seconds(critical)};0;`);
    };
    age("age", committedMs, warningMs, criticalMs);
    age("proof_age", provenMs, proofWarningMs, proofCriticalMs);
  }
  if (repository.value !== undefined) data.push(`'backups'=${repository.value.backups};;;0;`);
  if (cluster.value !== undefined) {
    const { votersUp, voters, needed, tolerates } = toleranceOf(cluster.value);
    data.push(`'voters_up'=${votersUp};${voters}:;${needed}:;0;${voters}`, `'failures_tolerated'=${tolerates};;;0;`);
  }
  for (const { name, compared } of copies) {
    if (compared.value !== undefined) data.push(`'copy_${name}_missing'=${compared.value.missing};;;0;`);
  }
  if (spool !== undefined) data.push(`'spool_free'=${spool.freeBytes}B;;;0;${spool.sizeBytes}`);
  return data.join(" ");
}

/** One line, and no bar in it: what follows one is performance data. */
function plain(text: string): string {
  return escapeControls(text).replaceAll("|", "/");
}
