import { chooseNewTargets, chooseTargets, type Notes, type Refusal, type TargetMember } from "./choose.ts";
import { crossMinor, minorOf as knownMinor } from "../datadir/minors.ts";
import type {
  Describe,
  EtcdHostFacts,
  HostFacts,
  LiveFacts,
  LoginFacts,
  RestoreFacts,
  RestoreRequest,
  ServiceFacts,
  SurvivorFacts,
} from "./facts.ts";

/**
 * What must hold before a restore touches anything. Pure: facts in, refusals and warnings out. A refusal names the thing and what helps; a warning is what
 * an operator should know and may go on with.
 */
export interface Preflight {
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
  /** The cluster that will be; empty when it cannot be told. */
  readonly targets: readonly TargetMember[];
  readonly first: FirstRevision;
  /** Minor of the servers that will be started, such as `3.6`; undefined when it cannot be told. */
  readonly minor: string | undefined;
  readonly lost: string;
  /** Members that survived with more than what is to be restored, the best first; each says how it is taken instead. */
  readonly offers: readonly string[];
}

/** The revision at which the restored cluster starts, and why there: clients must never see a revision go back. */
export interface FirstRevision {
  readonly revision: bigint;
  /** Added to the file's own. */
  readonly bump: bigint;
  readonly why: string;
}

/** Kept above everything that was ever seen (etcd, op-guide/recovery: about a week at 1500 writes a second). */
const leastBump = 1_000_000_000n;
/** More writes a second than etcd takes for long; for the time in which nobody looked, and until the last API server stops. */
const writesPerSecond = 2_000n;
const stopsWithinSeconds = 3_600n;
/** Revisions have 63 bits, and nobody writes so many. */
const highestRevision = 2n ** 62n;
/** etcd preallocates its log. */
const walBytes = 64_000_000;
/** What etcd itself writes before anybody looks again. */
const spareBytes = 32 * 1024 * 1024;

export function judgeRestore(facts: RestoreFacts, request: RestoreRequest, describe: Describe): Preflight {
  const notes = { refusals: [] as Refusal[], warnings: [] as string[] };
  if (facts.lockedOut !== undefined) notes.warnings.push(`${facts.lockedOut}: as long as that is so, nothing begins`);
  const targets = request.asNew ? chooseNewTargets(facts, notes) : chooseTargets(facts, notes);
  judgeSource(facts, request, notes);
  if (request.withoutRepository) notes.warnings.push(...withoutRepository);
  for (const host of facts.hosts) judgeHost(host, facts, request, describe, notes);
  const first = firstRevision(facts, describe);
  if (first.revision > highestRevision) {
    notes.refusals.push({
      message: `the restored cluster would start at revision ${first.revision}, more than etcd can count: ${first.why}`,
      hint: "a revision that was seen cannot be right: find out what wrote it there; until then restore by hand, with a --bump-revision of your own",
    });
  }
  const minor = chooseMinor(facts, request, notes);
  judgeMinor(facts, minor, notes);
  tellContent(facts, notes);
  return {
    ...notes,
    targets,
    first,
    minor,
    lost: request.asNew ? sayReplaced(facts) : sayLost(facts, describe),
    offers: request.asNew ? [] : offerSurvivors(facts, describe),
  };
}

/** What a repository does in a restore, and nobody does in its place. */
const withoutRepository = [
  "no lock is taken, so only this machine knows of the restore: stop every daemon of etcd-lifeboat before it, and keep other operators away until it has ended",
  "what the repository knows of the revisions that were reached is not looked at: the restored cluster starts above what this file, the members and the journals of this machine tell",
  "no backup is taken, neither of what is there now nor at the end: when the store is back, run etcd-lifeboat adopt, then etcd-lifeboat backup",
];

function judgeSource(
  { source, live, login }: RestoreFacts,
  request: RestoreRequest,
  { refusals, warnings }: Notes,
): void {
  if (source.survivor !== undefined) judgeSurvivor(source.survivor, live, { refusals, warnings });
  if (source.unproven !== undefined) {
    if (request.acceptUnproven) warnings.push(`${source.name} is not proven: ${source.unproven}`);
    else {
      refusals.push({
        message: `${source.name} is not proven: ${source.unproven}`,
        hint: "take a proven backup (etcd-lifeboat list shows which are), or accept this one by name: --accept-unproven",
      });
    }
  }
  if (source.passedOver !== undefined) {
    warnings.push(
      `${source.passedOver} is newer and not proven, so it is not taken; to go back to it: --backup ${source.passedOver} --accept-unproven`,
    );
  }
  judgeLogin(login, source.authEnabled, { refusals, warnings });
}

