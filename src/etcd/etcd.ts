/**
 * What the features need of etcd, in etcd's own words. Adapters translate every gRPC error into a Fault (`etcd-*`),
 * so nobody above them knows status codes. No call retries by itself, and every call has a deadline of the adapter's.
 */
export interface Etcd extends AsyncDisposable {
  /**
   * The member list as the first endpoint that answers knows it, also without quorum. Endpoints are tried in order, also
   * past one that is broken in some other way; `etcd-auth` is final at once. When none answers: the most telling fault,
   * that is the first that is not `etcd-unreachable`, `etcd-timeout` or `etcd-unsupported` (a learner cannot answer),
   * else `etcd-unreachable` naming every endpoint and why (a single endpoint's own fault as it is).
   */
  members(signal: AbortSignal): Promise<MemberList>;

  /**
   * A connection of its own to one member: one HTTP/2 connection, so that Status and Snapshot on it meet the same process.
   * Does not wait for the connection; close it with `await using`.
   */
  connect(address: MemberAddress): MemberConnection;

  /** The certificates in our own TLS files, as they are now: the client's, and those of the CAs. None without TLS files; `etcd-tls` when one cannot be read. */
  certificates(): Promise<OwnCertificates>;
}

export interface MemberConnection extends AsyncDisposable {
  readonly address: MemberAddress;

  /** Status as this member gives it; `etcd-unsupported` names a 2.x server. Needs no quorum. */
  status(signal: AbortSignal): Promise<MemberStatus>;

  /** Active alarms of the whole cluster (Alarm GET). A learner cannot answer: `etcd-unsupported`. */
  alarms(signal: AbortSignal): Promise<readonly Alarm[]>;

  /** Takes back exactly this alarm. One that is not active is no error. */
  disarm(alarm: Alarm, signal: AbortSignal): Promise<void>;

  /** Ends a downgrade that was enabled ; resolves where none is. Members before etcd 3.6 know no such call. */
  cancelDowngrade(signal: AbortSignal): Promise<void>;

  /** Whether authentication is on, as this member has it. */
  authStatus(signal: AbortSignal): Promise<AuthStatus>;

  /** The member list as this member knows it, also without quorum. */
  members(signal: AbortSignal): Promise<MemberList>;

  /**
   * Adds a member that has not started yet, and resolves with its new ID; a learner needs etcd 3.4. `etcd-refused` when etcd's own checks do not let it: others are not
   * healthy, a member has these URLs, there is a learner already.
   */
  addMember(peerUrls: readonly string[], learner: boolean, signal: AbortSignal): Promise<bigint>;

  /** Removes a member for good: its ID never comes back. `etcd-refused` when there is none, or when etcd's own checks see quorum lost. */
  removeMember(id: bigint, signal: AbortSignal): Promise<void>;

  /** Makes a learner a voter. `etcd-refused` while it lags behind the leader, and for a voter. */
  promoteMember(id: bigint, signal: AbortSignal): Promise<void>;

  /** HashKV at a revision (0n: the current one); its deadline grows with the member's database. `etcd-compacted` when it was compacted, `etcd-unsupported` on a learner. */
  hashKv(revision: bigint, signal: AbortSignal): Promise<HashKv>;

  /** One linearizable read of a key that need not exist (no key is created): proves quorum. Resolves with the header's revision. */
  linearizableRead(signal: AbortSignal): Promise<bigint>;

  /** One serializable read of the same key: this member's own answer, without the others; a learner gives it too. Resolves with the header's revision. */
  serializableRead(signal: AbortSignal): Promise<bigint>;

  /** The certificate that this member shows at its client port, also one that cannot be accepted (expired, another's name). Undefined without TLS. */
  serverCertificate(signal: AbortSignal): Promise<Certificate | undefined>;

  /** What this member's own metrics page says; undefined when it cannot be read. */
  serverMetrics(signal: AbortSignal): Promise<ServerMetrics | undefined>;

  /** Whether v2 content exists beside the v3 keys, as far as it can be asked (etcd ≤ 3.5 only; GET /v2/keys). */
  v2Content(signal: AbortSignal): Promise<V2Content>;

  /** True while etcd's own metrics say that a defragmentation runs on this member; undefined when they cannot be read. */
  defragmenting(signal: AbortSignal): Promise<boolean | undefined>;

  /** What this member's disk took since it started, by etcd's own metrics; undefined when they cannot be read. */
  diskTimes(signal: AbortSignal): Promise<DiskTimes | undefined>;

  /** What clients asked of this member since it started, by etcd's own metrics; undefined when they cannot be read. */
  clientCalls(signal: AbortSignal): Promise<ClientCalls | undefined>;

  /**
   * The messages of Maintenance.Snapshot exactly as they come, not interpreted, in non-empty batches: whole batches are
   * a third faster than single messages. A batch is handed over at once it is large, or after a few milliseconds. The
   * stream is cancelled when the iteration ends early or the signal is aborted; back-pressure of the consumer reaches
   * the server, and holds up other calls on this connection while it lasts. Messages that cannot be read are
   * `snapshot-broken`; the end of the iteration is the server's OK. There is no deadline but the signal's.
   */
  snapshot(signal: AbortSignal): AsyncIterable<readonly SnapshotMessage[]>;

