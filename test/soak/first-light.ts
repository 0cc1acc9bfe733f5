import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { mulberry32 } from "../bench/generate.ts";
import { openKv, type Kv } from "../bench/kv.ts";
import { patiently } from "../cluster/cluster.ts";
import { startCommand, type Started } from "../cluster/command.ts";
import { restoreCluster, startCluster, type Minor, type TestCluster } from "../cluster/harness.ts";
import { startS3, type TestS3 } from "../cluster/s3.ts";

/**
 * The daemon against three TLS members and a real S3 server, under writes, while members, the store and the daemon itself are killed and come back.
 * Afterwards every listed backup must verify, and must restore with age, zstd and etcdutl alone, on every minor.
 *
 *   npm run soak:first-light                 half an hour
 *   npm run soak:first-light -- --minutes 2 --minors 3.6 --seed 7
 */

const flag = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
};
const minors = flag("--minors", "3.4,3.5,3.6,3.7").split(",") as Minor[];
const minutes = Number(flag("--minutes", "30"));
const seed = Number(flag("--seed", String(Math.floor(Date.now() / 1000) % 100_000)));
const runs = flag("--write", "");
const repository = fileURLToPath(new URL("../..", import.meta.url));
const cacheBin = join(process.env["LIFEBOAT_CACHE"] ?? join(repository, ".cache"), "bin");
const everySeconds = 15;

interface Counts {
  readonly minor: Minor;
  puts: number;
  failedPuts: number;
  memberKills: number;
  memberPauses: number;
  daemonKills: number;
  storeStops: number;
  committed: number;
  failed: number;
  listed: number;
  verified: number;
  restored: number;
}

const random = mulberry32(seed);
const root = await mkdtemp(join(tmpdir(), "lifeboat-soak-"));
const lines: string[] = [];
try {
  say(`seed ${seed}, ${minutes} minutes over ${minors.join(", ")}, a backup every ${everySeconds} s`);
  for (const minor of minors) {
    const counts = await soak(minor, (minutes * 60_000) / minors.length);
    say(
      Object.entries(counts)
        .map(([name, value]) => `${name} ${value}`)
        .join(", "),
    );
    if (counts.listed === 0 || counts.restored !== counts.listed || counts.verified !== counts.listed) {
      throw new Error(`${minor}: a listed backup does not verify or restore`);
    }
  }
  say("every listed backup verifies and restores");
  if (runs !== "") await writeFile(join(repository, "docs/runs", runs), `${lines.join("\n")}\n`);
} finally {
  await rm(root, { recursive: true, force: true });
}

function say(text: string): void {
  const line = `${new Date().toISOString()} ${text}`;
  lines.push(line);
  console.log(line);
}

async function soak(minor: Minor, durationMs: number): Promise<Counts> {
  const counts: Counts = {
    minor,
    puts: 0,
    failedPuts: 0,
    memberKills: 0,
    memberPauses: 0,
    daemonKills: 0,
    storeStops: 0,
    committed: 0,
    failed: 0,
    listed: 0,
    verified: 0,
    restored: 0,
  };
  const place = join(root, minor);
  await mkdir(place);
  await using cluster = await startCluster({ minor, members: 3, tls: true });
  await using s3 = await startS3();
  await s3.createBucket("soak");
  await execa(join(cacheBin, "age-keygen"), ["-o", join(place, "key.txt")]);
  const recipient = (await execa(join(cacheBin, "age-keygen"), ["-y", join(place, "key.txt")])).stdout.trim();
  const config = await writeConfig(place, cluster, s3, recipient);
  const env = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey };
  const acknowledged: { readonly key: string; readonly revision: bigint }[] = [];
  const stopWriter = await startWriter(cluster, counts, acknowledged);
  const log = createWriteStream(join(place, "daemon.log"), { flags: "a" });
  let daemon = startDaemon(config, env, counts, log);
  const endMs = Date.now() + durationMs;
  while (Date.now() < endMs) {
    await sleep(10_000 + random() * 15_000);
    daemon = await disturb(cluster, s3, daemon, () => startDaemon(config, env, counts, log), counts);
  }
  await stopWriter();
  // Everything is well again: one more slot must be served.
  const before = counts.committed;
  for (let waitedMs = 0; counts.committed === before && waitedMs < 120_000; waitedMs += 500) await sleep(500);
  if (counts.committed === before)
    throw new Error(`${minor}: no backup after everything was healed: ${await tail(join(place, "daemon.log"))}`);
  daemon.child.kill("SIGTERM");
  const ended = await daemon.ended;
  if (ended.status !== 0) throw new Error(`${minor}: the daemon ended with ${ended.status ?? ended.signal}`);
  log.end();
  await checkBackups(minor, place, config, env, counts, acknowledged, s3);
  return counts;
}

