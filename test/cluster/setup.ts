import { afterAll, afterEach, beforeAll } from "vitest";
import { holdDirectories, settleDirectories } from "./directories.ts";

// Logs and data of a test that failed are kept. A directory that several tests share is discarded after the last of
// them, so there one failure is enough.
let failed = false;

beforeAll(() => {
  failed = false;
  holdDirectories();
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") failed = true;
  await settleDirectories({ failed: task.result?.state === "fail" });
});

afterAll(async () => {
  await settleDirectories({ failed });
});
