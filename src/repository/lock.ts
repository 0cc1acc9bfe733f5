import { hostname, userInfo } from "node:os";
import { z } from "zod";
import type { Clock } from "../clock.ts";
import { Fault, isFault } from "../faults.ts";
import type { ObjectEntry, Store } from "../store/store.ts";
import { authorField, formatInstant, readDocument, timeField, ulidField, writeDocument } from "./documents.ts";
import {
  closedGate,
  describeAuthor,
  judgeLock,
  renewEveryMs,
  type Author,
  type DamagedEntry,
  type Describe,
  type Holder,
  type LockLog,
  type Operation,
  type Pause,
} from "./gates.ts";

/**
 * The operation lock: a log of numbered objects that are created and never changed or removed, so that it works for a writer that may not delete, and in
 * a versioned or locked bucket. Each entry carries the whole state after it; whoever creates the next number first has decided. It is not signed:
 * whoever may write to the store can stop backups in many ways, and the manifests, not the lock, keep them true.
 */

const reasonLength = 500;

const lockEntry = z.strictObject({
  schema: z.literal("etcd-lifeboat/lock/v1"),
  /** A log that was copied from another cluster's repository is not this one's. */
  cluster: z.string(),
  number: z.int().positive(),
  /** Makes the bytes of each entry its own, so that a create whose answer was lost is known to be ours. */
  id: ulidField,
  at: timeField,
  action: z.enum(["acquire", "renew", "release", "pause", "resume", "unlock"]),
  by: authorField,
  /** Who holds the lock after this entry. */
  holder: z
    .strictObject({
      id: ulidField,
      operation: z.enum(["restore", "upgrade", "defragment", "scan"]),
      by: authorField,
      since: timeField,
      renewed: timeField,
      lapses: z.boolean(),
    })
    .nullable(),
  /** Whether the repository is paused after this entry. */
  paused: z.strictObject({ by: authorField, since: timeField, reason: z.string().max(reasonLength) }).nullable(),
});
type LockEntry = z.output<typeof lockEntry>;

/** What everything about the lock needs. */
export interface LockScope {
  readonly store: Store;
  /** `cluster.name` of the configuration. */
  readonly cluster: string;
  /** `repository.coordination.prefix`. */
  readonly prefix: string;
  readonly clock: Pick<Clock, "now" | "sleep">;
  /** A new ULID. */
  readonly newId: () => string;
  readonly author: Author;
  readonly describe: Describe;
}

