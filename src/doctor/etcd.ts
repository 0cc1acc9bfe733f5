import { observeCluster, type ClusterFacts, type MemberFacts, type ObserveOptions } from "../cluster/observe.ts";
import { chooseSources } from "../cluster/choose.ts";
import { quantileBetween } from "../cluster/quantile.ts";
import { judgeTolerance } from "../cluster/tolerance.ts";
import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import type { DiskHistogram, Etcd, MemberAddress, MemberConnection } from "../etcd/etcd.ts";
import { abortFault, Fault, isFault } from "../faults.ts";
import { judgeCertificate } from "./certificates.ts";
import { examined, report, type Finding } from "./finding.ts";
import { faultsOf } from "./patches.ts";

export interface EtcdExamination {
  readonly etcd: Etcd;
  readonly observe: ObserveOptions;
  readonly clock: Clock;
}

/** For each call to a member. */
const callMs = 10_000;
const help = "look at the member: its log, and etcdctl endpoint status";

/** Examines the cluster without writing to it. The facts are undefined where no member gives a list. */
export async function examineEtcd(
  deps: EtcdExamination,
  signal: AbortSignal,
): Promise<{ readonly findings: readonly Finding[]; readonly facts: ClusterFacts | undefined }> {
  const own = await examineOwnCertificates(deps, signal);
  let facts: ClusterFacts;
  try {
    facts = await observeCluster(deps.etcd, deps.observe, signal);
  } catch (error) {
    if (!isFault(error) || signal.aborted) throw error;
    const [url] = deps.observe.endpoints;
    // Who may not look at the cluster may still make some calls, and learns which.
    const rights =
      url === undefined || error.code !== "etcd-auth"
        ? []
        : await tryCalls(deps.etcd, { name: url, url }, true, signal);
    return {
      findings: [report("etcd", "members").fault(error, "etcd-lifeboat config check"), ...rights, ...own],
      facts: undefined,
    };
  }
  const members = await Promise.all(facts.members.map((member) => examineMember(deps, member, signal)));
  return {
    facts,
    findings: [
      ...examineMembership(facts),
      ...(await examineRights(deps, facts, signal)),
      ...own,
      ...members.flat(),
      ...examineAlarms(facts),
      examineV2(facts),
    ],
  };
}

async function examineOwnCertificates(
  { etcd, clock }: EtcdExamination,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  return await examined(
    async () => {
      const { client, ca } = await etcd.certificates();
      const renew = (key: string): string =>
        `renew it and replace cluster.tls.${key}; kubeadm certs renew all where kubeadm made it`;
      return [
        ...(client === undefined
          ? []
          : [{ certificate: client, what: "the client certificate", renew: renew("cert") }]),
        ...ca.map((certificate) => ({ certificate, what: "the CA certificate", renew: renew("ca") })),
      ].map(({ certificate, ...of }) => judgeCertificate(certificate, { ...of, needsNames: false }, clock.now()));
    },
    (fault) => report("etcd", "certificate").fault(fault, "etcd-lifeboat config check"),
    signal,
  );
}

function examineMembership(facts: ClusterFacts): readonly Finding[] {
  const { ok, note, warning, problem, fault } = report("etcd", "members");
  const found: Finding[] = [];
  const tolerance = judgeTolerance(facts.members.map(({ name, learner, seen }) => ({ name, learner, up: seen.up })));
  const { votersUp, voters, needed, tolerates, advice } = tolerance;
  const survives = tolerates === 0 ? "no further failure is survived" : `${tolerates} more may fail`;
  const counted = `${votersUp} of ${voters} voters answer, ${needed} are a majority: ${survives}`;
  if (facts.quorum) found.push(ok(counted));
  else found.push(problem("etcd-unreachable", `no quorum: ${counted}`, "start the members that are down"));
  if (advice !== undefined) found.push(note(advice));
  for (const member of facts.members) {
    const { name, started, seen } = member;
    const mismatch = facts.findings.filter(({ about, member: of }) => about === "member-mismatch" && of === name);
    for (const { message } of mismatch) {
      const right = `correct its --advertise-client-urls, or set cluster.members.${name}.url`;
      found.push(problem("member-mismatch", message, right));
    }
    if (!started) {
      found.push(warning(`${name} was added and has never started`, "start it, or: etcdctl member remove"));
    } else if (!seen.up && mismatch.length === 0) found.push(fault(seen.fault, help, `${name}: `));
  }
  const minors = new Set(
    facts.members.flatMap(({ seen }) => (seen.up ? [seen.status.version.split(".").slice(0, 2).join(".")] : [])),
  );
  if (minors.size > 1) {
    const both = [...minors].toSorted().join(" and ");
    found.push(warning(`members are of different minors: ${both}`, "finish the upgrade: one minor for all members"));
  }
  return found;
}

