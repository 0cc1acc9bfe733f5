/**
 * Named places at which a test can end the process as if the power had gone. Inert unless LIFEBOAT_FAILPOINTS is "on" as well, so that a stray
 * variable on a host does nothing. Each name is one instant between two effects on disk or store.
 */
export const failpoints = [
  "repository-created",
  "lineage-created",
  "spool-created",
  "spool-half-drained",
  "spool-drained",
  "snapshot-scanned",
  "extras-stored",
  "data-half-uploaded",
  "data-uploaded",
  "data-read-back",
  "note-stored",
  "manifest-stored",
] as const;

/** The same of an expiry. */
export const expiryFailpoints = [
  "expired-manifest-removed",
  "expired-snapshot-given-up",
  "expired-proofs-removed",
  "orphan-given-up",
  "expired-data-removed",
] as const;

/** The same of a copy. */
export const copyFailpoints = ["copy-object-uploaded", "copy-objects-stored", "copy-manifest-stored"] as const;

export type Failpoint = (typeof failpoints | typeof expiryFailpoints | typeof copyFailpoints)[number];

/** Kills this process with SIGKILL when the test asked for exactly this place. */
export function failpoint(name: Failpoint): void {
  if (process.env["LIFEBOAT_FAILPOINTS"] !== "on" || process.env["LIFEBOAT_FAILPOINT"] !== name) return;
  process.kill(process.pid, "SIGKILL");
}

/** The same for a place of a runbook, `STEP PLACE` as its executor names it: there are as many as a plan has steps. */
export function stepFailpoint(place: string): void {
  if (process.env["LIFEBOAT_FAILPOINTS"] !== "on" || process.env["LIFEBOAT_FAILPOINT"] !== `step ${place}`) return;
  process.kill(process.pid, "SIGKILL");
}
