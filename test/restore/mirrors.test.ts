import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { Fault } from "../../src/faults.ts";
import { openLocalHost } from "../../src/host/local.ts";
import { hostMirror, storeMirror } from "../../src/restore/mirrors.ts";
import { operationPieceName } from "../../src/repository/names.ts";
import { openDirectoryStore } from "../../src/store/directory.ts";
import type { Store } from "../../src/store/store.ts";
import { openJournalFiles } from "../../src/runbook/journal-file.ts";
import { parseLines } from "../../src/runbook/journal-lines.ts";
import type { RunbookPlan } from "../../src/runbook/runbook.ts";
import type { JournalMirror } from "../../src/runbook/journal.ts";
import { mirrorContract, type MirrorSubject } from "../contracts/mirror.ts";
import { fakeHost } from "../fakes/host.ts";
import { memoryMirror } from "../fakes/mirror.ts";
import { memoryStore } from "../fakes/store.ts";
import { modelPlan } from "../runbook/model.ts";

const { signal } = new AbortController();
const id = "01JQ0000000000000000000001";

async function scratch(): Promise<string> {
  return await mkdtemp(join(tmpdir(), "lifeboat-mirror-"));
}

function both(mirror: JournalMirror): MirrorSubject {
  return { one: mirror, other: mirror, [Symbol.asyncDispose]: () => Promise.resolve() };
}

mirrorContract("copies on a host in memory", async () => both(hostMirror(fakeHost("cp1"), "/var/lib/ours")));
mirrorContract("copies in memory", async () => both(memoryMirror("memory")));
mirrorContract("copies on this machine", async () => {
  const directory = await scratch();
  const open = (): JournalMirror => hostMirror(openLocalHost("cp1"), join(directory, "state"));
  return { one: open(), other: open(), [Symbol.asyncDispose]: () => rm(directory, { recursive: true }) };
});
mirrorContract("copies in a store in memory", async () => {
  const store = memoryStore();
  return both(storeMirror(async () => await Promise.resolve(store)));
});
mirrorContract("copies in a directory as a store", async () => {
  const directory = await scratch();
  const open = (): JournalMirror => storeMirror(async () => await Promise.resolve(openDirectoryStore({ directory })));
  return { one: open(), other: open(), [Symbol.asyncDispose]: () => rm(directory, { recursive: true }) };
});

test("a copy on a host is for its owner alone, and hosts that are one machine do not share one", async () => {
  const directory = await scratch();
  onTestFinished(() => rm(directory, { recursive: true }));
  const [one, other] = ["cp1", "cp2"].map((name) => hostMirror(openLocalHost(name), directory));
  await one?.append(id, 0, ["plan"], signal);
  expect(await other?.list(signal)).toEqual([]);
  await other?.append(id, 0, ["plan", "more"], signal);
  expect(await one?.read(id, signal)).toEqual(["plan"]);
  const journals = join(directory, "journals");
  expect((await stat(journals)).mode & 0o777).toBe(0o700);
  expect(await readdir(journals)).toEqual([`cp1.${id}.jsonl`, `cp2.${id}.jsonl`]);
  for (const name of await readdir(journals)) expect((await stat(join(journals, name))).mode & 0o777).toBe(0o600);
});

test("what somebody else left on a host or in a store is no journal, and is left alone", async () => {
  const host = fakeHost("cp1");
  await host.makeDirectory("/state/journals", { mode: 0o700 }, signal);
  await host.writeFile("/state/journals/cp1.notes.jsonl", Buffer.from("x\n"), { mode: 0o600 }, signal);
  await host.writeFile(`/state/journals/${id}.jsonl`, Buffer.from("x\n"), { mode: 0o600 }, signal);
  expect(await hostMirror(host, "/state").list(signal)).toEqual([]);
  await host.writeFile(`/state/journals/cp1.${id}.jsonl`, Buffer.from([0xff, 0xfe, 10]), { mode: 0o600 }, signal);
  await expect(hostMirror(host, "/state").read(id, signal)).rejects.toMatchObject({ code: "journal-invalid" });

  const store = memoryStore();
  const mirror = storeMirror(async () => await Promise.resolve(store));
  const put = async (name: string, text: string): Promise<void> => await store.create(name, Buffer.from(text), signal);
  await put(`operations/${id}/notes.txt`, "x");
  await put(`operations/${id}/1.jsonl`, "x");
  await put(`operations/${id.toLowerCase()}/000000.jsonl`, "x");
  expect(await mirror.list(signal)).toEqual([]);
  await mirror.append(id, 0, ["plan", "a"], signal);
  // What lies behind a gap tells nothing, and a piece that begins within another one was written by nobody of us.
  await put(`operations/${id}/000003.jsonl`, "c\n");
  expect(await mirror.read(id, signal)).toEqual(["plan", "a"]);
  await put(`operations/${id}/000001.jsonl`, "b\n");
  await expect(mirror.read(id, signal)).rejects.toMatchObject({
    code: "journal-invalid",
    message: expect.stringContaining("begins within another piece") as string,
  });
  await mirror.remove(id, signal);
  expect([...store.objects.keys()]).toContain(`operations/${id}/notes.txt`);
});