  /** How often the transport was established so far: 1 while the first connection lives. More means that answers may be another process's. */
  readonly connections: number;
}

/** How one member is reached. */
export interface MemberAddress {
  /** The member's name, or the URL when it has none yet; for messages. */
  readonly name: string;
  /** `https://host:port` or `http://host:port`. */
  readonly url: string;
  /** Overrides the name that the server certificate must carry. */
  readonly serverName?: string | undefined;
  /** Base URL of the member's metrics listener, where it is not the client URL. */
  readonly metricsUrl?: string | undefined;
  /** Path of a Unix socket on this machine where the member listens, instead of the URL's host and port; without TLS. */
  readonly socket?: string | undefined;
}

export interface MemberList {
  readonly clusterId: bigint;
  /** ID of the member that answered. */
  readonly answeredBy: bigint;
  readonly members: readonly Member[];
}

export interface Member {
  readonly id: bigint;
  /** Empty while the member has not started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  /** Empty while the member has not started. */
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

export interface MemberStatus {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** The member's applied revision. */
  readonly revision: bigint;
  readonly raftTerm: bigint;
  readonly raftIndex: bigint;
  /** Absent before etcd 3.4. */
  readonly raftAppliedIndex: bigint | undefined;
  /** Server version such as `3.6.16`. */
  readonly version: string;
  /** Storage version such as `3.6.0`; absent before etcd 3.6. */
  readonly storageVersion: string | undefined;
  /** 0n when the member knows no leader. */
  readonly leader: bigint;
  readonly learner: boolean;
  readonly dbBytes: number;
  /** Absent before etcd 3.4. */
  readonly dbInUseBytes: number | undefined;
  /** Right from etcd 3.6.6; absent before 3.6 and when the server says 0. */
  readonly quotaBytes: number | undefined;
  /** The server's own list (alarms, no leader); empty before etcd 3.4. */
  readonly errors: readonly string[];
}

export interface Alarm {
  /** 0n: raised for the cluster, not for one member. */
  readonly memberId: bigint;
  readonly kind: "NOSPACE" | "CORRUPT" | "UNKNOWN";
}

export interface AuthStatus {
  readonly enabled: boolean;
  /** Of all changes to users, roles and this switch; undefined before etcd 3.5, which has no such call. */
  readonly revision: bigint | undefined;
}

export interface HashKv {
  readonly memberId: bigint;
  readonly clusterId: bigint;
  readonly hash: number;
  /** -1n where nothing was compacted. */
  readonly compactRevision: bigint;
  /** header.revision of the answer. */
  readonly revision: bigint;
  /** The revision that was hashed; absent before etcd 3.6. */
  readonly hashRevision: bigint | undefined;
}

/** Calls of the services KV, Watch and Lease: what an API server does, and what a look at a member's health does not. */
export interface ClientCalls {
  /** When the process started, seconds since 1970; another one means that the counters began anew. */
  readonly startedSeconds: number;
  readonly calls: number;
  /** The same by method, such as `Txn`. */
  readonly byMethod: ReadonlyMap<string, number>;
  /** Streams of watches and lease renewals that are open now. */
  readonly openStreams: number;
  /** Watches that are open now. */
  readonly watchers: number;
}

export interface DiskTimes {
  readonly walFsync: DiskTime;
  readonly backendCommit: DiskTime;
}

export interface DiskTime {
  readonly count: number;
  /** Of all of them together. */
  readonly seconds: number;
}

/** One certificate; times are Unix milliseconds. */
export interface Certificate {
  /** As OpenSSL writes it, in one line. */
  readonly subject: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** DNS names and addresses of the subject alternative name. */
  readonly names: readonly string[];
}

export interface OwnCertificates {
  readonly client: Certificate | undefined;
  /** Every certificate of the file, in its order. */
  readonly ca: readonly Certificate[];
}

/** Parts of a member's own metrics; each is absent where its minor does not have it. What is counted began anew when the process started. */
export interface ServerMetrics {
  /** Unix milliseconds. */
  readonly startedMs: number | undefined;
  readonly residentBytes: number | undefined;
  readonly cpuSeconds: number | undefined;
  readonly leaderChanges: number | undefined;
  readonly heartbeatFailures: number | undefined;
  readonly quotaBytes: number | undefined;
  readonly walFsync: DiskHistogram | undefined;
  readonly backendCommit: DiskHistogram | undefined;
  /** Round trips to each other member, by its ID. etcd measures them every half minute. */
  readonly peerRoundTrips: ReadonlyMap<bigint, DiskTime>;
}

/** How long each of many took. */
export interface DiskHistogram extends DiskTime {
  /** Ascending by their bound in seconds, the last one Infinity: how many took no longer. */
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
}

export type V2Content =
  | { readonly state: "no"; readonly why: string }
  | { readonly state: "yes"; readonly why: string }
  | { readonly state: "unknown"; readonly why: string };

export interface SnapshotMessage {
  /** total minus sent after this message; the trailer has 0n like the last data message. */
  readonly remainingBytes: bigint;
  readonly blob: Uint8Array;
  /** Storage version; empty before etcd 3.6. */
  readonly version: string;
}
