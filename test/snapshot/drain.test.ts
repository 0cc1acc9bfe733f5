import { createHash } from "node:crypto";
import { constants, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { SnapshotMessage } from "../../src/etcd/etcd.ts";
import { Fault } from "../../src/faults.ts";
import { defaultDrainLimits, drainSnapshot, type DrainLimits } from "../../src/snapshot/drain.ts";
import { steeredClock } from "../fakes/clock.ts";
import { fakeEtcd, messagesOf } from "../fakes/etcd.ts";
import { calm, seededBytes } from "./bytes.ts";

let folder: string;
let file: { path: string; handle: FileHandle };
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "drain-test-"));
  const path = join(folder, "spool");
  file = { path, handle: await open(path, constants.O_RDWR | constants.O_CREAT) };
});
afterEach(async () => {
  await file.handle.close();
  rmSync(folder, { recursive: true });
});

const limits: DrainLimits = { ...defaultDrainLimits, idleMs: 5000 };
const quiet = (): void => undefined;

function draining(
  snapshot: Uint8Array | (() => AsyncIterable<readonly SnapshotMessage[]>),
  options: {
    limits?: DrainLimits;
    clock?: typeof systemClock;
    signal?: AbortSignal;
    onBytes?: (done: number, total: number) => void;
  } = {},
): { etcd: ReturnType<typeof fakeEtcd>; result: ReturnType<typeof drainSnapshot> } {
  const etcd = fakeEtcd({ members: [{ name: "etcd1", snapshot }] });
  const connection = etcd.connect(etcd.address("etcd1"));
  const result = drainSnapshot(
    connection,
    file,
    options.limits ?? limits,
    options.clock ?? systemClock,
    options.onBytes ?? quiet,
    options.signal ?? calm,
  );
  return { etcd, result };
}

