import { readdirSync } from "node:fs";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, test, vi } from "vitest";
import { Fault, isFault } from "../../src/faults.ts";
import { listRepository, readCatalog } from "../../src/repository/catalog.ts";
import { readIdentity } from "../../src/repository/identity.ts";
import { adoptHistory, findForeignHistory } from "../../src/snapshot/adopt.ts";
import { parseIdentities, parseRecipient } from "../../src/snapshot/age.ts";
import { previewBackup, runBackup, type BackupOutcome } from "../../src/snapshot/backup.ts";
import { verifyBackup } from "../../src/snapshot/verify.ts";
import { messagesOf, type FakeCall } from "../fakes/etcd.ts";
import type { StoreMethod, StoreTrouble } from "../fakes/store.ts";
import { calm, seededBytes } from "./bytes.ts";
import { database, demand, hourly, neverBooted, openRig, scanned, type Rig } from "./rig.ts";

const manifests = async (rig: Rig): Promise<number> => (await listRepository(rig.store, calm)).backups.length;
const committed = (outcome: BackupOutcome): Extract<BackupOutcome, { kind: "committed" }>["manifest"] => {
  if (outcome.kind !== "committed") throw new Error(`not committed but ${outcome.kind}`);
  return outcome.manifest;
};
/** Nothing of a run may outlive it. */
function expectClean(rig: Rig): void {
  expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  expect(rig.etcd.open()).toBe(0);
}

