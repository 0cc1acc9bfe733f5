import { z } from "zod";
import { Fault, isFault } from "../faults.ts";
import type { Store } from "../store/store.ts";
import type { Belief } from "./catalog.ts";
import { timeField, ulidField } from "./documents.ts";
import type { ListedPin, Listing } from "./listing.ts";
import { parseBackupName, parseObjectName, pinName } from "./names.ts";
import type { Signer, TrustedKeys } from "./signature.ts";
import { readSigned, writeSigned } from "./signed.ts";

/** Characters of a reason at most. */
const pinReasonLength = 500;

/** One entry of a backup's log of pins: created, never changed; the highest number decides. */
const pinDocument = z.strictObject({
  schema: z.literal("etcd-lifeboat/pin/v1"),
  repository: ulidField,
  lineage: ulidField,
  backup: z.string().refine((text) => parseBackupName(text) !== undefined, "not a backup id"),
  number: z.int().positive(),
  pinned: z.boolean(),
  reason: z.string().max(pinReasonLength),
  /** Makes the bytes of each entry its own. */
  id: ulidField,
  madeAt: timeField,
});
export type Pin = z.output<typeof pinDocument>;

/** What the log of a backup says. */
export interface PinState {
  readonly pinned: boolean;
  readonly reason: string;
  /** Undefined where what decides cannot be read. */
  readonly madeAt: string | undefined;
  /** The highest number that is taken. */
  readonly number: number;
}

/** So many entries that cannot be read are somebody's work, not damage. */
const mostRead = 16;

/**
 * Reads whether a backup is pinned; undefined where it never was. What cannot be believed at the end of the log pins: a stranger, or damage, must not
 * make a backup go.
 */
export async function readPin(
  store: Store,
  pins: readonly ListedPin[],
  { repository, trusted }: Belief,
  signal: AbortSignal,
): Promise<PinState | undefined> {
  const newestFirst = pins.toSorted((a, b) => b.number - a.number);
  const number = newestFirst[0]?.number;
  if (number === undefined) return undefined;
  let refused: string | undefined;
  for (const listed of newestFirst.slice(0, mostRead)) {
    const name = pinName(listed.lineage, listed.backup, listed.number);
    try {
      const pin = parsePin(name, await store.read(name, signal), repository, trusted);
      if (refused === undefined) return { pinned: pin.pinned, reason: pin.reason, madeAt: pin.madeAt, number };
      return { pinned: true, reason: refused, madeAt: undefined, number };
    } catch (error) {
      if (!isFault(error, "manifest-invalid", "manifest-untrusted", "store-object-missing", "store-damaged"))
        throw error;
      refused ??= `a pin that cannot be believed: ${error.message}`;
    }
  }
  return { pinned: true, reason: refused ?? "a pin that cannot be believed", madeAt: undefined, number };
}

function parsePin(name: string, bytes: Uint8Array, repository: string, trusted: TrustedKeys | undefined): Pin {
  const pin = readSigned(name, bytes, pinDocument, trusted);
  if (pin.repository === repository && pinName(pin.lineage, pin.backup, pin.number) === name) return pin;
  throw new Fault("manifest-invalid", `${name} holds pin ${pin.number} of ${pin.lineage}/${pin.backup}`, {
    hint: "an object was copied or renamed inside the store",
  });
}

/** Of one backup, with what the listing says. */
export function pinsOf(
  { pins }: Pick<Listing, "pins">,
  { lineage, backup }: { readonly lineage: string; readonly backup: string },
): readonly ListedPin[] {
  return pins.filter((pin) => pin.lineage === lineage && pin.backup === backup);
}

/** Lists the log of one backup anew. */
export async function listPins(
  store: Store,
  lineage: string,
  backup: string,
  signal: AbortSignal,
): Promise<ListedPin[]> {
  const prefix = pinName(lineage, backup, 1).slice(0, -"1.json".length);
  const pins: ListedPin[] = [];
  for await (const stored of store.list(prefix, signal)) {
    const parsed = parseObjectName(stored.name);
    if (parsed?.kind === "pin" && parsed.backup === backup) pins.push({ ...parsed, stored });
  }
  return pins;
}

/** Somebody else who pins at the same time is waited out so often. */
const attempts = 8;

/** Adds an entry to a backup's log; what somebody else added meanwhile comes before it. */
export async function writePin(
  store: Store,
  entry: Omit<Pin, "schema" | "number">,
  signer: Signer | undefined,
  signal: AbortSignal,
): Promise<Pin> {
  if (entry.reason.length > pinReasonLength) {
    throw new Fault(
      "usage",
      `the reason has ${entry.reason.length} characters, and at most ${pinReasonLength} can be kept`,
      {
        hint: "give a shorter --reason",
      },
    );
  }
  for (let attempt = 1; ; attempt += 1) {
    const taken = await listPins(store, entry.lineage, entry.backup, signal);
    const number = Math.max(0, ...taken.map((pin) => pin.number)) + 1;
    const pin: Pin = { schema: "etcd-lifeboat/pin/v1", number, ...entry };
    const bytes = writeSigned(`pin ${number} of ${entry.backup}`, pin, pinDocument, signer);
    try {
      await store.create(pinName(entry.lineage, entry.backup, number), bytes, signal);
      return pin;
    } catch (error) {
      if (!isFault(error, "store-exists") || attempt === attempts) throw error;
    }
  }
}
