import { observeCluster, type MemberFacts } from "../cluster/observe.ts";
import { withDeadline } from "../deadline.ts";
import type { HashKv, Member, MemberConnection } from "../etcd/etcd.ts";
import { Fault, isFault } from "../faults.ts";
import { lockStep, unlockStep } from "../restore/cluster-steps.ts";
import { noted } from "../restore/data-steps.ts";
import type { HostWork } from "../restore/host-work.ts";
import { bringDown, stopEtcd, waitFor } from "../restore/service-steps.ts";
import type { JsonObject, StepCheck, StepContext, StepHandler } from "../runbook/runbook.ts";
import type { Joining } from "../service/service.ts";
import { asideStep } from "./aside.ts";

/** How each step of one member's way out and in again is checked, performed and undone. */
export function rejoinSteps(work: HostWork): Readonly<Record<string, StepHandler>> {
  return {
    lock: lockStep(work),
    "stop-etcd": stopEtcd(work),
    aside: asideStep(work),
    remove: removeStep(work),
    add: addStep(work),
    "join-settings": settingsStep(work),
    "start-joining": startStep(work),
    joined: joinedStep(work),
    promote: promoteStep(work),
    agreed: agreedStep(work),
    "settings-back": settingsBackStep(work),
    unlock: unlockStep(work),
  };
}

/** What `planRejoin` wrote, as it is read back from a journal. */
interface Facts {
  readonly member: string;
  readonly host: string;
  readonly oldId: string;
  readonly peerUrls: readonly string[];
  readonly asLearner: boolean;
  readonly minor: string;
}

function factsOf({ plan }: HostWork): Facts {
  return plan.facts as unknown as Facts;
}

/** An ID that was removed never comes back: then only the way forward is left. */
export async function refuseLateRollback(work: HostWork, signal: AbortSignal): Promise<void> {
  const { oldId, member } = factsOf(work);
  const list = await askOther(work, signal, async (connection, stop) => (await connection.members(stop)).members);
  if (list.some(({ id }) => id.toString(16) === oldId)) return;
  throw new Fault(
    "rollback-too-late",
    `${member} was removed from the cluster, and its old data can never be of it again`,
    {
      hint: `go on: etcd-lifeboat restore-member --resume ${work.plan.id}`,
    },
  );
}

/** Asks a voter that answers and is not the one that is joined anew. */
async function askOther<T>(
  work: HostWork,
  signal: AbortSignal,
  ask: (connection: MemberConnection, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { etcd, observe } = work.deps;
  const { members } = await observeCluster(etcd, { ...observe, brief: true }, signal);
  const { member } = factsOf(work);
  const other = members.find(({ name, learner, seen }) => seen.up && !learner && name !== member);
  if (other?.seen.up !== true) throw new Fault("etcd-unreachable", `no member but ${member} answers`);
  await using connection = etcd.connect(other.seen.address);
  using deadline = withDeadline(signal, observe.memberTimeoutMs, `${other.name} did not answer`);
  return await ask(connection, deadline.signal);
}

async function listed(work: HostWork, signal: AbortSignal): Promise<readonly Member[]> {
  return await askOther(work, signal, async (connection, stop) => (await connection.members(stop)).members);
}

/** Tries what etcd refuses while others have just started, a learner lags, or a leader is elected. */
async function insist(work: HostWork, what: string, attempt: () => Promise<void>, signal: AbortSignal): Promise<void> {
  const tried = async (): Promise<StepCheck> => {
    try {
      await attempt();
      return { state: "done" };
    } catch (error) {
      if (signal.aborted || !isFault(error, "etcd-refused", "etcd-timeout", "etcd-unreachable")) throw error;
      return { state: "pending", detail: error.message };
    }
  };
  await waitFor(work, what, tried, signal);
}

function removeStep(work: HostWork): StepHandler {
  const check = async (signal: AbortSignal): Promise<StepCheck> => {
    const { oldId } = factsOf(work);
    const there = (await listed(work, signal)).some(({ id }) => id.toString(16) === oldId);
    return { state: there ? "pending" : "done" };
  };
  return {
    check: async (_step, _context, signal) => await check(signal),
    async perform(_step, _context, signal) {
      const { oldId, member } = factsOf(work);
      const remove = async (): Promise<void> => {
        // A try whose answer was lost may have removed it.
        if ((await check(signal)).state === "done") return;
        await askOther(
          work,
          signal,
          async (connection, stop) => await connection.removeMember(BigInt(`0x${oldId}`), stop),
        );
      };
      await insist(work, `${member} is removed`, remove, signal);
      return undefined;
    },
  };
}

/** The new one has its peer URLs, which etcd gives to one member only, and another ID. */
async function findAdded(work: HostWork, signal: AbortSignal): Promise<Member | undefined> {
  const { oldId, peerUrls } = factsOf(work);
  return (await listed(work, signal)).find(
    (member) => member.id.toString(16) !== oldId && member.peerUrls.some((url) => peerUrls.includes(url)),
  );
}

function addStep(work: HostWork): StepHandler {
  return {
    async check(_step, _context, signal) {
      const found = await findAdded(work, signal);
      return found === undefined ? { state: "pending" } : { state: "done", result: { id: found.id.toString(16) } };
    },
    async perform(_step, _context, signal) {
      const { member, peerUrls, asLearner } = factsOf(work);
      const add = async (): Promise<void> => {
        if ((await findAdded(work, signal)) !== undefined) return;
        await askOther(
          work,
          signal,
          async (connection, stop) => void (await connection.addMember(peerUrls, asLearner, stop)),
        );
      };
      await insist(work, `${member} is added`, add, signal);
      return undefined;
    },
  };
}

function joiningOf(work: HostWork): Joining {
  const { joining } = work.etcdOf(factsOf(work).host).service;
  if (joining !== undefined) return joining;
  throw new Fault("runbook-refused", "the configuration no longer says how etcd is made to join", {
    hint: "describe it again as it was when this was planned",
  });
}

/** `NAME=URL` of every member as the cluster lists them, since no host's own settings can be believed to have all of them. */
function settingsStep(work: HostWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(_step, { note }, signal) {
      const { member, peerUrls } = factsOf(work);
      const added = await findAdded(work, signal);
      const members = (await listed(work, signal)).filter(({ id }) => id !== added?.id);
      const all = [...members.map(({ name, peerUrls: urls }) => ({ name, urls })), { name: member, urls: peerUrls }];
      const initialCluster = all.flatMap(({ name, urls }) => urls.map((url) => `${name}=${url}`)).join(",");
      await joiningOf(work).prepare(work.plan.id, initialCluster, signal);
      await note({ initialCluster });
      return undefined;
    },
    undo: async (_step, _context, signal) => await joiningOf(work).undo(work.plan.id, signal),
  };
}

