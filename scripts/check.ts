import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";

/**
 * `npm run check`: everything that needs no server, side by side, quiet about what is right. `--report FILE` writes the counts for scripts/total.ts.
 */

const root = fileURLToPath(new URL("..", import.meta.url));
const reportFile = flag("--report");
const scratch = await mkdtemp(join(tmpdir(), "lifeboat-check-"));
const testReport = join(scratch, "fast.json");

interface Step {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** What mends it, when a command can. */
  readonly remedy?: string;
}

/** The longest first: the others run beside it. */
const steps: readonly Step[] = [
  {
    name: "fast tests",
    command: [
      "vitest",
      "run",
      "--project",
      "fast",
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${testReport}`,
    ],
  },
  { name: "types", command: ["tsc", "--noEmit", "--project", "."] },
  { name: "lint", command: ["oxlint", "--deny-warnings", "--report-unused-disable-directives"] },
  { name: "format", command: ["prettier", "--check", "--log-level=warn", "."], remedy: "npm run format" },
  { name: "dead code", command: ["knip"] },
];

const queue = [...steps];
const failed: string[] = [];
await Promise.all(Array.from({ length: Math.max(2, availableParallelism()) }, work));
if (reportFile !== undefined) await report(reportFile);
await rm(scratch, { recursive: true, force: true });
if (failed.length > 0) {
  console.error(`failed: ${failed.join(", ")}`);
  process.exitCode = 1;
}

async function work(): Promise<void> {
  for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
    const startMs = performance.now();
    const { status, output } = await run(step.command);
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
    console.log(`${status === 0 ? "ok    " : "FAILED"} ${step.name} (${seconds} s)`);
    if (status === 0) continue;
    failed.push(step.name);
    console.log(output.trimEnd());
    if (step.remedy !== undefined) console.log(`remedy: ${step.remedy}`);
  }
}

function run([program, ...args]: Step["command"]): Promise<{ status: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(root, "node_modules", ".bin", program), args, {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      // The programs start with `env node`, which must be the pinned one.
      env: { ...process.env, PATH: `${join(root, "node_modules", ".bin")}:${process.env["PATH"] ?? ""}` },
    });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    child.once("error", reject);
    child.once("close", (status) => resolve({ status: status ?? 1, output: Buffer.concat(output).toString("utf8") }));
  });
}

/** The tests as vitest counted them, and each other step as one. */
async function report(file: string): Promise<void> {
  const others = steps.filter(({ name }) => name !== "fast tests");
  const otherFailures = others.filter(({ name }) => failed.includes(name)).length;
  await writeFile(
    file,
    JSON.stringify({ numPassedTests: others.length - otherFailures, numFailedTests: otherFailures }),
  );
  const tests = await readFile(testReport, "utf8").catch(() =>
    JSON.stringify({ numPassedTests: 0, numFailedTests: 1 }),
  );
  await writeFile(file.replace(/\.json$/, "-tests.json"), tests);
}

function flag(name: string): string | undefined {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
}
