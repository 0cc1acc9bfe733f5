import type { Emit } from "../events.ts";
import { Fault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import { spoolPlain } from "./fetch.ts";
import { proveClaim, type Finding, type HashSpool, type ProveDependencies } from "./prove.ts";
import { decryptionFor, type VerifyDependencies } from "./verify.ts";

export interface LiveDependencies
  extends ProveDependencies, Pick<VerifyDependencies, "store" | "spool" | "identities" | "newId"> {
  readonly emit: Emit;
}

/**
 * Asks the members of the cluster again for HashKV at the backup's revision. Where a member has compacted since, the backup is decoded into the spool and hashed at that
 * member's compaction revision, which needs an identity where it is encrypted (`key-missing`). Rejects with `unproven` for an import, which no cluster can be asked about.
 */
export async function proveLive(deps: LiveDependencies, manifest: Manifest, signal: AbortSignal): Promise<Finding> {
  const { cluster, source, content } = manifest;
  if (cluster.id === null || source === null) {
    throw new Fault("unproven", `${manifest.backup} was imported: nothing says which cluster it is of`);
  }
  await using stack = new AsyncDisposableStack();
  let decoded: Promise<string> | undefined;
  const hashSpool: HashSpool = async (_path, revision, compactRevisions, within) => {
    decoded ??= decode(deps, manifest, stack, within);
    return deps.hashSpool(await decoded, revision, compactRevisions, within);
  };
  const claim = {
    run: deps.newId(),
    clusterId: BigInt(`0x${cluster.id}`),
    source: BigInt(`0x${source.memberId}`),
    revision: content.revision,
    compactRevision: content.compactRevision,
    hashKv: content.hashKv,
    keys: content.keys,
    // There is no file before a member's answer needs one.
    path: manifest.data.object,
  };
  return await proveClaim({ ...deps, hashSpool }, claim, signal);
}

async function decode(
  deps: LiveDependencies,
  manifest: Manifest,
  stack: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<string> {
  const what = "what members have compacted since";
  const encryption = await decryptionFor(manifest, deps.identities, what);
  const spool = await deps.spool();
  await spool.requireSpace(manifest.data.plainBytes);
  const file = stack.use(await spool.create(deps.newId()));
  await spoolPlain(deps.store, manifest, encryption, file, () => undefined, signal);
  return file.path;
}

/** What a finding means for somebody who wanted to see the backup proven; undefined when it was. */
export function liveFault({ backup }: Manifest, { verdict, why, reason }: Finding): Fault | undefined {
  if (verdict === "proven") return undefined;
  const differs = verdict === "source-diverged" || why === "disagree";
  return new Fault(differs ? "cluster-differs" : "unproven", `${backup}: ${reason}`, {
    hint: differs ? "run: etcd-lifeboat status" : "verify --level deep compares the stored file with its manifest",
  });
}
