import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { lifeboatBuilder } from "../../src/datadir/lifeboat.ts";

/** Builds one member's directory for the benchmark beside this: SNAPSHOT TARGET BUMP. What was built lies in TARGET/etcd/member then; the database is linked there. */
const [snapshot = "", target = "", bump = ""] = process.argv.slice(2);
const work = join(target, "work");
await mkdir(work, { recursive: true });
const signal = new AbortController().signal;
const members = [{ name: "m1", peerUrls: ["http://127.0.0.1:2380"] }];
const request = { minor: "3.6", token: "restore-bench", members, bump: BigInt(bump) } as const;
const built = await lifeboatBuilder().build(snapshot, work, request, signal);
const [member] = built.members;
for (const file of [...(member?.data ?? []), ...(member?.wal ?? [])]) {
  // The database lies ready in the work directory, from where it goes to a host.
  if (file.path === "snap/db") continue;
  const path = join(target, "etcd/member", file.path);
  await mkdir(dirname(path), { recursive: true });
  await pipeline(Readable.from(file.content(signal)), createWriteStream(path));
}
