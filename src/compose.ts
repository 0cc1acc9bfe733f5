import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ulid } from "ulid";
import { openHosts, openJournals, openRestore, openSurvivor, removeWork, runConfiguredHook } from "./compose-hosts.ts";
import type { Console, Environment, Tools } from "./cli/tools.ts";
import { systemClock } from "./clock.ts";
import type { Config } from "./config/schema.ts";
import { loadConfig } from "./config/load.ts";
import { readPingUrl } from "./config/address.ts";
import { readAccess, type Access } from "./config/access.ts";
import { describeSecret, readSecret, Redacted } from "./config/secrets.ts";
import { policyOf } from "./cli/expire.ts";
import { requireSchedules } from "./cli/run.ts";
import { refuseRestartOnly } from "./config/reload.ts";
import { openCopies } from "./daemon/copy.ts";
import { expireCopies, expireHourly } from "./daemon/expire.ts";
import { readGate, watchGate } from "./daemon/gate.ts";
import { openHush } from "./daemon/hush.ts";
import type { WatchedDisk } from "./daemon/disks.ts";
import { openHealth, type Health } from "./daemon/health.ts";
import { openNotifier } from "./daemon/notify.ts";
import { observeForever } from "./daemon/observe.ts";
import { runSchedules } from "./daemon/loop.ts";
import { openLaterProofs } from "./daemon/prove.ts";
import { workReloading, type OnReload } from "./daemon/reload.ts";
import { sweepForever, sweepSpool } from "./daemon/sweep.ts";
import { openEtcd } from "./etcd/connect.ts";
import type { Etcd, MemberConnection } from "./etcd/etcd.ts";
import type { Emit } from "./events.ts";
import { Fault } from "./faults.ts";
import { openLocalHost } from "./host/local.ts";
import { escapeControls, formatDuration, formatTime } from "./format.ts";
import { localAuthor, type LockScope } from "./repository/lock.ts";
import { holdScan } from "./repository/scans.ts";
import { openSigner, openTrustedKeys, type Signer, type TrustedKeys } from "./repository/signature.ts";
import { parseIdentities, parseRecipient, type AgeIdentity } from "./snapshot/age.ts";
import type { CopyDependencies, CopyTarget } from "./snapshot/copy.ts";
import { attemptBackup, type BackupDependencies } from "./snapshot/backup.ts";
import type { Encoder } from "./snapshot/commit.ts";
import { defaultDrainLimits } from "./snapshot/drain.ts";
import type { HashSpool } from "./snapshot/prove.ts";
import { warnOfSkew } from "./snapshot/skew.ts";
import { openSpool } from "./snapshot/spool.ts";
import { openLocalTools } from "./stock/local.ts";
import { openDirectoryStore } from "./store/directory.ts";
import { openS3Examiner } from "./store/s3-examine.ts";
import { openS3Store } from "./store/s3.ts";
import type { ExamineBucket, Store } from "./store/store.ts";
import { timed } from "./store/timed.ts";
import { fanOut } from "./telemetry/fan-out.ts";
import { serveHttp, type HttpAccess } from "./telemetry/http.ts";
import { openLog } from "./telemetry/log.ts";
import { openMetrics } from "./telemetry/metrics.ts";
import { openPings, type PingOptions, type Pings } from "./telemetry/pings.ts";
import { openProgress } from "./telemetry/progress.ts";
import { statusPage } from "./telemetry/status-page.ts";
import { openStepLines } from "./telemetry/steps.ts";
import { openStatus } from "./telemetry/status.ts";
import { runTask } from "./workers/worker.ts";

/** The composition root: configuration in, object graph out; the only place where adapters meet features. */

/** One member's answer is worth this long; a sick one must not hold up the others' look. */
const memberTimeoutMs = 10_000;

export function compose(version: string, console: Console, signal: AbortSignal, onReload: OnReload): Environment {
  return {
    console,
    version,
    signal,
    open: (path) => openTools(path, version, console.env),
    listen: openConsoleListener,
    daemon: (tools, stop) => runDaemon(tools, { version, env: console.env, onReload }, stop),
  };
}

