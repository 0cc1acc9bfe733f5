import type { ClientCalls } from "../etcd/etcd.ts";

/**
 * Whether clients still talk to a member, judged by its own counters over a window: what a list of processes cannot show is an API server on a host that nobody
 * listed. An idle kube-apiserver writes a lease every 10 seconds and keeps watches open, so a window of 25 seconds with neither is silence (measured on 1.34).
 */
export interface Quiet {
  readonly quiet: boolean;
  /** What was seen of clients, in words; also what is no reason to stop, such as reads. */
  readonly seen: readonly string[];
  /** What was seen is nothing but reads, as a look at a member's health makes them too: no API server is that modest. */
  readonly onlyReads: boolean;
}

/** What a window of silence must last at least, milliseconds: two and a half times the longest gap of an idle API server. */
export const quietWindowMs = 25_000;

/** Judges the counters of one member at the start and at the end of a window. Undefined: they could not be read then. */
export function judgeQuiet(member: string, first: ClientCalls | undefined, last: ClientCalls | undefined): Quiet {
  if (first === undefined || last === undefined) {
    return { quiet: false, seen: [`${member} does not show its counters of client calls`], onlyReads: false };
  }
  const seen: string[] = [];
  if (restarted(first, last)) return { quiet: false, seen: [`${member} was restarted meanwhile`], onlyReads: false };
  const made = last.calls - first.calls;
  if (made > 0) seen.push(`${member} answered ${made} client calls (${describeCalls(first, last)})`);
  if (last.watchers > 0) seen.push(`${member} has ${last.watchers} open watches`);
  if (last.openStreams > 0) seen.push(`${member} has ${last.openStreams} open streams of watches or leases`);
  const reads = (last.byMethod.get("Range") ?? 0) - (first.byMethod.get("Range") ?? 0);
  const onlyReads = made > 0 && made === reads && last.watchers <= 0 && last.openStreams <= 0;
  return { quiet: seen.length === 0, seen, onlyReads };
}

function restarted(first: ClientCalls, last: ClientCalls): boolean {
  return first.startedSeconds !== last.startedSeconds || last.calls < first.calls;
}

function describeCalls(first: ClientCalls, last: ClientCalls): string {
  return [...last.byMethod]
    .map(([method, count]) => [method, count - (first.byMethod.get(method) ?? 0)] as const)
    .filter(([, count]) => count > 0)
    .toSorted(([, a], [, b]) => b - a)
    .map(([method, count]) => `${method} ${count}`)
    .join(", ");
}

/** True when no client was ever answered by this process: not one call, and no stream. Nothing of ours calls KV on a restored member. */
export function neverCalled({ calls, openStreams, watchers }: ClientCalls): boolean {
  return calls === 0 && openStreams === 0 && watchers === 0;
}
