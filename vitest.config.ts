import { configDefaults, defineConfig } from "vitest/config";

const slow = { testTimeout: 120_000, hookTimeout: 120_000 };
const serversOf = ["test/cluster/**", "test/crash/**", "test/soak/**"];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "fast",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...serversOf, "test/**/*.s3.test.ts"],
        },
      },
      { test: { name: "s3", include: ["test/**/*.s3.test.ts"], ...slow } },
      {
        test: {
          name: "cluster",
          include: ["test/cluster/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          // Every test brings servers of its own; more of them than cores would only wait for each other.
          maxWorkers: 2,
          ...slow,
        },
      },
      {
        test: {
          name: "crash",
          include: ["test/crash/**/*.test.ts"],
          setupFiles: ["test/cluster/setup.ts"],
          fileParallelism: false,
          ...slow,
        },
      },
    ],
  },
});
