import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault } from "../../src/faults.ts";
import type { FaultCode } from "../../src/faults.ts";
import { crc32c } from "../../src/crc32c.ts";
import { maximumDocumentBytes } from "../../src/store/store.ts";
import type { ObjectEntry, Store } from "../../src/store/store.ts";

/** What the suite is run on: an empty store, and a way to end it. */
export interface OpenedStore extends AsyncDisposable {
  readonly store: Store;
  /** How many invisible remains of uploads (multipart uploads, temporary files) the store holds. */
  readonly leftovers: () => Promise<number>;
  /** Sizes around this are tried. */
  readonly partBytes: number;
}

const signal = new AbortController().signal;

/** The promises of `Store`, kept by every store and by the fake. */
export function storeContract(name: string, open: () => Promise<OpenedStore>): void {
  describe(`${name} keeps the store contract`, () => {
    let opened: OpenedStore;
    let store: Store;
    beforeAll(async () => {
      opened = await open();
      store = opened.store;
    });
    afterAll(async () => {
      await opened[Symbol.asyncDispose]();
    });

    describe("create", () => {
      test("what was created can be read, looked at and listed", async () => {
        await store.create("create/one.json", Buffer.from("{}"), signal);
        expect(Buffer.from(await store.read("create/one.json", signal)).toString()).toBe("{}");
        const head = await store.head("create/one.json", signal);
        expect(head?.storedBytes).toBe(2);
        expect([undefined, crc32c(Buffer.from("{}"))]).toContain(head?.crc32c);
        const [entry] = await listed(store, "create/one");
        expect(entry).toMatchObject({ name: "create/one.json", storedBytes: 2 });
        expect(Math.abs((entry?.modifiedMs ?? 0) - Date.now())).toBeLessThan(60_000);
      });

      test("a name that is taken is refused, and what is there stays", async () => {
        await store.create("create/taken", Buffer.from("first"), signal);
        await expectFault(store.create("create/taken", Buffer.from("other"), signal), "store-exists");
        await expectFault(store.create("create/taken", Buffer.from("first and more"), signal), "store-exists");
        await expectFault(store.create("create/taken", Buffer.from(""), signal), "store-exists");
        expect(Buffer.from(await store.read("create/taken", signal)).toString()).toBe("first");
      });

      test("the very same bytes a second time are a success", async () => {
        await store.create("create/same", Buffer.from("same"), signal);
        await store.create("create/same", Buffer.from("same"), signal);
        await store.create("create/empty", new Uint8Array(0), signal);
        await store.create("create/empty", new Uint8Array(0), signal);
        expect(await store.read("create/empty", signal)).toHaveLength(0);
      });

      test("of twenty who create one name at once exactly one wins", async () => {
        for (let round = 0; round < 5; round += 1) {
          const bodies = Array.from({ length: 20 }, (_, i) => Buffer.from(`creator ${i}`));
          const results = await Promise.allSettled(
            bodies.map(async (body) => await store.create(`create/race.${round}`, body, signal)),
          );
          const winners = bodies.filter((_, i) => results[i]?.status === "fulfilled");
          expect(winners).toHaveLength(1);
          for (const result of results) {
            if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "store-exists" });
          }
          expect(Buffer.from(await store.read(`create/race.${round}`, signal))).toEqual(winners[0]);
        }
      });

      test("twenty who create the same bytes at once all succeed", async () => {
        const body = Buffer.from("the same");
        await Promise.all(Array.from({ length: 20 }, async () => await store.create("create/agreed", body, signal)));
      });

      test("a document of the largest size is stored, a larger one refused", async () => {
        const largest = randomBytes(maximumDocumentBytes);
        await store.create("create/largest", largest, signal);
        expect(Buffer.compare(await store.read("create/largest", signal), largest)).toBe(0);
        await expectFault(
          store.create("create/larger", Buffer.alloc(maximumDocumentBytes + 1), signal),
          "store-damaged",
        );
        expect(await store.head("create/larger", signal)).toBeUndefined();
      });

      test("a name below an object, or of which objects are below, harms nothing", async () => {
        await store.create("create/k", Buffer.from("k"), signal);
        await storedOrRefused(store.create("create/k/x", Buffer.from("x"), signal));
        expect(Buffer.from(await store.read("create/k", signal)).toString()).toBe("k");
        await store.create("create/d/x", Buffer.from("x"), signal);
        await storedOrRefused(store.create("create/d", Buffer.from("d"), signal));
        await storedOrRefused(store.upload("create/d", pieces(Buffer.from("d")), signal));
        expect(Buffer.from(await store.read("create/d/x", signal)).toString()).toBe("x");
      });
    });

    describe("upload", () => {
      test("stores streams of any length, and tells their size and checksums", async () => {
        const { partBytes } = opened;
        for (const size of [0, 1, partBytes - 1, partBytes, partBytes + 1, 2 * partBytes, 40 * 1024 * 1024]) {
          const bytes = randomBytes(size);
          const object = `upload/size.${size}`;
          expect(await store.upload(object, pieces(bytes), signal)).toEqual({
            storedBytes: size,
            sha256: createHash("sha256").update(bytes).digest("hex"),
            crc32c: crc32c(bytes),
          });
          const head = await store.head(object, signal);
          expect(head?.storedBytes).toBe(size);
          expect([undefined, crc32c(bytes)]).toContain(head?.crc32c);
          const back = await gathered(store.download(object, signal));
          expect(Buffer.compare(back, bytes)).toBe(0);
          await store.remove(object, signal);
        }
        expect(await opened.leftovers()).toBe(0);
      }, 120_000);

      test("a name that is taken is refused, small or large, even for the same bytes", async () => {
        const { partBytes } = opened;
        for (const size of [3, 2 * partBytes + 3]) {
          const bytes = randomBytes(size);
          await store.upload(`upload/taken.${size}`, pieces(bytes), signal);
          await expectFault(store.upload(`upload/taken.${size}`, pieces(bytes), signal), "store-exists");
          await expectFault(store.upload(`upload/taken.${size}`, pieces(Buffer.from("other")), signal), "store-exists");
          expect((await store.head(`upload/taken.${size}`, signal))?.storedBytes).toBe(size);
        }
        expect(await opened.leftovers()).toBe(0);
      });

      test("of eight who upload one name at once exactly one wins", async () => {
        const bodies = Array.from({ length: 8 }, (_, i) => randomBytes(opened.partBytes + 1000 + i));
        const results = await Promise.allSettled(
          bodies.map(async (body) => await store.upload("upload/race", pieces(body), signal)),
        );
        const winners = bodies.filter((_, i) => results[i]?.status === "fulfilled");
        expect(winners).toHaveLength(1);
        expect((await store.head("upload/race", signal))?.storedBytes).toBe(winners[0]?.length);
        expect(await opened.leftovers()).toBe(0);
      }, 60_000);

      test("a source that throws is passed on as it is and leaves nothing", async () => {
        for (const size of [10, 2 * opened.partBytes + 10]) {
          const broken = async function* (): AsyncGenerator<Uint8Array> {
            yield* pieces(randomBytes(size));
            throw new RangeError("the source broke");
          };
          await expect(store.upload("upload/broken", broken(), signal)).rejects.toThrow(
            new RangeError("the source broke"),
          );
        }
        expect(await store.head("upload/broken", signal)).toBeUndefined();
        expect(await listed(store, "upload/broken")).toEqual([]);
        expect(await opened.leftovers()).toBe(0);
      });

      test("an upload that is aborted ends at once, even when its source hangs, and leaves nothing", async () => {
        for (const size of [10, 2 * opened.partBytes + 10]) {
          const abort = new AbortController();
          let released = false;
          const hanging = async function* (): AsyncGenerator<Uint8Array> {
            try {
              yield* pieces(randomBytes(size));
              abort.abort();
              await new Promise<void>((resolve) => setTimeout(resolve, 200));
            } finally {
              released = true;
            }
          };
          await expectFault(store.upload("upload/aborted", hanging(), abort.signal), "interrupted");
          expect(await store.head("upload/aborted", signal)).toBeUndefined();
          await expect.poll(() => released).toBe(true);
        }
        expect(await opened.leftovers()).toBe(0);
      });
    });

    describe("read and download", () => {
      test("what is not there is said to be missing", async () => {
        await expectFault(store.read("read/nothing", signal), "store-object-missing");
        await expectFault(gathered(store.download("read/nothing", signal)), "store-object-missing");
        expect(await store.head("read/nothing", signal)).toBeUndefined();
        expect(await store.head("read/no/such/directory", signal)).toBeUndefined();
      });

      test("an object that is too large for a document is not read whole", async () => {
        await store.upload("read/large", pieces(Buffer.alloc(maximumDocumentBytes + 1)), signal);
        await expectFault(store.read("read/large", signal), "store-damaged");
        expect((await gathered(store.download("read/large", signal))).length).toBe(maximumDocumentBytes + 1);
      });

      test("a download that is left early can be followed by others", async () => {
        await store.upload("read/early", pieces(randomBytes(4 * 1024 * 1024)), signal);
        for (let i = 0; i < 40; i += 1) {
          for await (const chunk of store.download("read/early", signal)) {
            expect(chunk.length).toBeGreaterThan(0);
            break;
          }
        }
        expect((await gathered(store.download("read/early", signal))).length).toBe(4 * 1024 * 1024);
      });

      test("a download that is aborted says so", async () => {
        await store.upload("read/aborted", pieces(randomBytes(4 * 1024 * 1024)), signal);
        const abort = new AbortController();
        const reading = (async () => {
          for await (const chunk of store.download("read/aborted", abort.signal)) if (chunk.length > 0) abort.abort();
        })();
        await expectFault(reading, "interrupted");
      });
    });

    describe("list", () => {
      test("is in byte order of full names, also across directories", async () => {
        const names = ["a-b", "a.b", "a/b", "a/b.c", "a/c-d/x", "a/c.d", "a/c/d", "a/c0", "a0", "aA", "a_", "aa", "b"];
        for (const each of names.toReversed()) await store.create(`order/${each}`, Buffer.from(each), signal);
        const found = await listed(store, "order/");
        expect(found.map((entry) => entry.name)).toEqual(names.map((each) => `order/${each}`).sort(byBytes));
        expect(found.map((entry) => entry.storedBytes)).toEqual(found.map((entry) => entry.name.length - 6));
      });

      test("takes a prefix as a part of a name, not as a directory", async () => {
        for (const each of ["part/ab/1", "part/abc/2", "part/abd", "part/b"])
          await store.create(each, Buffer.from("1"), signal);
        const names = async (prefix: string): Promise<string[]> =>
          (await listed(store, prefix)).map((entry) => entry.name);
        expect(await names("part/ab")).toEqual(["part/ab/1", "part/abc/2", "part/abd"]);
        expect(await names("part/abc")).toEqual(["part/abc/2"]);
        expect(await names("part/abc/")).toEqual(["part/abc/2"]);
        expect(await names("part/abd/")).toEqual([]);
        expect(await names("part/x")).toEqual([]);
        expect(await names("par")).toHaveLength(4);
        expect(await names("../")).toEqual([]);
        expect(await names("/")).toEqual([]);
      });

      test("begins after any text, whether an object has it for a name or not", async () => {
        const names = ["a-b", "a.b", "a/b", "a/b.c", "a/c-d/x", "a/c.d", "a/c/d", "a/c0", "a0", "aA", "a_", "aa", "b"];
        for (const each of names) await store.create(`range/${each}`, Buffer.from(each), signal);
        for (const after of [...names, "", "a", "a/", "a/c/", "a/c/~", "a/~", "~", "c"]) {
          const found = await Array.fromAsync(store.list({ prefix: "range/a", after: `range/${after}` }, signal));
          const expected = names.filter((each) => each.startsWith("a") && each > after).toSorted(byBytes);
          expect(found.map(({ name }) => name.slice(6))).toEqual(expected);
        }
        expect(await Array.fromAsync(store.list({ prefix: "range/a", after: "" }, signal))).toHaveLength(12);
      });

      test("tells an object that was removed and made again, with other bytes of the same length, from the first", async () => {
        const look = async (): Promise<ObjectEntry | undefined> => (await listed(store, "again/one"))[0];
        await store.create("again/one", Buffer.from("first"), signal);
        const first = await look();
        expect(first?.tag).toMatch(/./);
        expect(await look()).toEqual(first);
        await store.remove("again/one", signal);
        await store.create("again/one", Buffer.from("other"), signal);
        expect((await look())?.tag).toMatch(/./);
        expect((await look())?.tag).not.toBe(first?.tag);
      });

      test("gives all of 2500 objects once and in order", async () => {
        const names = Array.from({ length: 2500 }, (_, i) => `many/${(i * 7919) % 2500}.json`);
        for (let at = 0; at < names.length; at += 50) {
          await Promise.all(
            names.slice(at, at + 50).map(async (each) => await store.create(each, Buffer.from(each), signal)),
          );
        }
        expect((await listed(store, "many/")).map((entry) => entry.name)).toEqual(names.toSorted(byBytes));
      }, 120_000);

      test("can be left early and can be aborted", async () => {
        for (const each of ["left/1", "left/2"]) await store.create(each, Buffer.from("1"), signal);
        for await (const entry of store.list("left/", signal)) {
          expect(entry.name).toBe("left/1");
          break;
        }
        await expectFault(listed(store, "left/", AbortSignal.abort()), "interrupted");
      });
    });

    describe("remove and sweep", () => {
      test("what was removed is gone, and removing it again is a success", async () => {
        await store.create("remove/it", Buffer.from("1"), signal);
        await store.create("remove/other", Buffer.from("2"), signal);
        await store.remove("remove/it", signal);
        await store.remove("remove/it", signal);
        await store.remove("remove/never/was", signal);
        expect((await listed(store, "remove/")).map((entry) => entry.name)).toEqual(["remove/other"]);
        await expectFault(store.read("remove/it", signal), "store-object-missing");
      });

      test("sweeping a store without remains removes nothing", async () => {
        await store.create("sweep/stays", Buffer.from("1"), signal);
        expect(await store.sweep(0, signal)).toBe(0);
        expect(await store.head("sweep/stays", signal)).toBeDefined();
      });
    });

    test("tells the time of the clock that dates its objects", async () => {
      const before = await store.now(signal);
      await store.create("now/dated", Buffer.from("1"), signal);
      const [entry] = await listed(store, "now/");
      const after = await store.now(signal);
      // Headers have whole seconds, cut off.
      expect(entry?.modifiedMs).toBeGreaterThanOrEqual((before ?? Infinity) - 1000);
      expect(entry?.modifiedMs).toBeLessThanOrEqual((after ?? -Infinity) + 1000);
    });

    describe("names and signals", () => {
      const hostile = [
        "../x", "/x", "x/", "a//b", "a/./b", "a/../b", ".", "..", "", ".hidden", "a/.hidden", ".tmp/x", "a\0b", "a\nb", "a b", "a\\b",
        "ä", "a%2fb", "%2e%2e/x", "a?b", "a#b", "x".repeat(256), `${"x".repeat(250)}/`.repeat(4) + "y",
      ]; // prettier-ignore
      test.each(hostile)("the name %j is refused by every method", async (bad) => {
        const body = Buffer.from("1");
        await expectFault(store.create(bad, body, signal), "store-refused");
        await expectFault(store.upload(bad, pieces(body), signal), "store-refused");
        await expectFault(store.read(bad, signal), "store-refused");
        await expectFault(gathered(store.download(bad, signal)), "store-refused");
        await expectFault(store.head(bad, signal), "store-refused");
        await expectFault(store.remove(bad, signal), "store-refused");
      });

      test("names that only look odd are kept as they are", async () => {
        for (const odd of ["-rf", "a/--help", "_", "x".repeat(255), "a..b", "a-.b"]) {
          await store.create(`odd/${odd}`, Buffer.from(odd), signal);
          expect(Buffer.from(await store.read(`odd/${odd}`, signal)).toString()).toBe(odd);
        }
        expect((await listed(store, "odd/-rf")).map((entry) => entry.name)).toEqual(["odd/-rf"]);
      });

      test("an aborted signal ends every method before it does anything", async () => {
        const aborted = AbortSignal.abort(new Fault("interrupted", "stopped by SIGTERM"));
        const body = Buffer.from("1");
        await expectFault(store.create("abort/x", body, aborted), "interrupted");
        await expectFault(store.upload("abort/x", pieces(body), aborted), "interrupted");
        await expectFault(store.read("abort/x", aborted), "interrupted");
        await expectFault(gathered(store.download("abort/x", aborted)), "interrupted");
        await expectFault(store.head("abort/x", aborted), "interrupted");
        await expectFault(store.remove("abort/x", aborted), "interrupted");
        await expectFault(store.sweep(0, aborted), "interrupted");
        await expectFault(store.now(aborted), "interrupted");
        expect(await store.head("abort/x", signal)).toBeUndefined();
      });
    });
  });
}

/** The bytes in chunks of random sizes, from one byte to a megabyte; each is lent, and overwritten before the next one. */
export async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length;) {
    const size = Math.ceil(2 ** (Math.random() * 20));
    const lent = Uint8Array.from(bytes.subarray(at, at + size));
    yield lent;
    lent.fill(0);
    at += size;
    await Promise.resolve();
  }
}

export async function gathered(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(chunks));
}

export async function listed(store: Store, prefix: string, by: AbortSignal = signal): Promise<ObjectEntry[]> {
  return await Array.fromAsync(store.list(prefix, by));
}

/** Waits for the promise to reject with a fault of this code, and gives the fault. */
export async function expectFault(promise: Promise<unknown>, code: FaultCode): Promise<Fault> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(Fault);
  expect(outcome).toMatchObject({ code });
  return outcome as Fault;
}

async function storedOrRefused(promise: Promise<unknown>): Promise<void> {
  const outcome: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome !== undefined) expect(outcome).toMatchObject({ code: "store-exists" });
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
