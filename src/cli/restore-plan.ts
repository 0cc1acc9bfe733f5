import { escapeControls, formatBytes, formatDuration, formatTime } from "../format.ts";
import type { EtcdHostFacts, HostFacts, RestoreFacts, SourceFacts } from "../restore/facts.ts";
import { expectAway } from "../restore/plan.ts";
import type { PreparedRestore } from "../restore/run.ts";
import { numberSteps, renderPlan } from "../runbook/render.ts";
import type { RunbookPlan } from "../runbook/runbook.ts";

/** A restore that was planned, or refused, before anything was touched. */
type Planned = Pick<PreparedRestore, "facts" | "preflight" | "plan">;

/** What people read before they type the cluster's name: what it costs first, and once more beside the prompt, since what is between them is long. */
export function describeRestore({ facts, preflight, plan }: Planned, asNew: boolean): string {
  const { source } = facts;
  const lines = [
    asNew ? `restore ${source.name} as a new cluster, ${facts.cluster}` : `restore ${facts.cluster} to ${source.name}`,
    ...preflight.offers.map((offer) => `  NEWER: ${offer}`),
    `  lost: ${preflight.lost}`,
    `  goes back to: ${saySource(source)}`,
    `  now: ${sayNow(facts)}`,
    ...(plan === undefined
      ? []
      : [
          ...sayAway(plan),
          `  starts at revision ${preflight.first.revision}, since clients must never see one go back: ${preflight.first.why}`,
          "hosts",
          ...facts.hosts.flatMap(sayHost),
        ]),
    ...preflight.warnings.map((warning) => `warning: ${warning}`),
    ...preflight.refusals.flatMap(({ message, hint }) => [`REFUSED: ${message}`, `  ${hint}`]),
  ].map((line) => `${escapeControls(line)}\n`);
  return `${lines.join("")}${plan === undefined ? "" : `${renderPlan({ ...plan, warnings: [] })}${sayEnd(plan, preflight.lost)}`}`;
}

/** The same for programs. */
export function documentRestore({ preflight, plan }: Planned): object {
  return {
    schema: "etcd-lifeboat/restore-plan/v1",
    refusals: preflight.refusals,
    warnings: preflight.warnings,
    lost: preflight.lost,
    offers: preflight.offers,
    expectedAwayMs: plan === undefined ? null : expectAway(plan).durationMs,
    plan: plan ?? null,
  };
}

function saySource({ revision, keys, dbBytes, takenMs, unproven, survivor }: SourceFacts): string {
  const proof =
    survivor !== undefined
      ? "the member's own data, with nobody left to compare it with"
      : unproven === undefined
        ? "proven"
        : `NOT PROVEN (${unproven})`;
  const taken = takenMs === undefined ? "taken nobody knows when" : `taken ${formatTime(takenMs)}`;
  return `revision ${revision}, ${taken}, ${keys} keys, ${formatBytes(dbBytes)}, ${proof}`;
}

function sayNow({ live, liveFault }: RestoreFacts): string {
  if (live === undefined) return `no member answers (${liveFault ?? ""})`;
  const up = live.members.filter((member) => member.up).length;
  return `${up} of ${live.members.length} members answer, ${live.quorum ? "with" : "WITHOUT"} quorum, at revision ${live.highestRevision}`;
}

/** For how long, and until when nothing is final. */
function sayAway(plan: RunbookPlan): readonly string[] {
  const numbers = numberSteps(plan);
  const { what, from, until, durationMs } = expectAway(plan);
  const steps = `steps ${numbers.get(from) ?? 0} to ${numbers.get(until) ?? 0}`;
  const hooks = plan.steps.some(({ kind }) => kind === "hook") ? ", without what hooks take" : "";
  const back = what === "API servers" ? ", until the first is back" : "";
  const late = plan.steps.find(({ kind }) => kind === "start-service") ?? plan.steps.find(({ id }) => id === until);
  return [
    `  away: ${what} for about ${formatDuration(durationMs)}${back} (${steps}${hooks})`,
    `  can be taken back (restore --rollback) until step ${numbers.get(late?.id ?? "") ?? 0} begins, since clients are answered from then on`,
  ];
}

function sayHost({ name, etcd, services }: HostFacts): readonly string[] {
  const others = services.map((service) => service.name);
  const stopped = others.length === 0 ? [] : [`    stopped meanwhile: ${others.join(", ")}`];
  return [`  ${name}: ${etcd === undefined ? "no member" : sayMember(etcd)}`, ...stopped];
}

function sayMember({ member, service, dataDirectory, walDirectory }: EtcdHostFacts): string {
  const log = walDirectory === undefined ? "" : `, its log in ${walDirectory}`;
  return `${member}, run as ${service.way}, its data in ${dataDirectory}${log}`;
}

function sayEnd({ steps }: RunbookPlan, lost: string): string {
  const swap = steps.find(({ kind, args }) => kind === "swap" && args["hadMember"] === true);
  const name = swap?.args["oldName"];
  const kept =
    typeof name === "string"
      ? `the old data stays on each host, beside the new, as member.${name}, until: etcd-lifeboat cleanup\n`
      : "";
  return `${kept}${escapeControls(`this loses ${lost}`)}\n`;
}
