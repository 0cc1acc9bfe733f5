import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import type { JournalMirror } from "../../src/runbook/journal.ts";
import { openJournalFiles } from "../../src/runbook/journal-file.ts";
import { journalsContract } from "../contracts/journal.ts";
import { Fault } from "../../src/faults.ts";
import { fakeJournals } from "../fakes/journal.ts";
import { memoryMirror, type MemoryMirror } from "../fakes/mirror.ts";
import { steeredClock } from "../fakes/clock.ts";
import { execute } from "../../src/runbook/execute.ts";
import type { StepHandler } from "../../src/runbook/runbook.ts";
import { modelPlan, openWorld } from "./model.ts";

const signal = new AbortController().signal;
const id = "01JQ0000000000000000000009";
const plan = { ...modelPlan([{}, {}]), id };

function openAt(directory: string, mirrors: readonly JournalMirror[] = [], events: LifeboatEvent[] = []) {
  return openJournalFiles({
    directory,
    mirrors,
    by: "root on here",
    emit: (event) => events.push(event),
  });
}

async function scratch(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-journal-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return join(directory, "operations");
}

journalsContract("journals in files", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lifeboat-journal-"));
  const at = join(directory, "operations");
  return {
    one: openAt(at),
    other: openAt(at),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
});

journalsContract("the fake journals", async () => {
  const journals = fakeJournals();
  return { one: journals, other: journals, [Symbol.asyncDispose]: () => Promise.resolve() };
});

test("a line that a dying process had begun is cut off, and everything before it stays", async () => {
  const directory = await scratch();
  const path = join(directory, `${id}.jsonl`);
  const journal = await openAt(directory).create(plan, signal);
  await journal.append({ kind: "start", step: "s0", timeMs: 1 });
  await journal[Symbol.asyncDispose]();
  await appendFile(path, '{"kind":"done","step":"s0","perf');
  expect((await openAt(directory).read(id, signal)).entries).toHaveLength(1);
  await using again = await openAt(directory).open(id, signal);
  await again.append({ kind: "failed", step: "s0", code: "failed", message: "ö", timeMs: 2 });
  const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as { kind?: string }).kind)).toEqual([undefined, "start", "failed"]);
});

test("a file that makes no sense is refused with its line, and nothing is changed in it", async () => {
  const directory = await scratch();
  const path = join(directory, `${id}.jsonl`);
  await (await openAt(directory).create(plan, signal))[Symbol.asyncDispose]();
  const first = await readFile(path, "utf8");
  for (const [text, why] of [
    ["", "ends before its plan"],
    [first.slice(0, 40), "ends before its plan"],
    [`${first}nonsense\n`, "line 2 is no JSON"],
    [`${first}{"kind":"unheard-of","timeMs":1}\n`, "line 2 is no entry that this version knows"],
    [first.replace("plan/v1", "plan/v9"), "etcd-lifeboat/plan/v9"],
  ] as const) {
    await writeFile(path, text);
    for (const method of ["read", "open"] as const) {
      await expect(openAt(directory)[method](id, signal)).rejects.toMatchObject({
        code: "journal-invalid",
        message: expect.stringContaining(why) as string,
      });
    }
    expect(await readFile(path, "utf8")).toBe(text);
  }
});

test("an id that is none is refused before it becomes a path", async () => {
  await expect(openAt(await scratch()).read("../../etc/passwd", signal)).rejects.toMatchObject({ code: "usage" });
});

test("the journals are for their owner alone", async () => {
  const directory = await scratch();
  await (await openAt(directory).create(plan, signal))[Symbol.asyncDispose]();
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect((await stat(join(directory, `${id}.jsonl`))).mode & 0o777).toBe(0o600);
});

