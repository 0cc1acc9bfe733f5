import type { Alarm, Etcd, MemberAddress, MemberList, MemberStatus, V2Content } from "../etcd/etcd.ts";
import { Fault, abortFault, isFault } from "../faults.ts";
import { withDeadline } from "../deadline.ts";

/** One look at a whole cluster, member by member, as plain facts. */
export interface ClusterFacts {
  readonly clusterId: bigint;
  readonly members: readonly MemberFacts[];
  /** Undefined when no member could answer. */
  readonly alarms: readonly Alarm[] | undefined;
  /** A linearizable read succeeded through some member; without reads: a majority of the voters follows one leader. */
  readonly quorum: boolean;
  /** The revision of that read, read after every status: a source must have reached it. Undefined without quorum, and without reads. */
  readonly agreedRevision: bigint | undefined;
  /** The highest revision and raft index that any member told. */
  readonly highestRevision: bigint;
  readonly highestRaftIndex: bigint;
  readonly v2: V2Content;
  /** What an operator should know although the backup goes on: wrong or shared advertised URLs, members that do not answer. */
  readonly findings: readonly Finding[];
}

export interface MemberFacts {
  readonly id: bigint;
  /** For messages; a member that has never started has none of its own and is named by its id. */
  readonly name: string;
  readonly started: boolean;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
  readonly seen:
    | {
        readonly up: true;
        readonly address: MemberAddress;
        readonly status: MemberStatus;
        /** Undefined where etcd's metrics cannot be read. */
        readonly defragmenting: boolean | undefined;
      }
    /** `tried`: the first address of its own that was asked. */
    | { readonly up: false; readonly fault: Fault; readonly tried?: MemberAddress | undefined };
}

export interface Finding {
  readonly about: "member-mismatch" | "member-unreachable" | "member-unstarted";
  readonly member: string;
  readonly message: string;
}

/** What discovery cannot know of a member, by its name. */
export interface MemberOverride {
  readonly url?: string | undefined;
  readonly serverName?: string | undefined;
  readonly metricsUrl?: string | undefined;
}

export interface ObserveOptions {
  readonly endpoints: readonly string[];
  readonly overrides: ReadonlyMap<string, MemberOverride>;
  /** For one member's answers. */
  readonly memberTimeoutMs: number;
  /** Leaves out what only a backup needs to know (v2 content, a running defragmentation): for looks every few seconds. */
  readonly brief?: boolean;
  /**
   * Makes no call that etcd counts as a client's: while a restore listens whether anybody still talks to etcd, and for as long as it could be taken back only if
   * nobody was answered.
   */
  readonly withoutReads?: boolean;
}

/** etcd advises seven voters at most; a list far beyond it would only make us open connections. */
const membersAtMost = 64;

/**
 * Discovers the members behind the endpoints and asks each one itself. Every answer is checked to come from the member that was asked
 * (header.member_id): one address in front of several members is found, not believed. Rejects only when nobody gives a member list.
 */
export async function observeCluster(etcd: Etcd, options: ObserveOptions, signal: AbortSignal): Promise<ClusterFacts> {
  const list = await etcd.members(signal);
  if (list.members.length > membersAtMost) {
    throw new Fault(
      "etcd-refused",
      `the member list has ${list.members.length} members; more than ${membersAtMost} are not believed`,
    );
  }
  const findings: Finding[] = [];
  const members = await Promise.all(
    list.members.map((member) => observeMember(etcd, list, member, options, findings, signal)),
  );
  const up = members.flatMap(({ seen }) => (seen.up ? [seen] : []));
  const answering = up.filter(({ status }) => !status.learner).map(({ address }) => address);
  const agreed =
    options.withoutReads === true
      ? undefined
      : await firstAnswer(etcd, answering, options, signal, async (connection, deadline) => {
          const revision = await connection.linearizableRead(deadline);
          // Asked after the read, so that this member's log is as far as anything that was ever acknowledged.
          return { revision, raftIndex: (await connection.status(deadline)).raftIndex };
        });
  const quorum = options.withoutReads === true ? majorityFollows(members) : agreed !== undefined;
  // Without quorum each member would only run into its timeout.
  const alarms = !quorum
    ? undefined
    : !mayHaveAlarm(up.map(({ status }) => status))
      ? []
      : await firstAnswer(etcd, answering, options, signal, (connection, deadline) => connection.alarms(deadline));
  return {
    clusterId: list.clusterId,
    members,
    alarms,
    quorum,
    agreedRevision: agreed?.revision,
    highestRevision: highest([...up.map(({ status }) => status.revision), agreed?.revision ?? 0n]),
    highestRaftIndex: highest([...up.map(({ status }) => status.raftIndex), agreed?.raftIndex ?? 0n]),
    v2: options.brief === true ? { state: "unknown", why: "not asked" } : await observeV2(etcd, up, options, signal),
    findings,
  };
}

/** A leader that lost its majority steps down within an election timeout (etcd's CheckQuorum), so this is wrong for a second or so at most. */
function majorityFollows(members: readonly MemberFacts[]): boolean {
  const voters = members.filter(({ learner }) => !learner);
  const votes = new Map<bigint, number>();
  for (const { seen } of voters) {
    if (seen.up && seen.status.leader !== 0n) votes.set(seen.status.leader, (votes.get(seen.status.leader) ?? 0) + 1);
  }
  return [...votes.values()].some((count) => count > voters.length / 2);
}

/**
 * False when every member that answered would have told an alarm in its status and told none. Asking for the list is a raft proposal (etcd server.go, Alarm):
 * a look every few seconds must not write into the log of a healthy cluster.
 */
