import { Fault } from "../faults.ts";
import { escapeControls } from "../format.ts";
import { executeRejoin, prepareRejoin, refuseStaleRejoin, type PreparedRejoin } from "../rejoin/run.ts";
import { replaced } from "../restore/aside-names.ts";
import { renderPlan } from "../runbook/render.ts";
import type { Outcome, RunbookMode, RunbookPlan } from "../runbook/runbook.ts";
import {
  confirm,
  continueOperation,
  hookOnFailure,
  refuseUnfinished,
  repositoryId,
  type Continuing,
} from "./operation.ts";
import { printJson, type CommonOptions, type Environment, type Tools } from "./tools.ts";

export interface RestoreMemberOptions extends CommonOptions, Continuing {
  readonly plan?: boolean;
  readonly resume?: string | true;
  readonly rollback?: string | true;
  readonly acceptRebootRisk?: boolean;
}

/** Takes one member that lost its data out of its cluster and joins it anew: plans, asks, executes; or goes on with that, or takes it back. */
export async function restoreMemberCommand(
  environment: Environment,
  member: string | undefined,
  options: RestoreMemberOptions,
): Promise<number> {
  const { resume, rollback } = options;
  const given = [member, resume, rollback].filter((way) => way !== undefined);
  if (given.length !== 1) {
    throw new Fault("usage", "name one member, or give --resume or --rollback", {
      hint: "etcd-lifeboat restore-member etcd2 --plan",
    });
  }
  await using tools = environment.open(options.config);
  if (resume !== undefined) return await goOn(environment, tools, options, "resume", resume);
  if (rollback !== undefined) return await goOn(environment, tools, options, "rollback", rollback);
  return await begin(environment, tools, member ?? "", options);
}

async function begin(
  environment: Environment,
  tools: Tools,
  member: string,
  options: RestoreMemberOptions,
): Promise<number> {
  const { console, signal } = environment;
  if (options.plan !== true) await refuseUnfinished(environment, tools);
  const listener = environment.listen(console);
  try {
    const repository = await repositoryId(tools, signal);
    const deps = await tools.hosts({ repository, emit: listener.emit });
    const request = {
      id: tools.newId(),
      member,
      acceptRebootRisk: options.acceptRebootRisk === true,
      repository,
    };
    const prepared = await prepareRejoin(deps, request, signal);
    const { plan, verdict } = prepared;
    if (options.json === true && (options.plan === true || plan === undefined))
      printJson(console, documentOf(prepared));
    else console.err(describePrepared(member, prepared));
    if (plan === undefined) {
      const [first] = verdict.refusals;
      throw new Fault("restore-refused", first?.message ?? "it cannot begin", { hint: first?.hint });
    }
    if (options.plan === true) return 0;
    await confirm(console, options, tools.loaded.config.cluster.name);
    await refuseStaleRejoin(deps, request, prepared, signal);
    await using journal = await tools.journals(listener.emit).create(plan, signal);
    const outcome = await executeRejoin(deps, journal, "run", hookOnFailure(tools, listener.emit), signal);
    tellOutcome(environment, options, plan, outcome, "run");
    return 0;
  } finally {
    listener.close();
  }
}

async function goOn(
  environment: Environment,
  tools: Tools,
  options: RestoreMemberOptions,
  mode: Exclude<RunbookMode, "run">,
  wanted: string | true,
): Promise<number> {
  const { plan, outcome } = await continueOperation(environment, tools, options, {
    operation: "restore-member",
    mode,
    wanted,
    open: async ({ facts: { repository } }, emit) =>
      await tools.hosts({ repository: typeof repository === "string" ? repository : undefined, emit }),
    execute: async (deps, journal, onFailure, signal) => await executeRejoin(deps, journal, mode, onFailure, signal),
  });
  tellOutcome(environment, options, plan, outcome, mode);
  return 0;
}

/** What people read before they type the cluster's name. */
function describePrepared(member: string, { facts, verdict, plan }: PreparedRejoin): string {
  const up = facts.members.filter((one) => one.up).length;
  const lines = [
    `restore-member ${member}`,
    `  now: ${up} of ${facts.members.length} members answer, ${facts.quorum ? "with" : "WITHOUT"} quorum`,
    ...verdict.refusals.flatMap(({ message, hint }) => [`REFUSED: ${message}`, `  ${hint}`]),
  ].map((line) => escapeControls(line));
  return `${lines.join("\n")}\n${plan === undefined ? "" : renderPlan(plan)}`;
}

function documentOf({ verdict, plan }: PreparedRejoin): object {
  const { refusals, warnings } = verdict;
  return { schema: "etcd-lifeboat/restore-member-plan/v1", refusals, warnings, plan: plan ?? null };
}

function tellOutcome(
  { console }: Environment,
  options: RestoreMemberOptions,
  { id, facts }: RunbookPlan,
  { kind, results }: Outcome,
  mode: RunbookMode,
): void {
  const away = results.get("agreed")?.["notAsked"];
  const notAsked = Array.isArray(away) ? away.map(String) : [];
  const member = typeof facts["member"] === "string" ? facts["member"] : "";
  if (options.json === true) {
    printJson(console, {
      schema: "etcd-lifeboat/restore-member/v1",
      operation: id,
      mode,
      outcome: kind,
      member,
      notAsked,
    });
    return;
  }
  console.out(
    kind === "done"
      ? `${member} has joined anew, by operation ${id}, and holds what the others${notAsked.length > 0 ? " that answer" : ""} hold\n`
      : `operation ${id} is taken back: ${member} is as it was found\n`,
  );
  if (notAsked.length > 0) console.err(`${escapeControls(notAsked.join(", "))} did not answer, and was not compared\n`);
  if (kind === "done") console.err(`what was left of its data stays aside, in member.${replaced}${id}\n`);
}
