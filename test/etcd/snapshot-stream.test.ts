import { createHash } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { openEtcd } from "../../src/etcd/connect.ts";
import type { SnapshotMessage } from "../../src/etcd/etcd.ts";
import { Fault } from "../../src/faults.ts";
import type { Script } from "./hostile-server.ts";
import { sendData, sendSnapshot, startHostileServer } from "./hostile-server.ts";

const db = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 251));

test("a snapshot arrives byte for byte, trailer last, and ends with the server's OK", async () => {
  const messages = await collect({ snapshot: (send) => sendSnapshot(send, db) });
  const blobs = messages.map((message) => message.blob);
  expect(Buffer.concat(blobs.slice(0, -1)).equals(db)).toBe(true);
  expect(Buffer.from(blobs.at(-1) ?? []).equals(createHash("sha256").update(db).digest())).toBe(true);
  expect(messages.map((message) => message.remainingBytes)).toEqual([67232n, 34464n, 1696n, 0n, 0n]);
  expect(new Set(messages.map((message) => message.version))).toEqual(new Set(["3.6.0"]));
});

test("a stream without trailer is handed on as it is: judging it is not the adapter's task", async () => {
  const messages = await collect({ snapshot: (send) => sendData(send, db) });
  expect(messages).toHaveLength(4);
});

test("an endless run of empty blobs can be left at any time, and is held back by a slow consumer", async () => {
  await using server = await startHostileServer({
    snapshot: async (send) => {
      while (!send.gone.aborted) await send.message({ remainingBytes: "5", blob: Buffer.alloc(0) });
    },
  });
  await using etcd = openEtcd({ endpoints: [server.url] });
  await using member = etcd.connect({ name: "m", url: server.url });
  let seen = 0;
  for await (const batch of member.snapshot(AbortSignal.timeout(25_000))) {
    seen += batch.length;
    if (seen >= 3) break;
  }
  expect(seen).toBeGreaterThanOrEqual(3);
  await settled(() => server.sentMessages());
});

test("back-pressure reaches the server: an idle consumer keeps it from sending a large database", async () => {
  const chunk = Buffer.alloc(32 * 1024, 1);
  await using server = await startHostileServer({
    snapshot: async (send) => {
      for (let index = 0; index < 4096 && !send.gone.aborted; index += 1) {
        await send.message({ remainingBytes: "1", blob: chunk });
      }
    },
  });
  await using etcd = openEtcd({ endpoints: [server.url] });
  await using member = etcd.connect({ name: "m", url: server.url });
  for await (const batch of member.snapshot(AbortSignal.timeout(25_000))) {
    expect(batch.length).toBeGreaterThan(0);
    const stopped = await settled(() => server.sentMessages());
    expect(stopped).toBeGreaterThan(10);
    expect(stopped * chunk.length).toBeLessThan(32 * 2 ** 20);
    break;
  }
});

test("a single small message is handed over although nothing follows, and the abort of a stalled stream is its reason", async () => {
  const reason = new Fault("snapshot-stalled", "no progress");
  const aborter = new AbortController();
  await using server = await startHostileServer({
    snapshot: async (send) => {
      await send.message({ remainingBytes: "100", blob: Buffer.from("abc") });
      await new Promise((resolve) => {
        send.gone.addEventListener("abort", resolve);
      });
    },
  });
  await using etcd = openEtcd({ endpoints: [server.url] });
  await using member = etcd.connect({ name: "m", url: server.url });
  const seen: SnapshotMessage[] = [];
  await expect(async () => {
    for await (const batch of member.snapshot(aborter.signal)) {
      seen.push(...batch);
      setTimeout(() => {
        aborter.abort(reason);
      }, 20);
    }
  }).rejects.toBe(reason);
  expect(seen).toHaveLength(1);
});

test.each<[string, Script, string]>([
  ["a negative size", { snapshot: (send) => send.message({ remainingBytes: "-1", blob: db }) }, "snapshot-broken"],
  ["bytes that are no message", { snapshot: (send) => send.raw(Buffer.from([0x1a, 0xff, 0x7f])) }, "snapshot-broken"],
  ["a message of 17 MiB", { snapshot: (send) => send.raw(Buffer.alloc(17 * 2 ** 20)) }, "snapshot-broken"],
  [
    "an error in the middle",
    {
      snapshot: async (send) => {
        await send.message({ remainingBytes: "5", blob: db });
        send.fail(status.UNAVAILABLE, "etcdserver: server stopped");
      },
    },
    "etcd-unreachable",
  ],
])("%s ends the stream with its fault", async (_name, script, code) => {
  await expect(collect(script)).rejects.toMatchObject({ code });
});

test("messages before an error are handed over first", async () => {
  await using server = await startHostileServer({
    snapshot: async (send) => {
      await sendData(send, db);
      send.fail(status.UNKNOWN, "disk on fire");
    },
  });
  await using etcd = openEtcd({ endpoints: [server.url] });
  await using member = etcd.connect({ name: "m", url: server.url });
  let bytes = 0;
  await expect(async () => {
    for await (const batch of member.snapshot(AbortSignal.timeout(25_000))) {
      for (const message of batch) bytes += message.blob.length;
    }
  }).rejects.toMatchObject({ code: "etcd-refused", message: expect.stringContaining("disk on fire") });
  expect(bytes).toBe(db.length);
});

async function collect(script: Script): Promise<readonly SnapshotMessage[]> {
  await using server = await startHostileServer(script);
  await using etcd = openEtcd({ endpoints: [server.url] });
  await using member = etcd.connect({ name: "m", url: server.url });
  const messages: SnapshotMessage[] = [];
  for await (const batch of member.snapshot(AbortSignal.timeout(25_000))) messages.push(...batch);
  return messages;
}

/** Waits until a count has not changed for a while, and gives it. */
async function settled(count: () => number): Promise<number> {
  for (let last = -1; last !== count();) {
    last = count();
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return count();
}