describe("a backup", () => {
  test("creates repository and lineage, stores data and note, and the manifest last", async () => {
    using rig = await openRig();
    const manifest = committed(await runBackup(rig.deps, hourly, calm));
    expect(rig.stored()).toEqual([
      "lineages/ID/backups/20260301T120000Z.slot.hourly.json",
      "lineages/ID/lineage.json",
      "lineages/ID/proofs/20260301T120000Z.slot.hourly.hashkv.proven.ID.json",
      "lineages/ID/snapshots/ID.RESTORE.md",
      "lineages/ID/snapshots/ID.db.zst",
      "repository.json",
    ]);
    const writes = rig.store.calls.filter(({ method }) => method === "create" || method === "upload");
    // Only what was found of a backup comes after it.
    expect(writes.at(-2)?.name).toMatch(/\/backups\//);
    expect(writes.at(-1)?.name).toMatch(/\/proofs\//);
    expect(manifest).toMatchObject({
      trigger: "schedule",
      source: { name: "etcd2" },
      live: { quorum: true, highestRevision: 50n },
      content: { revision: 50n, dbBytes: database.length },
      data: { verified: "read-back", plainBytes: database.length + 32 },
    });
    expect(rig.ends()).toEqual(["backup.committed"]);
    const identity = await readIdentity(rig.store, "prod", calm);
    const catalog = await readCatalog(
      rig.store,
      { repository: identity?.id ?? "", trusted: undefined },
      { names: ["latest"], nowMs: rig.clock.now() },
      calm,
    );
    expect(catalog.entries).toMatchObject([{ manifest: { backup: "20260301T120000Z.slot.hourly" } }]);
    await verifyBackup(verifying(rig), manifest, "structure", calm);
    expectClean(rig);
  });

  test("on demand has a key of its own and its label inside", async () => {
    using rig = await openRig();
    const manifest = committed(await runBackup(rig.deps, { trigger: "demand", label: "before-upgrade" }, calm));
    expect(manifest).toMatchObject({ label: "before-upgrade", slot: null });
    expect(manifest.backup).toMatch(/^20260301T120000Z\.demand\./);
  });

  test("with a label that no manifest can hold is refused before anything is done", async () => {
    using rig = await openRig();
    await expect(runBackup(rig.deps, { trigger: "demand", label: "x".repeat(201) }, calm)).rejects.toMatchObject({
      code: "usage",
    });
    expect(rig.etcd.calls).toEqual([]);
  });

  test("goes to the next member when one fails, and tells both", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd2").snapshot = async function* () {
      yield messagesOf(database).slice(0, 2);
    };
    const manifest = committed(await runBackup(rig.deps, hourly, calm));
    expect(manifest.source?.name).toBe("etcd3");
    expect(rig.events).toContainEqual(
      expect.objectContaining({ name: "source.failed", member: "etcd2", code: "snapshot-broken" }),
    );
    expectClean(rig);
  });

  test("tries three members at most, and fails with the last one's fault", async () => {
    using rig = await openRig({
      members: ["a", "b", "c", "d", "e"].map((name) => ({ name, fail: { snapshot: new Fault("etcd-refused", "no") } })),
    });
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "etcd-refused" });
    expect(rig.etcd.calls.filter((call) => call.startsWith("snapshot"))).toEqual([
      "snapshot b",
      "snapshot c",
      "snapshot d",
    ]);
    expect(rig.events.at(-1)).toMatchObject({ name: "backup.failed", phase: "drain" });
    expectClean(rig);
  });

  test("fails where no member is fit, with the reason of each", async () => {
    using rig = await openRig({ alarms: [1n, 2n, 3n].map((memberId) => ({ memberId, kind: "CORRUPT" })) });
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({
      code: "no-source",
      message:
        "no member can be a source: etcd1: has a CORRUPT alarm; etcd2: has a CORRUPT alarm; etcd3: has a CORRUPT alarm",
    });
    expect(await manifests(rig)).toBe(0);
  });

  test("does not believe a stream whose connection was replaced on the way", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd2").reconnects = 1;
    expect(committed(await runBackup(rig.deps, hourly, calm)).source?.name).toBe("etcd3");
    expect(rig.events).toContainEqual(
      expect.objectContaining({
        name: "source.failed",
        message: "the connection to etcd2 was replaced during the snapshot",
      }),
    );
  });

  test("does not believe a stream after which another member answers", async () => {
    using rig = await openRig();
    const member = rig.etcd.member("etcd2");
    member.snapshot = async function* () {
      yield messagesOf(database);
      member.answeredBy = "etcd1";
    };
    expect(committed(await runBackup(rig.deps, hourly, calm)).source?.name).toBe("etcd3");
    expect(rig.events).toContainEqual(expect.objectContaining({ name: "source.failed", code: "member-mismatch" }));
  });

  test("does not believe a file that is older than the member was", async () => {
    using rig = await openRig();
    rig.facts.current = scanned({ revision: 49n });
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({
      code: "snapshot-broken",
      message: "etcd1 sent revision 49, but was at 50 before",
    });
    expect(await manifests(rig)).toBe(0);
    expectClean(rig);
  });

  test("waits for a follower that is a little behind", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd2").status = { revision: 48n };
    const running = runBackup(rig.deps, hourly, calm);
    while (rig.clock.sleepers() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    rig.etcd.member("etcd2").status = {};
    await rig.clock.advance(100);
    expect(committed(await running).source?.name).toBe("etcd2");
  });

  test("waits only so long, and then asks the next member", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd2").status = { revision: 48n };
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const running = runBackup(rig.deps, hourly, calm);
      // The disk takes its time before it, and this clock's timers stand still.
      while (rig.clock.sleepers() === 0) await new Promise((resolve) => setImmediate(resolve));
      vi.advanceTimersByTime(15_000);
      rig.etcd.member("etcd2").status = {};
      expect(committed(await running).source?.name).toBe("etcd3");
    } finally {
      vi.useRealTimers();
    }
    expect(rig.events).toContainEqual(
      expect.objectContaining({
        name: "source.failed",
        member: "etcd2",
        message: "etcd2 did not reach revision 50 within 15 s",
      }),
    );
  });

  test("leaves a member alone whose defragmentation began meanwhile", async () => {
    using rig = await openRig();
    const member = rig.etcd.member("etcd2");
    let looks = 0;
    member.fail = {
      defragmenting: () => ((looks += 1) === 1 ? undefined : new Fault("no-source", "is being defragmented")),
    };
    expect(committed(await runBackup(rig.deps, hourly, calm)).source?.name).toBe("etcd3");
    expect(looks).toBe(2);
  });

  test("without room in the spool is refused at once, whoever the source", async () => {
    using rig = await openRig();
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).status = { dbBytes: 2 ** 52 };
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "spool-space" });
    expect(rig.etcd.calls.some((call) => call.startsWith("snapshot"))).toBe(false);
    expect(rig.events.filter(({ name }) => name === "source.chosen")).toHaveLength(1);
  });

  test("without quorum is taken from the highest member, and the manifest says so", async () => {
    using rig = await openRig({ quorum: false, leader: null });
    rig.etcd.member("etcd1").status = { revision: 50n };
    for (const name of ["etcd2", "etcd3"]) rig.etcd.member(name).status = { revision: 40n };
    const manifest = committed(await rig.passing(runBackup(rig.deps, hourly, calm)));
    expect(manifest).toMatchObject({ live: { quorum: false }, source: { name: "etcd1" } });
  });

  test("records members that have never started without a name", async () => {
    using rig = await openRig();
    rig.etcd.script.members.push({ name: "", down: true, url: "" });
    const manifest = committed(await rig.passing(runBackup(rig.deps, hourly, calm)));
    expect(manifest.live?.members.map(({ name }) => name)).toEqual(["etcd1", "etcd2", "etcd3", ""]);
  });

  test("keeps the highest revision that was ever seen", async () => {
    using rig = await openRig();
    await runBackup(rig.deps, hourly, calm);
    rig.etcd.script.revision = 60n;
    rig.etcd.script.quorum = false;
    rig.facts.current = scanned({ revision: 60n });
    await runBackup(rig.deps, demand, calm);
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).status = { revision: 55n };
    rig.facts.current = scanned({ revision: 55n });
    await rig.clock.advance(1000);
    const manifest = committed(await runBackup(rig.deps, demand, calm));
    expect(manifest).toMatchObject({ content: { revision: 55n }, live: { highestRevision: 60n } });
  });
});

