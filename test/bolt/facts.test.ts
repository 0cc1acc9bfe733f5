import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { fixtureBytes, fixtureMinors, golden, oddBytes } from "./fixtures/golden.ts";
import { readModel, userKey, type ModelRow } from "./model.ts";
import { scanBytes } from "./scratch.ts";

const sealBytes = 32;

describe.each(fixtureMinors)("a snapshot of etcd %s", (minor) => {
  const bytes = fixtureBytes(minor);
  const { pageBytes, rows } = readModel(bytes.subarray(0, -sealBytes));
  const keyRows = rows.get("key") ?? [];
  const facts = scanBytes(bytes, { expectSeal: true });
  const said = golden(minor);

  it("has the revision, size and keys that the stock tools print", () => {
    expect(facts.revision).toBe(BigInt(said.revision));
    expect(facts.revision).toBe(BigInt(said.status.revision));
    expect(facts.dbBytes).toBe(said.status.totalSize);
    expect(facts.keys).toBe(said.liveKeys);
    // etcd 3.6 counts live keys, older ones the rows of all buckets.
    const newer = minor === "3.6" || minor === "3.7";
    expect(said.status.totalKey).toBe(newer ? facts.keys : [...rows.values()].reduce((sum, of) => sum + of.length, 0));
    expect(facts.rows).toBe(keyRows.length);
    expect(facts.pageBytes).toBe(pageBytes);
    expect(facts.logicalBytes).toBeLessThanOrEqual(facts.dbBytes);
    expect(facts.brokenMeta).toBeUndefined();
    expect(facts.otherBuckets).toEqual([]);
  });

  it("has the members, learners, alarms, leases and users that the live cluster listed", () => {
    const listed = facts.members.map((member) =>
      [
        member.id.toString(16),
        member.name === "" ? "unstarted" : "started",
        member.name,
        member.peerUrls.join(","),
        member.clientUrls.join(","),
        ...(minor === "3.3" ? [] : [String(member.learner)]),
      ].join(", "),
    );
    expect(listed.toSorted()).toEqual(said.members.toSorted());
    expect(facts.removedMembers).toHaveLength(minor === "3.3" ? 0 : 1);
    expect(facts.alarms.map(({ memberId, kind }) => `memberID:${memberId} alarm:${kind}`)).toEqual(
      said.alarms.map((line) => line.replace(/ +/, " ")),
    );
    expect(facts.leases).toBe(said.leases);
    expect(facts.authEnabled).toBe(true);
  });

  it("has what its minor writes about itself, and nothing that it does not", () => {
    const newer = minor === "3.6" || minor === "3.7";
    expect(facts.compactRevision).toBe(10n);
    expect(facts.compactionFinished).toBe(10n);
    expect(facts.clusterVersion).toBe(`${minor}.0`);
    expect(facts.storageVersion).toBe(newer ? `${minor}.0` : undefined);
    expect(facts.term !== undefined).toBe(newer || minor === "3.5");
    expect(facts.voters).toEqual(
      newer || minor === "3.5" ? facts.members.filter(({ learner }) => !learner).map(({ id }) => id) : undefined,
    );
    expect(facts.consistentIndex > 0n).toBe(true);
  });

  it("has rows as a naive reader finds them: live keys, samples and probes", () => {
    const live = new Set<string>();
    for (const { key, value } of keyRows) {
      if (key.length === 18) live.delete(userKey(value));
      else live.add(userKey(value));
    }
    expect(facts.keys).toBe(live.size);
    expect(facts.samples).toHaveLength(64);
    const probe = keyRows.map(({ key }) => ({ main: key.readBigUInt64BE(0), sub: key.readBigUInt64BE(9) }));
    const again = scanBytes(bytes, { probe: [...probe, { main: 999n, sub: 0n }, { main: 2n, sub: 999n }] });
    const expected = keyRows.map((row, i) => ({ ...probe[i], sha256: sha256OfRow(row) }));
    expect(again.probed).toEqual(expected);
    expect(expected).toEqual(expect.arrayContaining([...facts.samples]));
  });

  it("reads the same without its seal, and insists on it only when asked to", () => {
    const bare = bytes.subarray(0, -sealBytes);
    expect(facts.sealed).toBe(true);
    expect(scanBytes(bare)).toEqual({ ...facts, sealed: false });
    expect(scanBytes(bare, { expectSeal: false }).rows).toBe(facts.rows);
    expect(() => scanBytes(bare, { expectSeal: true })).toThrow("has no seal at its end");
    expect(() => scanBytes(bytes, { expectSeal: false })).toThrow("has a seal at its end");
  });
});

describe("a database that a server on this machine would not write", () => {
  const expected = scanBytes(fixtureBytes("3.6"));

  it.each([1024, 4096, 65536])(
    "with pages of %d bytes, a freelist, nested buckets and long keys gives the same facts",
    (pageBytes) => {
      const facts = scanBytes(oddBytes(pageBytes));
      expect(facts.pageBytes).toBe(pageBytes);
      expect(facts.otherBuckets).toEqual(["other"]);
      const { dbBytes, logicalBytes, txid, sealed } = facts;
      expect(facts).toEqual({ ...expected, dbBytes, logicalBytes, pageBytes, txid, sealed, otherBuckets: ["other"] });
    },
  );
});

describe("two snapshots of one history", () => {
  it("share the samples of rows that both have", () => {
    // The fixtures of all minors begin with the same transactions, whose rows differ in nothing but a lease.
    const [one, two] = (["3.6", "3.7"] as const).map((minor) =>
      scanBytes(fixtureBytes(minor)).samples.filter(({ main }) => main <= 13n),
    );
    expect(one?.length).toBeGreaterThan(30);
    expect(one).toEqual(two);
  });
});

function sha256OfRow({ key, value }: ModelRow): string {
  return createHash("sha256").update(key).update(value).digest("hex");
}