function openTools(path: string, version: string, env: Console["env"]): Tools {
  const loaded = loadConfig({ path, env });
  const { config } = loaded;
  const store = once(() => openStore(config.repository.store));
  const copies = once(() =>
    config.repository.copies.map((copy): CopyTarget => ({ name: copy.name, store: openStore(copy.store) })),
  );
  const spool = once(() => openSpool(config.spool.directory));
  const trusted = once(() => readTrusted(config));
  const signer = once(() => readSigner(config, env));
  const lock = once(async () => ({
    store: await store(),
    cluster: config.cluster.name,
    prefix: config.repository.coordination.prefix,
    clock: systemClock,
    newId,
    author: localAuthor(version),
    describe: { time: formatTime, duration: formatDuration },
  }));
  let etcd: Etcd | undefined;
  const others: Etcd[] = [];
  let pings: Pings | undefined;
  const newId = (): string => ulid();
  return {
    loaded,
    clock: systemClock,
    newId,
    scan,
    store,
    copies,
    trusted,
    signer,
    spool,
    catalogDirectory: join(config.spool.directory, "catalog"),
    identities: once(() => readIdentities(config, env)),
    examineBucket: openExaminer(config),
    boot: (directory) => ({
      stock: openLocalTools({ directory, path: env["PATH"] ?? "" }),
      connect: connectToSocket,
      hashSpool,
      clock: systemClock,
      newId,
    }),
    lock,
    scanAny: (file, probe, stop) => runTask({ kind: "scan-snapshot", path: file, probe, expectSeal: undefined }, stop),
    holders: async (file, stop) => await openLocalHost("this machine").holders(resolve(file), stop),
    journals: (emit, copies) =>
      openJournals(config, copies === "hosts-only" ? undefined : store, localAuthor(version), emit),
    async restore(parts) {
      return await openRestore(config, this, parts, env);
    },
    async hosts(parts) {
      return await openHosts(config, this, parts);
    },
    async survivor(parts, stop) {
      return await openSurvivor(config, this, parts, env, stop);
    },
    etcdAs({ username, passwordFile: file }) {
      const auth = { username, password: { file } };
      const opened = openConfiguredEtcd({ ...config, cluster: { ...config.cluster, auth } }, env);
      others.push(opened);
      return opened;
    },
    hook: async (phase, facts, emit, stop) => await runConfiguredHook(config, phase, facts, emit, stop),
    removeWork: async (id) => await removeWork(config, id),
    async backup(emit) {
      etcd ??= openConfiguredEtcd(config, env);
      await pings?.[Symbol.asyncDispose]();
      pings = openPings({
        cluster: config.cluster.name,
        targets: await readPings(config, env),
        clock: systemClock,
        emit,
      });
      return {
        cluster: config.cluster.name,
        etcd,
        store: await store(),
        spool: await spool(),
        trusted: await trusted(),
        encoder: openEncoder(config, await signer()),
        observe: {
          endpoints: config.cluster.endpoints,
          overrides: new Map(Object.entries(config.cluster.members)),
          memberTimeoutMs,
        },
        clock: systemClock,
        emit: fanOut([emit, pings.listen]),
        scan,
        limits: { ...defaultDrainLimits, maxRate: config.spool.maxRateBytes },
        pace: config.spool.pace,
        toolVersion: version,
        newId,
        hashSpool,
        proof: config.proof,
        claims: await lock(),
        holdScan: async (signal) => await holdScan(await lock(), emit, signal),
        keepUnproven: undefined,
      };
    },
    async [Symbol.asyncDispose]() {
      await pings?.[Symbol.asyncDispose]();
      const opened = [...others.splice(0), ...(etcd === undefined ? [] : [etcd])];
      etcd = undefined;
      await Promise.all(opened.map(async (one) => await one[Symbol.asyncDispose]()));
    },
  };
}

const hashSpool: HashSpool = (path, revision, compactRevisions, signal) =>
  runTask({ kind: "hash-kv", path, revision, compactRevisions }, signal);

const scan: Tools["scan"] = (path, probe, signal) =>
  runTask({ kind: "scan-snapshot", path, probe, expectSeal: true }, signal);

/** Nothing but its data is asked of a throw-away member, however long that takes. */
const bootTimeouts = { hashKvMs: 3_600_000 };

function connectToSocket(socket: string): MemberConnection {
  // Who listens at the URL is somebody else: it is for messages, and carries no request.
  const address = { name: "the throw-away member", url: "http://localhost:2379", socket };
  return openEtcd({ endpoints: [], timeouts: bootTimeouts }).connect(address);
}

