import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DeleteObjectCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { expect, test } from "vitest";
import { openCatalogCache } from "../../src/repository/cache.ts";
import { manifestName } from "../../src/repository/names.ts";
import { openRows, type CatalogRow } from "../../src/repository/rows.ts";
import { standingOf } from "../../src/repository/row.ts";
import type { Store } from "../../src/store/store.ts";
import { fillCatalog } from "../bench/catalog-fill.ts";
import { startS3 } from "../cluster/s3.ts";
import { freshKeys } from "../repository/keys.ts";
import { lineageId, repositoryId } from "../repository/sample.ts";
import { makeBucket } from "./gateway.ts";

const signal = new AbortController().signal;
const backups = 300;

/** The long form, with the times: npm run bench:catalog. */
test(`the catalog of ${backups} proven backups is read once from an S3 server, and changes there are seen`, async () => {
  await using gateway = await startS3();
  const { store } = await makeBucket(gateway, { bucket: "catalog", prefix: "prod" });
  const { signer, trusted } = freshKeys();
  let pending: Promise<void>[] = [];
  for await (const { name, bytes } of fillCatalog(backups, signer)) {
    pending.push(store.create(name, bytes, signal));
    if (pending.length < 16) continue;
    await Promise.all(pending);
    pending = [];
  }
  await Promise.all(pending);
  const above = await mkdtemp(join(tmpdir(), "catalog-test-"));
  const look = async (): Promise<{ readonly rows: readonly CatalogRow[]; readonly read: readonly string[] }> => {
    const read: string[] = [];
    const counted: Store = {
      ...store,
      read: async (name, by) => {
        if (!name.endsWith("lineage.json")) read.push(name);
        return await store.read(name, by);
      },
    };
    const belief = { repository: repositoryId, trusted };
    const about = { ...belief, store: store.description };
    const cache = await openCatalogCache(join(above, "catalog"), about, Date.now());
    const { entries } = await openRows(counted, belief, cache, 8, signal);
    const rows = await Array.fromAsync(entries);
    expect(cache.problem).toBeUndefined();
    return { rows, read };
  };
  const proven = (rows: readonly CatalogRow[]): number =>
    rows.filter((row) => row.row !== undefined && standingOf(row.proofs).proof === "proven").length;

  const first = await look();
  expect(first.read).toHaveLength(2 * backups);
  expect(proven(first.rows)).toBe(backups);
  const second = await look();
  expect(second.read).toEqual([]);
  expect(second.rows.map(({ row }) => row)).toEqual(first.rows.map(({ row }) => row));

  // Somebody past us: one manifest is replaced by another one's bytes, one is removed.
  const client = gateway.client();
  const nameOf = (at: number): string => manifestName(lineageId, first.rows[at]?.listed.backup ?? "");
  const body = await store.read(nameOf(2), signal);
  await client.send(new PutObjectCommand({ Bucket: "catalog", Key: `prod/${nameOf(0)}`, Body: body }));
  await client.send(new DeleteObjectCommand({ Bucket: "catalog", Key: `prod/${nameOf(1)}` }));
  client.destroy();
  const third = await look();
  expect(third.read).toEqual([nameOf(0)]);
  expect(third.rows).toHaveLength(backups - 1);
  expect(third.rows[0]?.refused?.code).toBe("manifest-invalid");
  expect(proven(third.rows)).toBe(backups - 2);
  await rm(above, { recursive: true });
});
