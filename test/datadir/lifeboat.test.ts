import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, describe, test } from "vitest";
import { identify } from "../../src/datadir/identity.ts";
import { readFields, bytesOf } from "../../src/datadir/proto.ts";
import { minors } from "../../src/datadir/minors.ts";
import { encodeSnap } from "../../src/datadir/snap.ts";
import { encodeSegment, segmentBytes } from "../../src/datadir/wal.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";
import { readModel } from "../bolt/model.ts";
import { writeDatabase } from "../bolt/write-database.ts";
import { digests, inflate, readGolden, requests, trimmed } from "./golden.ts";
import { contentOf, requestFor, workbench } from "./rig.ts";

describe.each(minors)("a data directory of etcd %s", (minor) => {
  const golden = readGolden(minor);

  test.each(golden.directories.map((directory) => [directory.name, directory] as const))(
    "has, for the request %s, the stock tool's WAL by the byte, and its .snap by the byte up to the order of members",
    (name, wanted) => {
      const request = requests[name]!;
      const identity = identify(request);
      const first = identity.members.find((member) => member.name === request.members[0]?.name)!;
      expect(trimmed(encodeSegment(first.id, identity, minor)).toString("hex")).toBe(wanted.wal);
      expect(wanted.walBytes).toBe(segmentBytes);
      const snap = encodeSnap(identity, minor);
      expect(canonical(snap)).toEqual(canonical(inflate(wanted)));
      // From 3.6 on the stock tool adds members in an order that is by chance.
      const isOrdered = request.members.length === 1 || !(minor === "3.6" || minor === "3.7");
      if (isOrdered) expect(snap.equals(inflate(wanted))).toBe(true);
    },
  );

  test.each(["one", "three, bumped"])("has, for the request %s, the stock tool's rows, and no alarms", async (name) => {
    using bench = workbench();
    const wanted = golden.directories.find((directory) => directory.name === name)!;
    const built = await bench.build(fixtureBytes(minor).subarray(0, -32), { ...requests[name]!, minor });
    const db = await contentOf(built, 0, "db");
    expect(digests(db)).toEqual(wanted.buckets);
    expect(readModel(db).rows.get("alarm")).toEqual([]);
    expect(built.alarmsRemoved.map(({ kind }) => kind)).toEqual(["NOSPACE"]);
    expect(built).toMatchObject({ alarmsLeft: [], authEnabled: true, leases: 2, downgrade: undefined });
  });
});

test("a data directory is the same for every member but for its WAL, and the same when it is built again", async () => {
  using bench = workbench();
  const sealed = fixtureBytes("3.6");
  const request = requestFor(3, { bump: 10n });
  const [first, again] = [await bench.build(sealed.subarray(0, -32), request), await bench.build(sealed, request)];
  const digestsOf = (built: typeof first): readonly string[][] =>
    built.members.map(({ data, wal }) => [...data, ...wal].map(({ path, sha256 }) => `${path} ${sha256}`));
  expect(digestsOf(first)).toEqual(digestsOf(again));
  const [one = [], two = []] = digestsOf(first);
  expect(one.map((line, index) => line === two[index])).toEqual([true, true, false]);
  for (const { path, sha256, sizeBytes } of [...first.members[2]!.data, ...first.members[2]!.wal]) {
    const bytes = await contentOf(first, 2, path);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(sha256);
    expect(bytes).toHaveLength(sizeBytes);
  }
});

describe("what is not known is refused before anything is written", () => {
  const snapshot = fixtureBytes("3.6").subarray(0, -32);

  test.each([
    ["an older server", { minor: "3.5" }, "etcd-unsupported", "etcd 3.5 is older"],
    ["no bump", { bump: 0n }, "usage", "a bump of 0"],
    ["a bump too far", { bump: 2n ** 63n - 1n }, "usage", "more than a revision can hold"],
    ["no member", { members: [] }, "usage", "one member at least"],
    ["no token", { token: "" }, "usage", "a token of its own"],
  ] as const)("%s", async (_what, rest, code, words) => {
    using bench = workbench();
    const trouble = await bench.build(snapshot, requestFor(1, rest)).catch((error: unknown) => error);
    expect(trouble).toMatchObject({ code, message: expect.stringContaining(words) });
    expect(readdirSync(join(bench.directory, "build-1/work"))).toEqual([]);
  });

  test.each([
    ["a bucket", { key2: [] }, 'a bucket "key2"'],
    ["a row of meta", { meta: [{ key: Buffer.from("newRow"), value: Buffer.of(1) }] }, 'a row "newRow" in bucket meta'],
  ] as const)("%s, by its name and with the stock tool as the remedy", async (_what, more, words) => {
    using bench = workbench();
    const database = writeDatabase({ ...emptyStore, ...more });
    const trouble = await bench.build(database, requestFor(1)).catch((error: unknown) => error);
    expect(trouble).toMatchObject({ code: "datadir-refused", message: expect.stringContaining(words) });
    expect(trouble).toMatchObject({ hint: expect.stringContaining("--builder etcdutl") });
    expect(readdirSync(join(bench.directory, "build-1/work"))).toEqual([]);
  });
});

test("a downgrade that was going on is told, and a store that was never written stands at revision 1", async () => {
  using bench = workbench();
  const downgrade = { key: Buffer.from("downgrade"), value: Buffer.from('{"target-version":"3.5.0","enabled":true}') };
  const database = writeDatabase({ ...emptyStore, cluster: [downgrade] });
  const built = await bench.build(database, requestFor(1, { bump: 5n }));
  expect(built).toMatchObject({ downgrade: { targetVersion: "3.5.0" }, revision: 6n, compactRevision: 6n });
  const plain = await bench.build(database, requestFor(1));
  expect(plain).toMatchObject({ revision: 1n, compactRevision: -1n });
});

test("a bump counts from the last compaction where everything newer is gone", async () => {
  using bench = workbench();
  const compacted = Buffer.concat([u64(90n), Buffer.from("_"), u64(0n)]);
  const meta = ["finishedCompactRev", "scheduledCompactRev"].map((name) => ({
    key: Buffer.from(name),
    value: compacted,
  }));
  const built = await bench.build(writeDatabase({ ...emptyStore, meta }), requestFor(1, { bump: 5n }));
  expect(built.revision).toBe(95n);
});

/** A .snap without what is by chance: the numbers under which members were added. */
function canonical(snap: Buffer): unknown {
  const snapshot = readFields(bytesOf(readFields(snap, "snap"), 2), "snap");
  const text = Buffer.from(bytesOf(snapshot, 1)).toString();
  const store = JSON.parse(text.replaceAll(/"(?:Created|Modified|created|modified)Index":\d+/g, '"index":0')) as {
    WatcherHub: { EventHistory: { Queue: { Events: unknown[] } } };
  };
  const queue = store.WatcherHub.EventHistory.Queue;
  queue.Events = queue.Events.map((event) => JSON.stringify(event)).toSorted();
  return { store, metadata: Buffer.from(bytesOf(snapshot, 2)).toString("hex") };
}

const emptyStore = { key: [], meta: [] };

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
