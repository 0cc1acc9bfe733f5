import type { Clock } from "../clock.ts";
import { withDeadline } from "../deadline.ts";
import type { MemberConnection } from "../etcd/etcd.ts";
import { Fault, isFault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import { writeProof, type BootProof } from "../repository/proof.ts";
import type { StockLook, StockMember, StockTools } from "../stock/stock.ts";
import type { HashSpool } from "./prove.ts";
import { proofHead, type Committed, type RecordDependencies } from "./record.ts";
import type { Spool } from "./spool.ts";

export interface BootDependencies {
  readonly stock: StockTools;
  /** A connection to a member through its Unix socket. */
  readonly connect: (socket: string) => MemberConnection;
  readonly hashSpool: HashSpool;
  readonly clock: Clock;
  readonly newId: () => string;
}

/** What became of one snapshot that was restored and started. */
export interface Booted {
  readonly minor: string;
  /** The stock programs that did it, with their versions. */
  readonly programs: readonly string[];
  readonly hash: number | null;
  readonly keys: number | null;
  readonly tookMs: number;
  /** Why it is not what it must be; undefined when all is well. */
  readonly fault: Fault | undefined;
  /** In words, what was found. */
  readonly reason: string;
}

/** A member of etcd writes a log of 64 MiB ahead and makes the next one ready; a little air besides. */
const logBytes = 160 * 1024 ** 2;
const patienceMs = 180_000;
/** A slow disk and a busy machine still do this. */
const slowestBytesPerSecond = 5 * 1024 ** 2;

/** Free bytes that the spool must have for a boot, besides the snapshot itself. */
export function bootNeed(manifest: Pick<Manifest, "content">): number {
  return manifest.content.dbBytes + logBytes;
}

/** The minor that a backup must be started with: that of the member it came from, else what the file says. */
export function minorOf({ source, content }: Pick<Manifest, "source" | "content">): string {
  const version = source?.version ?? content.storageVersion ?? content.clusterVersion ?? "";
  const minor = /^\d+\.\d+(?=\.|$)/.exec(version)?.[0];
  if (minor !== undefined) return minor;
  throw new Fault("etcd-unsupported", "neither the manifest nor the database says which minor of etcd this is", {
    hint: "restore it by hand, with the etcdutl of the minor that wrote it",
  });
}

/**
 * Restores a decoded snapshot into a scratch directory of the spool with the stock tool of its minor, starts a throw-away member on it that nobody else can reach, and compares HashKV at the
 * snapshot's revision and the number of keys with the manifest. What the programs refuse and what differs is told in the result; rejects when it could not be tried
 * (`tool-missing`, `spool-space`, `failed`). Nothing is left behind.
 */
export async function bootSnapshot(
  deps: BootDependencies,
  spool: Pick<Spool, "createDirectory">,
  manifest: Manifest,
  snapshotPath: string,
  signal: AbortSignal,
): Promise<Booted> {
  const minor = minorOf(manifest);
  const { stock, clock, newId } = deps;
  const programs = await stock.find(minor, signal);
  const { dbBytes } = manifest.content;
  const limitMs = Math.ceil(patienceMs + (dbBytes / slowestBytesPerSecond) * 1000);
  using deadline = withDeadline(signal, limitMs, `${manifest.backup} was not restored, started and compared`, "failed");
  await using scratch = await spool.createDirectory(newId());
  const beganMs = clock.elapsed();
  const seen: { hash: number | null; keys: number | null } = { hash: null, keys: null };
  const end = (fault: Fault | undefined, reason: string): Booted => ({
    minor,
    programs: programs.names,
    ...seen,
    tookMs: Math.round(clock.elapsed() - beganMs),
    fault,
    reason,
  });
  try {
    await programs.restore(snapshotPath, scratch.path, deadline.signal);
    await using member = await programs.start(scratch.path, deadline.signal);
    const look = await serving(member, manifest.content, clock, deadline.signal);
    seen.keys = look.keys;
    const asked = await askHash(deps, member, manifest.content, deadline.signal);
    const answer = asked ?? (await hashStopped(deps, member, manifest.content, deadline.signal));
    seen.hash = answer.hash;
    const fault = compare(manifest, look, answer.hash);
    const equal = isComparable(manifest) ? `keys and HashKV equal, ${answer.how}` : "no key is left, as it must be";
    return end(fault, fault?.message ?? `${programs.names.join(", ")}: ${equal}`);
  } catch (error) {
    if (!isFault(error, "boot-failed")) throw error;
    return end(error, error.message);
  }
}

/** Waits until the member has a leader and at least the revision of its data. */
async function serving(
  member: StockMember,
  { revision }: Manifest["content"],
  clock: Clock,
  signal: AbortSignal,
): Promise<StockLook> {
  for (;;) {
    // Ends with the deadline, or with the member.
    const look = await member.look(signal);
    if (look !== undefined) {
      if (look.revision >= revision) return look;
      throw new Fault("boot-failed", `the member that was started is at revision ${look.revision}, not ${revision}`);
    }
    await clock.sleep(100, signal);
  }
}

/**
 * The member's own HashKV; undefined where it cannot say: with authentication on, which needs a password of the backup's time, and at its compaction,
 * which old minors refuse and newer ones may have hashed differently before.
 */
async function askHash(
  { connect }: BootDependencies,
  { socket }: StockMember,
  { revision, compactRevision, authEnabled }: Manifest["content"],
  signal: AbortSignal,
): Promise<{ readonly hash: number; readonly how: string } | undefined> {
  if (authEnabled || revision <= compactRevision) return undefined;
  await using connection = connect(socket);
  const answer = await connection.hashKv(revision, signal);
  if (answer.compactRevision !== compactRevision) return undefined;
  return { hash: answer.hash, how: "as the member says" };
}

/** HashKV of what the member has on its disk when it was ended in good order. */
async function hashStopped(
  { hashSpool }: BootDependencies,
  member: StockMember,
  { revision, compactRevision }: Manifest["content"],
  signal: AbortSignal,
): Promise<{ readonly hash: number; readonly how: string }> {
  const path = await member.stop(signal);
  const [hash] = await hashSpool(path, revision, [compactRevision], signal);
  if (hash === undefined) throw new Fault("boot-failed", "the member's database has no HashKV");
  return { hash, how: "as the stopped member's database says" };
}

/** Without a key left, HashKV depends on how many old rows a compaction has removed, and the member goes on with that when it starts. */
function isComparable({ content }: Manifest): boolean {
  return content.keys > 0 || content.compactRevision < 0n;
}

function compare(manifest: Manifest, look: StockLook, hash: number): Fault | undefined {
  const { backup, content } = manifest;
  const differences: string[] = [];
  if (hash !== content.hashKv && isComparable(manifest))
    differences.push(`HashKV ${hash} instead of ${content.hashKv}`);
  // A lease that ends at once takes its keys with it, at a revision of its own; HashKV has compared them.
  if (look.keys !== content.keys && look.revision === content.revision) {
    differences.push(`keys ${look.keys} instead of ${content.keys}`);
  }
  if (differences.length === 0) return undefined;
  return new Fault("boot-failed", `${backup} starts, but is not what its manifest says: ${differences.join(", ")}`, {
    hint: "restore from another backup",
  });
}

/** Stores what became of a boot beside the backup. Rejects with the store's faults. */
export async function recordBoot(
  deps: Omit<RecordDependencies, "emit">,
  committed: Committed,
  booted: Booted,
  signal: AbortSignal,
): Promise<void> {
  const { minor, programs, hash, keys, tookMs, reason, fault } = booted;
  const proof: BootProof = {
    ...proofHead(deps, committed),
    kind: "boot",
    verdict: fault === undefined ? "passed" : "failed",
    reason,
    minor,
    programs: [...programs],
    revision: committed.manifest.content.revision,
    hash,
    keys,
    tookMs,
  };
  await writeProof(deps.store, proof, deps.encoder.signer, signal);
}
