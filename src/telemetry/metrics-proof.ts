import { sealedWhys } from "../events.ts";
import type { Emit, ProofEvent } from "../events.ts";
import type { MetricScope } from "./metrics-define.ts";

const verdicts = ["proven", "sealed"] as const;
/** A cached hash takes a millisecond, some gigabytes from a cold disk minutes. */
const scanBuckets = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120];
/** More members than any etcd cluster has. */
const mostMembers = 64;
const longestLabel = 128;

/** Proofs: how many backups are what a majority holds, which member differs, and what asking costs the members. */
export function openProofMetrics({ define, cluster, schedules: configured }: MetricScope): Emit {
  let schedules = configured;
  const perSchedule = ["cluster", "schedule"] as const;
  const proofs = define.counter(
    "proofs_total",
    "Comparisons of a committed backup with the cluster's members, by verdict; one that is only sealed can be compared again.",
    [...perSchedule, "verdict"],
  );
  const sealed = define.counter("proof_sealed_total", "Backups that were only sealed, by the reason.", [
    "cluster",
    "why",
  ]);
  const lastProven = define.gauge(
    "proof_last_proven_timestamp_seconds",
    "When the newest proven backup in the repository was committed, also by other processes and before a restart; absent: never, or not read yet.",
    perSchedule,
  );
  const diverged = define.gauge(
    "proof_member_diverged",
    "1 when the member's data was found twice to be other than the majority's, 0 when it was found equal since; absent: it was not compared.",
    ["cluster", "member"],
  );
  const disagreement = define.gauge(
    "proof_members_disagree",
    "1 when members held different data at the last comparison, 0 when those that answered held the same; absent: none since the start.",
    ["cluster"],
  );
  const scan = define.histogram(
    "proof_hashkv_duration_seconds",
    "How long a member took to hash its data; writers on it waited as long.",
    ["cluster"],
    scanBuckets,
  );
  const scanFailures = define.counter(
    "proof_hashkv_failures_total",
    "Members that were asked to hash their data and did not.",
    ["cluster"],
  );

  zeroCounters();
  for (const why of sealedWhys) sealed.inc({ cluster, why }, 0);
  scan.zero({ cluster });
  scanFailures.inc({ cluster }, 0);
  let known = new Set<string>();
  const provenMs = new Map<string, number>();

  function zeroCounters(): void {
    for (const schedule of [...schedules, ""]) {
      for (const verdict of verdicts) proofs.inc({ cluster, schedule, verdict }, 0);
    }
  }
  function labelsOf(schedule: string | undefined): { cluster: string; schedule: string } {
    if (schedule === undefined) return { cluster, schedule: "" };
    return { cluster, schedule: schedules.includes(schedule) ? schedule : "other" };
  }
  /** A backup that is proven late must not hide a newer one. */
  function showProven(schedule: string | undefined, committedMs: number): void {
    const labels = labelsOf(schedule);
    const newestMs = Math.max(committedMs, provenMs.get(labels.schedule) ?? -Infinity);
    provenMs.set(labels.schedule, newestMs);
    lastProven.set(labels, newestMs / 1000);
  }
  function show(members: readonly string[], value: 0 | 1): void {
    for (const member of members.map(label)) {
      if (!known.has(member) && known.size >= mostMembers) continue;
      known.add(member);
      diverged.set({ cluster, member }, value);
    }
  }
  function judged(event: Extract<ProofEvent, { name: "backup.proven" | "backup.sealed" }>): void {
    const proven = event.name === "backup.proven";
    proofs.inc({ ...labelsOf(event.schedule), verdict: proven ? "proven" : "sealed" });
    if (proven) {
      showProven(event.schedule, event.committedMs);
      show(event.agreeing, 0);
      disagreement.set({ cluster }, event.diverged.length > 0 ? 1 : 0);
      return;
    }
    sealed.inc({ cluster, why: event.why });
    if (event.why === "disagree" || event.why === "source-diverged") disagreement.set({ cluster }, 1);
  }

  return (event) => {
    switch (event.name) {
      case "config.applied":
        for (const schedule of schedules.filter((name) => !event.schedules.includes(name))) {
          lastProven.remove({ cluster, schedule });
          provenMs.delete(schedule);
        }
        schedules = event.schedules;
        zeroCounters();
        break;
      case "schedule.read":
        if (event.lastProvenMs !== undefined) showProven(event.schedule, event.lastProvenMs);
        break;
      case "member.hashed":
        scan.observe({ cluster }, event.durationMs / 1000);
        break;
      case "member.unhashed":
        scanFailures.inc({ cluster });
        break;
      case "member.diverged":
        show([event.member], 1);
        disagreement.set({ cluster }, 1);
        break;
      case "backup.proven":
      case "backup.sealed":
        judged(event);
        break;
      case "cluster.observed": {
        // A member that was replaced under another name must not alarm for ever.
        const listed = new Set(event.members.map(({ member }) => label(member)));
        for (const member of known) if (!listed.has(member)) diverged.remove({ cluster, member });
        known = known.intersection(listed);
        break;
      }
      default: // told elsewhere
    }
  };
}

/** Names are what servers say of themselves. */
function label(text: string): string {
  return text.slice(0, longestLabel);
}
