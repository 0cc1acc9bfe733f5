import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SnapshotFacts } from "../../src/bolt/facts.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import type { BackupDependencies } from "../../src/snapshot/backup.ts";
import type { CopyTarget } from "../../src/snapshot/copy.ts";
import { defaultDrainLimits } from "../../src/snapshot/drain.ts";
import { openSpool } from "../../src/snapshot/spool.ts";
import { steeredClock, type SteeredClock } from "../fakes/clock.ts";
import { fakeEtcd, type FakeEtcd, type FakeScript } from "../fakes/etcd.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { seededBytes } from "./bytes.ts";

const noon = Date.UTC(2026, 2, 1, 12);

/** Everything a backup needs, with fakes at the edges; the spool is real. */
export interface Rig extends Disposable {
  readonly deps: BackupDependencies;
  readonly etcd: FakeEtcd;
  readonly store: MemoryStore;
  /** The further stores of the configuration; none at first. */
  readonly copies: CopyTarget[];
  readonly clock: SteeredClock;
  readonly events: LifeboatEvent[];
  readonly facts: { current: SnapshotFacts };
  readonly spoolDirectory: string;
  /** Names of what is stored, without the ids. */
  readonly stored: () => string[];
  /** Lets time pass while something waits for it. */
  readonly passing: <T>(work: Promise<T>) => Promise<T>;
  /** The one event that ends each run, in order. */
  readonly ends: () => string[];
}

export const database = seededBytes(300_000);

export async function openRig(
  script: Partial<FakeScript> = {},
  changes: Partial<BackupDependencies> = {},
): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), "backup-test-"));
  const clock = steeredClock(noon);
  const etcd = fakeEtcd({
    revision: 50n,
    members: ["etcd1", "etcd2", "etcd3"].map((name) => ({ name, snapshot: database })),
    ...script,
  });
  const store = memoryStore(() => clock.now());
  const events: LifeboatEvent[] = [];
  const facts = { current: scanned() };
  let count = 0;
  const spoolDirectory = join(folder, "spool");
  const deps: BackupDependencies = {
    cluster: "prod",
    etcd,
    store,
    spool: await openSpool(spoolDirectory),
    trusted: undefined,
    encoder: { compressionLevel: 1, recipients: [], extras: [], signer: undefined, readBackBelowBytes: undefined },
    observe: { endpoints: [], overrides: new Map(), memberTimeoutMs: 500 },
    clock,
    emit: (event) => events.push(event),
    scan: async (path) => {
      // What a scan would refuse: bytes that are no whole snapshot.
      const bytes = readFileSync(path);
      const seal = createHash("sha256").update(bytes.subarray(0, -32)).digest();
      if (!seal.equals(bytes.subarray(-32))) throw new Error("the spool holds no sealed snapshot");
      return facts.current;
    },
    limits: { ...defaultDrainLimits, idleMs: 300 },
    pace: "never",
    proof: { allowLeader: true },
    // The fake's members hash like the file while nothing else is said.
    hashSpool: async (_path, _revision, compactRevisions) => compactRevisions.map(() => facts.current.hashKv),
    claims: undefined,
    holdScan: undefined,
    keepUnproven: undefined,
    toolVersion: "0.0.0",
    // Ids sort by creation.
    newId: () => `01JQ${String(++count).padStart(22, "0")}`,
    ...changes,
  };
  return {
    deps,
    etcd,
    store,
    copies: [],
    clock,
    events,
    facts,
    spoolDirectory,
    stored: () => [...store.objects.keys()].map((name) => name.replaceAll(/01JQ\d{22}/g, "ID")).toSorted(),
    async passing(work) {
      let over = false;
      const end = (): void => {
        over = true;
      };
      work.then(end, end);
      while (!over) {
        await clock.advance(clock.sleepers() > 0 ? 1000 : 0);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return await work;
    },
    ends: () => events.map(({ name }) => name).filter((name) => /^backup\.(committed|superseded|failed)$/.test(name)),
    [Symbol.dispose]() {
      rmSync(folder, { recursive: true });
    },
  };
}

/** What a scan says of the rig's database. */
export function scanned(changes: Partial<SnapshotFacts> = {}): SnapshotFacts {
  return {
    revision: 50n,
    compactRevision: -1n,
    compactionScheduled: undefined,
    compactionFinished: undefined,
    consistentIndex: 1000n,
    term: 2n,
    storageVersion: "3.6.0",
    clusterVersion: "3.6.0",
    members: [
      {
        id: 1n,
        name: "etcd1",
        peerUrls: ["http://etcd1.invalid:2380"],
        clientUrls: ["http://etcd1.invalid:2379"],
        learner: false,
      },
    ],
    removedMembers: [],
    voters: [1n],
    alarms: [],
    authEnabled: false,
    leases: 0,
    downgrade: undefined,
    keys: 40,
    rows: 49,
    dbBytes: database.length,
    logicalBytes: 100_000,
    pageBytes: 4096,
    samples: [{ main: 10n, sub: 0n, sha256: "a".repeat(64) }],
    probed: [],
    otherBuckets: [],
    txid: 9n,
    brokenMeta: undefined,
    sealed: true,
    hashKv: 1,
    ...changes,
  };
}

export const hourly = { trigger: "schedule", schedule: "hourly", slotMs: noon } as const;
export const demand = { trigger: "demand", label: undefined } as const;

/** For tests that start no etcd. */
export function neverBooted(): never {
  throw new Error("nothing is booted here");
}
