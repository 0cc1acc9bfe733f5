import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeDatabase } from "../bolt/write-database.ts";
import { etcdProgram } from "../cluster/servers.ts";
import { measure, median, type Cost } from "./measure.ts";
import { writePage } from "./page.ts";

/**
 * One member's data directory from a local file of 1.1 GB, by our builder and by etcdutl, in turns, with a bump. `npm run bench:datadir` prints the table; with `-- --write` it is put into
 * docs/benchmarks.md.
 */

const rounds = 3;
const bump = 1_000_000_000;
/** Three rows of four are the newest of their key. */
const shape = { rows: 360_000, keys: 270_000, valueBytes: 3000 };
const directory = await mkdtemp(join(process.env["LIFEBOAT_BENCH_DIRECTORY"] ?? tmpdir(), "lifeboat-bench-"));
const snapshot = join(directory, "snapshot.db");
const target = join(directory, "target");

const builder = fileURLToPath(new URL("datadir-build.ts", import.meta.url));
const contenders: Readonly<Record<string, string>> = {
  "ours, read again and HashKV compared": `node ${builder} ${snapshot} ${target} ${bump}`,
  "etcdutl snapshot restore":
    `${etcdProgram("3.6", "etcdutl")} snapshot restore ${snapshot} --name m1 --data-dir ${target}/etcd` +
    ` --initial-cluster m1=http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380` +
    ` --bump-revision ${bump} --mark-compacted`,
};

try {
  await writeSnapshot();
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
    "| one member, with a bump | wall s | CPU s | peak MB |",
    "| --- | --- | --- | --- |",
    ...Object.entries(costs).map(([name, all]) => `| ${[name, ...figures(all)].join(" | ")} |`),
  ].join("\n");
  console.log(text);
  if (process.argv.includes("--write")) await writePage("datadir", text);
} finally {
  await rm(directory, { recursive: true, force: true });
}

/** A snapshot with its seal, as a member of 3.6 would send it; made here, since putting so much takes minutes. */
async function writeSnapshot(): Promise<void> {
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(value));
    return bytes;
  };
  const revision = (main: number): Buffer => Buffer.concat([number(main), Buffer.from("_"), number(0)]);
  const field = (tag: number, bytes: Buffer): Buffer =>
    Buffer.concat([Buffer.of(tag, (bytes.length & 127) | 128, bytes.length >> 7), bytes]);
  const row = (index: number): Buffer => {
    const name = Buffer.from(`/registry/pods/namespace-${index % 97}/pod-${index % shape.keys}`);
    return Buffer.concat([
      field(0x0a, name),
      Buffer.of(0x20, 1),
      field(0x2a, Buffer.alloc(shape.valueBytes, `${index} `)),
    ]);
  };
  const member = { id: 1, peerURLs: ["http://127.0.0.1:1"], name: "old", clientURLs: ["http://127.0.0.1:2"] };
  const text = (key: string, value: string): { readonly key: Buffer; readonly value: Buffer } => ({
    key: Buffer.from(key),
    value: Buffer.from(value),
  });
  const empty = { alarm: [], auth: [], authRoles: [], authUsers: [], lease: [], members_removed: [] };
  const db = writeDatabase({
    ...empty,
    cluster: [text("clusterVersion", "3.6.0")],
    key: Array.from({ length: shape.rows }, (_, index) => ({ key: revision(index + 2), value: row(index) })),
    members: [text("1", JSON.stringify(member))],
    meta: [
      text("confState", '{"voters":[1],"auto_leave":false}'),
      { key: Buffer.from("consistent_index"), value: number(shape.rows) },
      text("storageVersion", "3.6.0"),
      { key: Buffer.from("term"), value: number(2) },
    ],
  });
  const file = createWriteStream(snapshot);
  file.write(db);
  file.end(createHash("sha256").update(db).digest());
  await once(file, "finish");
}

function figures(costs: readonly Cost[]): readonly string[] {
  const of = (part: (cost: Cost) => number, digits: number): string => median(costs.map(part)).toFixed(digits);
  return [of(({ wallS }) => wallS, 1), of(({ cpuS }) => cpuS, 1), of(({ peakMB }) => peakMB, 0)];
}
