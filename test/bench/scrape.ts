import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, utimes, writeFile } from "node:fs/promises";
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openSigner } from "../../src/repository/signature.ts";
import { startDaemon, type Daemon } from "../cluster/daemon.ts";
import { startCluster } from "../cluster/harness.ts";
import { openSite } from "../cluster/site.ts";
import { fillCatalog } from "./catalog-fill.ts";
import { writePage } from "./page.ts";

/**
 * How long the daemon takes to answer a scrape while its repository holds thousands of backups, and while it takes more of them.
 * `npm run bench:scrape` prints the table; with `-- --write` it goes into docs/benchmarks.md. `--backups N` for another number.
 */

const flag = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
};
const backups = Number(flag("--backups", "10000"));
const scrapes = 200;
const everyMs = 50;

await using cluster = await startCluster();
await cluster.fill({ keys: 300, valueBytes: 64_000 });
await using site = await openSite({
  cluster: { name: "prod", endpoints: [...cluster.endpoints] },
  signed: true,
  schedules: [{ name: "hourly", cron: "0 0 0 1 1 *" }],
});
await fill();
// The repository's history is another cluster's: the live one is taken as what comes after it.
const adopted = await site.run(["adopt", "--confirm-cluster", "prod"]);
if (adopted.status !== 0) throw new Error(`adopt ended with ${adopted.status}: ${adopted.stderr}`);

using control = await startControl();
const idle = await scrapeDaemon("yearly", "0 0 0 1 1 *", async (daemon) => await daemon.next("cluster.observed"));
const busy = await scrapeDaemon("often", "*/2 * * * * *", async (daemon) => {
  // After the first one, retention reads every manifest.
  for (let taken = 0; taken < 5; taken += 1) await daemon.next("backup.committed", undefined, 120_000);
  await daemon.untilMetric("lifeboat_retention_last_status", [], (value) => value === 1, 120_000);
});
const text = [
  `${backups} backups in the repository, in a directory; etcd's database has 20 MB; ${cpus().length} cores, shared with etcd and whatever else ran; load average at the end ${loadavg()[0]?.toFixed(1)}. The page has ${idle.series} series in ${(idle.bytes / 1000).toFixed(0)} KB. Every ${everyMs} ms.`,
  "",
  "| scrapes | number | median ms | p99 ms | slowest ms | over 50 ms |",
  "| --- | --- | --- | --- | --- | --- |",
  row("of a daemon that starts, and takes its first backup", idle.tookMs),
  row("of another process in turns with it", idle.controlMs),
  row("of a daemon that takes backups, and reads every manifest for retention", busy.tookMs),
  row("of another process in turns with it", busy.controlMs),
].join("\n");
process.stdout.write(`${text}\n`);
if (process.argv.includes("--write")) await writePage("scrape", text);

interface Scraped {
  readonly tookMs: readonly number[];
  /** What the machine did to a process that only waits for scrapes, asked in turns. */
  readonly controlMs: readonly number[];
  readonly bytes: number;
  readonly series: number;
}

/** Scrapes a daemon from its start on until the work is done. */
async function scrapeDaemon(name: string, cron: string, work: (daemon: Daemon) => Promise<unknown>): Promise<Scraped> {
  await using daemon = await startDaemon(site, {
    unbounded: true,
    change: (config) => {
      // One that has no backup yet, and so no slots to count that were missed since.
      config.schedules = [{ name, cron }];
      config.retention = { last: 10 * backups, expire: true };
    },
  });
  return await scrapeFor(daemon, () => work(daemon));
}

async function scrapeFor(daemon: Daemon, until: () => Promise<unknown>): Promise<Scraped> {
  let over = false;
  const ended = until().then(() => (over = true));
  const [tookMs, controlMs]: [number[], number[]] = [[], []];
  let body = "";
  while (!over || tookMs.length < scrapes) {
    const startedMs = performance.now();
    ({ body } = await daemon.page("/metrics"));
    tookMs.push(performance.now() - startedMs);
    const controlStartedMs = performance.now();
    await (await fetch(control.url)).text();
    controlMs.push(performance.now() - controlStartedMs);
    await sleep(everyMs);
  }
  await ended;
  const series = body.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
  return { tookMs, controlMs, bytes: Buffer.byteLength(body), series };
}

/** Another process, which answers with a page of that size and does nothing else. */
async function startControl(): Promise<Disposable & { readonly url: string }> {
  const code = `const body = "x".repeat(70_000);
    require("node:http").createServer((_, response) => response.end(body))
      .listen(0, "127.0.0.1", function () { console.log(this.address().port); });`;
  const child = spawn(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  return { url: `http://127.0.0.1:${port.toString().trim()}`, [Symbol.dispose]: () => void child.kill() };
}

function row(what: string, tookMs: readonly number[]): string {
  const late = tookMs.filter((ms) => ms > 50).length;
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (q: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0).toFixed(1);
  return `| ${what} | ${sorted.length} | ${at(0.5)} | ${at(0.99)} | ${at(1)} | ${late} |`;
}

async function fill(): Promise<void> {
  const { signing } = site.config.repository;
  if (signing?.key === undefined || !("file" in signing.key)) throw new Error("the site has no signing key");
  const pem = await readFile(signing.key.file, "utf8");
  const folders = new Set<string>();
  for await (const { name, bytes, timeMs } of fillCatalog(backups, openSigner(pem, "bench"))) {
    const path = join(site.store, name);
    if (!folders.has(dirname(path))) await mkdir(dirname(path), { recursive: true });
    folders.add(dirname(path));
    await writeFile(path, bytes);
    await utimes(path, timeMs / 1000, timeMs / 1000);
  }
}