/** The process that runs this, for people. */
export function localAuthor(version: string): Author {
  return { host: hostname().slice(0, 200), user: userName().slice(0, 200), pid: process.pid, version };
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.geteuid?.() ?? "unknown"}`; // a user without an entry, as in a container
  }
}

/** A renewal a minute reaches it in 1900 years: a name above it is nonsense, and would use up all numbers. */
const highestNumber = 999_999_999;
/** So many entries at the end that cannot be read are somebody's work, not damage; earlier ones are never read. */
export const mostRead = 16;

/** Where the log is. */
export function lockPrefix(prefix: string): string {
  return `${prefix}/lock/`;
}

function entryName(prefix: string, number: number): string {
  return `${lockPrefix(prefix)}${String(number).padStart(9, "0")}.json`;
}

/** Undefined for a name that does not fit the grammar: it is nobody's of us. */
export function lockNumber(prefix: string, name: string): number | undefined {
  const digits = /^(\d{9})\.json$/.exec(name.slice(lockPrefix(prefix).length))?.[1];
  return Number(digits ?? 0) > 0 ? Number(digits) : undefined;
}

/** Reads the end of the log. Entries that cannot be read are part of the answer; a store that does not answer is a Fault. */
export async function readLock(scope: LockScope, signal: AbortSignal): Promise<LockLog> {
  const { store } = scope;
  const last = await lastEntries(scope, signal);
  const highest = last.at(-1)?.number ?? 0;
  const damaged: DamagedEntry[] = [];
  for (const { name, number, modifiedMs } of last.toReversed()) {
    try {
      const entry = readDocument(name, await store.read(name, signal), lockEntry);
      refuseStrange(scope, name, number, entry);
      return { highest, damaged, ...stateOf(entry) };
    } catch (error) {
      if (!isFault(error, "manifest-invalid", "store-damaged", "store-object-missing")) throw error;
      damaged.push({ name, modifiedMs, why: error.message });
    }
  }
  return { highest, damaged, holder: undefined, paused: undefined };
}

type NumberedEntry = ObjectEntry & { readonly number: number };

/** So many are listed in any case: a store's page. */
const listedAtOnce = 1000;

/** The last entries, ascending. A log that has grown for years is not listed as a whole: where its end is, is found by asking what comes after a number. */
async function lastEntries(scope: LockScope, signal: AbortSignal): Promise<readonly NumberedEntry[]> {
  let listed = await listAfter(scope, 0, listedAtOnce, signal);
  while (listed.length === listedAtOnce) {
    // Ends: each turn begins further on, and numbers end.
    let low = listed.at(-1)?.number ?? 0;
    for (let stride = listedAtOnce; low + stride < highestNumber; stride *= 2) {
      if ((await listAfter(scope, low + stride, 1, signal)).length === 0) break;
      low += stride;
    }
    listed = await listAfter(scope, Math.max(0, low - mostRead), listedAtOnce, signal);
  }
  return listed.slice(-mostRead);
}

async function listAfter(
  { store, prefix }: LockScope,
  number: number,
  most: number,
  signal: AbortSignal,
): Promise<readonly NumberedEntry[]> {
  const range = number === 0 ? lockPrefix(prefix) : { prefix: lockPrefix(prefix), after: entryName(prefix, number) };
  const entries: NumberedEntry[] = [];
  for await (const entry of store.list(range, signal)) {
    const number = lockNumber(prefix, entry.name);
    // Names sort as their numbers do.
    if (number !== undefined) entries.push({ ...entry, number });
    if (entries.length >= most) break;
  }
  return entries;
}

function refuseStrange({ cluster }: LockScope, name: string, number: number, entry: LockEntry): void {
  if (entry.cluster !== cluster) {
    throw new Fault("manifest-invalid", `${name} is of the lock of cluster "${entry.cluster}", not of "${cluster}"`);
  }
  if (entry.number !== number) throw new Fault("manifest-invalid", `${name} says that it is number ${entry.number}`);
}

function stateOf({ holder, paused }: LockEntry): { holder: Holder | undefined; paused: Pause | undefined } {
  return {
    holder:
      holder === null
        ? undefined
        : { ...holder, sinceMs: Date.parse(holder.since), renewedMs: Date.parse(holder.renewed) },
    paused: paused === null ? undefined : { ...paused, sinceMs: Date.parse(paused.since) },
  };
}

/** What the next entry is to say; undefined: nothing needs to change. */
type Change = (log: LockLog, nowMs: number) => Next | undefined;
interface Next {
  readonly action: LockEntry["action"];
  readonly holder: Holder | undefined;
  readonly paused: Pause | undefined;
}

/** Each try lost means that somebody else's entry was written, so this many lost in a row are no accident. */
const mostTries = 20;

/** Writes the next entry, once: whoever was faster is read first, and the change is thought over. Gives what was before, and whether anything changed. */
async function append(
  scope: LockScope,
  change: Change,
  signal: AbortSignal,
): Promise<{ readonly before: LockLog; readonly changed: boolean }> {
  for (let tries = 0; tries < mostTries; tries += 1) {
    const before = await readLock(scope, signal);
    const nowMs = scope.clock.now();
    const next = change(before, nowMs);
    if (next === undefined) return { before, changed: false };
    const number = before.highest + 1;
    if (number > highestNumber) throw usedUp(scope);
    try {
      await scope.store.create(entryName(scope.prefix, number), writeEntry(scope, number, nowMs, next), signal);
      return { before, changed: true };
    } catch (error) {
      if (!isFault(error, "store-exists")) throw error;
    }
  }
  throw new Fault("failed", `the lock's log was written by others ${mostTries} times in a row`, {
    hint: `look at what writes below ${scope.prefix}/lock/ in ${scope.store.description}`,
  });
}

function usedUp({ prefix, store }: LockScope): Fault {
  return new Fault(
    "lock-damaged",
    `${entryName(prefix, highestNumber)} in ${store.description} leaves no number for a next entry`,
    {
      hint: "nobody of us wrote it: remove it; in a locked bucket give every daemon another repository.coordination.prefix",
    },
  );
}

function writeEntry(scope: LockScope, number: number, nowMs: number, next: Next): Uint8Array {
  const { holder, paused } = next;
  const entry: z.input<typeof lockEntry> = {
    schema: "etcd-lifeboat/lock/v1",
    cluster: scope.cluster,
    number,
    id: scope.newId(),
    at: formatInstant(nowMs),
    action: next.action,
    by: scope.author,
    holder:
      holder === undefined
        ? null
        : {
            id: holder.id,
            operation: holder.operation,
            by: holder.by,
            since: formatInstant(holder.sinceMs),
            renewed: formatInstant(holder.renewedMs),
            lapses: holder.lapses,
          },
    paused:
      paused === undefined ? null : { by: paused.by, since: formatInstant(paused.sinceMs), reason: paused.reason },
  };
  return writeDocument(entry);
}

/** Stops backups, expiry and scans of all daemons until `resumeRepository`. Gives the pause that was there already, which then stays as it is. */
export async function pauseRepository(
  scope: LockScope,
  reason: string,
  signal: AbortSignal,
): Promise<Pause | undefined> {
  if (reason.length > reasonLength) {
    throw new Fault("usage", `the reason has ${reason.length} characters, and at most ${reasonLength} are kept`);
  }
  const { before } = await append(
    scope,
    ({ holder, paused }, nowMs) =>
      paused === undefined
        ? { action: "pause", holder, paused: { by: scope.author, sinceMs: nowMs, reason } }
        : undefined,
    signal,
  );
  return before.paused;
}

