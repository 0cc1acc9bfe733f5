import { Fault, isFault } from "../faults.ts";
import { within } from "./journal-follower.ts";
import { endsOperation, isOperation, parseLines } from "./journal-lines.ts";
import type { FoundJournal, FoundJournals, JournalMirror, SilentCopy } from "./journal.ts";

/** What the copies of journals add up to: of each operation the longest that is believed, of which every other one is a beginning. */

/** For everything that one place is asked. */
const askMs = 20_000;
/** Of so many operations, the newest, copies are looked at. */
const mostOperations = 200;

export interface Copy {
  /** Name of the mirror, or the path of a file of this machine. */
  readonly place: string;
  readonly here: boolean;
  readonly lines: readonly string[];
}

/**
 * Asks every mirror at once. `wanted`: the id of one operation; else all that some copy does not say to have ended. `own` are the journals of this machine, by id;
 * `executing` says who executes one here.
 */
export async function gatherCopies(
  mirrors: readonly JournalMirror[],
  wanted: string | undefined,
  own: ReadonlyMap<string, Copy>,
  executing: (id: string) => Promise<string | undefined>,
  signal: AbortSignal,
): Promise<FoundJournals> {
  const silent = new Map<string, SilentCopy>();
  const ask = async <T>(mirror: JournalMirror, act: (stop: AbortSignal) => Promise<T>): Promise<T | undefined> => {
    if (silent.has(mirror.name)) return undefined;
    try {
      return await within(askMs, act, signal);
    } catch (error) {
      if (signal.aborted || !isFault(error)) throw error;
      silent.set(mirror.name, { mirror: mirror.name, message: error.message });
      return undefined;
    }
  };
  const open = new Set(wanted === undefined ? [] : [wanted]);
  const known = new Set(own.keys());
  const heard = new Map<string, string>();
  if (wanted === undefined) {
    for (const [id, { lines }] of own) if (!endsOperation(lines.at(-1) ?? "")) open.add(id);
    const listed = await Promise.all(
      mirrors.map(async (mirror) => await ask(mirror, async (stop) => await mirror.list(stop))),
    );
    for (const [index, mirror] of mirrors.entries()) {
      const entries = (listed[index] ?? []).filter(({ id }) => isOperation(id));
      if (mirror.believed) for (const { id } of entries) known.add(id);
      for (const { id } of entries.filter(({ last }) => !endsOperation(last)).slice(-mostOperations)) {
        if (mirror.believed) open.add(id);
        else heard.set(id, mirror.name);
      }
    }
  }
  const found: FoundJournal[] = [];
  const refused: { id: string; fault: Fault }[] = [];
  for (const id of [...open].sort()) {
    const copies = await Promise.all(
      mirrors
        .filter(({ believed }) => believed)
        .map(async (mirror): Promise<Copy> => ({
          place: mirror.name,
          here: false,
          lines: (await ask(mirror, async (stop) => await mirror.read(id, stop))) ?? [],
        })),
    );
    const mine = own.get(id);
    const there = [...(mine === undefined ? [] : [mine]), ...copies].filter(({ lines }) => lines.length > 0);
    if (there.length === 0) continue;
    try {
      found.push(await joined(id, there, executing));
    } catch (error) {
      if (!isFault(error, "journal-invalid", "journal-disagrees")) throw error;
      refused.push({ id, fault: error });
    }
  }
  if (wanted !== undefined && found.length === 0) {
    for (const mirror of mirrors.filter(({ believed }) => !believed)) {
      const lines = await ask(mirror, async (stop) => await mirror.read(wanted, stop));
      if (lines !== undefined && lines.length > 0) heard.set(wanted, mirror.name);
    }
  }
  const hearsay = [...heard].filter(([id]) => !known.has(id)).map(([id, mirror]) => ({ id, mirror }));
  return { found, refused, silent: [...silent.values()], hearsay };
}

async function joined(
  id: string,
  copies: readonly Copy[],
  executing: (id: string) => Promise<string | undefined>,
): Promise<FoundJournal> {
  const { longest, places } = longestOf(id, copies);
  const place = longest.here ? longest.place : `a copy on ${places.join(", ")}`;
  return {
    record: { ...parseLines(place, id, longest.lines), executing: await executing(id), place },
    lines: longest.lines,
    elsewhere: !longest.here,
  };
}

/** The longest copy, this machine's where it is as long as any, and where else that is; `journal-disagrees` where another one is no beginning of it. */
function longestOf(
  id: string,
  copies: readonly Copy[],
): { readonly longest: Copy; readonly places: readonly string[] } {
  const byLength = copies.toSorted((a, b) => b.lines.length - a.lines.length || Number(b.here) - Number(a.here));
  const [longest] = byLength;
  if (longest === undefined) throw new Error(`there is no copy of ${id}`);
  for (const { place, lines } of byLength) {
    const number = lines.findIndex((line, index) => line !== longest.lines[index]);
    if (number === -1) continue;
    throw new Fault(
      "journal-disagrees",
      `the journal of operation ${id} says one thing in its copy on ${longest.place} (${longest.lines.length} lines), and from line ${number + 1} on another in that on ${place} (${lines.length} lines)`,
      {
        hint: `two machines went on with it: find out which of them did what is true on the hosts, and move the other copy out of the way`,
      },
    );
  }
  const places = byLength.filter(({ lines }) => lines.length === longest.lines.length).map(({ place }) => place);
  return { longest, places };
}
