import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  Alarm,
  AuthStatus,
  Certificate,
  ClientCalls,
  Etcd,
  HashKv,
  MemberAddress,
  MemberConnection,
  MemberList,
  MemberStatus,
  OwnCertificates,
  ServerMetrics,
  SnapshotMessage,
  V2Content,
} from "../../src/etcd/etcd.ts";
import { abortFault, Fault, throwIfAborted } from "../../src/faults.ts";

export type FakeCall =
  | "members"
  | "status"
  | "alarms"
  | "hashKv"
  | "linearizableRead"
  | "serializableRead"
  | "serverCertificate"
  | "serverMetrics"
  | "v2Content"
  | "defragmenting"
  | "diskTimes"
  | "clientCalls"
  | "disarm"
  | "cancelDowngrade"
  | "authStatus"
  | "addMember"
  | "removeMember"
  | "promoteMember"
  | "snapshot";

/** One scripted member. Everything may be changed while the fake is in use; the next call sees it. */
export interface FakeMember {
  name: string;
  /** 1n, 2n, … in the order of the list by default. */
  id?: bigint;
  /** `http://NAME.invalid:2379` by default. */
  url?: string;
  learner?: boolean;
  /** By default made of its name. */
  peerUrls?: readonly string[];
  /** Nobody answers at its URL. */
  down?: boolean;
  /** The member that really answers at this member's URL: a shared or wrong advertised URL. */
  answeredBy?: string;
  /** What its metrics say of clients; undefined when they cannot be read, nobody called by default. */
  clientCalls?: ClientCalls | undefined;
  /** Merged into what the fake would answer. */
  status?: Partial<MemberStatus>;
  /** The hash that HashKV gives; 1 by default, as on every member that agrees. A function is asked with the compaction revision. */
  hash?: number | ((compactRevision: bigint) => number);
  /** Where this member has another than the script's. */
  compactRevision?: bigint;
  /** Merged into what HashKV would answer: another cluster's, another member's. */
  hashKv?: Partial<HashKv>;
  v2?: V2Content;
  defragmenting?: boolean | undefined;
  /** What it shows at its client port; none by default, as without TLS. */
  certificate?: Certificate;
  /** Merged into what its metrics page would say; null: there is no such page. */
  metrics?: Partial<ServerMetrics> | null;
  /** A database, sent in chunks of 32 KiB with its seal, or the messages themselves in batches. */
  snapshot?: Uint8Array | (() => AsyncIterable<readonly SnapshotMessage[]>);
  /** What a call throws; a function is asked at every call, undefined lets it through. */
  fail?: Partial<Record<FakeCall, Fault | (() => Fault | undefined)>>;
  /** How long a call waits before it answers, in milliseconds of the real clock. */
  delayMs?: Partial<Record<FakeCall, number>>;
  /** Added to the connections that were counted: the transport broke and came back. */
  reconnects?: number;
}

export interface FakeScript {
  clusterId?: bigint;
  members: FakeMember[];
  /** Name of the leader; the first voter by default, null for none. */
  leader?: string | null;
  revision?: bigint;
  /** The revision of the last compaction; -1n for none. */
  compactRevision?: bigint;
  raftIndex?: bigint;
  alarms?: Alarm[];
  /** Server version of every member; 3.6.0 by default. */
  version?: string;
  /** False: reads that need a majority fail. */
  quorum?: boolean;
  /** Off by default. */
  auth?: AuthStatus;
  /** A downgrade was enabled. */
  downgrading?: boolean;
  /** In our own TLS files; none by default. */
  certificates?: OwnCertificates | Fault;
}

export interface FakeEtcd extends Etcd {
  readonly script: FakeScript;
  /** `status etcd1` and so on, in the order of the calls. */
  readonly calls: string[];
  /** Connections and streams that are open now. */
  readonly open: () => number;
  member(name: string): FakeMember;
  address(name: string): MemberAddress;
}

const chunkBytes = 32 * 1024;

