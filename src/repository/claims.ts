import { z } from "zod";
import type { Clock } from "../clock.ts";
import type { TakenOverWhy } from "../events.ts";
import { Fault, isFault, throwIfAborted } from "../faults.ts";
import type { Store } from "../store/store.ts";
import { authorField, formatInstant, readDocument, timeField, ulidField, writeDocument } from "./documents.ts";
import type { Author } from "./gates.ts";
import { isUlid, manifestName } from "./names.ts";

/**
 * Claims say that somebody works on a slot, so that others wait instead of doing the same work. They are hints: the manifest's key decides, with and without
 * them. A claim is a log of numbered objects that are created and never changed; its holder adds one after each of growing pauses. Nobody's clock is
 * compared with another's: a claim is stale when whoever waits has seen no new entry for three of the pauses that the last one announced.
 */

const claimEntry = z.strictObject({
  schema: z.literal("etcd-lifeboat/claim/v1"),
  repository: ulidField,
  lineage: ulidField,
  backup: z.string().max(100),
  number: z.int().positive(),
  /** Whose it is: one hold has one id, over all its entries. */
  claim: ulidField,
  /** Makes the bytes of each entry its own, so that a create whose answer was lost is known to be ours. */
  id: ulidField,
  /** For people: nobody judges by it. */
  at: timeField,
  by: authorField,
  /** `given-up`: it ended without a commit, and the next one need not wait. */
  state: z.enum(["working", "given-up"]),
  /** So long after this entry comes the next one. */
  nextMs: z.int().min(100).max(60_000),
});
type ClaimEntry = z.output<typeof claimEntry>;

export interface ClaimScope {
  readonly store: Store;
  /** `repository.coordination.prefix`. */
  readonly prefix: string;
  readonly clock: Clock;
  /** A new ULID. */
  readonly newId: () => string;
  readonly author: Author;
}

/** The backup that is to be made, by its manifest's key. */
export interface ClaimedSlot {
  readonly repository: string;
  readonly lineage: string;
  /** Its id, `<time>.slot.<schedule>`. */
  readonly backup: string;
}

/** What the run that wants a claim is told on its way. */
export interface ClaimTold {
  readonly waiting: (by: Author) => void;
  readonly takenOver: (why: TakenOverWhy, by: Author | undefined) => void;
  /** The hint cannot be used or read: work may be done twice. */
  readonly trouble: (message: string) => void;
}

export type Claimed = HeldClaim &
  (
    | { readonly kind: "ours"; /** Others had it, and what was known before is old. */ readonly waited: boolean }
    /** Its manifest is there: somebody else's work. */
    | { readonly kind: "done" }
  );

/** A claim that is renewed until it is disposed, and given up then unless it was `settled`. */
export interface HeldClaim extends AsyncDisposable {
  /** The manifest's key is taken: nobody asks for the claim any more. */
  readonly settle: () => void;
}

/** The pause after the first entry; each next one is twice as long, so that a short run writes one entry, and a dead one is soon told from a living. */
const firstPauseMs = 2000;
const longestPauseMs = 60_000;
const stalePauses = 3;
const pollAtMostMs = 5000;
/** A run has bounds of its own; whoever renews for longer than this is mistaken for dead on purpose. */
const longestWaitMs = 12 * 3_600_000;
/** At a renewal a minute it is reached in two years. */
const highestNumber = 999_999;
/** How long giving up may take: what ends the process waits for it. */
const giveUpMs = 3000;

/** Where the claims of all slots are. */
export function claimsPrefix(prefix: string): string {
  return `${prefix}/claims/`;
}

function slotPrefix({ prefix }: ClaimScope, { lineage, backup }: ClaimedSlot): string {
  return `${claimsPrefix(prefix)}${lineage}/${backup}/`;
}

function entryName(scope: ClaimScope, slot: ClaimedSlot, number: number): string {
  return `${slotPrefix(scope, slot)}${String(number).padStart(6, "0")}.json`;
}

