import { mkdirSync, writeFileSync } from "node:fs";
import { appendFile, open, truncate, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import { readWal } from "../../src/datadir/read-wal.ts";
import { openLocalHost } from "../../src/host/local.ts";
import type { StoppedFacts } from "../../src/restore/facts.ts";
import { revisionStep } from "../../src/restore/revision-step.ts";
import { readStopped } from "../../src/restore/stopped.ts";
import type { OpenHost } from "../../src/restore/restore.ts";
import { RestoreWork } from "../../src/restore/work.ts";
import type { JsonObject, StepContext } from "../../src/runbook/runbook.ts";
import { fixtureBytes, golden } from "../bolt/fixtures/golden.ts";
import { requestFor, workbench, type Workbench } from "../datadir/rig.ts";
import { crc, entry, entryOf, metadata, whose, writer } from "../datadir/write-wal.ts";
import { openModel, openScratch } from "./model.ts";

const never = new AbortController().signal;
const bump = 3_000_000_000n;
const reached = BigInt(golden("3.6").revision) + bump;

interface Laid {
  readonly open: Pick<OpenHost, "host" | "etcd">;
  readonly database: string;
  readonly segment: string;
  readonly read: () => Promise<StoppedFacts | undefined>;
}

/** A member's directory as a restore makes it: a database of etcd 3.6 that was bumped, at entry 1 of its log. */
async function layMember(bench: Workbench): Promise<Laid> {
  const built = await bench.build(fixtureBytes("3.6").subarray(0, -32), requestFor(1, { bump }));
  const dataDirectory = join(bench.directory, "etcd");
  for (const [under, files] of [
    ["member", built.members[0]?.data ?? []],
    ["member/wal", built.members[0]?.wal ?? []],
  ] as const)
    for (const file of files) {
      const path = join(dataDirectory, under, file.path);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, Buffer.concat(await Array.fromAsync(file.content(never))));
    }
  const service = { state: () => Promise.reject(new Error("nobody asks it")) } as unknown as NonNullable<
    OpenHost["etcd"]
  >["service"];
  const open = {
    host: openLocalHost("h1"),
    etcd: { member: "m1", service, dataDirectory, walDirectory: undefined },
  };
  const wal = join(dataDirectory, "member/wal");
  return {
    open,
    database: join(dataDirectory, "member/snap/db"),
    segment: join(wal, `${"0".repeat(16)}-${"0".repeat(16)}.wal`),
    read: async () => await readStopped(open, { read: readWal }, never),
  };
}

/** A second segment as etcd cuts one: its name says with which entry it begins. */
async function cut(segment: string, first: bigint, entries: number): Promise<string> {
  const next = writer(7);
  next.add(crc);
  next.add(metadata, whose);
  for (let number = 0; number < entries; number++) next.add(entry, entryOf(first + BigInt(number), 2n));
  const path = join(dirname(segment), `${"1".padStart(16, "0")}-${first.toString(16).padStart(16, "0")}.wal`);
  await writeFile(path, Buffer.concat([next.bytes(), Buffer.alloc(4096)]));
  return path;
}

test("a stopped member has come as far as its database, and one revision further with each entry behind that in its log", async () => {
  using bench = workbench();
  const { segment, read } = await layMember(bench);
  expect(await read()).toMatchObject({ revision: reached, logEntries: 0n, broken: [] });
  await cut(segment, 2_000n, 0);
  expect(await read()).toMatchObject({ revision: reached, logEntries: 1_998n, broken: [] });
  await cut(segment, 2_000n, 30);
  expect(await read()).toMatchObject({ revision: reached, logEntries: 2_028n, broken: [] });
});

test("what is cut off or damaged in a log is counted as all that may have been in it, and told", async () => {
  using bench = workbench();
  const { segment, read } = await layMember(bench);
  const last = await cut(segment, 2_000n, 30);
  const content = (stop: AbortSignal): AsyncIterable<Uint8Array> => openLocalHost("h1").send(last, stop);
  const { end } = await readWal([{ name: basename(last), content }], never);
  const claims = Buffer.alloc(2_400);
  claims.writeBigUInt64LE(2n ** 40n);
  await truncate(last, end.offsetBytes);
  await appendFile(last, claims);
  expect(await read()).toMatchObject({ logEntries: 2_028n + 100n, broken: [] });
  const handle = await open(last, "r+");
  await handle.write(Buffer.from("?"), 0, 1, end.offsetBytes - 12);
  await handle.close();
  const facts = await read();
  const most = BigInt(Math.ceil((end.offsetBytes + claims.length) / 24));
  expect(facts).toMatchObject({ revision: reached, logEntries: 1_998n + most });
  const told = new RegExp(
    `^its log cannot be read, and is counted as the ${most} entries that fit into it at most: .*CRC`,
  );
  expect(facts?.broken).toEqual([expect.stringMatching(told)]);
});

test("a database that cannot be read is told, and guessed at no more than its log", async () => {
  using bench = workbench();
  const { database, read } = await layMember(bench);
  await truncate(database, 8192);
  const facts = await read();
  expect(facts).toMatchObject({ revision: undefined, logEntries: 0n });
  expect(facts?.broken).toEqual([expect.stringMatching(/^its database cannot be read, .* is not known: page \d+/)]);
});

test("a database that somebody has open is not read", async () => {
  using bench = workbench();
  const { database, read } = await layMember(bench);
  await using held = await open(database, "r");
  expect(held.fd).toBeGreaterThan(0);
  expect(await read()).toBeUndefined();
});

test("a restore goes no further when a member had come to its first revision before it was stopped", async () => {
  using bench = workbench();
  using scratch = openScratch();
  const { open: laid } = await layMember(bench);
  const { deps, plan } = await openModel({ members: 1 }, scratch.directory);
  const withFirst = async (first: bigint): Promise<readonly JsonObject[]> => {
    const facts = { ...plan.facts, first: { revision: first.toString(), bump: "0", why: "" } };
    const hosts = [{ ...laid, services: [] }];
    const work = new RestoreWork({ ...deps, hosts, wal: { read: readWal } }, { ...plan, facts });
    const step = plan.steps.find(({ kind }) => kind === "revision");
    if (step === undefined) throw new Error("the plan has no such step");
    const notes: JsonObject[] = [];
    const note = async (said: JsonObject): Promise<void> => void notes.push(await Promise.resolve(said));
    const context = { notes, left: new Set<string>(), results: new Map(), note } as unknown as StepContext;
    await revisionStep(work).perform(step, context, never);
    return notes;
  };
  expect(await withFirst(reached + 1n)).toEqual([{ reached: { m1: reached.toString() } }]);
  await expect(withFirst(reached)).rejects.toMatchObject({
    code: "plan-stale",
    message: expect.stringContaining(`m1 may have reached revision ${reached} before it was stopped`),
    hint: `take it back and plan again: etcd-lifeboat restore --rollback ${plan.id}`,
  });
});
