import { Fault, isFault, throwIfAborted } from "../faults.ts";
import { Channel } from "./channel.ts";
import type { Timeouts } from "./channel.ts";
import { shownCertificate } from "./certificate.ts";
import type {
  Alarm,
  AuthStatus,
  Certificate,
  ClientCalls,
  DiskTimes,
  HashKv,
  Member,
  MemberAddress,
  MemberConnection,
  MemberList,
  MemberStatus,
  ServerMetrics,
  SnapshotMessage,
  V2Content,
} from "./etcd.ts";
import { askClientCalls, askDefragmenting, askDiskTimes, askServerMetrics } from "./metrics.ts";
import type { Endpoint, Session } from "./session.ts";
import { readSnapshot } from "./snapshot-stream.ts";
import { authIsOn } from "./token.ts";
import { askV2 } from "./v2.ts";
import {
  alarmMethod,
  authStatusMethod,
  downgradeMethod,
  hashKvMethod,
  memberAddMethod,
  memberListMethod,
  memberPromoteMethod,
  memberRemoveMethod,
  rangeMethod,
  statusMethod,
} from "./wire.ts";
import type { AlarmAnswer, Header, HashKvAnswer, MemberListAnswer, Method, StatusAnswer } from "./wire.ts";

/** A key that nobody uses: below every printable name, and never written. */
const absentKey = Buffer.from("\0etcd-lifeboat");

/** The calls to one member, on one connection. Every failure is a Fault. */
export class MemberCalls implements MemberConnection {
  readonly address: MemberAddress;
  readonly #endpoint: Endpoint;
  readonly #channel: Channel;
  readonly #session: Session;
  readonly #timeouts: Timeouts;
  readonly #closed: () => void;

