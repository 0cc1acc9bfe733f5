import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../src/clock.ts";
import { readWal } from "../../src/datadir/read-wal.ts";
import type { Etcd } from "../../src/etcd/etcd.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault, throwIfAborted } from "../../src/faults.ts";
import type { Store } from "../../src/store/store.ts";
import { formatId } from "../../src/repository/documents.ts";
import { createLineage } from "../../src/repository/lineage.ts";
import { createRepository } from "../../src/repository/identity.ts";
import type { LockScope } from "../../src/repository/lock.ts";
import { refuseBehind } from "../../src/restore/behind.ts";
import type { HookPhase } from "../../src/restore/facts.ts";
import type { OpenHost, RestoreDependencies } from "../../src/restore/restore.ts";
import { executeRestore, prepareRestore, refuseStalePlan } from "../../src/restore/run.ts";
import type { Source } from "../../src/restore/source.ts";
import type { JournalRecord, Journals } from "../../src/runbook/journal.ts";
import type { Outcome, RunbookMode, RunbookPlan } from "../../src/runbook/runbook.ts";
import { needsRejoin, standingOf } from "../../src/runbook/standing.ts";
import { openSystemdService } from "../../src/service/systemd.ts";
import { defaultDrainLimits } from "../../src/snapshot/drain.ts";
import { openSpool } from "../../src/snapshot/spool.ts";
import { steeredClock } from "../fakes/clock.ts";
import { fakeBuilder } from "../fakes/datadir.ts";
import { fakeEtcd, type FakeMember } from "../fakes/etcd.ts";
import { fakeHost, type FakeHost } from "../fakes/host.ts";
import { fakeJournals } from "../fakes/journal.ts";
import { memoryStore } from "../fakes/store.ts";
import { fakeSystemd } from "../fakes/systemctl.ts";
import { database, scanned } from "../snapshot/rig.ts";
import { describe, nowMs, request, sourceFacts } from "./facts.ts";

/**
 * A cluster in memory that a real restore is executed on: hosts, their systemd, etcd as its data directories make it, API servers that read and write whenever they
 * run, a repository. Whatever the restore does to it, or asks of it, is an instant at which the process may die; at each the invariants are looked at.
 */

/** The process died here: nothing that it does afterwards counts. */
class Death extends Error {}

export interface ModelOptions {
  /** Names of peer URLs that no host can turn into an address. */
  readonly nameless?: readonly string[];
  readonly members: 1 | 3;
  /** The log has a directory of its own. */
  readonly walDirectory?: boolean;
  /** A lock, a lineage and backups before and after; without it the restore is from a file. */
  readonly repository?: boolean;
  /** Instants that an API server runs before it asks etcd for the first time; none by default. */
  readonly clientsWait?: number;
  /** The version of the restored members, two of whose leases expire as they start. */
  readonly expired?: string;
  readonly acceptRebootRisk?: boolean;
  /** Units of every host that had failed for good before anybody planned. */
  readonly failed?: readonly (typeof units)[number][];
  readonly hooks?: readonly HookPhase[];
  /** What a hook does, told which units run then, on all hosts. */
  readonly hook?: (phase: string, running: readonly string[]) => string | undefined;
  /** Breaks the plan, so that the model is seen to notice. */
  readonly breakPlan?: (plan: RunbookPlan) => RunbookPlan;
  /** Breaks what the restore works with. */
  readonly breakDeps?: (deps: RestoreDependencies) => RestoreDependencies;
}

export type Generation = "old" | "new";

/** What happens to the cluster at an instant, by itself. */
export type Trouble =
  | "reboot h1"
  | "reboot all"
  | "kill etcd of h1"
  | "kill all etcd"
  /** Killed, and started again by its supervisor only a while later. */
  | "kill all etcd for a while"
  /** As `kill all etcd`, while clients have nothing to ask for. */
  | "kill all etcd silently";

interface EtcdProcess {
  readonly pid: number;
  readonly generation: Generation;
  readonly startedSeconds: number;
  calls: number;
}

