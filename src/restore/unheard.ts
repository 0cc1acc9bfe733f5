import type { MemberAddress } from "../etcd/etcd.ts";
import { Fault } from "../faults.ts";
import type { ConnectionFacts, Host } from "../host/host.ts";
import type { OpenHost } from "./restore.ts";
import type { RestoreWork } from "./work.ts";

/**
 * Members whose etcd runs on its host, and whose counters nobody can read from here: overloaded, behind a broken network, waiting for a quorum, or falling over again
 * and again. Who talks to them is seen only on their hosts, by who stays connected.
 */

/** A host whose etcd runs. */
export interface RunningEtcd {
  readonly open: OpenHost;
  readonly member: string;
  readonly pids: ReadonlySet<number>;
}

/** Where etcd runs: by its service, or by whoever has its database open. */
export async function runningEtcds(
  { deps }: RestoreWork,
  left: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<readonly RunningEtcd[]> {
  const found = await Promise.all(
    deps.hosts.map(async (open): Promise<readonly RunningEtcd[]> => {
      const { host, etcd } = open;
      if (etcd === undefined || left.has(host.name)) return [];
      const { running, pids } = await etcd.service.state(signal);
      const holders = await host.holders(`${etcd.dataDirectory}/member/snap/db`, signal);
      if (!running && holders.length === 0) return [];
      return [{ open, member: etcd.member, pids: new Set([...pids, ...holders]) }];
    }),
  );
  return found.flat();
}

/** Longer than a look of a daemon at a member that hangs, shorter than an API server waits before it connects again. */
const staysMs = 15_000;
const lookEveryMs = 2_000;

/**
 * Watches over the window whether a client stays connected to one of them; gives what was seen, in words. With quorum also one that only listens is told: it may
 * answer clients that nobody hears.
 */
export async function watchUnheard(
  work: RestoreWork,
  unheard: readonly RunningEtcd[],
  quorum: boolean,
  windowMs: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  if (unheard.length === 0) return [];
  const { clock } = work.deps;
  const watched = await Promise.all(unheard.map(async (one) => ({ ...one, ports: await portsOf(work, one, signal) })));
  const since = new Map<string, number>();
  const began = clock.elapsed();
  for (;;) {
    const nowMs = clock.elapsed();
    const seen = new Set<string>();
    for (const { open, member, ports } of watched) {
      const { host } = open;
      const listens = (await host.listeners(signal)).some(({ port }) => ports.has(port));
      if (quorum && listens) return [`${member} runs and listens on ${host.name}, and does not show its counters`];
      for (const port of ports)
        for (const from of await clientsOf(host, port, signal)) seen.add(`${from} is connected to ${member}`);
    }
    for (const one of seen) if (!since.has(one)) since.set(one, nowMs);
    // One that was gone in between begins anew.
    for (const one of since.keys()) if (!seen.has(one)) since.delete(one);
    const stays = [...since].filter(([, sinceMs]) => nowMs - sinceMs >= Math.min(staysMs, windowMs / 2));
    if (stays.length > 0) return stays.slice(0, 20).map(([one]) => one);
    const leftMs = windowMs - (nowMs - began);
    if (leftMs <= 0) return [];
    await clock.sleep(Math.min(leftMs, lookEveryMs), signal);
  }
}

/** Where clients reach it: as the members were listed, or as was configured; else wherever it listens but for its peers. */
async function portsOf(
  { deps, facts }: RestoreWork,
  { open, member, pids }: RunningEtcd,
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const of = (urls: readonly string[]): readonly number[] => urls.map(portOf);
  const url = deps.observe.overrides.get(member)?.url;
  const known = of([
    ...(facts.clientUrls.find(({ name }) => name === member)?.urls ?? []),
    ...(url === undefined ? [] : [url]),
  ]);
  if (known.length > 0) return new Set(known);
  const peers = of(facts.members.find(({ name }) => name === member)?.peerUrls ?? []);
  const listening = await open.host.listeners(signal);
  const own = listening.filter(({ port, pid }) => pid !== undefined && pids.has(pid) && !peers.includes(port));
  return new Set(own.map(({ port }) => port));
}

export function portOf(url: string): number {
  const { port, protocol } = new URL(url);
  return port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
}

/** Who is connected to a port, but for the process behind it itself: etcd's gateway is a client of its own. */
async function clientsOf(host: Host, port: number, signal: AbortSignal): Promise<readonly string[]> {
  const clients: string[] = [];
  for (const connection of await host.connections(port, signal)) {
    const { remoteAddress, remotePort } = connection;
    if (!(await isOwn(host, port, connection, signal))) clients.push(`${remoteAddress}:${remotePort}`);
  }
  return clients;
}

async function isOwn(
  host: Host,
  port: number,
  { remotePort, pid }: ConnectionFacts,
  signal: AbortSignal,
): Promise<boolean> {
  if (pid === undefined) return false;
  const others = await host.connections(remotePort, signal);
  return others.some((other) => other.remotePort === port && other.pid === pid);
}

/** What nobody hears is refused; it can always be made certain, since these members are to be stopped anyway. */
export function unheardFault(said: readonly string[], unheard: readonly RunningEtcd[]): Fault {
  const where = unheard.map(({ open, member }) => `${member} on ${open.host.name}`).join(", ");
  return new Fault("clients-talk", `somebody may still talk to etcd, and cannot be heard: ${said.join("; ")}`, {
    hint: `stop that client, or stop the etcd of ${where} by hand (it is to be stopped anyway); then resume, or roll back`,
  });
}

/** Those that run and were not among the members that answer. */
export function unheardOf(
  running: readonly RunningEtcd[],
  answering: readonly MemberAddress[],
): readonly RunningEtcd[] {
  return running.filter(({ member }) => !answering.some(({ name }) => name === member));
}