/** An etcd without network, steered by its script. It keeps the contract's suite like the real adapter. */
export function fakeEtcd(script: FakeScript): FakeEtcd {
  const calls: string[] = [];
  const open = new Set<object>();
  const find = (name: string): FakeMember => {
    const member = script.members.find((each) => each.name === name);
    if (member === undefined) throw new Error(`the script has no member ${name}`);
    return member;
  };
  const address = (name: string): MemberAddress => ({ name, url: urlOf(find(name)) });
  return {
    script,
    calls,
    open: () => open.size,
    member: find,
    address,
    connect,
    certificates: async () => {
      if (script.certificates instanceof Fault) throw script.certificates;
      return script.certificates ?? { client: undefined, ca: [] };
    },
    members: async (signal) => {
      throwIfAborted(signal);
      const reasons: string[] = [];
      for (const member of script.members) {
        try {
          return await called(member, "members", signal, () => memberList(member));
        } catch (error) {
          if (!(error instanceof Fault) || signal.aborted || error.code === "etcd-auth") throw error;
          reasons.push(error.message);
        }
      }
      throw new Fault("etcd-unreachable", `no endpoint answers: ${reasons.join("; ")}`);
    },
    [Symbol.asyncDispose]: async () => {
      open.clear();
    },
  };

  function connect(at: MemberAddress): MemberConnection {
    const handle = {};
    let connected = false;
    open.add(handle);
    const there = (): FakeMember => {
      const listed = script.members.find((each) => urlOf(each) === at.url && each.down !== true);
      if (listed === undefined) throw new Fault("etcd-unreachable", `${at.name} (${at.url}) cannot be reached`);
      connected = true;
      return listed.answeredBy === undefined ? listed : find(listed.answeredBy);
    };
    const ask = async <Value>(
      call: FakeCall,
      signal: AbortSignal,
      answer: (member: FakeMember) => Value,
    ): Promise<Value> => {
      throwIfAborted(signal);
      const member = there();
      return called(member, call, signal, () => answer(member));
    };
    return {
      address: at,
      get connections() {
        const member = script.members.find((each) => urlOf(each) === at.url);
        return connected ? 1 + (member?.reconnects ?? 0) : 0;
      },
      status: (signal) => ask("status", signal, statusOf),
      alarms: (signal) => ask("alarms", signal, (member) => voter(member, "Alarm", script.alarms ?? [])),
      disarm: (alarm, signal) =>
        ask("disarm", signal, () => {
          script.alarms = (script.alarms ?? []).filter(
            ({ memberId, kind }) => memberId !== alarm.memberId || kind !== alarm.kind,
          );
        }),
      cancelDowngrade: (signal) =>
        ask("cancelDowngrade", signal, () => {
          if (storageVersionOf() === undefined) throw new Fault("etcd-refused", "unknown method Downgrade");
          script.downgrading = false;
        }),
      authStatus: (signal) =>
        ask("authStatus", signal, () => {
          const { enabled, revision = 1n } = script.auth ?? { enabled: false };
          return { enabled, revision: /^3\.[0-4]\./.test(versionOf()) ? undefined : revision };
        }),
      members: (signal) => ask("members", signal, memberList),
      addMember: (peerUrls, learner, signal) =>
        ask("addMember", signal, (member) => {
          if (script.members.some((each) => peerUrlsOf(each).some((url) => peerUrls.includes(url))))
            throw new Fault(
              "etcd-refused",
              `${member.name} answered MemberAdd with an error: Peer URLs already exists`,
            );
          // IDs go by the order, and that of a removed one is never given again.
          for (const each of script.members) each.id ??= idOf(each);
          const id = script.members.reduce((top, each) => (idOf(each) > top ? idOf(each) : top), 0n) + 1n;
          script.members.push({ name: "", id, peerUrls, learner, down: true });
          return id;
        }),
      removeMember: (id, signal) =>
        ask("removeMember", signal, (member) => {
          const gone = withId(id, member);
          for (const each of script.members) each.id ??= idOf(each);
          script.members = script.members.filter((each) => each !== gone);
        }),
      promoteMember: (id, signal) =>
        ask("promoteMember", signal, (member) => {
          const found = withId(id, member);
          const why =
            found.learner !== true
              ? "etcdserver: can only promote a learner member"
              : found.down === true
                ? "etcdserver: can only promote a learner member which is in sync with leader"
                : undefined;
          if (why !== undefined)
            throw new Fault("etcd-refused", `${member.name} answered MemberPromote with an error: ${why}`);
          found.learner = false;
        }),
      hashKv: (revision, signal) =>
        ask("hashKv", signal, (member) => voter(member, "HashKV", hashKv(member, revision))),
      linearizableRead: (signal) =>
        ask("linearizableRead", signal, (member) => {
          if (script.quorum === false) throw new Fault("etcd-timeout", `${member.name} did not answer Range in time`);
          return revisionOf();
        }),
      serializableRead: (signal) =>
        ask("serializableRead", signal, (member) => member.status?.revision ?? revisionOf()),
      serverCertificate: (signal) => ask("serverCertificate", signal, (member) => member.certificate),
      serverMetrics: (signal) => ask("serverMetrics", signal, metricsOf),
      v2Content: (signal) =>
        ask("v2Content", signal, (member) => member.v2 ?? { state: "no", why: "etcd 3.6 and later have no v2 store" }),
      defragmenting: (signal) =>
        ask("defragmenting", signal, (member) => ("defragmenting" in member ? member.defragmenting : false)),
      // Every revision was written, and took the disk two milliseconds.
      diskTimes: (signal) =>
        ask("diskTimes", signal, () => {
          const time = { count: Number(revisionOf()), seconds: Number(revisionOf()) * 0.002 };
          return { walFsync: time, backendCommit: time };
        }),
      clientCalls: (signal) =>
        ask("clientCalls", signal, (member) =>
          "clientCalls" in member
            ? member.clientCalls
            : { startedSeconds: 1, calls: 0, byMethod: new Map(), openStreams: 0, watchers: 0 },
        ),
      snapshot: (signal) => stream(there, signal),
      [Symbol.asyncDispose]: async () => {
        open.delete(handle);
      },
    };
  }

  async function* stream(there: () => FakeMember, signal: AbortSignal): AsyncGenerator<readonly SnapshotMessage[]> {
    throwIfAborted(signal);
    const member = there();
    await called(member, "snapshot", signal, () => undefined);
    const handle = {};
    open.add(handle);
    try {
      const source = member.snapshot ?? Buffer.alloc(8192, 1);
      const batches = source instanceof Uint8Array ? [messagesOf(source, storageVersionOf() ?? "")] : source();
      for await (const batch of batches) {
        throwIfAborted(signal);
        yield batch;
      }
      throwIfAborted(signal);
    } finally {
      open.delete(handle);
    }
  }

  async function called<Value>(
    member: FakeMember,
    call: FakeCall,
    signal: AbortSignal,
    answer: () => Value,
  ): Promise<Value> {
    calls.push(`${call} ${member.name}`);
    const delayMs = member.delayMs?.[call];
    if (delayMs !== undefined) {
      await sleep(delayMs, undefined, { signal }).catch(() => {
        throw abortFault(signal);
      });
    }
    if (member.down === true)
      throw new Fault("etcd-unreachable", `${member.name} (${urlOf(member)}) cannot be reached`);
    const fail = member.fail?.[call];
    const fault = typeof fail === "function" ? fail() : fail;
    if (fault !== undefined) throw fault;
    return answer();
  }

  function withId(id: bigint, answering: FakeMember): FakeMember {
    const found = script.members.find((member) => idOf(member) === id);
    if (found !== undefined) return found;
    throw new Fault("etcd-refused", `${answering.name} answered with an error: etcdserver: member not found`);
  }

  function memberList(answering: FakeMember): MemberList {
    voter(answering, "MemberList", undefined);
    return {
      clusterId: script.clusterId ?? 100n,
      answeredBy: idOf(answering),
      members: script.members.map((member) => ({
        id: idOf(member),
        name: member.name,
        peerUrls: peerUrlsOf(member),
        // One that was added and has not started has told neither.
        clientUrls: member.name === "" ? [] : [urlOf(member)],
        learner: member.learner === true,
      })),
    };
  }

  function statusOf(member: FakeMember): MemberStatus {
    const leader =
      script.leader === undefined ? script.members.find((each) => each.learner !== true)?.name : script.leader;
    const index = script.raftIndex ?? 1000n;
    return {
      clusterId: script.clusterId ?? 100n,
      memberId: idOf(member),
      revision: revisionOf(),
      raftTerm: 2n,
      raftIndex: index,
      raftAppliedIndex: index,
      version: versionOf(),
      storageVersion: storageVersionOf(),
      leader: leader === null || leader === undefined ? 0n : idOf(find(leader)),
      learner: member.learner === true,
      dbBytes: 8192,
      dbInUseBytes: 4096,
      quotaBytes: 2 * 2 ** 30,
      // Every member tells every alarm (etcd ≥ 3.4, maintenance.go).
      errors: (script.alarms ?? []).map(({ memberId, kind }) => `memberID:${memberId} alarm:${kind} `),
      ...member.status,
    };
  }

  /** Every revision was written, and took the disk two milliseconds. */
  function metricsOf(member: FakeMember): ServerMetrics | undefined {
    if (member.metrics === null) return undefined;
    const count = Number(revisionOf());
    const disk = { count, seconds: count * 0.002, buckets: bucketsOf(count) };
    return {
      startedMs: Date.UTC(2026, 0, 1),
      residentBytes: 50 * 2 ** 20,
      cpuSeconds: 12.5,
      leaderChanges: 1,
      heartbeatFailures: 0,
      quotaBytes: 2 * 2 ** 30,
      walFsync: disk,
      backendCommit: disk,
      peerRoundTrips: new Map(
        script.members.filter((peer) => peer !== member).map((peer) => [idOf(peer), { count, seconds: count * 0.001 }]),
      ),
      ...member.metrics,
    };
  }

  function hashKv(member: FakeMember, asked: bigint): HashKv {
    const newest = member.status?.revision ?? revisionOf();
    const revision = asked === 0n ? newest : asked;
    const compactRevision = member.compactRevision ?? script.compactRevision ?? -1n;
    if (revision > newest)
      throw new Fault("etcd-refused", `${member.name} answered HashKV with an error: future revision`);
    if (revision < compactRevision || (revision === compactRevision && asked !== 0n && refusesCompaction(versionOf())))
      throw new Fault("etcd-compacted", `${member.name} has compacted revision ${revision}`);
    return {
      memberId: idOf(member),
      clusterId: script.clusterId ?? 100n,
      hash: typeof member.hash === "function" ? member.hash(compactRevision) : (member.hash ?? 1),
      compactRevision,
      revision: newest,
      hashRevision: storageVersionOf() === undefined ? undefined : revision,
      ...member.hashKv,
    };
  }

  function idOf(member: FakeMember): bigint {
    return member.id ?? BigInt(script.members.indexOf(member) + 1);
  }

  function revisionOf(): bigint {
    return script.revision ?? 50n;
  }

  function versionOf(): string {
    return script.version ?? "3.6.0";
  }

  function storageVersionOf(): string | undefined {
    return Number(versionOf().split(".")[1]) >= 6 ? versionOf().replace(/\.\d+$/, ".0") : undefined;
  }
}