function claiming({ deps, store, clock }: Rig, host: string): typeof deps {
  const author = { host, user: "root", pid: 1, version: "0.1.0" };
  return { ...deps, claims: { store, prefix: "coordination", clock, newId: deps.newId, author } };
}

describe("a slot", () => {
  test("that is committed already is left alone: no stream is opened", async () => {
    using rig = await openRig();
    await runBackup(rig.deps, hourly, calm);
    const streams = rig.etcd.calls.filter((call) => call.startsWith("snapshot")).length;
    expect(await runBackup(rig.deps, hourly, calm)).toMatchObject({
      kind: "superseded",
      backup: "20260301T120000Z.slot.hourly",
    });
    expect(rig.etcd.calls.filter((call) => call.startsWith("snapshot"))).toHaveLength(streams);
    expect(rig.ends()).toEqual(["backup.committed", "backup.superseded"]);
  });

  test("that two daemons work on is committed by one of them", async () => {
    using rig = await openRig();
    await runBackup(rig.deps, demand, calm);
    const outcomes = await Promise.all([runBackup(rig.deps, hourly, calm), runBackup(rig.deps, hourly, calm)]);
    expect(outcomes.map(({ kind }) => kind).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["committed", "superseded"]);
    expect(await manifests(rig)).toBe(2);
    expectClean(rig);
  });

  test("that another daemon has claimed is waited for, without a stream of its own, until that one committed it", async () => {
    using rig = await openRig();
    await runBackup(rig.deps, demand, calm);
    const daemons = ["cp1", "cp2", "cp3"].map((host) => claiming(rig, host));
    const outcomes = await rig.passing(Promise.all(daemons.map((deps) => runBackup(deps, hourly, calm))));
    expect(outcomes.map(({ kind }) => kind).toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
      "committed",
      "superseded",
      "superseded",
    ]);
    expect(rig.etcd.calls.filter((call) => call.startsWith("snapshot"))).toHaveLength(2);
    expect(rig.events.filter(({ name }) => name === "claim.waiting")).toHaveLength(2);
    expect(rig.events.filter((event) => event.name === "backup.superseded" && event.repeated)).toEqual([]);
    expectClean(rig);
  });

  test("whose first worker fails is taken over at once, and by what the cluster is then", async () => {
    using rig = await openRig();
    await runBackup(rig.deps, demand, calm);
    const [one, two] = [claiming(rig, "cp1"), claiming(rig, "cp2")];
    const struck = rig.store.trouble({ method: "upload", nth: 1, fail: new Fault("store-unreachable", "gone") });
    const first = runBackup(one, hourly, calm).catch((error: unknown) => error);
    const second = runBackup(two, hourly, calm).catch((error: unknown) => error);
    const [a, b] = await rig.passing(Promise.all([first, second]));
    expect([a, b].filter((end) => end instanceof Fault)).toHaveLength(1);
    expect([a, b].find((end) => !(end instanceof Fault))).toMatchObject({ kind: "committed" });
    expect(struck()).toBe(1);
    expect(rig.events.find(({ name }) => name === "claim.taken")).toMatchObject({ why: "given-up" });
    expectClean(rig);
  });

  test("whose key is taken by what is no backup is a failure, not somebody else's success", async () => {
    using rig = await openRig();
    const { lineage } = committed(await runBackup(rig.deps, demand, calm));
    await rig.store.create(`lineages/${lineage}/backups/20260301T120000Z.slot.hourly.json`, Buffer.from("{}"), calm);
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({
      code: "manifest-invalid",
      message: expect.stringMatching(
        /^the key of 20260301T120000Z.slot.hourly is taken by what is no backup/,
      ) as string,
    });
    expect(rig.ends()).toEqual(["backup.committed", "backup.failed"]);
  });

  test("is not taken for committed because an object of this run could not be created", async () => {
    using rig = await openRig();
    const struck = rig.store.trouble({ method: "upload", fail: new Fault("store-exists", "our own lost upload") });
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "store-exists" });
    expect(struck()).toBe(1);
    expect(rig.ends()).toEqual(["backup.failed"]);
  });
});