test("a process that was killed holds no operation any more", async () => {
  const directory = await scratch();
  await (await openAt(directory).create(plan, signal))[Symbol.asyncDispose]();
  const program = `
    import { openJournalFiles } from ${JSON.stringify(new URL("../../src/runbook/journal-file.ts", import.meta.url).href)};
    const journals = openJournalFiles({ directory: ${JSON.stringify(directory)}, mirrors: [], by: "the child", emit: () => {} });
    await journals.open(${JSON.stringify(id)});
    console.log("open");
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  const refused = await openAt(directory)
    .open(id, signal)
    .catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "journal-locked", message: `operation ${id} is executed by the child` });
  child.kill("SIGKILL");
  await once(child, "exit");
  await using journal = await openAt(directory).open(id, signal);
  expect(journal.plan).toEqual(plan);
});

describe("the copies of a journal", () => {
  const kindsOf = ({ kept }: MemoryMirror): readonly unknown[] =>
    (kept.get(id) ?? []).map((line) => (JSON.parse(line) as { kind?: string }).kind);
  const start = { kind: "start", step: "s0", timeMs: 1 } as const;
  const done = { kind: "done", step: "s0", performed: true, timeMs: 2 } as const;
  const failed = { kind: "failed", step: "s0", code: "failed", message: "x", timeMs: 3 } as const;

  test("have each line before anything is done that it speaks of", async () => {
    const mirror = memoryMirror("host cp1");
    const journal = await openAt(await scratch(), [mirror]).create(plan, signal);
    expect(kindsOf(mirror)).toEqual([undefined]);
    await journal.append(start);
    expect(kindsOf(mirror)).toEqual([undefined, "start"]);
    // What several steps that are done at once have to say goes along.
    await Promise.all([journal.append(done), journal.append(failed)]);
    expect(kindsOf(mirror)).toEqual([undefined, "start", "done", "failed"]);
    await journal[Symbol.asyncDispose]();
  });

  test("hold up nothing where they cannot be written: that is told once, and they catch up when they can", async () => {
    const events: LifeboatEvent[] = [];
    const mirror = memoryMirror("store");
    let calls = 0;
    mirror.trouble = () => {
      calls += 1;
      if (calls < 8) throw new Error("no route");
    };
    const good = memoryMirror("host cp1");
    const journal = await openAt(await scratch(), [mirror, good], events).create(plan, signal);
    await journal.append(start);
    await journal.append(done);
    expect(kindsOf(good)).toEqual([undefined, "start", "done"]);
    expect(mirror.kept.size).toBe(0);
    expect(events).toEqual([{ name: "journal.behind", operation: id, mirror: "store", lines: 1, message: "no route" }]);
    for (let turn = 0; turn < 8; turn += 1) await journal.append(failed);
    await journal[Symbol.asyncDispose]();
    expect(calls).toBeGreaterThan(8);
    expect(mirror.kept.get(id)).toEqual(good.kept.get(id));
    expect(events).toHaveLength(1);
  });

  test("hold up nothing where they never answer, and when none is left that is told", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const events: LifeboatEvent[] = [];
    const mirror = memoryMirror("store");
    let asked = 0;
    mirror.trouble = async () => {
      asked += 1;
      await new Promise(() => undefined);
    };
    const advance = setInterval(() => void vi.advanceTimersByTime(1000), 5);
    onTestFinished(() => clearInterval(advance));
    const journal = await openAt(await scratch(), [mirror], events).create(plan, signal);
    await journal.append(start);
    await journal.append(done);
    await journal[Symbol.asyncDispose]();
    // Each call that hangs keeps a thread.
    expect(asked).toBe(1);
    expect(events.map((event) => ("message" in event ? event.message : event.name))).toEqual([
      "it did not answer within 5 s",
      expect.stringMatching(/^no copy of the journal is whole any more/),
    ]);
  });

  test("stop a process when another one went on with the operation", async () => {
    const mirror = memoryMirror("host cp1");
    const directory = await scratch();
    const journal = await openAt(directory, [mirror]).create(plan, signal);
    await journal.append(start);
    mirror.kept.get(id)?.push(JSON.stringify({ kind: "opened", mode: "resume", timeMs: 9 }));
    await expect(journal.append(done)).rejects.toMatchObject({ code: "journal-taken" });
    // And for good: who was passed over writes no more.
    await expect(journal.append(failed)).rejects.toMatchObject({ code: "journal-taken" });
    await journal[Symbol.asyncDispose]();
    await expect(openAt(directory, [mirror]).open(id, signal)).rejects.toMatchObject({ code: "journal-taken" });
    // It has not been taken up by that.
    expect((await openAt(directory).read(id, signal)).executing).toBeUndefined();
  });

  test("end an operation here that another machine goes on with, and nothing more is done", async () => {
    const mirror = memoryMirror("host cp1");
    const world = openWorld([{}, {}, {}]);
    const own = { ...world.plan, id };
    await using journal = await openAt(await scratch(), [mirror]).create(own, signal);
    const handler: StepHandler = {
      ...world.handler,
      perform: async (step, context, stop) => {
        const result = await world.handler.perform(step, context, stop);
        if (step.id === "s1") mirror.kept.get(id)?.push(JSON.stringify({ kind: "opened", mode: "resume", timeMs: 9 }));
        return result;
      },
    };
    const deps = { handlers: { model: handler }, emit: () => undefined, clock: steeredClock(0) };
    const passed = await execute(journal, "run", deps, signal).catch((error: unknown) => error);
    expect(passed).toMatchObject({ code: "journal-taken", hint: expect.stringContaining("restore status") as string });
    expect(world.world).toEqual([2, 2, 0]);
  });

  test("are brought up to date by whoever takes the journal up", async () => {
    const directory = await scratch();
    const journal = await openAt(directory).create(plan, signal);
    await journal.append(start);
    await journal[Symbol.asyncDispose]();
    const mirror = memoryMirror("host cp1");
    await (await openAt(directory, [mirror]).open(id, signal))[Symbol.asyncDispose]();
    expect(kindsOf(mirror)).toEqual([undefined, "start"]);
  });

  test("let another machine go on: the longest of them, as one file there", async () => {
    const [behind, store] = [memoryMirror("host cp1"), memoryMirror("store")];
    const journal = await openAt(await scratch(), [behind, store]).create(plan, signal);
    await journal.append(start);
    behind.trouble = () => {
      throw new Fault("host-unreachable", "cp1 is gone");
    };
    await journal.append(done);
    await journal[Symbol.asyncDispose]();
    behind.trouble = () => undefined;

    const elsewhere = await scratch();
    const journals = openAt(elsewhere, [behind, store]);
    const { found, silent, refused } = await journals.find(undefined, signal);
    expect({ silent, refused }).toEqual({ silent: [], refused: [] });
    expect(found).toHaveLength(1);
    const [only] = found;
    expect(only).toMatchObject({ elsewhere: true, record: { plan, entries: [start, done], place: "a copy on store" } });
    expect(await journals.list(signal)).toEqual([]);
    await journals.adopt(only!, signal);
    expect((await stat(join(elsewhere, `${id}.jsonl`))).mode & 0o777).toBe(0o600);
    await using taken = await journals.open(id, signal);
    await taken.append({ kind: "ended", outcome: "done", timeMs: 9 });
    expect(kindsOf(behind)).toEqual(kindsOf(store));
    // It is over: nobody has to go on with it, and it is found by its id alone.
    expect((await openAt(await scratch(), [behind, store]).find(undefined, signal)).found).toEqual([]);
    expect((await openAt(await scratch(), [behind, store]).find(id, signal)).found).toHaveLength(1);
  });

  test("complete the journal of a machine that others went on without", async () => {
    const mirror = memoryMirror("store");
    const directory = await scratch();
    const journal = await openAt(directory, [mirror]).create(plan, signal);
    await journal.append(start);
    await journal[Symbol.asyncDispose]();
    await appendFile(join(directory, `${id}.jsonl`), '{"kind":"done","st');
    mirror.kept.get(id)?.push(JSON.stringify(done));
    const journals = openAt(directory, [mirror]);
    const [found] = (await journals.find(id, signal)).found;
    expect(found).toMatchObject({ elsewhere: true, record: { entries: [start, done] } });
    await journals.adopt(found!, signal);
    expect((await journals.read(id, signal)).entries).toEqual([start, done]);
    // As long as both, what is here is taken.
    const [again] = (await journals.find(id, signal)).found;
    expect(again).toMatchObject({ elsewhere: false, record: { place: join(directory, `${id}.jsonl`) } });
  });

  test("that contradict each other, make no sense or do not answer are named, and hide nothing else", async () => {
    const [one, two, three] = [memoryMirror("host cp1"), memoryMirror("host cp2"), memoryMirror("store")];
    const first = JSON.stringify(plan);
    one.kept.set(id, [first, JSON.stringify(start), JSON.stringify(done)]);
    two.kept.set(id, [first, JSON.stringify(start), JSON.stringify(failed), JSON.stringify(done)]);
    const other = "01JQ0000000000000000000010";
    one.kept.set(other, [first, JSON.stringify(start)]);
    const third = "01JQ0000000000000000000011";
    two.kept.set(third, [JSON.stringify({ ...plan, id: third }), JSON.stringify(start)]);
    three.trouble = () => {
      throw new Fault("store-unreachable", "no route");
    };
    const { found, refused, silent } = await openAt(await scratch(), [one, two, three]).find(undefined, signal);
    expect(found.map(({ record }) => record.plan.id)).toEqual([third]);
    expect(silent).toEqual([{ mirror: "store", message: "no route" }]);
    expect(refused.map(({ id: at, fault }) => [at, fault.code, fault.message])).toEqual([
      [
        id,
        "journal-disagrees",
        expect.stringMatching(/host cp2 \(4 lines\), and from line 3 on another in that on host cp1/),
      ],
      [other, "journal-invalid", expect.stringMatching(/its plan is of operation 01JQ0000000000000000000009/)],
    ]);
  });
});
