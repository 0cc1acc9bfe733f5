import { createHash, X509Certificate } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { GivenLogin, HostParts, RestoreParts, SurvivorParts, Tools } from "./cli/tools.ts";
import { systemClock } from "./clock.ts";
import type { Host as HostConfig, ServiceWay } from "./config/hosts.ts";
import type { Config } from "./config/schema.ts";
import { readSecret } from "./config/secrets.ts";
import type { DataDirectoryBuilder } from "./datadir/datadir.ts";
import { etcdutlBuilder } from "./datadir/etcdutl.ts";
import { lifeboatBuilder } from "./datadir/lifeboat.ts";
import { readWal } from "./datadir/read-wal.ts";
import { encodeCommit } from "./datadir/wal.ts";
import type { Emit } from "./events.ts";
import { stepFailpoint } from "./failpoints.ts";
import { Fault } from "./faults.ts";
import type { Host } from "./host/host.ts";
import { openLocalHost } from "./host/local.ts";
import { askReady } from "./compose-ready.ts";
import { describeAuthor, type Author } from "./repository/gates.ts";
import { hostMirror, storeMirror } from "./restore/mirrors.ts";
import type { HostDependencies, OpenHost, RestoreDependencies, RestoredLogin } from "./restore/restore.ts";
import type { Source } from "./restore/source.ts";
import { survivorSource } from "./restore/survivor.ts";
import { openJournalFiles } from "./runbook/journal-file.ts";
import { runHook, type HookDependencies } from "./runbook/hooks.ts";
import type { MirroredJournals } from "./runbook/journal.ts";
import type { JsonObject } from "./runbook/runbook.ts";
import type { StockRestorers } from "./stock/stock.ts";
import { openLocalTools } from "./stock/local.ts";
import { openCommandService } from "./service/command.ts";
import type { Service, ServiceRole } from "./service/service.ts";
import { redactWhole } from "./telemetry/redact.ts";
import { openStaticPod } from "./service/static-pod.ts";
import { openSystemdService } from "./service/systemd.ts";
import { runTask } from "./workers/worker.ts";

/** The part of the composition root that restore and upgrade need: hosts, their services, journals, builders. */

/** An API server with watches open lives 60 s after SIGTERM (measured on 1.34), and a large database takes etcd as long to open. */
const patienceMs = 180_000;

export function openJournals(
  { operations, hosts }: Config,
  store: Tools["store"] | undefined,
  author: Author,
  emit: Emit,
): MirroredJournals {
  const onHosts = Object.entries(hosts).map(([name, { stateDirectory }]) =>
    hostMirror(openLocalHost(name), stateDirectory),
  );
  const mirrors = [...onHosts, ...(store === undefined ? [] : [storeMirror(store)])];
  return openJournalFiles({ directory: operations.directory, mirrors, by: describeAuthor(author), emit });
}

function workDirectoryOf({ operations }: Config, id: string): string {
  return join(operations.directory, `${id}.work`);
}

/** Removes what a restore that was not begun had fetched. */
export async function removeWork(config: Config, id: string): Promise<void> {
  await rm(workDirectoryOf(config, id), { recursive: true, force: true });
}

/** What every operation on the hosts works with. */
export async function openHosts(
  config: Config,
  tools: Pick<Tools, "backup" | "lock" | "clock">,
  parts: HostParts,
): Promise<HostDependencies> {
  const backup = await tools.backup(parts.emit);
  return {
    cluster: config.cluster.name,
    etcd: backup.etcd,
    observe: backup.observe,
    hosts: Object.entries(config.hosts).map(([name, host]) => openHost(name, host)),
    // The operation holds the lock that keeps scans apart: its own backups need no other.
    repository:
      parts.repository === undefined
        ? undefined
        : { id: parts.repository, lock: await tools.lock(), backup: { ...backup, holdScan: undefined } },
    hook: async (phase, facts, signal) => await runConfiguredHook(config, phase, facts, parts.emit, signal),
    clock: tools.clock,
    emit: parts.emit,
    failpoint: stepFailpoint,
    patienceMs,
  };
}

/** What a restore works with, from the configuration and what the command chose. */
export async function openRestore(
  config: Config,
  tools: Pick<Tools, "backup" | "lock" | "clock" | "etcdAs">,
  parts: RestoreParts,
  env: Readonly<Record<string, string | undefined>>,
): Promise<RestoreDependencies> {
  const hosts = await openHosts(config, tools, parts);
  return {
    ...hosts,
    restored: parts.login === undefined ? hosts.etcd : tools.etcdAs(parts.login),
    login: await openLogin(config, parts.login, env),
    source: parts.source,
    builder: openBuilder(parts.builder, () =>
      openLocalTools({ directory: parts.toolDirectory, path: env["PATH"] ?? "" }),
    ),
    wal: { read: readWal },
    survey: (path, signal) => runTask({ kind: "survey-kubernetes", path }, signal),
    workDirectory: workDirectoryOf(config, parts.id),
  };
}

