import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { bundle, flag, repository } from "./contend.ts";
import { generate } from "./generate.ts";
import { costTable, measure, type Cost } from "./measure.ts";
import { writePage } from "./page.ts";
import { issueCertificates, s3Keys, Servers } from "./servers.ts";

/**
 * One member's data directory from a backup in S3: ours against `download | zstd -d && etcdutl snapshot restore`, in turns. `npm run bench:from-s3` prints the table; with
 * `-- --write` it is put into docs/benchmarks.md. `--keys N` for a smaller database.
 */

const rounds = 3;
const bump = 1_000_000_000;
const keys = Number(flag("--keys", "78000"));
const cache = process.env["LIFEBOAT_CACHE"] ?? join(repository, ".cache");
const bin = join(cache, "bin");
const program = join(repository, "dist/etcd-lifeboat.cjs");
const work = await mkdtemp(join(process.env["LIFEBOAT_BENCH_DIRECTORY"] ?? tmpdir(), "lifeboat-bench-"));

try {
  await main();
} finally {
  await rm(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  await execa("npm", ["run", "build"], { cwd: repository });
  const builder = await bundle("datadir-build");
  await execa(join(repository, "scripts/servers"), ["etcd-3.6", "s3", "s5cmd", "tools"], { stderr: "inherit" });
  using servers = new Servers(work, { etcd: join(cache, "etcd/3.6/etcd"), versitygw: join(bin, "versitygw") });
  const [etcd] = await servers.etcd(1, await issueCertificates(work));
  await generate(etcd.plain, { keys, smallestBytes: 500, largestBytes: 20_000, history: 1 / 3, leases: 100, seed: 1 });
  const s3 = await servers.s3();
  const config = join(work, "config.yaml");
  await mkdir(join(work, "spool"), { mode: 0o700 });
  await writeFile(
    config,
    JSON.stringify({
      cluster: { name: "bench", endpoints: [etcd.plain] },
      repository: { store: { s3: { bucket: "bench", prefix: "repository", endpoint: s3, pathStyle: true } } },
      spool: { directory: join(work, "spool") },
    }),
  );
  const s5cmd = `${join(bin, "s5cmd")} --endpoint-url ${s3}`;
  const [file, target] = [join(work, "fetched.db"), join(work, "target")];
  await measure(`${process.execPath} ${program} backup --config ${config}`, s3Keys);
  // The same bytes for both, as far as zstd makes the same of them.
  await measure(
    `${process.execPath} ${program} fetch latest --config ${config} --output ${file} && ${join(bin, "zstd")} -1 -q -c ${file} | ${s5cmd} pipe s3://bench/plain.db.zst`,
    s3Keys,
  );
  const { size } = await stat(file);
  // Nobody writes any more: what is left are the S3 server and the contender.
  process.kill(etcd.pid, "SIGTERM");
  const contenders: Readonly<Record<string, string>> = {
    "ours: fetched, verified, built, read again":
      `${process.execPath} ${program} fetch latest --config ${config} --output ${file} && ` +
      `${process.execPath} ${builder} ${file} ${target} ${bump}`,
    "download, zstd -d, etcdutl snapshot restore":
      `${s5cmd} cat s3://bench/plain.db.zst | ${join(bin, "zstd")} -d -q -o ${file} && ` +
      `${join(cache, "etcd/3.6/etcdutl")} snapshot restore ${file} --name m1 --data-dir ${target}/etcd` +
      ` --initial-cluster m1=http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380` +
      ` --bump-revision ${bump} --mark-compacted`,
  };
  const costs: Record<string, Cost[]> = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [name, script] of Object.entries(contenders)) {
      await rm(target, { recursive: true, force: true });
      await rm(file, { force: true });
      await mkdir(target);
      const cost = await measure(script, s3Keys);
      // The first round only brings the objects into the page cache.
      if (round > 0) (costs[name] ??= []).push(cost);
    }
  }
  const text = [
    `A backup of ${(size / 2 ** 20).toFixed(0)} MiB (${keys} live keys) in an S3 server on the same machine, etcd 3.6, ${cpus().length} cores (load ${loadavg()[0]?.toFixed(1)} at the end); medians of ${rounds} rounds in turns.`,
    "",
    ...costTable("one member, with a bump", costs),
  ].join("\n");
  console.log(text);
  if (process.argv.includes("--write")) await writePage("from-s3", text);
}