/** What comes back with the data, and needs nobody's decision. */
function tellContent({ source }: RestoreFacts, { warnings }: Notes): void {
  if (source.downgradeTarget !== undefined) {
    warnings.push(
      `the backup was taken during a downgrade to ${source.downgradeTarget}; it is cancelled after the start`,
    );
  }
  for (const { memberId, kind } of source.alarms) {
    warnings.push(`the backup holds an alarm ${kind} of member ${memberId.toString(16)}; it is removed`);
  }
  if (source.leases > 0) warnings.push(`${source.leases} leases come back with their whole time to live`);
}

/** What the database would say to us after the start: the steps from there on need a user with the role root, as a backup does. */
function judgeLogin(
  { username, by, passwordFile, proof }: LoginFacts,
  authEnabled: boolean,
  { refusals, warnings }: Notes,
): void {
  if (!authEnabled || proof === undefined) {
    if (by !== "certificate")
      warnings.push(
        "the backup has authentication off: whoever reaches the restored cluster may read and write, until it is enabled again",
      );
    return;
  }
  const user = `the user ${username ?? ""}`;
  const given = by === "given" ? "--snapshot-username" : by === "password" ? "cluster.auth" : "cluster.tls.cert";
  const { verdict, roots } = proof;
  if (verdict === "accepted") {
    warnings.push(
      by === "given"
        ? `the backup has authentication on, with the users and passwords of its time: ${user} is accepted; cluster.auth must name it afterwards, with what is in ${passwordFile ?? ""}`
        : `the backup has authentication on, with the users and passwords of its time: ${user} of ${given} is accepted; others may be refused afterwards`,
    );
    return;
  }
  if (verdict === "too-costly") {
    warnings.push(
      `the backup has authentication on, and whether it accepts ${user} of ${given} is not known: its hashes are too costly to try here`,
    );
    return;
  }
  const why = {
    "unknown-user": username === undefined ? "nobody is configured" : `it knows no user ${username} of ${given}`,
    "not-root": `${user} of ${given} does not have the role root in it`,
    "no-password": `${user} of ${given} has no password in it`,
    "wrong-password": `${user} of ${given} has another password in it`,
  }[verdict];
  refusals.push({
    message: `the backup has authentication on, with the users and passwords of its time: ${why}`,
    hint: `give a user and password of its time with the role root (there are: ${roots.join(", ") || "none"}): --snapshot-username NAME --snapshot-password-file FILE`,
  });
}

function judgeSurvivor(
  { member, how, tool, index, lastIndex, uncommitted, replayed }: SurvivorFacts,
  live: LiveFacts | undefined,
  { refusals, warnings }: Notes,
): void {
  if (live?.quorum === true) {
    refusals.push({
      message: `the cluster has quorum: what ${member} holds is what a backup holds`,
      hint: "take one: etcd-lifeboat backup",
    });
  }
  warnings.push(`no other member is left to compare ${member} with`);
  if (how === "replayed") {
    warnings.push(
      `${replayed} entries were only in the log of ${member}: ${tool ?? "etcd"} has applied them to a copy, with --force-new-cluster`,
    );
    if (uncommitted > 0n)
      warnings.push(
        `${member} did not know whether the last ${uncommitted} of them were committed: they are kept, since a client may have been told that they are`,
      );
  }
  if (how === "live" && lastIndex > index) {
    warnings.push(
      `the last ${lastIndex - index} entries of the log of ${member} are not in its snapshot, since it does not know whether they were committed: to keep them, stop it and plan again`,
    );
  }
}

