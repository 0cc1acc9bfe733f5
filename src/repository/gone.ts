import { z } from "zod";
import { Fault, isFault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import type { Belief } from "./catalog.ts";
import { timeField, ulidField } from "./documents.ts";
import type { ListedBackup } from "./listing.ts";
import { goneName, manifestName } from "./names.ts";
import type { Signer } from "./signature.ts";
import { readSigned, writeSigned } from "./signed.ts";

/**
 * Marks of snapshots that are given up: what nobody committed in a week, and what expired. A daemon that sleeps for days may still commit then, so the mark is
 * made first, manifests are listed again a grace later, and only then data goes. A manifest that was stored after the mark of its own data does not exist.
 */
const goneDocument = z.strictObject({
  schema: z.literal("etcd-lifeboat/gone/v1"),
  repository: ulidField,
  lineage: ulidField,
  snapshot: ulidField,
  why: z.enum(["orphan", "expired"]),
  madeAt: timeField,
});
export type Gone = z.output<typeof goneDocument>;

/** Marks a snapshot as given up; one that is marked already stays as it is. */
export async function markGone(
  store: Store,
  mark: Omit<Gone, "schema">,
  signer: Signer | undefined,
  signal: AbortSignal,
): Promise<void> {
  const document = { schema: "etcd-lifeboat/gone/v1", ...mark };
  const bytes = writeSigned(`the mark of snapshot ${mark.snapshot}`, document, goneDocument, signer);
  try {
    await store.create(goneName(mark.lineage, mark.snapshot), bytes, signal);
  } catch (error) {
    if (!isFault(error, "store-exists")) throw error;
  }
}

/** Reads a mark; undefined where there is none, or one that cannot be believed: nobody gives up our data by putting an object there. */
export async function readGone(
  store: Store,
  { lineage, snapshot }: { readonly lineage: string; readonly snapshot: string },
  { repository, trusted }: Belief,
  signal: AbortSignal,
): Promise<Gone | undefined> {
  const name = goneName(lineage, snapshot);
  try {
    const mark = readSigned(name, await store.read(name, signal), goneDocument, trusted);
    const fits = mark.repository === repository && mark.lineage === lineage && mark.snapshot === snapshot;
    return fits ? mark : undefined;
  } catch (error) {
    if (isFault(error, "store-object-missing", "manifest-invalid", "manifest-untrusted", "store-damaged")) {
      return undefined;
    }
    throw error;
  }
}

/** Dates of a store are whole seconds in places. */
export const dateBlurMs = 2000;

/**
 * Why a believed manifest does not exist: its data had been given up when it was stored, both by the store's dates. One that stood there before the mark exists:
 * whoever made the mark had overlooked it.
 */
export async function refuseGone(
  store: Store,
  listed: ListedBackup,
  snapshot: string,
  belief: Belief,
  signal: AbortSignal,
): Promise<Fault | undefined> {
  const mark = listed.marks?.get(goneName(listed.lineage, snapshot));
  if (mark === undefined) return undefined;
  if (listed.stored !== undefined && listed.stored.modifiedMs + dateBlurMs < mark.stored.modifiedMs) return undefined;
  if ((await readGone(store, mark, belief, signal)) === undefined) return undefined;
  const name = manifestName(listed.lineage, listed.backup);
  return new Fault("manifest-invalid", `${name} was committed after its data had been given up as nobody's`, {
    hint: "whoever committed it has failed with backup-late; what is left of it is removed by expire",
  });
}
