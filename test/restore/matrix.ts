import { expect } from "vitest";
import { Fault } from "../../src/faults.ts";
import { openModel, openScratch, type Model, type ModelOptions, type Trouble } from "./model.ts";

/** One way in which a restore is killed, and what is done then. */
export interface Crash {
  /** The instant of the run at which the process dies; undefined: it lives. */
  readonly dieAt?: number | undefined;
  /** What happens to the cluster at the same time, or at an instant of a run that lives. */
  readonly trouble?: Trouble | undefined;
  readonly troubleAt?: number | undefined;
  readonly after: "resume" | "rollback";
  /** The instant of what is done then at which that dies, too. */
  readonly again?: number | undefined;
  /** The machine is lost as well, and the best copy of the journal that another one has lacks so many of its last lines. */
  readonly lacks?: number | undefined;
}

export interface Tally {
  cases: number;
  /** Rollbacks that came too late and were finished by a resume. */
  late: number;
  /** Copies of the journal that were seen to lack what was done, and were refused. */
  behind: number;
  violations: string[];
}

export const troubles: readonly (Trouble | undefined)[] = [
  undefined,
  "reboot all",
  "kill all etcd silently",
  "kill all etcd for a while",
];

/** One in `every` instants at which a process can die, alone and with each trouble; resumed, and rolled back. */
export function* deaths(
  instants: number,
  every: number,
  also: readonly (Trouble | undefined)[],
): Generator<Crash, void, undefined> {
  for (let dieAt = 1; dieAt <= instants; dieAt += every) {
    for (const trouble of also) {
      yield { dieAt, trouble, after: "resume" };
      yield { dieAt, trouble, after: "rollback" };
    }
  }
}

/** As `deaths`, of the machine too: another one has the journal, but for its last lines. */
export function* machineLosses(
  instants: number,
  every: number,
  lacking: readonly number[],
): Generator<Crash, void, undefined> {
  for (const lacks of lacking) for (const crash of deaths(instants, every, [undefined])) yield { ...crash, lacks };
}

export function expectNone(what: string, instants: number, { cases, late, behind, violations }: Tally): void {
  const counted = `${cases} crashes, ${late} rollbacks too late, ${behind} copies refused`;
  console.log(`${what}: ${instants} instants, ${counted}, ${violations.length} violations`);
  expect(violations).toEqual([]);
  // Else nothing came as far as clients.
  expect(late).toBeGreaterThan(0);
}

/** How many instants a whole run has. */
export async function instantsOf(options: ModelOptions): Promise<number> {
  using scratch = openScratch();
  const model = await openModel(options, scratch.directory);
  const outcome = await model.process("run");
  expect(outcome).toMatchObject({ kind: "done" });
  model.mustBe("new", "done");
  expect(model.violations).toEqual([]);
  return model.instants();
}

export async function tally(options: ModelOptions, crashes: Iterable<Crash>): Promise<Tally> {
  using scratch = openScratch();
  const total: Tally = { cases: 0, late: 0, behind: 0, violations: [] };
  for (const crash of crashes) {
    const model = await openModel(options, scratch.directory);
    const { late, behind, about } = await play(model, crash);
    total.cases += 1;
    if (late) total.late += 1;
    if (behind === true) total.behind += 1;
    total.violations.push(...model.violations.map((violation) => `${about}: ${violation}`));
    if (total.violations.length > 30) break;
  }
  return total;
}

/** Kills a restore, lets time pass, and brings it to an end. */
async function play(
  model: Model,
  crash: Crash,
): Promise<{ readonly late: boolean; readonly behind?: boolean; readonly about: string }> {
  const { dieAt, trouble, troubleAt, after, again, lacks } = crash;
  const struck = trouble !== undefined && troubleAt !== undefined ? { at: troubleAt, trouble } : undefined;
  const first = await model.process("run", dieAt, struck);
  const where = model.labels[(dieAt ?? troubleAt ?? 1) - 1] ?? "its end";
  const about = [
    ...(trouble === undefined ? [] : [`${trouble} at instant ${troubleAt ?? dieAt ?? 0}`]),
    ...(dieAt === undefined ? [] : [`died at instant ${dieAt}`]),
    where,
    ...(lacks === undefined ? [] : [`on another machine, whose copy lacks ${lacks} lines`]),
    `then ${after}${again === undefined ? "" : `, which died at ${again}`}`,
  ].join(", ");
  if (first instanceof Fault && first.code === "runbook-refused") {
    model.mustBe("old", "refused");
    return { late: false, about };
  }
  model.pass(struck === undefined ? trouble : undefined);
  if (lacks !== undefined) {
    const refused = await model.loseMachine(lacks);
    if (refused !== undefined) {
      if (refused.code !== "journal-behind")
        model.violations.push(`it was refused with ${refused.code}: ${refused.message}`);
      // What is in every copy before it is acted on, and a line of which nothing followed yet, is enough to go on.
      if (lacks === 0 || (lacks === 1 && where.startsWith("after the line")))
        model.violations.push(`nothing was lacking: ${refused.message}`);
      return { late: false, behind: true, about };
    }
  }
  if (again !== undefined) {
    await model.process(after, again);
    model.pass();
  }
  return { late: await finish(model, after, trouble !== undefined), about };
}

/** `troubled`: what is done may stop once more, until the cluster is itself again. */
async function finish(model: Model, after: "resume" | "rollback", troubled: boolean): Promise<boolean> {
  const attempt = async (mode: typeof after): ReturnType<Model["process"]> => {
    const outcome = await model.process(mode);
    if (!troubled || !(outcome instanceof Fault) || outcome.code !== "runbook-stopped") return outcome;
    model.comeBack();
    return await model.process(mode);
  };
  const first = await attempt(after);
  const late = first instanceof Fault && first.code === "rollback-too-late";
  if (late && !model.clientsSawNew() && !model.proofLost())
    model.violations.push(`it was not too late: ${first.message}`);
  const outcome = late ? await attempt("resume") : first;
  if (outcome === "died") throw new Error("nobody killed it");
  if (outcome instanceof Fault) {
    model.violations.push(`it ended with ${outcome.code}: ${outcome.message}`);
    return late;
  }
  model.pass();
  const done = after === "resume" || late;
  model.mustBe(done ? "new" : "old", done ? "done" : "rolled-back");
  return late;
}