function settingsBackStep(work: HostWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(_step, { note }, signal) {
      await joiningOf(work).finish(work.plan.id, signal);
      await note({ finished: true });
      return undefined;
    },
  };
}

function startStep(work: HostWork): StepHandler {
  const check = async (signal: AbortSignal): Promise<StepCheck> => {
    const { running, heldBy, detail } = await work.etcdOf(factsOf(work).host).service.state(signal);
    if (heldBy !== undefined) return { state: "pending", detail: `held by ${heldBy}` };
    return { state: running ? "done" : "pending", detail };
  };
  return {
    check: async (_step, _context, signal) => await check(signal),
    async perform(_step, context, signal) {
      const { host } = factsOf(work);
      const { service } = work.etcdOf(host);
      await service.release(signal);
      await joiningOf(work).start(initialClusterOf(context), signal);
      await waitFor(work, `etcd on ${host} runs`, () => check(signal), signal);
      return undefined;
    },
    undo: async (_step, _context, signal) => await bringDown(work, work.etcdOf(factsOf(work).host).service, signal),
  };
}

function initialClusterOf({ results }: StepContext): string {
  const settings = results.get("join-settings")?.["initialCluster"];
  if (typeof settings === "string") return settings;
  throw new Fault("journal-invalid", "the journal does not say which members there are to join");
}

function joinedStep(work: HostWork): StepHandler {
  const check = async (signal: AbortSignal): Promise<StepCheck> => {
    const { member } = factsOf(work);
    const added = await findAdded(work, signal);
    if (added === undefined) return { state: "pending", detail: `the cluster does not list ${member}` };
    // It tells its name to the others itself, once it has caught up with the log.
    if (added.name !== member || added.clientUrls.length === 0)
      return { state: "pending", detail: `${member} has not told the others its name yet` };
    return { state: "done", result: { id: added.id.toString(16) } };
  };
  return {
    check: async (_step, _context, signal) => await check(signal),
    async perform(_step, _context, signal) {
      await waitFor(work, `${factsOf(work).member} has started`, () => check(signal), signal);
      return undefined;
    },
  };
}

function promoteStep(work: HostWork): StepHandler {
  const check = async (signal: AbortSignal): Promise<StepCheck> => {
    const added = await findAdded(work, signal);
    return { state: added?.learner === false ? "done" : "pending" };
  };
  return {
    check: async (_step, _context, signal) => await check(signal),
    async perform(_step, _context, signal) {
      const { member } = factsOf(work);
      const promote = async (): Promise<void> => {
        const added = await findAdded(work, signal);
        if (added === undefined || !added.learner) return;
        await askOther(work, signal, async (connection, stop) => await connection.promoteMember(added.id, stop));
      };
      await insist(work, `${member} is promoted`, promote, signal);
      return undefined;
    },
  };
}

