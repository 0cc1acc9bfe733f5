import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openCatalogCache } from "../../src/repository/cache.ts";
import type { Belief } from "../../src/repository/catalog.ts";
import { digestOf } from "../../src/repository/documents.ts";
import { writeManifest } from "../../src/repository/manifest.ts";
import { formatBackupName, manifestName, proofName } from "../../src/repository/names.ts";
import { writeProof } from "../../src/repository/proof.ts";
import { openRows, type CatalogRow } from "../../src/repository/rows.ts";
import { standingOf } from "../../src/repository/row.ts";
import type { Signer } from "../../src/repository/signature.ts";
import { memoryStore, type MemoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";
import { freshKeys } from "./keys.ts";
import { lineageId, repositoryId, sampleManifest, sampleProof } from "./sample.ts";

const startMs = Date.UTC(2026, 0, 1);
const nowMs = Date.UTC(2026, 5, 1);
const backups = 6;

let above: string;
let directory: string;
let store: MemoryStore;
beforeEach(async () => {
  above = mkdtempSync(join(tmpdir(), "cache-test-"));
  directory = join(above, "catalog");
  store = memoryStore(() => startMs);
  for (let hour = 0; hour < backups; hour += 1) await addBackup(hour);
});
afterEach(() => rmSync(above, { recursive: true }));

const idOf = (hour: number): string =>
  formatBackupName({ kind: "slot", timeMs: startMs + hour * 3_600_000, schedule: "hourly" });
const proofIdOf = (hour: number): string => `01JQ${hour.toString().padStart(22, "0")}`;
const manifestOf = (hour: number): string => manifestName(lineageId, idOf(hour));
const proofOf = (hour: number): string =>
  proofName(lineageId, { backup: idOf(hour), id: proofIdOf(hour), kind: "hashkv", verdict: "proven" });

async function addBackup(hour: number, signer?: Signer, label: string | null = null): Promise<void> {
  const bytes = writeManifest(sampleManifest({ backup: idOf(hour), label }), signer);
  await store.create(manifestOf(hour), bytes, calm);
  const proof = sampleProof({ backup: idOf(hour), id: proofIdOf(hour), manifestSha256: digestOf(bytes) });
  await writeProof(store, proof, signer, calm);
}

interface Seen {
  readonly rows: readonly CatalogRow[];
  /** Documents that were read of the store. */
  readonly reads: number;
  readonly problem: string | undefined;
}

async function look(
  options: { belief?: Belief; at?: number; directory?: string; store?: MemoryStore } = {},
): Promise<Seen> {
  const belief = options.belief ?? { repository: repositoryId, trusted: undefined };
  const from = options.store ?? store;
  const before = from.calls.length;
  const cache = await openCatalogCache(
    options.directory ?? directory,
    { ...belief, store: from.description },
    options.at ?? nowMs,
  );
  const { entries } = await openRows(from, belief, cache, 4, calm);
  const rows = await Array.fromAsync(entries);
  const reads = from.calls
    .slice(before)
    .filter(({ method, name }) => method === "read" && !name.endsWith("lineage.json"));
  return { rows, reads: reads.length, problem: cache.problem };
}

const told = ({ rows }: Seen): unknown =>
  rows.map((row) => ({
    backup: row.listed.backup,
    row: row.row,
    proofs: row.row && row.proofs,
    refused: row.refused?.code,
    refusedProofs: row.row && row.refusedProofs.map(({ refused }) => refused.code),
  }));
const cacheFile = (): string => join(directory, readdirSync(directory)[0] ?? "");

describe("the catalog's cache", () => {
  test("spares reading what was read before, and says the same", async () => {
    const first = await look();
    expect(first).toMatchObject({ reads: 2 * backups, problem: undefined });
    const second = await look();
    expect(second).toMatchObject({ reads: 0, problem: undefined });
    expect(told(second)).toEqual(told(first));
    expect(second.rows.map((row) => standingOf(row.row === undefined ? [] : row.proofs).proof)).toEqual(
      Array.from({ length: backups }, () => "proven"),
    );
  });

  test("is one file of its owner's alone, in a directory of its owner's alone, and holds no frames, members or answers", async () => {
    await look();
    expect(readdirSync(directory)).toHaveLength(1);
    expect(statSync(cacheFile()).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(readFileSync(cacheFile(), "utf8")).not.toMatch(/frames|peerUrls|10\.0\.0|answers/);
  });

  test("is not written again when nothing has changed", async () => {
    await look();
    utimesSync(cacheFile(), 1, 1);
    await look();
    expect(statSync(cacheFile()).mtimeMs).toBe(1000);
  });

  test("takes the store's word for what there is: added, removed and proven since", async () => {
    await look();
    await addBackup(backups);
    await store.remove(manifestOf(0), calm);
    await store.remove(proofOf(1), calm);
    const seen = await look();
    expect(seen.reads).toBe(2);
    expect(seen.rows.map(({ listed }) => listed.backup)).toEqual([1, 2, 3, 4, 5, 6].map(idOf));
    expect(seen.rows[0]?.row && seen.rows[0].proofs).toEqual([]);
    expect(readFileSync(cacheFile(), "utf8")).not.toContain(manifestOf(0));
  });

  test("sees an object that was replaced, also by one of the same size and date", async () => {
    const [first] = (await look()).rows;
    const replace = (name: string, edit: (text: string) => string): void => {
      const old = store.objects.get(name);
      if (old === undefined) throw new Error(name);
      store.objects.set(name, { ...old, bytes: Buffer.from(edit(Buffer.from(old.bytes).toString())) });
    };
    replace(manifestOf(0), (text) => text.replace('"revision":"100000"', '"revision":"100001"'));
    replace(proofOf(2), (text) => text.replace('"madeAt":"2026-03', '"madeAt":"2026-04'));
    const { rows, reads } = await look();
    expect(reads).toBe(3);
    expect(first?.row?.revision).toBe(100_000n);
    expect(rows[0]?.row?.revision).toBe(100_001n);
    // The manifest's proof was of other bytes.
    expect(rows[0]?.row && rows[0].proofs).toEqual([]);
    expect(rows[0]?.row && rows[0].refusedProofs.map(({ refused }) => refused.message)).toEqual([
      expect.stringContaining("proves another manifest") as string,
    ]);
    expect(rows[2]?.row && rows[2].proofs[0]?.madeAt).toMatch(/^2026-04/);
  });

  test("keeps nothing that was refused, so that it is refused again", async () => {
    store.objects.set(manifestOf(0), { bytes: Buffer.from("{}"), modifiedMs: startMs });
    store.objects.set(proofOf(1), { bytes: Buffer.from("{}"), modifiedMs: startMs });
    const first = await look();
    const second = await look();
    expect(told(second)).toEqual(told(first));
    expect(second.rows[0]?.refused?.code).toBe("manifest-invalid");
    expect(second.rows[1]?.row && second.rows[1].refusedProofs).toHaveLength(1);
    expect(second.reads).toBe(2);
  });

  test("keeps what was read before somebody lost patience", async () => {
    const belief = { repository: repositoryId, trusted: undefined };
    const cache = await openCatalogCache(directory, { ...belief, store: store.description }, nowMs);
    const { entries } = await openRows(store, belief, cache, 2, calm);
    for await (const _ of entries) break;
    expect((await look()).reads).toBe(2 * (backups - 2));
    expect((await look()).reads).toBe(0);
  });

  test("without a tag from the store, keeps only what is old enough to be told from its replacement", async () => {
    const untagged: MemoryStore = {
      ...store,
      async *list(range, signal) {
        for await (const entry of store.list(range, signal)) yield { ...entry, tag: undefined };
      },
    };
    await look({ store: untagged, at: startMs + 30_000 });
    expect((await look({ store: untagged, at: startMs + 90_000 })).reads).toBe(2 * backups);
    expect((await look({ store: untagged, at: startMs + 90_000 })).reads).toBe(0);
  });

  test("is safe with several at once, each of which sees everything", async () => {
    const seen = await Promise.all(Array.from({ length: 8 }, () => look()));
    for (const each of seen) expect(told(each)).toEqual(told(seen[0] as Seen));
    expect(readdirSync(directory)).toHaveLength(1);
    expect((await look()).reads).toBe(0);
  });
});

describe("a cache that cannot be believed is ignored and made anew:", () => {
  const spoils: readonly [string, () => void][] = [
    ["deleted", () => rmSync(cacheFile())],
    ["deleted with its directory", () => rmSync(directory, { recursive: true })],
    ["empty", () => writeFileSync(cacheFile(), "")],
    ["cut off", () => writeFileSync(cacheFile(), readFileSync(cacheFile()).subarray(0, -7))],
    [
      "longer than it was",
      () => writeFileSync(cacheFile(), Buffer.concat([readFileSync(cacheFile()), Buffer.from(" ")])),
    ],
    ["no JSON", () => writeFileSync(cacheFile(), "nonsense\n[]\n")],
    ["readable by others", () => chmodSync(cacheFile(), 0o644)],
    ["writable by others", () => chmodSync(cacheFile(), 0o666)],
    ["in a directory that is open to others", () => chmodSync(directory, 0o755)],
    ["below a directory that is open to others", () => chmodSync(above, 0o777)],
    [
      "behind a symbolic link",
      () => {
        renameSync(cacheFile(), join(above, "elsewhere"));
        symlinkSync(join(above, "elsewhere"), join(directory, fileName));
      },
    ],
    ["a directory", () => (rmSync(cacheFile()), mkdirSync(join(directory, fileName)))],
  ];
  let fileName = "";

  test.each(spoils)("%s", async (_, spoil) => {
    const first = await look();
    fileName = readdirSync(directory)[0] ?? "";
    spoil();
    const second = await look();
    expect(second.reads).toBe(2 * backups);
    expect(told(second)).toEqual(told(first));
  });

  test.each(spoils.slice(0, 8))("%s, and the next look finds a whole one", async (_, spoil) => {
    await look();
    fileName = readdirSync(directory)[0] ?? "";
    spoil();
    await look();
    expect((await look()).reads).toBe(0);
    expect(statSync(cacheFile()).mode & 0o777).toBe(0o600);
  });

  test("any one bit flipped", async () => {
    const first = await look();
    const whole = readFileSync(cacheFile());
    const path = cacheFile();
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: whole.length * 8 - 1 }), async (bit) => {
        const flipped = Buffer.from(whole);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        writeFileSync(path, flipped);
        const second = await look();
        expect(second.reads).toBe(2 * backups);
        expect(told(second)).toEqual(told(first));
      }),
      { numRuns: 150 },
    );
  });

  test("rows that were changed together with the checksum, into what is no row", async () => {
    const first = await look();
    const [, ...body] = readFileSync(cacheFile(), "utf8").split("\n");
    const spoiled = body
      .join("\n")
      .replaceAll('"keys":5000', '"keys":-1')
      .replaceAll('"verdict":"proven"', '"verdict":"good"');
    const [head = ""] = readFileSync(cacheFile(), "utf8").split("\n");
    const sha256 = digestOf(Buffer.from(spoiled));
    writeFileSync(cacheFile(), `${JSON.stringify({ ...(JSON.parse(head) as object), sha256 })}\n${spoiled}`);
    const second = await look();
    expect(second.reads).toBe(2 * backups);
    expect(told(second)).toEqual(told(first));
  });

  test("of another repository, of another store, of other keys", async () => {
    const { signer, trusted } = freshKeys();
    store.objects.clear();
    for (let hour = 0; hour < backups; hour += 1) await addBackup(hour, signer);
    await look({ belief: { repository: repositoryId, trusted } });
    const path = cacheFile();
    expect((await look({ belief: { repository: repositoryId, trusted } })).reads).toBe(0);
    // What one key signed is not believed where another one is asked for, whatever was believed before.
    const others = await look({ belief: { repository: repositoryId, trusted: freshKeys().trusted } });
    expect(others.reads).toBe(backups);
    expect(others.rows.map(({ refused }) => refused?.code)).toEqual(
      Array.from({ length: backups }, () => "manifest-untrusted"),
    );
    expect((await look({ belief: { repository: repositoryId, trusted } })).reads).toBe(0);
    expect((await look({ belief: { repository: repositoryId, trusted: undefined } })).reads).toBe(2 * backups);

    const other = "01JQZZZZZZZZZZZZZZZZZZZZZZ";
    await look({ belief: { repository: other, trusted: undefined } });
    expect((await look({ belief: { repository: other, trusted: undefined } })).reads).toBe(backups);
    writeFileSync(path.replace(repositoryId, other), readFileSync(path), { mode: 0o600 });
    expect((await look({ belief: { repository: other, trusted: undefined } })).reads).toBe(backups);
    expect((await look({ store: { ...store, description: "memory:other" } })).reads).toBe(2 * backups);
  });
});