  constructor(address: MemberAddress, session: Session, timeouts: Timeouts, closed: () => void) {
    const { tls } = session.options;
    this.address = address;
    this.#endpoint = {
      name: address.name,
      url: address.url,
      serverName: address.serverName ?? tls.paths.serverName,
      socket: address.socket,
    };
    this.#channel = new Channel(this.#endpoint, tls, timeouts);
    this.#session = session;
    this.#timeouts = timeouts;
    this.#closed = closed;
  }

  get connections(): number {
    return this.#channel.connections;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed();
    await this.#channel[Symbol.asyncDispose]();
  }

  async status(signal: AbortSignal): Promise<MemberStatus> {
    return this.#call(statusMethod, {}, toStatus, signal);
  }

  async alarms(signal: AbortSignal): Promise<readonly Alarm[]> {
    // Up to etcd 3.4 the answer has no header.
    return this.#ask(alarmMethod, { action: "GET" }, toAlarms, this.#timeouts.callMs, signal);
  }

  async disarm({ memberId, kind }: Alarm, signal: AbortSignal): Promise<void> {
    const question = { action: "DEACTIVATE", memberID: memberId.toString(), alarm: kind } as const;
    await this.#ask(alarmMethod, question, () => undefined, this.#timeouts.callMs, signal);
  }

  async cancelDowngrade(signal: AbortSignal): Promise<void> {
    await this.#ask(downgradeMethod, { action: "CANCEL" }, () => undefined, this.#timeouts.callMs, signal);
  }

  async authStatus(signal: AbortSignal): Promise<AuthStatus> {
    try {
      return await this.#call(
        authStatusMethod,
        {},
        ({ enabled, authRevision }) => ({ enabled, revision: BigInt(authRevision) }),
        signal,
      );
    } catch (error) {
      // Up to etcd 3.4 there is no such method.
      if (!isFault(error, "etcd-not-etcd")) throw error;
    }
    const { tls } = this.#session.options;
    const { url, serverName } = this.#endpoint;
    try {
      const enabled = await authIsOn(url, tls, serverName, this.#timeouts.callMs, signal);
      return { enabled, revision: undefined };
    } catch (error) {
      throw await this.#explain(error, "Authenticate", signal);
    }
  }

  async addMember(peerUrls: readonly string[], learner: boolean, signal: AbortSignal): Promise<bigint> {
    const question = { peerURLs: [...peerUrls], isLearner: learner };
    return this.#call(memberAddMethod, question, ({ member }) => BigInt(member?.ID ?? 0), signal);
  }

  async removeMember(id: bigint, signal: AbortSignal): Promise<void> {
    await this.#call(memberRemoveMethod, { ID: id.toString() }, () => undefined, signal);
  }

  async promoteMember(id: bigint, signal: AbortSignal): Promise<void> {
    await this.#call(memberPromoteMethod, { ID: id.toString() }, () => undefined, signal);
  }

  async hashKv(revision: bigint, signal: AbortSignal): Promise<HashKv> {
    const question = { revision: revision.toString() };
    const limitMs = hashKvLimitMs(await this.#dbBytes(signal), this.#timeouts.hashKvMs);
    return this.#call(hashKvMethod, question, toHashKv, signal, limitMs);
  }

  /** 0 where the member does not tell it to us: its refusal of what is asked next says more. */
  async #dbBytes(signal: AbortSignal): Promise<number> {
    try {
      return (await this.status(signal)).dbBytes;
    } catch (error) {
      if (!isFault(error, "etcd-auth", "etcd-refused")) throw error;
      return 0;
    }
  }

  async linearizableRead(signal: AbortSignal): Promise<bigint> {
    return this.#read(false, signal);
  }

  async serializableRead(signal: AbortSignal): Promise<bigint> {
    return this.#read(true, signal);
  }

  async serverCertificate(signal: AbortSignal): Promise<Certificate | undefined> {
    const seen = this.#channel.certificate;
    if (seen !== undefined) return seen;
    try {
      // A socket of this machine has no TLS, whatever the URL says.
      if (this.#endpoint.socket !== undefined) return undefined;
      return await shownCertificate(this.#endpoint, this.#session.options.tls, this.#timeouts.connectMs, signal);
    } catch (error) {
      throw await this.#explain(error, "the TLS handshake", signal);
    }
  }

  async serverMetrics(signal: AbortSignal): Promise<ServerMetrics | undefined> {
    return askServerMetrics(this.address.metricsUrl ?? this.address.url, this.#http, signal);
  }

  /** The member list as this member knows it, without a quorum's blessing. */
  async members(signal: AbortSignal): Promise<MemberList> {
    return this.#call(memberListMethod, { linearizable: false }, toMemberList, signal);
  }

  async v2Content(signal: AbortSignal): Promise<V2Content> {
    const { version } = await this.status(signal);
    return askV2(this.address.url, version, this.#http, signal);
  }

  async defragmenting(signal: AbortSignal): Promise<boolean | undefined> {
    return askDefragmenting(this.address.metricsUrl ?? this.address.url, this.#http, signal);
  }

  async diskTimes(signal: AbortSignal): Promise<DiskTimes | undefined> {
    return askDiskTimes(this.address.metricsUrl ?? this.address.url, this.#http, signal);
  }

  async clientCalls(signal: AbortSignal): Promise<ClientCalls | undefined> {
    return askClientCalls(this.address.metricsUrl ?? this.address.url, this.#http, signal);
  }

  async *snapshot(signal: AbortSignal): AsyncGenerator<readonly SnapshotMessage[], void, undefined> {
    let used: string | undefined;
    let fresh = true;
    // Ends after the second attempt: a token is renewed once, and only before the first message.
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#session.prepare(this.#endpoint);
        used = await this.#session.token(this.#endpoint, signal);
        for await (const batch of readSnapshot(this.#channel, used, signal)) {
          fresh = false;
          yield batch;
        }
        return;
      } catch (error) {
        if (attempt === 1 && fresh && (await this.#session.renew(error, used, this.#endpoint, signal))) continue;
        throw await this.#explain(error, "Snapshot", signal);
      }
    }
  }

  async #read(serializable: boolean, signal: AbortSignal): Promise<bigint> {
    const question = { key: absentKey, countOnly: true, serializable };
    return this.#call(rangeMethod, question, (_answer, header) => BigInt(header.revision), signal);
  }

  get #http(): { tls: Session["options"]["tls"]; serverName: string | undefined } {
    return { tls: this.#session.options.tls, serverName: this.#endpoint.serverName };
  }

  async #call<Question, Answer extends { readonly header: Header | null }, Value>(
    method: Method<Question, Answer>,
    question: Question,
    read: (answer: Answer, header: Header) => Value,
    signal: AbortSignal,
    timeoutMs = this.#timeouts.callMs,
  ): Promise<Value> {
    const headed = (answer: Answer): Value => {
      if (answer.header !== null) return read(answer, answer.header);
      throw new Fault(
        "etcd-not-etcd",
        `${this.address.url} answers ${method.name} without a header, as etcd never does`,
      );
    };
    return this.#ask(method, question, headed, timeoutMs, signal);
  }

  async #ask<Question, Answer, Value>(
    method: Method<Question, Answer>,
    question: Question,
    read: (answer: Answer) => Value,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Value> {
    let used: string | undefined;
    const attempt = async (): Promise<Answer> => {
      used = await this.#session.token(this.#endpoint, signal);
      return this.#channel.unary(method, question, used, timeoutMs, signal);
    };
    try {
      await this.#session.prepare(this.#endpoint);
      const answer = await attempt().catch(async (error: unknown) => {
        if (await this.#session.renew(error, used, this.#endpoint, signal)) return attempt();
        throw error;
      });
      return read(answer);
    } catch (error) {
      throw await this.#explain(error, method.name, signal);
    }
  }

  async #explain(error: unknown, call: string, signal: AbortSignal): Promise<Fault> {
    throwIfAborted(signal);
    return this.#session.explain(error, this.#endpoint, call, signal);
  }
}

/** A member on a cold, slow disk still hashes so many bytes a millisecond; 78 to 570 MB a second were measured. */
const slowestHashBytesPerMs = 20_000;

/** How long a member may take to hash a database of this size: the given time, or longer where it is large. */
export function hashKvLimitMs(dbBytes: number, leastMs: number): number {
  return Math.max(leastMs, Math.ceil(dbBytes / slowestHashBytesPerMs));
}

function toStatus(answer: StatusAnswer, header: Header): MemberStatus {
  return {
    clusterId: BigInt(header.clusterId),
    memberId: BigInt(header.memberId),
    revision: BigInt(header.revision),
    raftTerm: BigInt(answer.raftTerm),
    raftIndex: BigInt(answer.raftIndex),
    raftAppliedIndex: answer.raftAppliedIndex === "0" ? undefined : BigInt(answer.raftAppliedIndex),
    version: answer.version,
    storageVersion: answer.storageVersion === "" ? undefined : answer.storageVersion,
    leader: BigInt(answer.leader),
    learner: answer.isLearner,
    dbBytes: Number(answer.dbSize),
    dbInUseBytes: answer.dbSizeInUse === "0" ? undefined : Number(answer.dbSizeInUse),
    quotaBytes: answer.dbSizeQuota === "0" ? undefined : Number(answer.dbSizeQuota),
    errors: answer.errors,
  };
}

function toAlarms(answer: AlarmAnswer): readonly Alarm[] {
  return answer.alarms.map(({ memberID, alarm }) => ({
    memberId: BigInt(memberID),
    kind: alarm === "NOSPACE" || alarm === "CORRUPT" ? alarm : "UNKNOWN",
  }));
}

function toHashKv(answer: HashKvAnswer, header: Header): HashKv {
  return {
    memberId: BigInt(header.memberId),
    clusterId: BigInt(header.clusterId),
    hash: answer.hash,
    compactRevision: BigInt(answer.compactRevision),
    revision: BigInt(header.revision),
    hashRevision: answer.hashRevision === "0" ? undefined : BigInt(answer.hashRevision),
  };
}

function toMemberList(answer: MemberListAnswer, header: Header): MemberList {
  return {
    clusterId: BigInt(header.clusterId),
    answeredBy: BigInt(header.memberId),
    members: answer.members.map((member): Member => ({
      id: BigInt(member.ID),
      name: member.name,
      peerUrls: member.peerURLs,
      clientUrls: member.clientURLs,
      learner: member.isLearner,
    })),
  };
}
