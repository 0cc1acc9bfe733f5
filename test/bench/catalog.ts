import { generateKeyPairSync } from "node:crypto";
import { mkdir, readFile, utimes, writeFile } from "node:fs/promises";
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { openSigner } from "../../src/repository/signature.ts";
import { discardDirectory, makeDirectory } from "../cluster/directories.ts";
import { startS3 } from "../cluster/s3.ts";
import { fillCatalog } from "./catalog-fill.ts";
import { measure, median, type Cost } from "./measure.ts";

/**
 * How long `etcd-lifeboat list` takes in a repository of thousands of backups on an S3 server, first and after that. `npm run bench:catalog` prints the table;
 * with `-- --write` it goes into docs/benchmarks.md. `--backups N` for another number.
 */

const repository = fileURLToPath(new URL("../..", import.meta.url));
const flag = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback);
};
const backups = Number(flag("--backups", "10000"));
const rounds = 3;

const home = await makeDirectory("catalog");
try {
  await main();
} finally {
  await discardDirectory(home);
}

async function main(): Promise<void> {
  await execa("node", ["scripts/build.ts"], { cwd: repository });
  await using s3 = await startS3();
  await s3.createBucket("bucket");
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const signer = openSigner(privateKey.export({ type: "pkcs8", format: "pem" }).toString(), "bench");
  const filled = await fill(join(s3.directory, "bucket", "prod"), signer);
  await writeFile(join(home, "trusted.pem"), publicKey.export({ type: "spki", format: "pem" }));
  await mkdir(join(home, "spool"), { mode: 0o700 });
  const config = {
    cluster: { name: "prod", endpoints: ["http://127.0.0.1:1"] },
    repository: {
      store: { s3: { bucket: "bucket", prefix: "prod", endpoint: s3.url, pathStyle: true } },
      signing: { trusted: [join(home, "trusted.pem")] },
    },
    spool: { directory: join(home, "spool") },
  };
  await writeFile(join(home, "config.yaml"), JSON.stringify(config));
  const env = { AWS_ACCESS_KEY_ID: s3.accessKey, AWS_SECRET_ACCESS_KEY: s3.secretKey, AWS_CONFIG_FILE: "/dev/null" };
  const list = async (): Promise<Cost> => {
    const program = join(repository, "dist/etcd-lifeboat.cjs");
    const command = `${process.execPath} ${program} list --config ${join(home, "config.yaml")}`;
    const cost = await measure(`${command} >${join(home, "out.txt")}`, env);
    const lines = (await readFile(join(home, "out.txt"), "utf8")).trimEnd().split("\n");
    const proven = lines.filter((line) => / sealed +proven$/.test(line)).length;
    // What was written past the gateway is served by it, and each signature and digest was right.
    if (proven !== backups) throw new Error(`list shows ${proven} of ${backups} backups as proven:\n${lines[1]}`);
    return cost;
  };
  const first = await list();
  const later: Cost[] = [];
  for (let round = 0; round < rounds; round += 1) later.push(await list());
  await publish(report(filled, first, later));
}

interface Filled {
  readonly objects: number;
  readonly manifestBytes: number;
}

/** Writes the objects as the gateway's own plain files, which takes a tenth of the time; dated as if they were old. */
async function fill(root: string, signer: Parameters<typeof fillCatalog>[1]): Promise<Filled> {
  let [objects, manifestBytes] = [0, 0];
  const folders = new Set<string>();
  for await (const { name, bytes, timeMs } of fillCatalog(backups, signer)) {
    const path = join(root, name);
    if (!folders.has(dirname(path))) await mkdir(dirname(path), { recursive: true });
    folders.add(dirname(path));
    await writeFile(path, bytes);
    await utimes(path, timeMs / 1000, timeMs / 1000);
    objects += 1;
    if (name.includes("/backups/")) manifestBytes += bytes.length;
  }
  return { objects, manifestBytes };
}

function report({ objects, manifestBytes }: Filled, first: Cost, later: readonly Cost[]): string {
  const row = (what: string, { wallS, cpuS, peakMB }: Cost): string =>
    `| ${what} | ${wallS.toFixed(2)} | ${cpuS.toFixed(2)} | ${peakMB.toFixed(0)} |`;
  const middle: Cost = {
    wallS: median(later.map(({ wallS }) => wallS)),
    cpuS: median(later.map(({ cpuS }) => cpuS)),
    peakMB: median(later.map(({ peakMB }) => peakMB)),
  };
  const kilobytes = (manifestBytes / backups / 1000).toFixed(0);
  return [
    `${backups} backups (${objects} objects, manifests of ${kilobytes} KB on average, each with a proof; all signed, and verified), ${cpus().length} cores shared with the S3 server; load average meanwhile ${loadavg()[0]?.toFixed(1)}.`,
    "",
    "| `etcd-lifeboat list` | wall s | CPU s | peak MB |",
    "| --- | --- | --- | --- |",
    row("the first time, or without a cache", first),
    row(`after that, median of ${later.length}`, middle),
  ].join("\n");
}

async function publish(text: string): Promise<void> {
  process.stdout.write(`${text}\n`);
  if (!process.argv.includes("--write")) return;
  const page = join(repository, "docs/benchmarks.md");
  const [before, rest] = (await readFile(page, "utf8")).split("<!-- catalog -->\n");
  const after = rest?.split("<!-- end of catalog -->")[1];
  if (before === undefined || after === undefined) throw new Error(`${page} has no place for the figures`);
  await writeFile(page, `${before}<!-- catalog -->\n\n${text}\n\n<!-- end of catalog -->${after}`);
}
