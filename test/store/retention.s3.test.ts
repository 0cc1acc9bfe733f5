import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { PutObjectRetentionCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { age, command, expire, listed, openPlace, plantAll, type Place } from "../cluster/retention.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { pieces } from "../contracts/store.ts";
import { namesIn } from "../repository/plant.ts";
import { makeLockedBucket, versionsOf } from "./gateway.ts";

/** The real command against a real S3 server, whose own dates decide; files are made older where a test needs days. */

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "lifeboat-retention-"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

async function count(place: Place, part: string): Promise<number> {
  return (await namesIn(place.store)).filter((name) => name.includes(part)).length;
}

describe.each(["plain", "versioned"] as const)("in a %s bucket", (kind) => {
  let server: TestS3;
  beforeAll(async () => {
    server = await startS3({ versioning: kind === "versioned" });
    await server.createBucket("backups");
  });
  afterAll(async () => await server[Symbol.asyncDispose]());

  test("what retention lets go goes, its data a day later, and what nobody committed after a week", async () => {
    const place = await openPlace(root, { server, bucket: "backups" });
    const planted = await plantAll(place, 5);
    const names = planted.map(({ backup }) => backup);
    const shown = await command(place, ["expire"]);
    expect(shown.status, shown.stderr).toBe(0);
    expect(shown.stdout.match(/ GO /g)).toHaveLength(3);
    expect(await listed(place)).toEqual(names);

    expect((await expire(place)).outcome).toMatchObject({ expired: 3, objects: 0, orphans: 0, locked: 0, left: 0 });
    expect(await listed(place)).toEqual(names.slice(3));
    expect(await count(place, "/proofs/")).toBe(2);
    expect((await expire(place)).outcome).toMatchObject({ expired: 0, objects: 0, orphans: 0 });

    expect(await age(place, "/gone/", 2)).toBe(3);
    expect(await age(place, "/snapshots/", 8)).toBeGreaterThanOrEqual(12);
    expect((await expire(place)).outcome).toMatchObject({ expired: 0, objects: 6, orphans: 1 });
    expect(await age(place, "/gone/", 100)).toBe(4);
    expect((await expire(place)).outcome).toMatchObject({ objects: 2, orphans: 0 });
    expect((await expire(place)).outcome).toMatchObject({ objects: 0, orphans: 0 });
    expect(await count(place, "/gone/")).toBe(0);
    expect(await count(place, "/snapshots/")).toBe(4);
    expect(await listed(place)).toEqual(names.slice(3));
    const verified = await command(place, ["verify", "--level", "bytes"]);
    expect(verified.status, verified.stdout).toBe(0);
    if (kind === "versioned") {
      const old = (await versionsOf(server, "backups")).keys.filter((key) => key.endsWith(`/${names[0]}.json`));
      expect(old.length, "what was removed is a noncurrent version").toBeGreaterThan(0);
    }
  });

  test("a pinned backup stays, and goes when it is not pinned any more", async () => {
    const place = await openPlace(root, { server, bucket: "backups" });
    const [first] = await plantAll(place, 3);
    const oldest = first?.backup ?? "";
    const pinned = await command(place, ["pin", oldest, "--reason", "audit"]);
    expect(pinned.status, pinned.stderr).toBe(0);
    expect((await expire(place)).backups.find(({ backup }) => backup === oldest)).toMatchObject({
      keep: true,
      reasons: expect.arrayContaining(["pinned: audit"]) as string[],
    });
    expect((await command(place, ["unpin", oldest])).status).toBe(0);
    expect((await expire(place)).outcome).toMatchObject({ expired: 1 });
    expect(await listed(place)).not.toContain(oldest);
  });
});

describe("in a locked bucket", () => {
  test.each(["default", "own"] as const)(
    "what is locked by the %s retention is kept until its lock ends, and that is no error",
    async (kind) => {
      await using server = await startS3();
      await makeLockedBucket(server, "locked");
      const place = await openPlace(root, { server, bucket: "locked" });
      const planted = await plantAll(place, 5);
      const lockedUntil = new Date(Math.floor(Date.now() / 1000) * 1000 + 20 * 86_400_000);
      if (kind === "own") {
        // As AWS does with a bucket's default: each object carries its own date.
        const client = server.client();
        for (const { manifestName } of planted) {
          const Key = `${basename(place.files)}/${manifestName}`;
          const Retention = { Mode: "COMPLIANCE", RetainUntilDate: lockedUntil } as const;
          await client.send(new PutObjectRetentionCommand({ Bucket: "locked", Key, Retention }));
        }
        client.destroy();
      }
      const { outcome } = await expire(place);
      expect(outcome).toMatchObject({ expired: 0, locked: 3, left: 3 });
      expect(outcome.lockedUntil).toBe(kind === "own" ? lockedUntil.toISOString() : null);
      expect(await listed(place)).toEqual(planted.map(({ backup }) => backup));
      const said = await command(place, ["expire", "--yes"]);
      expect(said.status).toBe(0);
      expect(said.stderr).toContain("the store keeps 3 or more objects under a lock");
    },
  );

  test("a name that is taken is told as taken, though the store calls it a missing right", async () => {
    await using server = await startS3();
    await makeLockedBucket(server, "locked");
    const { store } = await openPlace(root, { server, bucket: "locked" });
    const { signal } = new AbortController();
    await store.create("fence", Buffer.from("one"), signal);
    await store.create("fence", Buffer.from("one"), signal);
    await expect(store.create("fence", Buffer.from("two"), signal)).rejects.toMatchObject({ code: "store-exists" });
    const upload = async (bytes: number): Promise<unknown> =>
      await store.upload("fence", pieces(Buffer.alloc(bytes)), signal);
    await expect(upload(10)).rejects.toMatchObject({ code: "store-exists" });
    await expect(upload(14 * 1024 * 1024)).rejects.toMatchObject({ code: "store-exists" });
    await expect(store.remove("fence", signal)).rejects.toMatchObject({ code: "store-locked" });
  });

  test("with versions, a delete marker hides what expired, and its bytes stay", async () => {
    await using server = await startS3({ versioning: true });
    await makeLockedBucket(server, "locked");
    const place = await openPlace(root, { server, bucket: "locked" });
    const planted = await plantAll(place, 4);
    expect((await expire(place)).outcome).toMatchObject({ expired: 2, locked: 0 });
    expect(await listed(place)).toEqual(planted.slice(2).map(({ backup }) => backup));
    const { keys } = await versionsOf(server, "locked");
    expect(keys.filter((key) => key.endsWith(`/${planted[0]?.backup}.json`)).length).toBeGreaterThan(0);
  });
});
