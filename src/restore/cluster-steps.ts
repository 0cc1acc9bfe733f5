import { judgeQuiet, neverCalled, quietWindowMs, type Quiet } from "../cluster/quiet.ts";
import { observeCluster } from "../cluster/observe.ts";
import { withDeadline } from "../deadline.ts";
import type { ClientCalls, Etcd, MemberAddress, MemberConnection, MemberStatus } from "../etcd/etcd.ts";
import { Fault, isFault } from "../faults.ts";
import { formatId } from "../repository/documents.ts";
import { createLineage, readLineage } from "../repository/lineage.ts";
import type { StepCheck, StepContext, StepHandler } from "../runbook/runbook.ts";
import { attemptBackup } from "../snapshot/backup.ts";
import { builtResult, noted, type BuiltResult } from "./data-steps.ts";
import type { RestoreRepository } from "./restore.ts";
import { compareData } from "./same-data.ts";
import { requireClientsStopped, textOf, waitFor } from "./service-steps.ts";
import { portOf, runningEtcds, unheardFault, unheardOf, watchUnheard, type RunningEtcd } from "./unheard.ts";
import type { HostWork } from "./host-work.ts";
import type { RestoreWork } from "./work.ts";

export function lockStep(work: HostWork): StepHandler {
  return {
    check: async () => ({ state: work.holdsLock || work.deps.repository === undefined ? "done" : "pending" }),
    async perform({ id }, { results }, signal) {
      if (results.get(id)?.["held"] === true) await work.takeLockAgain(signal);
      else await work.takeLock(signal);
      return { held: true };
    },
    didNothing: isOthers,
    async undo(_step, _context, signal) {
      try {
        await work.releaseLock(signal);
      } catch (error) {
        // It was taken away, and there is nothing of ours to release.
        if (!isOthers(error)) throw error;
      }
    },
  };
}

/** Somebody else has the lock, or holds everybody up. */
function isOthers(error: unknown): boolean {
  return isFault(error, "locked", "paused");
}

export function unlockStep(work: HostWork): StepHandler {
  return {
    // A process that goes on has taken it up again, also after another one had released it and died before that was written down.
    check: async (_step, { notes }) => (work.holdsLock ? { state: "pending" } : noted(notes)),
    async perform(_step, { note }, signal) {
      await work.releaseLock(signal);
      await note({ released: true });
      return undefined;
    },
  };
}

/** A backup of what is there now. The old data stays aside anyway, so a cluster that is too sick to give one is no reason to leave it dead. */
export function safetyBackup(work: RestoreWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(_step, { note }, signal) {
      const { backup } = repositoryOf(work);
      const made = await attemptBackup(backup, { trigger: "demand", label: `before restore ${work.plan.id}` }, signal);
      if (signal.aborted && made.kind === "failed") throw made.fault;
      const result =
        made.kind === "failed"
          ? { backup: null, why: made.fault.message }
          : { backup: made.kind === "committed" ? made.manifest.backup : made.backup };
      if (made.kind === "failed") {
        const message = `no backup of what is there now: ${made.fault.message}; the old data stays aside all the same`;
        work.deps.emit({ name: "warning", about: "restore", message });
      }
      await note(result);
      return result;
    },
  };
}

export function firstBackup(work: RestoreWork): StepHandler {
  return {
    check: async (_step, { notes }) => noted(notes),
    async perform(_step, { note }, signal) {
      const { backup } = repositoryOf(work);
      const made = await attemptBackup(
        { ...backup, etcd: work.deps.restored },
        { trigger: "demand", label: `after restore ${work.plan.id}` },
        signal,
      );
      if (made.kind === "failed") throw made.fault;
      const result = {
        backup: made.kind === "committed" ? made.manifest.backup : made.backup,
        proven: made.kind === "committed" && made.finding?.verdict === "proven",
      };
      if (!result.proven) {
        const why = made.kind === "committed" ? (made.finding?.reason ?? "no member was asked") : "another run made it";
        const message = `the first backup ${result.backup} is not proven yet: ${why}; the daemon asks again`;
        work.deps.emit({ name: "warning", about: "restore", message });
      }
      await note(result);
      return result;
    },
  };
}

