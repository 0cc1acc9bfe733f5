import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { open, readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { DataDirectoryRequest } from "../../src/datadir/datadir.ts";
import type { Minor } from "../../src/datadir/minors.ts";
import { readModel } from "../bolt/model.ts";

/** What the stock tool made of a bolt fixture, as far as it can be compared: everything but the file's layout. */
export interface StockDirectory {
  readonly name: string;
  /** Of the first member of the request, up to the zeros. */
  readonly wal: string;
  readonly walBytes: number;
  /** Raw deflate of it, base64: most of it are a thousand nulls. */
  readonly snap: string;
  /** SHA-256 of all rows of each bucket. */
  readonly buckets: Readonly<Record<string, string>>;
}

export interface StockGolden {
  /** Such as `etcdutl 3.6.14`. */
  readonly tool: string;
  readonly directories: readonly StockDirectory[];
}

/** What was asked of the stock tool, by the name of the case. */
export const requests: Readonly<Record<string, Omit<DataDirectoryRequest, "minor">>> = {
  one: request(1, undefined),
  "one, bumped": request(1, 1_000_000_000n),
  three: request(3, undefined),
  "three, bumped": request(3, 1_000_000_000n),
  "five, bumped": request(5, 1_000_000n),
  odd: {
    token: "restore <of> & é",
    bump: 7n,
    members: [
      { name: 'a <b> & "é" \\', peerUrls: ["http://LOCALHOST:80", "http://127.0.0.1:2380"] },
      { name: "v6", peerUrls: ["https://[::1]:5"] },
    ],
  },
};

function request(members: number, bump: bigint | undefined): Omit<DataDirectoryRequest, "minor"> {
  return {
    token: `restore-${members}`,
    bump,
    members: Array.from({ length: members }, (_, index) => ({
      name: `etcd${index + 1}`,
      peerUrls: [`https://10.0.0.${index + 1}:2380`],
    })),
  };
}

export function readGolden(minor: Minor): StockGolden {
  return JSON.parse(readFileSync(join(import.meta.dirname, "fixtures", `etcd-${minor}.json`), "utf8")) as StockGolden;
}

/** Has the tool restore a sealed snapshot for the first member, and says what it made. */
export async function restoreWithStock(
  tool: string,
  snapshotPath: string,
  directory: string,
  name: string,
): Promise<StockDirectory> {
  const { members, token, bump } = requests[name]!;
  const [first] = members;
  const cluster = members.flatMap((member) => member.peerUrls.map((url) => `${member.name}=${url}`)).join();
  await promisify(execFile)(tool, [
    "snapshot",
    "restore",
    snapshotPath,
    `--name=${first?.name}`,
    `--data-dir=${directory}`,
    `--initial-cluster=${cluster}`,
    `--initial-cluster-token=${token}`,
    `--initial-advertise-peer-urls=${first?.peerUrls.join()}`,
    ...(bump === undefined ? [] : [`--bump-revision=${bump}`, "--mark-compacted"]),
  ]);
  return describeDirectory(name, directory);
}

/** The name of its .snap and its WAL are what they must be, or this fails. */
async function describeDirectory(name: string, directory: string): Promise<StockDirectory> {
  const count = requests[name]!.members.length;
  const snap = `0000000000000001-${count.toString(16).padStart(16, "0")}.snap`;
  const wal = join(directory, "member/wal/0000000000000000-0000000000000000.wal");
  const files = await readdir(join(directory, "member/snap"));
  if (files.toSorted().join() !== [snap, "db"].toSorted().join()) throw new Error(`other files: ${files.join()}`);
  return {
    name,
    wal: (await headOf(wal)).toString("hex"),
    walBytes: (await stat(wal)).size,
    snap: deflateRawSync(await readFile(join(directory, "member/snap", snap)), { level: 9 }).toString("base64"),
    buckets: digests(await readFile(join(directory, "member/snap/db"))),
  };
}

/** Everything before the zeros at the end; up to eight of them are padding. */
async function headOf(path: string): Promise<Buffer> {
  const file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(64 * 1024), 0, 64 * 1024, 0);
  await file.close();
  return trimmed(buffer.subarray(0, bytesRead));
}

export function trimmed(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
}

export function inflate(golden: StockDirectory): Buffer {
  return inflateRawSync(Buffer.from(golden.snap, "base64"));
}

/**
 * Of each bucket, except for what we do otherwise on purpose: the alarms, which we remove, and the raft configuration, which names the new voters with us. So `alarm` is left
 * out, and `confState` in `meta`.
 */
export function digests(db: Buffer): Readonly<Record<string, string>> {
  const { rows } = readModel(db);
  return Object.fromEntries(
    [...rows]
      .filter(([bucket]) => bucket !== "alarm")
      .map(([bucket, all]) => {
        const hash = createHash("sha256");
        for (const { key, value } of all) {
          if (bucket === "meta" && key.toString() === "confState") continue;
          hash.update(`${key.length} ${value.length} `).update(key).update(value);
        }
        return [bucket, hash.digest("hex")] as const;
      }),
  );
}