test("a line whose answer was lost is there once, also when the next one came along", async () => {
  const store = memoryStore();
  const mirror = storeMirror(async () => await Promise.resolve(store));
  await mirror.append(id, 0, ["plan"], signal);
  const lost = new Error("the answer was lost");
  const struck = store.trouble({ method: "create", nth: 1, loseReply: lost });
  await expect(mirror.append(id, 1, ["a"], signal)).rejects.toBe(lost);
  await mirror.append(id, 1, ["a", "b"], signal);
  expect(struck()).toBe(1);
  expect(await mirror.read(id, signal)).toEqual(["plan", "a", "b"]);
});

test("a name that a store gives out only once is no sign of somebody else", async () => {
  const store = memoryStore();
  const mirror = storeMirror(async () => await Promise.resolve(store));
  const used = new Fault("store-exists", "it was there, and was removed");
  const struck = store.trouble({ method: "create", fail: used });
  await expect(mirror.append(id, 0, ["plan"], signal)).rejects.toBe(used);
  expect(struck()).toBe(1);
});

describe("what somebody puts into the store", () => {
  const plan: RunbookPlan = { ...modelPlan([]), id, facts: { repository: "01JQ0000000000000000000009" } };
  const start = { kind: "start", step: "a", timeMs: 1 } as const;
  const put = async (store: Store, line: number, text: string): Promise<void> =>
    await store.create(operationPieceName(id, line), Buffer.from(text), signal);

  test("is told, and nobody goes on by it or is kept from beginning, whatever it says", async () => {
    const store = memoryStore();
    await put(store, 0, `${JSON.stringify(plan)}\n${JSON.stringify(start)}\n`);
    const mirrors = [hostMirror(fakeHost("cp1"), "/state"), storeMirror(async () => await Promise.resolve(store))];
    const journals = openJournalFiles({ directory: await scratch(), mirrors, by: "me", emit: () => undefined });
    const hearsay = [{ id, mirror: "store" }];
    expect(await journals.find(undefined, signal)).toEqual({ found: [], refused: [], silent: [], hearsay });
    expect(await journals.find(id, signal)).toEqual({ found: [], refused: [], silent: [], hearsay });
    // Where a host has it too, that is what counts.
    await mirrors[0]?.append(id, 0, [JSON.stringify(plan)], signal);
    const { found, hearsay: none } = await journals.find(undefined, signal);
    expect(found).toMatchObject([{ lines: [JSON.stringify(plan)], record: { place: "a copy on host cp1" } }]);
    expect(none).toEqual([]);
  });

  test("stops no operation that writes its journal there, nor its resume", async () => {
    const store = memoryStore();
    const events: LifeboatEvent[] = [];
    const mirrors = [storeMirror(async () => await Promise.resolve(store))];
    const emit = (event: LifeboatEvent): void => void events.push(event);
    const journals = openJournalFiles({ directory: await scratch(), mirrors, by: "me", emit });
    {
      await using journal = await journals.create(plan, signal);
      await put(store, 1, "garbage\n");
      await journal.append(start);
      await journal.append({ kind: "done", step: "a", performed: true, timeMs: 2 });
    }
    expect(events).toMatchObject([{ name: "journal.behind", mirror: "store" }]);
    await using again = await journals.open(id, signal);
    expect(again.entries).toHaveLength(2);
    await again.append({ kind: "ended", outcome: "done", timeMs: 3 });
  });

  test("has no depth that ends a process", () => {
    const deep = `${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`;
    const line = JSON.stringify(plan).replace(/^\{/, `{"deep":${deep},`);
    expect(() => parseLines("store", id, [line])).toThrow(/nested deeper than any line of a journal/);
  });
});

test("the store is told of operations alone that have their repository in it", () => {
  const mirror = storeMirror(async () => await Promise.reject(new Error("nobody opens it")));
  const plan = modelPlan([]);
  expect(mirror.accepts({ ...plan, facts: { repository: null } })).toBe(false);
  expect(mirror.accepts({ ...plan, facts: { repository: "01JQ0000000000000000000009" } })).toBe(true);
  expect(hostMirror(fakeHost("cp1"), "/state").accepts({ ...plan, facts: {} })).toBe(true);
});