/** True for an object that is an entry of a claim. */
export function isClaimName(prefix: string, name: string): boolean {
  const start = claimsPrefix(prefix);
  const match = /^([0-9A-Z]{26})\/[0-9A-Za-z.-]+\/\d{6}\.json$/.exec(
    name.startsWith(start) ? name.slice(start.length) : "",
  );
  return match !== null && isUlid(match[1] ?? "");
}

/**
 * Claims a slot, or waits while another's claim lives: until the slot is committed (`done`), or until it can be taken over. Where claims cannot be written at all,
 * it says so and lets the work begin; a store that does not answer is a Fault.
 */
export async function claimSlot(
  scope: ClaimScope,
  slot: ClaimedSlot,
  told: ClaimTold,
  signal: AbortSignal,
): Promise<Claimed> {
  try {
    return await takeClaim(scope, slot, told, signal);
  } catch (error) {
    throwIfAborted(signal);
    if (!isFault(error) || error.retryable) throw error;
    told.trouble(`the slot cannot be claimed, so that another daemon may do the same work: ${error.message}`);
    return { kind: "ours", waited: false, ...unclaimed };
  }
}

/** What is held where nothing is claimed. */
export const unclaimed: HeldClaim = { settle: () => undefined, [Symbol.asyncDispose]: async () => undefined };

/** The newest entry as it was first seen, by our own clock that never goes back. */
interface Seen {
  readonly number: number;
  readonly sinceMs: number;
  readonly entry: ClaimEntry | undefined;
}

async function takeClaim(scope: ClaimScope, slot: ClaimedSlot, told: ClaimTold, signal: AbortSignal): Promise<Claimed> {
  const { store, clock } = scope;
  const beganMs = clock.elapsed();
  let seen: Seen | undefined;
  let waited = false;
  for (;;) {
    // Ends: what is seen changes, or goes stale, and at last it was waited for too long.
    const number = await highestEntry(scope, slot, signal);
    if (number !== seen?.number) {
      const entry = number === 0 ? undefined : await readEntry(scope, slot, number, told, signal);
      seen = { number, sinceMs: clock.elapsed(), entry };
    }
    const why = number === 0 ? undefined : mayTakeOver(seen, beganMs, clock.elapsed());
    if (number === 0 || why !== undefined) {
      const claim = scope.newId();
      const taken = await append(scope, slot, claim, number + 1, "working", firstPauseMs, signal);
      if (!taken) continue;
      // What this process gave up before is no news.
      if (why !== undefined && !isOwn(scope, seen.entry)) told.takenOver(why, seen.entry?.by);
      return { kind: "ours", waited, ...hold(scope, slot, claim, number + 1, told) };
    }
    if (!waited && seen.entry !== undefined) told.waiting(seen.entry.by);
    waited = true;
    await clock.sleep(Math.min(pollAtMostMs, (seen.entry?.nextMs ?? firstPauseMs) / 2), signal);
    if ((await store.head(manifestName(slot.lineage, slot.backup), signal)) !== undefined)
      return { kind: "done", ...unclaimed };
  }
}

function isOwn({ author }: ClaimScope, entry: ClaimEntry | undefined): boolean {
  return entry?.by.host === author.host && entry.by.pid === author.pid;
}

function mayTakeOver({ entry, sinceMs }: Seen, beganMs: number, nowMs: number): TakenOverWhy | undefined {
  if (entry === undefined) return "unreadable";
  if (entry.state === "given-up") return "given-up";
  if (nowMs - sinceMs > stalePauses * entry.nextMs) return "stale";
  return nowMs - beganMs > longestWaitMs ? "outlasted" : undefined;
}

/** 0: nobody has claimed it. */
async function highestEntry(scope: ClaimScope, slot: ClaimedSlot, signal: AbortSignal): Promise<number> {
  const start = slotPrefix(scope, slot);
  let highest = 0;
  for await (const { name } of scope.store.list(start, signal)) {
    const number = Number(/^(\d{6})\.json$/.exec(name.slice(start.length))?.[1] ?? 0);
    highest = Math.max(highest, number);
  }
  if (highest >= highestNumber) {
    throw new Fault("manifest-invalid", `${entryName(scope, slot, highestNumber)} leaves no number for a next entry`);
  }
  return highest;
}