async function writeConfig(place: string, cluster: TestCluster, s3: TestS3, recipient: string): Promise<string> {
  const config = join(place, "config.yaml");
  const { tls } = cluster;
  if (tls === undefined) throw new Error("the cluster must have TLS");
  await writeFile(
    config,
    JSON.stringify({
      cluster: { name: "soak", endpoints: cluster.endpoints, tls: { ca: tls.ca, cert: tls.cert, key: tls.key } },
      repository: {
        store: { s3: { bucket: "soak", prefix: "prod", endpoint: s3.url, region: s3.region, pathStyle: true } },
        encryption: { recipients: [recipient], identity: { file: join(place, "key.txt") } },
      },
      spool: { directory: join(place, "spool") },
      schedules: [{ name: "soak", cron: `*/${everySeconds} * * * * *` }],
      http: { listen: "127.0.0.1:0" },
    }),
  );
  return config;
}

function startDaemon(config: string, env: Record<string, string>, counts: Counts, log: NodeJS.WritableStream): Started {
  const started = startCommand(["run", "--config", config], { env, unbounded: true });
  let rest = "";
  started.onError((text) => {
    log.write(text);
    const whole = `${rest}${text}`.split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) {
      if (line.includes('"event":"backup.committed"')) counts.committed += 1;
      if (line.includes('"event":"backup.failed"')) counts.failed += 1;
    }
  });
  return started;
}

/** One thing goes wrong, and comes right again. */
async function disturb(
  cluster: TestCluster,
  s3: TestS3,
  daemon: Started,
  restart: () => Started,
  counts: Counts,
): Promise<Started> {
  const member = cluster.members[Math.floor(random() * cluster.members.length)];
  const kind = random();
  if (kind < 0.35) {
    await member?.stop("SIGKILL");
    counts.memberKills += 1;
    await sleep(3000 + random() * 10_000);
    await member?.start();
  } else if (kind < 0.55) {
    member?.pause();
    counts.memberPauses += 1;
    await sleep(2000 + random() * 8000);
    member?.resume();
  } else if (kind < 0.85) {
    daemon.child.kill(random() < 0.7 ? "SIGKILL" : "SIGTERM");
    await daemon.ended;
    counts.daemonKills += 1;
    await sleep(1000 + random() * 5000);
    return restart();
  } else {
    s3.pause();
    counts.storeStops += 1;
    await sleep(3000 + random() * 10_000);
    s3.resume();
  }
  return daemon;
}