describe("trouble at any step", () => {
  const steps: { method: StoreMethod; name?: string; nth?: number; phase: string }[] = [
    { method: "read", name: "repository.json", nth: 1, phase: "choose" },
    { method: "create", name: "repository.json", phase: "choose" },
    { method: "list", nth: 1, phase: "choose" },
    { method: "create", name: "lineage.json", phase: "choose" },
    { method: "upload", name: ".db.zst", phase: "upload" },
    { method: "download", name: ".db.zst", phase: "readback" },
    { method: "upload", name: "RESTORE.md", phase: "commit" },
    { method: "download", name: "RESTORE.md", phase: "commit" },
    { method: "create", name: "/backups/", phase: "commit" },
  ];

  test.each(steps)(
    "of the store ($method $name) leaves no manifest and is told once, in phase $phase",
    async ({ phase, ...where }) => {
      using rig = await openRig();
      const struck = rig.store.trouble({ ...where, fail: new Fault("store-unreachable", "gone") });
      await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "store-unreachable" });
      expect(struck()).toBe(1);
      expect(rig.ends()).toEqual(["backup.failed"]);
      expect(rig.events.at(-1)).toMatchObject({
        name: "backup.failed",
        phase,
        code: "store-unreachable",
        retryable: true,
      });
      expect(await manifests(rig)).toBe(0);
      expectClean(rig);
    },
  );

  test.each<FakeCall>(["members", "status", "snapshot", "linearizableRead"])(
    "of etcd (%s) leaves nothing open",
    async (call) => {
      using rig = await openRig();
      for (const { name } of rig.etcd.script.members)
        rig.etcd.member(name).fail = { [call]: new Fault("etcd-auth", "denied") };
      await expect(runBackup(rig.deps, hourly, calm)).rejects.toSatisfy((error) =>
        isFault(error, "etcd-auth", "no-source"),
      );
      expect(rig.ends()).toEqual(["backup.failed"]);
      expectClean(rig);
    },
  );

  test("a run that is interrupted is told as such and leaves nothing behind", async () => {
    using rig = await openRig();
    const controller = new AbortController();
    const stop = new Fault("interrupted", "interrupted by SIGTERM");
    rig.etcd.member("etcd2").snapshot = async function* () {
      yield messagesOf(database).slice(0, 2);
      controller.abort(stop);
      yield messagesOf(database).slice(2, 3);
    };
    await expect(runBackup(rig.deps, hourly, controller.signal)).rejects.toBe(stop);
    expect(rig.events.at(-1)).toMatchObject({ name: "backup.failed", code: "interrupted", phase: "drain" });
    expectClean(rig);
  });

  test.each(["download", "upload", "create"] as const)(
    "a run that is ended when its data is stored (%s) commits it, and is no failure",
    async (method) => {
      using rig = await openRig();
      const controller = new AbortController();
      const name = { download: ".db.zst", upload: "RESTORE.md", create: "/backups/" }[method];
      const trouble: StoreTrouble = {
        method,
        name,
        // Looked at when it strikes.
        get delay() {
          controller.abort(new Fault("interrupted", "interrupted by SIGTERM"));
          return Promise.resolve();
        },
      };
      const struck = rig.store.trouble(trouble);
      const outcome = await rig.passing(runBackup(rig.deps, hourly, controller.signal));
      expect(struck()).toBeGreaterThan(0);
      expect(controller.signal.aborted).toBe(true);
      expect(outcome.kind).toBe("committed");
      expect(rig.ends()).toEqual(["backup.committed"]);
      expect(await manifests(rig)).toBe(1);
      expectClean(rig);
    },
  );

  test.each([".db.zst", "RESTORE.md"])(
    "bytes that the store changed (%s) are found before the manifest",
    async (name) => {
      using rig = await openRig();
      corrupting(rig, name);
      await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "object-damaged" });
      expect(await manifests(rig)).toBe(0);
    },
  );
});

