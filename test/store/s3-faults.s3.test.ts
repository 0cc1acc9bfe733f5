import { randomBytes } from "node:crypto";
import { copyFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openS3Store } from "../../src/store/s3.ts";
import type { S3Options } from "../../src/store/s3.ts";
import type { Store } from "../../src/store/store.ts";
import { startS3 } from "../cluster/s3.ts";
import type { TestS3 } from "../cluster/s3.ts";
import { createAuthority } from "../cluster/tls.ts";
import { expectFault, gathered, listed, pieces } from "../contracts/store.ts";
import { s3Error, startFaultProxy } from "./fault-proxy.ts";
import type { FaultProxy, Mischief } from "./fault-proxy.ts";
import { makeBucket, optionsFor } from "./gateway.ts";
import type { Bucket } from "./gateway.ts";

const partBytes = 5 * 1024 * 1024;
const threeParts = randomBytes(2 * partBytes + 1000);
const signal = new AbortController().signal;
const body = Buffer.from("a manifest");

let gateway: TestS3;
let proxy: FaultProxy;
/** Through the proxy, with more patience than a busy machine needs for a part. */
let store: Store;
/** Around the proxy. */
let plain: Bucket;
let bucketNumber = 0;

const through = (options: Partial<S3Options> = {}): Store => {
  return openS3Store({
    ...optionsFor(gateway),
    endpoint: proxy.endpoint,
    bucket: `faults-${bucketNumber}`,
    prefix: "site/backups",
    partBytes,
    idleTimeoutMs: 30_000,
    attempts: 3,
    retryBudgetMs: 20_000,
    ...options,
  });
};
/** For what stalls for ever: long enough for a request that does not. */
const hastyMs = 1500;

beforeAll(async () => {
  gateway = await startS3();
});
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
});
beforeEach(async () => {
  bucketNumber += 1;
  plain = await makeBucket(gateway, { bucket: `faults-${bucketNumber}` });
  proxy = await startFaultProxy(gateway.url);
  store = through();
});
afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
  expect(await plain.leftovers(), "unfinished multipart uploads").toBe(0);
});

const putObject = /^\/[^?]*(\?x-id=PutObject)?$/;
const uploadPart = /partNumber=\d+/;
const complete = /\?uploadId=[^&]+$/;
const lost = { kind: "drop-reply" } as const;
const answer = (status: number, code: string): Mischief => ({ kind: "answer", status, body: s3Error(code) });

async function expectStored(name: string, bytes: Uint8Array): Promise<void> {
  expect(Buffer.compare(await gathered(plain.store.download(name, signal)), bytes)).toBe(0);
}

async function expectNothing(): Promise<void> {
  expect(await listed(plain.store, "")).toEqual([]);
}