/** Health alone would not show a member that holds something else, or runs another minor. Who stays away for all our patience is named, and not compared. */
function agreedStep(work: HostWork): StepHandler {
  const check = async (without: ReadonlySet<string>, signal: AbortSignal): Promise<Agreement> => {
    try {
      return await lookAtAll(work, without, signal);
    } catch (error) {
      if (signal.aborted || !isFault(error, "etcd-unreachable", "etcd-timeout", "etcd-compacted", "etcd-refused"))
        throw error;
      return { state: "pending", detail: error.message };
    }
  };
  return {
    check: async (_step, { notes }, signal) => await check(new Set(notes.flatMap(notAskedOf)), signal),
    async perform(_step, { note }, signal) {
      let away: readonly string[] = [];
      const look = async (): Promise<StepCheck> => {
        const seen = await check(new Set(), signal);
        away = seen.away ?? [];
        return seen;
      };
      try {
        await waitFor(work, "every member holds the same", look, signal);
      } catch (error) {
        if (!isFault(error, "service-failed") || away.length === 0) throw error;
        const message = `${away.join(", ")} did not answer, and nobody knows whether what it holds is the same`;
        work.deps.emit({ name: "warning", about: `operation ${work.plan.id}`, message });
        await note({ notAsked: away });
      }
      return undefined;
    },
  };
}

/** `away`: that some members do not answer is all that is missing. */
type Agreement = StepCheck & { readonly away?: readonly string[] };

function notAskedOf({ notAsked }: JsonObject): readonly string[] {
  return Array.isArray(notAsked) ? notAsked.filter((name) => typeof name === "string") : [];
}

async function lookAtAll(work: HostWork, without: ReadonlySet<string>, signal: AbortSignal): Promise<Agreement> {
  const { deps } = work;
  const { minor, member } = factsOf(work);
  const { members, quorum } = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
  if (!quorum) return { state: "pending", detail: "the cluster has no quorum" };
  const up = members.flatMap(({ name, seen }) => (seen.up ? [{ name, ...seen }] : []));
  const own = up.find(({ name }) => name === member);
  if (own === undefined) return { state: "pending", detail: `${member} does not answer` };
  if (!own.status.version.startsWith(`${minor}.`))
    return { state: "pending", detail: `${member} runs etcd ${own.status.version}, and the others ${minor}` };
  const revision = up.reduce((low, { status }) => (status.revision < low ? status.revision : low), own.status.revision);
  const hashes = await hashesOf(work, up, revision, signal);
  const ours = hashes.find(({ name }) => name === member)?.answer;
  for (const { name, answer } of hashes) {
    if (ours === undefined || answer.compactRevision !== ours.compactRevision)
      return { state: "pending", detail: `${name} and ${member} have not compacted alike` };
    if (answer.hash !== ours.hash) {
      throw new Fault(
        "restore-differs",
        `${member} holds other data than ${name}: HashKV ${ours.hash} instead of ${answer.hash} at revision ${revision}`,
        { hint: "one of them is damaged: compare with the third, and look at etcd's log there" },
      );
    }
  }
  if (hashes.length === 1) return { state: "pending", detail: "no other member answers" };
  const away = members.flatMap(({ id, name, seen }) => (seen.up ? [] : [name === "" ? id.toString(16) : name]));
  if (away.some((name) => !without.has(name)))
    return { state: "pending", detail: `${away.join(", ")} does not answer`, away };
  return {
    state: "done",
    result: {
      revision: revision.toString(),
      hash: ours?.hash ?? 0,
      members: hashes.map(({ name }) => name),
      notAsked: away,
    },
  };
}

type Up = Extract<MemberFacts["seen"], { readonly up: true }>;

interface Hashed {
  readonly name: string;
  readonly answer: HashKv;
}

/** At one revision; up to 3.4 a member refuses the revision up to which it has compacted, and then its newest one is asked for, which all must have. */
async function hashesOf(
  { deps }: HostWork,
  members: readonly (Up & { readonly name: string })[],
  revision: bigint,
  signal: AbortSignal,
): Promise<readonly Hashed[]> {
  const ask = async (at: bigint): Promise<readonly Hashed[]> =>
    await Promise.all(
      members.map(async ({ name, address }) => {
        await using connection = deps.etcd.connect(address);
        return { name, answer: await connection.hashKv(at, signal) };
      }),
    );
  try {
    return await ask(revision);
  } catch (error) {
    if (!isFault(error, "etcd-compacted")) throw error;
  }
  const newest = await ask(0n);
  if (new Set(newest.map(({ answer }) => answer.revision)).size === 1) return newest;
  throw new Fault("etcd-compacted", "writes go on, and the members have compacted what was compared");
}
