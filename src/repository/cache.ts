import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { z } from "zod";
import type { ObjectEntry } from "../store/store.ts";
import { maximumCacheBytes, readCacheFile, writeCacheFile } from "./cache-file.ts";
import { digestOf, toJson } from "./documents.ts";
import type { ListedBackup, ListedProof } from "./listing.ts";
import { backupRowSchema, proofRowSchema, type BackupRow, type ProofRow } from "./row.ts";
import type { TrustedKeys } from "./signature.ts";

/**
 * What was read of manifests and proofs before, on the local disk. It saves reading documents that cannot have changed, and decides nothing: which there
 * are is always the store's word, and a row counts only for exactly the object (size, date, tag) of which it was made. It may be deleted at any time.
 */
export interface CatalogCache {
  backup(listed: ListedBackup): BackupRow | undefined;
  proof(listed: ListedProof, manifestSha256: string): ProofRow | undefined;
  keepBackup(listed: ListedBackup, row: BackupRow): void;
  keepProof(listed: ListedProof, row: ProofRow): void;
  /** Writes what was asked for and kept; after an incomplete look also what was there before. Never rejects: see `problem`. */
  save(complete: boolean): Promise<void>;
  /** Why there is nothing of earlier looks, or nothing for later ones. */
  readonly problem: string | undefined;
}

/** For what a cache is good: the same store, the same repository, and the same keys. */
export interface CacheSubject {
  readonly repository: string;
  /** Description of the store. */
  readonly store: string;
  readonly trusted: TrustedKeys | undefined;
}

const schemaId = "etcd-lifeboat/catalog-cache/v1";
const headSchema = z.strictObject({
  schema: z.literal(schemaId),
  repository: z.string(),
  store: z.string(),
  trusted: z.string().nullable(),
  /** Of everything after the first line. */
  sha256: z.string(),
});
/** Object name, stamp, row: one on each line. */
const entrySchema = z.tuple([z.string(), z.string(), z.unknown()]);

interface Cached {
  readonly stamp: string;
  /** JSON value of a row. */
  readonly row: unknown;
}

/** A row with texts that somebody made enormous is read anew each time. */
const maximumRowCharacters = 16_384;

/** Opens the cache below a directory that is made when it is missing, unless the one above it is; `nowMs` is the time of the listing. */
export async function openCatalogCache(directory: string, subject: CacheSubject, nowMs: number): Promise<CatalogCache> {
  const store = digestOf(Buffer.from(subject.store)).slice(0, 16);
  const file = `${subject.repository}.${store}.json`;
  const read = await readCacheFile(directory, file);
  const parsed = read.bytes === undefined ? undefined : await parseCache(read.bytes, subject);
  let problem = read.bytes === undefined ? read.problem : undefined;
  const before = parsed ?? new Map<string, Cached>();
  const after = new Map<string, Cached>();
  let changed = false;

  const find = <Row>(name: string, stored: ObjectEntry | undefined, schema: z.ZodType<Row>): Row | undefined => {
    const cached = before.get(name);
    if (cached === undefined || stored === undefined || cached.stamp !== stampOf(stored)) return undefined;
    const row = schema.safeParse(cached.row);
    if (!row.success) return undefined;
    after.set(name, cached);
    return row.data;
  };
  const keep = (stored: ObjectEntry | undefined, row: BackupRow | ProofRow): void => {
    if (stored === undefined || !isSettled(stored, nowMs)) return;
    const text = toJson(row);
    if (text.length > maximumRowCharacters) return;
    after.set(stored.name, { stamp: stampOf(stored), row: JSON.parse(text) as unknown });
    changed = true;
  };

  return {
    get problem() {
      return problem;
    },
    backup(listed) {
      const row = listed.stored && find(listed.stored.name, listed.stored, backupRowSchema);
      return row?.lineage === listed.lineage && row.backup === listed.backup ? row : undefined;
    },
    proof({ proof, stored }, manifestSha256) {
      const row = find(stored.name, stored, proofRowSchema);
      // A manifest that was replaced takes its proofs with it.
      const same = row?.id === proof.id && row.kind === proof.kind && row.verdict === proof.verdict;
      return same && row.manifestSha256 === manifestSha256 ? row : undefined;
    },
    keepBackup: (listed, row) => keep(listed.stored, row),
    keepProof: (listed, row) => keep(listed.stored, row),
    async save(complete) {
      if (!changed && (!complete || after.size === before.size)) return;
      const entries = complete ? after : new Map([...before, ...after]);
      problem = await writeCacheFile(directory, file, await formatCache(entries, subject));
    },
  };
}