/** Without quorum no backup is as new as a member that survived. */
function offerSurvivors({ source, live, hosts }: RestoreFacts, describe: Describe): readonly string[] {
  if (source.kind === "member" || live?.quorum === true) return [];
  const found = hosts.flatMap(({ name, etcd }) => {
    if (etcd === undefined || !etcd.hasMember) return [];
    const { member, service, writtenMs } = etcd;
    const take = `etcd-lifeboat restore --from-member ${member}`;
    const revision = live?.members.find((one) => one.name === member)?.revision;
    if (revision !== undefined) {
      if (revision <= source.revision) return [];
      const more = `${member} is alive at revision ${revision}, ${revision - source.revision} after ${source.name} (${source.revision}): ${take}`;
      return [{ rank: revision, text: more }];
    }
    if (service.running || writtenMs === undefined || source.takenMs === undefined || writtenMs <= source.takenMs)
      return [];
    const later = describe.duration(writtenMs - source.takenMs);
    const text = `${member} is stopped on ${name}, and its database was written until ${describe.time(writtenMs)}, ${later} after ${source.name} was taken: ${take}`;
    return [{ rank: BigInt(Math.floor(writtenMs)) - 2n ** 62n, text }];
  });
  return found.toSorted((a, b) => (a.rank > b.rank ? -1 : 1)).map(({ text }) => text);
}

/**
 * Whether it is to run once etcd is restored. What runs now says too little: where etcd is dead its API servers are, too. So all that is configured is to run, but
 * for what does not run and would not be started by a boot either.
 */
export function isToRun({ running, boots }: ServiceFacts): boolean {
  return running || boots !== "no";
}

function judgeHost(
  host: HostFacts,
  facts: RestoreFacts,
  request: RestoreRequest,
  describe: Describe,
  { refusals, warnings }: Notes,
): void {
  const away = judgeAway(host);
  if (away !== undefined) {
    refusals.push(away);
    return;
  }
  for (const service of host.services) if (service.heldBy === undefined) sayStart(host.name, service, warnings);
  const services: readonly ServiceFacts[] =
    host.etcd === undefined ? host.services : [...host.services, host.etcd.service];
  for (const service of services) {
    if (service.heldBy !== undefined) {
      refusals.push({
        message: `${service.name} on ${host.name} is held by the operation ${service.heldBy}`,
        hint: `finish that one first: etcd-lifeboat restore --resume, or restore --rollback`,
      });
    }
    if (service.canHold || request.acceptRebootRisk) {
      if (!service.canHold) warnings.push(`a reboot of ${host.name} during the restore would start ${service.name}`);
      continue;
    }
    refusals.push({
      message: `a reboot of ${host.name} during the restore would start ${service.name}: its commands say nothing of disable and enable`,
      hint: `give hosts.${host.name}'s ${service.name} disable and enable commands, or accept the risk: --accept-reboot-risk`,
    });
  }
  if (host.etcd !== undefined) sayEnabled(`etcd on ${host.name}`, host.etcd.service, warnings);
  for (const name of host.etcd?.unresolved ?? []) {
    refusals.push({
      message: `${host.name} cannot find the address of ${name}, at which a member is reached by the others`,
      hint: "mend the name service, or name it in /etc/hosts: members that do not find each other never agree on a leader",
    });
  }
  for (const what of host.etcd?.stopped?.broken ?? [])
    warnings.push(`${host.etcd?.member ?? ""} does not run on ${host.name}, and ${what}`);
  if (host.etcd !== undefined) judgeDirectories(host.name, host.etcd, facts, describe, { refusals, warnings });
}

/** A host of which nothing can be told: it does not answer, or what it answers can be read in two ways. */
export function judgeAway({ name, fault, remedy }: HostFacts): Refusal | undefined {
  if (fault === undefined) return undefined;
  if (remedy !== undefined) return { message: `what runs on ${name} cannot be told: ${fault}`, hint: remedy };
  return {
    message: `host ${name} cannot be reached: ${fault}`,
    hint: "an operation needs every host that it touches: bring it back, or take it out of hosts and remove its member",
  };
}

function sayStart(host: string, service: ServiceFacts, warnings: string[]): void {
  const what = `${service.name} on ${host}`;
  if (!isToRun(service)) {
    warnings.push(`${what} does not run and is disabled: it is not started afterwards; enable it first if it shall be`);
    return;
  }
  if (!service.running) {
    const why =
      service.boots === "yes" ? "a boot would start it" : "it is configured and nothing says that it is disabled";
    warnings.push(`${what} does not run now, and is started afterwards: ${why}`);
  }
  sayEnabled(what, service, warnings);
  if (service.role === "api-server" && !service.tellsReady)
    warnings.push(`whether ${what} is ready cannot be seen: give it a ready or read URL under hosts.${host}.services`);
}

