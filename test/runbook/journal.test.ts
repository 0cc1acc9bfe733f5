import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import type { JournalMirror } from "../../src/runbook/journal.ts";
import { openJournalFiles } from "../../src/runbook/journal-file.ts";
import { journalsContract } from "../contracts/journal.ts";
import { fakeJournals } from "../fakes/journal.ts";
import { modelPlan } from "./model.ts";

const signal = new AbortController().signal;
const id = "01JQ0000000000000000000009";
const plan = { ...modelPlan([{}, {}]), id };

function openAt(directory: string, mirrors: readonly JournalMirror[] = [], events: LifeboatEvent[] = []) {
  return openJournalFiles({
    directory,
    mirrors,
    by: "root on here",
    clock: systemClock,
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
    const journals = openJournalFiles({ directory: ${JSON.stringify(directory)}, mirrors: [], by: "the child", clock: { now: () => 0 }, emit: () => {} });
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

test("every line goes to the mirrors in its order; one that fails is told once, and nothing waits for it", async () => {
  const got: string[] = [];
  const events: LifeboatEvent[] = [];
  const good: JournalMirror = {
    name: "host cp1",
    append: async (operation, number, line) => {
      got.push(`${operation} ${number} ${(JSON.parse(line) as { kind?: string }).kind ?? "plan"}`);
      await Promise.resolve();
    },
  };
  const bad: JournalMirror = { name: "store", append: () => Promise.reject(new Error("no route")) };
  const directory = await scratch();
  const journal = await openAt(directory, [bad, good], events).create(plan, signal);
  await journal.append({ kind: "start", step: "s0", timeMs: 1 });
  await journal.append({ kind: "done", step: "s0", performed: true, timeMs: 2 });
  await journal[Symbol.asyncDispose]();
  expect(got).toEqual([`${id} 0 plan`, `${id} 1 start`, `${id} 2 done`]);
  expect(events).toMatchObject([
    { name: "warning", about: "journal", message: "the copy of the journal on store is behind: no route" },
  ]);
});
