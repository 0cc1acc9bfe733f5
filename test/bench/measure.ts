import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";

/** What a command and everything it started took, as the operating system counted it. */
export interface Cost {
  readonly wallS: number;
  /** User and system time of the command and its children. */
  readonly cpuS: number;
  /** The largest sum of resident memory of the command's processes, sampled every 20 ms. */
  readonly peakMB: number;
}

/** Runs a bash script (`set -o pipefail`) and measures it; rejects with its output when it fails. */
export async function measure(script: string, env: Readonly<Record<string, string>>): Promise<Cost> {
  const child = spawn("bash", ["-c", `set -o pipefail\n${script}\nstatus=$?\ntimes >&3\nexit $status`], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
  });
  const startedMs = performance.now();
  let output = "";
  let times = "";
  child.stdout?.on("data", (text: Buffer) => (output += text.toString()));
  child.stderr?.on("data", (text: Buffer) => (output += text.toString()));
  child.stdio[3]?.on("data", (text: Buffer) => (times += text.toString()));
  let peakMB = 0;
  let ended = false;
  const sampling = (async () => {
    while (!ended) {
      if (child.pid !== undefined) peakMB = Math.max(peakMB, (await residentKiB(child.pid)) / 1024);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  const [status] = (await once(child, "close")) as [number | null];
  const wallS = (performance.now() - startedMs) / 1000;
  ended = true;
  await sampling;
  if (status !== 0) throw new Error(`${script}\nended with ${status}:\n${output}`);
  const spans = [...times.matchAll(/(\d+)m([\d.]+)s/g)].map(
    ([, minutes, seconds]) => Number(minutes) * 60 + Number(seconds),
  );
  return { wallS, cpuS: spans.reduce((sum, span) => sum + span, 0), peakMB };
}

/** Resident memory of a process and all its descendants. */
async function residentKiB(root: number): Promise<number> {
  let sum = 0;
  const queue = [root];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    try {
      const status = await readFile(`/proc/${pid}/status`, "utf8");
      sum += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
      for (const task of await readdir(`/proc/${pid}/task`)) {
        const children = await readFile(`/proc/${pid}/task/${task}/children`, "utf8");
        queue.push(...children.trim().split(" ").filter(Boolean).map(Number));
      }
    } catch {
      // The process ended between two looks: it holds no memory any more.
    }
  }
  return sum;
}

/** CPU seconds that a process has used so far (proc(5), fields 14 and 15, in ticks of 10 ms). */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Forgets the peak so far, so that the next `peakMB` is that of one contender. */
export async function resetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}

export async function peakMB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** A table of what each contender took in the median, in Markdown, a line each. */
export function costTable(title: string, costs: Readonly<Record<string, readonly Cost[]>>): readonly string[] {
  const rows = Object.entries(costs).map(([name, all]) => {
    const of = (part: (cost: Cost) => number, digits: number): string => median(all.map(part)).toFixed(digits);
    const figures = [of(({ wallS }) => wallS, 1), of(({ cpuS }) => cpuS, 1), of(({ peakMB }) => peakMB, 0)];
    return `| ${[name, ...figures].join(" | ")} |`;
  });
  return [`| ${title} | wall s | CPU s | peak MB |`, "| --- | --- | --- | --- |", ...rows];
}
