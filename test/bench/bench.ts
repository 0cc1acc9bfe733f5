import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { bundle, contend, flag, loadDuring, putsPerSecond, repository, type Latency, type Sample } from "./contend.ts";
import { generate, type Shape } from "./generate.ts";
import { median } from "./measure.ts";
import { writePage } from "./page.ts";
import { issueCertificates, s3Keys, Servers, type Pem, type RunningEtcd } from "./servers.ts";

/**
 * Compares, side by side in one run, draining against `etcdctl snapshot save`, and a committed backup against `save && zstd | upload`, under a steady load.
 * `npm run bench` prints the tables; `npm run bench -- --write` puts them into docs/benchmarks.md. `--keys N` for a smaller database.
 */

const rounds = Number(flag("--rounds", "3"));
const shape: Shape = {
  keys: Number(flag("--keys", "78000")),
  smallestBytes: 500,
  largestBytes: 20_000,
  history: 1 / 3,
  leases: 100,
  seed: Number(flag("--seed", "1")),
};

const cache = process.env["LIFEBOAT_CACHE"] ?? join(repository, ".cache");
const etcdBin = join(cache, "etcd/3.6");
const bin = join(cache, "bin");
const work = await mkdtemp(join(process.env["LIFEBOAT_BENCH_DIRECTORY"] ?? tmpdir(), "lifeboat-bench-"));

