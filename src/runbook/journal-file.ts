import { constants } from "node:fs";
import { mkdir, open, readdir, readFile, type FileHandle } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";
import { Fault } from "../faults.ts";
import type { Journal, JournalEntry, JournalMirror, JournalRecord, Journals } from "./journal.ts";
import { planSchema, type RunbookPlan } from "./runbook.ts";
import { isUnfinished } from "./standing.ts";

export interface JournalFilesOptions {
  /** Made when it is first needed, for its owner alone. */
  readonly directory: string;
  readonly mirrors: readonly JournalMirror[];
  /** The process, for people: user, host, pid. */
  readonly by: string;
  readonly clock: Pick<Clock, "now">;
  readonly emit: Emit;
}

/** An operation's file has the plan as its first line and an entry in each further one. */
const filePattern = /^([0-7][0-9A-HJKMNP-TV-Z]{25})\.jsonl$/;
const entryKinds = new Set([
  "opened",
  "start",
  "note",
  "done",
  "failed",
  "left",
  "undo-start",
  "undone",
  "undo-failed",
  "ended",
]);
/** A mirror that takes longer for one line is behind. */
const mirrorMs = 10_000;

/** The journals in a directory of this machine, one file each, every line durable before what it speaks of is done. */
export function openJournalFiles(options: JournalFilesOptions): Journals {
  const { directory } = options;
  const pathOf = (id: string): string => {
    if (!filePattern.test(`${id}.jsonl`))
      throw new Fault("usage", `"${id}" is no id of an operation`, { hint: "run: etcd-lifeboat restore status" });
    return join(directory, `${id}.jsonl`);
  };
  const read = async (id: string): Promise<JournalRecord> => {
    const path = pathOf(id);
    const { plan, entries } = parseJournal(path, await readText(path, id));
    return { plan, entries, executing: await whoExecutes(id), place: path };
  };
  const list = async (): Promise<readonly JournalRecord[]> => {
    const names = await translated(directory, async () => await readdir(directory)).catch((error: unknown) => {
      if (error instanceof Fault && (error.cause as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    });
    const ids = names.flatMap((name) => filePattern.exec(name)?.[1] ?? []).toSorted();
    return await Promise.all(ids.map(read));
  };
  return {
    read,
    list,
    async create(plan) {
      for (const other of await list()) {
        // One machine may know several clusters.
        if (other.plan.cluster !== plan.cluster) continue;
        if (other.executing !== undefined) throw locked(other.plan.id, other.executing);
        if (isUnfinished(other)) throw unfinished(other);
      }
      const path = pathOf(plan.id);
      const lock = await takeUp(plan.id, options.by);
      try {
        await translated(directory, async () => await mkdir(directory, { recursive: true, mode: 0o700 }));
        const flags =
          constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND | constants.O_NOFOLLOW;
        const handle = await translated(path, async () => await open(path, flags, 0o600));
        const journal = new FileJournal(path, plan, [], handle, lock, options);
        await journal.begin(directory);
        return journal;
      } catch (error) {
        await release(lock);
        throw error;
      }
    },
    async open(id) {
      const path = pathOf(id);
      await readText(path, id); // not-found before anything is taken up
      const lock = await takeUp(id, options.by);
      try {
        const text = await readText(path, id);
        const { plan, entries, wholeBytes } = parseJournal(path, text);
        const handle = await translated(
          path,
          async () => await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW),
        );
        // The line that a dying process had begun speaks of nothing that was done.
        if (wholeBytes < Buffer.byteLength(text)) await translated(path, async () => await handle.truncate(wholeBytes));
        return new FileJournal(path, plan, entries, handle, lock, options);
      } catch (error) {
        await release(lock);
        throw error;
      }
    },
  };
}

class FileJournal implements Journal {
  readonly plan: RunbookPlan;
  readonly entries: JournalEntry[];
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #lock: Server;
  readonly #mirrors: readonly MirrorQueue[];
  #last: Promise<void> = Promise.resolve();
  #broken: Fault | undefined;

  constructor(
    path: string,
    plan: RunbookPlan,
    entries: readonly JournalEntry[],
    handle: FileHandle,
    lock: Server,
    options: JournalFilesOptions,
  ) {
    this.#path = path;
    this.plan = plan;
    this.entries = [...entries];
    this.#handle = handle;
    this.#lock = lock;
    this.#mirrors = options.mirrors.map((mirror) => new MirrorQueue(mirror, plan.id, options.emit));
    // What was written before goes there again: the process that wrote it may have died before it was mirrored.
    [JSON.stringify(plan), ...entries.map((entry) => JSON.stringify(entry))].forEach((line, number) =>
      this.#mirror(number, line),
    );
  }

  /** Makes the first line and the file's name durable. */
  async begin(directory: string): Promise<void> {
    await this.#write(JSON.stringify(this.plan));
    await translated(directory, async () => {
      const at = await open(directory, constants.O_RDONLY);
      try {
        await at.sync();
      } finally {
        await at.close();
      }
    });
  }

  append(entry: JournalEntry): Promise<void> {
    const line = JSON.stringify(entry);
    const written = this.#last.then(async () => {
      // After a failed write nobody knows what the file holds: what follows could be read as done when it was not.
      if (this.#broken !== undefined) throw this.#broken;
      try {
        await this.#write(line);
      } catch (error) {
        this.#broken = error as Fault;
        throw error;
      }
      this.entries.push(entry);
      this.#mirror(this.entries.length, line);
    });
    this.#last = written.catch(() => undefined);
    return written;
  }

  async #write(line: string): Promise<void> {
    await translated(this.#path, async () => {
      const bytes = Buffer.from(`${line}\n`);
      for (let done = 0; done < bytes.length;) done += (await this.#handle.write(bytes, done)).bytesWritten;
      await this.#handle.datasync();
    });
  }

  #mirror(number: number, line: string): void {
    for (const queue of this.#mirrors) queue.add(number, line);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#handle.close();
    await Promise.all(this.#mirrors.map(async (queue) => await queue.drained()));
    await release(this.#lock);
  }
}

/** Lines on their way to one mirror, in order. What does not get there is told once, and holds up nothing. */
class MirrorQueue {
  readonly #mirror: JournalMirror;
  readonly #id: string;
  readonly #emit: Emit;
  #last: Promise<void> = Promise.resolve();
  #behind = false;

  constructor(mirror: JournalMirror, id: string, emit: Emit) {
    this.#mirror = mirror;
    this.#id = id;
    this.#emit = emit;
  }

  add(number: number, line: string): void {
    this.#last = this.#last.then(async () => {
      // In order or not at all: a copy with a gap would tell another story.
      if (this.#behind) return;
      try {
        await this.#mirror.append(this.#id, number, line, AbortSignal.timeout(mirrorMs));
      } catch (error) {
        this.#behind = true;
        const why = error instanceof Error ? error.message : String(error);
        this.#emit({
          name: "warning",
          about: "journal",
          message: `the copy of the journal on ${this.#mirror.name} is behind: ${why}`,
        });
      }
    });
  }

  drained(): Promise<void> {
    return this.#last;
  }
}