/** One object, and no other one under its name. */
function stampOf({ storedBytes, modifiedMs, tag }: ObjectEntry): string {
  return `${storedBytes}.${modifiedMs}.${tag ?? ""}`;
}

/** Without a tag, an object that replaces a young one may have the same date: some stores count in seconds, and clocks differ. */
function isSettled({ modifiedMs, tag }: ObjectEntry, nowMs: number): boolean {
  return tag !== undefined || modifiedMs < nowMs - 60_000;
}

/** Between two turns of the event loop: thousands of rows must not keep scrapes and probes waiting. */
const rowsATurn = 250;

async function parseCache(bytes: Buffer, subject: CacheSubject): Promise<Map<string, Cached> | undefined> {
  const end = bytes.indexOf(0x0a);
  if (end === -1) return undefined;
  try {
    const head = headSchema.parse(JSON.parse(bytes.toString("utf8", 0, end)));
    const body = bytes.subarray(end + 1);
    const usable =
      head.repository === subject.repository &&
      head.store === subject.store &&
      head.trusted === fingerprint(subject.trusted) &&
      head.sha256 === digestOf(body);
    return usable ? await parseEntries(body) : undefined;
  } catch {
    // Damaged, or of another version: as good as none.
    return undefined;
  }
}

/** What `formatCache` wrote: a JSON array with one entry on each line. */
async function parseEntries(body: Buffer): Promise<Map<string, Cached>> {
  const entries = new Map<string, Cached>();
  const last = body.lastIndexOf("]");
  let lines = 0;
  for (let from = 1; from < last; lines += 1) {
    const found = body.indexOf(",\n", from);
    const to = found === -1 ? last : found;
    const [name, stamp, row] = entrySchema.parse(JSON.parse(body.toString("utf8", from, to)));
    entries.set(name, { stamp, row });
    from = to + 2;
    if (lines % rowsATurn === rowsATurn - 1) await nextTurn();
  }
  return entries;
}

async function formatCache(entries: ReadonlyMap<string, Cached>, subject: CacheSubject): Promise<Uint8Array> {
  const lines: Buffer[] = [];
  let bytes = 1000;
  for (const [name, { stamp, row }] of entries) {
    const line = Buffer.from(`${JSON.stringify([name, stamp, row])},\n`);
    bytes += line.length;
    if (lines.push(line) % rowsATurn === 0) await nextTurn();
  }
  // Oldest first, as they were asked for: the newest stay.
  let from = 0;
  for (; bytes > maximumCacheBytes; from += 1) bytes -= lines[from]?.length ?? 0;
  const inside = Buffer.concat(lines.slice(from));
  const body = Buffer.concat([Buffer.from("["), inside.subarray(0, -2), Buffer.from("]\n")]);
  const head: z.input<typeof headSchema> = {
    schema: schemaId,
    repository: subject.repository,
    store: subject.store,
    trusted: fingerprint(subject.trusted),
    sha256: digestOf(body),
  };
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), body]);
}

/** A set of keys: what one verified says nothing where another one is asked for. */
function fingerprint(trusted: TrustedKeys | undefined): string | null {
  if (trusted === undefined) return null;
  return createHash("sha256")
    .update([...trusted.keys()].toSorted().join(" "))
    .digest("hex");
}