/** Nobody has written this revision, and nobody will: a member refuses it after it has looked at the caller's rights, and hashes nothing. */
const unwritten = 2n ** 62n;

/** The calls that backups need, each made with the configured credentials on the member of the next backup, and none of them changing or costing anything. */
async function examineRights(
  { etcd }: EtcdExamination,
  facts: ClusterFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const source = chooseSources(facts).candidates.find(({ member }) => !member.learner)?.member;
  if (source?.seen.up !== true)
    return [report("etcd", "rights").unknown("no voter answers, so no call could be tried")];
  return await tryCalls(etcd, source.seen.address, facts.quorum, signal);
}

async function tryCalls(
  etcd: Etcd,
  address: MemberAddress,
  quorum: boolean,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { ok, fault } = report("etcd", "rights");
  await using connection = etcd.connect(address);
  const refused = "etcdctl user grant-role USER root; the role root is what Maintenance calls need";
  const found: Finding[] = [];
  const allowed: string[] = [];
  for (const { name, call } of calls) {
    // Without a quorum these two only run into their timeouts.
    if (!quorum && (name === "Range" || name === "Alarm")) continue;
    try {
      using deadline = withDeadline(signal, callMs, `${address.name} did not answer ${name}`);
      await call(connection, deadline.signal);
      allowed.push(name);
    } catch (error) {
      if (signal.aborted) throw abortFault(signal);
      if (!isFault(error)) throw error;
      found.push(fault(error, refused, `${name}: `));
    }
  }
  if (allowed.length > 0) found.unshift(ok(`the configured user may make these calls: ${allowed.join(", ")}`));
  return found;
}

const calls: readonly {
  readonly name: string;
  readonly call: (connection: MemberConnection, signal: AbortSignal) => Promise<void>;
}[] = [
  { name: "MemberList", call: async (connection, signal) => void (await connection.members(signal)) },
  { name: "Status", call: async (connection, signal) => void (await connection.status(signal)) },
  { name: "Range", call: async (connection, signal) => void (await connection.linearizableRead(signal)) },
  { name: "Alarm", call: async (connection, signal) => void (await connection.alarms(signal)) },
  {
    name: "HashKV",
    async call(connection, signal) {
      try {
        await connection.hashKv(unwritten, signal);
      } catch (error) {
        // What was refused is the revision, not the caller.
        if (!isFault(error, "etcd-refused", "etcd-compacted") || !/future revision/i.test(error.message)) throw error;
      }
    },
  },
  {
    name: "Snapshot",
    async call(connection, signal) {
      // The first bytes are enough; leaving the loop cancels the stream.
      for await (const _ of connection.snapshot(signal)) return;
      throw new Fault("snapshot-broken", "the stream ended before it began");
    },
  },
];

async function examineMember(
  { etcd, clock }: EtcdExamination,
  member: MemberFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  const url = member.seen.up ? member.seen.address.url : member.clientUrls.find((each) => each.startsWith("https:"));
  if (url !== undefined) {
    const address = member.seen.up ? member.seen.address : { name: member.name, url };
    await using connection = etcd.connect(address);
    const certificate = await asked(signal, (deadline) => connection.serverCertificate(deadline));
    if (certificate !== undefined) {
      const of = {
        what: `the server certificate of ${member.name}`,
        needsNames: true,
        renew:
          "renew it on the member's host and restart etcd there; kubeadm certs renew etcd-server where kubeadm made it",
      };
      found.push(judgeCertificate(certificate, of, clock.now()));
    }
    if (member.seen.up) {
      const metrics = await asked(signal, (deadline) => connection.serverMetrics(deadline));
      found.push(examineVersion(member.name, member.seen.status.version));
      found.push(examineQuota(member.name, member.seen.status, metrics?.quotaBytes));
      found.push(examineDisk(member.name, metrics?.walFsync, metrics?.backendCommit));
    }
  }
  return found;
}

/** Undefined where it cannot be had: what does not answer is told elsewhere. */
async function asked<T>(signal: AbortSignal, ask: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
  try {
    using deadline = withDeadline(signal, callMs, "no answer");
    return await ask(deadline.signal);
  } catch (error) {
    if (signal.aborted) throw abortFault(signal);
    if (!isFault(error)) throw error;
    return undefined;
  }
}

function examineVersion(name: string, version: string): Finding {
  const { ok, unknown, warning } = report("etcd", "version");
  const faults = faultsOf(version);
  if (faults === undefined) return unknown(`${name} says that it is ${version}`);
  const [worst] = faults.known;
  const to = faults.mended ?? "a minor that still gets patches, one after the other";
  if (worst === undefined && faults.mended === undefined) {
    return warning(`${name} runs ${version}, a minor that gets no patches any more`, `upgrade to ${to}`);
  }
  if (worst === undefined) return ok(`${name} runs ${version}: no fault is known that matters here`);
  const others = faults.known.length === 1 ? "" : `, and ${faults.known.length - 1} more`;
  return warning(
    `${name} runs ${version}, which has known faults: ${worst.what}${others}`,
    `upgrade to ${to} or later`,
  );
}

