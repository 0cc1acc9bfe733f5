import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { generate, type Shape } from "./generate.ts";
import { cpuSeconds, measure, median, peakMB, resetPeak, type Cost } from "./measure.ts";

/**
 * Compares, side by side in one run, draining against `etcdctl snapshot save`, and a committed backup against `save && zstd | upload`, under a steady load.
 * `npm run bench` prints the tables; `npm run bench -- --write` puts them into docs/benchmarks.md. `--keys N` for a smaller database.
 */

const repository = fileURLToPath(new URL("../..", import.meta.url));
const flag = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
};
const rounds = Number(flag("--rounds", "3"));
const rate = 500;
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
const running: ChildProcess[] = [];

interface Latency {
  readonly puts: number;
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
  readonly over100: number;
}

interface Sample extends Cost {
  readonly etcdCpuS: number;
  readonly etcdPeakMB: number;
  readonly load: Latency;
}

try {
  await main();
} finally {
  for (const child of running) child.kill("SIGKILL");
  await rm(work, { recursive: true, force: true });
}

async function main(): Promise<void> {
  await execa("npm", ["run", "build"], { cwd: repository });
  // The drain alone, bundled like the command, so that it does not carry the compiler's memory.
  const bundled = [
    "--bundle",
    "--platform=node",
    "--format=esm",
    "--packages=external",
    "--outfile=dist/bench-drain.mjs",
  ];
  await execa("node_modules/.bin/esbuild", [join(repository, "test/bench/drain.ts"), ...bundled], { cwd: repository });
  await copyFile(join(repository, "src/etcd/etcd.proto"), join(repository, "dist/etcd.proto"));
  await execa(join(repository, "scripts/servers"), ["etcd-3.6", "s3", "s5cmd", "tools"], { stderr: "inherit" });
  const tls = await issueCertificates();
  const etcd = await startEtcd(tls);
  console.error(`filling ${shape.keys} keys, seed ${shape.seed}, in ${work}`);
  await generate(etcd.plain, shape);
  const s3 = await startS3();
  const dbBytes = (await stat(join(work, "etcd/member/snap/db"))).size;
  const contenders = await writeContenders(etcd, s3, tls);
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  const idle = await loadDuring(etcd.plain, () => sleep(5000));
  for (let round = 0; round < rounds; round += 1) {
    for (const contender of contenders) {
      await rm(join(work, "out"), { recursive: true, force: true });
      await mkdir(join(work, "out"));
      const sample = await runContender(contender, etcd);
      samples.get(contender.name)?.push(sample);
      console.error(`round ${round + 1} ${contender.name}: ${sample.wallS.toFixed(2)} s`);
      await sleep(1000);
    }
  }
  const text = report(dbBytes, idle, contenders, samples);
  console.log(text);
  if (process.argv.includes("--write")) await writePage(text);
}

interface Contender {
  readonly name: string;
  readonly script: string;
  readonly env: Readonly<Record<string, string>>;
  /** The contender that it is compared with. */
  readonly against: string | undefined;
}

async function runContender(
  contender: Contender,
  etcd: { readonly plain: string; readonly pid: number },
): Promise<Sample> {
  await resetPeak(etcd.pid);
  const beforeS = await cpuSeconds(etcd.pid);
  let cost: Cost | undefined;
  const load = await loadDuring(etcd.plain, async () => {
    cost = await measure(contender.script, contender.env);
  });
  if (cost === undefined) throw new Error("nothing was measured");
  return { ...cost, etcdCpuS: (await cpuSeconds(etcd.pid)) - beforeS, etcdPeakMB: await peakMB(etcd.pid), load };
}

