import type { ListedMember, RestoreFacts } from "./facts.ts";

/** Who will be a member of the restored cluster. Pure: facts in, members and refusals out. */

export interface Refusal {
  readonly message: string;
  readonly hint: string;
}

/** A member of the restored cluster and where it lives. */
export interface TargetMember {
  readonly host: string;
  readonly name: string;
  readonly peerUrls: readonly string[];
}

export interface Notes {
  readonly refusals: Refusal[];
  readonly warnings: string[];
}

/** The members are those of the hosts that carry one; the cluster and the backup must know the same ones. */
export function chooseTargets(facts: RestoreFacts, { refusals, warnings }: Notes): readonly TargetMember[] {
  const carriers = facts.hosts.flatMap((host) =>
    host.etcd === undefined ? [] : [{ host: host.name, member: host.etcd.member, configured: host.etcd.peerUrls }],
  );
  // Of a host that could not be looked at nobody knows here which member it carries; that it could not is a refusal of its own.
  const isUnseen = facts.hosts.some(({ fault }) => fault !== undefined);
  if (carriers.length === 0) {
    if (isUnseen) return [];
    refusals.push({
      message: "no host of the configuration carries an etcd member",
      hint: "describe each host under hosts.NAME.etcd",
    });
    return [];
  }
  const known = facts.live?.members ?? facts.source.members;
  const from = facts.live === undefined ? "the backup" : "the running cluster";
  const names = new Set(carriers.map(({ member }) => member));
  for (const { name, peerUrls } of known) {
    if (name === "") {
      warnings.push(
        `${from} has a member at ${peerUrls.join(", ")} that was added and has never started: it is restored only if a host of the configuration carries it`,
      );
    }
    if (name === "" || names.has(name) || isUnseen) continue;
    refusals.push({
      message: `${from} has a member "${name}", and no host of the configuration carries it`,
      hint:
        facts.live === undefined
          ? `describe its host under hosts.NAME.etcd with member: ${name}; another machine can take its place, with its own peerUrls there`
          : `describe its host under hosts.NAME.etcd with member: ${name}, or remove the member from the cluster first`,
    });
  }
  const targets: TargetMember[] = [];
  for (const { host, member, configured } of carriers) {
    const found = known.find(({ name }) => name === member) ?? facts.source.members.find(({ name }) => name === member);
    if (found === undefined) {
      refusals.push({
        message: `host ${host} carries a member "${member}", which neither the running cluster nor the backup knows`,
        hint: `correct hosts.${host}.etcd.member; known are: ${namesOf([...known, ...facts.source.members])}`,
      });
      continue;
    }
    if (found.learner) warnings.push(`${member} was a learner; it is restored as a voter`);
    const peerUrls = facts.live === undefined ? (configured ?? found.peerUrls) : found.peerUrls;
    if (isMoved(peerUrls, found)) {
      warnings.push(
        `${member} had the peer URLs ${found.peerUrls.join(", ")} in the backup; it gets ${peerUrls.join(", ")}, as hosts.${host}.etcd.peerUrls says`,
      );
    }
    targets.push({ host, name: member, peerUrls });
  }
  if (facts.live === undefined) refuseUnseen(facts, targets, refusals);
  if (facts.live !== undefined && isStrange(facts.live.members, facts.source.members)) {
    refusals.push({
      message: `${facts.source.name} is of another cluster: its members were ${namesOf(facts.source.members)}, and this one's are ${namesOf(facts.live.members)}`,
      hint: "take one of this cluster (etcd-lifeboat list); another cluster's is brought here by --as-new alone",
    });
  } else if (facts.live !== undefined) tellDifferences(facts.live.members, facts.source.members, warnings);
  return targets;
}

/** Whether a member is somewhere else than when the backup was taken. */
export function isMoved(peerUrls: readonly string[], then: ListedMember | undefined): boolean {
  return then?.peerUrls.toSorted().join() !== peerUrls.toSorted().join();
}

/** Where members are somewhere else, the client URLs of the backup lead nowhere, or to somebody else. */
function refuseUnseen(
  { source, endpoints }: RestoreFacts,
  targets: readonly TargetMember[],
  refusals: Refusal[],
): void {
  const moved = targets.filter((target) =>
    isMoved(
      target.peerUrls,
      source.members.find(({ name }) => name === target.name),
    ),
  );
  if (moved.length === 0 || endpoints.length >= targets.length) return;
  refusals.push({
    message: `${namesOf(moved)} moved, and the configuration names ${endpoints.length} endpoints for ${targets.length} members: not each of them could be looked at`,
    hint: "name the client URL of every member in cluster.endpoints",
  });
}

/** Neither a name nor a peer URL in common: clusters that grew out of one another keep some. */
function isStrange(live: readonly ListedMember[], then: readonly ListedMember[]): boolean {
  if (then.length === 0) return false;
  const known = new Set(live.flatMap(({ name, peerUrls }) => [name, ...peerUrls]));
  return !then.some(({ name, peerUrls }) => [name, ...peerUrls].some((word) => known.has(word)));
}

