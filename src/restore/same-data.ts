import type { Etcd, HashKv, MemberAddress } from "../etcd/etcd.ts";
import { Fault, isFault } from "../faults.ts";
import type { BuiltResult } from "./data-steps.ts";

/** Whether the restored members hold what was built, as far as their minor lets it be asked. */
export type SameData =
  | { readonly kind: "as-built" }
  /** Leases have expired since the start, and this patch of etcd tells the hash of its newest revision alone: members were compared with each other. */
  | { readonly kind: "alike"; readonly revision: bigint }
  | { readonly kind: "not-yet"; readonly why: string };

interface Answer {
  readonly name: string;
  readonly said: HashKv;
}

/**
 * Compares HashKV of all members with what was computed from the file, at the revision that was built. Up to 3.4.26 and 3.5.9 a member refuses to hash the revision up
 * to which it has compacted: then the newest one is asked for. Rejects with `restore-differs` where no time mends it, and as `hashKv` does.
 */
export async function compareData(
  etcd: Etcd,
  members: readonly MemberAddress[],
  built: Pick<BuiltResult, "revision" | "compactRevision" | "hash">,
  signal: AbortSignal,
): Promise<SameData> {
  const revision = BigInt(built.revision);
  const ask = async (at: bigint): Promise<readonly Answer[]> =>
    await Promise.all(
      members.map(async (address) => {
        await using connection = etcd.connect(address);
        return { name: address.name, said: await connection.hashKv(at, signal) };
      }),
    );
  let answers: readonly Answer[];
  let newest = false;
  try {
    answers = await ask(revision);
  } catch (error) {
    if (!isFault(error, "etcd-compacted")) throw error;
    newest = true;
    answers = await ask(0n);
  }
  const behind = answers.find(({ said }) => said.revision < revision);
  if (behind !== undefined) return { kind: "not-yet", why: `${behind.name} is at revision ${behind.said.revision}` };
  if (!newest || answers.every(({ said }) => said.revision === revision)) {
    for (const answer of answers) refuseOther(answer, built);
    return { kind: "as-built" };
  }
  return compareEach(answers);
}

function refuseOther(
  { name, said }: Answer,
  { hash, compactRevision }: Pick<BuiltResult, "compactRevision" | "hash">,
): void {
  if (said.hash === hash && said.compactRevision === BigInt(compactRevision)) return;
  throw new Fault(
    "restore-differs",
    `${name} holds other data than was restored: HashKV ${said.hash} at compaction ${said.compactRevision} instead of ${hash} at ${compactRevision}`,
    {
      hint: "an old write-ahead log was replayed over it, or its disk is damaged: roll back, and look at hosts.NAME.etcd.walDirectory",
    },
  );
}

/** At one revision they must give one hash. */
function compareEach(answers: readonly Answer[]): SameData {
  const [first, ...others] = answers;
  if (first === undefined) return { kind: "not-yet", why: "no member was asked" };
  const { revision, compactRevision, hash } = first.said;
  for (const { name, said } of others) {
    if (said.revision !== revision || said.compactRevision !== compactRevision)
      return { kind: "not-yet", why: `${name} is at revision ${said.revision}, and ${first.name} at ${revision}` };
    if (said.hash === hash) continue;
    throw new Fault(
      "restore-differs",
      `${name} holds other data than ${first.name}: HashKV ${said.hash} instead of ${hash} at revision ${revision}`,
      { hint: "an old write-ahead log was replayed over one of them, or its disk is damaged: roll back" },
    );
  }
  return { kind: "alike", revision };
}
