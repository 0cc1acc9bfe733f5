import { expect, test } from "vitest";

import type { LifeboatEvent } from "../../src/events.ts";
import { openProgress } from "../../src/telemetry/progress.ts";
import type { ProgressOptions } from "../../src/telemetry/progress.ts";
import { samples } from "./samples.ts";

const mib = 2 ** 20;

function open(options: Partial<ProgressOptions> = {}) {
  const writes: string[] = [];
  let nowMs = 0;
  const progress = openProgress({
    stream: { write: (text) => writes.push(text) },
    isTTY: true,
    env: { NO_COLOR: "1" },
    columns: () => 80,
    clock: {
      now: () => nowMs,
      elapsed: () => nowMs,
      sleep: () => Promise.reject(new Error("progress does not sleep")),
    },
    ...options,
  });
  return {
    progress,
    writes,
    tell: (event: LifeboatEvent, waitMs = 0) => {
      nowMs += waitMs;
      progress.listen(event);
    },
  };
}

const drain = (doneMib: number, totalMib?: number): LifeboatEvent => ({
  name: "backup.progress",
  run: "1",
  phase: "drain",
  doneBytes: doneMib * mib,
  totalBytes: totalMib === undefined ? undefined : totalMib * mib,
});

/** What a person sees in the end: the terminal's lines after all the writing over. */
function screen(writes: readonly string[]): string[] {
  return writes
    .join("")
    .split("\n")
    .map((line) => line.split("\r\u001b[2K").at(-1) ?? "");
}

test("a whole backup looks like this", async () => {
  const { tell, writes } = open();
  tell(samples["backup.started"]);
  tell({ name: "backup.phase", run: "1", phase: "choose", durationMs: 12, bytes: undefined });
  for (let second = 0; second <= 3; second += 1) tell(drain(300 * second, 1000), 1000);
  tell({ name: "backup.phase", run: "1", phase: "drain", durationMs: 3400, bytes: 1000 * mib });
  tell({ name: "backup.progress", run: "1", phase: "upload", doneBytes: 5 * mib, totalBytes: undefined });
  tell({ name: "backup.progress", run: "1", phase: "upload", doneBytes: 25 * mib, totalBytes: undefined }, 500);
  tell({ name: "backup.phase", run: "1", phase: "upload", durationMs: 1500, bytes: 400 * mib });
  tell(samples["backup.committed"]);
  await expect(`${JSON.stringify(writes, null, 1)}\n`).toMatchFileSnapshot("golden/progress.txt");
  expect(screen(writes)).toEqual([
    "choose    12 ms",
    "drain     1000 MiB  294 MiB/s  3.4 s",
    "upload    400 MiB  267 MiB/s  1.5 s",
    "",
  ]);
});

test("without a terminal nothing is written", () => {
  const { tell, progress, writes } = open({ isTTY: false });
  tell(drain(1, 10));
  tell(samples["backup.phase"], 1000);
  tell(samples["backup.failed"]);
  progress.clear();
  progress.close();
  expect(writes).toEqual([]);
});

test("the line is drawn at most ten times a second", () => {
  const { tell, writes } = open();
  for (let count = 0; count < 1000; count += 1) tell(drain(count, 1000), 1);
  expect(writes.length).toBeGreaterThan(8);
  expect(writes.length).toBeLessThanOrEqual(10);
});

test("rate and time left are those of the last seconds", () => {
  const { tell, writes } = open();
  tell(drain(0, 2000));
  for (let second = 1; second <= 10; second += 1) tell(drain(second * 100, 2000), 1000);
  for (let second = 1; second <= 10; second += 1) tell(drain(1000 + second * 10, 2000), 1000);
  expect(screen(writes)).toEqual(["drain      55%  1.1 GiB of 2.0 GiB  10.0 MiB/s  1m 30s left"]);
});

test("a stall has no time left, and an estimate that was too small no more than 100 percent", () => {
  const { tell, writes } = open();
  tell(drain(10, 100));
  tell(drain(10, 100), 5000);
  expect(screen(writes)).toEqual(["drain      10%  10.0 MiB of 100 MiB  0 B/s"]);
  tell(drain(99.9, 100), 5000);
  expect(screen(writes)[0]).toContain(" 99%");
  tell(drain(120, 100), 5000);
  expect(screen(writes)[0]).toContain("100%");
});

test("another source starts from nothing, its rate too", () => {
  const { tell, writes } = open();
  tell(drain(0, 100));
  tell(drain(90, 100), 1000);
  tell(drain(1, 100), 1000);
  expect(screen(writes)).toEqual(["drain       1%  1.0 MiB of 100 MiB"]);
});

test("a failure leaves an empty line behind, and so do clear and close", () => {
  for (const end of ["failed", "clear", "close"] as const) {
    const { tell, progress, writes } = open();
    tell(drain(1, 10));
    expect(screen(writes)[0]).not.toBe("");
    if (end === "failed") tell(samples["backup.failed"]);
    else progress[end]();
    expect(screen(writes)).toEqual([""]);
  }
});

test("after close nothing is drawn", () => {
  const { tell, progress, writes } = open();
  progress.close();
  tell(drain(1, 10));
  expect(writes).toEqual([]);
});

test("a line is never wider than the terminal, or clearing it would leave a part", () => {
  const { tell, writes } = open({ columns: () => 30 });
  tell(drain(0, 10_000));
  tell(drain(5000, 10_000), 1000);
  for (const line of screen(writes)) expect(line.length).toBeLessThan(30);
});

test("a dumb terminal gets the finished lines and no escape", () => {
  const { tell, writes } = open({ env: { TERM: "dumb" } });
  tell(drain(1, 10));
  tell(samples["backup.phase"], 1000);
  expect(writes.join("")).toBe("drain     1.0 GiB  396 MiB/s  2.6 s\n");
});

test("colour is only where NO_COLOR is not set", () => {
  const plain = open({ env: { NO_COLOR: "1" } });
  plain.tell(samples["backup.phase"]);
  expect(plain.writes.join("")).not.toContain("\u001b");
  const coloured = open({ env: { NO_COLOR: "" } });
  coloured.tell(samples["backup.phase"]);
  expect(coloured.writes.join("")).toContain("\u001b[36mdrain");
});