function namesOf(members: readonly { readonly name: string }[]): string {
  return [...new Set(members.map(({ name }) => name))].toSorted().join(", ") || "none";
}

function tellDifferences(live: readonly ListedMember[], then: readonly ListedMember[], warnings: string[]): void {
  if (then.length === 0) return;
  for (const { name } of live) {
    if (name !== "" && !then.some((member) => member.name === name))
      warnings.push(`${name} joined after the backup was taken`);
  }
  for (const member of then) {
    const now = live.find(({ name }) => name === member.name);
    if (now === undefined)
      warnings.push(`${member.name} was a member when the backup was taken, and is none now: it is not restored`);
    else if (now.peerUrls.toSorted().join() !== member.peerUrls.toSorted().join()) {
      warnings.push(
        `${member.name} had the peer URLs ${member.peerUrls.join(", ")} in the backup; it keeps ${now.peerUrls.join(", ")}`,
      );
    }
  }
}

/**
 * The members of another cluster than the one that the backup is of. Its addresses are its own, as it runs or as its hosts are described, and none of them may be the original's:
 * what reaches an original member could stop it, or be taken for it.
 */
export function chooseNewTargets(facts: RestoreFacts, { refusals }: Notes): readonly TargetMember[] {
  const { live, source, hosts, endpoints } = facts;
  const carriers = hosts.flatMap(({ name, etcd }) => (etcd === undefined ? [] : [{ host: name, etcd }]));
  if (carriers.length === 0) {
    refusals.push({
      message: "no host of the configuration carries an etcd member",
      hint: "describe each host of the new cluster under hosts.NAME.etcd",
    });
  }
  for (const { name } of live?.members ?? []) {
    if (name === "" || carriers.some(({ etcd }) => etcd.member === name)) continue;
    refusals.push({
      message: `${facts.cluster} runs with a member "${name}", and no host of the configuration carries it`,
      hint: `describe its host under hosts.NAME.etcd with member: ${name}, or stop that cluster`,
    });
  }
  if (live !== undefined && live.clusterId === source.clusterId) {
    refusals.push({
      message: "what answers at cluster.endpoints is the very cluster that the backup is of",
      hint: "name the endpoints of the new cluster; to bring the original back, restore without --as-new",
    });
  }
  const targets = carriers.flatMap(({ host, etcd }): readonly TargetMember[] => {
    const peerUrls = live?.members.find(({ name }) => name === etcd.member)?.peerUrls ?? etcd.peerUrls;
    if (peerUrls !== undefined && peerUrls.length > 0) return [{ host, name: etcd.member, peerUrls }];
    refusals.push({
      message: `nothing tells the peer URLs of ${etcd.member} in the new cluster`,
      hint: `set hosts.${host}.etcd.peerUrls as its --initial-advertise-peer-urls has them`,
    });
    return [];
  });
  if (live === undefined && endpoints.length < targets.length) {
    refusals.push({
      message: `the new cluster has ${targets.length} members, and the configuration names ${endpoints.length} endpoints: not each of them could be looked at`,
      hint: "name the client URL of every member in cluster.endpoints",
    });
  }
  refuseShared(facts, targets, refusals);
  return targets;
}

/** Machines of the original by name or address; on one machine (loopback) only the ports tell two clusters apart. */
function refuseShared(
  { source, endpoints }: RestoreFacts,
  targets: readonly TargetMember[],
  refusals: Refusal[],
): void {
  const original = source.members.flatMap(({ name, peerUrls, clientUrls }) =>
    [...peerUrls, ...clientUrls].map((url) => ({ name, url, at: placeOf(url) })),
  );
  const own = [
    ...targets.flatMap(({ name, peerUrls }) => peerUrls.map((url) => ({ what: `the peer URL of ${name}`, url }))),
    ...endpoints.map((url) => ({ what: "an endpoint", url })),
  ];
  for (const { what, url } of own) {
    const shared = original.find(({ at }) => at === placeOf(url));
    if (shared === undefined) continue;
    refusals.push({
      message: `${what}, ${url}, is a place of ${shared.name} of the original cluster (${shared.url})`,
      hint: "a new cluster has machines or ports of its own; to bring the original back, restore without --as-new",
    });
  }
  if (source.members.length > 0) return;
  refusals.push({
    message: `${source.name} does not tell who the members of the original are, so they cannot be kept out of reach`,
    hint: "take a backup of etcd-lifeboat, or a snapshot of etcd 3.4 or later",
  });
}

function placeOf(text: string): string {
  const url = URL.parse(text);
  if (url === null) return text;
  const hostname = url.hostname.toLowerCase();
  const loopback = hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
  if (!loopback) return hostname;
  return `loopback:${url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port}`;
}
