import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateMultipartUploadCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import type { S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crc32c } from "../../src/crc32c.ts";
import { openS3Store } from "../../src/store/s3.ts";
import { startS3 } from "../cluster/s3.ts";
import type { TestS3 } from "../cluster/s3.ts";
import { expectFault, gathered, listed, pieces, storeContract } from "../contracts/store.ts";
import { makeBucket, openBucket, optionsFor } from "./gateway.ts";

const partBytes = 5 * 1024 * 1024;
const signal = new AbortController().signal;

storeContract("the S3 store", async () => {
  const gateway = await startS3();
  const opened = await makeBucket(gateway, { bucket: "contract", partBytes });
  return { ...opened, partBytes, [Symbol.asyncDispose]: async () => await gateway[Symbol.asyncDispose]() };
});

storeContract("the S3 store without flexible checksums", async () => {
  const gateway = await startS3();
  const opened = await makeBucket(gateway, { bucket: "contract", partBytes, checksums: "none", prefix: "" });
  return { ...opened, partBytes, [Symbol.asyncDispose]: async () => await gateway[Symbol.asyncDispose]() };
});

describe("the S3 store", () => {
  let gateway: TestS3;
  let client: S3Client;
  const keys = () => optionsFor(gateway).credentials;
  beforeAll(async () => {
    gateway = await startS3();
    client = gateway.client();
  });
  afterAll(async () => {
    client.destroy();
    await gateway[Symbol.asyncDispose]();
  });

  test("reports the checksum of all bytes, of one part and of many", async () => {
    const { store } = await makeBucket(gateway, { bucket: "checksums", partBytes });
    for (const size of [1000, 2 * partBytes + 1000]) {
      const bytes = Buffer.alloc(size, "etcd");
      await store.upload(`object.${size}`, pieces(bytes), signal);
      expect(await store.head(`object.${size}`, signal)).toEqual({ storedBytes: size, crc32c: crc32c(bytes) });
    }
  });

  test("two prefixes in one bucket do not see each other, even when one begins like the other", async () => {
    const { store: one } = await makeBucket(gateway, { bucket: "prefixes", prefix: "site" });
    const { store: two } = openBucket(gateway, { bucket: "prefixes", prefix: "site2" });
    await one.create("x", Buffer.from("one"), signal);
    await two.create("x", Buffer.from("two"), signal);
    await two.create("y", Buffer.from("two"), signal);
    expect((await listed(one, "")).map((entry) => entry.name)).toEqual(["x"]);
    expect(Buffer.from(await one.read("x", signal)).toString()).toBe("one");
    expect(one.description).toBe("s3://prefixes/site");
  });

  test("what somebody else keeps under the prefix is left out of listings", async () => {
    const { store } = await makeBucket(gateway, { bucket: "foreign" });
    for (const name of ["a b", ".hidden", "ü", "fine", "directory/"]) {
      await client.send(
        new PutObjectCommand({ Bucket: "foreign", Key: `site/backups/${name}`, Body: "", ContentLength: 0 }),
      );
    }
    expect((await listed(store, "")).map((entry) => entry.name)).toEqual(["fine"]);
  });

  test("an object written by another tool, with another checksum, can be read", async () => {
    const { store } = await makeBucket(gateway, { bucket: "others" });
    await client.send(new PutObjectCommand({ Bucket: "others", Key: "site/backups/object", Body: "by the stock SDK" }));
    expect(await store.head("object", signal)).toEqual({ storedBytes: 16, crc32c: undefined });
    expect(Buffer.from(await store.read("object", signal)).toString()).toBe("by the stock SDK");
  });

  test("sweeps unfinished uploads under its prefix when they are old enough, and no others", async () => {
    const { store, leftovers } = await makeBucket(gateway, { bucket: "sweeping" });
    for (const key of ["site/backups/a", "site/backups/b/c", "site/backups/b/c", "site/backups2/a", "elsewhere"]) {
      await client.send(new CreateMultipartUploadCommand({ Bucket: "sweeping", Key: key }));
    }
    expect(await store.sweep(3_600_000, signal)).toBe(0);
    expect(await leftovers()).toBe(5);
    // The server's Date is of whole seconds and may be a second old: by it, what was begun just now is of the future.
    let swept = 0;
    await expect.poll(async () => (swept += await store.sweep(0, signal))).toBe(3);
    expect(await leftovers()).toBe(2);
  });

  test("credentials come from a file, and are read again when it is another one", async () => {
    const directory = await mkdtemp(join(tmpdir(), "lifeboat-credentials-"));
    const file = join(directory, "credentials");
    const write = async (secret: string): Promise<void> => {
      const text = `# ours\n[default]\naws_access_key_id = wrong\n[backup]\naws_access_key_id = ${gateway.accessKey}\r\naws_secret_access_key=${secret}\n`;
      await writeFile(`${file}.new`, text);
      await rename(`${file}.new`, file);
    };
    await write(gateway.secretKey);
    const { store } = await makeBucket(gateway, { bucket: "rotation", credentials: { file, profile: "backup" } });
    await store.create("one", Buffer.from("1"), signal);
    await write("not-the-secret");
    const fault = await expectFault(store.create("two", Buffer.from("2"), signal), "store-denied");
    expect(fault.hint).toContain("secret key");
    await write(gateway.secretKey);
    await store.create("two", Buffer.from("2"), signal);

    const { store: other } = openBucket(gateway, {
      bucket: "rotation",
      credentials: { file, profile: "absent" },
    });
    expect((await expectFault(other.head("one", signal), "secret-unreadable")).message).toContain("[absent]");
    await rm(directory, { recursive: true });
    expect((await expectFault(store.head("one", signal), "secret-unreadable")).message).toContain(file);
  });

  describe("says what is wrong with the configuration", () => {
    const all = async (options: Parameters<typeof openS3Store>[0], code: Parameters<typeof expectFault>[1]) => {
      const store = openS3Store({ endpoint: gateway.url, credentials: keys(), attempts: 2, ...options });
      const faults = [
        await expectFault(store.create("x", Buffer.from("1"), signal), code),
        await expectFault(store.upload("x", pieces(Buffer.alloc(20_000_000)), signal), code),
        await expectFault(store.read("x", signal), code),
        await expectFault(gathered(store.download("x", signal)), code),
        await expectFault(store.head("x", signal), code),
        await expectFault(listed(store, ""), code),
        await expectFault(store.remove("x", signal), code),
        await expectFault(store.sweep(0, signal), code),
      ];
      for (const fault of faults) {
        expect(JSON.stringify([fault.message, fault.hint, String(fault.cause)])).not.toContain(gateway.secretKey);
      }
      return faults;
    };

    test("a bucket that does not exist is named, by every method, and never made", async () => {
      for (const fault of await all({ bucket: "no-such-bucket" }, "store-missing")) {
        expect(fault.message).toContain("bucket no-such-bucket does not exist");
      }
      await all({ bucket: "no-such-bucket" }, "store-missing");
    });

    test("the region where the bucket lives is named", async () => {
      await makeBucket(gateway, { bucket: "regional" });
      for (const fault of await all({ bucket: "regional", region: "eu-central-1" }, "store-region")) {
        expect(fault.hint).toBe("set the store's region to us-east-1");
      }
    });

    test("a wrong secret key and a wrong access key are told apart", async () => {
      await makeBucket(gateway, { bucket: "private" });
      const wrongSecret = { ...keys(), secretAccessKey: "wrong" };
      for (const fault of await all({ bucket: "private", credentials: wrongSecret }, "store-denied")) {
        expect(fault.hint).toContain("secret key does not belong to the access key");
      }
      const wrongKey = { ...keys(), accessKeyId: "AKNOBODY" };
      for (const fault of await all({ bucket: "private", credentials: wrongKey }, "store-denied")) {
        expect(fault.hint).toContain("does not know the access key");
      }
    });

    test("an endpoint that is down and one that does not resolve are named", async () => {
      for (const endpoint of ["http://127.0.0.1:9", "http://no-such-host.invalid:9000"]) {
        const store = openS3Store({ bucket: "b", endpoint, credentials: keys(), attempts: 2 });
        const fault = await expectFault(store.head("x", signal), "store-unreachable");
        expect(fault.message).toContain(endpoint);
        await expectFault(store.create("x", Buffer.from("1"), signal), "store-unreachable");
      }
    });
  });
});