function openConfiguredEtcd({ cluster }: Config, env: Console["env"]): Etcd {
  const { auth } = cluster;
  return openEtcd({
    endpoints: cluster.endpoints,
    tls: cluster.tls,
    auth:
      auth === undefined
        ? undefined
        : { username: auth.username, password: async () => (await readSecret(auth.password, env)).reveal() },
  });
}

function openStore(store: Config["repository"]["store"]): Store {
  switch (store.kind) {
    case "directory":
      return openDirectoryStore({ directory: store.directory });
    case "s3":
      return openS3Store({ ...store, checksums: store.checksums === "none" ? "none" : "crc32c" });
  }
}

function openExaminer({ repository: { store } }: Config): ExamineBucket | undefined {
  return store.kind === "s3" ? openS3Examiner({ ...store, checksums: undefined }) : undefined;
}

function openEncoder({ repository }: Config, signer: Signer | undefined): Encoder {
  const { encryption } = repository;
  return {
    compressionLevel: repository.compression.level,
    recipients: (encryption?.recipients ?? []).map(parseRecipient),
    extras: repository.extras,
    signer,
    readBackBelowBytes: repository.readBack.belowBytes,
  };
}

async function readSigner({ repository }: Config, env: Console["env"]): Promise<Signer | undefined> {
  const key = repository.signing?.key;
  if (key === undefined) return undefined;
  return openSigner((await readSecret(key, env)).reveal(), `repository.signing.key (${describeSecret(key)})`);
}

async function readTrusted({ repository }: Config): Promise<TrustedKeys | undefined> {
  const paths = repository.signing?.trusted ?? [];
  if (paths.length === 0) return undefined;
  return openTrustedKeys(
    await Promise.all(paths.map(async (path) => ({ origin: path, pem: await readPublicKey(path) }))),
  );
}

async function readPublicKey(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Fault("config-invalid", `repository.signing.trusted: ${path} cannot be read: ${code ?? String(error)}`, {
      cause: error,
    });
  }
}

async function readPings({ notify }: Config, env: Console["env"]): Promise<PingOptions["targets"]> {
  const read = async (target: keyof Config["notify"]): Promise<(() => string) | undefined> => {
    const given = notify[target];
    if (given === undefined) return undefined;
    const address = "url" in given ? new Redacted(given.url) : await readSecret(given, env);
    const checked = readPingUrl(address.reveal());
    if ("value" in checked) return () => address.reveal();
    throw new Fault("config-invalid", `notify.${target} ${checked.why}`);
  };
  return { start: await read("start"), success: await read("success"), failure: await read("failure") };
}

async function readIdentities({ repository }: Config, env: Console["env"]): Promise<readonly AgeIdentity[]> {
  const reference = repository.encryption?.identity;
  return reference === undefined ? [] : parseIdentities((await readSecret(reference, env)).reveal());
}

/** What a command prints while it works: progress on a terminal; warnings and the steps of an operation always. */
function openConsoleListener(console: Console): { readonly emit: Emit; readonly close: () => void } {
  const progress = openProgress({
    stream: { write: console.err },
    isTTY: console.interactive,
    env: console.env,
    columns: console.columns,
  });
  const steps = openStepLines((line) => {
    progress.clear();
    console.err(line);
  }, systemClock);
  const close = (): void => {
    steps.close();
    progress.close();
  };
  const emit = fanOut([
    progress.listen,
    steps.listen,
    (event) => {
      if (event.name === "member.diverged") {
        progress.clear();
        const what = `${event.member} holds other data than the majority: ${event.reason}`;
        console.err(`warning: ${escapeControls(what)}\n`);
      }
      if (event.name === "source.failed") {
        progress.clear();
        console.err(`warning: ${escapeControls(event.member)} failed as a source: ${escapeControls(event.message)}\n`);
      }
      if (event.name === "journal.behind") {
        progress.clear();
        const what = `the copy of the journal on ${event.mirror} is behind: ${event.message}`;
        console.err(`warning: ${escapeControls(what)}\n`);
      }
      if (event.name === "warning") {
        progress.clear();
        console.err(`warning: ${event.about}: ${escapeControls(event.message)}\n`);
      }
    },
  ]);
  return { emit, close };
}