describe("creating a document", () => {
  test("a reply that is lost does not lose the document: the retry finds our own bytes", async () => {
    const fired = proxy.add({ method: "PUT", path: putObject, mischief: lost });
    await store.create("m", body, signal);
    expect(fired()).toBe(1);
    await expectStored("m", body);
  });

  test("when every reply is lost, what is stored decides", async () => {
    const fired = proxy.add({ method: "PUT", path: putObject, times: 3, mischief: lost });
    await store.create("m", body, signal);
    expect(fired()).toBe(3);
    await expectStored("m", body);
  });

  test("a 412 that is due to our own earlier write is a success", async () => {
    await plain.store.create("m", body, signal);
    const fired = proxy.add({ method: "PUT", path: putObject, mischief: answer(412, "PreconditionFailed") });
    await store.create("m", body, signal);
    expect(fired()).toBe(1);
  });

  test("a 412 that is due to somebody else's write is a refusal, also after a lost reply", async () => {
    await plain.store.create("m", Buffer.from("somebody else's"), signal);
    const fired = proxy.add({ method: "PUT", path: putObject, mischief: lost });
    await expectFault(store.create("m", body, signal), "store-exists");
    expect(fired()).toBe(1);
    await expectStored("m", Buffer.from("somebody else's"));
  });

  test("a 409 of a concurrent request is asked again", async () => {
    const mischief = answer(409, "ConditionalRequestConflict");
    const fired = proxy.add({ method: "PUT", path: putObject, times: 2, mischief });
    await store.create("m", body, signal);
    expect(fired()).toBe(2);
    await expectStored("m", body);
  });

  test("a 409 without end ends", async () => {
    const mischief = answer(409, "ConditionalRequestConflict");
    const fired = proxy.add({ method: "PUT", path: putObject, times: Infinity, mischief });
    await expectFault(store.create("m", body, signal), "store-refused");
    expect(fired()).toBeGreaterThan(3);
    await expectNothing();
  });

  test("a bit that flips on the way is noticed by the store, and nothing is stored", async () => {
    const fired = proxy.add({
      method: "PUT",
      path: putObject,
      times: Infinity,
      mischief: { kind: "flip-request", at: 3 },
    });
    await expectFault(store.create("m", body, signal), "store-damaged");
    expect(fired()).toBeGreaterThan(0);
    await expectNothing();
  });

  test("overload for a while is waited for, overload without end is temporary trouble", async () => {
    const fired = proxy.add({ method: "PUT", path: putObject, times: 2, mischief: answer(503, "SlowDown") });
    await store.create("m", body, signal);
    expect(fired()).toBe(2);
    const more = proxy.add({ method: "PUT", path: putObject, times: Infinity, mischief: answer(503, "SlowDown") });
    const fault = await expectFault(store.create("n", body, signal), "store-unreachable");
    expect(fault.message).toContain("SlowDown");
    expect(fault.exitStatus).toBe(75);
    expect(more()).toBe(3);
    expect(await plain.store.head("n", signal)).toBeUndefined();
  });

  test("a store that does not read our bytes, or does not answer, is given up", async () => {
    const large = randomBytes(8 * 1024 * 1024);
    const fired = proxy.add({ method: "PUT", path: putObject, times: 3, mischief: { kind: "stall-request", at: 100 } });
    await expectFault(through({ idleTimeoutMs: hastyMs }).create("m", large, signal), "store-unreachable");
    expect(fired()).toBe(3);
    await expectNothing();
  });

  test("a session that has expired and a clock that is wrong are named", async () => {
    const expired = proxy.add({ method: "PUT", path: putObject, mischief: answer(403, "ExpiredToken") });
    const fault = await expectFault(store.create("m", body, signal), "store-denied");
    expect(fault.hint).toContain("no longer valid");
    const skewed = proxy.add({
      method: "PUT",
      path: putObject,
      times: 9,
      mischief: answer(403, "RequestTimeTooSkewed"),
    });
    expect((await expectFault(store.create("m", body, signal), "store-denied")).hint).toContain("clock");
    expect([expired(), skewed() > 0]).toEqual([1, true]);
    await expectNothing();
  });

  test("keys that are replaced while a request is under way are used for another try", async () => {
    const directory = await mkdtemp(join(tmpdir(), "lifeboat-credentials-"));
    const file = join(directory, "credentials");
    const { accessKeyId, secretAccessKey } = optionsFor(gateway).credentials;
    const rotate = async (): Promise<void> => {
      const text = `[default]\naws_access_key_id=${accessKeyId}\naws_secret_access_key=${secretAccessKey}\n`;
      await writeFile(`${file}.new`, text);
      await rename(`${file}.new`, file);
    };
    await rotate();
    const withFile = through({ credentials: { file } });
    const old = { method: "PUT", path: putObject, mischief: answer(403, "InvalidAccessKeyId") };
    const fired = proxy.add({ ...old, meanwhile: rotate });
    await withFile.create("m", body, signal);
    await expectStored("m", body);
    const unchanged = proxy.add(old);
    await expectFault(withFile.create("n", body, signal), "store-denied");
    expect([fired(), unchanged()]).toEqual([1, 1]);
    await rm(directory, { recursive: true });
  });

  test("a bucket that moved to another region is named with its region", async () => {
    const headers = { "x-amz-bucket-region": "eu-north-1" };
    const moved = { kind: "answer", status: 301, body: s3Error("PermanentRedirect"), headers } as const;
    const fired = proxy.add({ method: "PUT", path: putObject, mischief: moved });
    const headless = proxy.add({ method: "GET", path: /m/, times: 9, mischief: moved });
    const nameless = proxy.add({ method: "HEAD", path: /m/, mischief: { ...moved, body: "" } });
    expect((await expectFault(store.create("m", body, signal), "store-region")).hint).toContain("eu-north-1");
    expect((await expectFault(store.read("m", signal), "store-region")).hint).toContain("eu-north-1");
    expect((await expectFault(store.head("m", signal), "store-region")).hint).toContain("eu-north-1");
    expect([fired(), headless() > 0, nameless()]).toEqual([1, true, 1]);
  });

  test("a store that is full says so", async () => {
    const fired = proxy.add({ method: "PUT", path: putObject, mischief: answer(507, "StorageFull") });
    await expectFault(store.create("m", body, signal), "store-full");
    expect(fired()).toBe(1);
  });

  test("an abort ends even a request that hangs", async () => {
    const abort = new AbortController();
    const fired = proxy.add({
      method: "PUT",
      path: putObject,
      mischief: { kind: "stall-request", at: 0 },
      meanwhile: async () => abort.abort(),
    });
    await expectFault(store.create("m", body, abort.signal), "interrupted");
    expect(fired()).toBe(1);
  });
});

