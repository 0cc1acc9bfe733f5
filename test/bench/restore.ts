import { readdir, readFile, stat } from "node:fs/promises";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { openRestorable, type Restorable } from "../cluster/restorable.ts";
import { writePage } from "./page.ts";
import { writeSnapshot } from "./snapshot-file.ts";

/**
 * A whole restore of three members with 1.1 GB each, TLS and an API server's stand-in beside each, all on this machine: how long each step takes, from the typed name to
 * the last API server. `npm run bench:restore` prints the table; with `-- --write` it is put into docs/benchmarks.md.
 */

const confirmed = ["--yes", "--confirm-cluster", "prod"];

await using site = await openRestorable({ minor: "3.6", members: 3, tls: true, apiServers: true });
const file = join(site.site.directory, "large.db");
await writeSnapshot(file, ["etcd1", "etcd2", "etcd3"]);
// The first one makes the cluster large; the second finds it so.
await restore(["--file", file, "--accept-unproven", "--quiet-seconds", "3"]);
await succeed(["backup"]);
const steps = await restore([]);

const first = Math.min(...steps.map(({ startMs }) => startMs));
const servers = Math.max(...steps.filter(({ step }) => step.startsWith("start.")).map(({ endMs }) => endMs));
const away = Math.min(...steps.filter(({ step }) => step.startsWith("stop.")).map(({ startMs }) => startMs));
const last = Math.max(...steps.map(({ endMs }) => endMs));
const seconds = (ms: number): string => (ms / 1000).toFixed(1);
const { size } = await stat(file);
const text = [
  `Three members of etcd 3.6 with ${(size / 2 ** 20).toFixed(0)} MiB each and three API servers on one machine and one disk, ${cpus().length} cores (load ${loadavg()[0]?.toFixed(1)} at the end); backup in a directory. ` +
    `From the typed name to the last API server: ${seconds(servers - first)} s, of which API servers were away for ${seconds(servers - away)} s; with the first backup of the new history: ${seconds(last - first)} s.`,
  "",
  "| steps done together | s |",
  "| --- | --- |",
  ...together(steps).map(({ name, ms }) => `| ${name} | ${seconds(ms)} |`),
].join("\n");
console.log(text);
if (process.argv.includes("--write")) await writePage("restore", text);

interface Timed {
  readonly step: string;
  readonly startMs: number;
  readonly endMs: number;
}

async function succeed(words: readonly string[]): Promise<void> {
  const { status, stdout, stderr } = await site.site.run([...words]);
  if (status !== 0) throw new Error(`${words.join(" ")} ended with ${status}:\n${stdout}${stderr}`);
}

/** Runs a restore and reads from its journal when each step began and ended. */
async function restore(words: readonly string[]): Promise<readonly Timed[]> {
  const before = new Set(await journals(site));
  await succeed(["restore", ...confirmed, ...words]);
  const [journal = ""] = (await journals(site)).filter((name) => !before.has(name));
  const lines = (await readFile(join(site.site.directory, "operations", journal), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { kind?: string; step?: string; timeMs?: number });
  return lines.flatMap(({ kind, step = "", timeMs: endMs = 0 }) => {
    const startMs = lines.find((line) => line.kind === "start" && line.step === step)?.timeMs;
    return kind === "done" && startMs !== undefined ? [{ step, startMs, endMs }] : [];
  });
}

async function journals(of: Restorable): Promise<readonly string[]> {
  const names = await readdir(join(of.site.directory, "operations")).catch(() => [] as string[]);
  return names.filter((name) => name.endsWith(".jsonl"));
}

/** Steps of one kind that several hosts do at once, by the time from the first one's start to the last one's end; the longest first. */
function together(all: readonly Timed[]): readonly { readonly name: string; readonly ms: number }[] {
  const kinds = Map.groupBy(all, ({ step }) => step.split(".")[0] ?? "");
  return [...kinds]
    .map(([name, some]) => ({
      name,
      ms: Math.max(...some.map(({ endMs }) => endMs)) - Math.min(...some.map(({ startMs }) => startMs)),
    }))
    .toSorted((a, b) => b.ms - a.ms);
}