function mayHaveAlarm(statuses: readonly MemberStatus[]): boolean {
  return statuses.some(
    ({ version, errors }) => /^3\.[0-3]\./.test(version) || errors.some((error) => /alarm/i.test(error)),
  );
}

async function observeMember(
  etcd: Etcd,
  list: MemberList,
  member: MemberList["members"][number],
  options: ObserveOptions,
  findings: Finding[],
  signal: AbortSignal,
): Promise<MemberFacts> {
  const started = member.name !== "";
  const name = started ? member.name : `unstarted member ${member.id.toString(16)}`;
  const facts = { ...member, name, started };
  const override = options.overrides.get(member.name) ?? {};
  // The configured endpoints come last: each may be this member, and only its own header tells.
  const urls = override.url === undefined ? [...member.clientUrls, ...options.endpoints] : [override.url];
  let firstFault: Fault | undefined;
  let tried: MemberAddress | undefined;
  for (const url of new Set(urls)) {
    const advertised = member.clientUrls.includes(url) || url === override.url;
    if (advertised && losesTls(url, override, options)) {
      firstFault ??= withoutTls(name, url);
      continue;
    }
    const address: MemberAddress = { name, url, serverName: override.serverName, metricsUrl: override.metricsUrl };
    if (advertised) tried ??= address;
    try {
      return { ...facts, seen: await askMember(etcd, list, member.id, address, options, signal) };
    } catch (error) {
      if (signal.aborted) throw abortFault(signal);
      if (!isFault(error)) throw error;
      if (advertised && error.code === "member-mismatch")
        findings.push({ about: "member-mismatch", member: name, message: error.message });
      if (advertised) firstFault ??= error;
    }
  }
  const fault = firstFault ?? new Fault("etcd-unreachable", `${name} has no address that answers`);
  findings.push(
    started
      ? { about: "member-unreachable", member: name, message: `${name} does not answer: ${fault.message}` }
      : { about: "member-unstarted", member: name, message: `${name} has never started` },
  );
  return { ...facts, seen: { up: false, fault, tried } };
}

/** True for a URL that nobody configured and that would carry token and database in the clear although TLS was asked for. */
function losesTls(url: string, override: MemberOverride, { endpoints }: ObserveOptions): boolean {
  // Parsed, since a member says what it likes: `HTTP://`, or a blank before it.
  if (URL.parse(url)?.protocol !== "http:" || url === override.url) return false;
  return endpoints.length > 0 && endpoints.every((endpoint) => endpoint.startsWith("https:"));
}

function withoutTls(name: string, url: string): Fault {
  return new Fault("etcd-tls", `the advertised URL ${url} has no TLS, and cluster.endpoints have`, {
    hint: `correct the member's --advertise-client-urls, or set cluster.members.${name}.url`,
  });
}

async function askMember(
  etcd: Etcd,
  list: MemberList,
  id: bigint,
  address: MemberAddress,
  options: ObserveOptions,
  signal: AbortSignal,
): Promise<MemberFacts["seen"]> {
  using deadline = withDeadline(signal, options.memberTimeoutMs, `${address.name} at ${address.url} did not answer`);
  await using connection = etcd.connect(address);
  const status = await connection.status(deadline.signal);
  checkMember(address, { clusterId: list.clusterId, memberId: id }, status);
  return {
    up: true,
    address,
    status,
    defragmenting: options.brief === true ? undefined : await connection.defragmenting(deadline.signal),
  };
}

/** Throws `member-mismatch` unless the status is that of the expected member of the expected cluster. */
export function checkMember(
  address: MemberAddress,
  expected: { readonly clusterId: bigint; readonly memberId: bigint },
  status: MemberStatus,
): void {
  if (status.clusterId !== expected.clusterId) {
    throw new Fault(
      "member-mismatch",
      `${address.url}, advertised by ${address.name}, answers for cluster ${status.clusterId.toString(16)}, not ${expected.clusterId.toString(16)}`,
      { hint: `correct the member's --advertise-client-urls, or set cluster.members.${address.name}.url` },
    );
  }
  if (status.memberId !== expected.memberId) {
    throw new Fault(
      "member-mismatch",
      `${address.url}, advertised by ${address.name}, is answered by member ${status.memberId.toString(16)}, not ${expected.memberId.toString(16)}`,
      { hint: `correct the member's --advertise-client-urls, or set cluster.members.${address.name}.url` },
    );
  }
}

/** The first answer of any of the addresses; undefined when none of them can give it. */
async function firstAnswer<T>(
  etcd: Etcd,
  addresses: readonly MemberAddress[],
  options: ObserveOptions,
  signal: AbortSignal,
  ask: (connection: ReturnType<Etcd["connect"]>, signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  for (const address of addresses) {
    try {
      using deadline = withDeadline(signal, options.memberTimeoutMs, `${address.name} did not answer`);
      await using connection = etcd.connect(address);
      return await ask(connection, deadline.signal);
    } catch (error) {
      if (signal.aborted) throw abortFault(signal);
      // A user that may not read says nothing about the cluster: it must not pass for one without quorum.
      if (!isFault(error) || error.code === "etcd-auth") throw error;
    }
  }
  return undefined;
}

/** v2 content is in no v3 snapshot; "no" is said only when a member said it. */
async function observeV2(
  etcd: Etcd,
  up: readonly { readonly address: MemberAddress }[],
  options: ObserveOptions,
  signal: AbortSignal,
): Promise<V2Content> {
  const answer = await firstAnswer(
    etcd,
    up.map(({ address }) => address),
    options,
    signal,
    (connection, deadline) => connection.v2Content(deadline),
  );
  return answer ?? { state: "unknown", why: "no member could be asked" };
}

function highest(values: readonly bigint[]): bigint {
  return values.reduce((top, value) => (value > top ? value : top), 0n);
}