describe("uploading", () => {
  const upload = async (by = store) => await by.upload("u", pieces(threeParts), signal);

  test("a lost reply to a part is repaired", async () => {
    const fired = proxy.add({ method: "PUT", path: uploadPart, after: 1, mischief: lost });
    expect((await upload()).storedBytes).toBe(threeParts.length);
    expect(fired()).toBe(1);
    await expectStored("u", threeParts);
  });

  test("a lost reply to the completion is settled by looking", async () => {
    for (const times of [1, 3]) {
      const fired = proxy.add({ method: "POST", path: complete, times, mischief: lost });
      const name = `u.${times}`;
      expect((await store.upload(name, pieces(threeParts), signal)).storedBytes).toBe(threeParts.length);
      expect(fired()).toBe(times);
      await expectStored(name, threeParts);
    }
  });

  test("a lost reply is settled by reading everything where the store knows no checksum", async () => {
    const fired = proxy.add({ method: "POST", path: complete, times: 3, mischief: lost });
    expect((await upload(through({ checksums: "none" }))).storedBytes).toBe(threeParts.length);
    expect(fired()).toBe(3);
    expect(proxy.requests.filter((each) => each.startsWith("GET") && each.includes("/u?"))).not.toEqual([]);
    await expectStored("u", threeParts);
  });

  test("a lost reply to an upload of one request is settled by looking", async () => {
    const fired = proxy.add({ method: "PUT", path: putObject, times: 2, mischief: lost });
    await store.upload("u", pieces(body), signal);
    expect(fired()).toBe(2);
    await expectStored("u", body);
  });

  test("a 412 to a retried completion is a refusal when the object is somebody else's", async () => {
    for (const size of [threeParts.length, 100]) {
      await plain.store.upload(`u.${size}`, pieces(randomBytes(size)), signal);
      const fired = proxy.add({ method: "POST", path: complete, mischief: lost });
      await expectFault(store.upload(`u.${size}`, pieces(threeParts), signal), "store-exists");
      expect(fired()).toBe(1);
      expect((await plain.store.head(`u.${size}`, signal))?.storedBytes).toBe(size);
    }
  });

  test("a 409 to the completion is asked again", async () => {
    const mischief = answer(409, "ConditionalRequestConflict");
    const fired = proxy.add({ method: "POST", path: complete, times: 2, mischief });
    await upload();
    expect(fired()).toBe(2);
    await expectStored("u", threeParts);
  });

  test("a completion that answers 200 with an error inside is no success", async () => {
    const inside: Mischief = { kind: "answer", status: 200, body: s3Error("InternalError") };
    const once = proxy.add({ method: "POST", path: complete, mischief: inside });
    await upload();
    expect(once()).toBe(1);
    await expectStored("u", threeParts);
    const always = proxy.add({ method: "POST", path: complete, times: Infinity, mischief: inside });
    const impatient = through({ retryBudgetMs: 500 });
    await expectFault(impatient.upload("v", pieces(threeParts), signal), "store-unreachable");
    expect(always()).toBeGreaterThan(2);
    expect(await plain.store.head("v", signal)).toBeUndefined();
  });

  test("a 200 with an error inside, although the object was made, is a success in the end", async () => {
    const inside: Mischief = { kind: "replace-reply", status: 200, body: s3Error("InternalError") };
    const fired = proxy.add({ method: "POST", path: complete, times: 1, mischief: inside });
    await upload();
    expect(fired()).toBe(1);
    await expectStored("u", threeParts);
  });

  test("a completion with an empty answer is no success", async () => {
    const inside: Mischief = { kind: "answer", status: 200, body: "" };
    const fired = proxy.add({ method: "POST", path: complete, mischief: inside });
    await upload();
    expect(fired()).toBe(1);
    await expectStored("u", threeParts);
  });

  test("a part whose bytes stall is sent again", async () => {
    const fired = proxy.add({
      method: "PUT",
      path: uploadPart,
      after: 1,
      mischief: { kind: "stall-request", at: 70_000 },
    });
    await upload(through({ idleTimeoutMs: hastyMs }));
    expect(fired()).toBe(1);
    await expectStored("u", threeParts);
  });

  test("a store that stalls for ever is given up within the budget", async () => {
    const mischief = { kind: "stall-request", at: 70_000 } as const;
    const fired = proxy.add({ method: "PUT", path: uploadPart, times: Infinity, mischief });
    const impatient = through({ idleTimeoutMs: hastyMs, retryBudgetMs: 1000, attempts: 1 });
    await expectFault(upload(impatient), "store-unreachable");
    expect(fired()).toBeGreaterThan(2);
    await expectNothing();
  });

  test.each(["crc32c", "none"] as const)(
    "a bit that flips in a part is noticed and the part sent again (%s)",
    async (checksums) => {
      const fired = proxy.add({
        method: "PUT",
        path: uploadPart,
        after: 1,
        mischief: { kind: "flip-request", at: 12_345 },
      });
      await upload(through({ checksums }));
      expect(fired()).toBe(1);
      await expectStored("u", threeParts);
    },
  );

  test("bits that flip always are damage, and nothing is stored", async () => {
    const mischief = { kind: "flip-request", at: 12_345 } as const;
    const fired = proxy.add({ method: "PUT", path: uploadPart, times: Infinity, mischief });
    await expectFault(upload(), "store-damaged");
    expect(fired()).toBeGreaterThan(2);
    await expectNothing();
  });

  test("overload that outlasts the SDK's tries is waited for within the upload's budget", async () => {
    const fired = proxy.add({ method: "PUT", path: uploadPart, times: 12, mischief: answer(503, "SlowDown") });
    await upload(through({ retryBudgetMs: 30_000 }));
    expect(fired()).toBe(12);
    await expectStored("u", threeParts);
  });

  test("an upload that takes longer than its budget outlives a short trouble early and another one late", async () => {
    const early = proxy.add({ method: "PUT", path: /partNumber=1&/, mischief: answer(503, "SlowDown") });
    const late = proxy.add({ method: "PUT", path: /partNumber=3&/, mischief: answer(503, "SlowDown") });
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      yield threeParts.subarray(0, 2 * partBytes);
      await new Promise((resolve) => setTimeout(resolve, 1200));
      yield threeParts.subarray(2 * partBytes);
    };
    await through({ retryBudgetMs: 1000, attempts: 1 }).upload("u", slow(), signal);
    expect([early(), late()]).toEqual([1, 1]);
    await expectStored("u", threeParts);
  });

  test("keys that are withdrawn in the middle of an upload end it", async () => {
    const fired = proxy.add({ method: "PUT", path: uploadPart, after: 1, mischief: answer(403, "InvalidAccessKeyId") });
    await expectFault(upload(), "store-denied");
    expect(fired()).toBe(1);
    await expectNothing();
  });

  test("an upload that was aborted by somebody else fails and stores nothing", async () => {
    const fired = proxy.add({ method: "POST", path: complete, mischief: answer(404, "NoSuchUpload") });
    await expectFault(upload(), "store-refused");
    expect(fired()).toBe(1);
    await expectNothing();
  });

  test("what cannot be tidied up is found by a sweep", async () => {
    const part = proxy.add({ method: "PUT", path: uploadPart, times: Infinity, mischief: answer(403, "AccessDenied") });
    const abort = proxy.add({ method: "DELETE", path: /uploadId=/, times: 3, mischief: answer(503, "SlowDown") });
    await expectFault(upload(), "store-denied");
    expect([part() > 0, abort()]).toEqual([true, 3]);
    expect(await plain.leftovers()).toBe(1);
    // By the server's Date, which may be a second old, the upload may have begun in the future.
    await expect.poll(async () => await store.sweep(0, signal)).toBe(1);
  });
});