/** Registered before the first new member starts: whatever starts then is a history that is known. */
export function lineageStep(work: RestoreWork): StepHandler {
  return {
    async check(step, _context, signal) {
      const { id, backup } = repositoryOf(work);
      try {
        await readLineage(backup.store, id, textOf(step, "lineage"), signal);
        return { state: "done" };
      } catch (error) {
        if (isFault(error, "store-object-missing")) return { state: "pending" };
        throw error;
      }
    },
    async perform(step, context, signal) {
      const { id, backup } = repositoryOf(work);
      const { source, first, parent } = work.facts;
      const { clusterId } = builtResult(context);
      await createLineage(
        backup.store,
        {
          repository: id,
          lineage: textOf(step, "lineage"),
          kind: "live",
          clusterId: formatId(BigInt(`0x${clusterId}`)),
          parent,
          minimumRevision: BigInt(first.revision),
          reason: `restored from ${source.name} by operation ${work.plan.id}`,
        },
        work.deps.clock.now(),
        signal,
      );
      return undefined;
    },
  };
}

function repositoryOf({ deps }: RestoreWork): RestoreRepository {
  if (deps.repository !== undefined) return deps.repository;
  throw new Fault("runbook-refused", "the plan needs the repository, and none is configured");
}

/**
 * Nobody talks to etcd any more. Members that answer say so by their own counters over a window; of one that runs and does not answer it is seen on its host who stays
 * connected; and the stopped services are looked at once more. What is found is noted, since it cannot be looked at again once etcd is stopped; as long as an etcd
 * runs, another process proves it anew.
 */
export function quietStep(work: RestoreWork): StepHandler {
  let proven = false;
  return {
    async check(_step, { notes, results, left }, signal) {
      const found = noted(notes);
      const swapped = work.plan.steps.some(({ id, kind }) => kind === "swap" && results.has(id));
      if (found.state !== "done" || proven || swapped) return found;
      const [runs] = await runningEtcds(work, left, signal);
      return runs === undefined
        ? found
        : { state: "pending", detail: `${runs.member} runs, and clients may have come back` };
    },
    async perform(step, { note, left, results }, signal) {
      const windowMs = typeof step.args["quietMs"] === "number" ? step.args["quietMs"] : quietWindowMs;
      await requireClientsStopped(work, "", results, signal);
      const { members, quorum, revision } = await answeringMembers(work, signal);
      const running = await runningEtcds(work, left, signal);
      const unheard = unheardOf(running, members);
      const unseen = await watchUnheard(work, unheard, quorum, windowMs, signal);
      if (unseen.length > 0) throw unheardFault(unseen, unheard);
      const heard = members.length === 0 ? [] : await listenPatiently(work, members, windowMs, signal);
      if (heard.length > 0) {
        const from = await whoTalks(work, members, signal);
        const said = heard.flatMap(({ seen }) => seen);
        throw new Fault("clients-talk", `somebody still talks to etcd: ${[...said, ...from].join("; ")}`, {
          hint: "stop that client, or describe it under hosts.NAME.services; then resume, or roll back",
        });
      }
      if (unheard.length > 0 && members.length > 0) {
        const now = (await answeringMembers(work, signal)).revision;
        const grew = `the revision grew from ${revision} to ${now}, and nobody who was heard wrote (leases that expire are seen so, too)`;
        if (now > revision) throw unheardFault([grew], unheard);
      }
      proven = true;
      await note({
        quiet: true,
        how: sayQuiet(windowMs, members, unheard),
        members: members.map(({ name }) => name),
      });
      return undefined;
    },
    /** On the way back: clients are started only when the old members serve again. */
    async undo(step, _context, signal) {
      if (step.args["hadQuorum"] !== true) return;
      const serves = async (): Promise<StepCheck> => {
        try {
          const { quorum } = await observeCluster(work.deps.etcd, { ...work.deps.observe, brief: true }, signal);
          return { state: quorum ? "done" : "pending", detail: "it has no quorum yet" };
        } catch (error) {
          if (!isFault(error) || signal.aborted) throw error;
          return { state: "pending", detail: error.message };
        }
      };
      await waitFor(work, "the old cluster serves again", serves, signal);
    },
  };
}

