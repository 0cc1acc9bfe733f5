import { expect, test } from "vitest";
import { formatDuration, formatTime } from "../../src/format.ts";
import { claimSlot } from "../../src/repository/claims.ts";
import { acquireLock, readLock, type LockScope } from "../../src/repository/lock.ts";
import { listSpent } from "../../src/repository/spent.ts";
import { steeredClock } from "../fakes/clock.ts";
import { memoryStore } from "../fakes/store.ts";
import { calm } from "../snapshot/bytes.ts";
import { backupId, lineageId, repositoryId } from "./sample.ts";

const told = { waiting: () => undefined, takenOver: () => undefined, trouble: () => undefined };

test("what daemons agreed by is spent once it is old: whole claims, and entries of the lock that nobody reads", async () => {
  const clock = steeredClock(Date.UTC(2026, 2, 1, 12));
  const store = memoryStore(() => clock.now());
  let count = 0;
  const scope: LockScope & { clock: typeof clock } = {
    store,
    cluster: "prod",
    prefix: "coordination",
    clock,
    newId: () => `01JQ${String(++count).padStart(22, "0")}`,
    author: { host: "cp1", user: "root", pid: 1, version: "0.1.0" },
    describe: { time: formatTime, duration: formatDuration },
  };
  const claim = async (backup: string): Promise<void> => {
    const slot = { repository: repositoryId, lineage: lineageId, backup };
    const held = await claimSlot(scope, slot, told, calm);
    await clock.advance(10_000);
    await held[Symbol.asyncDispose]();
  };
  await claim(backupId);
  for (let n = 0; n < 12; n += 1) await (await acquireLock(scope, "scan", true, calm))[Symbol.asyncDispose]();
  store.objects.set("coordination/claims/whose.txt", { bytes: Buffer.from("?"), modifiedMs: 0 });
  const old = [...store.objects.keys()].filter((name) => !name.endsWith(".txt"));
  await clock.advance(3_600_000);
  const beforeMs = clock.now();
  await claim("20260301T130000Z.slot.hourly");

  const spent = await listSpent(store, "coordination", { beforeMs, operationsBeforeMs: 0 }, calm);
  const kept = old.filter((name) => !spent.includes(name));
  expect(spent.filter((name) => name.includes("/claims/")).every((name) => name.includes(backupId))).toBe(true);
  expect(kept).toHaveLength(16);
  expect(kept.every((name) => name.includes("/lock/"))).toBe(true);
  expect(new Set(spent)).toEqual(new Set(old.filter((name) => !kept.includes(name))));

  for (const name of spent) await store.remove(name, calm);
  expect(await readLock(scope, calm)).toMatchObject({ highest: 24, holder: undefined, damaged: [] });
});

test("the copy of a journal is spent as a whole once nobody has written to it for long, and nothing else beside it is", async () => {
  const clock = steeredClock(Date.UTC(2026, 2, 1, 12));
  const store = memoryStore(() => clock.now());
  const [old, young] = ["01JQ0000000000000000000001", "01JQ0000000000000000000002"];
  const put = async (name: string): Promise<void> => await store.create(`operations/${name}`, Buffer.from("x"), calm);
  for (const name of [`${old}/000000.jsonl`, `${old}/000003.jsonl`, `${young}/000000.jsonl`, `${old}/notes.txt`])
    await put(name);
  await clock.advance(1000);
  const operationsBeforeMs = clock.now();
  await put(`${young}/000001.jsonl`);
  const spent = await listSpent(store, "coordination", { beforeMs: 0, operationsBeforeMs }, calm);
  expect(spent).toEqual([`operations/${old}/000000.jsonl`, `operations/${old}/000003.jsonl`]);
});
