import fc from "fast-check";
import { expect, test } from "vitest";
import { findContradiction, judgeHistory, type Lineage, type LineageHistory } from "../../src/repository/lineage.ts";
import { lineageId, repositoryId } from "./sample.ts";

/**
 * A model of clusters that are wiped, restored behind our back, exchanged and looked at through members that lag or stand alone, by daemons that share one
 * repository. What any of them commits must fit what its lineage holds already.
 */

/** What a cluster lived through: the row of each revision, by its content. */
interface Cluster {
  readonly id: string;
  rows: readonly string[];
  raftIndex: bigint;
}

type Step =
  | { readonly kind: "write"; readonly which: number; readonly rows: number }
  /** New data under the same names and token, thus with the same ID. */
  | { readonly kind: "wipe"; readonly which: number }
  /** Back to an earlier revision, with the same ID or another. */
  | { readonly kind: "restore"; readonly which: number; readonly keep: number }
  /** `behind`: the look sees a member that lags so far; only without quorum is that all there is. */
  | { readonly kind: "backup"; readonly which: number; readonly quorum: boolean; readonly behind: number }
  | { readonly kind: "adopt"; readonly which: number };

const which = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("write" as const), which, rows: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wipe" as const), which }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("restore" as const), which, keep: fc.nat(20) }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("backup" as const), which, quorum: fc.boolean(), behind: fc.nat(5) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("adopt" as const), which }) },
);

interface Kept {
  readonly lineage: Lineage;
  /** The rows of each backup, oldest first. */
  readonly backups: (readonly string[])[];
  highestRevision: bigint;
  highestRaftIndex: bigint;
}

const samplesOf = (rows: readonly string[]): Parameters<typeof findContradiction>[0] =>
  rows.map((sha256, index) => ({ main: BigInt(index + 1), sub: 0n, sha256 }));

test("no two histories are ever mixed in one lineage, whatever happens to clusters and however they are looked at", () => {
  let commits = 0;
  let refusals = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let written = 0;
      let lineages = 0;
      // Two clusters that copied one tutorial have the same ID; the third has another.
      const clusters: Cluster[] = ["a", "a", "b"].map((id) => ({ id, rows: [], raftIndex: 1n }));
      const kept: Kept[] = [];
      const begin = ({ id, rows }: Cluster): Kept => {
        const lineage: Lineage = {
          schema: "etcd-lifeboat/lineage/v1",
          repository: repositoryId,
          lineage: `${lineageId.slice(0, -3)}${String((lineages += 1)).padStart(3, "0")}`,
          kind: "live",
          createdAt: "2026-03-01T12:00:00.000Z",
          clusterId: id,
          parent: null,
          minimumRevision: BigInt(rows.length),
          reason: "test",
        };
        const begun = { lineage, backups: [], highestRevision: 0n, highestRaftIndex: 0n };
        kept.push(begun);
        return begun;
      };
      const judge = (cluster: Cluster, revision: bigint, quorum: boolean): ReturnType<typeof judgeHistory> =>
        judgeHistory(kept as LineageHistory[], {
          clusterId: cluster.id,
          revision,
          raftIndex: cluster.raftIndex,
          quorum,
        });
      for (const one of steps) {
        const cluster = clusters[one.which];
        if (cluster === undefined) throw new Error("no such cluster");
        switch (one.kind) {
          case "write":
            cluster.rows = [...cluster.rows, ...Array.from({ length: one.rows }, () => `row ${(written += 1)}`)];
            cluster.raftIndex += BigInt(one.rows);
            break;
          case "wipe":
            cluster.rows = [];
            cluster.raftIndex = 1n;
            break;
          case "restore":
            cluster.rows = cluster.rows.slice(0, one.keep);
            cluster.raftIndex = 1n;
            break;
          case "adopt":
            if (judge(cluster, BigInt(cluster.rows.length), true).kind === "foreign") begin(cluster);
            break;
          case "backup": {
            const behind = one.quorum ? 0 : one.behind;
            const rows = cluster.rows.slice(0, Math.max(0, cluster.rows.length - behind));
            const judgement = judge(cluster, BigInt(rows.length), one.quorum);
            if (judgement.kind === "foreign") {
              refusals += 1;
              break;
            }
            const into =
              judgement.kind === "first"
                ? begin(cluster)
                : kept.find(({ lineage }) => lineage.lineage === judgement.history.lineage.lineage);
            if (into === undefined) throw new Error("a lineage that does not exist was continued");
            const newest = into.backups.at(-1) ?? [];
            if (findContradiction(samplesOf(newest), samplesOf(rows)) !== undefined) {
              refusals += 1;
              break;
            }
            commits += 1;
            expect(into.lineage.clusterId).toBe(cluster.id);
            const shared = Math.min(newest.length, rows.length);
            expect(rows.slice(0, shared)).toEqual(newest.slice(0, shared));
            // Shorter than what is there: a member that lags, never while a majority says so.
            if (one.quorum) expect(rows.length).toBeGreaterThanOrEqual(newest.length);
            into.backups.push(rows);
            into.highestRevision =
              into.highestRevision > BigInt(rows.length) ? into.highestRevision : BigInt(rows.length);
            if (one.quorum && cluster.raftIndex > into.highestRaftIndex) into.highestRaftIndex = cluster.raftIndex;
            break;
          }
        }
      }
    }),
    { numRuns: 1500 },
  );
  expect([commits > 500, refusals > 500]).toEqual([true, true]);
});
