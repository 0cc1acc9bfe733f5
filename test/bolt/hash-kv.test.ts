import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { hashKv } from "../../src/bolt/hash-kv.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { fixtureBytes, fixtureMinors, golden } from "./fixtures/golden.ts";
import { History, type Change, type Compaction } from "./history.ts";
import { scratchFile } from "./scratch.ts";

const scratch = scratchFile();
afterAll(() => scratch[Symbol.dispose]());

describe.each(fixtureMinors)("a snapshot of etcd %s", (minor) => {
  it("has the hash that the live member answered", () => {
    scratch.set(fixtureBytes(minor));
    const said = golden(minor);
    expect(scanSnapshot(scratch.path).hashKv).toBe(said.hashKv.hash);
    const compacted = BigInt(said.hashKv.compact_revision);
    expect(hashKv(scratch.path, BigInt(said.revision), [compacted])).toEqual([said.hashKv.hash]);
  });
});

/** Of TestHashByRevValue and TestHashByRevValueLastRevision in etcd's server/storage/mvcc/hash_test.go: hash, compaction, revision. */
const published = {
  "in the middle of the history": [
    [4082599214, -1, 35],
    [2279933401, 35, 106],
    [3284231217, 106, 177],
    [126286495, 177, 248],
    [900108730, 248, 319],
    [2475485232, 319, 390],
    [1226296507, 390, 461],
    [2503661030, 461, 532],
    [4155130747, 532, 603],
    [106915399, 603, 674],
    [406914006, 674, 745],
    [1882211381, 745, 816],
    [806177088, 816, 887],
    [664311366, 887, 958],
    [1496914449, 958, 1029],
    [2434525091, 1029, 1100],
    [3988652253, 1100, 1171],
    [1122462288, 1171, 1242],
    [724436716, 1242, 1883],
  ],
  "at its end": [
    [1913897190, -1, 73],
    [224860069, 73, 145],
    [1565167519, 145, 217],
    [1566261620, 217, 289],
    [2037173024, 289, 361],
    [691659396, 361, 433],
    [2713730748, 433, 505],
    [3919322507, 505, 577],
    [769967540, 577, 649],
    [2909194793, 649, 721],
    [1576921157, 721, 793],
    [4067701532, 793, 865],
    [2226384237, 865, 937],
    [2923408134, 937, 1009],
    [2680329256, 1009, 1081],
    [1546717673, 1081, 1153],
    [2713657846, 1153, 1225],
    [1046575299, 1225, 1297],
    [2017735779, 1297, 2508],
  ],
} as const;

describe.each(Object.entries(published))("etcd's own figures %s", (_where, vectors) => {
  it.each(["finished", "half done", "scheduled"])("come out of a file whose compaction is %s", (state) => {
    const history = new History();
    const cycle = 71;
    let finished: bigint | undefined;
    for (const [index, [hash, compacted, revision]] of vectors.entries()) {
      const from = index * cycle;
      for (let i = from; i <= from + (index === 18 ? 1210 : cycle); i++)
        history.change({ key: pickKey(i), value: `${i}` });
      const at = BigInt(compacted);
      const scheduled = { at, gone: state === "half done" ? 30 : 0 };
      const compaction: Compaction =
        compacted < 0 ? {} : state === "finished" ? { finished: at } : { finished, scheduled };
      scratch.set(history.file(compaction).db);
      expect(hashKv(scratch.path, BigInt(revision), [at])).toEqual([hash]);
      if (history.revision === BigInt(revision)) expect(scanSnapshot(scratch.path).hashKv).toBe(hash);
      finished = compacted < 0 ? undefined : at;
    }
    expect.assertions(vectors.length + (vectors === published["at its end"] ? vectors.length : 0));
  });
});

/** testutil.PickKey. */
function pickKey(i: number): string {
  if (i % 142 === 30) return "zenek";
  if (i % 71 === 30) return "xavery";
  return ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"][i % 7]!;
}

const keys = fc.constantFrom(
  "a",
  "b",
  "c",
  "/registry/pods/default/web",
  "/registry/leases/kube-system/x",
  "long".repeat(40),
);
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ key: keys, value: fc.string({ maxLength: 40 }), lease: fc.constantFrom(0n, 7n) }),
  },
  { weight: 2, arbitrary: fc.record({ key: keys }) },
);
const transaction = fc.uniqueArray(change, { minLength: 1, maxLength: 6, selector: ({ key }) => key });
const share = fc.double({ min: 0, max: 1, noNaN: true });

