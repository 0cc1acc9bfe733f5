import type { Manifest } from "../repository/manifest.ts";

/** A backup in the JSON documents of list, backup, import and verify: stable, fields are only added. */
export interface BackupDocument {
  readonly backup: string;
  readonly lineage: string;
  readonly trigger: string;
  readonly schedule: string | null;
  readonly label: string | null;
  readonly startedAt: string;
  readonly committedAt: string;
  readonly revision: bigint;
  readonly compactRevision: bigint;
  readonly keys: number;
  readonly plainBytes: number;
  readonly storedBytes: number;
  readonly encrypted: boolean;
  /** `sealed`: its bytes are what etcd sent and what is stored; `foreign`: an imported file. */
  readonly state: "sealed" | "foreign";
  readonly verified: string;
  readonly member: string | null;
  readonly etcdVersion: string | null;
  readonly quorum: boolean | null;
  readonly extrasMissing: number;
}

export function describeBackup(manifest: Manifest): BackupDocument {
  return {
    backup: manifest.backup,
    lineage: manifest.lineage,
    trigger: manifest.trigger,
    schedule: manifest.slot?.schedule ?? null,
    label: manifest.label,
    startedAt: manifest.startedAt,
    committedAt: manifest.committedAt,
    revision: manifest.content.revision,
    compactRevision: manifest.content.compactRevision,
    keys: manifest.content.keys,
    plainBytes: manifest.data.plainBytes,
    storedBytes: manifest.data.storedBytes,
    encrypted: manifest.data.encryption !== null,
    state: manifest.trigger === "import" ? "foreign" : "sealed",
    verified: manifest.data.verified,
    member: manifest.source?.name ?? null,
    etcdVersion: manifest.source?.version ?? null,
    quorum: manifest.live?.quorum ?? null,
    extrasMissing: manifest.extrasMissing.length,
  };
}
