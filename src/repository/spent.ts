import type { Store } from "../store/store.ts";
import { claimsPrefix, isClaimName } from "./claims.ts";
import { operationsPrefix, parseOperationPiece } from "./names.ts";
import { lockNumber, lockPrefix, mostRead } from "./lock.ts";

/** At most so many go at once: the rest at the next time. */
const atMost = 2000;

/**
 * What daemons agreed by and nobody reads any more: claims whose last entry was stored before `beforeMs` (by the store's clock), and entries of the lock's log
 * from before it that are not among the newest; and copies of the journals of operations that nobody has written to since `operationsBeforeMs`.
 */
export async function listSpent(
  store: Store,
  prefix: string,
  { beforeMs, operationsBeforeMs }: { readonly beforeMs: number; readonly operationsBeforeMs: number },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const claims = new Map<string, { readonly names: string[]; newestMs: number }>();
  for await (const { name, modifiedMs } of store.list(claimsPrefix(prefix), signal)) {
    if (!isClaimName(prefix, name)) continue;
    const slot = name.slice(0, name.lastIndexOf("/"));
    const claim = claims.get(slot) ?? { names: [], newestMs: 0 };
    claim.names.push(name);
    claim.newestMs = Math.max(claim.newestMs, modifiedMs);
    claims.set(slot, claim);
  }
  const entries: { readonly name: string; readonly modifiedMs: number }[] = [];
  for await (const entry of store.list(lockPrefix(prefix), signal)) {
    if (lockNumber(prefix, entry.name) !== undefined) entries.push(entry);
  }
  const journals = new Map<string, { readonly names: string[]; newestMs: number }>();
  for await (const { name, modifiedMs } of store.list(operationsPrefix, signal)) {
    const operation = parseOperationPiece(name)?.operation;
    if (operation === undefined) continue;
    const journal = journals.get(operation) ?? { names: [], newestMs: 0 };
    journal.names.push(name);
    journal.newestMs = Math.max(journal.newestMs, modifiedMs);
    journals.set(operation, journal);
  }
  const spent = [
    ...[...claims.values()].filter(({ newestMs }) => newestMs < beforeMs).flatMap(({ names }) => names),
    ...entries
      .slice(0, -mostRead)
      .filter(({ modifiedMs }) => modifiedMs < beforeMs)
      .map(({ name }) => name),
    // Its beginning first: without that the rest tells nothing, and is never taken for something unfinished.
    ...[...journals.values()]
      .filter(({ newestMs }) => newestMs < operationsBeforeMs)
      .flatMap(({ names }) => names.toSorted()),
  ];
  return spent.slice(0, atMost);
}
