import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { etcdProgram } from "../cluster/servers.ts";
import { bundle } from "./contend.ts";
import { costTable, measure, type Cost } from "./measure.ts";
import { writePage } from "./page.ts";
import { writeSnapshot } from "./snapshot-file.ts";

/**
 * One member's data directory from a local file of 1.1 GB, by our builder and by etcdutl, in turns, with a bump. `npm run bench:datadir` prints the table; with `-- --write` it is put into
 * docs/benchmarks.md.
 */

const rounds = 3;
const bump = 1_000_000_000;
const directory = await mkdtemp(join(process.env["LIFEBOAT_BENCH_DIRECTORY"] ?? tmpdir(), "lifeboat-bench-"));
const snapshot = join(directory, "snapshot.db");
const target = join(directory, "target");

const builder = await bundle("datadir-build");
const contenders: Readonly<Record<string, string>> = {
  "ours, read again and HashKV compared": `${process.execPath} ${builder} ${snapshot} ${target} ${bump}`,
  "etcdutl snapshot restore":
    `${etcdProgram("3.6", "etcdutl")} snapshot restore ${snapshot} --name m1 --data-dir ${target}/etcd` +
    ` --initial-cluster m1=http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380` +
    ` --bump-revision ${bump} --mark-compacted`,
};

try {
  await writeSnapshot(snapshot, ["m1"]);
  const costs: Record<string, Cost[]> = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [name, script] of Object.entries(contenders)) {
      await rm(target, { recursive: true, force: true });
      await mkdir(target);
      const cost = await measure(script, {});
      // The first round only brings the file into the page cache.
      if (round > 0) (costs[name] ??= []).push(cost);
    }
  }
  const { size } = await stat(snapshot);
  const text = [
    `A snapshot of ${(size / 2 ** 20).toFixed(0)} MiB in the page cache, etcd 3.6, ${cpus().length} cores that others use too (load ${loadavg()[0]?.toFixed(1)} at the end); medians of ${rounds} rounds in turns.`,
    "",
    ...costTable("one member, with a bump", costs),
  ].join("\n");
  console.log(text);
  if (process.argv.includes("--write")) await writePage("datadir", text);
} finally {
  await rm(directory, { recursive: true, force: true });
}