/** Undefined for nonsense: anybody who may write to the store can leave it, and it must keep nobody from working. */
async function readEntry(
  scope: ClaimScope,
  slot: ClaimedSlot,
  number: number,
  told: ClaimTold,
  signal: AbortSignal,
): Promise<ClaimEntry | undefined> {
  const name = entryName(scope, slot, number);
  try {
    const entry = readDocument(name, await scope.store.read(name, signal), claimEntry);
    const own = [entry.repository, entry.lineage, entry.backup, entry.number];
    if (own.join(" ") === [slot.repository, slot.lineage, slot.backup, number].join(" ")) return entry;
    throw new Fault("manifest-invalid", `${name} is a claim of ${own.join(" ")}`);
  } catch (error) {
    if (!isFault(error, "manifest-invalid", "store-damaged", "store-object-missing")) throw error;
    told.trouble(`a claim is passed over: ${error.message}`);
    return undefined;
  }
}

/** False when somebody else has written this number. */
async function append(
  scope: ClaimScope,
  { repository, lineage, backup }: ClaimedSlot,
  claim: string,
  number: number,
  state: ClaimEntry["state"],
  nextMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const entry: z.input<typeof claimEntry> = {
    schema: "etcd-lifeboat/claim/v1",
    repository,
    lineage,
    backup,
    number,
    claim,
    id: scope.newId(),
    at: formatInstant(scope.clock.now()),
    by: scope.author,
    state,
    nextMs,
  };
  const name = entryName(scope, { repository, lineage, backup }, number);
  try {
    await scope.store.create(name, writeDocument(entry), signal);
    return true;
  } catch (error) {
    if (!isFault(error, "store-exists")) throw error;
    return false;
  }
}

function hold(scope: ClaimScope, slot: ClaimedSlot, claim: string, first: number, told: ClaimTold): HeldClaim {
  const stop = new AbortController();
  let settled = false;
  const renewing = renew(scope, slot, claim, first, told, stop.signal);
  return {
    settle() {
      settled = true;
    },
    async [Symbol.asyncDispose]() {
      stop.abort(new Fault("interrupted", "the claim ends"));
      const last = await renewing;
      if (!settled && last !== undefined) await giveUp(scope, slot, claim, last + 1, told);
    },
  };
}

/** Resolves, when stopped, with the last number; undefined when somebody else took the claim over. */
async function renew(
  scope: ClaimScope,
  slot: ClaimedSlot,
  claim: string,
  first: number,
  told: ClaimTold,
  stopped: AbortSignal,
): Promise<number | undefined> {
  let number = first;
  let pauseMs = firstPauseMs;
  let troubled = false;
  for (;;) {
    try {
      await scope.clock.sleep(pauseMs, stopped);
      const nextMs = Math.min(longestPauseMs, 2 * pauseMs);
      if (number + 1 >= highestNumber) return number;
      if (!(await append(scope, slot, claim, number + 1, "working", nextMs, stopped))) return undefined;
      number += 1;
      pauseMs = nextMs;
    } catch (error) {
      if (stopped.aborted) return number;
      if (!isFault(error)) throw error;
      if (!troubled) told.trouble(`the claim cannot be renewed: ${error.message}`);
      troubled = true;
    }
  }
}

/** Lets others begin at once. It must not be kept from happening by what ended the run, nor take long. */
async function giveUp(
  scope: ClaimScope,
  slot: ClaimedSlot,
  claim: string,
  number: number,
  told: ClaimTold,
): Promise<void> {
  const late = new AbortController();
  const done = new AbortController();
  const bound = scope.clock
    .sleep(giveUpMs, done.signal)
    .then(() => late.abort(new Fault("store-unreachable", `the store did not answer within ${giveUpMs / 1000} s`)))
    .catch(() => undefined);
  try {
    await append(scope, slot, claim, number, "given-up", firstPauseMs, late.signal);
  } catch (error) {
    if (!isFault(error)) throw error;
    told.trouble(`the claim cannot be given up, and others wait for it: ${error.message}`);
  } finally {
    done.abort(new Fault("interrupted", "done"));
    await bound;
  }
}
