import { Fault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import type { Store } from "../store/store.ts";
import type { AgeIdentity } from "./age.ts";
import type { Decryption } from "./encode.ts";
import { spoolPlain, toFrames } from "./fetch.ts";
import type { Spool } from "./spool.ts";
import { decodeObject, exhaust, readStored } from "./stored.ts";
import type { Scan } from "./take.ts";

/** One vocabulary everywhere; each level includes the ones before it. */
export const verifyLevels = ["manifest", "bytes", "structure"] as const;
export type VerifyLevel = (typeof verifyLevels)[number];

export interface VerifyDependencies {
  readonly store: Store;
  /** Opened only for `structure`, which decodes into it. */
  readonly spool: () => Promise<Spool>;
  readonly scan: Scan;
  /** Reads the configured identities when they are needed; empty where none is configured. */
  readonly identities: () => Promise<readonly AgeIdentity[]>;
  readonly newId: () => string;
}

/**
 * Verifies one backup whose manifest was believed already. `manifest`: every object it names exists with its size. `bytes`: every byte is the
 * recorded one. `structure`: the snapshot decodes to its seal, the database file is whole and says what the manifest says.
 * Rejects with `object-damaged`, `store-object-missing`, `bolt-corrupt`, or `key-missing` when an identity is needed and not there.
 */
export async function verifyBackup(
  deps: VerifyDependencies,
  manifest: Manifest,
  level: VerifyLevel,
  signal: AbortSignal,
): Promise<void> {
  for (const object of [manifest.data, manifest.note, ...(manifest.extras === null ? [] : [manifest.extras])]) {
    await verifyHead(deps.store, object, signal);
  }
  if (level === "manifest") return;
  await exhaust(readStored(deps.store, manifest.note, signal));
  if (manifest.extras !== null) await exhaust(readStored(deps.store, manifest.extras, signal));
  if (level === "bytes") {
    await exhaust(readStored(deps.store, manifest.data, signal));
    return;
  }
  await verifyStructure(deps, manifest, signal);
}

async function verifyHead(
  store: Store,
  { object, storedBytes }: { readonly object: string; readonly storedBytes: number },
  signal: AbortSignal,
): Promise<void> {
  const head = await store.head(object, signal);
  if (head === undefined) throw new Fault("object-damaged", `${object} is missing from ${store.description}`);
  if (head.storedBytes !== storedBytes) {
    throw new Fault("object-damaged", `${object} has ${head.storedBytes} bytes, its manifest says ${storedBytes}`);
  }
}

async function verifyStructure(deps: VerifyDependencies, manifest: Manifest, signal: AbortSignal): Promise<void> {
  const encryption = await decryptionFor(manifest, deps.identities);
  if (manifest.extras !== null) {
    const { frames, plainBytes, object } = manifest.extras;
    const plain = decodeObject(deps.store, manifest.extras, { frames: toFrames(frames), encryption }, signal);
    const bytes = await exhaust(plain);
    if (bytes !== plainBytes)
      throw new Fault("object-damaged", `${object} decodes to ${bytes} bytes instead of ${plainBytes}`);
  }
  const spool = await deps.spool();
  await spool.requireSpace(manifest.data.plainBytes);
  await using file = await spool.create(deps.newId());
  await spoolPlain(deps.store, manifest, encryption, file, () => undefined, signal);
  const facts = await deps.scan(file.path, manifest.samples, signal);
  const differences = [
    differs("revision", facts.revision, manifest.content.revision),
    differs("compaction", facts.compactRevision, manifest.content.compactRevision),
    differs("consistent index", facts.consistentIndex, manifest.content.consistentIndex),
    differs("keys", facts.keys, manifest.content.keys),
    differs("rows", facts.rows, manifest.content.rows),
    differs("sampled rows", facts.probed.length, manifest.samples.length),
  ].filter((text) => text !== undefined);
  if (differences.length > 0) {
    throw new Fault(
      "object-damaged",
      `${manifest.data.object} is not the database of its manifest: ${differences.join(", ")}`,
    );
  }
}

function differs(what: string, found: bigint | number, recorded: bigint | number): string | undefined {
  return found === recorded ? undefined : `${what} ${found} instead of ${recorded}`;
}

/** How to open a backup's objects; `key-missing` names the recipients when no identity is configured. */
export async function decryptionFor(
  manifest: Manifest,
  identities: () => Promise<readonly AgeIdentity[]>,
): Promise<Decryption> {
  if (manifest.data.encryption === null) return { kind: "none" };
  const known = await identities();
  if (known.length > 0) return { kind: "identities", identities: known };
  throw new Fault(
    "key-missing",
    `${manifest.backup} is encrypted to ${manifest.data.encryption.recipients.join(", ")}, and no identity is configured`,
    {
      hint: "set repository.encryption.identity to the key file of one of them, on the host that restores",
    },
  );
}
