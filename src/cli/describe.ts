import type { Manifest } from "../repository/manifest.ts";
import type { PinState } from "../repository/pin.ts";
import { rowOf, standingOf, type BackupRow, type ProofRow, type Standing } from "../repository/row.ts";

/** A backup in the JSON documents of list, backup, import and verify: stable, fields are only added. */
export interface BackupDocument extends Omit<BackupRow, "manifestSha256" | "snapshot">, Standing {
  /** `sealed`: its bytes are what etcd sent and what is stored; `foreign`: an imported file. */
  readonly state: "sealed" | "foreign";
  /** Why it is pinned; null: it is not. */
  readonly pinned: string | null;
}

/** A backup that was just made, whose proofs were not looked at. */
export function describeBackup(manifest: Manifest): BackupDocument {
  return describeRow(rowOf(manifest, ""), []);
}

/** A backup with what its valid proofs say. */
export function describeRow(
  { manifestSha256: _, snapshot: __, ...row }: BackupRow,
  proofs: readonly ProofRow[],
  pin?: PinState,
): BackupDocument {
  const { backup, lineage, trigger, schedule, label, ...others } = row;
  const state = trigger === "import" ? "foreign" : "sealed";
  return {
    backup,
    lineage,
    trigger,
    schedule,
    label,
    ...others,
    state,
    pinned: pin?.pinned === true ? pin.reason : null,
    ...standingOf(proofs),
  };
}

/** The standing in a word or three, for a column. */
export function formatStanding({ proof, alone, boot }: Standing): string {
  const booted = boot === null ? "" : boot === "passed" ? ", boots" : ", boot failed";
  return `${proof ?? "-"}${alone === true ? " (alone)" : ""}${booted}`;
}