/** What is held is disabled, and must be enabled again where nobody can tell how it was. */
function sayEnabled(what: string, { releaseEnables }: ServiceFacts, warnings: string[]): void {
  if (releaseEnables === true)
    warnings.push(`${what} is enabled afterwards, since nothing tells whether it is now: give its commands an enabled`);
}

function judgeDirectories(
  host: string,
  etcd: EtcdHostFacts,
  facts: RestoreFacts,
  describe: Describe,
  { refusals, warnings }: Notes,
): void {
  const { dataDirectory, walDirectory } = etcd;
  refusals.push(...judgePlaces(host, etcd));
  const link = etcd.links.find(({ path }) => path === dataDirectory);
  if (link !== undefined) return;
  if (etcd.owner === undefined) {
    refusals.push({
      message: `${dataDirectory} does not exist on ${host}: nobody knows whose it must be`,
      hint: `create it with etcd's owner and mode 0700, or correct hosts.${host}.etcd.dataDirectory`,
    });
    return;
  }
  if (walDirectory === undefined && etcd.hasMember && !etcd.hasWal) {
    // The log of the old cluster would be replayed over the restored data, and every member would look healthy.
    refusals.push({
      message: `${dataDirectory}/member of ${host} has no wal directory: this member keeps its log somewhere else`,
      hint: `set hosts.${host}.etcd.walDirectory to etcd's --wal-dir (ETCD_WAL_DIR)`,
    });
  }
  if (walDirectory !== undefined && etcd.hasMember && !etcd.hasWal) {
    refusals.push({
      message: `${walDirectory} of ${host} holds no log of etcd, and a member is there: this member keeps its log somewhere else`,
      hint: `set hosts.${host}.etcd.walDirectory to etcd's --wal-dir (ETCD_WAL_DIR), or leave it out where etcd has none; where the log is lost, move ${dataDirectory}/member away`,
    });
  }
  if (etcd.hasMember && etcd.servesElsewhere) {
    refusals.push({
      message: `etcd runs on ${host} and does not have ${dataDirectory}/member/snap/db open: it works in another directory`,
      hint: `set hosts.${host}.etcd.dataDirectory to etcd's --data-dir (ETCD_DATA_DIR); where the file was replaced under it, stop it and plan again`,
    });
  }
  if (etcd.memberIsMountPoint) {
    refusals.push({
      message: `${dataDirectory}/member of ${host} is a file system of its own, and cannot be renamed`,
      hint: "mount it at the data directory instead of at member, then plan again",
    });
  }
  if (!etcd.hasMember) warnings.push(`${dataDirectory} of ${host} holds no member: there is nothing to move aside`);
  const { dbBytes } = facts.source;
  const dataBytes = dbBytes + (walDirectory === undefined || etcd.sameDisk ? walBytes : 0) + spareBytes;
  const room = { freeBytes: etcd.freeBytes, needBytes: dataBytes, buildBytes: etcd.builtOnDisk ? dbBytes : 0 };
  tellRoom(`${dataDirectory} on ${host}`, room, describe, refusals);
  if (walDirectory === undefined || etcd.sameDisk) return;
  const walRoom = { freeBytes: etcd.walFreeBytes, needBytes: walBytes, buildBytes: etcd.builtOnWalDisk ? dbBytes : 0 };
  tellRoom(`${walDirectory} on ${host}`, walRoom, describe, refusals);
}

/** What would make a rename of `member` move something else than the member's data, or less than all of it. */
export function judgePlaces(host: string, etcd: EtcdHostFacts): readonly Refusal[] {
  const { dataDirectory, walDirectory, mountsInside, links } = etcd;
  const found: Refusal[] = [...judgeSettings(host, etcd)];
  for (const { path, target } of links) {
    found.push({
      message: `${path} of ${host} is a symbolic link to ${target}`,
      hint:
        path === dataDirectory
          ? `set hosts.${host}.etcd.dataDirectory to where it leads`
          : "the new data would lie on another disk: put a directory in its place, or give etcd a --wal-dir and set walDirectory",
    });
  }
  for (const path of mountsInside) {
    found.push({
      message: `${path} of ${host} is a file system of its own: it would go aside with the old data, and come back over the new at the next reboot`,
      hint: `mount it outside of ${dataDirectory} and give it to etcd as --wal-dir, with walDirectory set; then plan again`,
    });
  }
  if (walDirectory?.startsWith(`${dataDirectory}/member/`) === true) {
    found.push({
      message: `the walDirectory ${walDirectory} of ${host} is inside of ${dataDirectory}/member, which is moved as a whole`,
      hint: `leave hosts.${host}.etcd.walDirectory out where etcd has no --wal-dir, or give the log a directory outside of member`,
    });
  }
  return found;
}

