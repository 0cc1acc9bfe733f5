import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, PutObjectLockConfigurationCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command, listed, openPlace, plantAll, type Place } from "../cluster/retention.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { plantBackup } from "../repository/plant.ts";
import { openBucket } from "./gateway.ts";

/** The real command copies between real stores: from a directory to buckets of every kind. */

let root: string;
let server: TestS3;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "lifeboat-copies-"));
  server = await startS3({ versioning: true });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

/** A directory store with a copy in a bucket. */
async function openCopied(bucket: string, prefix: string, by: TestS3 = server): Promise<Place> {
  const s3 = { bucket, prefix, endpoint: by.url, region: by.region, pathStyle: true };
  const place = await openPlace(root, undefined, { last: 1, minProven: 1 }, [{ name: "offsite", store: { s3 } }]);
  return { ...place, env: { AWS_ACCESS_KEY_ID: by.accessKey, AWS_SECRET_ACCESS_KEY: by.secretKey } };
}

async function lockBucket(bucket: string): Promise<void> {
  const client = server.client();
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
  const Rule = { DefaultRetention: { Mode: "COMPLIANCE", Days: 1 } } as const;
  const ObjectLockConfiguration = { ObjectLockEnabled: "Enabled", Rule } as const;
  await client.send(new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration }));
  client.destroy();
}

describe.each(["versioned", "locked"] as const)("a copy in a %s bucket", (kind) => {
  test("gets every backup, in one part and in several, reads as the first store does, and is expired by itself", async () => {
    if (kind === "locked") await lockBucket("copies-locked");
    else await server.createBucket("copies-versioned");
    const place = await openCopied(`copies-${kind}`, "prod");
    const planted = await plantAll(place, 2);
    const large = await plantBackup(place.store, { timeMs: Date.UTC(2026, 2, 1, 13), dataBytes: 7 * 1024 * 1024 });
    const copied = await command(place, ["copy"]);
    expect(copied.status, copied.stderr).toBe(0);
    expect(await listed(place, "--store", "offsite")).toEqual([...planted, large].map(({ backup }) => backup));
    const verified = await command(place, ["verify", "--level", "bytes", "--store", "offsite"]);
    expect(verified.status, verified.stdout + verified.stderr).toBe(0);
    expect((await command(place, ["copy"])).stderr).toContain("copy offsite: 0 backups copied");
    const expired = await command(place, ["expire", "--yes", "--store", "offsite"]);
    expect(expired.status, expired.stderr).toBe(0);
    // The first store still has it, and it does not come back.
    const again = await command(place, ["copy", "--json"]);
    expect(JSON.parse(again.stdout)).toMatchObject({ copies: [{ ok: true, copied: 0 }] });
    expect(await listed(place)).toHaveLength(3);
  });

  test("is never written over where a name is taken by other bytes", async () => {
    const taken = await openCopied(`copies-${kind}`, "taken");
    const { store } = openBucket(server, { bucket: `copies-${kind}`, prefix: "taken", pathStyle: true });
    const [first] = await plantAll(taken, 1);
    await store.create(first?.objects[0] ?? "", Buffer.alloc(1000, "another"), new AbortController().signal);
    const ended = await command(taken, ["copy"]);
    expect(ended.status).toBe(3);
    expect(ended.stderr).toContain("stands in the copy offsite with other bytes");
    expect(await store.read(first?.objects[0] ?? "", new AbortController().signal)).toEqual(
      Buffer.alloc(1000, "another"),
    );
    expect((await command(taken, ["list", "--store", "offsite"])).status).toBe(10);
  });
});

test("a copy's server that is killed in the middle costs exit status 3 and nothing else; the next run goes on", async () => {
  await using mortal = await startS3();
  await mortal.createBucket("mortal");
  const place = await openCopied("mortal", "prod", mortal);
  const planted = await plantAll(place, 3);
  await mortal.stop("SIGKILL");
  const dead = await command(place, ["copy", "--json"]);
  expect(dead.status).toBe(3);
  expect(JSON.parse(dead.stdout)).toMatchObject({ copies: [{ ok: false, code: "store-unreachable" }] });
  expect(await listed(place)).toHaveLength(3);
  await mortal.start();
  const killed = await command(place, ["copy"], {
    LIFEBOAT_FAILPOINTS: "on",
    LIFEBOAT_FAILPOINT: "copy-manifest-stored",
  });
  expect(killed.signal).toBe("SIGKILL");
  expect(await listed(place, "--store", "offsite")).toEqual([planted.at(-1)?.backup]);
  expect((await command(place, ["copy"])).status).toBe(0);
  expect(await listed(place, "--store", "offsite")).toEqual(planted.map(({ backup }) => backup));
});
