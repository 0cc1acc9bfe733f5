import { describe, expect, test } from "vitest";
import {
  findBackup,
  listRepository,
  openWholeCatalog,
  readCatalog,
  readHistories,
  type Belief,
  type Catalog,
} from "../../src/repository/catalog.ts";
import { createRepository, readIdentity } from "../../src/repository/identity.ts";
import { createLineage, readLineage } from "../../src/repository/lineage.ts";
import { writeManifest } from "../../src/repository/manifest.ts";
import { formatBackupName, lineageDocumentName, manifestName } from "../../src/repository/names.ts";
import { Fault } from "../../src/faults.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";
import { backupId, lineageId, repositoryId, sampleManifest, snapshotId } from "./sample.ts";

const belief: Belief = { repository: repositoryId, trusted: undefined };
const ids = { repository: repositoryId, firstLineage: lineageId };
const later = "01JQDDDDDDDDDDDDDDDDDDDDDD";
const nowMs = Date.UTC(2026, 2, 1);
const laterMs = Date.UTC(2026, 2, 2);

async function addLineage(store: MemoryStore, lineage: string, kind: "live" | "foreign" = "live"): Promise<void> {
  const about = {
    repository: repositoryId,
    lineage,
    kind,
    clusterId: kind === "live" ? "1" : null,
    parent: null,
    minimumRevision: 0n,
    reason: "test",
  };
  await createLineage(store, about, nowMs, calm);
}

async function addBackup(store: MemoryStore, backup: string, lineage = lineageId, revision = 1n): Promise<void> {
  const plain = sampleManifest({ lineage, backup });
  const manifest = {
    ...plain,
    content: { ...plain.content, revision },
    live: plain.live && { ...plain.live, highestRevision: revision },
  };
  await store.create(manifestName(lineage, backup), writeManifest(manifest, undefined), calm);
}

async function wholeCatalog(store: MemoryStore): Promise<Catalog> {
  const catalog = await openWholeCatalog(store, belief, 3, calm);
  return { ...catalog, entries: await Array.fromAsync(catalog.entries) };
}

describe("the identity of a repository", () => {
  test("is one for two daemons that create it at the same time", async () => {
    const store = memoryStore();
    const second = { repository: snapshotId, firstLineage: later };
    const [a, b] = await Promise.all([
      createRepository(store, "prod", ids, nowMs, calm),
      createRepository(store, "prod", second, nowMs, calm),
    ]);
    expect(a.identity).toEqual(b.identity);
    expect(Number(a.created) + Number(b.created)).toBe(1);
  });

  test("is undefined where there is none, and another cluster is refused by both names", async () => {
    const store = memoryStore();
    expect(await readIdentity(store, "prod", calm)).toBeUndefined();
    await createRepository(store, "prod", ids, nowMs, calm);
    await expect(readIdentity(store, "test", calm)).rejects.toMatchObject({
      code: "repository-foreign",
      message: 'memory: holds the backups of cluster "prod", not of "test"',
    });
    await expect(createRepository(store, "test", ids, nowMs, calm)).rejects.toMatchObject({
      code: "repository-foreign",
    });
  });

  test("that is damaged is refused by name, and a store that fails is not taken for an empty one", async () => {
    const store = memoryStore();
    await store.create("repository.json", Buffer.from("{}"), calm);
    await expect(readIdentity(store, "prod", calm)).rejects.toMatchObject({
      code: "manifest-invalid",
      message: expect.stringMatching(/^repository.json/) as string,
    });
    const down = memoryStore();
    const struck = down.trouble({ method: "read", fail: new Fault("store-unreachable", "down") });
    await expect(readIdentity(down, "prod", calm)).rejects.toMatchObject({ code: "store-unreachable" });
    expect(struck()).toBe(1);
  });
});

describe("a repository that lost a document", () => {
  test("is no empty place: its backups are not given up for a new repository", async () => {
    const store = memoryStore();
    await createRepository(store, "prod", ids, nowMs, calm);
    await addLineage(store, lineageId);
    await addBackup(store, backupId);
    await store.remove("repository.json", calm);
    await expect(readIdentity(store, "prod", calm)).rejects.toMatchObject({
      code: "store-damaged",
      message: expect.stringMatching(/^repository.json is missing from memory:, but /) as string,
      hint: expect.stringContaining("lifecycle") as string,
    });
  });

  test("of a lineage names it, and hands out no older backup as the latest", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, "20260301T100000Z.slot.hourly");
    await addLineage(store, later);
    await addBackup(store, "20260301T110000Z.slot.hourly", later);
    await store.remove(lineageDocumentName(later), calm);
    const catalog = await wholeCatalog(store);
    expect(catalog.refusedLineages).toMatchObject([{ lineage: later, refused: { code: "store-object-missing" } }]);
    expect(() => findBackup(catalog, "latest")).toThrow(/does not exist|no such object/);
    expect(findBackup(catalog, "20260301T110000Z.slot.hourly").lineage).toBe(later);
    const listing = await listRepository(store, calm);
    await expect(readHistories(store, listing, belief, nowMs, calm)).rejects.toMatchObject({
      code: "store-object-missing",
    });
  });
});

