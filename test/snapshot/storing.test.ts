import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import { startStoring, type Storing } from "../../src/snapshot/storing.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm, seededBytes } from "./bytes.ts";

const encoder = { compressionLevel: 1, recipients: [], extras: [], signer: undefined, readBackBelowBytes: undefined };
const quiet = (): void => undefined;
const database = seededBytes(9_000_000);
const seal = createHash("sha256").update(database).digest();
let folder: string;
let store: MemoryStore;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "storing-test-"));
  writeFileSync(join(folder, "spool"), Buffer.concat([database, seal]));
  store = memoryStore(() => 0);
});
afterEach(() => rmSync(folder, { recursive: true }));

function start(spool = "spool"): Storing {
  const target = { lineage: "01JQ0000000000000000000001", snapshotId: "01JQ0000000000000000000002" };
  const content = { dbBytes: database.length, seal: seal.toString("hex") };
  return startStoring({ store, encoder }, target, join(folder, spool), content);
}

test("a snapshot that is stored becomes visible only when it is finished", async () => {
  await using storing = start();
  await expect.poll(() => store.calls.length).toBe(1);
  // Time for the whole of it to be encoded.
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(store.objects.size).toBe(0);
  const { object, uploaded, encoding } = await storing.finish(quiet, calm);
  expect([...store.objects.keys()]).toEqual([object]);
  expect(uploaded.storedBytes).toBe(store.objects.get(object)?.bytes.length);
  expect(encoding.facts().plainBytes).toBe(storing.plainBytes);
});

test("a snapshot that is given up leaves nothing", async () => {
  {
    await using storing = start();
    await expect.poll(() => store.calls.length).toBe(1);
    expect(storing.plainBytes).toBe(database.length + 32);
  }
  expect(store.objects.size).toBe(0);
});

test("an abort while it is finished leaves nothing, and is what comes out", async () => {
  await using storing = start();
  const abort = new AbortController();
  abort.abort(new Fault("interrupted", "enough"));
  await expect(storing.finish(quiet, abort.signal)).rejects.toMatchObject({ code: "interrupted", message: "enough" });
  expect(store.objects.size).toBe(0);
});

test.each([
  ["of the store", "spool", "store-unreachable"],
  ["of the spool", "missing", "spool-failed"],
])("trouble %s is told by finish, however early it comes", async (_, spool, code) => {
  if (spool === "spool") store.trouble({ method: "upload", fail: new Fault("store-unreachable", "nobody answers") });
  await using storing = start(spool);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await expect(storing.finish(quiet, calm)).rejects.toMatchObject({ code });
});
