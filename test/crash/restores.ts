import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

/**
 * Kills restores of real clusters at every step: all of one member's, a fifth of three members'. `--cases N` draws so many of each instead, `--seed N` the same ones
 * again, `--from N` leaves out the first N, `--only TEXT` does one of the two, `--write` to keep the counts in docs/runs/restores.txt.
 */
const { values } = parseArgs({
  options: {
    write: { type: "boolean" },
    cases: { type: "string" },
    seed: { type: "string" },
    from: { type: "string" },
    only: { type: "string" },
  },
});
const kept = fileURLToPath(new URL("../../docs/runs/restores.txt", import.meta.url));
const seed = values.seed ?? String(Date.now() % 2 ** 31);
const env: NodeJS.ProcessEnv = { ...process.env, LIFEBOAT_RESTORES: values.cases ?? "all", LIFEBOAT_SEED: seed };
if (values.from !== undefined) env["LIFEBOAT_RESTORES_FROM"] = values.from;
if (values.write === true) {
  rmSync(kept, { force: true });
  const told = Object.entries({ cases: values.cases, seed, from: values.from, only: values.only });
  const flags = told.flatMap(([flag, value]) => (value === undefined ? [] : [`--${flag} ${JSON.stringify(value)}`]));
  writeFileSync(kept, `npm run crash:restore -- ${flags.join(" ")}\n`);
  env["LIFEBOAT_WRITE"] = kept;
}
const only = values.only === undefined ? [] : ["-t", values.only];
const { status } = spawnSync("vitest", ["run", "--project", "crash", "test/crash/restore.test.ts", ...only], {
  stdio: "inherit",
  env,
});
process.exitCode = status ?? 1;
