import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import type { Manifest } from "../../src/repository/manifest.ts";
import { bootSnapshot, minorOf, recordBoot, type BootDependencies, type Booted } from "../../src/snapshot/boot.ts";
import { openSpool, type Spool } from "../../src/snapshot/spool.ts";
import type { StockLook, StockPrograms } from "../../src/stock/stock.ts";
import { systemClock } from "../../src/clock.ts";
import { fakeEtcd } from "../fakes/etcd.ts";
import { memoryStore } from "../fakes/store.ts";
import { sampleManifest, snapshotId } from "../repository/sample.ts";
import { calm } from "./bytes.ts";

/** What a start of a backup can come to, with programs that do as they are told. */

let folder: string;
let spool: Spool;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "boot-test-"));
  spool = await openSpool(join(folder, "spool"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const manifest = sampleManifest();
const { content } = manifest;

interface Script {
  /** What it says of itself, one look after the other; the last again and again. */
  readonly looks: readonly (Omit<StockLook, "appliedIndex"> | undefined | Fault)[];
  readonly hash: number;
  readonly compactRevision: bigint;
  readonly stoppedHash: number;
  readonly refuse: Partial<Record<"find" | "restore" | "start", Fault>>;
}

const usual: Script = {
  looks: [undefined, { revision: content.revision, keys: content.keys }],
  hash: content.hashKv,
  compactRevision: content.compactRevision,
  stoppedHash: content.hashKv,
  refuse: {},
};

/** Boots by a script and gives what was called besides. */
async function boot(
  changes: Partial<Script> = {},
  of: Manifest = manifest,
  signal = calm,
): Promise<Booted & { readonly calls: readonly string[] }> {
  const script = { ...usual, ...changes };
  const calls: string[] = [];
  const step = (name: "find" | "restore" | "start"): void => {
    calls.push(name);
    if (script.refuse[name] !== undefined) throw script.refuse[name];
  };
  const etcd = fakeEtcd({
    revision: of.content.revision,
    compactRevision: script.compactRevision,
    members: [{ name: "one", url: "http://localhost:2379", hash: script.hash }],
  });
  const programs: StockPrograms = {
    names: ["etcdutl 3.6.1", "etcd 3.6.2"],
    restore: async () => step("restore"),
    async start(_, within) {
      step("start");
      let looks = 0;
      return {
        socket: "socket",
        async look() {
          within.throwIfAborted();
          const look = script.looks[Math.min(looks, script.looks.length - 1)];
          looks += 1;
          if (look instanceof Fault) throw look;
          return look && { ...look, appliedIndex: 0n };
        },
        async stop() {
          calls.push("stop");
          return "database";
        },
        async [Symbol.asyncDispose]() {
          calls.push("killed");
        },
      };
    },
  };
  const deps: BootDependencies = {
    stock: {
      async find(minor) {
        calls.push(minor);
        step("find");
        return programs;
      },
    },
    connect: () => etcd.connect(etcd.address("one")),
    hashSpool: async (path, revision, compactRevisions) => {
      expect([path, revision, compactRevisions]).toEqual([
        "database",
        of.content.revision,
        [of.content.compactRevision],
      ]);
      return [script.stoppedHash];
    },
    clock: systemClock,
    newId: () => snapshotId,
  };
  try {
    return { ...(await bootSnapshot(deps, spool, of, "snapshot.db", signal)), calls };
  } finally {
    expect(readdirSync(spool.directory)).toEqual([]);
    if (calls.includes("start") && script.refuse.start === undefined) expect(calls).toContain("killed");
  }
}

const withContent = (changes: Partial<Manifest["content"]>): Manifest => ({
  ...manifest,
  content: { ...content, ...changes },
});

describe("a start", () => {
  test("passes when the member itself says the recorded HashKV and has as many keys", async () => {
    const booted = await boot();
    expect(booted).toMatchObject({
      minor: "3.6",
      programs: ["etcdutl 3.6.1", "etcd 3.6.2"],
      hash: content.hashKv,
      keys: content.keys,
      fault: undefined,
      calls: ["3.6", "find", "restore", "start", "killed"],
    });
    expect(booted.reason).toMatch(/as the member says$/);
  });

  test.each<[string, Partial<Script>, Manifest]>([
    ["authentication is on", {}, withContent({ authEnabled: true })],
    ["the backup is at its compaction", {}, withContent({ compactRevision: content.revision })],
    ["the member has hashed at another compaction", { compactRevision: 5n, hash: 1 }, manifest],
  ])("asks the stopped member's database where %s", async (_, changes, of) => {
    const booted = await boot({ ...changes, stoppedHash: of.content.hashKv }, of);
    expect(booted).toMatchObject({ fault: undefined, hash: of.content.hashKv });
    expect(booted.calls).toContain("stop");
    expect((await boot({ ...changes, stoppedHash: 7 }, of)).fault).toMatchObject({ code: "boot-failed" });
  });

  test("fails when HashKV or the number of keys differ, and says how", async () => {
    const booted = await boot({ hash: 7, looks: [{ revision: content.revision, keys: 1 }] });
    expect(booted).toMatchObject({
      hash: 7,
      keys: 1,
      fault: { code: "boot-failed", exitStatus: 12 },
      reason: `${manifest.backup} starts, but is not what its manifest says: HashKV 7 instead of ${content.hashKv}, keys 1 instead of ${content.keys}`,
    });
  });

  test("compares no HashKV where no key is left, since a member that goes on with its compaction says another one", async () => {
    const looks = [{ revision: content.revision, keys: 0 }];
    const booted = await boot({ hash: 7, looks, compactRevision: 5n }, withContent({ keys: 0, compactRevision: 5n }));
    expect(booted).toMatchObject({ fault: undefined, hash: 7, keys: 0 });
    expect(booted.reason).toMatch(/no key is left, as it must be$/);
    const never = withContent({ keys: 0, compactRevision: -1n });
    expect((await boot({ hash: 7, looks, compactRevision: -1n }, never)).fault).toMatchObject({ code: "boot-failed" });
  });

  test("counts no keys where leases have ended meanwhile, at revisions of their own", async () => {
    const booted = await boot({ looks: [{ revision: content.revision + 1n, keys: content.keys - 3 }] });
    expect(booted).toMatchObject({ fault: undefined, keys: content.keys - 3 });
  });

  test("fails when the member has not all revisions", async () => {
    const booted = await boot({ looks: [{ revision: content.revision - 1n, keys: content.keys }] });
    expect(booted).toMatchObject({ hash: null, fault: { code: "boot-failed" } });
    expect(booted.reason).toMatch(`is at revision ${content.revision - 1n}, not ${content.revision}`);
  });

  test.each(["restore", "start"] as const)(
    "fails, and does not reject, when the program refuses to %s",
    async (what) => {
      const refusal = new Fault("boot-failed", "etcd does not like it");
      expect(await boot({ refuse: { [what]: refusal } })).toMatchObject({
        fault: refusal,
        reason: "etcd does not like it",
        hash: null,
        keys: null,
      });
    },
  );

  test("that ends before it serves fails", async () => {
    const ended = new Fault("boot-failed", "it ended");
    expect(await boot({ looks: [undefined, ended] })).toMatchObject({ fault: ended });
  });

  test.each<[string, Partial<Script>]>([
    ["without programs", { refuse: { find: new Fault("tool-missing", "none") } }],
    ["without room", { refuse: { restore: new Fault("spool-space", "full") } }],
    ["killed by somebody", { looks: [new Fault("failed", "was killed")] }],
  ])("%s says nothing about the backup: it rejects", async (_, changes) => {
    await expect(boot(changes)).rejects.toBeInstanceOf(Fault);
  });

  test("that is interrupted rejects with that, and leaves nothing", async () => {
    const controller = new AbortController();
    const stop = new Fault("interrupted", "stop");
    const booting = boot({ looks: [undefined] }, manifest, controller.signal);
    setTimeout(() => controller.abort(stop), 50);
    await expect(booting).rejects.toBe(stop);
  });
});

test.each<[string | null, string | null, string | null, string | undefined]>([
  ["3.5.30", null, "3.4.0", "3.5"],
  [null, "3.6.0", "3.5.0", "3.6"],
  [null, null, "3.4.0", "3.4"],
  [null, null, "3.10.1", "3.10"],
  [null, null, null, undefined],
  [null, null, "rubbish", undefined],
])(
  "of source %s, storage version %s and cluster version %s, minor %s is started",
  (source, storage, cluster, minor) => {
    const given = {
      source: source === null ? null : { ...manifest.source!, version: source },
      content: { ...content, storageVersion: storage, clusterVersion: cluster },
    };
    if (minor === undefined) expect(() => minorOf(given)).toThrow(/which minor of etcd/);
    else expect(minorOf(given)).toBe(minor);
  },
);

test("what was found is stored beside the backup, passed and failed", async () => {
  const store = memoryStore();
  const deps = {
    store,
    clock: systemClock,
    encoder: { signer: undefined },
    toolVersion: "1.2.3",
    newId: () => snapshotId,
  };
  const committed = { manifest, manifestSha256: "a".repeat(64) };
  await recordBoot(deps, committed, await boot(), calm);
  await recordBoot(deps, committed, await boot({ hash: 7 }), calm);
  const names = [...store.objects.keys()].map((name) => name.slice(name.lastIndexOf("/") + 1));
  expect(names).toEqual(["passed", "failed"].map((verdict) => `${manifest.backup}.boot.${verdict}.${snapshotId}.json`));
});