/** The daemon: schedules, observation and pages, until the signal is aborted or one of them fails. It closes the tools. */
async function runDaemon(
  tools: Tools,
  environment: { readonly version: string; readonly env: Console["env"]; readonly onReload: OnReload },
  outer: AbortSignal,
): Promise<void> {
  const { version, env, onReload } = environment;
  const { config, path } = tools.loaded;
  const cluster = config.cluster.name;
  const schedules = config.schedules.map(({ name }) => name);
  await using log = openLog({ level: config.log.level, format: config.log.format });
  const copies = config.repository.copies.map(({ name }) => name);
  const metrics = openMetrics({ version, cluster, schedules, copies, lostLogLines: log.lostLines });
  const status = openStatus({ cluster, version, schedules, copies, now: () => systemClock.now() });
  const health = openHealth(systemClock);
  await using notifier = openNotifier({
    env,
    pid: process.pid,
    clock: systemClock,
    alive: () => health.loop().ok,
    onTrouble: (message) => emit({ name: "warning", about: "systemd", message }),
  });
  const emit = fanOut([log.listen, metrics.listen, status.listen, health.listen, notifier.listen]);
  emit({ name: "daemon.started", version, cluster, store: (await tools.store()).description });
  const first = await prepare(tools, emit);
  const access = await readAccess(config, env);
  const controller = new AbortController();
  const stop = AbortSignal.any([outer, controller.signal]);
  await using server = await serveHttp({
    listen: config.http.listen,
    access: revealAccess(access),
    metrics,
    livez: () => [health.loop()],
    readyz: () => [health.loop(), health.etcd()],
    status: () => statusPage(status.read(), systemClock.now()),
    onError: (error) => emit({ name: "warning", about: "http", message: `a page could not be made: ${String(error)}` }),
  });
  emit({ name: "listener.guarded", certificateNotAfterMs: access.tls?.notAfterMs });
  emit({ name: "daemon.ready", listen: server.url });
  stop.addEventListener(
    "abort",
    () => emit({ name: "daemon.stopping", reason: outer.aborted ? "signal" : "failure" }),
    {
      once: true,
    },
  );
  const working = workReloading<Prepared>(
    {
      load: async (current) => {
        const next = openTools(path, version, env);
        requireSchedules(next.loaded);
        refuseRestartOnly(current.tools.loaded.config, next.loaded.config);
        const renewed = await readAccess(next.loaded.config, env);
        const prepared = await prepare(next, emit);
        // No backup has to end before a new certificate can be served.
        server.renew(revealAccess(renewed));
        emit({ name: "listener.guarded", certificateNotAfterMs: renewed.tls?.notAfterMs });
        return prepared;
      },
      async work(current, retire, stopped) {
        log.setLevel(current.tools.loaded.config.log.level);
        await workBy(current, health, emit, retire, stopped);
      },
      close: async (given) => await given.tools[Symbol.asyncDispose](),
      describe: ({ tools: { loaded } }) => ({
        path: loaded.path,
        schedules: loaded.config.schedules.map(({ name }) => name),
        copies: loaded.config.repository.copies.map(({ name }) => name),
      }),
      onReload,
      emit,
    },
    first,
    stop,
  );
  const tasks = [working, notifier.watch(stop)];
  try {
    await Promise.all(tasks);
  } finally {
    // Whatever ended first, the others end too before anything they use is closed.
    controller.abort(new Fault("interrupted", "the daemon stops"));
    await Promise.allSettled(tasks);
    emit({ name: "daemon.stopped", exitStatus: outer.aborted ? 0 : 1 });
    await log.flush();
  }
}

function revealAccess({ tls, token }: Access): HttpAccess {
  return { tls: tls === undefined ? undefined : { cert: tls.cert, key: tls.key.reveal() }, token: token?.reveal() };
}

/** A configuration with everything opened that it needs at once: what is wrong with it is found before it takes over. */
interface Prepared {
  readonly tools: Tools;
  readonly store: Store;
  readonly lock: LockScope;
  readonly copies: readonly CopyTarget[];
  readonly deps: BackupDependencies;
}

async function prepare(tools: Tools, emit: Emit): Promise<Prepared> {
  for (const { about, message } of tools.loaded.warnings) emit({ name: "warning", about, message });
  const store = tellRequests(await tools.store(), undefined, emit);
  const lock = { ...(await tools.lock()), store };
  const deps = await tools.backup(emit);
  const copies = (await tools.copies()).map(({ name, ...copy }) => ({
    name,
    store: tellRequests(copy.store, name, emit),
  }));
  const holds = async (signal: AbortSignal): ReturnType<typeof holdScan> => await holdScan(lock, emit, signal);
  return {
    tools,
    store,
    lock,
    copies,
    deps: { ...deps, store, claims: deps.claims && { ...deps.claims, store }, holdScan: holds },
  };
}

