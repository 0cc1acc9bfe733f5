import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { cpuSeconds, measure, peakMB, resetPeak, type Cost } from "./measure.ts";

export const repository = fileURLToPath(new URL("../..", import.meta.url));

/** Puts a second, whatever else goes on. */
export const putsPerSecond = 500;

/** Milliseconds from when each put was due. */
export interface Latency {
  readonly puts: number;
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
  readonly over100: number;
}

export interface Sample extends Cost {
  readonly etcdCpuS: number;
  readonly etcdPeakMB: number;
  readonly load: Latency;
}

export function flag(name: string, fallback: string): string {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
}

/** Bundles one of our modules like the command, so that it does not carry the compiler's memory; resolves with its path. */
export async function bundle(name: string): Promise<string> {
  const out = `dist/bench-${name}.mjs`;
  const options = ["--bundle", "--platform=node", "--format=esm", "--packages=external", `--outfile=${out}`];
  await execa("node_modules/.bin/esbuild", [`test/bench/${name}.ts`, ...options], { cwd: repository });
  await execa("cp", ["src/etcd/etcd.proto", "dist/etcd.proto"], { cwd: repository });
  return `${repository}${out}`;
}

/** Runs a script under the load of puts; `pid` is the member that it takes from, `endpoint` where the puts go. */
export async function contend(
  script: string,
  env: Readonly<Record<string, string>>,
  etcd: { readonly endpoint: string; readonly pid: number },
): Promise<Sample> {
  await resetPeak(etcd.pid);
  const beforeS = await cpuSeconds(etcd.pid);
  let cost: Cost | undefined;
  const load = await loadDuring(etcd.endpoint, async () => {
    cost = await measure(script, env);
  });
  if (cost === undefined) throw new Error("nothing was measured");
  return { ...cost, etcdCpuS: (await cpuSeconds(etcd.pid)) - beforeS, etcdPeakMB: await peakMB(etcd.pid), load };
}

/** Puts at a steady rate while `work` goes on, and a second and a half before: the load's own warm-up. */
export async function loadDuring(endpoint: string, work: () => Promise<unknown>): Promise<Latency> {
  const args = [`${repository}test/bench/load.ts`, endpoint, String(putsPerSecond)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (text: Buffer) => (output += text.toString()));
  try {
    await sleep(1500);
    await work();
  } finally {
    child.kill("SIGTERM");
    await once(child, "close");
  }
  return JSON.parse(output) as Latency;
}
