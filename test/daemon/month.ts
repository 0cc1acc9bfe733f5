import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { parseCron } from "../../src/config/cron.ts";
import { openCopies } from "../../src/daemon/copy.ts";
import { expireCopies, expireHourly } from "../../src/daemon/expire.ts";
import { readGate, watchGate } from "../../src/daemon/gate.ts";
import { observeForever } from "../../src/daemon/observe.ts";
import { runSchedules } from "../../src/daemon/loop.ts";
import { openLaterProofs } from "../../src/daemon/prove.ts";
import { sweepForever, sweepSpool } from "../../src/daemon/sweep.ts";
import type { EventName, LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { listRepository } from "../../src/repository/listing.ts";
import { holdScan } from "../../src/repository/scans.ts";
import { attemptBackup, type BackupDependencies } from "../../src/snapshot/backup.ts";
import { fanOut } from "../../src/telemetry/fan-out.ts";
import { serveHttp } from "../../src/telemetry/http.ts";
import { openLog } from "../../src/telemetry/log.ts";
import { openMetrics } from "../../src/telemetry/metrics.ts";
import { openStatus } from "../../src/telemetry/status.ts";
import { statusPage } from "../../src/telemetry/status-page.ts";
import { lockOf } from "../cli/console.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm, seededBytes } from "../snapshot/bytes.ts";
import { openRig, scanned } from "../snapshot/rig.ts";

/** Everything that a daemon does with a backup a minute, on fakes of etcd and of the stores: real are the spool, the catalog's cache, the pages and their sockets. */

/** What this process holds after so many simulated hours. */
export interface Held {
  readonly hours: number;
  readonly backups: number;
  readonly heapBytes: number;
  /** Memory outside of the heap, without what the fake stores hold. */
  readonly outsideBytes: number;
  /** In both fake stores, whose names and entries are on the heap. */
  readonly objects: number;
  readonly files: number;
  readonly handles: number;
  /** Series of the metrics page. */
  readonly series: number;
}

export interface MonthResult {
  readonly held: readonly Held[];
  readonly committed: number;
  readonly copied: number;
  readonly expired: number;
  /** Of every name of trouble, how often it was told. */
  readonly troubles: Readonly<Partial<Record<EventName, number>>>;
  readonly listed: number;
  readonly listedInCopy: number;
}

const hourMs = 3_600_000;
const database = seededBytes(4000);

/** Runs so many simulated minutes; `gc` frees what can be freed before each look. */
export async function simulateMinutes(
  minutes: number,
  lookEveryHours: number,
  gc: () => void,
  onHeld: (held: Held) => void = () => undefined,
): Promise<MonthResult> {
  using rig = await openRig({
    members: ["etcd1", "etcd2", "etcd3"].map((name) => ({ name, snapshot: database })),
  });
  rig.facts.current = scanned({ dbBytes: database.length });
  const { clock } = rig;
  const offsite: MemoryStore = { ...memoryStore(() => clock.now()), description: "memory:offsite" };
  await using log = openLog({ level: "info", format: "json", clock, destination: nowhere(), journal: false });
  const metrics = openMetrics({
    version: "0.0.0",
    cluster: "prod",
    schedules: ["minutely"],
    copies: ["offsite"],
    clock,
  });
  const status = openStatus({
    copies: ["offsite"],
    cluster: "prod",
    version: "0.0.0",
    schedules: ["minutely"],
    now: () => clock.now(),
  });
  const counts = new Map<EventName, number>();
  let expired = 0;
  const count = (event: LifeboatEvent): void => {
    counts.set(event.name, (counts.get(event.name) ?? 0) + 1);
    if (event.name === "backup.expired") expired += 1;
  };
  const emit = fanOut([log.listen, metrics.listen, status.listen, count]);
  const lock = lockOf(rig);
  const { store } = rig.deps;
  const deps: BackupDependencies = {
    ...rig.deps,
    emit,
    claims: { ...lock, clock },
    holdScan: async (signal) => await holdScan(lock, emit, signal),
  };
  await using server = await serveHttp({
    listen: { host: "127.0.0.1", port: 0 },
    metrics,
    livez: () => [],
    readyz: () => [],
    status: () => statusPage(status.read(), clock.now()),
    onError: (error) => {
      throw error;
    },
  });
  const controller = new AbortController();
  const stop = controller.signal;
  const gate = async (signal: AbortSignal): Promise<Fault | undefined> => await readGate(lock, emit, signal);
  const retention = {
    cluster: "prod",
    trusted: undefined,
    signer: undefined,
    catalogDirectory: join(rig.spoolDirectory, "catalog"),
    coordination: "coordination",
    policy: {
      last: 30,
      hourly: 24,
      daily: 7,
      weekly: 0,
      monthly: 0,
      yearly: 0,
      withinMs: 0,
      maxBytes: undefined,
      minProven: 3,
      schedules: ["minutely"],
    },
    clock,
    emit,
    gate,
  };
  let working = 0;
  const during = async <T>(work: () => Promise<T>): Promise<T> => {
    working += 1;
    try {
      return await work();
    } finally {
      working -= 1;
    }
  };
  const expire = expireHourly({ ...retention, store });
  const expireCopy = expireCopies(retention);
  const copies = openCopies({
    copies: [
      {
        store,
        target: { name: "offsite", store: offsite },
        cluster: "prod",
        trusted: undefined,
        readBackBelowBytes: undefined,
        clock,
        emit,
      },
    ],
    schedules: ["minutely"],
    clock,
    emit,
    gate,
    // It writes a file: were time to fly meanwhile, the store's clock and ours would seem to differ.
    expire: async (copy, signal) => await during(() => expireCopy(copy, signal)),
  });
  const later = openLaterProofs({ ...deps, gate });
  const running = Promise.all([
    runSchedules(
      {
        cluster: "prod",
        schedules: [{ name: "minutely", fields: parseCron("* * * * *"), timeZone: "UTC", jitterMs: 0 }],
        store,
        trusted: undefined,
        clock,
        emit,
        gate,
        onTurn: () => undefined,
        during,
        backup: async (request, signal, refused) => {
          await sweepSpool(deps.spool, emit);
          const outcome = await later.besides(() =>
            attemptBackup({ ...deps, keepUnproven: later.keep }, request, signal, refused),
          );
          if (outcome.kind === "committed") {
            copies.committed(outcome.manifest);
            await expire(signal);
          }
          return outcome;
        },
      },
      stop,
    ),
    observeForever({ ...deps, hushed: () => false, disks: [] }, stop),
    sweepForever(deps, stop),
    watchGate(lock, deps, stop),
    later.run(stop),
    copies.run(stop),
  ]);
  let over = false;
  // Why it ended is told where `running` is awaited, below.
  running.catch(() => undefined).finally(() => (over = true));

  const startMs = clock.now();
  const held: Held[] = [];
  let lookAtMs = startMs;
  while (!over && clock.now() < startMs + minutes * 60_000) {
    // What works on real files is given real time, five times as fast as it passes; where nothing does, time flies.
    await clock.advance(working > 0 ? 10 : 5000);
    await (working > 0 ? sleep(2) : turn());
    // What the fakes write down is not what is weighed here.
    rig.store.calls.length = 0;
    offsite.calls.length = 0;
    rig.etcd.calls.length = 0;
    if (clock.now() < lookAtMs || working > 0) continue;
    lookAtMs += lookEveryHours * hourMs;
    const page = await (await fetch(new URL("/metrics", server.url))).text();
    await (await fetch(server.url)).text();
    // What is freed outside of the heap is freed by what the first collection leaves to do.
    for (let round = 0; round < 3; round += 1) {
      gc();
      await sleep(5);
    }
    const memory = process.memoryUsage();
    const look: Held = {
      hours: Math.round((clock.now() - startMs) / hourMs),
      backups: counts.get("backup.committed") ?? 0,
      heapBytes: memory.heapUsed,
      outsideBytes: memory.external - bytesIn(rig.store) - bytesIn(offsite),
      objects: rig.store.objects.size + offsite.objects.size,
      files: readdirSync("/proc/self/fd").length,
      handles: process.getActiveResourcesInfo().length,
      series: page.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length,
    };
    held.push(look);
    onHeld(look);
  }
  controller.abort(new Fault("interrupted", "the month is over"));
  await running;
  const names: readonly EventName[] = [
    "backup.failed",
    "copy.failed",
    "retention.failed",
    "schedule.missed",
    "warning",
  ];
  return {
    held,
    committed: counts.get("backup.committed") ?? 0,
    copied: counts.get("copy.stored") ?? 0,
    expired,
    troubles: Object.fromEntries(names.flatMap((name) => (counts.has(name) ? [[name, counts.get(name)]] : []))),
    listed: (await listRepository(store, calm)).backups.length,
    listedInCopy: (await listRepository(offsite, calm)).backups.length,
  };
}

function bytesIn({ objects }: MemoryStore): number {
  let sum = 0;
  for (const { bytes } of objects.values()) sum += bytes.length;
  return sum;
}

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
