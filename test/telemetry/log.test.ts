import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, openSync } from "node:fs";
import { Writable } from "node:stream";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";

import { phases } from "../../src/events.ts";
import type { LifeboatEvent } from "../../src/events.ts";
import { openLog, standardErrorIsJournal } from "../../src/telemetry/log.ts";
import type { LogOptions } from "../../src/telemetry/log.ts";
import { allSamples, samples, upMember } from "./samples.ts";

const atMs = Date.UTC(2026, 2, 1, 6, 0, 7, 42);

function collect(): { readonly destination: Writable; readonly text: () => string } {
  const chunks: string[] = [];
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk.toString());
      done();
    },
  });
  return { destination, text: () => chunks.join("") };
}

async function logged(
  events: readonly LifeboatEvent[],
  options: Partial<LogOptions> & { readonly times?: readonly number[] } = {},
): Promise<string> {
  const { destination, text } = collect();
  let index = 0;
  const clock = {
    now: () => options.times?.[index++] ?? atMs,
    elapsed: () => 0,
    sleep: () => Promise.reject(new Error("a log does not sleep")),
  };
  await using log = openLog({ level: "debug", format: "json", destination, clock, ...options });
  for (const event of events) log.listen(event);
  await log.flush();
  return text();
}

const parse = (text: string): Record<string, unknown>[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("JSON", () => {
  test("a line has time, level, event and the event's fields, 64-bit numbers as strings", async () => {
    expect(parse(await logged([samples["backup.committed"]]))).toEqual([
      {
        time: "2026-03-01T06:00:07.042Z",
        level: "info",
        event: "backup.committed",
        run: "01RUN",
        trigger: "schedule",
        schedule: "hourly",
        slotMs: Date.UTC(2026, 2, 1, 6),
        backup: "20260301T060000Z.slot.hourly",
        lineage: "01LINEAGE",
        member: "etcd2",
        quorum: true,
        revision: "9007199254740993",
        keys: 75_000,
        plainBytes: 1_080_000_000,
        storedBytes: 412_000_000,
        committedMs: Date.UTC(2026, 2, 1, 6, 0, 7),
        durationMs: 5700,
        extrasMissing: 0,
      },
    ]);
  });

  test("every event but progress and requests is a line of JSON that keeps each of its fields", async () => {
    const lines = parse(await logged(allSamples));
    const expected = allSamples.filter((event) => event.name !== "backup.progress" && event.name !== "store.requested");
    expect(lines.map((line) => line["event"])).toEqual(expected.map((event) => event.name));
    for (const [index, event] of expected.entries()) {
      const told = Object.keys(lines[index] ?? {});
      expect(told.sort()).toEqual(
        ["time", "level", "event", ...Object.keys(event)].filter((key) => key !== "name").sort(),
      );
    }
  });

  test("control characters never reach the line as they are, and the text survives", async () => {
    const message = "evil\u001b[2J\nsecond\u009bline\u202e\u007f";
    const text = await logged([{ name: "warning", about: "member", message }]);
    expect(text.trimEnd()).not.toMatch(/[\p{Cc}\u202e]/u);
    expect(parse(text)[0]?.["message"]).toBe(message);
  });
});

test("each event's level is as the golden says", async () => {
  const levels = parse(await logged(allSamples)).map(
    (line) => `${String(line["level"]).padEnd(5)} ${String(line["event"])}`,
  );
  await expect(`${levels.join("\n")}\n`).toMatchFileSnapshot("golden/levels.txt");
});

test("text is one readable line with units", async () => {
  await expect(await logged(allSamples, { format: "text" })).toMatchFileSnapshot("golden/log.txt");
});

test("under journald text has a priority and no time, and a hostile message stays in its line", async () => {
  const text = await logged(
    [
      samples["backup.failed"],
      { name: "warning", about: "x", message: '<0>fake\n<0>line "quoted"' },
      samples["daemon.ready"],
    ],
    { format: "text", journal: true },
  );
  expect(text).toBe(
    [
      '<3>backup.failed run=01RUN trigger=schedule schedule=hourly slot=2026-03-01T06:00:00Z phase=upload code=store-unreachable message="no connection to s3.example.org" hint="look at the store\'s address" retryable=true duration=31s',
      '<4>warning about=x message="<0>fake\\n<0>line \\"quoted\\""',
      "<6>daemon.ready listen=http://127.0.0.1:9979",
      "",
    ].join("\n"),
  );
});

test("journald is recognised by device and inode, so that a redirected standard error is none", () => {
  expect(standardErrorIsJournal({})).toBe(false);
  expect(standardErrorIsJournal({ JOURNAL_STREAM: "1:1" })).toBe(false);
  const file = openSync(fileURLToPath(import.meta.url), "r");
  const { dev, ino } = fstatSync(file);
  expect(standardErrorIsJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, file)).toBe(true);
  expect(standardErrorIsJournal({ JOURNAL_STREAM: `${dev}:${ino + 1}` }, file)).toBe(false);
  closeSync(file);
  expect(standardErrorIsJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, file)).toBe(false);
});