describe("reading", () => {
  beforeEach(async () => {
    await plain.store.upload("u", pieces(threeParts), signal);
    await plain.store.create("m", body, signal);
  });
  const download = async (by = store): Promise<Buffer> => await gathered(by.download("u", signal));

  test("a body that stalls is given up", async () => {
    const fired = proxy.add({ method: "GET", path: /\/u/, mischief: { kind: "stall-reply", at: 100_000 } });
    const fault = await expectFault(download(through({ idleTimeoutMs: hastyMs })), "store-unreachable");
    expect(fault.message).toContain(`${hastyMs} ms`);
    expect(fired()).toBe(1);
  });

  test("a slow consumer is no stalled store", async () => {
    let bytes = 0;
    for await (const chunk of through({ idleTimeoutMs: hastyMs }).download("u", signal)) {
      if (bytes === 0) await new Promise((resolve) => setTimeout(resolve, 2 * hastyMs));
      bytes += chunk.length;
    }
    expect(bytes).toBe(threeParts.length);
  });

  test("an answer that never begins is asked for again", async () => {
    const fired = proxy.add({ method: "GET", path: /\/u/, mischief: { kind: "delay", ms: 3 * hastyMs } });
    expect((await download(through({ idleTimeoutMs: hastyMs }))).length).toBe(threeParts.length);
    expect(fired()).toBe(1);
  });

  test.each([0, 1, 100_000, threeParts.length - 1])(
    "a body that is cut at byte %i is never taken for whole",
    async (at) => {
      const cut = proxy.add({ method: "GET", path: /\/u/, mischief: { kind: "cut-reply", at } });
      await expectFault(download(), "store-unreachable");
      const short = proxy.add({ method: "GET", path: /\/u/, mischief: { kind: "short-reply", at } });
      await expectFault(download(), "store-refused");
      expect([cut(), short()]).toEqual([1, 1]);
    },
  );

  test("a body without a length is refused, even a whole one", async () => {
    const fired = proxy.add({ method: "GET", path: /\/u/, mischief: { kind: "strip-length" } });
    const fault = await expectFault(download(), "store-refused");
    expect(fault.hint).toContain("proxy");
    expect(fired()).toBe(1);
  });

  test("a document that arrives altered or short is read again, and refused when that does not help", async () => {
    const flip = proxy.add({ method: "GET", path: /\/m/, mischief: { kind: "flip-reply", at: 2 } });
    const cut = proxy.add({ method: "GET", path: /\/m/, mischief: { kind: "cut-reply", at: 2 } });
    expect(Buffer.from(await store.read("m", signal))).toEqual(body);
    expect([flip(), cut()]).toEqual([1, 1]);
    const always = proxy.add({ method: "GET", path: /\/m/, times: 9, mischief: { kind: "flip-reply", at: 2 } });
    await expectFault(store.read("m", signal), "store-damaged");
    expect(always()).toBe(3);
  });

  test("an abort ends a body that stalls at once", async () => {
    const fired = proxy.add({ method: "GET", path: /\/u/, mischief: { kind: "stall-reply", at: 1000 } });
    const abort = new AbortController();
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of through({ idleTimeoutMs: 600_000 }).download("u", abort.signal)) {
        bytes += chunk.length;
        setTimeout(() => abort.abort(), 50); // the next one is waited for by then
      }
    })();
    await expectFault(reading, "interrupted");
    expect([fired(), bytes]).toEqual([1, 1000]);
  });

  test("a listing that answers 503 for a while, then a page with an error inside, is told right", async () => {
    const slow = proxy.add({ method: "GET", path: /list-type=2/, times: 2, mischief: answer(503, "SlowDown") });
    expect(await listed(store, "")).toHaveLength(2);
    const broken = proxy.add({ method: "GET", path: /list-type=2/, times: 9, mischief: answer(500, "InternalError") });
    await expectFault(listed(store, ""), "store-unreachable");
    expect([slow(), broken()]).toEqual([2, 3]);
  });

  test("names outside the prefix and listings without order or end are not believed", async () => {
    const page = (keys: readonly string[], more: string): Mischief => ({
      kind: "answer",
      status: 200,
      body: `<ListBucketResult>${keys
        .map(
          (key) =>
            `<Contents><Key>${key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`,
        )
        .join("")}${more}</ListBucketResult>`,
    });
    const list = { method: "GET", path: /list-type=2/ };
    const outside = [
      "elsewhere/deep/down/x",
      "site/backups/../../x",
      "site/backups",
      "site/backups2/x",
      "site/backups/x",
    ];
    const fired = [proxy.add({ ...list, mischief: page(outside, "") })];
    expect((await listed(store, "")).map((entry) => entry.name)).toEqual(["x"]);
    fired.push(proxy.add({ ...list, mischief: page(["site/backups/b", "site/backups/a"], "") }));
    await expectFault(listed(store, ""), "store-refused");
    const endless = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
    fired.push(proxy.add({ ...list, times: 2, mischief: page([], endless) }));
    await expectFault(listed(store, ""), "store-refused");
    expect(fired.map((count) => count())).toEqual([1, 1, 2]);
  });
});

