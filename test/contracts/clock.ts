import { expect, test } from "vitest";
import type { Clock } from "../../src/clock.ts";
import { Fault } from "../../src/faults.ts";

/** What every clock keeps. `pass` lets at least so many milliseconds go by. */
export function clockContract(
  open: () => { readonly clock: Clock; readonly pass: (ms: number) => Promise<void> },
): void {
  test("time goes on by at least what was slept", async () => {
    const { clock, pass } = open();
    const [now, elapsed] = [clock.now(), clock.elapsed()];
    const sleeping = clock.sleep(30, new AbortController().signal);
    await pass(40);
    await sleeping;
    expect(clock.elapsed() - elapsed).toBeGreaterThanOrEqual(29);
    expect(clock.now() - now).toBeGreaterThanOrEqual(28);
  });

  test("sleepers wake in the order of their ends", async () => {
    const { clock, pass } = open();
    const woken: number[] = [];
    const signal = new AbortController().signal;
    const all = Promise.all([50, 1, 20].map(async (ms) => clock.sleep(ms, signal).then(() => woken.push(ms))));
    await pass(60);
    await all;
    expect(woken).toEqual([1, 20, 50]);
  });

  test("an aborted sleep rejects at once with the signal's fault", async () => {
    const { clock } = open();
    const controller = new AbortController();
    const sleeping = clock.sleep(3_600_000, controller.signal);
    const fault = new Fault("interrupted", "enough");
    controller.abort(fault);
    await expect(sleeping).rejects.toBe(fault);
    await expect(clock.sleep(1, controller.signal)).rejects.toBe(fault);
  });

  test("a sleep of nothing, or of less, ends", async () => {
    const { clock, pass } = open();
    const signal = new AbortController().signal;
    const both = Promise.all([clock.sleep(0, signal), clock.sleep(-5, signal)]);
    await pass(2);
    await both;
  });
}
