import { z } from "zod";
import { Fault } from "../faults.ts";
import type { JournalEntry } from "./journal.ts";
import { planSchema, type RunbookPlan } from "./runbook.ts";

/** A journal as text: the plan is the first line, and an entry each further one. It may come from a host or a store, so nothing in it is believed unread. */

/** No operation fills as much; more is no journal. */
export const maximumJournalBytes = 8 * 1024 * 1024;

/** Objects in objects. */
const deepest = 32;

/** A ULID. */
const operationPattern = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

const name = z.string().min(1).max(300);
const text = z.string().max(100_000);
const stepId = z.string().regex(/^[A-Za-z0-9._:-]{1,400}$/);
const object = z.record(z.string().max(1000), z.json());
const milliseconds = z.number();

const planShape = z.object({
  schema: z.literal(planSchema),
  operation: z.string().regex(/^[a-z][a-z-]{0,39}$/),
  id: z.string().regex(operationPattern),
  cluster: name,
  createdAt: z.iso.datetime(),
  facts: object,
  warnings: z.array(text).max(10_000),
  steps: z
    .array(
      z.object({
        id: stepId,
        kind: z.string().regex(/^[a-z][a-z-]{0,39}$/),
        title: text,
        host: name.optional(),
        phase: name,
        args: object,
        group: name.optional(),
        holdsUntil: stepId.optional(),
        harmless: z.boolean().optional(),
        expectedMs: milliseconds.optional(),
      }),
    )
    .max(10_000),
});

const timeMs = milliseconds;
const step = stepId;
const bootId = z.string().max(300).optional();
const failure = { timeMs, step, code: z.string().max(100), message: text };
const entryShape = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("opened"), timeMs, mode: z.enum(["run", "resume", "rollback"]) }),
  z.object({ kind: z.literal("start"), timeMs, step, bootId }),
  z.object({ kind: z.literal("note"), timeMs, step, facts: object }),
  z.object({ kind: z.literal("done"), timeMs, step, performed: z.boolean(), result: object.optional() }),
  z.object({ kind: z.literal("failed"), ...failure }),
  z.object({ kind: z.literal("left"), timeMs, host: name, step, message: text }),
  z.object({ kind: z.literal("undo-start"), timeMs, step, bootId }),
  z.object({ kind: z.literal("undone"), timeMs, step }),
  z.object({ kind: z.literal("undo-failed"), ...failure }),
  z.object({ kind: z.literal("ended"), timeMs, outcome: z.enum(["done", "rolled-back", "refused"]) }),
]);

export function isOperation(id: string): boolean {
  return operationPattern.test(id);
}

/** The whole lines of a text, without their ends. What a dying process had begun to write is none. */
export function wholeLines(text: string): readonly string[] {
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .slice(0, -1);
}

/** What the lines of an operation's journal say; `journal-invalid` names the place and the line that makes no sense. */
export function parseLines(
  place: string,
  id: string,
  [first, ...lines]: readonly string[],
): { readonly plan: RunbookPlan; readonly entries: readonly JournalEntry[] } {
  if (first === undefined) throw invalid(place, "it ends before its plan does");
  const given = parseLine(place, 1, first) as { readonly schema?: unknown };
  if (given.schema !== planSchema)
    throw invalid(
      place,
      `its plan is ${String(given.schema).slice(0, 100)}, and this version knows ${planSchema} alone`,
    );
  const plan = planShape.safeParse(given);
  if (!plan.success) throw invalid(place, `line 1 is no plan that this version knows${sayWhere(plan.error)}`);
  if (plan.data.id !== id) throw invalid(place, `its plan is of operation ${plan.data.id}`);
  refuseTangled(place, plan.data.steps);
  const entries = lines.map((line, index) => {
    const entry = entryShape.safeParse(parseLine(place, index + 2, line));
    if (!entry.success)
      throw invalid(place, `line ${index + 2} is no entry that this version knows${sayWhere(entry.error)}`);
    return entry.data as JournalEntry;
  });
  return { plan: plan.data as RunbookPlan, entries };
}

/** Whether this line is the last word: the operation is done, taken back, or was refused. */
export function endsOperation(line: string): boolean {
  try {
    return entryShape.safeParse(JSON.parse(line)).data?.kind === "ended";
  } catch {
    return false; // whoever reads the journal as a whole says what is wrong with it
  }
}

function refuseTangled(place: string, steps: z.output<typeof planShape>["steps"]): void {
  const ids = new Set(steps.map(({ id }) => id));
  if (ids.size !== steps.length) throw invalid(place, "two steps of its plan have one name");
  const lost = steps.find(({ holdsUntil }) => holdsUntil !== undefined && !ids.has(holdsUntil));
  if (lost !== undefined) throw invalid(place, `${lost.id} of its plan holds until a step that there is not`);
}

function sayWhere({ issues: [issue] }: z.ZodError): string {
  return issue === undefined || issue.path.length === 0 ? "" : `: ${issue.path.map(String).join(".").slice(0, 200)}`;
}

function parseLine(place: string, number: number, line: string): object {
  try {
    const value: unknown = JSON.parse(line);
    if (isDeep(value)) throw invalid(place, `line ${number} is nested deeper than any line of a journal`);
    if (typeof value === "object" && value !== null) return value;
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw invalid(place, `line ${number} is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  throw invalid(place, `line ${number} is no object`);
}

/** Deeper than what this program writes; what walks a value by calling itself would not come back from some. */
function isDeep(value: unknown): boolean {
  let level = [value];
  for (let depth = 0; depth < deepest; depth += 1) {
    level = level.flatMap((one): unknown[] => (typeof one === "object" && one !== null ? Object.values(one) : []));
    if (level.length === 0) return false;
  }
  return true;
}

function invalid(place: string, why: string): Fault {
  return new Fault("journal-invalid", `${place} cannot be used: ${why}`, {
    hint: "use the version of etcd-lifeboat that wrote it",
  });
}
