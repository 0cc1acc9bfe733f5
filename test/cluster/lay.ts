import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { BuiltCluster, BuiltFile } from "../../src/datadir/datadir.ts";

const never = new AbortController().signal;

/** Puts what was built for one member into its data directory, and its WAL into another directory where it has one. */
export async function layMember(
  built: BuiltCluster,
  name: string,
  dataDirectory: string,
  walDirectory = join(dataDirectory, "member/wal"),
): Promise<void> {
  const member = built.members.find((one) => one.name === name);
  if (member === undefined) throw new Error(`nothing was built for ${name}`);
  for (const file of member.data) await writeBuilt(file, join(dataDirectory, "member"));
  for (const file of member.wal) await writeBuilt(file, walDirectory);
}

async function writeBuilt(file: BuiltFile, under: string): Promise<void> {
  const path = join(under, file.path);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await pipeline(Readable.from(file.content(never)), createWriteStream(path, { mode: file.mode }));
}