/** Beyond this share somebody should act. */
const near = 0.8;

function examineQuota(
  name: string,
  status: {
    readonly dbBytes: number;
    readonly dbInUseBytes: number | undefined;
    readonly quotaBytes: number | undefined;
  },
  metricBytes: number | undefined,
): Finding {
  const { ok, note, unknown, warning } = report("etcd", "quota");
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  const quotaBytes = status.quotaBytes ?? metricBytes;
  const { dbBytes, dbInUseBytes } = status;
  if (quotaBytes === undefined || quotaBytes <= 0) {
    return unknown(
      `${name} has ${mib(dbBytes)}, and tells no quota`,
      "its metrics tell it: set cluster.members.NAME.metricsUrl where they are served elsewhere",
    );
  }
  const share = `${name} uses ${mib(dbBytes)} of ${mib(quotaBytes)}`;
  const wasted = dbInUseBytes !== undefined && dbBytes > 100 * 2 ** 20 && dbInUseBytes < dbBytes / 2;
  const defragment = "etcdctl defrag, one member after the other";
  if (dbBytes > near * quotaBytes) {
    return warning(share, wasted ? defragment : "find what grows and compact, or raise --quota-backend-bytes");
  }
  if (wasted) return note(`${share}, of which ${mib(dbInUseBytes)} are in use`, defragment);
  return ok(share);
}

/** etcd's own measure of a disk that is fast enough (its FAQ), in seconds. */
const fastFsync = 0.01;
const fastCommit = 0.025;

function examineDisk(name: string, fsync: DiskHistogram | undefined, commit: DiskHistogram | undefined): Finding {
  const { ok, unknown, warning } = report("etcd", "disk");
  const sinceStart = (seen: DiskHistogram | undefined): number | undefined => {
    if (seen === undefined) return undefined;
    const empty = { count: 0, seconds: 0, buckets: seen.buckets.map(({ le }) => ({ le, count: 0 })) };
    return quantileBetween(empty, seen, 0.99);
  };
  const [walSeconds, commitSeconds] = [sinceStart(fsync), sinceStart(commit)];
  if (walSeconds === undefined) {
    return unknown(
      `${name}: how fast its disk is cannot be read from its metrics`,
      "set cluster.members.NAME.metricsUrl where they are served elsewhere, as kubeadm does: http://127.0.0.1:2381",
    );
  }
  const ms = (seconds: number | undefined): string => (seconds === undefined ? "?" : (seconds * 1000).toFixed(1));
  const says = `${name}: p99 since it started: fsync of the WAL ${ms(walSeconds)} ms, commit ${ms(commitSeconds)} ms`;
  if (walSeconds > fastFsync || (commitSeconds ?? 0) > fastCommit) {
    return warning(
      `${says}; 10 and 25 ms are what etcd needs`,
      "give etcd a disk of its own, SSD or better, and look at what else writes there: iostat -x 5",
    );
  }
  return ok(says);
}

function examineAlarms({ alarms, members }: ClusterFacts): readonly Finding[] {
  const { ok, unknown, problem, warning } = report("etcd", "alarms");
  if (alarms === undefined) return [unknown("no member could tell")];
  if (alarms.length === 0) return [ok("none")];
  return alarms.map(({ kind, memberId }) => {
    const name = members.find(({ id }) => id === memberId)?.name ?? "the cluster";
    if (kind === "NOSPACE") {
      const says = `NOSPACE of ${name}: the cluster takes no writes`;
      return problem("etcd-refused", says, "compact, defragment each member, then: etcdctl alarm disarm");
    }
    if (kind === "CORRUPT") {
      const replace = "find the member whose data differs (etcd-lifeboat status), and replace it";
      return problem("etcd-refused", `CORRUPT of ${name}: its data is not the others'`, replace);
    }
    return warning(`an alarm of ${name} that this version does not know`, "etcdctl alarm list");
  });
}

function examineV2({ v2 }: ClusterFacts): Finding {
  const { ok, unknown, warning } = report("etcd", "v2");
  if (v2.state === "no") return ok(`no content of the v2 API: ${v2.why}`);
  if (v2.state === "unknown") {
    return unknown(
      `content of the v2 API: not known: ${v2.why}`,
      "on a stopped member, or a copy of its data: etcdutl check v2store --data-dir DIR",
    );
  }
  return warning(
    `content of the v2 API, which is in no backup: ${v2.why}`,
    "migrate it to v3, or back it up by itself",
  );
}