interface Room {
  readonly freeBytes: number | undefined;
  readonly needBytes: number;
  /** Of what is built on the same disk before. */
  readonly buildBytes: number;
}

/**
 * Whether etcd is started where the data will be put. The directory of a static pod is the volume's hostPath, whatever --data-dir says; where nothing runs, its manifest
 * alone tells.
 */
function judgeSettings(host: string, { member, walDirectory, settings }: EtcdHostFacts): readonly Refusal[] {
  if (settings === undefined) return [];
  const { from, name, data, wal, forceNewCluster } = settings;
  const found: Refusal[] = [];
  if (name !== undefined && name !== member) {
    found.push({
      message: `${from} of ${host} starts etcd as ${name}, and the configuration says that ${host} runs ${member}`,
      hint: `correct hosts.${host}.etcd.member, or the host's manifests directory`,
    });
  }
  for (const [place, what, key] of [
    [data, "data", "dataDirectory"],
    ...(wal === undefined ? [] : [[wal, "log", "walDirectory"] as const]),
  ] as const) {
    if (place.isConfigured) continue;
    found.push(
      place.onHost === undefined
        ? {
            message: `${from} of ${host} keeps etcd's ${what} in ${place.inside} of its container, on no hostPath: it is gone whenever the pod is`,
            hint: `mount a hostPath volume at ${place.inside}; then plan again`,
          }
        : {
            message: `${from} of ${host} keeps etcd's ${what} in ${place.onHost}, and not where the configuration says`,
            hint: `set hosts.${host}.etcd.${key} to ${place.onHost}: the volume's hostPath counts, not what etcd calls it`,
          },
    );
  }
  if (wal === undefined && walDirectory !== undefined) {
    found.push({
      message: `${from} of ${host} gives etcd no --wal-dir, and the configuration says that its log is in ${walDirectory}`,
      hint: `leave hosts.${host}.etcd.walDirectory out`,
    });
  }
  if (forceNewCluster) {
    found.push({
      message: `${from} of ${host} starts etcd with --force-new-cluster: each time it would throw the other members out`,
      hint: "take the flag out, as after any use of it; then plan again",
    });
  }
  return found;
}

function tellRoom(
  where: string,
  { freeBytes, needBytes, buildBytes }: Room,
  describe: Describe,
  refusals: Refusal[],
): void {
  const allBytes = needBytes + buildBytes;
  if (freeBytes === undefined || freeBytes >= allBytes) return;
  const twice = buildBytes === 0 ? "" : ", twice for a while, since it is built on the same disk";
  const elsewhere = buildBytes === 0 ? "" : ", or set operations.directory to another disk";
  refusals.push({
    message: `${where} has ${describe.bytes(freeBytes)} free, and the new data needs ${describe.bytes(allBytes)} beside the old${twice}`,
    hint: `make room there${elsewhere}; what earlier restores moved aside may be in the way: etcd-lifeboat cleanup --plan`,
  });
}

/** What members that do not run have in their files: nobody else may know of it. */
function seenOnHosts(hosts: readonly HostFacts[]): readonly { revision: bigint; seenMs: number; what: string }[] {
  return hosts.flatMap(({ name, etcd }) => {
    const { revision, logEntries = 0n, writtenMs = 0 } = etcd?.stopped ?? {};
    if (etcd === undefined || revision === undefined) return [];
    const log = logEntries > 0n ? ` and at most ${logEntries} more in its log` : "";
    const what = `the stopped member ${etcd.member} on ${name} (${revision} in its database${log})`;
    return [{ revision: revision + logEntries, seenMs: writtenMs, what }];
  });
}

