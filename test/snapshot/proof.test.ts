import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { readEntries } from "../../src/repository/catalog.ts";
import { readIdentity } from "../../src/repository/identity.ts";
import { listRepository } from "../../src/repository/listing.ts";
import type { HashkvProof } from "../../src/repository/proof.ts";
import { readProofs } from "../../src/repository/proofs.ts";
import { runBackup, type BackupOutcome, type BackupDependencies, type Unproven } from "../../src/snapshot/backup.ts";
import { calm } from "./bytes.ts";
import { database, demand, hourly, openRig, type Rig } from "./rig.ts";

type Committed = Extract<BackupOutcome, { kind: "committed" }>;

async function backUp(rig: Rig, changes: Partial<BackupDependencies> = {}): Promise<Committed> {
  const outcome = await rig.passing(runBackup({ ...rig.deps, ...changes }, hourly, calm));
  if (outcome.kind !== "committed") throw new Error(`not committed but ${outcome.kind}`);
  return outcome;
}

/** The proofs in the store that are believed. */
async function proofs(rig: Rig): Promise<readonly HashkvProof[]> {
  const belief = { repository: (await readIdentity(rig.store, "prod", calm))?.id ?? "", trusted: undefined };
  const listing = await listRepository(rig.store, calm);
  const found: HashkvProof[] = [];
  for (const entry of await readEntries(rig.store, listing.backups, belief, calm)) {
    if (entry.manifest === undefined) throw entry.refused;
    const read = await readProofs(rig.store, listing, entry, belief, calm);
    expect(read.refused).toEqual([]);
    found.push(...read.proofs.filter((proof) => proof.kind === "hashkv"));
  }
  return found;
}

const names = (rig: Rig): readonly string[] => rig.events.map(({ name }) => name);
const sources = (rig: Rig): readonly string[] =>
  rig.events.flatMap((event) => (event.name === "source.chosen" ? [event.member] : []));

