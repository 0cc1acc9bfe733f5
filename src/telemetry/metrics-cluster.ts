import type { Emit, ObservedMember } from "../events.ts";
import { labelOf, mostMembers, setOrRemove } from "./metrics-define.ts";
import type { MetricScope } from "./metrics-define.ts";

/** Alarms that etcd has; one that it will have some day is told as UNKNOWN, so that a label stays bounded. */
const alarms = ["NOSPACE", "CORRUPT", "UNKNOWN"] as const;

/** The members of etcd, each observation replacing the one before: a member that is gone loses its series. */
export function openClusterMetrics({ define, cluster }: MetricScope): Emit {
  const labels = ["cluster", "member"] as const;
  const observed = define.gauge(
    "cluster_observed",
    "1 when the last look at the cluster reached it, 0 when no member answered; absent: not looked yet.",
    ["cluster"],
  );
  const quorum = define.gauge(
    "etcd_has_quorum",
    "1 when the cluster answered a linearizable read (under the lock of a restore or an upgrade: when most voters follow one leader), 0 when not; absent: not known.",
    ["cluster"],
  );
  const up = define.gauge("etcd_up", "1 when the member answered.", labels);
  const leader = define.gauge("etcd_is_leader", "1 when the member says that it leads.", labels);
  const learner = define.gauge("etcd_is_learner", "1 when the member is a learner.", labels);
  const revision = define.gauge("etcd_revision", "The member's newest revision.", labels);
  const dbSize = define.gauge("etcd_db_size_bytes", "Size of the member's database file.", labels);
  const dbInUse = define.gauge("etcd_db_size_in_use_bytes", "Part of the member's database in use.", labels);
  const quota = define.gauge(
    "etcd_quota_bytes",
    "The member's quota for its database; absent: it does not say.",
    labels,
  );
  const headroom = define.gauge(
    "etcd_quota_headroom_bytes",
    "How much the member's database may grow before etcd refuses writes; absent: the quota is not known.",
    labels,
  );
  const quotaFull = define.gauge(
    "etcd_quota_full_timestamp_seconds",
    "When the database will have reached its quota if it goes on as before (median slope of up to eleven days); absent: not known, not growing, or too far ahead to say.",
    labels,
  );
  const alarm = define.gauge("etcd_alarm_active", "1 while the alarm is raised for the member.", [...labels, "alarm"]);
  const info = define.gauge("etcd_server_info", "Always 1; the label says which etcd the member runs.", [
    ...labels,
    "server_version",
  ]);
  const perMember = [up, leader, learner, revision, dbSize, dbInUse, quota, headroom, quotaFull, alarm, info];
  let known: readonly string[] = [];

  function show(member: ObservedMember): void {
    const of = { cluster, member: labelOf(member.member) };
    up.set(of, member.up ? 1 : 0);
    if (!member.up) return;
    leader.set(of, member.leader ? 1 : 0);
    learner.set(of, member.learner ? 1 : 0);
    revision.set(of, Number(member.revision));
    dbSize.set(of, member.dbBytes);
    setOrRemove(dbInUse, of, member.dbInUseBytes);
    setOrRemove(quota, of, member.quotaBytes);
    setOrRemove(headroom, of, member.quotaBytes === undefined ? undefined : member.quotaBytes - member.dbBytes);
    setOrRemove(quotaFull, of, member.quotaFullMs === undefined ? undefined : member.quotaFullMs / 1000);
    const raised = new Set(member.alarms.map((name) => alarms.find((word) => word === name) ?? "UNKNOWN"));
    for (const name of alarms) alarm.set({ ...of, alarm: name }, raised.has(name) ? 1 : 0);
    info.set({ ...of, server_version: labelOf(member.version) }, 1);
  }

  return (event) => {
    if (event.name === "cluster.observed") {
      for (const gauge of perMember) gauge.reset();
      const members = event.members.slice(0, mostMembers);
      for (const member of members) show(member);
      known = members.map((member) => labelOf(member.member));
      observed.set({ cluster }, 1);
      quorum.set({ cluster }, event.quorum ? 1 : 0);
    }
    if (event.name === "cluster.unobserved") {
      // Nobody answered: the members that were there are down, and what they said last is no longer known.
      for (const gauge of perMember) gauge.reset();
      for (const member of known) up.set({ cluster, member }, 0);
      observed.set({ cluster }, 0);
      quorum.remove({ cluster });
    }
  };
}
