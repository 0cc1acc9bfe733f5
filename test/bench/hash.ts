import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { hashKv } from "../../src/bolt/hash-kv.ts";
import { KeyDigest } from "../../src/bolt/key-digest.ts";
import { LiveKeys } from "../../src/bolt/live-keys.ts";
import { NewestRows } from "../../src/bolt/newest-rows.ts";
import { scanSnapshot } from "../../src/bolt/scan.ts";
import { writeDatabase } from "../bolt/write-database.ts";
import { median } from "./measure.ts";

/**
 * How fast a database file is scanned (with HashKV) and hashed, and what the tables of keys take. `npm run bench:hash` prints the tables;
 * `npm run bench:hash -- --write` puts them into docs/benchmarks.md.
 */

const rounds = 5;
const directory = await mkdtemp(join(process.env["LIFEBOAT_BENCH_DIRECTORY"] ?? tmpdir(), "lifeboat-bench-"));

interface Shape {
  readonly name: string;
  readonly rows: number;
  readonly keys: number;
  readonly valueBytes: number;
  /** Of the rows; undefined: never. */
  readonly finished: number | undefined;
  readonly scheduled: number | undefined;
}

const large = { rows: 300_000, keys: 300_000, valueBytes: 1000 };
const shapes: readonly Shape[] = [
  { name: "never compacted", ...large, keys: 200_000, finished: undefined, scheduled: undefined },
  { name: "compaction finished, 5 % written since", ...large, finished: 0.95, scheduled: 0.95 },
  { name: "compaction scheduled only", ...large, keys: 200_000, finished: undefined, scheduled: 0.95 },
  {
    name: "small rows, compaction finished",
    rows: 1_200_000,
    keys: 1_200_000,
    valueBytes: 150,
    finished: 0.95,
    scheduled: 0.95,
  },
];

try {
  const text = `${await speeds()}\n\n${tables()}\n`;
  console.log(text);
  if (process.argv.includes("--write")) await writePage(text);
} finally {
  await rm(directory, { recursive: true, force: true });
}

async function speeds(): Promise<string> {
  const lines = [
    `Files in the page cache, one thread of ${cpus().length} cores that others use too; medians of ${rounds} rounds, MB/s of the file by the clock and, in brackets, by CPU time.`,
    "",
    "| file | MiB | scan with HashKV | HashKV at its own compaction | HashKV at three compactions |",
    "| ---- | --- | ---------------- | ---------------------------- | --------------------------- |",
  ];
  for (const shape of shapes) {
    const path = join(directory, "snapshot.db");
    const bytes = await build(shape, path);
    const { revision, compactRevision } = scanSnapshot(path);
    const three = [compactRevision, revision - 1000n, revision - 10n];
    const cells = [
      speed(bytes, () => scanSnapshot(path)),
      speed(bytes, () => hashKv(path, revision, [compactRevision])),
      speed(bytes, () => hashKv(path, revision, three)),
    ];
    lines.push(`| ${[shape.name, (bytes / 2 ** 20).toFixed(0), ...cells].join(" | ")} |`);
  }
  return lines.join("\n");
}

function speed(bytes: number, work: () => unknown): string {
  const samples = Array.from({ length: rounds }, () => {
    const [cpu, startedMs] = [process.cpuUsage(), performance.now()];
    work();
    const { user, system } = process.cpuUsage(cpu);
    return { wall: bytes / 1000 / (performance.now() - startedMs), cpu: bytes / (user + system) };
  });
  return `${median(samples.map(({ wall }) => wall)).toFixed(0)} (${median(samples.map(({ cpu }) => cpu)).toFixed(0)})`;
}

/** Writes the file and gives its size. */
async function build({ rows, keys, valueBytes, finished, scheduled }: Shape, path: string): Promise<number> {
  const revision = (main: number): Buffer => {
    const key = Buffer.alloc(17);
    key.writeUInt32BE(main, 4);
    key.write("_", 8);
    return key;
  };
  const value = (row: number): Buffer => {
    const name = Buffer.from(`/registry/pods/namespace-${row % 97}/pod-${row % keys}`);
    const content = Buffer.alloc(valueBytes, `${row} `);
    const length = [(valueBytes % 128) | 128, valueBytes >> 7];
    return Buffer.concat([Buffer.of(0x0a, name.length), name, Buffer.of(0x20, 1, 0x2a, ...length), content]);
  };
  const marks = { finishedCompactRev: finished, scheduledCompactRev: scheduled };
  const db = writeDatabase({
    key: Array.from({ length: rows }, (_, row) => ({ key: revision(row + 2), value: value(row) })),
    meta: Object.entries(marks).flatMap(([name, share]) =>
      share === undefined ? [] : { key: Buffer.from(name), value: revision(Math.floor(rows * share)) },
    ),
  });
  await new Promise<void>((resolve, reject) => {
    createWriteStream(path).once("error", reject).once("finish", resolve).end(db);
  });
  return db.length;
}

function tables(): string {
  const [live, newest, key] = [new LiveKeys(), new NewestRows(), new KeyDigest()];
  const [counted, kept]: [number[], number[]] = [[], []];
  for (let n = 1; n <= 2_000_000; n++) {
    const bytes = Buffer.from(`/registry/pods/namespace-${n % 97}/pod-${n}`);
    key.take(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length);
    live.put(key);
    newest.put(key, n);
    if (n >= 100_000 && n % 10_000 === 0) {
      counted.push(live.tableBytes / n);
      kept.push(newest.tableBytes / n);
    }
  }
  const range = (values: readonly number[]): string =>
    `${Math.min(...values).toFixed(0)} to ${Math.max(...values).toFixed(0)}`;
  return [
    "| table | bytes per key, from 100 000 to 2 million keys |",
    "| ----- | --------------------------------------------- |",
    `| live keys, in every scan | ${range(counted)} |`,
    `| newest rows, of keys with rows since the last finished compaction | ${range(kept)} |`,
  ].join("\n");
}

async function writePage(text: string): Promise<void> {
  const page = fileURLToPath(new URL("../../docs/benchmarks.md", import.meta.url));
  const before = await readFile(page, "utf8");
  const after = before.replace(
    /(<!-- hash -->\n)[^]*(<!-- end of hash -->)/,
    (_, open: string, close: string) => `${open}\n${text}\n${close}`,
  );
  if (after === before) throw new Error(`${page} has no place for these figures, or has them already`);
  await writeFile(page, after);
}