describe("a backup", () => {
  test("is proven by a document that says who answered what, after its commit", async () => {
    using rig = await openRig();
    const { finding, manifest, manifestSha256 } = await backUp(rig);
    expect(finding).toMatchObject({ verdict: "proven", agreeing: ["etcd2", "etcd3"] });
    expect(await proofs(rig)).toMatchObject([
      {
        verdict: "proven",
        backup: manifest.backup,
        manifestSha256,
        voters: 3,
        needed: 2,
        agreeing: ["etcd2", "etcd3"],
        diverged: [],
        alone: false,
        source: { name: "etcd2", learner: false },
        revision: 50n,
        compactRevision: -1n,
        hash: 1,
        answers: [{ member: "etcd3", role: "follower", outcome: { kind: "hash", hash: 1, revision: 50n } }],
      },
    ]);
    expect(names(rig).slice(-2)).toEqual(["backup.committed", "backup.proven"]);
    expect(rig.events.at(-1)).toMatchObject({ schedule: "hourly", agreeing: ["etcd2", "etcd3"], diverged: [] });
    expect(rig.events).toContainEqual(expect.objectContaining({ name: "backup.phase", phase: "prove" }));
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  });

  test("whose other members do not answer is committed and sealed, and says why", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd1").fail = rig.etcd.member("etcd3").fail = {
      hashKv: new Fault("etcd-timeout", "no answer in time"),
    };
    const { finding } = await backUp(rig);
    expect(finding).toMatchObject({ verdict: "sealed", why: "too-few", passing: true });
    expect(await proofs(rig)).toMatchObject([{ verdict: "sealed", hash: null, compactRevision: null }]);
    expect(rig.events.at(-1)).toMatchObject({ name: "backup.sealed", why: "too-few", passing: true });
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  });

  test("of a member in the minority is not committed: it is taken from another one", async () => {
    using rig = await openRig();
    // The file of etcd2 hashes to what only etcd2 says; that of etcd3 to what the others say.
    for (const name of ["etcd1", "etcd3"]) rig.etcd.member(name).hash = 7;
    const { scan } = rig.deps;
    const outcome = await backUp(rig, {
      scan: async (...args) => ({ ...(await scan(...args)), hashKv: sources(rig).at(-1) === "etcd2" ? 1 : 7 }),
    });
    expect(outcome.manifest.source?.name).toBe("etcd3");
    expect(outcome.finding).toMatchObject({ verdict: "proven", agreeing: ["etcd3", "etcd1"], diverged: ["etcd2"] });
    expect(sources(rig)).toEqual(["etcd2", "etcd3"]);
    expect(rig.events).toContainEqual(expect.objectContaining({ name: "member.diverged", member: "etcd2" }));
    expect(rig.events.findLast(({ name }) => name === "source.chosen")).toMatchObject({
      rejected: [{ member: "etcd2", why: "holds other data than the majority" }],
    });
    expect((await listRepository(rig.store, calm)).backups).toHaveLength(1);
    expect(rig.ends()).toEqual(["backup.committed"]);
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
    expect(rig.etcd.open()).toBe(0);
  });

  test("is taken anew twice at most, and then committed sealed, aloud", async () => {
    using rig = await openRig();
    for (const { name } of rig.etcd.script.members) rig.etcd.member(name).hash = 7;
    const { finding } = await backUp(rig);
    expect(sources(rig)).toEqual(["etcd2", "etcd3", "etcd1"]);
    expect(finding.verdict).toBe("source-diverged");
    expect(await proofs(rig)).toMatchObject([{ verdict: "sealed", diverged: ["etcd1"] }]);
    expect(rig.events.at(-1)).toMatchObject({ name: "backup.sealed", why: "source-diverged", passing: false });
  });

  test("of a member in the minority is committed all the same where no other member can be drained", async () => {
    using rig = await openRig();
    for (const name of ["etcd1", "etcd3"]) {
      Object.assign(rig.etcd.member(name), { hash: 7, fail: { snapshot: new Fault("etcd-refused", "no") } });
    }
    const { finding, manifest } = await backUp(rig);
    expect(manifest.source?.name).toBe("etcd2");
    expect(finding.verdict).toBe("source-diverged");
  });

  test("does not fail of a file that cannot be hashed", async () => {
    using rig = await openRig({ compactRevision: 20n });
    const { finding } = await backUp(rig, {
      hashSpool: () => Promise.reject(new Fault("worker-failed", "the worker thread ended")),
    });
    expect(finding).toMatchObject({
      verdict: "sealed",
      why: "unknown",
      passing: true,
      reason: "members could not be asked: the worker thread ended",
    });
  });

  test("whose proof the store does not take is committed, and not called proven", async () => {
    using rig = await openRig();
    const struck = rig.store.trouble({
      method: "create",
      name: "/proofs/",
      fail: new Fault("store-unreachable", "no connection"),
    });
    const { finding } = await backUp(rig);
    expect(finding).toMatchObject({ verdict: "sealed", why: "unrecorded", passing: true });
    expect(struck()).toBe(1);
    expect(await proofs(rig)).toEqual([]);
    expect(rig.ends()).toEqual(["backup.committed"]);
    expect(rig.events.at(-1)).toMatchObject({ name: "backup.sealed", why: "unrecorded" });
    expect(rig.events).toContainEqual(expect.objectContaining({ name: "warning", about: "proof" }));
  });

  test("that is ended while members are asked is committed without their verdict, and leaves nothing behind", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd3").delayMs = { hashKv: 60_000 };
    const controller = new AbortController();
    const running = runBackup(rig.deps, demand, controller.signal);
    await expect.poll(() => rig.etcd.calls).toContain("hashKv etcd3");
    await expect.poll(() => rig.store.calls.some(({ method }) => method === "download")).toBe(true);
    controller.abort();
    expect(await running).toMatchObject({ kind: "committed", finding: { verdict: "sealed", passing: true } });
    expect(rig.ends()).toEqual(["backup.committed"]);
    expect((await listRepository(rig.store, calm)).backups).toHaveLength(1);
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
    expect(rig.etcd.open()).toBe(0);
  });

  test("is committed and told while its only member hangs", async () => {
    using rig = await openRig({ members: [{ name: "etcd1", snapshot: database, delayMs: { hashKv: 60_000 } }] });
    const controller = new AbortController();
    const running = runBackup(rig.deps, demand, controller.signal);
    await expect.poll(() => rig.ends()).toEqual(["backup.committed"]);
    expect(names(rig)).not.toContain("member.unhashed");
    expect((await listRepository(rig.store, calm)).backups).toHaveLength(1);
    controller.abort();
    expect(await running).toMatchObject({ kind: "committed", finding: { verdict: "sealed" } });
    expect(rig.ends()).toEqual(["backup.committed"]);
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  });

  test("that fails in the store does not wait for members any more", async () => {
    using rig = await openRig();
    rig.etcd.member("etcd3").delayMs = { hashKv: 60_000 };
    rig.store.trouble({ method: "upload", name: ".db.zst", fail: new Fault("store-full", "no room") });
    await expect(runBackup(rig.deps, demand, calm)).rejects.toMatchObject({ code: "store-full" });
    expect(rig.etcd.open()).toBe(0);
  });
});

describe("a backup that may be proven later", () => {
  test("is handed over with its spool file, which is gone when it is disposed", async () => {
    using rig = await openRig({ members: ["etcd1", "etcd2", "etcd3"].map((name) => ({ name })) });
    rig.etcd.member("etcd1").down = rig.etcd.member("etcd3").down = true;
    const kept: Unproven[] = [];
    const { manifest } = await backUp(rig, { keepUnproven: async (unproven) => void kept.push(unproven) });
    expect(kept).toMatchObject([{ committed: { manifest }, claim: { revision: 50n, hashKv: 1 } }]);
    expect(readdirSync(rig.spoolDirectory)).toHaveLength(1);
    await kept[0]![Symbol.asyncDispose]();
    expect(readdirSync(rig.spoolDirectory)).toEqual([]);
  });

  test("is not handed over when it is proven, or never can be", async () => {
    const kept: Unproven[] = [];
    using rig = await openRig();
    await backUp(rig, { keepUnproven: async (unproven) => void kept.push(unproven) });
    using compacted = await openRig({ compactRevision: 60n, revision: 61n });
    compacted.facts.current = { ...compacted.facts.current, revision: 61n, compactRevision: 61n };
    compacted.etcd.script.members.forEach((member) => {
      member.fail = { hashKv: new Fault("etcd-compacted", "compacted") };
    });
    expect(
      (await backUp(compacted, { keepUnproven: async (unproven) => void kept.push(unproven) })).finding,
    ).toMatchObject({
      why: "compacted",
    });
    expect(kept).toEqual([]);
  });
});