/** Who asks the restored members: whom the command names, else whom the configuration does. */
async function openLogin(
  { cluster: { auth, tls } }: Config,
  given: GivenLogin | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<RestoredLogin> {
  const by = given !== undefined ? "given" : auth !== undefined ? "password" : "certificate";
  const username = given?.username ?? auth?.username ?? (await commonNameOf(tls?.cert));
  const secret = given === undefined ? auth?.password : { file: given.passwordFile };
  return {
    username,
    by,
    passwordFile: given?.passwordFile,
    async prove(path, signal) {
      const password = secret === undefined ? undefined : (await readSecret(secret, env)).reveal();
      return await runTask({ kind: "prove-login", path, username, password }, signal);
    },
  };
}

/** etcd's own rule: the CN of a client certificate is a user's name. Undefined where there is none; what else is wrong with it is told where it is used. */
async function commonNameOf(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    const { subject } = new X509Certificate(await readFile(path));
    return subject
      .split("\n")
      .find((line) => line.startsWith("CN="))
      ?.slice(3);
  } catch (error) {
    if (error instanceof Error && "code" in error) return undefined;
    throw error;
  }
}

/** The data of a member that survived; `usage` when no host of the configuration carries it. */
export async function openSurvivor(
  config: Config,
  tools: Pick<Tools, "backup" | "clock" | "scanAny">,
  { member, minor, toolDirectory }: SurvivorParts,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
): Promise<Source> {
  const carriers = Object.entries(config.hosts).filter(([, { etcd }]) => etcd !== undefined);
  const found = carriers.find(([, { etcd }]) => etcd?.member === member);
  const { host, etcd: at } = found === undefined ? {} : openHost(...found);
  if (host === undefined || at === undefined) {
    throw new Fault("usage", `no host of the configuration carries a member "${member}"`, {
      hint: `there are: ${carriers.map(([, { etcd }]) => etcd?.member).join(", ")}`,
    });
  }
  const { etcd, observe } = await tools.backup(() => undefined);
  const stock = openLocalTools({ directory: toolDirectory, path: env["PATH"] ?? "" });
  const { scanAny: scan, clock } = tools;
  const wal = { read: readWal, commitRecord: encodeCommit };
  return await survivorSource({ host, at, etcd, observe, scan, stock, wal, minor, clock }, signal);
}

function openHost(name: string, config: HostConfig): OpenHost {
  const host = openLocalHost(name);
  const { etcd } = config;
  return {
    host,
    etcd:
      etcd === undefined
        ? undefined
        : {
            member: etcd.member,
            service: openService(host, config, "etcd", "etcd", etcd.service, etcd.environmentFile),
            dataDirectory: etcd.dataDirectory,
            walDirectory: etcd.walDirectory,
            peerUrls: etcd.peerUrls,
          },
    services: config.services.map(({ name: service, role, way, ...asked }) => ({
      service: openService(host, config, service, role, way),
      ...((asked.ready ?? asked.read) !== undefined && {
        ready: async (signal: AbortSignal) => await askReady(asked, signal),
      }),
    })),
  };
}

function openService(
  host: Host,
  { stateDirectory, manifests }: HostConfig,
  name: string,
  role: ServiceRole,
  way: ServiceWay,
  environmentFile?: string,
): Service {
  switch (way.kind) {
    case "command":
      return openCommandService(host, {
        ...way,
        name,
        role,
        stateDirectory,
        environmentFile,
        redact: redactWhole,
        digest: (text) => createHash("sha256").update(text).digest("hex").slice(0, 8),
      });
    case "systemd":
      return openSystemdService(host, {
        name,
        role,
        unit: way.unit,
        redact: redactWhole,
        environment: environmentFile === undefined ? undefined : { path: environmentFile, stateDirectory },
      });
    case "static-pod":
      return openStaticPod(host, { name, role, pod: way.pod, manifests });
  }
}

function openBuilder(name: string | undefined, stock: () => StockRestorers): DataDirectoryBuilder {
  if (name === undefined || name === "lifeboat") return lifeboatBuilder();
  if (name === "etcdutl") return etcdutlBuilder(stock());
  throw new Fault("usage", `there is no builder "${name}"`, { hint: "there are: lifeboat, etcdutl" });
}

/** Runs the hook of a phase on this machine, where one is configured. */
export async function runConfiguredHook(
  { hooks }: Pick<Config, "hooks">,
  phase: string,
  facts: JsonObject,
  emit: Emit,
  signal: AbortSignal,
): Promise<string | undefined> {
  const hook = Object.entries(hooks).find(([name]) => name === phase)?.[1];
  if (hook === undefined) return undefined;
  const deps: HookDependencies = {
    run: async ({ argv, timeoutMs }, options, stop) =>
      await openLocalHost("this machine").run(argv, { ...options, timeoutMs, keepEnd: true }, stop),
    redact: redactWhole,
    emit,
    clock: systemClock,
  };
  return await runHook(phase, hook, facts, deps, signal);
}
