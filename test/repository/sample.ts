import { manifestSchemaId, type Manifest } from "../../src/repository/manifest.ts";
import { proofSchemaId, type BootProof, type HashkvProof } from "../../src/repository/proof.ts";

export const repositoryId = "01JQAAAAAAAAAAAAAAAAAAAAAA";
export const lineageId = "01JQBBBBBBBBBBBBBBBBBBBBBB";
export const snapshotId = "01JQCCCCCCCCCCCCCCCCCCCCCC";
export const proofId = "01JQDDDDDDDDDDDDDDDDDDDDDD";
export const backupId = "20260301T120000Z.slot.hourly";
const sha = (digit: string): string => digit.repeat(64);

/** A whole manifest of a plain three-member cluster; change what the test is about. */
export function sampleManifest(changes: Partial<Manifest> = {}): Manifest {
  const prefix = `lineages/${changes.lineage ?? lineageId}/snapshots/${snapshotId}`;
  const members = [1, 2, 3].map((n) => ({
    id: `${n}f00000000000000`,
    name: `etcd${n}`,
    peerUrls: [`https://10.0.0.${n}:2380`],
    clientUrls: [`https://10.0.0.${n}:2379`],
    learner: false,
  }));
  return {
    schema: manifestSchemaId,
    tool: { name: "etcd-lifeboat", version: "0.1.0" },
    repository: repositoryId,
    lineage: lineageId,
    backup: backupId,
    trigger: "schedule",
    slot: { schedule: "hourly", time: "2026-03-01T12:00:00.000Z" },
    label: null,
    startedAt: "2026-03-01T12:00:01.500Z",
    committedAt: "2026-03-01T12:00:09.000Z",
    cluster: { name: "prod", id: "cdf818194e3a8c32" },
    source: {
      memberId: "2f00000000000000",
      name: "etcd2",
      url: "https://10.0.0.2:2379",
      version: "3.6.16",
      learner: false,
      leader: false,
      raftTerm: 7n,
      raftIndex: 123_456n,
      reason: "a follower that keeps up (0 entries behind)",
    },
    live: {
      quorum: true,
      highestRevision: 100_010n,
      highestRaftIndex: 123_460n,
      members,
      alarms: [],
      v2: { state: "no", why: "etcd 3.6 and later have no v2 store" },
    },
    content: {
      revision: 100_000n,
      compactRevision: 90_000n,
      hashKv: 0xfedc_ba98,
      consistentIndex: 123_456n,
      term: 7n,
      storageVersion: "3.6.0",
      clusterVersion: "3.6.0",
      keys: 5000,
      rows: 15_000,
      leases: 3,
      authEnabled: false,
      dbBytes: 1_048_576,
      logicalBytes: 900_000,
      members,
      alarms: [],
      seal: sha("a"),
    },
    samples: [{ main: 100n, sub: 0n, sha256: sha("b") }],
    data: {
      object: `${prefix}.db.zst`,
      storedBytes: 300_000,
      sha256: sha("c"),
      crc32c: 0xffff_ffff,
      plainBytes: 1_048_608,
      compression: { format: "zstd", frames: [[1_048_608, 300_000]] },
      encryption: null,
      verified: "read-back",
    },
    extras: null,
    extrasMissing: [],
    note: { object: `${prefix}.RESTORE.md`, storedBytes: 2000, sha256: sha("d") },
    ...changes,
  };
}

/** The same, encrypted and with extras. */
export function encryptedManifest(changes: Partial<Manifest> = {}): Manifest {
  const plain = sampleManifest(changes);
  const prefix = `lineages/${plain.lineage}/snapshots/${snapshotId}`;
  return {
    ...plain,
    data: {
      ...plain.data,
      object: `${prefix}.db.zst.age`,
      encryption: { format: "age-v1", recipients: ["age1xc304nlqamdzcrsw3zzmtdle59637qjstsgg7fcgaz3c49d07v8qy5zrwc"] },
    },
    extras: {
      object: `${prefix}.extras.tar.zst.age`,
      storedBytes: 5000,
      sha256: sha("e"),
      plainBytes: 10_240,
      frames: [[10_240, 4800]],
      files: [{ path: "/etc/kubernetes/pki/ca.crt", bytes: 1100 }],
    },
    extrasMissing: [{ path: "/etc/kubernetes/pki/sa.key", why: "EACCES" }],
    ...changes,
  };
}

/** A proof of the sample manifest by one follower of three members; change what the test is about. */
export function sampleProof(changes: Partial<HashkvProof> = {}): HashkvProof {
  return {
    schema: proofSchemaId,
    tool: { name: "etcd-lifeboat", version: "0.1.0" },
    repository: repositoryId,
    lineage: lineageId,
    backup: backupId,
    manifestSha256: sha("f"),
    id: proofId,
    madeAt: "2026-03-01T12:00:11.000Z",
    kind: "hashkv",
    verdict: "proven",
    reason: "etcd3 has the same data as etcd2: 2 of 3 voters",
    voters: 3,
    needed: 2,
    agreeing: ["etcd2", "etcd3"],
    diverged: [],
    alone: false,
    source: { memberId: "2f00000000000000", name: "etcd2", learner: false },
    revision: 100_000n,
    compactRevision: 90_000n,
    hash: 0xffff_ffff,
    answers: [
      {
        member: "etcd1",
        memberId: "1f00000000000000",
        role: "follower",
        askedAt: "2026-03-01T12:00:09.500Z",
        tookMs: 3,
        outcome: { kind: "refused", code: "etcd-unavailable", message: "etcd1 does not answer" },
      },
      {
        member: "etcd3",
        memberId: "3f00000000000000",
        role: "follower",
        askedAt: "2026-03-01T12:00:10.000Z",
        tookMs: 120.5,
        outcome: { kind: "hash", hash: 0xffff_ffff, compactRevision: 90_000n, revision: 100_000n },
      },
    ],
    ...changes,
  };
}

/** The proof of a restore of the sample manifest that was started and answered. */
export function sampleBootProof(changes: Partial<BootProof> = {}): BootProof {
  const { schema, tool, repository, lineage, backup, manifestSha256, madeAt, revision } = sampleProof();
  return {
    schema,
    tool,
    repository,
    lineage,
    backup,
    manifestSha256,
    madeAt,
    revision,
    id: "01JQEEEEEEEEEEEEEEEEEEEEEE",
    kind: "boot",
    verdict: "passed",
    reason: "etcd 3.6 serves the restored data: 5000 keys",
    minor: "3.6",
    programs: ["etcdutl 3.6.16", "etcd 3.6.16"],
    hash: 7,
    keys: 5000,
    tookMs: 4200,
    ...changes,
  };
}