describe("a lineage", () => {
  test("that exists already is believed as it is", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    const about = {
      repository: repositoryId,
      lineage: lineageId,
      kind: "live",
      clusterId: "2",
      parent: null,
      minimumRevision: 0n,
      reason: "other",
    } as const;
    expect(await createLineage(store, about, nowMs + 5, calm)).toMatchObject({ clusterId: "1", reason: "test" });
  });

  test("that was copied from another place is refused", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    const bytes = await store.read(lineageDocumentName(lineageId), calm);
    await store.create(lineageDocumentName(later), bytes, calm);
    await expect(readLineage(store, repositoryId, later, calm)).rejects.toMatchObject({ code: "manifest-invalid" });
    await expect(readLineage(store, snapshotId, lineageId, calm)).rejects.toMatchObject({ code: "manifest-invalid" });
  });
});

describe("the catalog", () => {
  test("finds latest, an id, and LINEAGE/id; an id of two lineages needs the lineage", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addLineage(store, later);
    for (const hour of ["10", "12", "11"]) await addBackup(store, `20260301T${hour}0000Z.slot.hourly`);
    await addBackup(store, "20260301T090000Z.slot.hourly", later);
    await addBackup(store, "20260301T100000Z.slot.hourly", later);
    const catalog = await wholeCatalog(store);
    expect(catalog.entries.map(({ listed }) => listed.backup.slice(9, 11))).toEqual(["09", "10", "10", "11", "12"]);
    expect(findBackup(catalog, "latest")).toMatchObject({ lineage: later, backup: "20260301T100000Z.slot.hourly" });
    expect(findBackup(catalog, "20260301T110000Z.slot.hourly").lineage).toBe(lineageId);
    expect(findBackup(catalog, `${lineageId}/20260301T100000Z.slot.hourly`).lineage).toBe(lineageId);
    expect(() => findBackup(catalog, "20260301T100000Z.slot.hourly")).toThrow(/names more than one backup/);
    expect(() => findBackup(catalog, "yesterday")).toThrow(/no backup "yesterday"/);
  });

  test("the latest is the one with the most history, whatever the clock said when it was taken", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, "20300101T000000Z.slot.hourly", lineageId, 100n);
    await addBackup(store, "20260301T110000Z.slot.hourly", lineageId, 900n);
    await addBackup(store, "20260301T120000Z.slot.hourly", lineageId, 900n);
    await addBackup(store, "20260301T100000Z.slot.hourly", lineageId, 800n);
    const catalog = await wholeCatalog(store);
    expect(findBackup(catalog, "latest").backup).toBe("20260301T120000Z.slot.hourly");
  });

  test("is read only as far as it is asked for: of a thousand backups, latest and an id cost a few manifests", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addLineage(store, later);
    for (let hour = 0; hour < 40; hour += 1) {
      const name = { kind: "slot", timeMs: nowMs + hour * 3_600_000, schedule: "hourly" } as const;
      await addBackup(store, formatBackupName(name), lineageId, BigInt(hour));
    }
    const whole = await wholeCatalog(store);
    const reads = (): number =>
      store.calls.filter(({ method, name }) => method === "read" && name.includes("backups/")).length;
    for (const wanted of [
      "latest",
      "20260301T050000Z.slot.hourly",
      `${lineageId}/20260301T050000Z.slot.hourly`,
      "none",
    ]) {
      const before = reads();
      const part = await readCatalog(store, belief, { names: [wanted], nowMs: laterMs }, calm);
      expect(reads() - before).toBeLessThanOrEqual(6);
      if (wanted === "none") expect(() => findBackup(part, wanted)).toThrow(/no backup "none"/);
      else expect(findBackup(part, wanted)).toEqual(findBackup(whole, wanted));
    }
  });

  test("an empty repository has no latest backup", async () => {
    const catalog = await wholeCatalog(memoryStore());
    expect(() => findBackup(catalog, "latest")).toThrow(/the repository has no backup/);
  });

  test("an imported file is never the latest", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId, "foreign");
    await addBackup(store, backupId);
    const catalog = await wholeCatalog(store);
    expect(() => findBackup(catalog, "latest")).toThrow(/has no backup/);
    expect(findBackup(catalog, backupId).backup).toBe(backupId);
  });

  test("refused manifests are no backups, are named, and are never latest", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, "20260301T100000Z.slot.hourly");
    await store.create(manifestName(lineageId, "20260301T110000Z.slot.hourly"), Buffer.from("{}"), calm);
    // A manifest that was copied from another slot.
    const copied = await store.read(manifestName(lineageId, "20260301T100000Z.slot.hourly"), calm);
    await store.create(manifestName(lineageId, "20260301T120000Z.slot.hourly"), copied, calm);
    const catalog = await wholeCatalog(store);
    expect(catalog.entries.map(({ manifest, refused }) => manifest?.backup ?? refused?.code)).toEqual([
      "20260301T100000Z.slot.hourly",
      "manifest-invalid",
      "manifest-invalid",
    ]);
    expect(findBackup(catalog, "latest").backup).toBe("20260301T100000Z.slot.hourly");
    expect(() => findBackup(catalog, "20260301T110000Z.slot.hourly")).toThrow(/is not a document of this format/);
  });

  test("foreign and hostile names are left alone", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, backupId);
    for (const name of [
      `lineages/${lineageId}/backups/20260230T000000Z.slot.hourly.json`,
      `lineages/${lineageId}/backups/README.json`,
      `lineages/${lineageId}/backups/${backupId}.json.bak`,
      `lineages/${lineageId.toLowerCase()}/lineage.json`,
      "lineages/x/lineage.json",
    ]) {
      await store.create(name, Buffer.from("{}"), calm);
    }
    const listing = await listRepository(store, calm);
    expect(listing.lineages).toEqual([lineageId]);
    expect(listing.backups.map(({ backup }) => backup)).toEqual([backupId]);
  });

  test("a lineage document that is damaged is named, hides no backup, and never lets an older lineage pass for the latest", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, "20260301T100000Z.slot.hourly");
    await store.create(lineageDocumentName(later), Buffer.from("damage"), calm);
    await addBackup(store, "20260301T110000Z.slot.hourly", later);
    const catalog = await wholeCatalog(store);
    expect(catalog.refusedLineages).toMatchObject([{ lineage: later, refused: { code: "manifest-invalid" } }]);
    expect(() => findBackup(catalog, "latest")).toThrow(/is no JSON document/);
    expect(findBackup(catalog, "20260301T110000Z.slot.hourly").lineage).toBe(later);
  });

  test("a store that fails while manifests are read is a failure, not an empty list", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, backupId);
    const struck = store.trouble({ method: "read", name: "/backups/", fail: new Fault("store-unreachable", "down") });
    await expect(wholeCatalog(store)).rejects.toMatchObject({ code: "store-unreachable" });
    expect(struck()).toBe(1);
  });
});