test("a store that is down is unreachable, by every method", async () => {
  await proxy[Symbol.asyncDispose]();
  const down = through({ attempts: 1, retryBudgetMs: 300 });
  await expectFault(down.create("m", body, signal), "store-unreachable");
  await expectFault(down.upload("u", pieces(threeParts), signal), "store-unreachable");
  await expectFault(down.read("m", signal), "store-unreachable");
  await expectFault(gathered(down.download("u", signal)), "store-unreachable");
  await expectFault(down.head("m", signal), "store-unreachable");
  await expectFault(listed(down, ""), "store-unreachable");
  await expectFault(down.remove("m", signal), "store-unreachable");
  await expectFault(down.sweep(0, signal), "store-unreachable");
  proxy = await startFaultProxy(gateway.url);
});

test.each(["http", "https"])(
  "a server that accepts connections and stays silent hangs no method (%s)",
  async (scheme) => {
    let accepted = 0;
    const sockets = new Set<Socket>();
    const silent = createServer((socket) => {
      accepted += 1;
      sockets.add(socket);
      socket.on("error", () => undefined).resume();
    });
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const endpoint = `${scheme}://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const hanging = through({ endpoint, idleTimeoutMs: 400, attempts: 1, retryBudgetMs: 0, connectTimeoutMs: 400 });
    for (const attempt of [
      () => hanging.create("m", body, signal),
      () => hanging.upload("u", pieces(threeParts), signal),
      () => hanging.read("m", signal),
      () => gathered(hanging.download("u", signal)),
      () => hanging.head("m", signal),
      () => listed(hanging, ""),
      () => hanging.remove("m", signal),
      () => hanging.sweep(0, signal),
    ] as const) {
      await expectFault(attempt(), "store-unreachable");
    }
    expect(accepted).toBeGreaterThan(7);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => silent.close(resolve));
  },
);

describe("TLS", () => {
  let directory: string;
  let otherCa: string;
  let secure: TestS3;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "lifeboat-tls-"));
    ({ ca: otherCa } = await createAuthority(join(directory, "other")));
    secure = await startS3({ tls: true });
  });
  afterAll(async () => {
    await secure[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });
  const open = (ca?: string): Store => {
    return openS3Store({ ...optionsFor(secure), bucket: "no-bucket", ca, partBytes, attempts: 2 });
  };

  test("a server with the right authority is spoken to", async () => {
    await expectFault(open(secure.tls?.ca).head("x", signal), "store-missing");
  });

  test("a server with an unknown authority is not, and `ca` is named as the remedy", async () => {
    for (const store of [open(), open(otherCa)]) {
      const fault = await expectFault(store.head("x", signal), "store-tls");
      expect(fault.hint).toContain("`ca`");
      await expectFault(store.create("x", body, signal), "store-tls");
    }
  });

  test("plain HTTP to a TLS port, and TLS to a plain one, are unreachable", async () => {
    const options = { ...optionsFor(secure), bucket: "b", attempts: 1 };
    const plainToTls = openS3Store({ ...options, endpoint: secure.url.replace("https", "http") });
    const tlsToPlain = openS3Store({ ...options, endpoint: gateway.url.replace("http", "https") });
    for (const store of [plainToTls, tlsToPlain]) {
      const fault = await store.read("x", signal).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(["store-unreachable", "store-refused"]).toContain((fault as { code?: string }).code);
    }
  });

  test("a ca file that is replaced is read again, and what was read stays good while it is away", async () => {
    const ca = join(directory, "replaced.crt");
    await copyFile(otherCa, ca);
    const store = open(ca);
    await expectFault(store.head("x", signal), "store-tls");
    await copyFile(secure.tls?.ca ?? "", ca);
    await expectFault(store.head("x", signal), "store-missing");
    await writeFile(ca, "");
    await expectFault(store.head("x", signal), "store-missing");
    await rm(ca);
    await expectFault(store.head("x", signal), "store-missing");
    await copyFile(otherCa, ca);
    await expectFault(store.head("x", signal), "store-tls");
  });

  test("a ca file that cannot be read is named at once", () => {
    expect(() => open(join(directory, "absent.crt"))).toThrow(/absent\.crt cannot be read/);
  });
});