/** Above everything that was ever seen, with room for what nobody saw. */
function firstRevision({ source, live, highWater, hosts, nowMs }: RestoreFacts, describe: Describe): FirstRevision {
  const seen = [
    { revision: source.revision, seenMs: source.takenMs ?? nowMs, what: source.name },
    ...highWater.map((one) => ({ ...one, what: one.backup })),
    ...(live === undefined ? [] : [{ revision: live.highestRevision, seenMs: nowMs, what: "the running cluster" }]),
    ...seenOnHosts(hosts),
  ];
  const [start] = seen;
  if (start === undefined) throw new Error("there is always a source");
  const reached = (one: (typeof seen)[number]): bigint => {
    const seconds = BigInt(Math.max(0, Math.ceil((nowMs - one.seenMs) / 1000))) + stopsWithinSeconds;
    return one.revision + (seconds * writesPerSecond > leastBump ? seconds * writesPerSecond : leastBump);
  };
  const top = seen.reduce((best, one) => (reached(one) > reached(best) ? one : best), start);
  const revision = reached(top);
  return {
    revision,
    bump: revision - source.revision,
    why: `above revision ${top.revision} of ${top.what}, seen ${describe.time(top.seenMs)}`,
  };
}

/** What will be started is what runs now; where nothing answers, what made the backup. */
function chooseMinor(
  { live, source }: RestoreFacts,
  request: RestoreRequest,
  { refusals, warnings }: Notes,
): string | undefined {
  const versions = new Set(
    (live?.members ?? []).flatMap(({ version }) => (version === undefined ? [] : [minorOf(version)])),
  );
  const [running, other] = [...versions].toSorted();
  if (running !== undefined && other !== undefined) {
    refusals.push({
      message: `the running members are of different minors: ${[...versions].toSorted().join(", ")}`,
      hint: "finish the upgrade, or stop it: a restore starts every member with the minor that is installed",
    });
    return undefined;
  }
  const made = minorOf(source.serverVersion ?? source.storageVersion ?? source.clusterVersion ?? "");
  if (request.minor !== undefined && running === undefined) return request.minor;
  if (running === undefined && made === "") {
    refusals.push({
      message: `nobody says which minor of etcd is installed: no member answers, and ${source.name} does not tell what made it`,
      hint: "name it: --etcd-minor 3.6",
    });
    return undefined;
  }
  if (running === undefined)
    warnings.push(`no member answers: etcd ${made}, which made the backup, is taken to be installed`);
  else if (made !== "" && made !== running) warnings.push(`etcd ${running} runs now, and etcd ${made} made the backup`);
  return running ?? made;
}

/** Whether what is installed can start what was backed up. */
function judgeMinor({ source }: RestoreFacts, minor: string | undefined, { refusals, warnings }: Notes): void {
  if (minor === undefined) return;
  const known = knownMinor(minor);
  if (known === undefined) {
    refusals.push({
      message: `etcd ${minor} is not known to this program`,
      hint: "use a version of it that knows that minor",
    });
    return;
  }
  const crossing = crossMinor(source, known);
  if (crossing.kind === "refused")
    refusals.push({ message: crossing.reason, hint: "install that etcd on every host first" });
  else if (crossing.kind === "newer")
    warnings.push(`etcd ${minor} raises the data of etcd ${crossing.from} as it starts`);
}

function minorOf(version: string): string {
  return /^(\d+\.\d+)\b/.exec(version)?.[1] ?? "";
}

/** A new cluster forgets nothing of the original. */
function sayReplaced({ live, cluster }: RestoreFacts): string {
  const untouched = "the cluster that the backup is of is not touched";
  if (live === undefined) return `nothing that answers: ${untouched}`;
  return `all that ${cluster} itself holds now, at revision ${live.highestRevision}; ${untouched}`;
}

/** What the cluster forgets: the distance between the backup and now. */
function sayLost({ source, live, nowMs }: RestoreFacts, describe: Describe): string {
  if (source.survivor !== undefined) {
    const { member, index, lastIndex } = source.survivor;
    const rest = lastIndex > index ? `, and the ${lastIndex - index} entries after it` : "";
    return `only what never reached ${member}, which is at revision ${source.revision}, entry ${index} of its log${rest}`;
  }
  const age = source.takenMs === undefined ? "of an unknown time" : `${describe.duration(nowMs - source.takenMs)} old`;
  if (live === undefined) return `everything written since the backup, which is ${age}`;
  const revisions = live.highestRevision - source.revision;
  if (revisions <= 0n)
    return `nothing that is known of: the backup, ${age}, is at revision ${source.revision} as the cluster is`;
  return `${revisions} revisions: the cluster is at ${live.highestRevision}, the backup, ${age}, at ${source.revision}`;
}