/** Writes all the time through whichever member answers; remembers what was acknowledged, and at which revision. */
async function startWriter(
  cluster: TestCluster,
  counts: Counts,
  acknowledged: { readonly key: string; readonly revision: bigint }[],
): Promise<() => Promise<void>> {
  const files = cluster.tls;
  if (files === undefined) throw new Error("the cluster must have TLS");
  const [ca, cert, key] = await Promise.all([readFile(files.ca), readFile(files.cert), readFile(files.key)]);
  const clients: Kv[] = cluster.endpoints.map((endpoint) => openKv(endpoint, { ca, cert, key }));
  let stopping = false;
  const writing = (async () => {
    for (let n = 0; !stopping; n += 1) {
      const client = clients[n % clients.length];
      const name = `soak/${String(n).padStart(8, "0")}`;
      try {
        const revision = await client?.put(name, Buffer.from(`value of ${name} ${"x".repeat(n % 3000)}`));
        if (revision !== undefined) acknowledged.push({ key: name, revision });
        counts.puts += 1;
      } catch {
        // A member that is down answers nobody; the next put goes to the next member.
        counts.failedPuts += 1;
      }
      await sleep(5);
    }
  })();
  return async () => {
    stopping = true;
    await writing;
    for (const client of clients) client[Symbol.dispose]();
  };
}

interface ListedBackup {
  readonly backup: string;
  readonly lineage: string;
  readonly revision: string;
  readonly keys: number;
}

async function checkBackups(
  minor: Minor,
  place: string,
  config: string,
  env: Record<string, string>,
  counts: Counts,
  acknowledged: readonly { readonly key: string; readonly revision: bigint }[],
  s3: TestS3,
): Promise<void> {
  const listed = JSON.parse((await ran(["list", "--json", "--config", config], env)).stdout) as {
    backups: readonly ListedBackup[];
    refused: readonly unknown[];
  };
  if (listed.refused.length > 0) throw new Error(`${minor}: refused manifests: ${JSON.stringify(listed.refused)}`);
  counts.listed = listed.backups.length;
  const verify = await ran(["verify", "--level", "structure", "--json", "--config", config], env);
  counts.verified = (JSON.parse(verify.stdout) as { results: { ok: boolean }[] }).results.filter(({ ok }) => ok).length;
  const bucket = join(s3.directory, "soak", "prod");
  for (const [index, backup] of listed.backups.entries()) {
    const shown = JSON.parse(
      (await ran(["show", "--json", "--config", config, `${backup.lineage}/${backup.backup}`], env)).stdout,
    ) as {
      data: { object: string };
    };
    const file = join(place, "snapshot.db");
    // The stock tools alone, straight from the bucket's files.
    await execa("bash", [
      "-c",
      'set -eo pipefail; "$1/age" -d -i "$2" "$3" | "$1/zstd" -d -q -f -o "$4"',
      "restore",
      cacheBin,
      join(place, "key.txt"),
      join(bucket, shown.data.object),
      file,
    ]);
    const members = index === listed.backups.length - 1 ? 3 : 1;
    await using restored = await restoreCluster({ minor, snapshotFile: file, members, tls: true });
    const output = await patiently(() => restored.etcdctl(["get", "soak/", "--prefix", "--keys-only"]));
    const keys = new Set(output.split("\n").filter((line) => line !== ""));
    const expected = acknowledged.filter(({ revision }) => revision <= BigInt(backup.revision));
    const lost = expected.filter(({ key }) => !keys.has(key));
    if (lost.length > 0)
      throw new Error(`${minor}: ${backup.backup} lacks ${lost.length} acknowledged keys, first ${lost[0]?.key}`);
    if (keys.size !== backup.keys)
      throw new Error(`${minor}: ${backup.backup} has ${keys.size} keys instead of ${backup.keys}`);
    await rm(file);
    counts.restored += 1;
  }
}

async function ran(args: readonly string[], env: Record<string, string>): Promise<{ stdout: string }> {
  const ended = await startCommand(args, { env, unbounded: true }).ended;
  if (ended.status !== 0)
    throw new Error(`${args.join(" ")} ended with ${ended.status ?? ended.signal}: ${ended.stdout}${ended.stderr}`);
  return ended;
}

async function tail(path: string): Promise<string> {
  return (await readFile(path, "utf8")).split("\n").slice(-20).join("\n");
}
