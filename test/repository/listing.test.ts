import { expect, test } from "vitest";
import { listRepository } from "../../src/repository/listing.ts";
import {
  formatBackupName,
  lineageDocumentName,
  manifestName,
  proofName,
  snapshotObjects,
} from "../../src/repository/names.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";
import { proofId } from "./sample.ts";

const lineages = ["01JQBBBBBBBBBBBBBBBBBBBBBB", "01JQCCCCCCCCCCCCCCCCCCCCCC", "01JQDDDDDDDDDDDDDDDDDDDDDD"];
const idOf = (index: number): string => `01JQ${index.toString().padStart(22, "0")}`;
const backupOf = (index: number): string =>
  formatBackupName({ kind: "slot", timeMs: Date.UTC(2026, 0, 1) + index * 3_600_000, schedule: "hourly" });

/** Backups with their data objects, in each lineage. */
function fill(store: MemoryStore, each: number): void {
  const put = (name: string): void => void store.objects.set(name, { bytes: Buffer.from("{}"), modifiedMs: 0 });
  for (const [at, lineage] of lineages.entries()) {
    put(lineageDocumentName(lineage));
    for (let index = 0; index < each; index += 1) {
      const backup = backupOf(at * each + index);
      put(manifestName(lineage, backup));
      put(proofName(lineage, { backup, id: proofId, kind: "hashkv", verdict: "proven" }));
      for (const name of Object.values(snapshotObjects(lineage, idOf(index), true))) put(name);
    }
  }
}

test.each([1, 300, 400, 1200])(
  "everything of %i backups in each lineage is listed, and data objects are passed over",
  async (each) => {
    const store = memoryStore();
    fill(store, each);
    let names = 0;
    const counted: MemoryStore = {
      ...store,
      async *list(range, signal) {
        for await (const entry of store.list(range, signal)) {
          names += 1;
          yield entry;
        }
      },
    };
    const { lineages: found, backups, proofs } = await listRepository(counted, calm);
    expect(found).toEqual(lineages);
    expect(backups.map(({ backup }) => backup)).toEqual(Array.from({ length: 3 * each }, (_, n) => backupOf(n)));
    expect(proofs).toHaveLength(3 * each);
    expect(names).toBeLessThanOrEqual(3 * (1 + 2 * each + 1000));
  },
);

test("a store that does not know where to begin is read to its end", async () => {
  const store = memoryStore();
  fill(store, 400);
  const forgetful: MemoryStore = {
    ...store,
    // As an adapter must: names that were not asked for are dropped.
    async *list(range, signal) {
      const { prefix, after } = typeof range === "string" ? { prefix: range, after: "" } : range;
      for await (const entry of store.list(prefix, signal)) if (entry.name > after) yield entry;
    },
  };
  expect((await listRepository(forgetful, calm)).backups).toHaveLength(1200);
});