describe("HashKV of any history", () => {
  it("is what a server computes, at any revision and compaction, however far its compaction got", () => {
    const seen = { empty: 0, unfinished: 0, past: 0, refused: 0 };
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ weight: 30, arbitrary: transaction }, { weight: 1, arbitrary: fc.constant("bump") }), {
          maxLength: 60,
        }),
        fc.array(share, { minLength: 3, maxLength: 3 }),
        fc.array(share, { minLength: 1, maxLength: 5 }),
        fc.record({ gone: fc.nat(30), isFinished: fc.boolean(), keepsTombstones: fc.boolean(), fate: fc.nat(3) }),
        (transactions, shares, wanted, { gone, isFinished, keepsTombstones, fate }) => {
          const history = new History();
          for (const one of transactions) {
            if (one === "bump") history.bump(1000n);
            else history.change(...one);
          }
          const [first = 1n, second = 1n, revision = 1n] = shares
            .map((of) => revisionAt(history, of))
            .toSorted((a, b) => Number(a - b));
          const finished = fate === 0 ? undefined : first;
          const scheduled = isFinished ? undefined : { at: second, gone };
          const compacted = scheduled?.at ?? finished ?? -1n;
          const { rows, db } = history.file({ finished, scheduled, keepsTombstones });
          scratch.set(db);

          const facts = scanSnapshot(scratch.path);
          expect(facts.compactRevision).toBe(compacted);
          expect(facts.hashKv).toBe(history.hash(rows, facts.revision, compacted));
          const compactions = wanted
            .map((of) => revisionAt(history, of))
            .filter((at) => at >= compacted && at <= revision);
          if (compacted <= revision) compactions.push(compacted);
          if (revision <= facts.revision) {
            const expected = compactions.map((at) => history.hash(rows, revision, at));
            expect(hashKv(scratch.path, revision, compactions)).toEqual(expected);
            seen.past += Number(revision < facts.revision);
          }
          if (compacted > 0n) {
            expect(() => hashKv(scratch.path, facts.revision, [compacted - 1n])).toThrow(/is compacted at/);
            seen.refused++;
          }
          seen.unfinished += Number(scheduled !== undefined);
          seen.empty += Number(facts.keys === 0 && facts.rows > 0);
        },
      ),
      { numRuns: 1500 },
    );
    console.log(`HashKV of any history: ${JSON.stringify(seen)}`);
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(0);
  });

  it("is the same in small pages, whose rows go over many", () => {
    const history = new History();
    for (let i = 0; i < 400; i++)
      history.change({ key: `key-${i % 90}`, value: "v".repeat(i * 7) }, { key: `key-${(i + 1) % 90}` });
    const { rows, db } = history.file({ finished: 120n, scheduled: { at: 300n, gone: 50 } });
    scratch.set(db);
    expect(hashKv(scratch.path, 350n, [320n, 300n, 340n])).toEqual(
      [320n, 300n, 340n].map((at) => history.hash(rows, 350n, at)),
    );
  });
});

describe("what a file cannot answer is refused:", () => {
  it("a compaction before its own, one after the revision, and a revision that it does not have", () => {
    const history = new History();
    for (let i = 0; i < 20; i++) history.change({ key: `${i % 3}`, value: `${i}` });
    scratch.set(history.file({ finished: 10n }).db);
    expect(() => hashKv(scratch.path, 15n, [9n])).toThrow(expect.objectContaining({ code: "etcd-compacted" }));
    expect(() => hashKv(scratch.path, 15n, [16n])).toThrow(expect.objectContaining({ code: "usage" }));
    expect(() => hashKv(scratch.path, 22n, [10n])).toThrow(/ends at revision 21, before 22/);
    expect(hashKv(scratch.path, 21n, [])).toEqual([]);
    expect(hashKv(scratch.path, 10n, [10n])).toHaveLength(1);
  });
});

function revisionAt(history: History, of: number): bigint {
  return 1n + BigInt(Math.round(Number(history.revision - 1n) * of));
}