describe("a drain", () => {
  test("of more than there is room for is refused at its first messages: what the stream announces need not be what Status said", async () => {
    let sent = 0;
    const each = async function* (): AsyncGenerator<readonly SnapshotMessage[]> {
      for (const message of messagesOf(seededBytes(4 * 1024 * 1024))) {
        sent += 1;
        yield [message];
      }
    };
    const { result } = draining(each, { limits: { ...limits, mostBytes: 2 ** 20 } });
    await expect(result).rejects.toMatchObject({
      code: "spool-space",
      message: expect.stringMatching(
        /^etcd1 announces a snapshot of 4194304 bytes, and .* has room for 1048576$/,
      ) as string,
    });
    expect(sent).toBe(1);
    expect((await file.handle.stat()).size).toBe(0);
  });

  test.each([512, 1024 * 1024 - 32 * 1024, 1024 * 1024, 3 * 1024 * 1024 + 512])(
    "of %i bytes leaves the database and its seal in the file, as etcdctl does",
    async (bytes) => {
      const db = seededBytes(bytes);
      let told = [0, 0];
      const { result, etcd } = draining(db, { onBytes: (done, total) => (told = [done, total]) });
      const seal = createHash("sha256").update(db).digest();
      expect(await result).toEqual({ dbBytes: bytes, seal: seal.toString("hex"), version: "3.6.0" });
      expect(readFileSync(file.path).equals(Buffer.concat([db, seal]))).toBe(true);
      expect(told).toEqual([bytes, bytes]);
      expect(etcd.open()).toBe(1);
    },
  );

  test("of a stream whose bytes do not fit their seal is refused", async () => {
    const messages = messagesOf(seededBytes(100_000));
    const blob = Uint8Array.from(messages[1]?.blob ?? []);
    blob[5] = (blob[5] ?? 0) ^ 1;
    messages[1] = { remainingBytes: messages[1]?.remainingBytes ?? 0n, version: "", blob };
    const { result } = draining(async function* () {
      yield messages;
    });
    await expect(result).rejects.toMatchObject({ code: "snapshot-broken" });
  });

  test("of a member that stops sending ends, and gives the stream back", async () => {
    const etcd = fakeEtcd({ members: [{ name: "etcd1" }] });
    const address = etcd.address("etcd1");
    let released = false;
    const connection = {
      ...etcd.connect(address),
      async *snapshot(signal: AbortSignal): AsyncGenerator<readonly SnapshotMessage[]> {
        try {
          yield messagesOf(seededBytes(100_000)).slice(0, 1);
          await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Fault)));
        } finally {
          released = true;
        }
      },
    };
    await expect(
      drainSnapshot(connection, file, { ...limits, idleMs: 40 }, systemClock, quiet, calm),
    ).rejects.toMatchObject({
      code: "snapshot-stalled",
      message: "etcd1 sent no byte of its snapshot within 0.04 s",
    });
    expect(released).toBe(true);
  });

  test("that trickles is ended by the bound on the whole stream", async () => {
    const clock = steeredClock(0);
    const messages = messagesOf(seededBytes(320 * 1024));
    let sent = 0;
    const { result } = draining(
      async function* () {
        for (const each of messages) {
          await clock.advance(20_000);
          sent += 1;
          yield [each];
        }
      },
      { clock, limits: { ...defaultDrainLimits, shortestMs: 60_000 } },
    );
    await expect(result).rejects.toMatchObject({
      code: "snapshot-stalled",
      message: "etcd1 sent 131072 of 327680 bytes in 80 s",
    });
    expect(sent).toBe(4);
  });

  test("may take longer for a large database", async () => {
    const clock = steeredClock(0);
    const messages = messagesOf(seededBytes(320 * 1024));
    const { result } = draining(
      async function* () {
        for (const each of messages) {
          await clock.advance(20_000);
          yield [each];
        }
      },
      { clock, limits: { ...defaultDrainLimits, shortestMs: 60_000, slowestRate: 1024 } },
    );
    await expect(result).resolves.toMatchObject({ dbBytes: 320 * 1024 });
  });

  test("of a server that sends empty messages for ever ends at the first", async () => {
    let sent = 0;
    const { result } = draining(async function* () {
      yield messagesOf(seededBytes(100_000)).slice(0, 1);
      for (;;) {
        sent += 1;
        yield [{ remainingBytes: 50_000n, blob: new Uint8Array(0), version: "" }];
      }
    });
    await expect(result).rejects.toMatchObject({ code: "snapshot-broken" });
    expect(sent).toBe(1);
  });

  test("is paced by the rate that is set", async () => {
    const clock = steeredClock(0);
    const messages = messagesOf(seededBytes(320 * 1024));
    let done = false;
    const { result } = draining(
      async function* () {
        for (const each of messages) yield [each];
      },
      { clock, limits: { ...defaultDrainLimits, maxRate: 32 * 1024 } },
    );
    void result.then(() => (done = true));
    while (clock.sleepers() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await clock.advance(8900);
    expect(done).toBe(false);
    const before = clock.elapsed();
    while (!done) {
      // Between two sleeps there is real disk I/O, for which the steered clock must stand still.
      while (!done && clock.sleepers() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      if (!done) await clock.advance(100);
    }
    await result;
    expect(clock.elapsed() - before).toBeLessThan(2500);
  });

  test("lets the member wait while the disk is slow, and loses nothing", async () => {
    const db = seededBytes(6 * 1024 * 1024);
    let [pulled, written] = [0, 0];
    const handle: Pick<FileHandle, "write"> & object = {
      write: (async (bytes: Uint8Array, from: number, length: number, position: number) => {
        await new Promise((resolve) => setTimeout(resolve, 2));
        // A write may take less than it was given.
        const taken = Math.min(length, 700_001);
        const result = await file.handle.write(bytes, from, taken, position);
        written += taken;
        expect(pulled - written).toBeLessThan(3 * 1024 * 1024);
        return result;
      }) as FileHandle["write"],
    };
    const etcd = fakeEtcd({
      members: [
        {
          name: "etcd1",
          snapshot: async function* () {
            for (const each of messagesOf(db)) {
              pulled += each.blob.length;
              yield [each];
            }
          },
        },
      ],
    });
    const slow = { path: file.path, handle: handle as FileHandle };
    await drainSnapshot(
      etcd.connect(etcd.address("etcd1")),
      slow,
      { ...limits, idleMs: 5000 },
      systemClock,
      quiet,
      calm,
    );
    expect(readFileSync(file.path).subarray(0, db.length).equals(db)).toBe(true);
  });

  test("onto a full disk says so", async () => {
    const full = { path: "/dev/full", handle: await open("/dev/full", "w") };
    const etcd = fakeEtcd({ members: [{ name: "etcd1", snapshot: seededBytes(100_000) }] });
    await expect(
      drainSnapshot(etcd.connect(etcd.address("etcd1")), full, limits, systemClock, quiet, calm),
    ).rejects.toMatchObject({ code: "spool-space", message: "no space left for /dev/full" });
    await full.handle.close();
  });

  test("that is interrupted ends with the caller's reason", async () => {
    const controller = new AbortController();
    const stop = new Fault("interrupted", "stop");
    const etcd = fakeEtcd({ members: [{ name: "etcd1" }] });
    const connection = {
      ...etcd.connect(etcd.address("etcd1")),
      async *snapshot(signal: AbortSignal): AsyncGenerator<readonly SnapshotMessage[]> {
        yield messagesOf(seededBytes(100_000)).slice(0, 1);
        controller.abort(stop);
        await new Promise((_, reject) => (signal.aborted ? reject(signal.reason as Fault) : undefined));
      },
    };
    await expect(
      drainSnapshot(connection, file, { ...limits, idleMs: 60_000 }, systemClock, quiet, controller.signal),
    ).rejects.toBe(stop);
  });
});
