import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/**
 * Adds up the reports in a directory (vitest's JSON, or the two counts alone) and prints the closing line `N passed, N failed`. A test that was skipped
 * counts as failed: what cannot run here is a missing tool, and that is a failure. Ends with 1 when anything failed or nothing ran. A test that
 * passed only at its second try is named, with the first words of what went wrong at the first.
 */

const schema = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPendingTests: z.number().default(0),
  numTodoTests: z.number().default(0),
  testResults: z
    .array(
      z.object({
        name: z.string(),
        status: z.string(),
        message: z.string().optional(),
        assertionResults: z.array(
          z.object({ status: z.string(), fullName: z.string(), failureMessages: z.array(z.string()).default([]) }),
        ),
      }),
    )
    .default([]),
});

const [directory = ""] = process.argv.slice(2);
let passed = 0;
let failed = 0;
for (const name of (await readdir(directory)).filter((file) => file.endsWith(".json"))) {
  const report = schema.parse(JSON.parse(await readFile(join(directory, name), "utf8")));
  passed += report.numPassedTests;
  failed += report.numFailedTests + report.numPendingTests + report.numTodoTests;
  for (const file of report.testResults) {
    for (const { status, fullName, failureMessages } of file.assertionResults) {
      if (status !== "passed") console.log(`${status}: ${file.name}: ${fullName}`);
      // What passed and has failures nevertheless was tried again.
      else if (failureMessages.length > 0) {
        console.log(`second try: ${file.name}: ${fullName}`);
        console.log(`  ${failureMessages.join("\n").split("\n", 1).join()}`);
      }
    }
    // A file that cannot be loaded has no tests that could have failed.
    if (file.status !== "failed" || file.assertionResults.some(({ status }) => status === "failed")) continue;
    failed += 1;
    console.log(`failed: ${file.name}: ${file.message ?? ""}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
