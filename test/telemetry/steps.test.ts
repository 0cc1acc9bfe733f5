import { expect, test } from "vitest";
import type { LifeboatEvent } from "../../src/events.ts";
import { openStepLines } from "../../src/telemetry/steps.ts";
import { steeredClock } from "../fakes/clock.ts";

const facts = (step: string, host?: string) => ({
  operation: "01M7ZR9D97T7S4FQ5YBB6MR81E",
  step,
  title: `${step} is true`,
  phase: "stop",
  host,
});

function open() {
  const clock = steeredClock(0);
  const lines: string[] = [];
  const steps = openStepLines((line) => lines.push(line), clock);
  const tell = (event: LifeboatEvent): void => steps.listen(event);
  const started = (step: string, expectedMs?: number): void =>
    tell({ name: "step.started", expectedMs, ...facts(step) });
  const done = (step: string, durationMs: number, performed = true): void =>
    tell({ name: "step.done", performed, durationMs, ...facts(step) });
  return { clock, lines, steps, tell, started, done };
}

test("a step is told when it is over, and once before when it lasts", async () => {
  const { clock, lines, started, done } = open();
  started("short");
  started("long", 25_000);
  await clock.advance(1000);
  done("short", 1000);
  await clock.advance(24_000);
  done("long", 25_000);
  done("there", 0, false);
  await clock.advance(60_000);
  expect(lines).toEqual([
    "  [x] short is true (1.0 s)\n",
    "  [>] long is true (about 25 s)\n",
    "  [x] long is true (25 s)\n",
    "  [x] there is true (nothing to do)\n",
  ]);
  expect(clock.sleepers()).toBe(0);
});

test("a failure, a lost host and what is taken back are told, and control characters are not passed on", async () => {
  const { clock, lines, tell, started } = open();
  started("quiet");
  tell({
    name: "step.failed",
    code: "clients-talk",
    message: "somebody\u001b[2J talks",
    hint: undefined,
    durationMs: 5,
    ...facts("quiet"),
  });
  tell({ name: "host.left", message: "no route", ...facts("swap", "cp2") });
  tell({ name: "step.undone", durationMs: 1500, ...facts("stop") });
  await clock.advance(60_000);
  expect(lines).toEqual([
    "  [!] quiet is true: somebody\\u001b[2J talks\n",
    "  [?] cp2 was lost, and it goes on without it: no route\n",
    "  [-] taken back: stop is true (1.5 s)\n",
  ]);
});

test("what is left to look after is told, a line each", () => {
  const { lines, tell } = open();
  const findings = ["leases of 3 nodes are as old as the backup", "keys\u001b[2J"];
  tell({ name: "restore.hygiene", operation: "01M7ZR9D97T7S4FQ5YBB6MR81E", objects: 9, findings });
  expect(lines).toEqual(["look after: leases of 3 nodes are as old as the backup\n", "look after: keys\\u001b[2J\n"]);
});

test("nothing is written of what was under way when the operation ended", async () => {
  const { clock, lines, steps, started } = open();
  started("long");
  steps.close();
  await clock.advance(60_000);
  expect(lines).toEqual([]);
  expect(clock.sleepers()).toBe(0);
});