describe("where the store's checksum may vouch for large objects", () => {
  const encoder = { compressionLevel: 1, recipients: [], extras: [], signer: undefined, readBackBelowBytes: 1000 };

  test("nothing is read back when it is right", async () => {
    using rig = await openRig({}, { encoder });
    expect(committed(await runBackup(rig.deps, hourly, calm)).data.verified).toBe("checksum");
    expect(rig.store.calls.some(({ method, name }) => method === "download" && name.endsWith(".db.zst"))).toBe(false);
  });

  test("a small object is read back all the same", async () => {
    using rig = await openRig({}, { encoder: { ...encoder, readBackBelowBytes: 10_000_000 } });
    expect(committed(await runBackup(rig.deps, hourly, calm)).data.verified).toBe("read-back");
  });

  test("everything is read back where the store vouches for nothing", async () => {
    using rig = await openRig({}, { encoder });
    const head = rig.store.head.bind(rig.store);
    const store = { ...rig.store, head: async (name: string, signal: AbortSignal) => blind(await head(name, signal)) };
    const manifest = committed(await runBackup({ ...rig.deps, store }, hourly, calm));
    expect(manifest.data.verified).toBe("read-back");
  });

  test("a wrong checksum is damage", async () => {
    using rig = await openRig({}, { encoder });
    corrupting(rig, ".db.zst");
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "object-damaged" });
    expect(await manifests(rig)).toBe(0);
  });

  test("a spool that gives other bytes than were drained is found without a read-back", async () => {
    using rig = await openRig({}, { encoder });
    const { appendFileSync, truncateSync } = await import("node:fs");
    const scan = rig.deps.scan;
    const deps: typeof rig.deps = {
      ...rig.deps,
      scan: async (path, probe, signal) => {
        const facts = await scan(path, probe, signal);
        truncateSync(path, database.length);
        appendFileSync(path, seededBytes(32, 7));
        return facts;
      },
    };
    await expect(runBackup(deps, hourly, calm)).rejects.toMatchObject({ code: "spool-failed" });
    expect(await manifests(rig)).toBe(0);
  });
});

