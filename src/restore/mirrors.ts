import { Fault, isFault } from "../faults.ts";
import type { Host } from "../host/host.ts";
import {
  isUlid,
  operationPieceName,
  operationPrefix,
  operationsPrefix,
  parseOperationPiece,
} from "../repository/names.ts";
import type { JournalMirror } from "../runbook/journal.ts";
import { takenFault } from "../runbook/journal-follower.ts";
import { maximumJournalBytes, wholeLines } from "../runbook/journal-lines.ts";
import type { RunbookPlan } from "../runbook/runbook.ts";
import type { Store } from "../store/store.ts";

/** Where the journals of operations on a cluster are copied to: every host, so that another machine can go on, and the store, so that they can be read there. */

/** Of so many operations, the newest, the last word is read. */
const mostOperations = 200;
/** So many objects of one journal are read, and so many at a time. */
const mostPieces = 20_000;
const piecesAtOnce = 16;

/**
 * Files of a host in our own directory there, `journals/HOST.OPERATION.jsonl`, for their owner alone; each is replaced as a whole, so that none is ever torn. Hosts that
 * are one machine share the directory, and clusters do: the host's name and the operation's id tell them apart.
 */
export function hostMirror(host: Host, stateDirectory: string): JournalMirror {
  const name = `host ${host.name}`;
  const directory = `${stateDirectory}/journals`;
  const before = `${host.name}.`;
  const after = ".jsonl";
  const pathOf = (id: string): string => `${directory}/${before}${id}${after}`;
  const read = async (id: string, signal: AbortSignal): Promise<readonly string[]> => {
    const bytes = await host.readFile(pathOf(id), maximumJournalBytes, signal);
    return bytes === undefined ? [] : linesOf(`${pathOf(id)} of ${host.name}`, bytes);
  };
  return {
    name,
    believed: true,
    accepts: () => true,
    read,
    async list(signal) {
      const ids = ((await host.list(directory, signal)) ?? [])
        .filter((file) => file.startsWith(before) && file.endsWith(after))
        .map((file) => file.slice(before.length, -after.length))
        .filter(isUlid)
        .toSorted()
        .slice(-mostOperations);
      return await Promise.all(ids.map(async (id) => ({ id, last: (await read(id, signal)).at(-1) ?? "" })));
    },
    async append(id, from, lines, signal) {
      const there = await read(id, signal);
      const more = rest(id, name, there, from, lines);
      if (more.length === 0) return;
      if (there.length === 0) await host.makeDirectory(directory, { mode: 0o700 }, signal);
      await host.writeFile(pathOf(id), bytesOf([...there, ...more]), { mode: 0o600 }, signal);
    },
    remove: async (id, signal) => await host.removeFile(pathOf(id), signal),
  };
}

/**
 * Objects in the repository, each of some lines and named by the number of the first: nothing is ever rewritten. Whoever may write backups may write them too, so they are
 * a record for people: nobody goes on by them. A plan that is of another cluster than the store is not told to it.
 */
export function storeMirror(open: () => Promise<Store>): JournalMirror {
  const name = "store";
  const pieces = async (store: Store, id: string, signal: AbortSignal): Promise<readonly number[]> => {
    const found: number[] = [];
    for await (const entry of store.list(operationPrefix(id), signal)) {
      const piece = parseOperationPiece(entry.name);
      if (piece?.operation === id) found.push(piece.line);
      if (found.length > mostPieces) throw tooMuch(`${operationPrefix(id)} in ${store.description}`);
    }
    return found.toSorted((a, b) => a - b);
  };
  const readPiece = async (store: Store, id: string, line: number, signal: AbortSignal): Promise<readonly string[]> => {
    const object = operationPieceName(id, line);
    return linesOf(`${object} in ${store.description}`, await store.read(object, signal));
  };
  const readFrom = async (
    store: Store,
    id: string,
    from: number,
    numbers: readonly number[],
    signal: AbortSignal,
  ): Promise<readonly string[]> => {
    const lines: string[] = [];
    let bytes = 0;
    const later = numbers.filter((one) => one >= from);
    for (let at = 0; at < later.length; at += piecesAtOnce) {
      const some = later.slice(at, at + piecesAtOnce);
      const read = await Promise.all(some.map((number) => readPiece(store, id, number, signal)));
      for (const [index, piece] of read.entries()) {
        const number = some[index] ?? 0;
        // A piece that is missing ends what is known; what lies behind it tells nothing.
        if (number > from + lines.length) return lines;
        if (number < from + lines.length)
          throw new Fault(
            "journal-invalid",
            `${operationPieceName(id, number)} in ${store.description} begins within another piece`,
          );
        bytes += piece.reduce((sum, line) => sum + line.length + 1, 0);
        if (bytes > maximumJournalBytes) throw tooMuch(`${operationPrefix(id)} in ${store.description}`);
        lines.push(...piece);
      }
    }
    return lines;
  };
  return {
    name,
    believed: false,
    accepts: hasRepository,
    async read(id, signal) {
      const store = await open();
      return await readFrom(store, id, 0, await pieces(store, id, signal), signal);
    },
    async list(signal) {
      const store = await open();
      const last = new Map<string, number>();
      for await (const entry of store.list(operationsPrefix, signal)) {
        const piece = parseOperationPiece(entry.name);
        if (piece !== undefined) last.set(piece.operation, Math.max(piece.line, last.get(piece.operation) ?? 0));
      }
      const newest = [...last].toSorted(([a], [b]) => (a < b ? -1 : 1)).slice(-mostOperations);
      return await Promise.all(
        newest.map(async ([id, line]) => ({ id, last: (await readPiece(store, id, line, signal)).at(-1) ?? "" })),
      );
    },
    async append(id, from, lines, signal) {
      const store = await open();
      try {
        await store.create(operationPieceName(id, from), bytesOf(lines), signal);
      } catch (error) {
        if (!isFault(error, "store-exists")) throw error;
        // An earlier try whose answer was lost may have brought a part of it there.
        const there = await readFrom(store, id, from, await pieces(store, id, signal), signal);
        // A name that was used and removed, which some locked buckets never give again, says nothing of others.
        if (there.length === 0) throw error;
        const more = rest(id, name, there, 0, lines);
        if (more.length === 0) return;
        await store.create(operationPieceName(id, from + there.length), bytesOf(more), signal);
      }
    },
    async remove(id, signal) {
      const store = await open();
      for (const line of await pieces(store, id, signal)) await store.remove(operationPieceName(id, line), signal);
    },
  };
}

/** Nothing is written where the backups of another cluster are. */
function hasRepository({ facts }: RunbookPlan): boolean {
  return typeof facts["repository"] === "string";
}

/** What is missing of the lines that follow the first `from`. */
function rest(
  id: string,
  mirror: string,
  there: readonly string[],
  from: number,
  lines: readonly string[],
): readonly string[] {
  if (there.length < from)
    throw new Fault("journal-failed", `the copy on ${mirror} has lost lines: ${there.length} of ${from} are there`);
  const has = there.slice(from);
  if (has.some((line, index) => line !== lines[index])) throw takenFault(id, mirror, "says otherwise");
  return lines.slice(has.length);
}

function linesOf(place: string, bytes: Uint8Array): readonly string[] {
  try {
    return wholeLines(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Fault("journal-invalid", `${place} is no text`, { cause: error });
  }
}

function bytesOf(lines: readonly string[]): Uint8Array {
  return new TextEncoder().encode(lines.map((line) => `${line}\n`).join(""));
}

function tooMuch(place: string): Fault {
  return new Fault("journal-invalid", `${place} holds more than any journal does`);
}