/** The journal in a file's text; the last line counts only when it is whole. */
function parseJournal(
  path: string,
  text: string,
): { readonly plan: RunbookPlan; readonly entries: readonly JournalEntry[]; readonly wholeBytes: number } {
  const end = text.lastIndexOf("\n") + 1;
  const [first, ...lines] = text.slice(0, end).split("\n").slice(0, -1);
  if (first === undefined) throw invalid(path, "it ends before its plan does");
  const plan = parseLine(path, 1, first) as RunbookPlan;
  const schema: string = plan.schema;
  if (schema !== planSchema) throw invalid(path, `its plan is ${schema}, and this version knows ${planSchema} alone`);
  const entries = lines.map((line, index) => {
    const entry = parseLine(path, index + 2, line) as JournalEntry;
    if (!entryKinds.has(entry.kind) || typeof entry.timeMs !== "number")
      throw invalid(path, `line ${index + 2} is no entry that this version knows`);
    return entry;
  });
  return { plan, entries, wholeBytes: Buffer.byteLength(text.slice(0, end)) };
}

function parseLine(path: string, number: number, line: string): object {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === "object" && value !== null) return value;
  } catch (error) {
    throw invalid(path, `line ${number} is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  throw invalid(path, `line ${number} is no object`);
}

function invalid(path: string, why: string): Fault {
  return new Fault("journal-invalid", `${path} cannot be used: ${why}`, {
    hint: "use the version of etcd-lifeboat that wrote it",
  });
}

async function readText(path: string, id: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      return await translated(path, () => Promise.reject(error as Error));
    throw new Fault("not-found", `there is no operation ${id} here`, {
      hint: "run: etcd-lifeboat restore status",
      cause: error,
    });
  }
}

async function translated<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    const hint =
      code === "EACCES" || code === "EPERM"
        ? "run it as the user who owns operations.directory, root as a rule"
        : code === "ENOSPC"
          ? "make room there; nothing is done that is not written down first"
          : undefined;
    throw new Fault("journal-failed", `${path}: ${code}`, { hint, cause: error });
  }
}

function locked(id: string, by: string): Fault {
  return new Fault("journal-locked", `operation ${id} is executed by ${by}`, {
    hint: "wait for it, or look: etcd-lifeboat restore status",
  });
}

function unfinished({ plan: { id, operation } }: JournalRecord): Fault {
  const again = `etcd-lifeboat ${operation}`;
  return new Fault("journal-unfinished", `the ${operation} ${id} was begun and not finished`, {
    hint: `go on: ${again} --resume ${id}; or go back: ${again} --rollback ${id}`,
  });
}

/** An abstract socket: the kernel gives it to one process, and takes it away when that dies, whatever it dies of. */
function socketOf(id: string): string {
  return `\0etcd-lifeboat/operation/${id}`;
}

async function takeUp(id: string, by: string): Promise<Server> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.end(by);
  });
  return await new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") {
        reject(
          new Fault("journal-failed", `operation ${id} cannot be taken up: ${error.code ?? error.message}`, {
            cause: error,
          }),
        );
        return;
      }
      void whoExecutes(id).then((other) => reject(locked(id, other ?? "another process")), reject);
    });
    server.listen(socketOf(id), () => {
      // It must not keep a process alive that has nothing else to do.
      server.unref();
      resolve(server);
    });
  });
}

function release(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
  });
}

/** Asks the process that holds an operation who it is; undefined when none does. */
function whoExecutes(id: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let said = "";
    const socket = connect(socketOf(id));
    socket.setTimeout(2000, () => socket.destroy());
    socket.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(0, 500);
    });
    let connected = false;
    socket.once("connect", () => (connected = true));
    socket.on("error", () => socket.destroy());
    socket.once("close", () => resolve(connected ? said || "a process that does not say who it is" : undefined));
  });
}