function sayQuiet(windowMs: number, members: readonly MemberAddress[], unheard: readonly RunningEtcd[]): string {
  const within = `in ${windowMs / 1000} s`;
  const said = [
    ...(members.length > 0 ? [`no call, watch or lease of a client ${within}`] : []),
    ...(unheard.length > 0
      ? [
          `nobody stayed connected to ${unheard.map(({ member }) => member).join(", ")} ${within}, which cannot be heard`,
        ]
      : []),
  ];
  return said.length > 0 ? said.join("; ") : "no etcd runs, and every service that is configured is stopped";
}

interface Answering {
  readonly members: readonly MemberAddress[];
  readonly quorum: boolean;
  /** The highest that any of them tells. */
  readonly revision: bigint;
}

async function answeringMembers({ deps }: RestoreWork, signal: AbortSignal): Promise<Answering> {
  try {
    const seen = await observeCluster(deps.etcd, { ...deps.observe, brief: true }, signal);
    const members = seen.members.flatMap((member) => (member.seen.up ? [member.seen.address] : []));
    return { members, quorum: seen.quorum, revision: seen.highestRevision };
  } catch (error) {
    if (signal.aborted || !isFault(error, "etcd-unreachable", "etcd-timeout")) throw error;
    return { members: [], quorum: false, revision: 0n };
  }
}

/** A daemon looks at the lock once a minute, and its looks at members, which read a key, end some seconds after. */
const daemonsKnowMs = 75_000;

/**
 * Listens once, and again while those that are heard may be our own daemons, which do not know of the operation yet. Gives what was heard of clients; nothing when
 * all is silent.
 */
async function listenPatiently(
  work: RestoreWork,
  members: readonly MemberAddress[],
  windowMs: number,
  signal: AbortSignal,
): Promise<readonly Quiet[]> {
  const { clock, emit } = work.deps;
  for (let told = false; ; told = true) {
    const heard = await listen(work, members, windowMs, signal);
    const leftMs = daemonsKnowMs - (clock.elapsed() - (work.lockedAtMs ?? -Infinity));
    if (heard.length === 0 || leftMs <= 0 || !heard.every(({ onlyReads }) => onlyReads)) return heard;
    if (told) continue;
    const message = `somebody reads from etcd (${heard.flatMap(({ seen }) => seen).join("; ")}): it may be a daemon of etcd-lifeboat, which falls silent within a minute or so`;
    emit({ name: "warning", about: "restore", message });
  }
}

/** Looks at every member's counters over the window, and ends early when a client is heard: gives the members that heard one. */
async function listen(
  { deps }: RestoreWork,
  members: readonly MemberAddress[],
  windowMs: number,
  signal: AbortSignal,
): Promise<readonly Quiet[]> {
  const count = async (): Promise<readonly (ClientCalls | undefined)[]> =>
    await Promise.all(
      members.map((address) => countCalls(deps.etcd.connect(address), deps.observe.memberTimeoutMs, signal)),
    );
  const first = await count();
  const began = deps.clock.elapsed();
  for (;;) {
    const leftMs = windowMs - (deps.clock.elapsed() - began);
    await deps.clock.sleep(Math.max(0, Math.min(leftMs, 2_000)), signal);
    const now = await count();
    const heard = members
      .map(({ name }, index) => judgeQuiet(name, first[index], now[index]))
      .filter((member) => !member.quiet);
    if (heard.length > 0 || leftMs <= 2_000) return heard;
  }
}