describe("where nothing can be kept", () => {
  test("of another user's cache nothing is read, and nothing is written there", async () => {
    const first = await look();
    const whole = readFileSync(cacheFile());
    const uid = process.geteuid?.() ?? 0;
    const other = vi.spyOn(process, "geteuid").mockReturnValue(uid + 1);
    await addBackup(backups);
    const seen = await look();
    other.mockRestore();
    expect(seen.reads).toBe(2 * backups + 2);
    expect(seen.problem).toContain(`belongs to uid ${uid}, and this runs as uid ${uid + 1}`);
    expect(told({ ...seen, rows: seen.rows.slice(0, backups) })).toEqual(told(first));
    expect(readFileSync(cacheFile())).toEqual(whole);
  });

  test("everything is read each time, and it is told why", async () => {
    const missing = join(above, "missing", "catalog");
    expect(await look({ directory: missing })).toMatchObject({
      reads: 2 * backups,
      problem: expect.stringContaining("ENOENT") as string,
    });
    expect(readdirSync(above)).toEqual([]);
    writeFileSync(directory, "in the way");
    const seen = await look();
    expect(seen.problem).toContain("is not a directory");
    expect(seen.rows).toHaveLength(backups);
  });
});

describe("the cache's directory", () => {
  test("keeps the files of the last few repositories, drops what dead writers left, and touches nothing else", async () => {
    mkdirSync(directory, { mode: 0o700 });
    const names = Array.from({ length: 9 }, (_, n) => `01JQZZZZZZZZZZZZZZZZZZZZZ${n}.0123456789abcdef.json`);
    for (const [n, name] of names.entries()) {
      writeFileSync(join(directory, name), "");
      utimesSync(join(directory, name), n, n);
    }
    const dead = `${names[0] ?? ""}.0123456789ab`;
    const young = `${names[0] ?? ""}.0123456789ac`;
    for (const name of [dead, young, "notes.txt"]) writeFileSync(join(directory, name), "");
    utimesSync(join(directory, dead), 1, 1);
    await look();
    const left = readdirSync(directory);
    expect(left).toContain("notes.txt");
    expect(left).toContain(young);
    expect(left).not.toContain(dead);
    expect(left.filter((name) => names.includes(name))).toEqual(names.slice(-3));
    expect((await look()).reads).toBe(0);
  });

  test("a row that somebody made enormous is not kept", async () => {
    const manifest = sampleManifest({ backup: idOf(backups) });
    const source = manifest.source && { ...manifest.source, name: "x".repeat(20_000) };
    await store.create(manifestOf(backups), writeManifest({ ...manifest, source }, undefined), calm);
    await look();
    expect((await look()).reads).toBe(1);
    expect(statSync(cacheFile()).size).toBeLessThan(20_000);
  });
});
