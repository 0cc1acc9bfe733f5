import { afterAll, beforeAll, expect, test } from "vitest";
import { storeMirror } from "../../src/restore/mirrors.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";
import { mirrorContract } from "../contracts/mirror.ts";
import { makeLockedBucket, openBucket } from "../store/gateway.ts";

/** Copies of journals in buckets, also where nothing can be removed. */

const { signal } = new AbortController();
let gateway: TestS3;

beforeAll(async () => {
  gateway = await startS3({ versioning: true });
});

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});

let buckets = 0;

mirrorContract("copies in a versioned bucket", async () => {
  const bucket = `journals-${(buckets += 1)}`;
  await gateway.createBucket(bucket);
  const open = () => storeMirror(async () => await Promise.resolve(openBucket(gateway, { bucket }).store));
  return { one: open(), other: open(), [Symbol.asyncDispose]: () => Promise.resolve() };
});

test("in a locked bucket a journal grows line by line, and is wholly there or gone once somebody has tried to remove it", async () => {
  await makeLockedBucket(gateway, "locked-journals");
  const mirror = storeMirror(
    async () => await Promise.resolve(openBucket(gateway, { bucket: "locked-journals" }).store),
  );
  const id = "01JQ0000000000000000000001";
  const lines = ["plan", "a", "b", "c"];
  for (const [number, line] of lines.entries()) await mirror.append(id, number, [line], signal);
  expect(await mirror.read(id, signal)).toEqual(lines);
  await expect(mirror.append(id, 3, ["d"], signal)).rejects.toMatchObject({ code: "journal-taken" });
  await mirror.remove(id, signal).catch(() => undefined);
  expect([[], lines]).toContainEqual(await mirror.read(id, signal));
});
