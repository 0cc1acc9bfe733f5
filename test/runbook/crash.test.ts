import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openWorld, type ModelStep } from "./model.ts";

/** A plan with everything that a plan can have. */
const whole: readonly ModelStep[] = [
  { harmless: true },
  { holdsUntil: 9, host: "a", group: "hold", lostAtDeath: true },
  { holdsUntil: 9, host: "b", group: "hold", lostAtDeath: true },
  { already: true, holdsUntil: 8 },
  { harmless: true, holdsUntil: 6 },
  { host: "a", group: "move" },
  { host: "b", group: "move" },
  { already: true },
  { host: "a" },
  { host: "b" },
];

const steps: fc.Arbitrary<readonly ModelStep[]> = fc
  .array(
    fc.record({
      grouped: fc.nat(2),
      host: fc.constantFrom("a", "b", undefined),
      harmless: fc.boolean(),
      holds: fc.nat(5),
      already: fc.integer({ min: 0, max: 3 }),
      lostAtDeath: fc.boolean(),
    }),
    { minLength: 1, maxLength: 7 },
  )
  .map((drawn) =>
    drawn.map(({ grouped, host, harmless, holds, already, lostAtDeath }, index) => {
      const until = Math.min(drawn.length - 1, index + holds);
      // What holds until a step that is done at the same time holds until nothing: no plan has that.
      const third = (at: number): number => Math.floor(at / 3);
      const atOnce = grouped === 0 && drawn[until]?.grouped === 0 && third(until) === third(index);
      return {
        lostAtDeath,
        ...(grouped === 0 ? {} : { group: `g${third(index)}` }),
        ...(host === undefined ? {} : { host }),
        ...(harmless ? { harmless } : {}),
        ...(until > index && !atOnce ? { holdsUntil: until } : {}),
        ...(already === 0 ? { already: true } : {}),
      };
    }),
  );

const so = (given: readonly ModelStep[]): readonly number[] => given.map(() => 2);

/** How many instants a whole run has, at each of which it can die. */
async function instantsOf(given: readonly ModelStep[], mode: "run" | "rollback"): Promise<number> {
  const world = openWorld(given);
  await world.process("run");
  if (mode === "run") return world.instants();
  await world.process("rollback");
  return world.instants();
}

let cases = 0;

/** Dies at an instant, and at another one of whatever comes next; then it ends in peace. */
async function dieTwice(
  given: readonly ModelStep[],
  dieAt: number,
  then: "resume" | "rollback",
  again: number | undefined,
): Promise<void> {
  cases += 1;
  const about = `${JSON.stringify(given)} died at ${dieAt}, ${then}, ${String(again)}`;
  const world = openWorld(given);
  const first = await world.process("run", dieAt);
  expect(first, about).toBe("died");
  if (again !== undefined) await world.process(then, again);
  const outcome = await world.process(then);
  expect(outcome, about).toMatchObject({ kind: then === "resume" ? "done" : "rolled-back" });
  expect(world.world, about).toEqual(then === "resume" ? so(given) : world.original);
  expect(world.violations, about).toEqual([]);
  // Once more changes nothing.
  const repeated = await world.process(then);
  expect(repeated, about).toMatchObject({ performed: 0 });
}

// Less than a second each, but thousands of turns of the event loop: a machine that stands still now and then needs a hundred times as long.
describe("killed before or after every line of the journal, check and movement", { timeout: 300_000 }, () => {
  test("a run that died is finished by resume, and taken back by rollback", async () => {
    const instants = await instantsOf(whole, "run");
    for (let dieAt = 1; dieAt <= instants; dieAt += 1) {
      await dieTwice(whole, dieAt, "resume", undefined);
      await dieTwice(whole, dieAt, "rollback", undefined);
    }
    expect(instants).toBeGreaterThan(80);
    console.log(`${instants} instants of a run of ${whole.length} steps, each resumed and rolled back`);
  });

  test("a resume and a rollback that die as well are finished by the next one", async () => {
    const instants = await instantsOf(whole, "run");
    let pairs = 0;
    for (let dieAt = 1; dieAt <= instants; dieAt += 7) {
      for (let again = 1; again <= instants; again += 11) {
        await dieTwice(whole, dieAt, "resume", again);
        await dieTwice(whole, dieAt, "rollback", again);
        pairs += 2;
      }
    }
    console.log(`${pairs} runs that died twice`);
  });

  test("a rollback of what is done that died is finished by the next one, and forward goes as well", async () => {
    const instants = await instantsOf(whole, "rollback");
    for (let dieAt = 1; dieAt <= instants; dieAt += 1) {
      for (const then of ["rollback", "resume"] as const) {
        const world = openWorld(whole);
        await world.process("run");
        expect(await world.process("rollback", dieAt)).toBe("died");
        // It died when its last line was written: nothing is left to go forward with.
        if (then === "resume" && (await world.ended()) === "rolled-back") continue;
        const outcome = await world.process(then);
        expect(outcome, `${dieAt}`).toMatchObject({ kind: then === "resume" ? "done" : "rolled-back" });
        expect(world.world, `died at ${dieAt}, ${then}`).toEqual(then === "resume" ? so(whole) : world.original);
        expect(world.violations).toEqual([]);
      }
    }
    console.log(`${instants} instants of a rollback`);
  });

  test("so it is with random plans, dying once or twice", async () => {
    cases = 0;
    const seed = Date.now();
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.nat(1000),
        fc.constantFrom("resume" as const, "rollback" as const),
        fc.option(fc.nat(60), { nil: undefined }),
        async (given, at, then, again) => {
          const instants = await instantsOf(given, "run");
          await dieTwice(given, 1 + (at % instants), then, again);
        },
      ),
      { seed, numRuns: 200 },
    );
    console.log(`${cases} random plans, seed ${seed}`);
  });

  test("to and fro: a rollback that died goes forward, and back again", async () => {
    const seed = Date.now();
    await fc.assert(
      fc.asyncProperty(steps, fc.array(fc.nat(80), { minLength: 1, maxLength: 4 }), async (given, deaths) => {
        const world = openWorld(given);
        let rolledBack = false;
        for (const [index, dieAt] of deaths.entries()) {
          const mode = index === 0 ? "run" : index % 2 === 1 ? "rollback" : "resume";
          const outcome = await world.process(mode, 1 + dieAt);
          rolledBack = outcome === "died" ? (await world.ended()) === "rolled-back" : outcome.kind === "rolled-back";
          if (rolledBack) break;
        }
        if (!rolledBack) {
          expect(await world.process("resume")).toMatchObject({ kind: "done" });
          expect(world.world).toEqual(so(given));
        }
        expect(await world.process("rollback")).toMatchObject({ kind: "rolled-back" });
        expect(world.world).toEqual(world.original);
        expect(world.violations).toEqual([]);
      }),
      { seed, numRuns: 100 },
    );
    console.log(`seed ${seed}`);
  });
});