/** Ends a pause; gives it, or undefined where there was none. */
export async function resumeRepository(scope: LockScope, signal: AbortSignal): Promise<Pause | undefined> {
  const { before } = await append(
    scope,
    ({ holder, paused }) => (paused === undefined ? undefined : { action: "resume", holder, paused: undefined }),
    signal,
  );
  return before.paused;
}

/**
 * Takes the lock away from whoever holds it, and puts a readable entry above what cannot be read; a pause stays. Only what was looked at is unlocked: it
 * rejects with `locked` when the log has grown since.
 */
export async function unlockRepository(scope: LockScope, seen: LockLog, signal: AbortSignal): Promise<void> {
  await append(
    scope,
    (log) => {
      const same = log.holder?.id === seen.holder?.id && log.damaged[0]?.name === seen.damaged[0]?.name;
      if (!same) {
        throw new Fault("locked", "the lock has changed since it was shown", {
          hint: "look again: etcd-lifeboat lock show",
        });
      }
      return { action: "unlock", holder: undefined, paused: log.paused };
    },
    signal,
  );
}

/** A lock that is held and renewed until it is disposed, which releases it. */
export interface HeldLock extends AsyncDisposable {
  /** Aborted with a Fault when the lock was taken away or could not be renewed for too long. */
  readonly lost: AbortSignal;
}

/** The lock of an operation that can stop amid changes and go on in another process. */
export interface OperationLock extends HeldLock {
  /** Renews it no more and leaves it held; it is taken up again under the same id. */
  abandon(): Promise<void>;
}

/**
 * Takes the lock for an operation; rejects with `locked`, `paused` or `lock-damaged` when it may not begin. `lapses`: whether another may take it over
 * when this process dies; what leaves a cluster half-changed must not lapse. `own` is the operation's ULID: a lock that is
 * held under it is its own, from an earlier process, and is taken up again.
 */
export async function acquireLock(
  scope: LockScope,
  operation: Operation,
  lapses: boolean,
  signal: AbortSignal,
  own?: string,
): Promise<OperationLock> {
  const id = own ?? scope.newId();
  await append(
    scope,
    (log, nowMs) => {
      if (own !== undefined && log.holder?.id === own && log.damaged.length === 0) {
        return { action: "renew", holder: { ...log.holder, by: scope.author, renewedMs: nowMs }, paused: log.paused };
      }
      const closed = closedGate(judgeLock(log, nowMs), operation, scope.describe);
      if (closed !== undefined) throw closed;
      const holder = { id, operation, by: scope.author, sinceMs: nowMs, renewedMs: nowMs, lapses };
      return { action: "acquire", holder, paused: log.paused };
    },
    signal,
  );
  const lost = new AbortController();
  const released = new AbortController();
  const renewing = renewUntil(scope, id, lapses, lost, released.signal);
  return {
    lost: lost.signal,
    async abandon() {
      released.abort();
      await renewing;
    },
    async [Symbol.asyncDispose]() {
      released.abort();
      await renewing;
      await append(
        scope,
        ({ holder, paused }) =>
          holder?.id === id && isSame(holder.by, scope.author)
            ? { action: "release", holder: undefined, paused }
            : undefined,
        // A release must not be kept from happening by what ended the operation; the store's own bounds end it.
        new AbortController().signal,
      );
    },
  };
}

/**
 * Renews until released. The lock is lost when somebody else has it; one that lapses also when no renewal went through before others think us dead. One that does not
 * lapse is nobody else's for as long as a store does not answer: an operation amid changes goes on.
 */
async function renewUntil(
  scope: LockScope,
  id: string,
  lapses: boolean,
  lost: AbortController,
  released: AbortSignal,
): Promise<void> {
  let renewedMs = scope.clock.now();
  while (!released.aborted && !lost.signal.aborted) {
    try {
      await scope.clock.sleep(renewEveryMs, released);
      await append(
        scope,
        ({ holder, paused }, nowMs) => {
          if (holder?.id !== id) throw new Fault("locked", "the lock was taken away from this operation");
          if (!isSame(holder.by, scope.author))
            throw new Fault("locked", `${describeAuthor(holder.by)} goes on with this operation`);
          return { action: "renew", holder: { ...holder, renewedMs: nowMs }, paused };
        },
        released,
      );
      renewedMs = scope.clock.now();
    } catch (error) {
      if (released.aborted) return;
      if (!isFault(error)) throw error;
      if (error.code === "locked") lost.abort(error);
      else if (lapses && scope.clock.now() - renewedMs > 3 * renewEveryMs) {
        lost.abort(new Fault("locked", `the lock could not be renewed: ${error.message}`, { cause: error }));
      }
    }
  }
}

/** Of one operation, the process that took its lock up last is the one that goes on with it. */
function isSame(one: Author, other: Author): boolean {
  return one.host === other.host && one.pid === other.pid;
}
