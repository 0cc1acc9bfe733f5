import { configDefaults, defineConfig } from "vitest/config";

// Groups run one after another, so a server never waits for the fast tests' processors.
const after = (groupOrder: number) => ({ sequence: { groupOrder } });
// A condition that does not come true at once on a busy machine is none that fails.
const patient = { expect: { poll: { timeout: 20_000 } } };
// On real servers and a busy machine a test may fail by bad luck: scripts/total.ts names each that needed its second try.
const slow = { testTimeout: 180_000, hookTimeout: 180_000, retry: 1, ...patient };
const serversOf = ["test/cluster/**", "test/prove/**", "test/crash/**", "test/hosts/**", "test/alerts/**"];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "fast",
          // Many of them wait for a timer; on two cores vitest would start one worker by itself.
          maxWorkers: 3,
          // Only a machine that is busy with something else comes near it.
          testTimeout: 60_000,
          hookTimeout: 60_000,
          ...patient,
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...serversOf, "test/**/*.s3.test.ts", "test/**/*.long.test.ts"],
        },
      },
      // Needs no server, but more time than a check may take.
      { test: { name: "long", include: ["test/**/*.long.test.ts"], testTimeout: 180_000, ...patient, ...after(1) } },
      { test: { name: "s3", include: ["test/**/*.s3.test.ts"], ...slow, ...after(1) } },
      {
        test: {
          name: "cluster",
          include: ["test/cluster/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          // Every test brings servers of its own, and waits for them a third of its time: more workers would only wait for each other.
          maxWorkers: 3,
          ...slow,
          ...after(2),
        },
      },
      {
        test: {
          name: "crash",
          include: ["test/crash/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          fileParallelism: false,
          ...slow,
          ...after(3),
        },
      },
      {
        test: {
          name: "hosts",
          include: ["test/hosts/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          fileParallelism: false,
          ...slow,
          ...after(4),
        },
      },
      {
        test: {
          name: "alerts",
          include: ["test/alerts/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          fileParallelism: false,
          ...slow,
          testTimeout: 400_000,
          ...after(6),
        },
      },
      {
        test: {
          name: "prove",
          include: ["test/prove/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          fileParallelism: false,
          ...slow,
          ...after(5),
        },
      },
    ],
  },
});
