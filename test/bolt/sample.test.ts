import fc from "fast-check";
import { expect, it } from "vitest";
import { BottomRows, revisionOf } from "../../src/bolt/sample.ts";

it("chooses the same rows in whatever order they come", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.bigInt({ min: 1n, max: 2n ** 62n }), { minLength: 65, maxLength: 300 }), (mains) => {
      const shuffled = mains.toSorted((a, b) => Number((a * 7919n) % 1009n) - Number((b * 7919n) % 1009n));
      expect(chosenOf(shuffled)).toEqual(chosenOf(mains));
    }),
  );
});

it("keeps a row that was chosen from many as long as others are only taken away", () => {
  const all = Array.from({ length: 10_000 }, (_, i) => BigInt(i + 2));
  const chosen = chosenOf(all);
  const fewer = all.filter((main) => main % 3n === 0n);
  const again = new Set(chosenOf(fewer));
  expect(chosen.filter((main) => main % 3n === 0n).every((main) => again.has(main))).toBe(true);
});

it("ranks by the function that manifests of format 1 rely on", () => {
  // A golden: another choice would make backups of one history look like two histories.
  expect(chosenOf(Array.from({ length: 100_000 }, (_, i) => BigInt(i + 1))).slice(0, 8)).toMatchInlineSnapshot(`
    [
      533n,
      4395n,
      4980n,
      7581n,
      9529n,
      13002n,
      13604n,
      14146n,
    ]
  `);
  expect(revisionOf(-1, -1)).toBe(2n ** 64n - 1n);
});

it("gives all rows, ascending by revision, when there are fewer than it may keep", () => {
  const rows = new BottomRows();
  for (const [main, sub] of [
    [5, 1],
    [4, 7],
    [5, 0],
  ] as const)
    rows.offer(0, main, 0, sub);
  expect(rows.chosen()).toEqual([
    { main: 4n, sub: 7n },
    { main: 5n, sub: 0n },
    { main: 5n, sub: 1n },
  ]);
});

function chosenOf(mains: readonly bigint[]): bigint[] {
  const rows = new BottomRows();
  for (const main of mains) rows.offer(Number(main >> 32n), Number(BigInt.asIntN(32, main)), 0, 0);
  return rows.chosen().map(({ main }) => main);
}
