import type {
  EtcdHostFacts,
  HostFacts,
  LiveFacts,
  RestoreFacts,
  RestoreRequest,
  ServiceFacts,
  SourceFacts,
} from "../../src/restore/facts.ts";

/** A healthy cluster of three on three hosts with API servers, an hour after a proven backup of it. */

export const nowMs = Date.UTC(2026, 10, 21, 12);

const names = ["m1", "m2", "m3"] as const;

const members = names.map((name) => ({
  name,
  peerUrls: [`https://${name}.example:2380`],
  clientUrls: [`https://${name}.example:2379`],
  learner: false,
}));

export function service(name: string, role: ServiceFacts["role"], changes: Partial<ServiceFacts> = {}): ServiceFacts {
  return {
    name,
    role,
    way: `${name}.service`,
    running: true,
    heldBy: undefined,
    canHold: true,
    boots: "yes",
    detail: "runs",
    tellsReady: true,
    ...changes,
  };
}

export function etcdOn(member: string, changes: Partial<EtcdHostFacts> = {}): EtcdHostFacts {
  return {
    member,
    service: service("etcd", "etcd"),
    dataDirectory: "/var/lib/etcd",
    walDirectory: undefined,
    peerUrls: undefined,
    owner: { uid: 997, gid: 997, mode: 0o700 },
    hasMember: true,
    unresolved: [],
    memberIsMountPoint: false,
    mountsInside: [],
    links: [],
    settings: undefined,
    servesElsewhere: false,
    hasWal: true,
    writtenMs: nowMs,
    freeBytes: 100 * 2 ** 30,
    walFreeBytes: 100 * 2 ** 30,
    sameDisk: true,
    builtOnDisk: false,
    builtOnWalDisk: false,
    ...changes,
  };
}

export function hostOf(name: string, member: string, changes: Partial<HostFacts> = {}): HostFacts {
  return {
    name,
    fault: undefined,
    bootId: `boot-${name}`,
    etcd: etcdOn(member),
    services: [service("kube-controller-manager", "controller"), service("kube-apiserver", "api-server")],
    ...changes,
  };
}

export function sourceFacts(changes: Partial<SourceFacts> = {}): SourceFacts {
  return {
    kind: "backup",
    name: "01JQ0000000000000000000001/20261121T110000Z.slot.hourly",
    lineage: "01JQ0000000000000000000001",
    takenMs: nowMs - 3_600_000,
    unproven: undefined,
    passedOver: undefined,
    revision: 5000n,
    compactRevision: 4000n,
    hashKv: 7,
    dbBytes: 2 ** 30,
    sha256: "00".repeat(32),
    serverVersion: "3.6.16",
    storageVersion: "3.6.0",
    clusterVersion: "3.6.0",
    downgradeTarget: undefined,
    members,
    alarms: [],
    authEnabled: false,
    leases: 0,
    keys: 100,
    ...changes,
  };
}

export function liveFacts(changes: Partial<LiveFacts> = {}): LiveFacts {
  return {
    clusterId: 0xabcn,
    quorum: true,
    members: members.map((member, index) => ({
      ...member,
      id: BigInt(index + 1),
      up: true,
      version: "3.6.16",
      revision: 9000n,
    })),
    highestRevision: 9000n,
    ...changes,
  };
}

export function restoreFacts(changes: Partial<RestoreFacts> = {}): RestoreFacts {
  return {
    cluster: "prod",
    nowMs,
    now: new Date(nowMs).toISOString(),
    source: sourceFacts(),
    live: liveFacts(),
    lockedOut: undefined,
    liveFault: undefined,
    highWater: [{ revision: 8000n, seenMs: nowMs - 600_000, backup: "newest" }],
    hosts: names.map((name, index) => hostOf(`h${index + 1}`, name)),
    login: { username: undefined, by: "certificate", passwordFile: undefined, proof: undefined },
    endpoints: members.flatMap(({ clientUrls }) => clientUrls),
    ...changes,
  };
}

export function request(changes: Partial<RestoreRequest> = {}): RestoreRequest {
  return {
    id: "01JQ000000000000000000000Z",
    asNew: false,
    acceptUnproven: false,
    acceptRebootRisk: false,
    quietMs: 25_000,
    token: "restore-01JQ000000000000000000000Z",
    repository: "01JR0000000000000000000000",
    withoutRepository: false,
    lineage: "01JQ0000000000000000000002",
    builder: "lifeboat",
    minor: undefined,
    hooks: [],
    ...changes,
  };
}

export const describe = {
  bytes: (bytes: number) => `${bytes} B`,
  time: (ms: number) => new Date(ms).toISOString(),
  duration: (ms: number) => `${ms} ms`,
};
