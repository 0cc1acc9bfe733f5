/** The minors of etcd whose data directories are known, oldest first. */
export const minors = ["3.3", "3.4", "3.5", "3.6", "3.7"] as const;

/** A minor of etcd that is known. */
export type Minor = (typeof minors)[number];

/** The minor that a version such as `3.6.14` or `3.6` belongs to; undefined for one that is not known here. */
export function minorOf(version: string): Minor | undefined {
  const text = /^(3\.\d{1,3})(?:\.|$)/.exec(version)?.[1];
  return minors.find((minor) => minor === text);
}

/** What a snapshot's file says of the minor that wrote it. */
export interface SnapshotVersions {
  /** What its cluster had decided, such as `3.6.0`; undefined in the file of a cluster that had not decided yet. */
  readonly clusterVersion: string | undefined;
  /** Absent from files of etcd 3.5 and older. */
  readonly storageVersion: string | undefined;
}

/** Whether a server may be started on a snapshot, and why not. */
export type CrossMinor =
  | { readonly kind: "same" }
  /** The server raises the file's versions by itself in its first seconds. */
  | { readonly kind: "newer"; readonly from: Minor }
  | { readonly kind: "refused"; readonly reason: string };

/**
 * Whether a server of this minor may be started on the snapshot. etcd itself supports the minor that made it alone; a newer server takes it as a rolling upgrade by one
 * minor does, and 3.7 takes a 3.5 file, too (both tried); an older server refuses the file, or starts and leaves versions behind that stop a later upgrade.
 */
export function crossMinor(snapshot: SnapshotVersions, server: Minor): CrossMinor {
  const said = [snapshot.clusterVersion, snapshot.storageVersion].filter((version) => version !== undefined);
  const known = said.map((version) => ({ version, at: minors.indexOf(minorOf(version) ?? server) }));
  const unknown = said.find((version) => minorOf(version) === undefined);
  if (unknown !== undefined)
    return { kind: "refused", reason: `the snapshot is of etcd ${unknown}, which is not known` };
  const to = minors.indexOf(server);
  const newer = known.find(({ at }) => at > to);
  if (newer !== undefined) {
    const own = minorOf(newer.version) ?? server;
    return {
      kind: "refused",
      reason: `the snapshot is of etcd ${own}, and etcd ${server} is older: restore it with etcd ${own}, then downgrade`,
    };
  }
  const own = minorOf(snapshot.clusterVersion ?? snapshot.storageVersion ?? server) ?? server;
  const steps = to - minors.indexOf(own);
  if (steps === 0) return { kind: "same" };
  if (steps === 1 || (own === "3.5" && server === "3.7")) return { kind: "newer", from: own };
  return {
    kind: "refused",
    reason: `the snapshot is of etcd ${own}, more than one minor older than etcd ${server}: restore it with etcd ${own}, then upgrade`,
  };
}