describe("histories", () => {
  test("are read from the newest believed manifests, past any number of refused ones", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    await addBackup(store, "20260301T100000Z.slot.hourly", lineageId, 500n);
    await addBackup(store, "20260301T110000Z.slot.hourly", lineageId, 400n);
    for (const minute of ["01", "02", "03", "04", "05", "06", "07"]) {
      await store.create(manifestName(lineageId, `20260301T12${minute}00Z.slot.hourly`), Buffer.from("{}"), calm);
    }
    const [history] = await readHistories(store, await listRepository(store, calm), belief, laterMs, calm);
    expect(history).toMatchObject({
      highestRevision: 500n,
      highestRaftIndex: 123_460n,
      newest: { backup: "20260301T110000Z.slot.hourly" },
    });
  });

  test("are not frozen by backups that a wrong clock dated into the future", async () => {
    const store = memoryStore();
    await addLineage(store, lineageId);
    for (const hour of ["10", "11", "12"]) await addBackup(store, `20300101T${hour}0000Z.slot.hourly`, lineageId, 100n);
    await addBackup(store, "20260301T110000Z.slot.hourly", lineageId, 900n);
    const listing = await listRepository(store, calm);
    const [history] = await readHistories(store, listing, belief, laterMs, calm);
    expect(history).toMatchObject({ highestRevision: 900n, newest: { backup: "20260301T110000Z.slot.hourly" } });
    // Nor by a clock that is wrong now, and behind everything that there is.
    const [behind] = await readHistories(store, listing, belief, 0, calm);
    expect(behind?.newest?.backup).toBe("20300101T120000Z.slot.hourly");
  });
});