async function countCalls(
  opened: MemberConnection,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ClientCalls | undefined> {
  await using connection = opened;
  try {
    using deadline = withDeadline(signal, timeoutMs, `${connection.address.name} did not show its metrics`);
    return await connection.clientCalls(deadline.signal);
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    return undefined;
  }
}

/** Addresses that are connected to a member's client port, as far as its host can be asked. */
async function whoTalks(
  { deps }: RestoreWork,
  members: readonly MemberAddress[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const found: string[] = [];
  for (const { host, etcd } of deps.hosts) {
    const address = members.find(({ name }) => name === etcd?.member);
    if (address === undefined) continue;
    try {
      const peers = await host.connections(portOf(address.url), signal);
      const names = new Set(peers.map(({ remoteAddress, remotePort }) => `${remoteAddress}:${remotePort}`));
      if (names.size > 0) found.push(`connected to ${address.name}: ${[...names].slice(0, 20).join(", ")}`);
    } catch (error) {
      // That somebody talks is worse than that nobody sees who.
      if (signal.aborted || !isFault(error)) throw error;
      found.push(`who is connected to ${address.name} cannot be seen: ${error.message}`);
    }
  }
  return found;
}

/** A slow disk still reads as much of a database while etcd opens it and hashes it. */
const slowestBytesPerMs = 20_000;

/** The restored members agree with each other, with the plan, and with what was computed from the file. Health alone would not show the ways to end wrong. */
export function healthyStep(work: RestoreWork): StepHandler {
  /** What `perform` has just seen needs no second look, at which a member may be slow. */
  let seen: StepCheck | undefined;
  const patienceMs = work.deps.patienceMs + work.facts.source.dbBytes / slowestBytesPerMs;
  const look = async (context: StepContext, signal: AbortSignal): Promise<StepCheck> => {
    try {
      const found = await lookAtMembers(work, context, signal);
      const notCompared = found.result?.["notCompared"];
      if (typeof notCompared === "string") work.deps.emit({ name: "warning", about: "restore", message: notCompared });
      return found;
    } catch (error) {
      // An election, or a disk that is slow after the start: time mends it.
      const passing = isFault(error, "etcd-timeout", "etcd-unreachable", "etcd-refused", "etcd-compacted");
      if (signal.aborted || !passing) throw error;
      return { state: "pending", detail: error.message };
    }
  };
  return {
    async check(_step, context, signal) {
      const found = seen ?? (await look(context, signal));
      seen = undefined;
      return found;
    },
    async perform(_step, context, signal) {
      const agree = async (): Promise<StepCheck> => await look(context, signal);
      seen = await waitFor(work, "the restored members agree", agree, signal, patienceMs);
      return undefined;
    },
  };
}

async function lookAtMembers(work: RestoreWork, context: StepContext, signal: AbortSignal): Promise<StepCheck> {
  const built = builtResult(context);
  const gone = new Set(work.facts.members.filter(({ host }) => context.left.has(host)).map(({ name }) => name));
  const planned = built.members.filter(({ name }) => !gone.has(name));
  const answers = await askAll(work, signal);
  refuseOldMembers(work, answers);
  const found = new Map(answers.map((answer) => [answer.status.memberId.toString(16), answer]));
  const missing = planned.filter(({ id }) => !found.has(id));
  if (missing.length > 0) {
    return {
      state: "pending",
      detail: `no answer of ${missing.map(({ name }) => name).join(", ")} as a member of the restored cluster`,
    };
  }
  const present = planned.flatMap(({ id }) => found.get(id) ?? []);
  const leaders = new Set(present.map(({ status }) => status.leader));
  const [leader] = leaders;
  if (leaders.size !== 1 || leader === 0n) return { state: "pending", detail: "there is no leader that all agree on" };
  for (const { address } of present) {
    const why = await judgeMember(work, built, address, signal);
    if (why !== undefined) return { state: "pending", detail: why };
  }
  const addresses = present.map(({ address }) => address);
  const same = await compareData(work.deps.restored, addresses, built, signal);
  if (same.kind === "not-yet") return { state: "pending", detail: same.why };
  const running = await Promise.all(
    present.map(async ({ address, status }) => {
      const { memberTimeoutMs } = work.deps.observe;
      const counters = await countCalls(work.deps.restored.connect(address), memberTimeoutMs, signal);
      return [status.memberId.toString(16), counters?.startedSeconds ?? null] as const;
    }),
  );
  return {
    state: "done",
    result: {
      clusterId: built.clusterId,
      revision: built.revision,
      /** Null: members were compared with each other alone. */
      hash: same.kind === "as-built" ? built.hash : null,
      ...(same.kind === "alike" && {
        notCompared: `the restored members hold the same at revision ${same.revision}, but were not compared with the file: leases have expired since the start, and this version of etcd tells the hash of its newest revision alone`,
      }),
      members: planned.map(({ name }) => name),
      /** Which process of each member nobody had asked yet: one that started later has forgotten whom it answered. */
      startedSeconds: Object.fromEntries(running),
    },
  };
}

interface MemberAnswer {
  readonly address: MemberAddress;
  readonly status: MemberStatus;
}

/** Asks every address at which a member was ever known, one by one: an address that two share would hide one of them. */
async function askAll({ deps, facts }: RestoreWork, signal: AbortSignal): Promise<readonly MemberAnswer[]> {
  const addresses = new Map<string, MemberAddress>();
  for (const { name, urls } of facts.clientUrls) {
    const override = deps.observe.overrides.get(name);
    const { serverName, metricsUrl } = override ?? {};
    for (const url of override?.url === undefined ? urls : [override.url])
      addresses.set(url, { name, url, serverName, metricsUrl });
  }
  for (const url of deps.observe.endpoints) if (!addresses.has(url)) addresses.set(url, { name: url, url });
  const answers = await Promise.all(
    [...addresses.values()].map(async (address) => {
      try {
        return [{ address, status: await askStatus(deps, address, signal) }];
      } catch (error) {
        // Anything else is no silence: who was not asked has not said that he answered nobody.
        if (signal.aborted || !isFault(error, "etcd-unreachable", "etcd-timeout")) throw error;
        return [];
      }
    }),
  );
  return answers.flat();
}

/** As who we are to restored members, and where that is refused as who we are to the old ones: either may answer. */
async function askStatus(
  { restored, etcd, observe }: RestoreWork["deps"],
  address: MemberAddress,
  signal: AbortSignal,
): Promise<MemberStatus> {
  const ask = async (by: Etcd): Promise<MemberStatus> => {
    await using connection = by.connect(address);
    using deadline = withDeadline(signal, observe.memberTimeoutMs, `${address.url} did not answer Status`);
    return await connection.status(deadline.signal);
  };
  try {
    return await ask(restored);
  } catch (error) {
    if (restored === etcd || !isFault(error, "etcd-auth")) throw error;
    return await ask(etcd);
  }
}

/** A member of the old cluster that still answers would serve the old data to whoever asks it. */
function refuseOldMembers({ facts }: RestoreWork, answers: readonly MemberAnswer[]): void {
  const old = facts.old === null ? undefined : BigInt(`0x${facts.old.clusterId}`);
  const alive = answers.find(({ status }) => status.clusterId === old);
  if (alive === undefined) return;
  throw new Fault("old-member-answers", `${alive.address.url} still answers as a member of the old cluster`, {
    hint: "stop that etcd and keep it from starting; then resume, or roll back",
  });
}

/** Why a member is not what it must be yet. */
async function judgeMember(
  work: RestoreWork,
  built: BuiltResult,
  address: MemberAddress,
  signal: AbortSignal,
): Promise<string | undefined> {
  await using connection = work.deps.restored.connect(address);
  const { members } = await connection.members(signal);
  const listed = members.map(({ id }) => id.toString(16)).toSorted();
  const expected = built.members.map(({ id }) => id).toSorted();
  if (listed.join() !== expected.join())
    return `${address.name} lists the members ${listed.join(", ")} instead of ${expected.join(", ")}`;
  await judgeAuth(work, connection, signal);
  for (const { memberId, kind } of built.alarmsLeft)
    await connection.disarm({ memberId: BigInt(`0x${memberId}`), kind }, signal);
  if (built.downgrade) await connection.cancelDowngrade(signal);
  const alarms = await connection.alarms(signal);
  if (alarms.length > 0) return `an alarm ${alarms.map(({ kind }) => kind).join(", ")} is active`;
  return undefined;
}

/** Who may do what is in the data: a member that has it otherwise does not hold what was restored. */
async function judgeAuth({ facts }: RestoreWork, connection: MemberConnection, signal: AbortSignal): Promise<void> {
  const { authEnabled, authRevision } = facts.source;
  const { enabled, revision } = await connection.authStatus(signal);
  const other =
    enabled !== authEnabled
      ? `authentication is ${enabled ? "on" : "off"} and not ${authEnabled ? "on" : "off"}`
      : enabled && revision !== undefined && typeof authRevision === "string" && revision.toString() !== authRevision
        ? `its users are of revision ${revision} and not ${authRevision}`
        : undefined;
  if (other === undefined) return;
  throw new Fault("restore-differs", `${connection.address.name} holds other data than was restored: ${other}`, {
    hint: "somebody has changed it meanwhile, or an old write-ahead log was replayed over it: roll back, and plan again",
  });
}

/**
 * Throws where clients may have been answered from the restored data: to take it back would make revisions go back that they have seen. `released`: clients that this
 * operation had stopped were started, or may have been. From then on only a counter that counts since before says that nobody was answered; a member that is gone,
 * or was started again, says nothing.
 */
export async function refuseLateRollback(
  work: RestoreWork,
  { results, left }: Pick<StepContext, "results" | "left">,
  released: boolean,
  signal: AbortSignal,
): Promise<void> {
  const built = builtResult({ results });
  const away = new Set(work.facts.members.filter(({ host }) => left.has(host)).map(({ name }) => name));
  const since = results.get("healthy")?.["startedSeconds"] as { readonly [id: string]: number | null } | undefined;
  const answers = await askAll(work, signal);
  const known = new Set([built.clusterId, work.facts.old?.clusterId]);
  const other = answers.find(({ status }) => !known.has(status.clusterId.toString(16)));
  if (other !== undefined)
    throw tooLate(
      work,
      other.address.name,
      `another cluster answers at ${other.address.url}: a later restore, or one made anew`,
    );
  for (const { name, id } of built.members) {
    const found = answers.find(({ status }) => status.memberId.toString(16) === id);
    if (found === undefined) {
      if (released && !away.has(name)) throw tooLate(work, name, "it does not answer");
      continue;
    }
    const { memberTimeoutMs } = work.deps.observe;
    const calls = await countCalls(work.deps.restored.connect(found.address), memberTimeoutMs, signal);
    if (calls === undefined) throw tooLate(work, name, "its counters cannot be read");
    if (!neverCalled(calls)) throw tooLate(work, name, `it answered ${calls.calls} calls`);
    if (released && since?.[id] !== calls.startedSeconds) throw tooLate(work, name, "it was started again meanwhile");
  }
}

function tooLate(work: RestoreWork, member: string, seen: string): Fault {
  return new Fault("rollback-too-late", `clients may have seen the restored data of ${member}: ${seen}`, {
    hint: `finish this restore with --resume; to go back to the old data afterwards, restore that: --file ${oldDatabase(work)} --accept-unproven`,
  });
}

/** Where the database of the first host's old data lies: what was written last may be in its log alone. */
function oldDatabase({ plan }: RestoreWork): string {
  const { args } = plan.steps.find(({ kind, args: { hadMember } }) => kind === "swap" && hadMember === true) ?? {};
  const [data, oldName] = [args?.["data"], args?.["oldName"]];
  return typeof data === "string" && typeof oldName === "string" ? `${data}/member.${oldName}/snap/db` : "FILE";
}
