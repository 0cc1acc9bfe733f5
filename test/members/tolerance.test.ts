import { expect, test } from "vitest";
import { judgeTolerance } from "../../src/cluster/tolerance.ts";

const members = (up: number, down: number, learners = 0) => [
  ...Array.from({ length: up }, (_, index) => ({ name: `up${index}`, learner: false, up: true })),
  ...Array.from({ length: down }, (_, index) => ({ name: `down${index}`, learner: false, up: false })),
  ...Array.from({ length: learners }, (_, index) => ({ name: `learner${index}`, learner: true, up: true })),
];

test.each([
  // up, down, survives more, survives whole
  [1, 0, 0, 0],
  [2, 0, 0, 0],
  [3, 0, 1, 1],
  [2, 1, 0, 1],
  [1, 2, 0, 1],
  [4, 0, 1, 1],
  [5, 0, 2, 2],
  [4, 1, 1, 2],
  [7, 0, 3, 3],
])("%i voters up and %i down tolerate %i more failures, and %i when whole", (up, down, tolerates, toleratesWhole) => {
  expect(judgeTolerance(members(up, down))).toMatchObject({
    voters: up + down,
    votersUp: up,
    tolerates,
    toleratesWhole,
  });
});

test.each([
  [1, 0, /one voter survives no failure/],
  [1, 2, /learner0, learner1 would count once promoted/],
  [2, 0, /two voters survive no failure/],
  [4, 0, /4 voters survive 1, as 3 do: one more survives 2/],
  [6, 0, /6 voters survive 2, as 5 do: one more survives 3/],
  [9, 0, /9 voters make every write wait/],
])("%i voters and %i learners are advised about", (voters, learners, advice) => {
  expect(judgeTolerance(members(voters, 0, learners)).advice).toMatch(advice);
});

test.each([3, 5, 7])("%i voters need no advice", (voters) => {
  expect(judgeTolerance(members(voters, 0)).advice).toBeUndefined();
});