describe("levels", () => {
  test("lines below the level are not written", async () => {
    const names = parse(await logged(allSamples, { level: "warn" })).map((line) => line["level"]);
    expect(new Set(names)).toEqual(new Set(["warn", "error"]));
  });

  test("progress is never a line", async () => {
    const many = phases.map((phase) => ({ ...samples["backup.progress"], phase }));
    expect(await logged(many)).toBe("");
  });

  test("an observation is told when it changes and once an hour, else only to who debugs", async () => {
    const well = { name: "cluster.observed", members: [upMember], quorum: true } as const;
    const grown = { ...well, members: [{ ...upMember, revision: 10n, dbBytes: 7 }] };
    const lost = { name: "cluster.unobserved", code: "etcd-unreachable", message: "nobody" } as const;
    const lines = parse(
      await logged([well, grown, lost, lost, lost, well], {
        times: [0, 10_000, 20_000, 30_000, 20_000 + 3_600_000, 20_000 + 3_610_000],
      }),
    );
    expect(lines.map((line) => line["level"])).toEqual(["info", "debug", "warn", "debug", "warn", "info"]);
  });

  test("a backup without quorum or without its extras is a warning", async () => {
    const lines = parse(
      await logged([
        { ...samples["backup.committed"], quorum: false },
        { ...samples["backup.committed"], extrasMissing: 2 },
      ]),
    );
    expect(lines.map((line) => line["level"])).toEqual(["warn", "warn"]);
  });
});

describe("a destination that fails", () => {
  test("loses lines, counts them, and neither throws nor ends the process", async () => {
    let writes = 0;
    const destination = new Writable({
      write(_chunk, _encoding, done) {
        writes += 1;
        done(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
      },
    });
    await using log = openLog({ level: "info", format: "json", destination });
    for (let count = 0; count < 100; count += 1) log.listen(samples.warning);
    await log.flush();
    expect(writes).toBeGreaterThan(0); // the fault fired
    expect(log.lostLines()).toBe(100);
  });

  test("says how many lines are missing when it works again", async () => {
    let full = true;
    const written: string[] = [];
    const destination = new Writable({
      autoDestroy: false,
      write(chunk: Buffer, _encoding, done) {
        if (!full) written.push(chunk.toString());
        done(full ? Object.assign(new Error("write ENOSPC"), { code: "ENOSPC" }) : undefined);
      },
    });
    // What process.stderr is: a stream that a failed write does not end.
    const enduring = Object.assign(new Writable(), {
      write: (chunk: string, done: (error?: Error | null) => void) => {
        destination._write(Buffer.from(chunk), "utf8", done);
        return true;
      },
    });
    await using log = openLog({ level: "info", format: "json", destination: enduring });
    log.listen(samples.warning);
    log.listen(samples.warning);
    await log.flush();
    expect(log.lostLines()).toBe(2);
    full = false;
    log.listen(samples.warning); // whether it works is known after this one
    await log.flush();
    log.listen(samples.warning);
    await log.flush();
    expect(written.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
      "warning",
      "log.lost",
      "warning",
    ]);
    expect(JSON.parse(written[1] ?? "")).toMatchObject({ level: "warn", lines: 2 });
  });

  test("that never drains costs bounded memory and no waiting", async () => {
    let stalled = 0;
    const destination = new Writable({
      write() {
        stalled += 1; // and never calls back
      },
    });
    const log = openLog({ level: "info", format: "json", destination });
    const event = { ...samples.warning, message: "x".repeat(1000) };
    for (let count = 0; count < 5000; count += 1) {
      log.listen(event);
      if (count % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(stalled).toBe(1); // the fault fired
    expect(destination.writableLength).toBeLessThan(2 * 2 ** 20);
    expect(log.lostLines()).toBeGreaterThan(3000);
    await log.flush(); // ends, although nothing was written
  });

  // A pipe whose reader is gone is what a dead journald leaves; /dev/full is a disk without room.
  test.each(["> >(exec true)", "> /dev/full"])(
    "as standard error itself (2%s) does not end the process",
    (redirection) => {
      const source = `
      import { openLog } from ${JSON.stringify(fileURLToPath(new URL("../../src/telemetry/log.ts", import.meta.url)))};
      const log = openLog({ level: "info", format: "json" });
      for (let i = 0; i < 50; i++) log.listen({ name: "warning", about: "x", message: "y" });
      await log.flush();
      await new Promise((resolve) => setTimeout(resolve, 50));
      process.stdout.write(String(log.lostLines()));
    `;
      // The reader is gone before the first line is written.
      const shell = `exec 2${redirection}; wait $!; exec "$0" --input-type=module -e "$1"`;
      const done = spawnSync("bash", ["-c", shell, process.execPath, source], { encoding: "utf8", timeout: 50_000 });
      expect(done.status).toBe(0);
      expect(Number(done.stdout)).toBe(50); // the fault fired
    },
  );
});