interface ModelHost {
  readonly host: FakeHost;
  readonly systemd: ReturnType<typeof fakeSystemd>;
  readonly member: FakeMember;
  etcd: EtcdProcess | undefined;
  /** For how many instants its API server has run. */
  awake: number;
  files: Files | undefined;
}

/** What the files of a host add up to. */
interface Files {
  readonly changes: number;
  /** What an etcd that is started would serve; half: a part of it, or data beside a foreign log. */
  readonly generation: Generation | "half" | "none";
  /** Whatever its name: nothing of the old data may ever be missing. */
  readonly oldIsWhole: boolean;
  /** Units that a reboot does not start. */
  readonly held: ReadonlySet<string>;
}

const never = new AbortController().signal;
const units = ["etcd.service", "kube-apiserver.service", "kube-controller-manager.service"] as const;
const clientUnits = units.slice(1);
const data = "/var/lib/etcd";
const wal = "/wal/etcd";
const clusterIds = { old: 100n };
const oldRevision = 9000n;
const sourceRevision = 5000n;
const hash = 7;

export type Model = Awaited<ReturnType<typeof openModel>>;

/** The directories that processes of models work in, one after another. */
export function openScratch(): { readonly directory: string } & Disposable {
  const directory = mkdtempSync(join(tmpdir(), "restore-model-"));
  return { directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

export async function openModel(options: ModelOptions, scratch: string) {
  const violations: string[] = [];
  const events: LifeboatEvent[] = [];
  const labels: string[] = [];
  const names = ["m1", "m2", "m3"].slice(0, options.members);
  const token = request().token;
  const hosts = new Map<string, ModelHost>();
  const oldIds = new Map(names.map((name, index) => [name, BigInt(index + 1)]));
  const newIds = new Map(names.map((name) => [name, idOf(`http://${name}.invalid:2380 ${token}`)]));
  const clusterIdOf = { ...clusterIds, new: idOf(`${token} ${names.join()}`) };
  /** Revisions as each history stands now; the new one's is known when it starts. */
  const revisions: Record<Generation, bigint> = { old: oldRevision, new: 0n };
  let seenByClients = 0n;
  let clientsSawNew = false;
  let proofLost = false;
  let boots = 0;
  let disturbAt = Number.POSITIVE_INFINITY;
  let trouble: Trouble | undefined;
  let deathAt = Number.POSITIVE_INFINITY;
  let dead = false;
  let instants = 0;
  let elapsedMs = 0;
  let busy = false;
  let silent = false;
  let strangerTalks = false;
  const deaf = new Set<string>();
  let loss: { readonly name: string; readonly place: string } | undefined;
  const lost = new Set<string>();
  const everLost = new Set<string>();
  let away = false;
  /** Of a cluster that somebody has made anew. */
  let foreignId: bigint | undefined;

  const etcd = fakeEtcd({
    version: "3.6.16",
    members: names.map((name) => ({ name, hash, snapshot: database })),
    clusterId: clusterIdOf.old,
    revision: oldRevision,
  });

  const say = (violation: string): void => {
    const text = `${labels.at(-1) ?? "before anything"}: ${violation}`;
    if (violations.length < 20) violations.push(text);
  };

  const runs = (at: ModelHost, unit: string): boolean => at.systemd.units.get(unit)?.active === "active";
  /** Whether it runs, or a reboot of its host would start it. */
  const mayRun = (at: ModelHost, unit: string): boolean =>
    runs(at, unit) || (at.systemd.units.get(unit)?.enabled === true && !filesOf(at).held.has(unit));
  const filesOf = (at: ModelHost): Files => {
    if (at.files?.changes !== at.host.changes()) at.files = readFiles(at.host, options.walDirectory === true);
    return at.files;
  };

  /** Lets the etcd of each host be what its systemd and its data make of it. */
  const sync = (): void => {
    for (const [name, at] of hosts) {
      const process = at.host.running.find(({ controlGroup }) => controlGroup === "/system.slice/etcd.service");
      if (process?.pid === at.etcd?.pid) continue;
      at.etcd = undefined;
      if (process === undefined) continue;
      const { generation } = filesOf(at);
      boots += 1;
      if (generation === "none") say(`etcd of ${name} starts without data, as a new cluster`);
      else if (generation === "half") say(`etcd of ${name} starts on half of its data, or beside a foreign log`);
      else at.etcd = { pid: process.pid, generation, startedSeconds: boots, calls: 0 };
    }
    const serving = [...hosts.values()].flatMap((at) => at.etcd ?? []);
    const generation: Generation = serving.some((one) => one.generation === "new") ? "new" : "old";
    if (new Set(serving.map((one) => one.generation)).size > 1)
      say("a member of the old cluster and one of the new run at the same time");
    const { script } = etcd;
    const first = BigInt(planFacts().first.revision);
    if (revisions.new < first) revisions.new = options.expired === undefined ? first : first + 2n;
    if (generation === "new" && options.expired !== undefined) script.version = options.expired;
    script.clusterId = foreignId ?? clusterIdOf[generation];
    script.revision = revisions[generation];
    script.compactRevision = generation === "new" ? first : 4000n;
    script.quorum = hasQuorum() !== undefined;
    for (const at of hosts.values()) {
      const { member } = at;
      member.down = at.etcd === undefined || deaf.has(member.name);
      member.id = (generation === "new" ? newIds : oldIds).get(member.name) ?? 0n;
      const { startedSeconds = 0, calls = 0 } = at.etcd ?? {};
      member.clientCalls = { startedSeconds, calls, byMethod: new Map(), openStreams: 0, watchers: 0 };
    }
  };

  const hasQuorum = (): Generation | undefined => {
    for (const generation of ["old", "new"] as const) {
      const serving = [...hosts.values()].filter((at) => at.etcd?.generation === generation);
      if (serving.length > hosts.size / 2) return generation;
    }
    return undefined;
  };

  /** Every API server that runs reads, and writes. */
  const serveClients = (): void => {
    if (strangerTalks) {
      for (const at of hosts.values())
        if (at.etcd !== undefined && (deaf.size === 0 || deaf.has(at.member.name))) at.etcd.calls += 1;
      revisions[hasQuorum() ?? "old"] += 1n;
    }
    for (const at of hosts.values()) at.awake = runs(at, "kube-apiserver.service") ? at.awake + 1 : 0;
    if (silent) return;
    const generation = hasQuorum();
    if (generation === undefined) return;
    for (const [name, at] of hosts) {
      if (at.awake <= (options.clientsWait ?? 0)) continue;
      if (revisions[generation] < seenByClients)
        say(`the API server of ${name} has seen revision ${seenByClients}, and now sees ${revisions[generation]}`);
      if (generation === "new") {
        clientsSawNew = true;
        if (!healthWasProven()) say(`the API server of ${name} runs before the restored members were verified`);
      }
      revisions[generation] += 1n;
      seenByClients = revisions[generation];
      for (const one of hosts.values()) if (one.etcd !== undefined) one.etcd.calls += 1;
    }
  };

  const healthWasProven = (): boolean =>
    journalEntries().some((entry) => entry.kind === "done" && entry.step === "healthy");

  const inspect = (): void => {
    for (const [name, at] of hosts) {
      const { generation, oldIsWhole } = filesOf(at);
      if (!oldIsWhole) say(`the old data of ${name} is gone, or in pieces`);
      if (at.etcd !== undefined && at.etcd.generation !== generation)
        say(`the data of ${name} was moved under its running etcd`);
      if (mayRun(at, "etcd.service") && generation !== "old" && generation !== "new")
        say(`a reboot of ${name} would start etcd on ${generation === "none" ? "nothing" : "half of its data"}`);
    }
    const awake = [...hosts].filter(([, at]) => clientUnits.some((unit) => mayRun(at, unit))).map(([name]) => name);
    // What was lost and is held serves nobody, until it is joined again.
    const here = [...hosts].filter(
      ([name, at]) => !everLost.has(name) || (!lost.has(name) && mayRun(at, "etcd.service")),
    );
    if (awake.length > 0 && new Set(here.map(([, at]) => filesOf(at).generation)).size > 1)
      say(`clients on ${awake.join(", ")} run, or may, while the cluster is half restored`);
  };

  const instant = (label: string): void => {
    if (dead) throw new Death();
    if (!busy) return;
    instants += 1;
    labels.push(label);
    sync();
    if (away && instants > 60) comeBack();
    if (loss?.place === label) lose(loss.name);
    if (instants === disturbAt && trouble !== undefined) disturb(trouble);
    serveClients();
    sync();
    inspect();
    if (instants < deathAt) return;
    dead = true;
    throw new Death();
  };

  /** Without power, or cut off from everybody. */
  const lose = (name: string): void => {
    lost.add(name);
    everLost.add(name);
    for (const unit of units) hosts.get(name)?.systemd.kill(unit);
    sync();
  };

  /** What was killed for a while runs again, unless it is held. */
  const comeBack = (): void => {
    away = false;
    for (const { systemd } of hosts.values()) systemd.start("etcd.service");
    sync();
  };

  const disturb = (what: Trouble): void => {
    silent = what === "kill all etcd silently";
    const struck = what.endsWith("h1") ? [...hosts.values()].slice(0, 1) : [...hosts.values()];
    for (const at of struck) {
      if (at.etcd?.generation === "new") proofLost = true;
      if (what.startsWith("reboot")) {
        at.host.bootId = `${at.host.bootId}'`;
        at.systemd.reboot();
      } else if (runs(at, "etcd.service")) {
        at.systemd.kill("etcd.service");
        if (!what.endsWith("while")) at.systemd.start("etcd.service");
        else away = true;
      }
    }
    sync();
  };

  for (const [index, name] of names.entries()) {
    const host = fakeHost(`h${index + 1}`);
    host.programs.set("/usr/bin/getent", ([, , peer = ""]) => ({
      status: options.nameless?.includes(peer) === true ? 2 : 0,
    }));
    await host.makeDirectory("/etc/systemd/system", { mode: 0o755 }, never);
    const put = async (path: string, text: string): Promise<void> => {
      await host.makeDirectory(path.slice(0, path.lastIndexOf("/")), { mode: 0o700 }, never);
      await host.writeFile(path, Buffer.from(text), { mode: 0o600 }, never);
    };
    await put(`${data}/member/snap/db`, `old data of ${name}`);
    await put(`${data}/member/snap/0000000000000001-0000000000000001.snap`, "old");
    const logs = options.walDirectory === true ? wal : `${data}/member/wal`;
    await put(`${logs}/0000000000000000-0000000000000000.wal`, "old log");
    await put(`${logs}/0000000000000001-0000000000000200.wal`, "old log too");
    await put(`${logs}/0.tmp`, "old preallocated");
    const systemd = fakeSystemd(host, units);
    for (const unit of units) systemd.start(unit);
    for (const unit of options.failed ?? []) systemd.fail(unit);
    hosts.set(host.name, { host, systemd, member: etcd.member(name), etcd: undefined, awake: 0, files: undefined });
    host.onCall = (method, args) => {
      if (lost.has(host.name)) throw new Fault("host-unreachable", `${host.name} cannot be reached`);
      const etcds = host.running.filter(({ controlGroup }) => controlGroup === "/system.slice/etcd.service");
      const pids = etcds.map(({ pid }) => pid);
      host.holding.set(`${data}/member/snap/db`, pids);
      instant(
        `${host.name} ${method} ${args.map((arg) => (Array.isArray(arg) ? arg.join(" ") : String(arg))).join(" ")}`,
      );
    };
  }

  const clock: Clock = {
    now: () => nowMs + elapsedMs,
    elapsed: () => elapsedMs,
    async sleep(ms, signal) {
      throwIfAborted(signal);
      instant(`slept ${ms} ms`);
      elapsedMs += ms;
      await Promise.resolve();
    },
  };
  const store = memoryStore(() => clock.now());
  const repository = "01JQ0000000000000000000009";
  const { lineage: parent } = sourceFacts();
  let ids = 0;
  const newId = (): string => `01JR${String((ids += 1)).padStart(22, "0")}`;
  if (options.repository === true) {
    await createRepository(store, "prod", { repository, firstLineage: parent ?? "" }, nowMs, never);
    await createLineage(
      store,
      {
        repository,
        lineage: parent ?? "",
        kind: "live",
        clusterId: formatId(clusterIdOf.old),
        parent: null,
        minimumRevision: 0n,
        reason: "the first",
      },
      nowMs,
      never,
    );
  }

  const openJournals = (copy?: JournalRecord): Journals =>
    fakeJournals((when, entry) => {
      instant(`${when} the line "${entry.kind}${"step" in entry ? ` ${entry.step}` : ""}"`);
    }, copy);
  let journals = openJournals();
  const known: { plan?: RunbookPlan } = {};
  const planFacts = (): { first: { revision: string } } =>
    (known.plan?.facts ?? { first: { revision: "0" } }) as unknown as { first: { revision: string } };
  let entriesOf: () => readonly Parameters<typeof standingOf>[1][number][] = () => [];
  const journalEntries = (): ReturnType<typeof entriesOf> => entriesOf();

  const source: Source = {
    name: "backup",
    bytes: undefined,
    async fetch(directory) {
      mkdirSync(directory, { recursive: true });
      instant("the source is fetched");
      return await Promise.resolve({
        path: join(directory, "snapshot.db"),
        facts: sourceFacts({
          revision: sourceRevision,
          hashKv: hash,
          members: names.map((name) => ({
            name,
            peerUrls: [`http://${name}.invalid:2380`],
            clientUrls: [`http://${name}.invalid:2379`],
            learner: false,
          })),
          ...(options.repository !== true && { kind: "file", lineage: undefined }),
        }),
      });
    },
  };

  const openHosts: readonly OpenHost[] = [...hosts.values()].map(({ host, member }) => ({
    host,
    etcd: {
      member: member.name,
      service: openSystemdService(host, { name: "etcd", role: "etcd", unit: "etcd.service" }),
      dataDirectory: data,
      walDirectory: options.walDirectory === true ? wal : undefined,
    },
    services: [
      {
        service: openSystemdService(host, {
          name: "kube-controller-manager",
          role: "controller",
          unit: "kube-controller-manager.service",
        }),
      },
      {
        service: openSystemdService(host, {
          name: "kube-apiserver",
          role: "api-server",
          unit: "kube-apiserver.service",
        }),
        ready: async () => {
          instant(`${host.name} is asked whether it is ready`);
          return await Promise.resolve(hasQuorum() === undefined ? "etcd does not answer" : undefined);
        },
      },
    ],
  }));

  const watchedEtcd = watched<Etcd>(etcd, "etcd", (label) => {
    instant(label);
    sync();
  });
  let storeIsAway = false;
  const watchedStore = watched<Store>(store, "store", (label) => {
    instant(label);
    if (storeIsAway) throw new Fault("store-unreachable", "no route to the store");
  });
  const observe = { endpoints: [], overrides: new Map(), memberTimeoutMs: 120_000 };
  // Its renewals are no part of this: no time passes for it.
  const still = steeredClock(nowMs);
  const lock: LockScope = {
    store: watchedStore,
    cluster: "prod",
    prefix: "coordination",
    clock: still,
    newId,
    author: { host: "here", user: "root", pid: 1, version: "0.0.0" },
    describe,
  };
  const built = fakeBuilder({ revision: sourceRevision, hash });
  const backup = {
    cluster: "prod",
    etcd: watchedEtcd,
    store: watchedStore,
    spool: await openSpool(join(scratch, "spool")),
    trusted: undefined,
    encoder: { compressionLevel: 1, recipients: [], extras: [], signer: undefined, readBackBelowBytes: undefined },
    observe,
    clock,
    emit: (event: LifeboatEvent) => void events.push(event),
    scan: async (path: string) => {
      instant("a snapshot is scanned");
      readFileSync(path);
      const generation = hasQuorum() ?? "old";
      const compactRevision = generation === "new" ? BigInt(planFacts().first.revision) : 4000n;
      return await Promise.resolve(
        scanned({ revision: revisions[generation], compactRevision, hashKv: hash, samples: [] }),
      );
    },
    limits: { ...defaultDrainLimits, idleMs: 120_000 },
    pace: "never" as const,
    proof: { allowLeader: true },
    hashSpool: async (_path: string, _revision: bigint, compactRevisions: readonly bigint[]) =>
      await Promise.resolve(compactRevisions.map(() => hash)),
    claims: undefined,
    holdScan: undefined,
    keepUnproven: undefined,
    toolVersion: "0.0.0",
    newId,
  };
  const usual: RestoreDependencies = {
    cluster: "prod",
    etcd: watchedEtcd,
    observe,
    hosts: openHosts,
    source,
    builder: {
      name: built.name,
      require: built.require,
      async build(path, directory, wanted, signal) {
        instant("new data is built");
        const cluster = await built.build(path, directory, wanted, signal);
        return {
          ...cluster,
          members: cluster.members.map((member) => ({
            ...member,
            data: member.data.map((file) => ({
              ...file,
              async *content(stop: AbortSignal) {
                for await (const chunk of file.content(stop)) {
                  instant(`${member.name} is sent ${file.path}`);
                  yield chunk;
                }
              },
            })),
          })),
        };
      },
    },
    survey: async () =>
      await Promise.resolve({ objects: 0, masterLeases: [], leases: [], nodeLeases: 0, encrypted: [] }),
    wal: { read: readWal },
    restored: watchedEtcd,
    login: {
      username: undefined,
      by: "certificate",
      passwordFile: undefined,
      prove: async () => await Promise.reject(new Error("its database has authentication off")),
    },
    workDirectory: join(scratch, "work"),
    repository:
      options.repository === true
        ? {
            id: repository,
            lock,
            backup,
          }
        : undefined,
    hook: async (phase) => {
      sync();
      instant(`the hook ${phase}`);
      const running = units.filter((unit) => [...hosts.values()].some((at) => runs(at, unit)));
      return await Promise.resolve(options.hook?.(phase, running));
    },
    clock,
    emit: (event) => void events.push(event),
    failpoint: instant,
    patienceMs: 60_000,
  };
  const deps = options.breakDeps?.(usual) ?? usual;

  sync();
  const wanted = request({
    hooks: options.hooks ?? [],
    acceptRebootRisk: options.acceptRebootRisk === true,
    ...(options.repository !== true && { lineage: undefined, acceptUnproven: true }),
  });
  const prepared = await prepareRestore(deps, wanted, [], describe, () => undefined, never);
  if (prepared.plan === undefined) throw new Error(JSON.stringify(prepared.preflight.refusals));
  const planned = options.breakPlan?.(prepared.plan) ?? prepared.plan;
  known.plan = planned;
  sync();

  /** One process: until its end, or until it dies at the instant. */
  const process = async (
    mode: RunbookMode,
    dieAt?: number,
    struck?: { readonly at: number; readonly trouble: Trouble },
  ): Promise<Outcome | "died" | Fault> => {
    labels.length = 0;
    instants = 0;
    dead = false;
    deathAt = dieAt ?? Number.POSITIVE_INFINITY;
    disturbAt = struck?.at ?? Number.POSITIVE_INFINITY;
    trouble = struck?.trouble;
    const begun = (await journals.list(never)).length > 0;
    const journal = begun ? await journals.open(planned.id, never) : await journals.create(planned, never);
    entriesOf = () => journal.entries;
    busy = true;
    try {
      return await executeRestore(deps, journal, mode, undefined, async () => await Promise.resolve(), never);
    } catch (error) {
      if (dead) return "died";
      if (error instanceof Fault) return error;
      throw error;
    } finally {
      await journal[Symbol.asyncDispose]();
      dead = false;
      busy = false;
    }
  };

  /**
   * The machine that the operator typed on is gone, with the journal, what was fetched and what was built. Another one has a copy of the journal that lacks the last
   * lines: undefined when it goes on with it, else why not.
   */
  const loseMachine = async (lines: number): Promise<Fault | undefined> => {
    rmSync(deps.workDirectory, { recursive: true, force: true });
    const record = await journals.read(planned.id, never);
    const copy = { ...record, entries: record.entries.slice(0, Math.max(0, record.entries.length - lines)) };
    try {
      await refuseBehind(copy, deps, never);
    } catch (error) {
      if (error instanceof Fault) return error;
      throw error;
    }
    journals = openJournals(copy);
    return undefined;
  };

  /** Time in which no process of ours works. */
  const pass = (struck?: Trouble): void => {
    labels.push(`afterwards${struck === undefined ? "" : ` (${struck})`}`);
    if (struck !== undefined) disturb(struck);
    for (let turn = 0; turn < 3; turn += 1) {
      sync();
      serveClients();
      inspect();
    }
  };

  /** What the world must be when all is over, said as violations. */
  const mustBe = (generation: Generation, ended: "done" | "rolled-back" | "refused"): void => {
    labels.push("at the end");
    comeBack();
    inspect();
    for (const [name, at] of hosts) {
      if (filesOf(at).generation !== generation) say(`${name} holds ${filesOf(at).generation} data`);
      for (const unit of units) if (!runs(at, unit)) say(`${unit} of ${name} does not run`);
      const paths = Object.keys(at.host.tree());
      const left = paths.filter(
        (path) =>
          path.includes("member.restore-") ||
          path.includes("etcd-lifeboat") ||
          /\/restore-/.test(path) ||
          (generation === "old" && path.includes("before-restore-")),
      );
      if (left.length > 0) say(`${left.join(", ")} is left on ${name}`);
    }
    if (hasQuorum() !== generation) say(`no quorum of the ${generation} cluster serves`);
    const lock = [...store.objects.keys()].filter((object) => object.includes("/lock/")).at(-1);
    const holder = lock === undefined ? null : readHolder(store.objects.get(lock)?.bytes);
    if (holder !== null) say("the lock is still held");
    const last = standingOf(planned, journalEntries()).ended;
    if (last !== ended) say(`the journal ends as ${String(last)}`);
  };

  return {
    plan: planned,
    /** What the plan was made of, and a look at what is true now. */
    prepared,
    /** What a plan that is made now says first. */
    plansNow: async () => (await prepareRestore(deps, wanted, [], describe, () => undefined, never)).preflight,
    refuseStalePlan: async () => await refuseStalePlan(deps, prepared, wanted, describe, never),
    host: (name: string): Pick<ModelHost, "host" | "systemd" | "member"> => {
      const found = hosts.get(name);
      if (found === undefined) throw new Error(`there is no ${name}`);
      return found;
    },
    /** Loses a host at an instant, by its label, of the next process. */
    loseAt: (name: string, place: string): void => void (loss = { name, place }),
    needsRejoin: () => needsRejoin({ plan: planned, entries: journalEntries() }),
    runs: (name: string, unit: string): boolean => hosts.get(name)?.systemd.units.get(unit)?.active === "active",
    isLost: (name: string): boolean => lost.has(name),
    /** It is booted and can be reached again. */
    findAgain: (name: string): void => {
      loss = undefined;
      lost.delete(name);
      hosts.get(name)?.systemd.reboot();
      sync();
      inspect();
    },
    /** From here these members cannot be asked, while clients can. */
    deafen: (...members: readonly string[]): void => {
      deaf.clear();
      for (const member of members) deaf.add(member);
    },
    /** A client that nobody has listed begins to talk to etcd, or ends; it talks to those that are deaf, if any are. */
    talk: (does: boolean): void => void (strangerTalks = does),
    /** From here on another cluster answers where the members are. */
    makeAnew: (clusterId: bigint): void => void (foreignId = clusterId),
    /** The store stops answering, or answers again. */
    storeAway: (is: boolean): void => void (storeIsAway = is),
    /** The lock, as other processes see it. */
    lock,
    /** What other commands work with on the same cluster. */
    deps,
    get journals(): Journals {
      return journals;
    },
    loseMachine,
    tree: () => Object.fromEntries([...hosts].map(([name, at]) => [name, at.host.tree()])),
    violations,
    events,
    labels,
    process,
    pass,
    comeBack,
    mustBe,
    instants: () => instants,
    results: (step: string) => standingOf(planned, journalEntries()).steps.get(step)?.result,
    clientsSawNew: () => clientsSawNew,
    /** A restored member was killed: its counters no longer say that nobody was answered. */
    proofLost: () => proofLost,
  };
}

function readFiles(host: FakeHost, ownWal: boolean): Files {
  const changes = host.changes();
  const tree = host.tree();
  const files = Object.entries(tree);
  const has = (under: string, end: string, content: string): boolean =>
    files.some(([path, text]) => path.startsWith(under) && path.endsWith(end) && text.startsWith(content));
  const member = `${data}/member/`;
  const db = tree[`${member}snap/db`];
  const replayed = ownWal ? new RegExp(`^${wal}/[^/]+\\.wal$`) : new RegExp(`^${member}wal/[^/]+\\.wal$`);
  const logs = new Set(
    files.flatMap(([path, text]) => (replayed.test(path) ? [text.startsWith("old") ? "old" : "new"] : [])),
  );
  const made = db?.startsWith("old") === true ? "old" : "new";
  const whole = db !== undefined && has(member, ".snap", "") && logs.size === 1 && logs.has(made);
  const names = [member, `${data}/member.before-restore-`].filter(
    (under) => has(under, "/snap/db", "old data") && has(under, ".snap", "old"),
  );
  const oldLogs = (under: string): boolean => has(under, "0.wal", "old log") && has(under, "200.wal", "old log too");
  return {
    changes,
    generation: `${data}/member` in tree ? (whole ? made : "half") : "none",
    oldIsWhole: ownWal ? names.length > 0 && oldLogs(`${wal}/`) : names.some(oldLogs),
    held: new Set(
      files.flatMap(([path, text]) => {
        const unit = /^\/etc\/systemd\/system\/([^/]+)\.d\//.exec(path)?.[1];
        return unit !== undefined && text.includes("AssertPathExists") ? [unit] : [];
      }),
    ),
  };
}

function readHolder(bytes: Uint8Array | undefined): unknown {
  return (JSON.parse(Buffer.from(bytes ?? []).toString()) as { holder: unknown }).holder;
}

function idOf(text: string): bigint {
  return createHash("sha1").update(text).digest().readBigUInt64BE();
}

/** Calls `touch` before each call of a method, also of what `connect` gives. */
function watched<T extends object>(target: T, name: string, touch: (label: string) => void): T {
  return new Proxy(target, {
    get(object, key) {
      const value: unknown = Reflect.get(object, key);
      if (typeof value !== "function" || typeof key !== "string") return value;
      return (...args: readonly unknown[]): unknown => {
        const about = typeof args[0] === "string" ? ` ${args[0]}` : "";
        // It does not reach anybody yet, and must not throw.
        if (key !== "connect") touch(`${name} ${key}${about}`);
        const result: unknown = Reflect.apply(value, object, args);
        return key === "connect" ? watched(result as object, name, touch) : result;
      };
    },
  });
}