try {
  await main();
} finally {
  await rm(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  await execa("npm", ["run", "build"], { cwd: repository });
  const drain = await bundle("drain");
  await execa(join(repository, "scripts/servers"), ["etcd-3.6", "s3", "s5cmd", "tools"], { stderr: "inherit" });
  using servers = new Servers(work, { etcd: join(etcdBin, "etcd"), versitygw: join(bin, "versitygw") });
  const tls = await issueCertificates(work);
  const [etcd] = await servers.etcd(1, tls);
  console.error(`filling ${shape.keys} keys, seed ${shape.seed}, in ${work}`);
  await generate(etcd.plain, shape);
  const s3 = await servers.s3();
  await mkdir(join(work, "spool"), { mode: 0o700 });
  const dbBytes = (await stat(join(etcd.directory, "member/snap/db"))).size;
  const contenders = await writeContenders(drain, etcd, s3, tls);
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  const idle = await loadDuring(etcd.plain, () => sleep(5000));
  for (let round = 0; round < rounds; round += 1) {
    for (const contender of contenders) {
      await rm(join(work, "out"), { recursive: true, force: true });
      await mkdir(join(work, "out"));
      const sample = await contend(contender.script, contender.env, { endpoint: etcd.plain, pid: etcd.pid });
      samples.get(contender.name)?.push(sample);
      console.error(`round ${round + 1} ${contender.name}: ${sample.wallS.toFixed(2)} s`);
      await sleep(1000);
    }
  }
  const text = report(dbBytes, idle, contenders, samples);
  console.log(text);
  if (process.argv.includes("--write")) await writePage("figures", text);
}

interface Contender {
  readonly name: string;
  readonly script: string;
  readonly env: Readonly<Record<string, string>>;
  /** The contender that it is compared with. */
  readonly against: string | undefined;
}

async function writeContenders(drain: string, etcd: RunningEtcd, s3: string, tls: Pem): Promise<readonly Contender[]> {
  const node = process.execPath;
  const etcdctl = join(etcdBin, "etcdctl");
  const out = join(work, "out");
  const credentials = s3Keys;
  const secure = { ETCDCTL_CACERT: tls.ca, ETCDCTL_CERT: tls.cert, ETCDCTL_KEY: tls.key };
  const upload = `${join(bin, "s5cmd")} --endpoint-url ${s3} pipe s3://bench/pipeline-$RANDOM$RANDOM`;
  const pipeline = (url: string): string =>
    `${etcdctl} --endpoints ${url} snapshot save ${out}/snapshot.db && ${join(bin, "zstd")} -1 -T2 -q -c ${out}/snapshot.db | ${upload}`;
  const backup = async (
    name: string,
    options: { readonly secure: boolean; readonly readBack: boolean; readonly age: boolean },
  ): Promise<string> => {
    const config = join(work, `${name}.yaml`);
    await writeFile(
      config,
      JSON.stringify({
        cluster: options.secure
          ? { name: "bench", endpoints: [etcd.secure], tls }
          : { name: "bench", endpoints: [etcd.plain] },
        repository: {
          store: { s3: { bucket: "bench", prefix: "repository", endpoint: s3, pathStyle: true } },
          ...(options.readBack ? {} : { readBack: { below: "0B" } }),
          ...(options.age
            ? { encryption: { recipients: ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"] } }
            : {}),
        },
        spool: { directory: join(work, "spool"), pace: "never" },
      }),
    );
    return `${node} ${join(repository, "dist/etcd-lifeboat.cjs")} backup --config ${config}`;
  };
  return [
    {
      name: "etcdctl save, plain",
      script: `${etcdctl} --endpoints ${etcd.plain} snapshot save ${out}/s.db`,
      env: {},
      against: undefined,
    },
    {
      name: "our drain, plain",
      script: `${node} ${drain} ${etcd.plain} ${out}/s.db`,
      env: {},
      against: "etcdctl save, plain",
    },
    {
      name: "etcdctl save, TLS",
      script: `${etcdctl} --endpoints ${etcd.secure} snapshot save ${out}/s.db`,
      env: secure,
      against: undefined,
    },
    {
      name: "our drain, TLS",
      script: `${node} ${drain} ${etcd.secure} ${out}/s.db ${tls.ca} ${tls.cert} ${tls.key}`,
      env: {},
      against: "etcdctl save, TLS",
    },
    { name: "save, zstd, upload, plain", script: pipeline(etcd.plain), env: credentials, against: undefined },
    {
      name: "our backup without read-back, plain",
      script: await backup("quick", { secure: false, readBack: false, age: false }),
      env: credentials,
      against: "save, zstd, upload, plain",
    },
    {
      name: "our backup, plain",
      script: await backup("full", { secure: false, readBack: true, age: false }),
      env: credentials,
      against: "save, zstd, upload, plain",
    },
    {
      name: "our backup with age, plain",
      script: await backup("age", { secure: false, readBack: true, age: true }),
      env: credentials,
      against: "save, zstd, upload, plain",
    },
    {
      name: "save, zstd, upload, TLS",
      script: pipeline(etcd.secure),
      env: { ...credentials, ...secure },
      against: undefined,
    },
    {
      name: "our backup, TLS",
      script: await backup("secure", { secure: true, readBack: true, age: false }),
      env: credentials,
      against: "save, zstd, upload, TLS",
    },
  ];
}

function report(
  dbBytes: number,
  idle: Latency,
  contenders: readonly Contender[],
  samples: ReadonlyMap<string, readonly Sample[]>,
): string {
  const of = (name: string, pick: (sample: Sample) => number): number => median((samples.get(name) ?? []).map(pick));
  const rows = contenders.map(({ name, against }) => {
    const wallS = of(name, (sample) => sample.wallS);
    const ratio = against === undefined ? "" : (wallS / of(against, (sample) => sample.wallS)).toFixed(2);
    const numbers = [
      wallS.toFixed(2),
      ratio,
      of(name, (sample) => sample.cpuS).toFixed(2),
      of(name, (sample) => sample.peakMB).toFixed(0),
      of(name, (sample) => sample.etcdCpuS).toFixed(2),
      of(name, (sample) => sample.etcdPeakMB).toFixed(0),
      of(name, (sample) => sample.load.p50).toFixed(1),
      of(name, (sample) => sample.load.p99).toFixed(0),
      of(name, (sample) => sample.load.longest).toFixed(0),
      of(name, (sample) => sample.load.over100).toFixed(0),
    ];
    return `| ${name} | ${numbers.join(" | ")} |`;
  });
  return [
    `Database ${(dbBytes / 2 ** 20).toFixed(0)} MiB (${shape.keys} live keys, seed ${shape.seed}), etcd 3.6 on one member, ${cpus().length} cores shared by etcd, the S3 server, the load (${putsPerSecond} puts/s) and the contender, ${(totalmem() / 2 ** 30).toFixed(0)} GiB; medians of ${rounds} rounds in one run.`,
    `Puts without any backup: p50 ${idle.p50.toFixed(1)} ms, p99 ${idle.p99.toFixed(0)} ms, longest ${idle.longest.toFixed(0)} ms.`,
    "",
    "| | wall s | ratio | CPU s | peak MB | etcd CPU s | etcd peak MB | put p50 ms | put p99 ms | longest put ms | puts over 100 ms |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}