function bucketsOf(count: number): { le: number; count: number }[] {
  return [0.001, 0.002, 0.004, Infinity].map((le) => ({ le, count: le < 0.002 ? 0 : count }));
}

/** Up to 3.4.26 and 3.5.9 a member refuses to hash its compaction revision, though it still has it. */
function refusesCompaction(version: string): boolean {
  const [, minor = 0, patch = 0] = version.split(".").map(Number);
  return minor < 4 || (minor === 4 && patch < 27) || (minor === 5 && patch < 10);
}

/** The messages of a whole snapshot: chunks of 32 KiB and the seal. */
export function messagesOf(db: Uint8Array, version = "3.6.0"): SnapshotMessage[] {
  const messages: SnapshotMessage[] = [];
  for (let at = 0; at < db.length; at += chunkBytes) {
    const blob = db.subarray(at, at + chunkBytes);
    messages.push({ remainingBytes: BigInt(db.length - at - blob.length), blob, version });
  }
  messages.push({ remainingBytes: 0n, blob: createHash("sha256").update(db).digest(), version });
  return messages;
}

function voter<Value>(member: FakeMember, call: string, value: Value): Value {
  if (member.learner === true)
    throw new Fault("etcd-unsupported", `${member.name} is a learner and does not answer ${call}`);
  return value;
}

function peerUrlsOf({ name, peerUrls }: FakeMember): readonly string[] {
  return peerUrls ?? [`http://${name}.invalid:2380`];
}

function urlOf(member: FakeMember): string {
  return member.url ?? `http://${member.name}.invalid:2379`;
}
