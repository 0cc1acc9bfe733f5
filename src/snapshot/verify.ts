import { Fault } from "../faults.ts";
import type { Manifest } from "../repository/manifest.ts";
import type { Store } from "../store/store.ts";
import type { AgeIdentity } from "./age.ts";
import { bootNeed, bootSnapshot, type BootDependencies, type Booted } from "./boot.ts";
import { checkContent } from "./content.ts";
import type { Decryption } from "./encode.ts";
import { spoolPlain, toFrames } from "./fetch.ts";
import { checkSizes } from "./sizes.ts";
import type { Spool } from "./spool.ts";
import { decodeObject, exhaust, readStored } from "./stored.ts";
import type { Scan } from "./take.ts";

/** One vocabulary everywhere; each level includes the ones before it. */
export const verifyLevels = ["manifest", "bytes", "structure", "deep", "boot"] as const;
export type VerifyLevel = (typeof verifyLevels)[number];

export interface VerifyDependencies {
  readonly store: Store;
  /** Opened from `structure` on, which decodes into it. */
  readonly spool: () => Promise<Spool>;
  readonly scan: Scan;
  /** Reads the configured identities when they are needed; empty where none is configured. */
  readonly identities: () => Promise<readonly AgeIdentity[]>;
  readonly newId: () => string;
  /** For `boot` alone. */
  readonly boot: () => BootDependencies;
}

/**
 * Verifies one backup whose manifest was believed already. `manifest`: its sizes fit each other, and every object it names exists with its size. `bytes`: every
 * byte is the recorded one. `structure`: the snapshot decodes to its seal, the database file is whole and says what the manifest says. `deep`: HashKV of all its
 * keys is the recorded one. `boot`: restored and started with stock programs, it is what it must be; what became of that is the result, else undefined.
 * Rejects with `manifest-invalid`, `object-damaged`, `store-object-missing`, `bolt-corrupt`, or `key-missing` when an identity is needed and not there;
 * `boot` also with `tool-missing`.
 */
export async function verifyBackup(
  deps: VerifyDependencies,
  manifest: Manifest,
  level: VerifyLevel,
  signal: AbortSignal,
): Promise<Booted | undefined> {
  checkSizes(manifest);
  for (const object of [manifest.data, manifest.note, ...(manifest.extras === null ? [] : [manifest.extras])]) {
    await verifyHead(deps.store, object, signal);
  }
  if (level === "manifest") return undefined;
  await exhaust(readStored(deps.store, manifest.note, signal));
  if (manifest.extras !== null) await exhaust(readStored(deps.store, manifest.extras, signal));
  if (level === "bytes") {
    await exhaust(readStored(deps.store, manifest.data, signal));
    return undefined;
  }
  return verifyDecoded(deps, manifest, level, signal);
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

/** What each level can only say of a decoded snapshot. */
const needsDecoding = {
  structure: "decryption, seal and structure",
  deep: "decryption, seal, structure and HashKV",
  boot: "decryption, seal, structure, HashKV and a start",
} as const;

async function verifyDecoded(
  deps: VerifyDependencies,
  manifest: Manifest,
  level: keyof typeof needsDecoding,
  signal: AbortSignal,
): Promise<Booted | undefined> {
  const encryption = await decryptionFor(manifest, deps.identities, needsDecoding[level]);
  if (manifest.extras !== null) {
    const { frames, plainBytes, object } = manifest.extras;
    const plain = decodeObject(deps.store, manifest.extras, { frames: toFrames(frames), encryption }, signal);
    const bytes = await exhaust(plain);
    if (bytes !== plainBytes)
      throw new Fault("object-damaged", `${object} decodes to ${bytes} bytes instead of ${plainBytes}`);
  }
  const spool = await deps.spool();
  await spool.requireSpace(manifest.data.plainBytes + (level === "boot" ? bootNeed(manifest) : 0));
  await using file = await spool.create(deps.newId());
  await spoolPlain(deps.store, manifest, encryption, file, () => undefined, signal);
  await checkContent(deps.scan, manifest, file.path, level, signal);
  return level === "boot" ? await bootSnapshot(deps.boot(), spool, manifest, file.path, signal) : undefined;
}

/** How to open a backup's objects; `key-missing` names the recipients when no identity is configured, and what stays unchecked. */
export async function decryptionFor(
  manifest: Manifest,
  identities: () => Promise<readonly AgeIdentity[]>,
  unchecked?: string,
): Promise<Decryption> {
  if (manifest.data.encryption === null) return { kind: "none" };
  const known = await identities();
  if (known.length > 0) return { kind: "identities", identities: known };
  throw new Fault(
    "key-missing",
    `${manifest.backup} is encrypted to ${manifest.data.encryption.recipients.join(", ")}, and no identity is configured${unchecked === undefined ? "" : `: ${unchecked} could not be checked`}`,
    {
      hint: "set repository.encryption.identity to the key file of one of them, on the host that restores and verifies",
    },
  );
}
