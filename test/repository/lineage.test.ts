import { describe, expect, test } from "vitest";
import { findContradiction, judgeHistory, type LineageHistory } from "../../src/repository/lineage.ts";
import { repositoryId } from "./sample.ts";

const first = "01JQAAAAAAAAAAAAAAAAAAAAAA";
const second = "01JQBBBBBBBBBBBBBBBBBBBBBB";

function past(
  lineage: string,
  changes: {
    clusterId?: string;
    kind?: "live" | "foreign";
    revision?: bigint;
    raftIndex?: bigint;
    minimum?: bigint;
  } = {},
): LineageHistory {
  return {
    lineage: {
      schema: "etcd-lifeboat/lineage/v1",
      repository: repositoryId,
      lineage,
      kind: changes.kind ?? "live",
      createdAt: "2026-03-01T00:00:00.000Z",
      clusterId: changes.clusterId ?? "abc",
      parent: null,
      minimumRevision: changes.minimum ?? 0n,
      reason: "test",
    },
    highestRevision: changes.revision ?? 100n,
    highestRaftIndex: changes.raftIndex ?? 200n,
  };
}
const live = { clusterId: "abc", revision: 100n, raftIndex: 200n, quorum: true };

describe("a live cluster", () => {
  test("is the first where the repository knows no live history, whatever was imported", () => {
    expect(judgeHistory([], live)).toEqual({ kind: "first" });
    expect(judgeHistory([past(first, { kind: "foreign" })], live)).toEqual({ kind: "first" });
  });

  test("never goes back to an older lineage of the same ID, although it would fit", () => {
    const histories = [past(first, { revision: 50n, raftIndex: 60n }), past(second, { revision: 1_000_000_000n })];
    expect(judgeHistory(histories, live)).toMatchObject({
      kind: "foreign",
      seen: expect.stringContaining(`lineage ${second} has seen 1000000000`) as string,
    });
  });

  test("continues its lineage while revision and raft index do not go back", () => {
    expect(judgeHistory([past(first)], live)).toMatchObject({
      kind: "continues",
      history: { lineage: { lineage: first } },
    });
  });

  test.each([
    [
      "another cluster ID",
      { ...live, clusterId: "def" },
      /cluster's ID is def, the newest lineage .* was taken from abc/,
    ],
    [
      "a revision that went back",
      { ...live, revision: 99n },
      /at revision 99, but lineage .* has seen 100: the revision went back/,
    ],
    [
      "a raft index that went back",
      { ...live, raftIndex: 199n },
      /at raft index 199, but lineage .* has seen 200: the log went back/,
    ],
  ])("with %s is foreign, and what was seen is told", (_, changed, seen) => {
    expect(judgeHistory([past(first)], changed)).toEqual({
      kind: "foreign",
      seen: expect.stringMatching(seen) as string,
    });
  });

  test("below the minimum of its lineage is foreign", () => {
    expect(judgeHistory([past(first, { minimum: 1000n })], live)).toMatchObject({
      kind: "foreign",
      seen: expect.stringMatching(/begins at 1000/) as string,
    });
  });

  test("without quorum is judged by its cluster ID alone: a lagging member is no new history", () => {
    const lagging = { ...live, revision: 1n, raftIndex: 1n, quorum: false };
    expect(judgeHistory([past(first)], lagging)).toMatchObject({ kind: "continues" });
    expect(judgeHistory([past(first)], { ...lagging, clusterId: "def" })).toMatchObject({ kind: "foreign" });
  });

  test("that was wiped and made again with the same ID continues the lineage that adopted it", () => {
    const histories = [past(first), past(second, { revision: 0n, raftIndex: 0n })];
    const wiped = { ...live, revision: 5n, raftIndex: 9n };
    expect(judgeHistory(histories, wiped)).toMatchObject({
      kind: "continues",
      history: { lineage: { lineage: second } },
    });
    expect(judgeHistory(histories.toReversed(), { ...live, revision: 500n, raftIndex: 900n })).toMatchObject({
      kind: "continues",
      history: { lineage: { lineage: second } },
    });
  });

  test("never continues an imported lineage", () => {
    const histories = [past(first, { revision: 500n }), past(second, { kind: "foreign", revision: 0n, raftIndex: 0n })];
    expect(judgeHistory(histories, live)).toMatchObject({ kind: "foreign" });
  });
});

describe("sampled rows", () => {
  const row = (main: bigint, sha256: string): { main: bigint; sub: bigint; sha256: string } => ({
    main,
    sub: 0n,
    sha256,
  });

  test("that are the same, or were compacted away, say nothing", () => {
    expect(findContradiction([row(1n, "a"), row(2n, "b")], [row(2n, "b")])).toBeUndefined();
    expect(findContradiction([], [row(2n, "b")])).toBeUndefined();
  });

  test("that hold other bytes than before are another history", () => {
    expect(findContradiction([row(1n, "a"), row(2n, "b")], [row(1n, "a"), row(2n, "c")])).toBe(
      "revision 2.0 holds another row than in an earlier backup",
    );
  });
});
