import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import type { Figures } from "./backup.ts";
import { bundle, contend, flag, putsPerSecond, repository, type Sample } from "./contend.ts";
import { generate, type Shape } from "./generate.ts";
import { median } from "./measure.ts";
import { writePage } from "./page.ts";
import { issueCertificates, s3Keys, Servers, type RunningEtcd } from "./servers.ts";

/**
 * What writers feel of a backup: a steady load of puts against three members, without a backup, during `etcdctl snapshot save` and during ours, step by step,
 * all in one run. `npm run bench:cost` prints the table; `-- --write` puts it into docs/benchmarks.md. `--keys N`, `--rounds N`, `--only TEXT` for less.
 */
const rounds = Number(flag("--rounds", "3"));
const only = flag("--only", "");
const shape: Shape = {
  keys: Number(flag("--keys", "74000")),
  smallestBytes: 500,
  largestBytes: 20_000,
  history: 1 / 3,
  leases: 100,
  seed: Number(flag("--seed", "1")),
};
const idleS = 15;

const cache = process.env["LIFEBOAT_CACHE"] ?? join(repository, ".cache");
const work = await mkdtemp(join(process.env["LIFEBOAT_BENCH_DIRECTORY"] ?? tmpdir(), "lifeboat-cost-"));
const memory = await mkdtemp("/dev/shm/lifeboat-cost-");

try {
  await main();
} finally {
  await rm(work, { recursive: true, force: true });
  await rm(memory, { recursive: true, force: true });
}

interface Contender {
  readonly name: string;
  readonly script: string;
  /** Where ours leaves its own figures. */
  readonly figures?: string;
}

interface Measured {
  readonly sample: Sample;
  readonly figures: Figures | undefined;
}

async function main(): Promise<void> {
  await execa(join(repository, "scripts/servers"), ["etcd-3.6", "s3"], { stderr: "inherit" });
  await mkdir(join(repository, "dist"), { recursive: true });
  const [drain, backup] = [await bundle("drain"), await bundle("backup")];
  const programs = { etcd: join(cache, "etcd/3.6/etcd"), versitygw: join(cache, "bin/versitygw") };
  using servers = new Servers(work, programs);
  const members = await servers.etcd(3, await issueCertificates(work));
  console.error(`filling ${shape.keys} keys, seed ${shape.seed}, in ${work}`);
  await generate(members[0].plain, shape);
  const s3 = await servers.s3();
  const { leader, follower } = await roles(members);
  const dbBytes = (await stat(join(follower.directory, "member/snap/db"))).size;
  const contenders = (await writeContenders(drain, backup, members, follower, s3)).filter(({ name }) =>
    name.includes(only),
  );
  const measured = new Map<string, Measured[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const contender of contenders) {
      const { name, script, figures } = contender;
      const sample = await contend(script, s3Keys, { endpoint: leader.plain, pid: follower.pid });
      const found = figures === undefined ? undefined : (JSON.parse(await readFile(figures, "utf8")) as Figures);
      measured.get(name)?.push({ sample, figures: found });
      const { wallS, load } = sample;
      console.error(
        `round ${round + 1} ${name}: ${wallS.toFixed(1)} s, p99 ${load.p99.toFixed(0)} ms, ${JSON.stringify(found ?? {})}`,
      );
      await clear(servers.bucket);
      await sleep(2000);
    }
  }
  const text = report(dbBytes, contenders, measured);
  console.log(text);
  if (process.argv.includes("--write")) await writePage("cost", text);
}

/** What one contender left would be written to the disk during the next one. */
async function clear(bucket: string): Promise<void> {
  await rm(join(work, "out"), { recursive: true, force: true });
  await mkdir(join(work, "out"));
  await rm(bucket, { recursive: true, force: true });
  await mkdir(bucket);
  await execa("sync");
}

/** The member that leads, and the follower that ours takes from: followers are taken by their name. */
async function roles(members: readonly RunningEtcd[]): Promise<{ leader: RunningEtcd; follower: RunningEtcd }> {
  const leads = await Promise.all(
    members.map(async ({ plain }) => {
      const answer = await fetch(`${plain}/v3/maintenance/status`, { method: "POST", body: "{}" });
      const { leader, header } = (await answer.json()) as { leader: string; header: { member_id: string } };
      return leader === header.member_id;
    }),
  );
  const leader = members.find((_, index) => leads[index] === true);
  const follower = members.find((_, index) => leads[index] === false);
  if (leader === undefined || follower === undefined) throw new Error("the cluster has no leader");
  return { leader, follower };
}

