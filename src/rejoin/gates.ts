import type { HostFacts } from "../restore/facts.ts";
import { judgeAway, judgePlaces } from "../restore/gates.ts";
import type { RejoinFacts, RejoinRequest, SeenMember } from "./facts.ts";

/** What must hold before one member is taken out and joined anew. Pure: facts in, refusals and warnings out. */
export interface RejoinVerdict {
  readonly refusals: readonly { readonly message: string; readonly hint: string }[];
  readonly warnings: readonly string[];
  /** The member as the cluster knows it; undefined when it cannot be told. */
  readonly target: RejoinTarget | undefined;
}

export interface RejoinTarget extends SeenMember {
  /** It joins as a learner first, and is promoted when it has caught up: from etcd 3.4 on. */
  readonly asLearner: boolean;
  /** Of the other members, such as `3.6`. */
  readonly minor: string;
}

interface Notes {
  readonly refusals: { readonly message: string; readonly hint: string }[];
  readonly warnings: string[];
}

export function judgeRejoin(facts: RejoinFacts, request: RejoinRequest): RejoinVerdict {
  const notes: Notes = { refusals: [], warnings: [] };
  const found = facts.members.find(({ name }) => name === request.member);
  if (found === undefined) {
    notes.refusals.push({
      message: `the cluster has no member "${request.member}"`,
      hint: `there are: ${facts.members.map(({ name }) => name).join(", ")}; one that is gone already is added by hand: etcdctl member add`,
    });
  }
  const others = facts.members.filter(({ name }) => name !== request.member);
  const [minor = "", another] = [...new Set(others.flatMap(({ version }) => minorOf(version)))].toSorted();
  if (another !== undefined) {
    notes.refusals.push({
      message: `the other members are of different minors: ${minor}, ${another}`,
      hint: "finish the upgrade, or stop it, before a member joins anew",
    });
  }
  const asLearner = minor !== "" && minor !== "3.3";
  if (found !== undefined) judgeCluster(facts, found, others, asLearner, notes);
  judgeHost(facts, request, notes);
  return { ...notes, target: found === undefined ? undefined : { ...found, asLearner, minor } };
}

function minorOf(version: string | undefined): readonly string[] {
  const minor = /^(\d+\.\d+)\b/.exec(version ?? "")?.[1];
  return minor === undefined ? [] : [minor];
}

/** Whether the others can agree without it: now, while it is out, and while it is in and has not started. */
function judgeCluster(
  { quorum }: RejoinFacts,
  target: SeenMember,
  others: readonly SeenMember[],
  asLearner: boolean,
  { refusals, warnings }: Notes,
): void {
  const { name } = target;
  const voters = others.filter(({ learner }) => !learner);
  const up = voters.filter((member) => member.up).length;
  if (voters.length === 0) {
    refusals.push({
      message: `${name} is the only voter: nobody could give its data back`,
      hint: "restore a backup: etcd-lifeboat restore",
    });
    return;
  }
  if (!quorum) {
    refusals.push({
      message: `the cluster has no quorum: ${up} of the other ${voters.length} voters answer`,
      hint: "bring the others back first; or restore the cluster: etcd-lifeboat restore, or restore --from-member",
    });
    return;
  }
  // It is stopped when its removal is agreed on, and counts until then; so does a voter that was added and has not started.
  const countsMeanwhile = !target.learner || !asLearner;
  const needed = majority(voters.length + (countsMeanwhile ? 1 : 0));
  if (up < needed) {
    const down = voters.filter((member) => !member.up);
    refusals.push({
      message: `quorum would be lost: without ${name} there are ${voters.length} voters, ${needed} of them must answer until it has joined, and ${up} do`,
      hint: down.length > 0 ? `bring ${names(down)} back first` : "add another member first: etcdctl member add",
    });
  } else if (up === needed) {
    warnings.push(
      `until ${name} has joined, the cluster cannot lose another member: ${needed} voters are needed, and ${up} answer`,
    );
  }
  const learner = others.find((member) => member.learner);
  if (asLearner && learner !== undefined) {
    refusals.push({
      message: `the cluster has a learner already, ${learner.name === "" ? learner.id.toString(16) : learner.name}, and etcd takes one at a time`,
      hint: "promote it or remove it first: etcdctl member promote, or remove",
    });
  }
  if (target.up) warnings.push(`${name} answers now; it is stopped, and what only its data holds is left aside`);
  if (!asLearner) warnings.push(`etcd 3.3 has no learners: ${name} joins as a voter at once`);
}

function majority(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

function names(members: readonly SeenMember[]): string {
  return members.map(({ name }) => name).join(", ");
}

function judgeHost(facts: RejoinFacts, request: RejoinRequest, { refusals, warnings }: Notes): void {
  const { host } = facts;
  if (host === undefined) {
    refusals.push({
      message: `no host of the configuration carries ${request.member}`,
      hint: `describe its host under hosts.NAME.etcd with member: ${request.member}`,
    });
    return;
  }
  const away = judgeAway(host);
  if (away !== undefined) refusals.push(away);
  if (host.etcd === undefined) return;
  if ("fault" in facts.joining) refusals.push({ message: facts.joining.fault, hint: facts.joining.hint });
  judgeEtcd({ ...host, etcd: host.etcd }, facts, request, { refusals, warnings });
  const near = host.services.filter(({ running }) => running).map(({ name }) => name);
  if (near.length > 0)
    warnings.push(`${near.join(", ")} on ${host.name} stay up; whoever asks only this etcd gets no answer meanwhile`);
}

function judgeEtcd(
  { name, etcd }: HostFacts & { readonly etcd: NonNullable<HostFacts["etcd"]> },
  { walIsMountPoint }: RejoinFacts,
  { acceptRebootRisk }: RejoinRequest,
  { refusals, warnings }: Notes,
): void {
  const { service, dataDirectory, walDirectory } = etcd;
  refusals.push(...judgePlaces(name, etcd));
  if (service.heldBy !== undefined) {
    refusals.push({
      message: `${service.name} on ${name} is held by the operation ${service.heldBy}`,
      hint: "finish that one first: etcd-lifeboat restore status",
    });
  }
  if (!service.canHold) {
    const message = `a reboot of ${name} meanwhile would start ${service.name}`;
    if (acceptRebootRisk) warnings.push(message);
    else
      refusals.push({ message, hint: "give it disable and enable commands, or accept the risk: --accept-reboot-risk" });
  }
  if (etcd.owner === undefined && etcd.links.every(({ path }) => path !== dataDirectory)) {
    refusals.push({
      message: `${dataDirectory} does not exist on ${name}: nobody knows whose it must be`,
      hint: `create it with etcd's owner and mode 0700, or correct hosts.${name}.etcd.dataDirectory`,
    });
  }
  if (walDirectory === undefined && etcd.hasMember && !etcd.hasWal)
    warnings.push(
      `${dataDirectory}/member of ${name} has no wal directory; if etcd keeps its log elsewhere, set walDirectory`,
    );
  if (etcd.memberIsMountPoint || walIsMountPoint) {
    const path = etcd.memberIsMountPoint ? `${dataDirectory}/member` : (walDirectory ?? "");
    refusals.push({
      message: `${path} of ${name} is a file system of its own: it can be neither renamed nor made anew by etcd`,
      hint: "mount it one directory higher, then plan again",
    });
  }
  if (!etcd.hasMember) warnings.push(`${dataDirectory} of ${name} holds no member: there is nothing to move aside`);
}
