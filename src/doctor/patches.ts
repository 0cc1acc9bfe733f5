/** Faults of etcd's patch levels that somebody who wants his data back should know of; from etcd's CHANGELOGs and its issues. */

interface Fault {
  readonly what: string;
  /** Data can be lost, differ between members, or come back wrong. */
  readonly data: boolean;
  /** By minor: the first and the last patch that has it. */
  readonly affected: Readonly<Record<string, readonly [first: number, last: number]>>;
}

const faults: readonly Fault[] = [
  { what: "index corruption on restore", data: true, affected: { "3.2": [0, 0] } },
  {
    what: "the WAL is purged during a shutdown, which can lose data",
    data: true,
    affected: { "3.2": [0, 27], "3.3": [0, 17], "3.4": [0, 3] },
  },
  {
    what: "a defragmentation can corrupt the database (#11613)",
    data: true,
    affected: { "3.2": [0, 28], "3.3": [0, 18], "3.4": [0, 3] },
  },
  { what: "a release that was withdrawn", data: true, affected: { "3.3": [16, 16] } },
  {
    what: "members differ after changes of authentication (#11652), and WAL and snapshot may not fit (#10219)",
    data: true,
    affected: { "3.3": [0, 20], "3.4": [0, 7] },
  },
  {
    what: "a cluster of one member can lose acknowledged writes (#14370)",
    data: true,
    affected: { "3.4": [0, 20], "3.5": [0, 4] },
  },
  { what: "members differ after a crash under load (#13766)", data: true, affected: { "3.5": [0, 2] } },
  { what: "panics at start with authentication on", data: false, affected: { "3.5": [3, 3] } },
  {
    what: "revisions differ after a crash during a defragmentation",
    data: true,
    affected: { "3.4": [21, 21], "3.5": [0, 5] },
  },
  { what: "progress of watches can go back", data: false, affected: { "3.4": [0, 24], "3.5": [0, 7] } },
  {
    what: "leases are revoked wrongly, watches lose events after a compaction",
    data: true,
    affected: { "3.4": [0, 30], "3.5": [0, 12] },
  },
  {
    what: "the revision goes back after a restart on a compacted tombstone (#17780)",
    data: true,
    affected: { "3.4": [0, 31], "3.5": [0, 13] },
  },
  { what: "watches miss deletes at a compaction (#18089)", data: false, affected: { "3.4": [0, 35], "3.5": [0, 17] } },
  { what: "a transaction can be applied by half", data: true, affected: { "3.4": [0, 34], "3.5": [0, 16] } },
  {
    what: "a promoted learner is not remembered as one, which breaks the upgrade to 3.6 (#19557)",
    data: false,
    affected: { "3.5": [1, 23] },
  },
  {
    what: "watches of a future revision get old events (#20221)",
    data: false,
    affected: { "3.4": [0, 37], "3.5": [0, 21], "3.6": [0, 1] },
  },
  { what: "does not start on a v2 store without content", data: false, affected: { "3.6": [0, 2] } },
  { what: "does not start when it replays a learner's promotion", data: false, affected: { "3.6": [0, 3] } },
  {
    what: "a defragmentation while a snapshot of the leader is applied corrupts the member",
    data: true,
    affected: { "3.4": [0, 37], "3.5": [0, 22], "3.6": [0, 4] },
  },
  { what: "tells no quota", data: false, affected: { "3.6": [0, 5] } },
  { what: "removed members come back on the way to 3.6 (#20967)", data: false, affected: { "3.5": [0, 25] } },
  {
    what: "stale reads after a pause of the process; anybody may compact or move the leader (CVE-2026-33413, -33343)",
    data: true,
    affected: { "3.4": [0, 41], "3.5": [0, 27], "3.6": [0, 8] },
  },
  { what: "no member can be added while one is down", data: false, affected: { "3.5": [0, 29], "3.6": [0, 10] } },
  { what: "an update of a learner promotes it", data: false, affected: { "3.5": [0, 30], "3.6": [0, 11] } },
  {
    what: "TLS handshakes can be used to bring it down (GHSA-6vch-q96h-7gc3), watches ignore rights (GHSA-xg4h-6gfc-h4m8)",
    data: false,
    affected: { "3.5": [0, 32], "3.6": [0, 13], "3.7": [0, 0] },
  },
];

export interface PatchFaults {
  /** Those that touch data first, the latest first. */
  readonly known: readonly { readonly what: string; readonly data: boolean }[];
  /** The first patch without any of them, such as `3.5.33`; undefined where the minor never got one. */
  readonly mended: string | undefined;
}

/** Minors that get no patches any more: their faults are mended by the next one. */
const abandoned: readonly string[] = ["3.0", "3.1", "3.2", "3.3"];

/** What is known of a server's version; undefined for one that is no `3.x.y`. */
export function faultsOf(version: string): PatchFaults | undefined {
  const [, minor = "", digits = ""] = /^(3\.\d+)\.(\d+)/.exec(version) ?? [];
  if (minor === "") return undefined;
  const patch = Number(digits);
  const known = faults.filter(({ affected }) => {
    const [first, last] = affected[minor] ?? [Infinity, -Infinity];
    return first <= patch && patch <= last;
  });
  const lasts = faults.flatMap(({ affected }) => affected[minor]?.[1] ?? []);
  return {
    known: known.toReversed().toSorted((a, b) => Number(b.data) - Number(a.data)),
    mended: abandoned.includes(minor) ? undefined : `${minor}.${Math.max(-1, ...lasts) + 1}`,
  };
}