async function writeContenders(
  drain: string,
  backup: string,
  members: readonly RunningEtcd[],
  follower: RunningEtcd,
  s3: string,
): Promise<readonly Contender[]> {
  const node = process.execPath;
  await mkdir(join(work, "out"));
  const ours = async (
    name: string,
    how: { readonly pace: "always" | "never"; readonly proof: boolean; readonly spool: string },
  ): Promise<Contender> => {
    const id = name.replaceAll(/\W+/g, "-");
    const spool = join(how.spool, "spool");
    await mkdir(spool, { mode: 0o700, recursive: true });
    const config = join(work, `${id}.yaml`);
    const text = {
      cluster: { name: "bench", endpoints: members.map(({ plain }) => plain) },
      repository: { store: { s3: { bucket: "bench", prefix: "repository", endpoint: s3, pathStyle: true } } },
      spool: { directory: spool, pace: how.pace },
      proof: { allowLeader: false },
    };
    await writeFile(config, JSON.stringify(text));
    const figures = join(work, `${id}.json`);
    return { name, figures, script: `${node} ${backup} ${config} ${figures} ${how.proof ? "" : "unproven"}` };
  };
  const etcdctl = `${join(cache, "etcd/3.6/etcdctl")} --endpoints ${follower.plain}`;
  return [
    { name: "no backup", script: `sleep ${idleS}` },
    { name: "etcdctl snapshot save", script: `${etcdctl} snapshot save ${work}/out/s.db` },
    {
      name: "etcdctl snapshot save, into memory",
      script: `${etcdctl} snapshot save ${memory}/s.db && rm ${memory}/s.db`,
    },
    { name: "our drain alone, not paced", script: `${node} ${drain} ${follower.plain} ${work}/out/s.db` },
    await ours("ours without proof, not paced", { pace: "never", proof: false, spool: work }),
    await ours("ours, not paced", { pace: "never", proof: true, spool: work }),
    await ours("ours, not paced, spool in memory", { pace: "never", proof: true, spool: memory }),
    await ours("ours without proof, paced", { pace: "always", proof: false, spool: work }),
    await ours("ours, paced", { pace: "always", proof: true, spool: work }),
    await ours("ours, paced, spool in memory", { pace: "always", proof: true, spool: memory }),
  ];
}

function report(
  dbBytes: number,
  contenders: readonly Contender[],
  measured: ReadonlyMap<string, readonly Measured[]>,
): string {
  const rows = contenders.map(({ name }) => {
    const all = measured.get(name) ?? [];
    const of = (pick: (sample: Sample) => number): number => median(all.map(({ sample }) => pick(sample)));
    const own = (pick: (figures: Figures) => number, digits: number): string => {
      const given = all.flatMap(({ figures }) => (figures === undefined ? [] : [pick(figures)]));
      return given.length === 0 ? "" : median(given).toFixed(digits);
    };
    const numbers = [
      of(({ load }) => load.p50).toFixed(1),
      of(({ load }) => load.p99).toFixed(0),
      of(({ load }) => load.longest).toFixed(0),
      of(({ load }) => load.over100).toFixed(0),
      of(({ wallS }) => wallS).toFixed(1),
      own(({ phasesMs }) => (phasesMs["drain"] ?? 0) / 1000, 1),
      of(({ cpuS }) => cpuS).toFixed(1),
      of(({ peakMB }) => peakMB).toFixed(0),
      own(({ lagP99Ms }) => lagP99Ms, 0),
      own(({ lagMostMs }) => lagMostMs, 0),
      own(({ slowed }) => slowed, 0),
    ];
    return `| ${name} | ${numbers.join(" | ")} |`;
  });
  const verdicts = new Set(
    [...measured].flatMap(([name, all]) =>
      all.flatMap(({ figures }) => (figures === undefined ? [] : [`${name}: ${figures.verdict}`])),
    ),
  );
  return [
    `Database ${(dbBytes / 2 ** 20).toFixed(0)} MiB (${shape.keys} live keys, seed ${shape.seed}), three members of etcd 3.6, the S3 server, the load (${putsPerSecond} puts/s against the leader, each timed from when it was due) and the backup on ${cpus().length} cores and one disk, ${(totalmem() / 2 ** 30).toFixed(0)} GiB; the snapshot is a follower's, and only followers are asked for hashes. Medians of ${rounds} rounds in one run; the machine's load average at its end was ${(loadavg()[0] ?? 0).toFixed(1)}. Verdicts: ${[...verdicts].join(", ")}.`,
    "",
    "| | put p50 ms | put p99 ms | longest put ms | puts over 100 ms | wall s | drain s | CPU s | peak MB | loop lag p99 ms | longest lag ms | times slowed |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}
