import { expect, test } from "vitest";
import { seenInJournals, seenInRepository } from "../../src/restore/seen-revisions.ts";
import { openModel, openScratch } from "./model.ts";

test("a lineage without a backup is known by where it began, and an imported one is nobody's past", () => {
  const began = {
    kind: "live",
    lineage: "01A",
    minimumRevision: 1_000_000n,
    createdAt: "2026-11-21T12:00:00Z",
  } as const;
  const seenMs = Date.parse(began.createdAt);
  expect(seenInRepository([{ lineage: began, newest: undefined, highestRevision: 0n }])).toEqual([
    { revision: 1_000_000n, seenMs, backup: "the beginning of lineage 01A" },
  ]);
  const newest = { lineage: "01A", backup: "b", startedAt: "2026-11-21T13:00:00Z" };
  const both = seenInRepository([
    { lineage: began, newest, highestRevision: 1_000_500n },
    { lineage: { ...began, kind: "foreign" }, newest, highestRevision: 9_000_000n },
  ]);
  expect(both.map(({ revision, backup }) => `${revision} ${backup}`)).toEqual([
    "1000000 the beginning of lineage 01A",
    "1000500 01A/b",
  ]);
});

test("an earlier restore of the same cluster is known by its journal, once a restored member may have run", async () => {
  using scratch = openScratch();
  const model = await openModel({ members: 1 }, scratch.directory);
  const seen = async (cluster: string): Promise<readonly string[]> => {
    const records = await model.journals.list(new AbortController().signal);
    return seenInJournals(records, cluster).map(({ revision, backup }) => `${revision} ${backup}`);
  };
  expect(await model.process("run", 60)).toBe("died");
  expect(await seen("prod")).toEqual([]);
  expect(await model.process("resume")).toMatchObject({ kind: "done" });
  const { revision } = model.plan.facts["first"] as { readonly revision: string };
  expect(await seen("prod")).toEqual([`${revision} the restore ${model.plan.id}`]);
  expect(await seen("staging")).toEqual([]);
});
