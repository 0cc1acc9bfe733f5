import { beforeAll, afterAll, expect, test } from "vitest";
import type { SnapshotFacts } from "../../src/bolt/facts.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { checkBuilt } from "../../src/datadir/check.ts";
import type { BuiltCluster } from "../../src/datadir/datadir.ts";
import { heldFile } from "../../src/datadir/files.ts";
import { identify } from "../../src/datadir/identity.ts";
import { encodeSnap } from "../../src/datadir/snap.ts";
import { encodeSegment, firstSegmentName } from "../../src/datadir/wal.ts";
import { fixtureBytes } from "../bolt/fixtures/golden.ts";
import { contentOf, fileOf, never, requestFor, workbench } from "./rig.ts";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const bench = workbench();
const request = requestFor(2, { bump: 100n });
const identity = identify(request);
let built: BuiltCluster;
let facts: SnapshotFacts;

beforeAll(async () => {
  built = await bench.build(fixtureBytes("3.6"), request);
  const path = join(bench.directory, "built.db");
  writeFileSync(path, await contentOf(built, 0, "db"));
  facts = scanSnapshot(path);
});

afterAll(() => bench[Symbol.dispose]());

test("what was built is what was asked for", async () => {
  await checkBuilt(built, facts, identity, never);
});

test.each([
  ["consistent index", { consistentIndex: 3n }],
  ["term", { term: 2n }],
  ["members", { members: [] }],
  ["removed members", { removedMembers: [5n] }],
  ["alarms", { alarms: [{ memberId: 5n, kind: "NOSPACE" }] }],
  ["revision", { revision: 1n }],
  ["compact revision", { compactRevision: 1n }],
  ["HashKV", { hashKv: 1 }],
  ["authentication", { authEnabled: false }],
  ["leases", { leases: 0 }],
  ["buckets", { otherBuckets: ["x"] }],
] as const)("a database with other %s is not used", async (what, other) => {
  const trouble = checkBuilt(built, { ...facts, ...other } as SnapshotFacts, identity, never);
  await expect(trouble).rejects.toMatchObject({
    code: "datadir-damaged",
    message: expect.stringContaining(`the built database has the ${what}`),
  });
});

test("a member that is a learner, or has published itself, is not what was asked for", async () => {
  for (const odd of [{ learner: true }, { clientUrls: ["http://a:1"] }]) {
    const members = facts.members.map((member) => ({ ...member, ...odd }));
    await expect(checkBuilt(built, { ...facts, members }, identity, never)).rejects.toThrow("the members");
  }
});

test("a WAL or .snap of another member, another cluster, or with a byte that flipped is not used", async () => {
  const other = identify({ ...request, token: "another" });
  const [first] = built.members;
  const own = first!.memberId;
  const withFile = async (path: string, bytes: Uint8Array): Promise<BuiltCluster> => {
    const file = await heldFile(path, bytes);
    const put = <T extends { readonly path: string }>(all: readonly T[]): readonly (T | typeof file)[] =>
      all.map((one) => (one.path === path ? file : one));
    return { ...built, members: [{ ...first!, data: put(first!.data), wal: put(first!.wal) }, built.members[1]!] };
  };
  const snap = fileOf(built, 0, ".snap").path;
  const segment = encodeSegment(own, identity, "3.6");
  const flipped = Buffer.from(segment);
  flipped[40] = flipped[40]! ^ 1;
  const flippedSnap = encodeSnap(identity, "3.6");
  flippedSnap[1000] = flippedSnap[1000]! ^ 1;
  for (const [path, bytes, words] of [
    [firstSegmentName, encodeSegment(1n, identity, "3.6"), "the member ID"],
    [firstSegmentName, encodeSegment(own, other, "3.6"), "the cluster ID"],
    [firstSegmentName, encodeSegment(own, { ...identity, members: identity.members.slice(1) }, "3.6"), "the commit"],
    [firstSegmentName, flipped, "the CRC of the record"],
    [snap, encodeSnap(other, "3.6"), "the voters"],
    [snap, flippedSnap, "the CRC of snap/"],
  ] as const) {
    const damaged = await withFile(path, bytes);
    await expect(checkBuilt(damaged, facts, identity, never)).rejects.toMatchObject({
      code: "datadir-damaged",
      message: expect.stringContaining(words),
    });
  }
});
