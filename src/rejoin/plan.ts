import { replaced } from "../restore/aside-names.ts";
import type { JsonObject, RunbookPlan, RunbookStep } from "../runbook/runbook.ts";
import type { RejoinFacts, RejoinRequest } from "./facts.ts";
import type { RejoinTarget, RejoinVerdict } from "./gates.ts";

/** The steps of one member's way out and in again, each a condition that shall become true. Pure: what `--plan` prints is what a run does. */
export function planRejoin(
  facts: RejoinFacts,
  request: RejoinRequest,
  { warnings }: RejoinVerdict,
  target: RejoinTarget,
): RunbookPlan {
  const { host, joining } = facts;
  if (host?.etcd === undefined || "fault" in joining) throw new Error("what was refused is not planned");
  const { etcd } = host;
  const { name } = target;
  const at = { phase: "replace", host: host.name };
  const places = {
    data: etcd.dataDirectory,
    ...(etcd.walDirectory !== undefined && { wal: etcd.walDirectory }),
    oldName: `${replaced}${request.id}`,
  };
  const steps: readonly RunbookStep[] = [
    ...(request.repository !== undefined
      ? [step("lock", "prepare", "the operation lock is ours; backups and expiry wait", { holdsUntil: "unlock" })]
      : []),
    {
      ...at,
      ...step(`stop-etcd.${host.name}`, "replace", `etcd on ${host.name} is stopped and stays so`),
      kind: "stop-etcd",
      args: {
        data: etcd.dataDirectory,
        way: etcd.service.way,
        wasRunning: etcd.service.running,
        boots: etcd.service.boots,
      },
      holdsUntil: `start-etcd.${host.name}`,
    },
    {
      ...at,
      ...step(`aside.${host.name}`, "replace", `what is left of the data of ${name} is aside`),
      kind: "aside",
      args: places,
    },
    step("remove", "replace", `${name} is no member any more`, { args: { id: target.id.toString(16) } }),
    step("add", "replace", `${name} is a new ${target.asLearner ? "learner" : "member"} that has not started`),
    { ...at, ...step("join-settings", "replace", `etcd on ${host.name} knows that it joins: ${joining.how}`) },
    {
      ...at,
      ...step(
        `start-etcd.${host.name}`,
        "replace",
        `etcd on ${host.name} runs, with an empty data directory that the others fill`,
      ),
      kind: "start-joining",
    },
    step("joined", "replace", `${name} has started, and the others know it by its name`, { harmless: true }),
    ...(target.asLearner ? [step("promote", "replace", `${name} has caught up, and is a voter`)] : []),
    step("agreed", "finish", "every member that answers holds the same data, by HashKV, and the others are named", {
      harmless: true,
    }),
    {
      ...at,
      ...step("settings-back", "finish", "what had to be written only for the join is taken back"),
      phase: "finish",
    },
    ...(request.repository !== undefined ? [step("unlock", "finish", "the operation lock is released")] : []),
  ];
  return {
    schema: "etcd-lifeboat/plan/v1",
    operation: "restore-member",
    id: request.id,
    cluster: facts.cluster,
    createdAt: facts.now,
    warnings,
    facts: {
      member: name,
      host: host.name,
      oldId: target.id.toString(16),
      peerUrls: target.peerUrls,
      asLearner: target.asLearner,
      minor: target.minor,
      repository: request.repository ?? null,
    },
    steps,
  };
}

function step(
  id: string,
  phase: string,
  title: string,
  others: Partial<Pick<RunbookStep, "args" | "harmless" | "holdsUntil">> = {},
): RunbookStep {
  return { id, kind: id, phase, title, args: {}, ...others };
}

/** What must not have changed between a plan that was read and its run. */
export function fingerprint({ clusterId, members, host }: RejoinFacts): JsonObject {
  return {
    clusterId: clusterId.toString(16),
    members: members.map(({ id, up }) => ({ id: id.toString(16), up })),
    host: host?.name ?? null,
    data: host?.etcd?.dataDirectory ?? null,
    hasMember: host?.etcd?.hasMember ?? false,
  };
}