/** Puts at a steady rate while `work` goes on; the first second is the load's own warm-up. */
async function loadDuring(endpoint: string, work: () => Promise<unknown>): Promise<Latency> {
  const child = spawn(process.execPath, [join(repository, "test/bench/load.ts"), endpoint, String(rate)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (text: Buffer) => (output += text.toString()));
  await sleep(1500);
  await work();
  child.kill("SIGTERM");
  await once(child, "close");
  return JSON.parse(output) as Latency;
}

async function writeContenders(
  etcd: { readonly plain: string; readonly secure: string },
  s3: { readonly url: string },
  tls: { readonly ca: string; readonly cert: string; readonly key: string },
): Promise<readonly Contender[]> {
  const node = process.execPath;
  const etcdctl = join(etcdBin, "etcdctl");
  const out = join(work, "out");
  const drain = join(repository, "dist/bench-drain.mjs");
  const credentials = { AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "benchbench", AWS_REGION: "us-east-1" };
  const secure = { ETCDCTL_CACERT: tls.ca, ETCDCTL_CERT: tls.cert, ETCDCTL_KEY: tls.key };
  const upload = `${join(bin, "s5cmd")} --endpoint-url ${s3.url} pipe s3://bench/pipeline-$RANDOM$RANDOM`;
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
          store: { s3: { bucket: "bench", prefix: "repository", endpoint: s3.url, pathStyle: true } },
          ...(options.readBack ? {} : { readBack: { below: "0B" } }),
          ...(options.age
            ? { encryption: { recipients: ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"] } }
            : {}),
        },
        spool: { directory: join(work, "spool") },
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
    `Database ${(dbBytes / 2 ** 20).toFixed(0)} MiB (${shape.keys} live keys, seed ${shape.seed}), etcd 3.6 on one member, ${cpus().length} cores shared by etcd, the S3 server, the load (${rate} puts/s) and the contender, ${(totalmem() / 2 ** 30).toFixed(0)} GiB; medians of ${rounds} rounds in one run.`,
    `Puts without any backup: p50 ${idle.p50.toFixed(1)} ms, p99 ${idle.p99.toFixed(0)} ms, longest ${idle.longest.toFixed(0)} ms.`,
    "",
    "| | wall s | ratio | CPU s | peak MB | etcd CPU s | etcd peak MB | put p50 ms | put p99 ms | longest put ms | puts over 100 ms |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}

async function writePage(text: string): Promise<void> {
  const page = join(repository, "docs/benchmarks.md");
  const before = await readFile(page, "utf8");
  const [start, end] = ["<!-- figures -->", "<!-- end of figures -->"];
  const [head = "", rest = ""] = before.split(start);
  const [, tail = ""] = rest.split(end);
  await writeFile(page, `${head}${start}\n\n${text}\n\n${end}${tail}`);
}

async function startEtcd(tls: {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}): Promise<{ plain: string; secure: string; pid: number }> {
  const [clientPort, securePort, peerPort] = [await freePort(), await freePort(), await freePort()];
  const plain = `http://127.0.0.1:${clientPort}`;
  const secure = `https://127.0.0.1:${securePort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const child = start(join(etcdBin, "etcd"), [
    "--name=bench",
    `--data-dir=${join(work, "etcd")}`,
    `--listen-client-urls=${plain},${secure}`,
    `--advertise-client-urls=${plain},${secure}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=bench=${peer}`,
    `--cert-file=${tls.cert}`,
    `--key-file=${tls.key}`,
    `--trusted-ca-file=${tls.ca}`,
    "--quota-backend-bytes=8589934592",
    "--log-level=error",
  ]);
  await until(async () => (await fetch(`${plain}/health`)).ok);
  return { plain, secure, pid: child.pid ?? 0 };
}

async function startS3(): Promise<{ url: string }> {
  const port = await freePort();
  await mkdir(join(work, "s3/bench"), { recursive: true });
  await mkdir(join(work, "spool"), { mode: 0o700 });
  start(join(bin, "versitygw"), ["--port", `127.0.0.1:${port}`, "--quiet", "posix", join(work, "s3")], {
    ROOT_ACCESS_KEY: "bench",
    ROOT_SECRET_KEY: "benchbench",
  });
  const url = `http://127.0.0.1:${port}`;
  await until(async () => (await fetch(url)).status > 0);
  return { url };
}

async function issueCertificates(): Promise<{ ca: string; cert: string; key: string }> {
  const [cert, key] = [join(work, "cert.pem"), join(work, "key.pem")];
  const subject = [
    "-subj",
    "/CN=bench",
    "-addext",
    "subjectAltName=IP:127.0.0.1",
    "-addext",
    "basicConstraints=critical,CA:TRUE",
  ];
  await execa("openssl", [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
    "-keyout",
    key,
    "-out",
    cert,
    ...subject,
  ]);
  return { ca: cert, cert, key };
}

function start(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "inherit"] });
  running.push(child);
  return child;
}

async function until(ready: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    try {
      if (await ready()) return;
    } catch {
      // Not listening yet: the next try tells.
    }
    await sleep(200);
  }
  throw new Error("a server did not become ready");
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
