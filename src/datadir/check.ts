import type { SnapshotFacts } from "../bolt/facts.ts";
import { Fault } from "../faults.ts";
import type { BuiltCluster, BuiltFile, BuiltMember } from "./datadir.ts";
import { hexId, type Identity } from "./identity.ts";
import { readWal } from "./read-wal.ts";
import { decodeSnap } from "./snap.ts";
import { restoredTerm, snapName } from "./wal.ts";

/**
 * Holds what was built against what was asked for, from the bytes that would be sent: the database by a scan of it, WAL and .snap by reading them. The worst that could go wrong is
 * silent: a server whose database says more than its WAL starts, and applies nothing. Fault `datadir-damaged` says what differs.
 */
export async function checkBuilt(
  built: BuiltCluster,
  database: SnapshotFacts,
  identity: Identity,
  signal: AbortSignal,
): Promise<void> {
  checkDatabase(built, database, identity);
  for (const member of built.members) await checkMember(member, identity, signal);
}

function checkDatabase(built: BuiltCluster, facts: SnapshotFacts, identity: Identity): void {
  const where = "the built database";
  const last = BigInt(identity.members.length);
  same(where, "consistent index", facts.consistentIndex, last);
  same(where, "term", facts.term, restoredTerm);
  same(where, "members", describeMembers(facts), describePlanned(identity));
  same(where, "removed members", facts.removedMembers.map(hexId).join(), "");
  same(where, "alarms", describeAlarms(facts.alarms), describeAlarms(built.alarmsLeft));
  same(where, "revision", facts.revision, built.revision);
  same(where, "compact revision", facts.compactRevision, built.compactRevision);
  same(where, "HashKV", facts.hashKv, built.hashKv.hash);
  same(where, "authentication", facts.authEnabled, built.authEnabled);
  same(where, "leases", facts.leases, built.leases);
  same(where, "buckets that are not known", facts.otherBuckets.join(), "");
}

async function checkMember(member: BuiltMember, identity: Identity, signal: AbortSignal): Promise<void> {
  const { members, clusterId } = identity;
  const last = BigInt(members.length);
  const wal = await readWal(
    member.wal.map((file) => ({ name: file.path, content: (within) => file.content(within) })),
    signal,
  );
  const where = `the built WAL of ${member.name}`;
  same(where, "member ID", hexId(wal.memberId), hexId(member.memberId));
  same(where, "cluster ID", hexId(wal.clusterId), hexId(clusterId));
  same(where, "commit", wal.hardState?.commit, last);
  same(where, "term", wal.hardState?.term, restoredTerm);
  same(where, "last index", wal.lastIndex, last);
  same(where, "last term", wal.lastTerm, restoredTerm);
  same(where, "snapshot index", wal.snapshotIndex, last);
  same(where, "torn end", wal.torn, false);

  const path = `snap/${snapName(restoredTerm, last)}`;
  const file = member.data.find((one) => one.path === path);
  if (file === undefined) throw new Fault("datadir-damaged", `there is no ${path} of ${member.name}`);
  const snap = decodeSnap(await contentOf(file, signal), `${path} of ${member.name}`);
  same(path, "index", snap.index, last);
  same(path, "term", snap.term, restoredTerm);
  same(path, "voters", snap.voters.map(hexId).join(), members.map(({ id }) => hexId(id)).join());
  for (const { id } of members) {
    const attributes = `"/0/members/${hexId(id)}/raftAttributes"`;
    if (!snap.store.includes(attributes)) throw new Fault("datadir-damaged", `${path} does not have ${attributes}`);
  }
}

function describeMembers({ members }: SnapshotFacts): string {
  return members
    .map(({ id, name, peerUrls, clientUrls, learner }) => {
      const odd = `${clientUrls.length > 0 ? " published" : ""}${learner ? " learner" : ""}`;
      return `${hexId(id)} ${name} ${peerUrls.join()}${odd}`;
    })
    .toSorted()
    .join("; ");
}

function describePlanned({ members }: Identity): string {
  return members
    .map(({ id, name, peerUrls }) => `${hexId(id)} ${name} ${peerUrls.join()}`)
    .toSorted()
    .join("; ");
}

function describeAlarms(alarms: BuiltCluster["alarmsLeft"]): string {
  return alarms
    .map(({ memberId, kind }) => `${hexId(memberId)} ${kind}`)
    .toSorted()
    .join("; ");
}

async function contentOf(file: BuiltFile, signal: AbortSignal): Promise<Uint8Array> {
  return Buffer.concat(await Array.fromAsync(file.content(signal)));
}

function same(where: string, what: string, found: unknown, wanted: unknown): void {
  if (found !== wanted) {
    throw new Fault("datadir-damaged", `${where} has the ${what} ${String(found)} instead of ${String(wanted)}`);
  }
}