describe("an encrypted backup with extras", () => {
  async function encrypted(extras: readonly string[]): Promise<{ rig: Rig; secret: string }> {
    const secret = await generateX25519Identity();
    const recipients = [parseRecipient(await identityToRecipient(secret))];
    const encoder = { compressionLevel: 1, recipients, extras, signer: undefined, readBackBelowBytes: undefined };
    return { rig: await openRig({}, { encoder }), secret };
  }

  test("opens with the identity, and names what was missing", async () => {
    const { rig, secret } = await encrypted([import.meta.filename, "/nonexistent/pki"]);
    using _ = rig;
    const manifest = committed(await runBackup(rig.deps, hourly, calm));
    expect(manifest.extras?.files).toMatchObject([{ path: import.meta.filename }]);
    expect(manifest.extrasMissing).toEqual([{ path: "/nonexistent/pki", why: "ENOENT" }]);
    expect(rig.events).toContainEqual(expect.objectContaining({ name: "backup.committed", extrasMissing: 1 }));
    const verifyingIt = { ...verifying(rig), identities: async () => parseIdentities(secret) };
    rig.facts.current = scanned({ probed: manifest.samples });
    await verifyBackup(verifyingIt, manifest, "structure", calm);
    await expect(verifyBackup(verifying(rig), manifest, "structure", calm)).rejects.toMatchObject({
      code: "key-missing",
    });
    await verifyBackup(verifying(rig), manifest, "bytes", calm);
  });

  test("never stores extras in the clear", async () => {
    const encoder = {
      compressionLevel: 1,
      recipients: [],
      extras: [import.meta.filename],
      signer: undefined,
      readBackBelowBytes: undefined,
    };
    using rig = await openRig({}, { encoder });
    await expect(runBackup(rig.deps, hourly, calm)).rejects.toMatchObject({ code: "config-invalid" });
    expect(rig.stored().some((name) => name.includes("extras"))).toBe(false);
  });
});

