import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const total = fileURLToPath(new URL("../../scripts/total.ts", import.meta.url));
const vitest = fileURLToPath(new URL("../../node_modules/vitest/vitest.mjs", import.meta.url));

async function totalOf(...reports: readonly object[]): Promise<{ readonly status: number; readonly said: string }> {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-total-"));
  try {
    await Promise.all(
      reports.map((report, index) => writeFile(join(directory, `${index}.json`), JSON.stringify(report))),
    );
    return await new Promise((resolve) => {
      execFile(process.execPath, [total, directory], (error, stdout) => {
        resolve({ status: error === null ? 0 : Number(error.code), said: stdout });
      });
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const passed = { numPassedTests: 7, numFailedTests: 0 };

test("the closing line is the sum of all reports", async () => {
  expect(await totalOf(passed, passed)).toEqual({ status: 0, said: "14 passed, 0 failed\n" });
});

test("a failed test is named and fails the whole", async () => {
  const failed = {
    numPassedTests: 1,
    numFailedTests: 1,
    testResults: [
      { name: "a.test.ts", status: "failed", assertionResults: [{ status: "failed", fullName: "a promise" }] },
    ],
  };
  expect(await totalOf(passed, failed)).toEqual({
    status: 1,
    said: "failed: a.test.ts: a promise\n8 passed, 1 failed\n",
  });
});

test("a test that passed only at its second try is named with its first failure, and passes", async () => {
  const again = {
    numPassedTests: 2,
    numFailedTests: 0,
    testResults: [
      {
        name: "a.test.ts",
        status: "passed",
        assertionResults: [
          { status: "passed", fullName: "a promise", failureMessages: [] },
          { status: "passed", fullName: "another one", failureMessages: ["Error: not yet\n    at a.test.ts:1:1"] },
        ],
      },
    ],
  };
  expect(await totalOf(passed, again)).toEqual({
    status: 0,
    said: "second try: a.test.ts: another one\n  Error: not yet\n9 passed, 0 failed\n",
  });
});

test("vitest's own report tells a second try", { timeout: 120_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-total-"));
  try {
    const tests = `
      let tries = 0;
      test("at once", () => undefined);
      test("at the second try", () => { if (tries++ === 0) throw new Error("not yet"); });
      test("never", () => { throw new Error("never"); });
    `;
    await writeFile(join(directory, "x.test.js"), tests);
    const options = ["--globals", "--retry=1", `--root=${directory}`];
    const reporting = ["--reporter=json", `--outputFile.json=${join(directory, "report.json")}`];
    await new Promise((resolve) => {
      execFile(process.execPath, [vitest, "run", ...options, ...reporting], { cwd: directory }, resolve);
    });
    const report = JSON.parse(await readFile(join(directory, "report.json"), "utf8")) as object;
    const file = join(directory, "x.test.js");
    expect(await totalOf(report)).toEqual({
      status: 1,
      said: `second try: ${file}: at the second try\n  Error: not yet\nfailed: ${file}: never\n2 passed, 1 failed\n`,
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test("a file that cannot be loaded counts as failed, though none of its tests ran", async () => {
  const broken = {
    numPassedTests: 0,
    numFailedTests: 0,
    testResults: [{ name: "b.test.ts", status: "failed", message: "no such module", assertionResults: [] }],
  };
  expect(await totalOf(passed, broken)).toEqual({
    status: 1,
    said: "failed: b.test.ts: no such module\n7 passed, 1 failed\n",
  });
});

test("a skipped test counts as failed", async () => {
  expect(await totalOf({ ...passed, numPendingTests: 1 })).toEqual({ status: 1, said: "7 passed, 1 failed\n" });
});

test("nothing that ran is no success", async () => {
  expect(await totalOf()).toEqual({ status: 1, said: "0 passed, 0 failed\n" });
});