function tellRequests(store: Store, name: string | undefined, emit: Emit): Store {
  return timed(store, systemClock, (request) => emit({ name: "store.requested", store: name, ...request }));
}

/** The work of the daemon by one configuration, until it is retired between two backups, or stopped. */
async function workBy(
  { tools, store, lock, deps, ...prepared }: Prepared,
  health: Health,
  emit: Emit,
  retire: AbortSignal,
  outer: AbortSignal,
): Promise<void> {
  const { config } = tools.loaded;
  const controller = new AbortController();
  const stop = AbortSignal.any([outer, controller.signal]);
  const end = (): void =>
    controller.abort(new Fault("interrupted", "the daemon stops, or goes on with another configuration"));
  await sweepSpool(deps.spool, emit);
  const hush = openHush();
  const tellLock: Emit = (event) => {
    hush.hear(event);
    emit(event);
  };
  const gate = async (signal: AbortSignal): Promise<Fault | undefined> => await readGate(lock, tellLock, signal);
  const retention = {
    cluster: config.cluster.name,
    trusted: deps.trusted,
    signer: await tools.signer(),
    catalogDirectory: tools.catalogDirectory,
    coordination: config.repository.coordination.prefix,
    policy: config.retention?.expire === true ? policyOf(config) : undefined,
    clock: systemClock,
    emit,
    gate,
  };
  const expire = expireHourly({ ...retention, store });
  const copies = openCopies({
    copies: prepared.copies.map((target) => copyBy(deps, target)),
    schedules: config.schedules.map(({ name }) => name),
    clock: systemClock,
    emit,
    gate,
    expire: expireCopies(retention),
  });
  const later = openLaterProofs({ ...deps, gate });
  const schedules = runSchedules(
    {
      cluster: config.cluster.name,
      schedules: config.schedules,
      store,
      trusted: deps.trusted,
      clock: systemClock,
      emit,
      backup: async (request, signal, refused) => {
        await sweepSpool(deps.spool, emit);
        const proving = { ...deps, keepUnproven: later.keep };
        if (refused === undefined) await warnOfSkew(deps, signal);
        const outcome = await later.besides(() => attemptBackup(proving, request, signal, refused));
        if (outcome.kind === "committed") {
          copies.committed(outcome.manifest);
          await expire(signal);
        }
        return outcome;
      },
      gate,
      onTurn: health.turn,
      during: health.during,
      retire,
    },
    stop,
  );
  // The schedules end first, with what they were doing; nothing else is worth waiting for.
  const tasks = [
    schedules.finally(end),
    observeForever({ ...deps, hushed: hush.hushed, disks: watchedDisks(config) }, stop),
    sweepForever(deps, stop),
    watchGate(lock, { ...deps, emit: tellLock }, stop),
    later.run(stop),
    copies.run(stop),
  ];
  try {
    await Promise.all(tasks);
  } finally {
    end();
    await Promise.allSettled(tasks);
  }
}

/** What one copy is made by; as the backups of the first store are. */
function copyBy(
  { store, cluster, trusted, encoder, clock, emit }: BackupDependencies,
  target: CopyTarget,
): CopyDependencies {
  return { store, target, cluster, trusted, readBackBelowBytes: encoder.readBackBelowBytes, clock, emit };
}

/** The disks of this machine that backups and etcd depend on. */
function watchedDisks({ spool, hosts }: Config): readonly WatchedDisk[] {
  const members = Object.values(hosts).flatMap(({ reach, etcd }): readonly WatchedDisk[] => {
    if (reach !== "local" || etcd === undefined) return [];
    const { member, dataDirectory, walDirectory } = etcd;
    const data: WatchedDisk = { role: "data", member, directory: dataDirectory };
    return walDirectory === undefined ? [data] : [data, { role: "wal", member, directory: walDirectory }];
  });
  return [{ role: "spool", member: undefined, directory: spool.directory }, ...members];
}

/** Opens something at the first call, and only then. */
function once<T>(open: () => T | Promise<T>): () => Promise<T> {
  let opened: Promise<T> | undefined;
  return () => (opened ??= Promise.resolve().then(open));
}