describe("another history", () => {
  test.each([
    ["another cluster ID", { clusterId: 999n }],
    ["a revision that went back", { revision: 10n }],
    ["a raft index that went back", { raftIndex: 10n }],
  ])("with %s is refused, and nothing is uploaded", async (_, change) => {
    using rig = await openRig();
    await runBackup(rig.deps, hourly, calm);
    const before = rig.store.objects.size;
    Object.assign(rig.etcd.script, change);
    await expect(runBackup(rig.deps, demand, calm)).rejects.toMatchObject({
      code: "lineage-foreign",
      hint: expect.stringContaining("adopt") as string,
    });
    await expect(previewBackup(rig.deps, calm)).rejects.toMatchObject({ code: "lineage-foreign" });
    expect(rig.store.objects.size).toBe(before);
    expectClean(rig);
  });

  test("whose rows differ is refused after the drain, and nothing is uploaded", async () => {
    using rig = await openRig();
    await runBackup(rig.deps, hourly, calm);
    const before = rig.store.objects.size;
    rig.facts.current = scanned({ probed: [{ main: 10n, sub: 0n, sha256: "f".repeat(64) }] });
    await expect(runBackup(rig.deps, demand, calm)).rejects.toMatchObject({
      code: "lineage-foreign",
      message: expect.stringContaining("10.0") as string,
    });
    expect(rig.store.objects.size).toBe(before);
    expect(await findForeignHistory(rig.deps, calm)).toMatchObject({ seen: expect.stringContaining("10.0") as string });
    expectClean(rig);
  });

  test("is suspected aloud when no sampled row is left, and only then", async () => {
    using rig = await openRig();
    const samples = Array.from({ length: 16 }, (_, n) => ({ main: BigInt(n + 2), sub: 0n, sha256: "a".repeat(64) }));
    rig.facts.current = scanned({ samples });
    await runBackup(rig.deps, hourly, calm);
    const suspicions = (): unknown[] =>
      rig.events.filter((event) => event.name === "warning" && event.about === "history");
    rig.facts.current = scanned({ samples, probed: samples.slice(0, 1) });
    await runBackup(rig.deps, demand, calm);
    expect(suspicions()).toEqual([]);
    rig.facts.current = scanned({ samples, probed: [] });
    await runBackup(rig.deps, demand, calm);
    expect(suspicions()).toHaveLength(1);
  });

  test("is accepted by adopt, and the next backup belongs to the new lineage", async () => {
    using rig = await openRig();
    const old = committed(await runBackup(rig.deps, hourly, calm));
    expect(await findForeignHistory(rig.deps, calm)).toBeUndefined();
    Object.assign(rig.etcd.script, { revision: 10n, raftIndex: 20n });
    rig.facts.current = scanned({ revision: 10n });
    const found = await findForeignHistory(rig.deps, calm);
    expect(found).toMatchObject({ parent: { lineage: old.lineage }, revision: 10n });
    if (found === undefined) return;
    const lineage = await adoptHistory(rig.deps, found, calm);
    const manifest = committed(await runBackup(rig.deps, hourly, calm));
    expect(manifest).toMatchObject({ lineage: lineage.lineage, live: { highestRevision: 10n } });
    expect(manifest.lineage).not.toBe(old.lineage);
    expect(await findForeignHistory(rig.deps, calm)).toBeUndefined();
  });

  test("cannot be adopted without quorum, without a repository, or with a clock that would make the new lineage the older one", async () => {
    using rig = await openRig();
    await expect(findForeignHistory(rig.deps, calm)).rejects.toMatchObject({ code: "not-found" });
    await runBackup(rig.deps, hourly, calm);
    Object.assign(rig.etcd.script, { revision: 10n });
    const found = await findForeignHistory(rig.deps, calm);
    if (found === undefined) throw new Error("not found");
    const behind = { ...rig.deps, newId: () => "01JP0000000000000000000000" };
    await expect(adoptHistory(behind, found, calm)).rejects.toMatchObject({
      message: expect.stringContaining("clock is behind") as string,
    });
    rig.etcd.script.quorum = false;
    await expect(findForeignHistory(rig.deps, calm)).rejects.toMatchObject({
      message: expect.stringContaining("no quorum") as string,
    });
  });
});

describe("a preview", () => {
  test("writes nothing, to store or spool, and opens no stream", async () => {
    using rig = await openRig();
    expect(await previewBackup(rig.deps, calm)).toMatchObject({
      member: "etcd2",
      lineage: null,
      quorum: true,
      revision: 50n,
    });
    expect(rig.store.calls.filter(({ method }) => method !== "read" && method !== "list")).toEqual([]);
    expect(rig.etcd.calls.some((call) => call.startsWith("snapshot"))).toBe(false);
    expectClean(rig);
  });
});

/** The store keeps other bytes than it was given, for objects whose name has this in it. */
function corrupting(rig: Rig, part: string): void {
  const { set } = rig.store.objects;
  rig.store.objects.set = function (name, entry) {
    const bytes = Uint8Array.from(entry.bytes);
    if (name.includes(part)) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    return set.call(this, name, { ...entry, bytes });
  };
}

function blind<T extends { crc32c: number | undefined }>(head: T | undefined): T | undefined {
  return head === undefined ? undefined : { ...head, crc32c: undefined };
}

function verifying(rig: Rig): Parameters<typeof verifyBackup>[0] {
  const { store, scan, newId } = rig.deps;
  rig.facts.current = scanned({ probed: [{ main: 10n, sub: 0n, sha256: "a".repeat(64) }] });
  return { store, spool: async () => rig.deps.spool, scan, identities: async () => [], newId, boot: neverBooted };
}
