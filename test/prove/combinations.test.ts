import { expect, test } from "vitest";
import { minors } from "../cluster/servers.ts";
import { combinations, type Combination } from "./combinations.ts";

const values = {
  minor: minors,
  members: [1, 3, 5],
  tls: [false, true],
  auth: [false, true],
} as const satisfies Record<keyof Combination, readonly unknown[]>;

test("any two properties of a cluster meet in the matrix in every way", () => {
  const names = Object.keys(values) as (keyof Combination)[];
  const missing: string[] = [];
  for (const first of names) {
    for (const second of names.slice(names.indexOf(first) + 1)) {
      for (const a of values[first]) {
        for (const b of values[second]) {
          if (!combinations.some((combination) => combination[first] === a && combination[second] === b))
            missing.push(`${first} ${a} with ${second} ${b}`);
        }
      }
    }
  }
  expect(missing).toEqual([]);
  expect(combinations).toHaveLength(15);
});
