import { readFile, stat } from "node:fs/promises";
import type { Clock } from "../clock.ts";
import { observeCluster, type ClusterFacts } from "../cluster/observe.ts";
import { isFault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import { closedGate, judgeLock } from "../repository/gates.ts";
import { readLock } from "../repository/lock.ts";
import type { EtcdPlace, Service } from "../service/service.ts";
import type {
  EtcdHostFacts,
  HighWater,
  HostFacts,
  LiveFacts,
  LoginFacts,
  PlaceFacts,
  RestoreFacts,
  ServiceFacts,
  SettingsFacts,
  SourceFacts,
} from "./facts.ts";
import type { OpenHost, RestoreDependencies } from "./restore.ts";
import { readStopped } from "./stopped.ts";

/** Looks at everything that a plan depends on, and changes nothing. Hosts and members that do not answer are facts, too. */
export async function observeRestore(
  deps: RestoreDependencies,
  source: SourceFacts,
  highWater: readonly HighWater[],
  login: LoginFacts,
  signal: AbortSignal,
): Promise<RestoreFacts> {
  const building = await placeOf(deps.workDirectory);
  const [live, hosts, lockedOut] = await Promise.all([
    observeLive(deps, signal),
    Promise.all(deps.hosts.map(async (host) => await withStopped(deps, host, building, signal))),
    observeLock(deps, signal),
  ]);
  const configured = deps.hosts.flatMap(({ etcd }) => etcd?.peerUrls ?? []);
  const known = (live.facts?.members ?? source.members).flatMap(({ peerUrls }) => peerUrls);
  // A cluster that does not run yet has its addresses from the configuration: those of the backup are the original's.
  const names = peerNames(live.facts === undefined && configured.length > 0 ? configured : known);
  const resolved = await Promise.all(
    hosts.map((facts, index) => resolveOn(deps.hosts[index]?.host, facts, names, signal)),
  );
  const nowMs = deps.clock.now();
  return {
    cluster: deps.cluster,
    nowMs,
    now: new Date(nowMs).toISOString(),
    source,
    live: live.facts,
    liveFault: live.fault,
    lockedOut,
    highWater,
    hosts: resolved,
    login,
    endpoints: endpointsOf(deps),
  };
}

/** Host names, not addresses, at which members reach each other. */
function peerNames(peerUrls: readonly string[]): readonly string[] {
  const names = peerUrls.map((url) => new URL(url).hostname);
  return [...new Set(names)].filter((name) => /^[a-z0-9][a-z0-9._-]*$/i.test(name) && !/^[0-9.]+$/.test(name));
}

const resolvesWithinMs = 10_000;
/** getent(1): a key was not found. */
const notFound = 2;

/** Names are asked on the host itself, since its etcd asks there; a host without getent is believed. */
async function resolveOn(
  host: Host | undefined,
  facts: HostFacts,
  names: readonly string[],
  signal: AbortSignal,
): Promise<HostFacts> {
  if (host === undefined || facts.etcd === undefined) return facts;
  const unresolved: string[] = [];
  for (const name of names) {
    try {
      const argv: [string, ...string[]] = ["/usr/bin/getent", "ahosts", name];
      const { status } = await host.run(argv, { timeoutMs: resolvesWithinMs, maxOutputBytes: 4096 }, signal);
      if (status === notFound) unresolved.push(name);
    } catch (error) {
      if (signal.aborted || !isFault(error)) throw error;
      return facts;
    }
  }
  return { ...facts, etcd: { ...facts.etcd, unresolved } };
}

function endpointsOf({ observe: { endpoints, overrides } }: RestoreDependencies): readonly string[] {
  const named = [...overrides.values()].flatMap(({ url }) => (url === undefined ? [] : [url]));
  return [...new Set([...endpoints, ...named])];
}

async function observeLock(
  { repository, clock }: RestoreDependencies,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (repository === undefined) return undefined;
  const { lock } = repository;
  return closedGate(judgeLock(await readLock(lock, signal), clock.now()), "restore", lock.describe)?.message;
}

async function observeLive(
  { etcd, observe }: RestoreDependencies,
  signal: AbortSignal,
): Promise<{ readonly facts: LiveFacts | undefined; readonly fault: string | undefined }> {
  try {
    return { facts: liveOf(await observeCluster(etcd, { ...observe, brief: true }, signal)), fault: undefined };
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    return { facts: undefined, fault: error.message };
  }
}

function liveOf({ clusterId, quorum, members, highestRevision }: ClusterFacts): LiveFacts {
  return {
    clusterId,
    quorum,
    highestRevision,
    members: members.map(({ id, name, peerUrls, clientUrls, learner, seen }) => ({
      id,
      name,
      peerUrls,
      clientUrls,
      learner,
      up: seen.up,
      version: seen.up ? seen.status.version : undefined,
      revision: seen.up ? seen.status.revision : undefined,
    })),
  };
}

/** A file system of this machine. */
export interface Place {
  readonly bootId: string;
  readonly device: string;
}

/** Where a directory of this machine lies; undefined where that cannot be told. */
export async function placeOf(directory: string): Promise<Place | undefined> {
  try {
    const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    return { bootId, device: (await stat(directory, { bigint: true })).dev.toString() };
  } catch (error) {
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}

/** A host with what its member left behind, where that does not run. */
async function withStopped(
  { clock, wal }: RestoreDependencies,
  open: OpenHost,
  building: Place | undefined,
  signal: AbortSignal,
): Promise<HostFacts> {
  const facts = await observeHost(open, clock, building, signal);
  if (facts.etcd === undefined || facts.etcd.service.running) return facts;
  try {
    return { ...facts, etcd: { ...facts.etcd, stopped: await readStopped(open, wal, signal) } };
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    const broken = [`its files cannot be looked at, so what it had reached is not known: ${error.message}`];
    const { writtenMs = clock.now() } = facts.etcd;
    return { ...facts, etcd: { ...facts.etcd, stopped: { revision: undefined, logEntries: 0n, writtenMs, broken } } };
  }
}

/** `building`: where this machine builds new data; undefined where it builds none. */
export async function observeHost(
  { host, etcd, services }: OpenHost,
  clock: Clock,
  building: Place | undefined,
  signal: AbortSignal,
): Promise<HostFacts> {
  try {
    const { bootId } = await host.facts(signal);
    return {
      name: host.name,
      fault: undefined,
      bootId,
      etcd:
        etcd === undefined
          ? undefined
          : // Only where the host is this very machine do equal devices say that they are one.
            await observeEtcd(host, etcd, clock, building?.bootId === bootId ? building.device : undefined, signal),
      services: await Promise.all(
        services.map(({ service, ready }) => observeService(service, ready !== undefined, signal)),
      ),
    };
  } catch (error) {
    if (signal.aborted || !isFault(error)) throw error;
    const remedy = error.code === "host-unreachable" ? undefined : (error.hint ?? "look there");
    return { name: host.name, fault: error.message, remedy, bootId: "", etcd: undefined, services: [] };
  }
}

async function observeService(service: Service, tellsReady: boolean, signal: AbortSignal): Promise<ServiceFacts> {
  const { running, heldBy, boots, detail } = await service.state(signal);
  const { name, role, canHold, description, releaseEnables } = service;
  return { name, role, way: description, running, heldBy, canHold, boots, releaseEnables, detail, tellsReady };
}

async function observeEtcd(
  host: Host,
  etcd: NonNullable<OpenHost["etcd"]>,
  clock: Clock,
  buildDevice: string | undefined,
  signal: AbortSignal,
): Promise<EtcdHostFacts> {
  const { dataDirectory, walDirectory } = etcd;
  const places = [dataDirectory, ...["member", "member/wal", "member/snap"].map((part) => `${dataDirectory}/${part}`)];
  const [[data, member, ...inner], database, mountsInside, wal, service] = await Promise.all([
    Promise.all(places.map((path) => host.stat(path, signal))),
    host.stat(`${dataDirectory}/member/snap/db`, signal),
    host.mountsBelow(`${dataDirectory}/member`, signal),
    host.list(walDirectory ?? `${dataDirectory}/member/wal`, signal),
    observeService(etcd.service, false, signal),
  ]);
  const room = data === undefined ? undefined : await host.space(dataDirectory, signal);
  const walRoom = walDirectory === undefined ? room : await host.space(walDirectory, signal);
  return {
    member: etcd.member,
    service,
    dataDirectory,
    walDirectory,
    peerUrls: etcd.peerUrls,
    owner: data?.kind === "directory" ? { uid: data.uid, gid: data.gid, mode: data.mode } : undefined,
    hasMember: member !== undefined,
    unresolved: [],
    memberIsMountPoint: member?.isMountPoint === true,
    mountsInside,
    links: [data, member, ...inner].flatMap((facts, index) =>
      facts?.target === undefined ? [] : [{ path: places[index] ?? "", target: facts.target }],
    ),
    settings: await observeSettings(host, etcd, signal),
    servesElsewhere: service.running && (await servesElsewhere(host, `${dataDirectory}/member/snap/db`, clock, signal)),
    hasWal: wal?.some((name) => name.endsWith(".wal")) === true,
    writtenMs: database?.modifiedMs,
    freeBytes: room?.freeBytes,
    walFreeBytes: walRoom?.freeBytes,
    sameDisk: room !== undefined && room.device === walRoom?.device,
    builtOnDisk: room !== undefined && room.device === buildDevice,
    builtOnWalDisk: walRoom !== undefined && walRoom.device === buildDevice,
  };
}

async function observeSettings(
  host: Host,
  { service, dataDirectory, walDirectory }: NonNullable<OpenHost["etcd"]>,
  signal: AbortSignal,
): Promise<SettingsFacts | undefined> {
  const given = await service.settings?.(signal);
  if (given === undefined) return undefined;
  const placed = async ({ inside, onHost }: EtcdPlace, configured: string | undefined): Promise<PlaceFacts> => {
    const isConfigured =
      onHost !== undefined && configured !== undefined && (await isSame(host, onHost, configured, signal));
    return { inside, onHost, isConfigured };
  };
  const { from, name, data, wal, forceNewCluster } = given;
  return {
    from,
    name,
    data: await placed(data, dataDirectory),
    wal: wal && (await placed(wal, walDirectory)),
    forceNewCluster,
  };
}

/** Whether two paths lead to one directory: the first may be a symbolic link, or below one. */
async function isSame(host: Host, path: string, other: string, signal: AbortSignal): Promise<boolean> {
  if (path === other) return true;
  const [facts, wanted] = [await host.stat(path, signal), await host.stat(other, signal)];
  if (facts === undefined || wanted === undefined) return false;
  return facts.target === other || (facts.device === wanted.device && facts.inode === wanted.inode);
}

/** etcd opens its database first of all; one that has just been started, again and again perhaps, has not done so yet. */
const opensWithinMs = 3_000;

/** Whether an etcd can be seen on the host and none has the database open, now and a while later. Where a process's own directory cannot be seen, neither can its files. */
async function servesElsewhere(host: Host, database: string, clock: Clock, signal: AbortSignal): Promise<boolean> {
  const seen = async (): Promise<readonly string[]> => {
    if ((await host.holders(database, signal)).length > 0) return [];
    const all = await host.processes(signal);
    const visible = all.filter(({ comm, directory, zombie }) => comm === "etcd" && directory !== undefined && !zombie);
    return visible.map(({ pid, startTicks }) => `${pid} ${startTicks}`);
  };
  const first = await seen();
  if (first.length === 0) return false;
  await clock.sleep(opensWithinMs, signal);
  const later = await seen();
  return first.some((one) => later.includes(one));
}
