/** What each alert of config/prometheus has to do, one sample a minute from the beginning of time. */

type Samples = readonly (number | undefined)[];

export interface Case {
  readonly promise: string;
  /** Series in Prometheus' notation. */
  readonly series: Readonly<Record<string, Samples>>;
  readonly atMinute: number;
  /** What fires then; empty: nothing does, then or before. */
  readonly fires: readonly Fired[];
}

export interface Fired {
  readonly labels: Readonly<Record<string, string>>;
  readonly severity: "critical" | "warning" | "info";
  /** The description, as people read it. */
  readonly says: string;
}

const hold = (value: number | undefined, minutes: number): Samples => Array.from({ length: minutes }, () => value);
const ramp = (from: number, perMinute: number, minutes: number): Samples =>
  Array.from({ length: minutes }, (_, minute) => from + perMinute * minute);
const absent = (minutes: number): Samples => hold(undefined, minutes);

/** A series of daemon `instance` for cluster prod. */
function of(name: string, labels: Readonly<Record<string, string>> = {}, instance = "a"): string {
  const prefix = /^(process|nodejs)_/.test(name) ? "" : "lifeboat_";
  return series(`${prefix}${name}`, {
    ...(prefix === "" ? {} : { cluster: "prod" }),
    instance,
    job: "etcd-lifeboat",
    ...labels,
  });
}
function etcd(name: string, instance: string, labels: Readonly<Record<string, string>> = {}): string {
  return series(name, { instance, job: "etcd", ...labels });
}
function series(name: string, labels: Readonly<Record<string, string>>): string {
  return `${name}{${Object.entries(labels)
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`)
    .join(",")}}`;
}

const prod = { cluster: "prod" };
const hourly = { schedule: "hourly" };
const succeeded = (instance?: string): string => of("backup_last_success_timestamp_seconds", hourly, instance);
const offsite = { store: "offsite" };
const copied = (instance?: string): string =>
  of("copy_last_success_timestamp_seconds", { ...hourly, ...offsite }, instance);
const proven = of("proof_last_proven_timestamp_seconds", hourly);
const everyHour = { [of("backup_schedule_interval_seconds", hourly)]: hold(3600, 400) };
const fires = (severity: Fired["severity"], labels: Fired["labels"], says: string): readonly Fired[] => [
  { severity, labels, says },
];
const gib = 1024 ** 3;

/** Members of etcd with what each is: "up", "down" or, beside it, "learner". */
function members(...states: readonly string[]): Record<string, Samples> {
  return Object.fromEntries(
    states.flatMap((state, index) => {
      const member = { member: `etcd${index + 1}` };
      const up: Samples = state.startsWith("down") ? [...hold(1, 10), ...hold(0, 90)] : hold(1, 100);
      const learner = state.endsWith("learner") ? 1 : 0;
      return [
        [of("etcd_up", member), up],
        [of("etcd_is_learner", member), state.startsWith("down") ? hold(learner, 10) : hold(learner, 100)],
      ];
    }),
  );
}

/** Targets of the job etcd. */
function servers(...states: readonly string[]): Record<string, Samples> {
  return Object.fromEntries(
    states.flatMap((state, index) => {
      const down = state.startsWith("down");
      const learner = state.endsWith("learner") ? 1 : 0;
      return [
        [etcd("up", `m${index + 1}`), down ? [...hold(1, 10), ...hold(0, 90)] : hold(1, 100)],
        [etcd("etcd_server_is_learner", `m${index + 1}`), hold(learner, down ? 10 : 100)],
      ];
    }),
  );
}

/** A histogram all of whose new observations fall into the bucket that ends with `le`. */
function histogram(name: string, le: string, labels: Readonly<Record<string, string>> = {}): Record<string, Samples> {
  const bounds = ["0.001", "0.008", "0.016", "0.032", "0.128", "0.256", "0.512", "+Inf"];
  return Object.fromEntries(
    bounds.map((bound) => [
      etcd(`${name}_bucket`, "m1", { ...labels, le: bound }),
      bounds.indexOf(bound) >= bounds.indexOf(le) ? ramp(0, 60, 100) : hold(0, 100),
    ]),
  );
}

const oneServer = { instance: "m1", job: "etcd" };
const daemon = (instance = "a"): string => series("up", { instance, job: "etcd-lifeboat" });

export const cases: Readonly<Record<string, readonly Case[]>> = {
  LifeboatBackupOverdue: [
    {
      promise: "two intervals and ten minutes without a backup",
      series: { ...everyHour, [succeeded()]: hold(0, 200) },
      atMinute: 140,
      fires: fires(
        "critical",
        { ...prod, ...hourly },
        "The newest backup of cluster prod, schedule hourly, is 2h 20m 0s old: two slots and ten minutes have passed without another one.",
      ),
    },
    { promise: "not yet", series: { ...everyHour, [succeeded()]: hold(0, 200) }, atMinute: 130, fires: [] },
    {
      promise: "a restarted daemon that fails does not tell the interval, and it still fires",
      series: {
        [of("backup_schedule_interval_seconds", hourly)]: hold(3600, 100),
        [succeeded()]: [...hold(0, 100), ...absent(4), ...hold(0, 100)],
      },
      atMinute: 140,
      fires: fires(
        "critical",
        { ...prod, ...hourly },
        "The newest backup of cluster prod, schedule hourly, is 2h 20m 0s old: two slots and ten minutes have passed without another one.",
      ),
    },
    {
      promise: "where the interval was never told, a schedule of every day is assumed",
      series: { [succeeded()]: hold(-172_800, 60) },
      atMinute: 30,
      fires: fires(
        "critical",
        { ...prod, ...hourly },
        "The newest backup of cluster prod, schedule hourly, is 2d 0h 30m 0s old: two slots and ten minutes have passed without another one.",
      ),
    },
    {
      promise: "of three daemons one succeeds, the others look on",
      series: {
        ...everyHour,
        [succeeded("a")]: hold(0, 400),
        [succeeded("b")]: [...hold(0, 60), ...hold(3600, 60), ...hold(7200, 60), ...hold(10_800, 60)],
        [succeeded("c")]: hold(3600, 400),
      },
      atMinute: 230,
      fires: [],
    },
    {
      promise: "the daemon is restarted and reads from the repository when it last succeeded",
      series: { ...everyHour, [succeeded()]: [...hold(0, 58), ...absent(4), ...hold(3600, 100)] },
      atMinute: 140,
      fires: [],
    },
    {
      promise: "a paused repository",
      series: { ...everyHour, [succeeded()]: hold(0, 200), [of("repository_paused")]: hold(1, 200) },
      atMinute: 180,
      fires: [],
    },
    {
      promise: "a weekly schedule",
      series: {
        [of("backup_schedule_interval_seconds", hourly)]: hold(604_800, 60),
        [succeeded()]: hold(-1_200_000, 60),
      },
      atMinute: 50,
      fires: [],
    },
  ],
  LifeboatBackupNeverSucceeded: [
    {
      promise: "a schedule whose backups all fail since the beginning",
      series: { [of("backup_missed_slots_total", hourly)]: hold(0, 100) },
      atMinute: 35,
      fires: fires(
        "critical",
        { ...prod, ...hourly },
        "Schedule hourly of cluster prod is configured, and no backup of it is known (0 slots were missed).",
      ),
    },
    {
      promise: "the first backup takes twenty minutes",
      series: {
        [of("backup_missed_slots_total", hourly)]: hold(0, 100),
        [succeeded()]: [...absent(20), ...hold(1200, 80)],
      },
      atMinute: 60,
      fires: [],
    },
    {
      promise: "a store that does not answer has an alert of its own",
      series: { [of("backup_missed_slots_total", hourly)]: hold(0, 100), [of("store_up")]: hold(0, 100) },
      atMinute: 60,
      fires: [],
    },
    {
      promise: "a paused repository",
      series: { [of("backup_missed_slots_total", hourly)]: hold(0, 100), [of("repository_paused")]: hold(1, 100) },
      atMinute: 60,
      fires: [],
    },
  ],
  LifeboatBackupFailing: [
    {
      promise: "failures go on, also of one daemon of three, once an hour",
      series: {
        [of("backup_failures_total", { ...hourly, phase: "upload" }, "a")]: [
          ...hold(0, 30),
          ...hold(1, 60),
          ...hold(2, 60),
          ...hold(3, 60),
          ...hold(4, 60),
        ],
        [of("backup_failures_total", { ...hourly, phase: "upload" }, "b")]: hold(0, 400),
      },
      atMinute: 260,
      fires: fires(
        "warning",
        { ...prod, ...hourly, phase: "upload" },
        "Backups of cluster prod, schedule hourly, failed 4 times within four hours in phase upload.",
      ),
    },
    {
      promise: "a failure that the next try mended, with a restart that sets the counter back",
      series: {
        [of("backup_failures_total", { ...hourly, phase: "drain" })]: [...hold(0, 30), ...hold(1, 60), ...hold(0, 200)],
      },
      atMinute: 240,
      fires: [],
    },
  ],
  LifeboatBackupStuck: [
    {
      promise: "a backup of four hours",
      series: { [of("operation_start_timestamp_seconds", { operation: "backup" })]: hold(0, 300) },
      atMinute: 240,
      fires: fires(
        "warning",
        { ...prod, operation: "backup", instance: "a" },
        "A backup of cluster prod runs on a since 4h 0m 0s.",
      ),
    },
    {
      promise: "one backup after the other",
      series: {
        [of("operation_start_timestamp_seconds", { operation: "backup" })]: [
          ...hold(0, 110),
          ...absent(10),
          ...hold(7200, 110),
        ],
      },
      atMinute: 229,
      fires: [],
    },
  ],
  LifeboatBackupShrunk: [
    {
      promise: "most keys are gone",
      series: { [of("backup_last_keys", hourly)]: [...hold(75_000, 60), ...hold(15_000, 60)] },
      atMinute: 70,
      fires: fires(
        "warning",
        { ...prod, ...hourly },
        "The newest backup of cluster prod, schedule hourly, holds 20% of the keys that one held within the last day.",
      ),
    },
    {
      promise: "some keys are gone, and the daemon is restarted",
      series: { [of("backup_last_keys", hourly)]: [...hold(75_000, 60), ...absent(20), ...hold(60_000, 60)] },
      atMinute: 130,
      fires: [],
    },
  ],
  LifeboatExtrasMissing: [
    {
      promise: "two files were missing",
      series: { [of("backup_last_extras_missing", hourly)]: hold(2, 60) },
      atMinute: 20,
      fires: fires(
        "warning",
        { ...prod, ...hourly, instance: "a" },
        "The last backup of cluster prod, schedule hourly, that a took lacks 2 of the configured extra files.",
      ),
    },
    {
      promise: "they were there at the next backup",
      series: { [of("backup_last_extras_missing", hourly)]: [...hold(1, 8), ...hold(0, 60)] },
      atMinute: 60,
      fires: [],
    },
  ],
  LifeboatSourceFailing: [
    {
      promise: "a member fails at every backup",
      series: { [of("backup_source_failures_total")]: ramp(0, 1 / 60, 400) },
      atMinute: 300,
      fires: fires(
        "warning",
        prod,
        "Within six hours 5 snapshots of cluster prod broke off or were refused by a member, and another one had to be asked.",
      ),
    },
    {
      promise: "one failure",
      series: { [of("backup_source_failures_total")]: [...hold(0, 60), ...hold(1, 300)] },
      atMinute: 300,
      fires: [],
    },
  ],
  LifeboatBackupUnproven: [
    {
      promise: "backups go on and none is proven for more than four intervals",
      series: { ...everyHour, [succeeded()]: ramp(0, 60, 400), [proven]: hold(0, 400) },
      atMinute: 330,
      fires: fires(
        "warning",
        { ...prod, ...hourly },
        "The newest proven backup of cluster prod, schedule hourly, is 5h 30m 0s old; what came after it is only sealed, or there is nothing.",
      ),
    },
    {
      promise: "one backup of four is proven, and the daemon is restarted",
      series: { ...everyHour, [proven]: [...hold(0, 240), ...absent(5), ...hold(14_400, 155)] },
      atMinute: 390,
      fires: [],
    },
    {
      promise: "a paused repository",
      series: { ...everyHour, [proven]: hold(0, 400), [of("repository_paused")]: hold(1, 400) },
      atMinute: 390,
      fires: [],
    },
  ],
  LifeboatBackupNeverProven: [
    {
      promise: "backups without any proof for six hours",
      series: { [succeeded()]: hold(0, 500) },
      atMinute: 370,
      fires: fires(
        "warning",
        { ...prod, ...hourly },
        "Schedule hourly of cluster prod has backups, the newest of 1970-01-01 00:00:00 +0000 UTC, and none of them is proven.",
      ),
    },
    {
      promise: "the first proof comes late",
      series: { [succeeded()]: hold(0, 500), [proven]: [...absent(300), ...hold(0, 200)] },
      atMinute: 490,
      fires: [],
    },
  ],
  LifeboatMemberDiverged: [
    {
      promise: "one daemon found it, the others did not compare",
      series: {
        [of("proof_member_diverged", { member: "etcd3" }, "a")]: hold(1, 20),
        [of("proof_member_diverged", { member: "etcd1" }, "b")]: hold(0, 20),
      },
      atMinute: 1,
      fires: fires(
        "critical",
        { ...prod, member: "etcd3" },
        "Member etcd3 of cluster prod was asked twice and holds other data than the majority at the same revision (lifeboat_proof_member_diverged is 1).",
      ),
    },
    {
      promise: "all agree",
      series: { [of("proof_member_diverged", { member: "etcd1" })]: hold(0, 20) },
      atMinute: 15,
      fires: [],
    },
  ],
  LifeboatMembersDisagree: [
    {
      promise: "different data and nobody named",
      series: {
        [of("proof_members_disagree")]: hold(1, 20),
        [of("proof_member_diverged", { member: "etcd1" })]: hold(0, 20),
      },
      atMinute: 1,
      fires: fires(
        "critical",
        prod,
        "At the last comparison members of cluster prod held different data at the same revision (lifeboat_proof_members_disagree is 1), and none of them is known to be the one that differs.",
      ),
    },
    {
      promise: "who differs is known, which has an alert of its own",
      series: {
        [of("proof_members_disagree")]: hold(1, 20),
        [of("proof_member_diverged", { member: "etcd1" })]: hold(1, 20),
      },
      atMinute: 15,
      fires: [],
    },
  ],
  LifeboatStoreUnreachable: [
    {
      promise: "nobody reaches it",
      series: { [of("store_up", {}, "a")]: hold(0, 40), [of("store_up", {}, "b")]: hold(0, 40) },
      atMinute: 20,
      fires: fires(
        "critical",
        prod,
        "The store of cluster prod did not answer any daemon that looked (lifeboat_store_up is 0).",
      ),
    },
    {
      promise: "one daemon of three cannot",
      series: { [of("store_up", {}, "a")]: hold(0, 40), [of("store_up", {}, "b")]: hold(1, 40) },
      atMinute: 39,
      fires: [],
    },
    {
      promise: "it was away for ten minutes",
      series: { [of("store_up")]: [...hold(0, 10), ...hold(1, 40)] },
      atMinute: 45,
      fires: [],
    },
  ],
  LifeboatRepositoryPaused: [
    {
      promise: "for five hours",
      series: {
        [of("repository_paused")]: hold(1, 400),
        [of("repository_paused_timestamp_seconds")]: hold(0, 400),
      },
      atMinute: 300,
      fires: fires("warning", prod, "The repository of cluster prod is paused since 5h 0m 0s: nobody takes backups."),
    },
    {
      promise: "for more than a day it is critical, too",
      series: {
        [of("repository_paused")]: hold(1, 60),
        [of("repository_paused_timestamp_seconds")]: hold(-86_400, 60),
      },
      atMinute: 30,
      fires: [
        ...fires("warning", prod, "The repository of cluster prod is paused since 1d 0h 30m 0s: nobody takes backups."),
        ...fires(
          "critical",
          prod,
          "The repository of cluster prod is paused since 1d 0h 30m 0s: nobody takes backups.",
        ),
      ],
    },
    {
      promise: "for an upgrade of an hour",
      series: {
        [of("repository_paused")]: [...hold(1, 60), ...hold(0, 400)],
        [of("repository_paused_timestamp_seconds")]: hold(0, 60),
      },
      atMinute: 400,
      fires: [],
    },
  ],
  LifeboatLockHolderSilent: [
    {
      promise: "for a quarter of an hour",
      series: { [of("lock_holder_silent")]: hold(1, 30) },
      atMinute: 15,
      fires: fires(
        "warning",
        prod,
        "The operation that has cluster prod for itself does not renew its lock (lifeboat_lock_holder_silent is 1); backups wait until it is given back.",
      ),
    },
    {
      promise: "an operation that lives",
      series: { [of("lock_holder_silent")]: hold(0, 30) },
      atMinute: 25,
      fires: [],
    },
  ],
  LifeboatLockDamaged: [
    {
      promise: "an entry cannot be read",
      series: { [of("lock_damaged_entries")]: hold(2, 30) },
      atMinute: 15,
      fires: fires(
        "warning",
        prod,
        "2 entries at the end of the lock's log of cluster prod cannot be read; for an hour nobody works because of them.",
      ),
    },
    { promise: "none", series: { [of("lock_damaged_entries")]: hold(0, 30) }, atMinute: 25, fires: [] },
  ],
  LifeboatRetentionFailing: [
    {
      promise: "a right is missing",
      series: {
        [of("retention_last_status")]: hold(0, 400),
        [of("retention_last_success_timestamp_seconds")]: hold(0, 400),
      },
      atMinute: 260,
      fires: fires(
        "warning",
        prod,
        "Retention of cluster prod failed at its last run (lifeboat_retention_last_status is 0) and did not succeed anywhere within three hours; the store grows.",
      ),
    },
    {
      promise: "it never succeeded",
      series: { [of("retention_last_status")]: hold(0, 400) },
      atMinute: 70,
      fires: fires(
        "warning",
        prod,
        "Retention of cluster prod failed at its last run (lifeboat_retention_last_status is 0) and did not succeed anywhere within three hours; the store grows.",
      ),
    },
    {
      promise: "of three daemons one failed long ago, and another succeeds",
      series: {
        [of("retention_last_status", {}, "a")]: hold(0, 400),
        [of("retention_last_status", {}, "b")]: hold(1, 400),
        [of("retention_last_success_timestamp_seconds", {}, "b")]: ramp(0, 60, 400),
      },
      atMinute: 390,
      fires: [],
    },
  ],
  LifeboatCopyFailing: [
    {
      promise: "a second store that is dead",
      series: { [of("copy_last_status", offsite)]: [...hold(1, 30), ...hold(0, 200)] },
      atMinute: 110,
      fires: fires(
        "warning",
        { ...prod, ...offsite },
        "No round of copying backups of cluster prod to offsite has ended well within an hour (lifeboat_copy_last_status is 0).",
      ),
    },
    {
      promise: "one daemon cannot reach it, and another can",
      series: {
        [of("copy_last_status", offsite, "a")]: hold(0, 200),
        [of("copy_last_status", offsite, "b")]: hold(1, 200),
      },
      atMinute: 190,
      fires: [],
    },
    {
      promise: "it fails now and then",
      series: {
        [of("copy_last_status", offsite)]: Array.from({ length: 300 }, (_, minute) => (minute % 50 === 0 ? 1 : 0)),
      },
      atMinute: 290,
      fires: [],
    },
  ],
  LifeboatCopyBehind: [
    {
      promise: "backups go on, and none arrives in the copy",
      series: {
        [succeeded()]: ramp(0, 60, 400),
        [copied()]: [...ramp(0, 60, 60), ...hold(3600, 340)],
        ...everyHour,
      },
      atMinute: 300,
      fires: fires(
        "warning",
        { ...prod, ...hourly, ...offsite },
        "The newest backup of cluster prod, schedule hourly, in the copy offsite is 4h 0m 0s older than the newest one in the first store.",
      ),
    },
    {
      promise: "the first store has no new ones either, which is told by another alert",
      series: { [succeeded()]: hold(3600, 400), [copied()]: hold(3600, 400), ...everyHour },
      atMinute: 390,
      fires: [],
    },
    {
      promise: "the copy is made by another daemon",
      series: {
        [succeeded("a")]: ramp(0, 60, 400),
        [copied("a")]: hold(0, 400),
        [copied("b")]: ramp(-600, 60, 400),
        ...everyHour,
      },
      atMinute: 390,
      fires: [],
    },
  ],
  LifeboatLineageCreated: [
    {
      promise: "a restored cluster",
      series: { [of("lineages_created_total")]: [...hold(0, 10), ...hold(1, 100)] },
      atMinute: 15,
      fires: fires(
        "info",
        prod,
        "1 new lineage of cluster prod was begun within an hour: the cluster was restored or made anew, or this is its first backup.",
      ),
    },
    {
      promise: "a restart of the daemon",
      series: { [of("lineages_created_total")]: [...hold(1, 10), ...hold(0, 100)] },
      atMinute: 100,
      fires: [],
    },
  ],
  LifeboatSpoolTooSmall: [
    {
      promise: "less room than the database is large",
      series: {
        [of("disk_free_bytes", { role: "spool" })]: hold(gib, 100),
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(2 * gib, 100),
        [of("etcd_db_size_bytes", { member: "etcd2" })]: hold(gib / 2, 100),
      },
      atMinute: 20,
      fires: fires(
        "critical",
        { ...prod, instance: "a" },
        "The spool of a, cluster prod, has 1GiB of room, less than the database that a backup puts there.",
      ),
    },
    {
      promise: "a backup that just uses the room",
      series: {
        [of("disk_free_bytes", { role: "spool" })]: [...hold(3 * gib, 60), ...hold(gib, 40), ...hold(3 * gib, 60)],
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(2 * gib, 160),
      },
      atMinute: 150,
      fires: [],
    },
  ],
  LifeboatSpoolFillsUp: [
    {
      promise: "hour by hour less room",
      series: {
        [of("disk_free_bytes", { role: "spool" })]: ramp(12 * gib, -gib / 60, 700),
        [of("disk_size_bytes", { role: "spool" })]: hold(20 * gib, 700),
      },
      atMinute: 400,
      fires: fires(
        "warning",
        { ...prod, instance: "a" },
        "The disk of the spool of a, cluster prod, has 5.333GiB of room left; that is nearly nothing, or will be within a day when it goes on as in the last six hours.",
      ),
    },
    {
      promise: "nearly full, and nothing moves",
      series: {
        [of("disk_free_bytes", { role: "spool" })]: hold(gib / 2, 100),
        [of("disk_size_bytes", { role: "spool" })]: hold(20 * gib, 100),
      },
      atMinute: 70,
      fires: fires(
        "warning",
        { ...prod, instance: "a" },
        "The disk of the spool of a, cluster prod, has 512MiB of room left; that is nearly nothing, or will be within a day when it goes on as in the last six hours.",
      ),
    },
    {
      promise: "the room that each backup takes and gives back",
      series: {
        [of("disk_free_bytes", { role: "spool" })]: Array.from({ length: 500 }, (_, minute) =>
          minute % 60 < 10 ? 5 * gib : 7 * gib,
        ),
        [of("disk_size_bytes", { role: "spool" })]: hold(20 * gib, 500),
      },
      atMinute: 490,
      fires: [],
    },
  ],
  LifeboatEtcdUnreachable: [
    {
      promise: "nobody reaches any member",
      series: { [of("cluster_observed", {}, "a")]: hold(0, 30), [of("cluster_observed", {}, "b")]: hold(0, 30) },
      atMinute: 10,
      fires: fires(
        "critical",
        prod,
        "No member of cluster prod answers any daemon (lifeboat_cluster_observed is 0): etcd is down, or the way to it.",
      ),
    },
    {
      promise: "one daemon of three is cut off",
      series: { [of("cluster_observed", {}, "a")]: hold(0, 30), [of("cluster_observed", {}, "b")]: hold(1, 30) },
      atMinute: 29,
      fires: [],
    },
  ],
  LifeboatEtcdQuorumLost: [
    {
      promise: "members answer on their own alone",
      series: { [of("etcd_has_quorum")]: hold(0, 30) },
      atMinute: 5,
      fires: fires(
        "critical",
        prod,
        "Cluster prod answers no linearizable read (lifeboat_etcd_has_quorum is 0); members answer only on their own, and nothing can be written.",
      ),
    },
    {
      promise: "an election of a minute",
      series: { [of("etcd_has_quorum")]: [1, 1, 0, ...hold(1, 30)] },
      atMinute: 25,
      fires: [],
    },
  ],
  LifeboatEtcdMemberDown: [
    {
      promise: "one of three is down",
      series: members("up", "up", "down"),
      atMinute: 40,
      fires: fires(
        "warning",
        { ...prod, member: "etcd3" },
        "Member etcd3 of cluster prod does not answer any daemon (lifeboat_etcd_up is 0).",
      ),
    },
    {
      promise: "one daemon of three does not reach it",
      series: {
        [of("etcd_up", { member: "etcd1" }, "a")]: hold(0, 50),
        [of("etcd_up", { member: "etcd1" }, "b")]: hold(1, 50),
      },
      atMinute: 40,
      fires: [],
    },
    {
      promise: "a restart of it",
      series: { [of("etcd_up", { member: "etcd1" })]: [...hold(1, 5), 0, 0, ...hold(1, 40)] },
      atMinute: 40,
      fires: [],
    },
  ],
  LifeboatEtcdNoFailureTolerated: [
    {
      promise: "one of three is down",
      series: members("up", "up", "down"),
      atMinute: 40,
      fires: fires("critical", prod, "Members of cluster prod are down, and it tolerates 0 further failures."),
    },
    {
      promise: "two of five are down",
      series: members("up", "up", "up", "down", "down"),
      atMinute: 40,
      fires: fires("critical", prod, "Members of cluster prod are down, and it tolerates 0 further failures."),
    },
    {
      promise: "one of five is down",
      series: members("up", "up", "up", "up", "down"),
      atMinute: 40,
      fires: [],
    },
    {
      promise: "a learner beside three is down",
      series: members("up", "up", "up", "down learner"),
      atMinute: 40,
      fires: [],
    },
    { promise: "a cluster of one member", series: members("up"), atMinute: 40, fires: [] },
  ],
  LifeboatEtcdNoSpace: [
    {
      promise: "the alarm is raised",
      series: { [of("etcd_alarm_active", { member: "etcd1", alarm: "NOSPACE" })]: hold(1, 20) },
      atMinute: 1,
      fires: fires(
        "critical",
        { ...prod, member: "etcd1" },
        "The alarm NOSPACE is raised for member etcd1 of cluster prod (lifeboat_etcd_alarm_active is 1): all writes but deletes are refused.",
      ),
    },
    {
      promise: "another one is",
      series: {
        [of("etcd_alarm_active", { member: "etcd1", alarm: "NOSPACE" })]: hold(0, 20),
        [of("etcd_alarm_active", { member: "etcd1", alarm: "CORRUPT" })]: hold(1, 20),
      },
      atMinute: 15,
      fires: [],
    },
  ],
  LifeboatEtcdCorrupt: [
    {
      promise: "the alarm is raised",
      series: { [of("etcd_alarm_active", { member: "etcd2", alarm: "CORRUPT" })]: hold(1, 20) },
      atMinute: 1,
      fires: fires(
        "critical",
        { ...prod, member: "etcd2" },
        "The alarm CORRUPT is raised for member etcd2 of cluster prod (lifeboat_etcd_alarm_active is 1).",
      ),
    },
    {
      promise: "it is not",
      series: { [of("etcd_alarm_active", { member: "etcd2", alarm: "CORRUPT" })]: hold(0, 20) },
      atMinute: 15,
      fires: [],
    },
  ],
  LifeboatEtcdAlarmUnknown: [
    {
      promise: "an alarm of a newer etcd",
      series: { [of("etcd_alarm_active", { member: "etcd2", alarm: "UNKNOWN" })]: hold(1, 20) },
      atMinute: 1,
      fires: fires(
        "warning",
        { ...prod, member: "etcd2" },
        "An alarm that is neither NOSPACE nor CORRUPT is raised for member etcd2 of cluster prod (lifeboat_etcd_alarm_active is 1).",
      ),
    },
    {
      promise: "none",
      series: { [of("etcd_alarm_active", { member: "etcd2", alarm: "UNKNOWN" })]: hold(0, 20) },
      atMinute: 15,
      fires: [],
    },
  ],
  LifeboatEtcdQuotaNear: [
    {
      promise: "four fifths of it",
      series: {
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(1.6 * gib, 40),
        [of("etcd_quota_bytes", { member: "etcd1" })]: hold(2 * gib, 40),
      },
      atMinute: 15,
      fires: fires(
        "warning",
        { ...prod, member: "etcd1" },
        "The database of member etcd1, cluster prod, has 80% of its quota; at 100 % etcd refuses writes.",
      ),
    },
    {
      promise: "nearly all of it",
      series: {
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(1.9 * gib, 40),
        [of("etcd_quota_bytes", { member: "etcd1" })]: hold(2 * gib, 40),
      },
      atMinute: 15,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "The database of member etcd1, cluster prod, has 95% of its quota; at 100 % etcd refuses writes.",
        ),
        ...fires(
          "critical",
          { ...prod, member: "etcd1" },
          "The database of member etcd1, cluster prod, has 95% of its quota; at 100 % etcd refuses writes.",
        ),
      ],
    },
    {
      promise: "half of it, and one member that does not say its quota",
      series: {
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(gib, 40),
        [of("etcd_quota_bytes", { member: "etcd1" })]: hold(2 * gib, 40),
        [of("etcd_db_size_bytes", { member: "etcd2" })]: hold(7 * gib, 40),
      },
      atMinute: 35,
      fires: [],
    },
  ],
  LifeboatEtcdFragmented: [
    {
      promise: "a large file with little in it",
      series: {
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(2 * gib, 100),
        [of("etcd_db_size_in_use_bytes", { member: "etcd1" })]: hold(gib / 2, 100),
      },
      atMinute: 70,
      fires: fires(
        "info",
        { ...prod, member: "etcd1" },
        "Of the database of member etcd1, cluster prod, 75% is free inside the file: a defragmentation would give it back.",
      ),
    },
    {
      promise: "a small one",
      series: {
        [of("etcd_db_size_bytes", { member: "etcd1" })]: hold(gib / 4, 100),
        [of("etcd_db_size_in_use_bytes", { member: "etcd1" })]: hold(gib / 16, 100),
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdVersionsDiffer: [
    {
      promise: "an upgrade that was left half done",
      series: {
        [of("etcd_server_info", { member: "etcd1", server_version: "3.6.16" })]: hold(1, 1500),
        [of("etcd_server_info", { member: "etcd2", server_version: "3.5.33" })]: hold(1, 1500),
      },
      atMinute: 1450,
      fires: fires("info", prod, "The members of cluster prod run 2 versions of etcd since a day."),
    },
    {
      promise: "an upgrade of two hours",
      series: {
        [of("etcd_server_info", { member: "etcd1", server_version: "3.6.16" })]: hold(1, 1500),
        [of("etcd_server_info", { member: "etcd2", server_version: "3.5.33" })]: hold(1, 120),
        [of("etcd_server_info", { member: "etcd2", server_version: "3.6.16" })]: [...absent(120), ...hold(1, 1380)],
      },
      atMinute: 1490,
      fires: [],
    },
  ],
  LifeboatCertificateExpires: [
    {
      promise: "ten days are left for a member's certificate",
      series: {
        [of("tls_certificate_not_after_timestamp_seconds", { purpose: "server", member: "etcd1" })]: hold(864_000, 100),
      },
      atMinute: 70,
      fires: [
        ...fires(
          "warning",
          { ...prod, purpose: "server", member: "etcd1" },
          "The server certificate of member etcd1, cluster prod, is valid for 9d 22h 50m 0s only.",
        ),
      ],
    },
    {
      promise: "ten days are left for the page of one daemon of two",
      series: {
        [of("tls_certificate_not_after_timestamp_seconds", { purpose: "listener", member: "" }, "a")]: hold(
          864_000,
          100,
        ),
        [of("tls_certificate_not_after_timestamp_seconds", { purpose: "listener", member: "" }, "b")]: hold(8e6, 100),
      },
      atMinute: 70,
      fires: fires(
        "warning",
        { ...prod, purpose: "listener" },
        "The listener certificate, cluster prod, is valid for 9d 22h 50m 0s only.",
      ),
    },
    {
      promise: "two days are left for ours",
      series: {
        [of("tls_certificate_not_after_timestamp_seconds", { purpose: "client", member: "" })]: hold(172_800, 100),
      },
      atMinute: 70,
      fires: [
        ...fires(
          "warning",
          { ...prod, purpose: "client" },
          "The client certificate, cluster prod, is valid for 1d 22h 50m 0s only.",
        ),
        ...fires(
          "critical",
          { ...prod, purpose: "client" },
          "The client certificate, cluster prod, is valid for 1d 22h 50m 0s only.",
        ),
      ],
    },
    {
      promise: "a year is left",
      series: {
        [of("tls_certificate_not_after_timestamp_seconds", { purpose: "ca", member: "" })]: hold(31_536_000, 100),
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdFsyncSlow: [
    {
      promise: "above etcd's advice for long",
      series: { [of("etcd_wal_fsync_p99_seconds", { member: "etcd1" })]: hold(0.016, 100) },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "99 % of the WAL fsyncs of member etcd1 of cluster prod take up to 16ms; etcd wants less than 10 ms, and 100 ms is a heartbeat.",
        ),
      ],
    },
    {
      promise: "longer than a heartbeat",
      series: { [of("etcd_wal_fsync_p99_seconds", { member: "etcd1" })]: hold(0.25, 100) },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "99 % of the WAL fsyncs of member etcd1 of cluster prod take up to 250ms; etcd wants less than 10 ms, and 100 ms is a heartbeat.",
        ),
        ...fires(
          "critical",
          { ...prod, member: "etcd1" },
          "99 % of the WAL fsyncs of member etcd1 of cluster prod take up to 250ms; etcd wants less than 10 ms, and 100 ms is a heartbeat.",
        ),
      ],
    },
    {
      promise: "a moment of it, as in a backup of the host",
      series: {
        [of("etcd_wal_fsync_p99_seconds", { member: "etcd1" })]: [
          ...hold(0.004, 40),
          ...hold(0.3, 5),
          ...hold(0.004, 55),
        ],
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdCommitSlow: [
    {
      promise: "above etcd's advice for long",
      series: { [of("etcd_backend_commit_p99_seconds", { member: "etcd1" })]: hold(0.064, 100) },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "99 % of the commits of the database of member etcd1 of cluster prod take up to 64ms; etcd wants less than 25 ms.",
        ),
      ],
    },
    {
      promise: "ten times as long",
      series: { [of("etcd_backend_commit_p99_seconds", { member: "etcd1" })]: hold(0.5, 100) },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "99 % of the commits of the database of member etcd1 of cluster prod take up to 500ms; etcd wants less than 25 ms.",
        ),
        ...fires(
          "critical",
          { ...prod, member: "etcd1" },
          "99 % of the commits of the database of member etcd1 of cluster prod take up to 500ms; etcd wants less than 25 ms.",
        ),
      ],
    },
    {
      promise: "within etcd's advice",
      series: { [of("etcd_backend_commit_p99_seconds", { member: "etcd1" })]: hold(0.02, 100) },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdReadsSlow: [
    {
      promise: "most take more than a tenth of a second",
      series: {
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.01" })]: hold(
          0,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.05" })]: hold(
          0,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.1" })]: hold(
          0,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.25" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.5" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "+Inf" })]: ramp(
          0,
          4,
          100,
        ),
      },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1", method: "range_linearizable" },
          "One of ten reads (range_linearizable) of one absent key through member etcd1 of cluster prod takes longer than 235ms.",
        ),
      ],
    },
    {
      promise: "all are fast",
      series: {
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.01" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.05" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.1" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.25" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "0.5" })]: ramp(
          0,
          4,
          100,
        ),
        [of("etcd_probe_duration_seconds_bucket", { member: "etcd1", method: "range_linearizable", le: "+Inf" })]: ramp(
          0,
          4,
          100,
        ),
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdReadsFailing: [
    {
      promise: "every fourth read fails",
      series: {
        [of("etcd_probe_failures_total", { member: "etcd1", method: "range_linearizable" })]: ramp(0, 1, 100),
        [of("etcd_has_quorum")]: hold(1, 100),
      },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1", method: "range_linearizable" },
          "Member etcd1 of cluster prod says how it does, and 15 reads (range_linearizable) through it failed or hung within a quarter of an hour.",
        ),
      ],
    },
    {
      promise: "the quorum is lost, which has an alert of its own",
      series: {
        [of("etcd_probe_failures_total", { member: "etcd1", method: "range_linearizable" })]: ramp(0, 4, 100),
        [of("etcd_has_quorum")]: hold(0, 100),
      },
      atMinute: 90,
      fires: [],
    },
    {
      promise: "one that failed",
      series: {
        [of("etcd_probe_failures_total", { member: "etcd1", method: "range_linearizable" })]: [
          ...hold(0, 50),
          ...hold(1, 50),
        ],
        [of("etcd_has_quorum")]: hold(1, 100),
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdLeaderChanges: [
    {
      promise: "every ten minutes",
      series: { [of("etcd_leader_changes_total", { member: "etcd1" })]: ramp(0, 0.1, 100) },
      atMinute: 90,
      fires: [...fires("warning", prod, "Cluster prod changed its leader 6 times within an hour.")],
    },
    {
      promise: "once, as in maintenance",
      series: { [of("etcd_leader_changes_total", { member: "etcd1" })]: [...hold(1, 50), ...hold(2, 50)] },
      atMinute: 90,
      fires: [],
    },
    {
      promise: "a member whose count began anew",
      series: { [of("etcd_leader_changes_total", { member: "etcd1" })]: [...hold(40, 50), ...hold(1, 50)] },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdHeartbeatsLate: [
    {
      promise: "every minute",
      series: { [of("etcd_heartbeat_failures_total", { member: "etcd1" })]: ramp(0, 2, 100) },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "The leader etcd1 of cluster prod sent 30 heartbeats too late within a quarter of an hour.",
        ),
      ],
    },
    {
      promise: "a few",
      series: { [of("etcd_heartbeat_failures_total", { member: "etcd1" })]: [...hold(3, 50), ...hold(6, 50)] },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdPeerSlow: [
    {
      promise: "longer than a heartbeat",
      series: { [of("etcd_peer_round_trip_seconds", { member: "etcd1", peer: "etcd2" })]: hold(0.15, 60) },
      atMinute: 40,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1", peer: "etcd2" },
          "From member etcd1 to etcd2, cluster prod, a round trip takes 150ms; a heartbeat comes every 100 ms.",
        ),
      ],
    },
    {
      promise: "sites in one region",
      series: { [of("etcd_peer_round_trip_seconds", { member: "etcd1", peer: "etcd2" })]: hold(0.02, 60) },
      atMinute: 50,
      fires: [],
    },
  ],
  LifeboatEtcdMemberLags: [
    {
      promise: "it does not move any more",
      series: {
        [of("etcd_raft_index", { member: "etcd1" })]: ramp(0, 600, 100),
        [of("etcd_raft_applied_index", { member: "etcd1" })]: ramp(0, 600, 100),
        [of("etcd_raft_applied_index", { member: "etcd2" })]: [...ramp(0, 600, 30), ...hold(18_000, 70)],
      },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd2" },
          "Member etcd2 of cluster prod is 18000 raft entries behind, more than a minute's writes.",
        ),
      ],
    },
    {
      promise: "looked at some seconds apart",
      series: {
        [of("etcd_raft_index", { member: "etcd1" })]: ramp(0, 60_000, 100),
        [of("etcd_raft_applied_index", { member: "etcd2" })]: ramp(-30_000, 60_000, 100),
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatDiskNearlyFull: [
    {
      promise: "a twentieth is left",
      series: {
        [of("disk_free_bytes", { role: "data", member: "etcd1" })]: hold(gib, 60),
        [of("disk_size_bytes", { role: "data", member: "etcd1" })]: hold(20 * gib, 60),
      },
      atMinute: 40,
      fires: [
        ...fires(
          "warning",
          { ...prod, instance: "a", role: "data", member: "etcd1" },
          "The data disk of member etcd1, cluster prod, on a has 5% of its room left.",
        ),
      ],
    },
    {
      promise: "next to nothing is left",
      series: {
        [of("disk_free_bytes", { role: "data", member: "etcd1" })]: hold(gib / 5, 60),
        [of("disk_size_bytes", { role: "data", member: "etcd1" })]: hold(20 * gib, 60),
      },
      atMinute: 40,
      fires: [
        ...fires(
          "warning",
          { ...prod, instance: "a", role: "data", member: "etcd1" },
          "The data disk of member etcd1, cluster prod, on a has 1% of its room left.",
        ),
        ...fires(
          "critical",
          { ...prod, instance: "a", role: "data", member: "etcd1" },
          "The data disk of member etcd1, cluster prod, on a has 1% of its room left.",
        ),
      ],
    },
    {
      promise: "a quarter is left, and the spool has its own alerts",
      series: {
        [of("disk_free_bytes", { role: "data", member: "etcd1" })]: hold(5 * gib, 60),
        [of("disk_size_bytes", { role: "data", member: "etcd1" })]: hold(20 * gib, 60),
        [of("disk_free_bytes", { role: "spool", member: "" })]: hold(0, 60),
        [of("disk_size_bytes", { role: "spool", member: "" })]: hold(gib, 60),
      },
      atMinute: 50,
      fires: [],
    },
  ],
  LifeboatDiskInodesLow: [
    {
      promise: "two of a hundred are left",
      series: {
        [of("disk_inodes_free", { role: "data", member: "etcd1" })]: hold(2000, 60),
        [of("disk_inodes", { role: "data", member: "etcd1" })]: hold(100_000, 60),
      },
      atMinute: 40,
      fires: [
        ...fires(
          "warning",
          { ...prod, instance: "a", role: "data", member: "etcd1" },
          "The data disk of member etcd1, cluster prod, on a has 2% of its inodes left.",
        ),
      ],
    },
    {
      promise: "half of them are left",
      series: {
        [of("disk_inodes_free", { role: "data", member: "etcd1" })]: hold(50_000, 60),
        [of("disk_inodes", { role: "data", member: "etcd1" })]: hold(100_000, 60),
      },
      atMinute: 50,
      fires: [],
    },
  ],
  LifeboatDiskFullSoon: [
    {
      promise: "in two days",
      series: { [of("disk_full_timestamp_seconds", { role: "data", member: "etcd1" })]: hold(172_800, 100) },
      atMinute: 80,
      fires: [
        ...fires(
          "warning",
          { ...prod, instance: "a", role: "data", member: "etcd1" },
          "The data disk of member etcd1, cluster prod, on a will be full in 1d 22h 40m 0s if it goes on like this.",
        ),
      ],
    },
    {
      promise: "in a month, and nobody knows of the WAL's",
      series: { [of("disk_full_timestamp_seconds", { role: "data", member: "etcd1" })]: hold(2_592_000, 100) },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatEtcdQuotaFullSoon: [
    {
      promise: "in two days",
      series: { [of("etcd_quota_full_timestamp_seconds", { member: "etcd1" })]: hold(172_800, 100) },
      atMinute: 80,
      fires: [
        ...fires(
          "warning",
          { ...prod, member: "etcd1" },
          "The database of member etcd1, cluster prod, reaches its quota in 1d 22h 40m 0s if it goes on like this.",
        ),
      ],
    },
    {
      promise: "in a month",
      series: { [of("etcd_quota_full_timestamp_seconds", { member: "etcd1" })]: hold(2_592_000, 100) },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatDiskPressure: [
    {
      promise: "a third of the time",
      series: { [of("disk_pressure_stalled_seconds_total")]: ramp(0, 20, 100) },
      atMinute: 60,
      fires: [
        ...fires(
          "warning",
          { ...prod, instance: "a" },
          "33.33% of the time nothing went on at a, cluster prod, since all waited for disks.",
        ),
      ],
    },
    {
      promise: "a backup that is written",
      series: { [of("disk_pressure_stalled_seconds_total")]: [...hold(0, 40), ...ramp(0, 20, 8), ...hold(160, 52)] },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatDaemonDown: [
    {
      promise: "it cannot be scraped",
      series: { [daemon("a")]: [...hold(1, 10), ...hold(0, 30)], [daemon("b")]: hold(1, 40) },
      atMinute: 20,
      fires: fires("warning", { instance: "a", job: "etcd-lifeboat" }, "The daemon a cannot be scraped (up is 0)."),
    },
    {
      promise: "a restart",
      series: { [daemon("a")]: [...hold(1, 10), 0, 0, ...hold(1, 30)] },
      atMinute: 40,
      fires: [],
    },
  ],
  LifeboatDaemonAbsent: [
    {
      promise: "the only daemon of a cluster is gone, another cluster has one",
      series: {
        [daemon()]: hold(1, 100),
        [of("config_last_reload_successful")]: hold(1, 20),
        [series("lifeboat_config_last_reload_successful", { cluster: "test", job: "etcd-lifeboat", instance: "t" })]:
          hold(1, 100),
      },
      atMinute: 60,
      fires: fires(
        "critical",
        prod,
        "No daemon of etcd-lifeboat answers for cluster prod, which had 1 within a day: no backups are taken.",
      ),
    },
    {
      promise: "Prometheus knows none",
      series: { 'up{job="node"}': hold(1, 40) },
      atMinute: 20,
      fires: fires("critical", {}, "No daemon of etcd-lifeboat answers: no backups are taken."),
    },
    {
      promise: "one of two is gone, and the other one restarts",
      series: {
        [daemon("b")]: hold(1, 100),
        [of("config_last_reload_successful", {}, "a")]: hold(1, 20),
        [of("config_last_reload_successful", {}, "b")]: [...hold(1, 40), ...absent(6), ...hold(1, 50)],
      },
      atMinute: 90,
      fires: [],
    },
  ],
  LifeboatDaemonRestarting: [
    {
      promise: "every five minutes",
      series: {
        [of("process_start_time_seconds")]: Array.from({ length: 60 }, (_, minute) => Math.floor(minute / 5) * 300),
      },
      atMinute: 31,
      fires: fires("warning", { instance: "a" }, "The daemon a was started 6 times within an hour."),
    },
    {
      promise: "once",
      series: { [of("process_start_time_seconds")]: [...hold(0, 30), ...absent(2), ...hold(1900, 30)] },
      atMinute: 60,
      fires: [],
    },
  ],
  LifeboatConfigReloadFailed: [
    {
      promise: "one daemon refused the file",
      series: {
        [of("config_last_reload_successful", {}, "a")]: hold(0, 30),
        [of("config_last_reload_successful", {}, "b")]: hold(1, 30),
      },
      atMinute: 10,
      fires: fires(
        "warning",
        { ...prod, instance: "a" },
        "The daemon a of cluster prod refused the file at its last reload (lifeboat_config_last_reload_successful is 0) and works by the one before; it will not start with this file.",
      ),
    },
    {
      promise: "mended at once",
      series: { [of("config_last_reload_successful")]: [...hold(0, 3), ...hold(1, 30)] },
      atMinute: 30,
      fires: [],
    },
  ],
  LifeboatEventLoopLag: [
    {
      promise: "a third of a second, all the time",
      series: { [of("nodejs_eventloop_lag_p99_seconds")]: hold(0.33, 40) },
      atMinute: 20,
      fires: fires(
        "warning",
        { instance: "a" },
        "The daemon a reacts 330ms late (99th percentile): the host is overloaded, or its disk or memory.",
      ),
    },
    {
      promise: "during a backup",
      series: { [of("nodejs_eventloop_lag_p99_seconds")]: [...hold(0.02, 20), ...hold(0.4, 8), ...hold(0.02, 20)] },
      atMinute: 45,
      fires: [],
    },
  ],
  LifeboatLogLinesLost: [
    {
      promise: "a full disk of the log",
      series: { [of("log_errors_total", { cluster: "" })]: [...hold(0, 10), ...ramp(0, 4, 30)] },
      atMinute: 20,
      fires: fires("warning", { instance: "a" }, "The daemon a lost 40 lines of its log within fifteen minutes."),
    },
    {
      promise: "a restart sets the counter back",
      series: { [of("log_errors_total", { cluster: "" })]: [...hold(7, 20), ...hold(0, 30)] },
      atMinute: 45,
      fires: [],
    },
  ],
  LifeboatPingsFailing: [
    {
      promise: "each hour's ping fails",
      series: { [of("pings_total", { target: "success", result: "failure" })]: ramp(0, 1 / 60, 400) },
      atMinute: 200,
      fires: fires(
        "warning",
        { ...prod, target: "success" },
        "Within six hours 3 pings (success) of cluster prod could not be delivered, each tried three times.",
      ),
    },
    {
      promise: "one failed",
      series: {
        [of("pings_total", { target: "success", result: "failure" })]: [...hold(0, 60), ...hold(1, 300)],
        [of("pings_total", { target: "success", result: "success" })]: ramp(0, 1 / 60, 360),
      },
      atMinute: 350,
      fires: [],
    },
  ],
  LifeboatWarnings: [
    {
      promise: "one warning",
      series: { [of("warnings_total")]: [...hold(0, 10), ...hold(1, 30)] },
      atMinute: 12,
      fires: fires(
        "info",
        { ...prod, instance: "a" },
        "The daemon a of cluster prod told 1 warnings within an hour; its log says which.",
      ),
    },
    {
      promise: "a restart sets the counter back",
      series: { [of("warnings_total")]: [...hold(3, 10), ...hold(0, 80)] },
      atMinute: 85,
      fires: [],
    },
  ],
  EtcdServerFsyncSlow: [
    {
      promise: "beyond ten milliseconds",
      series: histogram("etcd_disk_wal_fsync_duration_seconds", "0.016"),
      atMinute: 50,
      fires: fires(
        "warning",
        oneServer,
        "99 % of the fsyncs of the WAL of m1 (job etcd) take up to 15.92ms; etcd wants less than 10 ms, and 100 ms is a heartbeat.",
      ),
    },
    {
      promise: "beyond a heartbeat",
      series: histogram("etcd_disk_wal_fsync_duration_seconds", "0.256"),
      atMinute: 50,
      fires: [
        ...fires(
          "warning",
          oneServer,
          "99 % of the fsyncs of the WAL of m1 (job etcd) take up to 254.7ms; etcd wants less than 10 ms, and 100 ms is a heartbeat.",
        ),
        ...fires(
          "critical",
          oneServer,
          "99 % of the fsyncs of the WAL of m1 (job etcd) take up to 254.7ms; etcd wants less than 10 ms, and 100 ms is a heartbeat.",
        ),
      ],
    },
    {
      promise: "a good disk",
      series: histogram("etcd_disk_wal_fsync_duration_seconds", "0.008"),
      atMinute: 90,
      fires: [],
    },
  ],
  EtcdServerCommitSlow: [
    {
      promise: "beyond 25 milliseconds",
      series: histogram("etcd_disk_backend_commit_duration_seconds", "0.032"),
      atMinute: 50,
      fires: fires(
        "warning",
        oneServer,
        "99 % of the commits of the database of m1 (job etcd) take up to 31.84ms; etcd wants less than 25 ms.",
      ),
    },
    {
      promise: "beyond 250 milliseconds",
      series: histogram("etcd_disk_backend_commit_duration_seconds", "0.512"),
      atMinute: 50,
      fires: [
        ...fires(
          "warning",
          oneServer,
          "99 % of the commits of the database of m1 (job etcd) take up to 509.4ms; etcd wants less than 25 ms.",
        ),
        ...fires(
          "critical",
          oneServer,
          "99 % of the commits of the database of m1 (job etcd) take up to 509.4ms; etcd wants less than 25 ms.",
        ),
      ],
    },
    {
      promise: "a good disk",
      series: histogram("etcd_disk_backend_commit_duration_seconds", "0.016"),
      atMinute: 90,
      fires: [],
    },
  ],
  EtcdServerPeerSlow: [
    {
      promise: "a slow link to one member",
      series: histogram("etcd_network_peer_round_trip_time_seconds", "0.256", { To: "8e9e05c52164694d" }),
      atMinute: 30,
      fires: fires(
        "warning",
        { ...oneServer, To: "8e9e05c52164694d" },
        "99 % of the round trips from m1 (job etcd) to member 8e9e05c52164694d take up to 254.7ms.",
      ),
    },
    {
      promise: "a link within a region",
      series: histogram("etcd_network_peer_round_trip_time_seconds", "0.008", { To: "8e9e05c52164694d" }),
      atMinute: 90,
      fires: [],
    },
  ],
  EtcdServerQuotaNear: [
    {
      promise: "four fifths of it",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: hold(1.6 * gib, 40),
        [etcd("etcd_server_quota_backend_bytes", "m1")]: hold(2 * gib, 40),
      },
      atMinute: 20,
      fires: fires(
        "warning",
        oneServer,
        "The database of m1 (job etcd) has 80% of its quota; at 100 % etcd refuses writes.",
      ),
    },
    {
      promise: "nearly all of it",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: hold(1.9 * gib, 40),
        [etcd("etcd_server_quota_backend_bytes", "m1")]: hold(2 * gib, 40),
      },
      atMinute: 20,
      fires: [
        ...fires(
          "warning",
          oneServer,
          "The database of m1 (job etcd) has 95% of its quota; at 100 % etcd refuses writes.",
        ),
        ...fires(
          "critical",
          oneServer,
          "The database of m1 (job etcd) has 95% of its quota; at 100 % etcd refuses writes.",
        ),
      ],
    },
    {
      promise: "half of it",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: hold(gib, 40),
        [etcd("etcd_server_quota_backend_bytes", "m1")]: hold(2 * gib, 40),
      },
      atMinute: 35,
      fires: [],
    },
  ],
  EtcdServerQuotaReachedSoon: [
    {
      promise: "half a GiB a day, with one GiB left",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: ramp(gib, gib / 2880, 500),
        [etcd("etcd_server_quota_backend_bytes", "m1")]: hold(2 * gib, 500),
      },
      atMinute: 450,
      fires: fires(
        "warning",
        oneServer,
        "When the database of m1 (job etcd) grows on as in the last six hours, it has 157.8% of its quota in four days.",
      ),
    },
    {
      promise: "a database that does not grow",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: hold(1.2 * gib, 500),
        [etcd("etcd_server_quota_backend_bytes", "m1")]: hold(2 * gib, 500),
      },
      atMinute: 490,
      fires: [],
    },
  ],
  EtcdServerFragmented: [
    {
      promise: "a large file with little in it",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: hold(2 * gib, 100),
        [etcd("etcd_mvcc_db_total_size_in_use_in_bytes", "m1")]: hold(gib / 2, 100),
      },
      atMinute: 80,
      fires: fires(
        "info",
        oneServer,
        "Of the database of m1 (job etcd) 75% is free inside the file: a defragmentation would give it back.",
      ),
    },
    {
      promise: "a full one",
      series: {
        [etcd("etcd_mvcc_db_total_size_in_bytes", "m1")]: hold(2 * gib, 100),
        [etcd("etcd_mvcc_db_total_size_in_use_in_bytes", "m1")]: hold(1.5 * gib, 100),
      },
      atMinute: 90,
      fires: [],
    },
  ],
  EtcdServerDown: [
    {
      promise: "one of three cannot be scraped",
      series: servers("up", "up", "down"),
      atMinute: 40,
      fires: fires("warning", { instance: "m3", job: "etcd" }, "m3 (job etcd) cannot be scraped (up is 0)."),
    },
    {
      promise: "a restart, and a daemon of ours that is down",
      series: {
        [etcd("up", "m1")]: [...hold(1, 10), 0, 0, ...hold(1, 40)],
        [daemon()]: hold(0, 50),
      },
      atMinute: 45,
      fires: [],
    },
  ],
  EtcdServerNoFailureTolerated: [
    {
      promise: "one of three is down",
      series: servers("up", "up", "down"),
      atMinute: 40,
      fires: fires(
        "critical",
        { job: "etcd" },
        "Members of etcd (job etcd) are down, and the cluster tolerates 0 further failures.",
      ),
    },
    {
      promise: "a learner beside three is down",
      series: servers("up", "up", "up", "down learner"),
      atMinute: 40,
      fires: [],
    },
    { promise: "one of five is down", series: servers("up", "up", "up", "up", "down"), atMinute: 40, fires: [] },
  ],
  EtcdServerQuorumLost: [
    {
      promise: "two of three are down",
      series: servers("up", "down", "down"),
      atMinute: 40,
      fires: fires(
        "critical",
        { job: "etcd" },
        "Too few members of etcd (job etcd) answer: the cluster lacks a quorum (-1 failures tolerated) and takes no writes.",
      ),
    },
    { promise: "one of three is down", series: servers("up", "up", "down"), atMinute: 90, fires: [] },
  ],
  EtcdServerNoLeader: [
    {
      promise: "for minutes",
      series: { [etcd("etcd_server_has_leader", "m1")]: [...hold(1, 10), ...hold(0, 20)] },
      atMinute: 20,
      fires: fires("critical", oneServer, "m1 (job etcd) knows no leader (etcd_server_has_leader is 0)."),
    },
    {
      promise: "an election",
      series: { [etcd("etcd_server_has_leader", "m1")]: [...hold(1, 10), 0, ...hold(1, 20)] },
      atMinute: 25,
      fires: [],
    },
  ],
  EtcdServerLeaderChanges: [
    {
      promise: "one every ten minutes",
      series: { [etcd("etcd_server_leader_changes_seen_total", "m1")]: ramp(0, 0.1, 100) },
      atMinute: 60,
      fires: fires(
        "warning",
        { job: "etcd" },
        "Within an hour members of etcd (job etcd) saw 6 changes of the leader; each stops all writes for a second or more.",
      ),
    },
    {
      promise: "one, and a restart",
      series: {
        [etcd("etcd_server_leader_changes_seen_total", "m1")]: [...hold(5, 20), ...hold(6, 20), ...hold(1, 60)],
      },
      atMinute: 95,
      fires: [],
    },
  ],
  EtcdServerProposalsFailing: [
    {
      promise: "two in a second",
      series: { [etcd("etcd_server_proposals_failed_total", "m1")]: ramp(0, 120, 100) },
      atMinute: 40,
      fires: fires("warning", oneServer, "On m1 (job etcd) 2 proposals fail per second."),
    },
    {
      promise: "a few at an election",
      series: { [etcd("etcd_server_proposals_failed_total", "m1")]: [...hold(0, 20), ...hold(30, 80)] },
      atMinute: 90,
      fires: [],
    },
  ],
};
