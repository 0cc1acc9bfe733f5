import { constants } from "node:fs";
import { mkdir, open, readdir, readFile, type FileHandle } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import type { Emit } from "../events.ts";
import { Fault } from "../faults.ts";
import { gatherCopies, type Copy } from "./journal-copies.ts";
import { JournalFollower, within } from "./journal-follower.ts";
import { isOperation, parseLines, wholeLines } from "./journal-lines.ts";
import type { Journal, JournalEntry, JournalMirror, JournalRecord, MirroredJournals, SilentCopy } from "./journal.ts";
import type { RunbookPlan } from "./runbook.ts";
import { isUnfinished } from "./standing.ts";

export interface JournalFilesOptions {
  /** Made when it is first needed, for its owner alone. */
  readonly directory: string;
  readonly mirrors: readonly JournalMirror[];
  /** The process, for people: user, host, pid. */
  readonly by: string;
  readonly emit: Emit;
}

/** An operation's file has the plan as its first line and an entry in each further one. */
const suffix = ".jsonl";

/** The journals in a directory of this machine, one file each, every line durable before what it speaks of is done. */
export function openJournalFiles(options: JournalFilesOptions): MirroredJournals {
  const { directory } = options;
  const pathOf = (id: string): string => {
    if (!isOperation(id))
      throw new Fault("usage", `"${id}" is no id of an operation`, { hint: "run: etcd-lifeboat restore status" });
    return join(directory, `${id}${suffix}`);
  };
  const read = async (id: string): Promise<JournalRecord> => {
    const path = pathOf(id);
    const { plan, entries } = parseLines(path, id, wholeLines(await readText(path, id)));
    return { plan, entries, executing: await whoExecutes(id), place: path };
  };
  const ids = async (): Promise<readonly string[]> => {
    const names = await translated(directory, async () => await readdir(directory)).catch((error: unknown) => {
      if (error instanceof Fault && (error.cause as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    });
    return names
      .filter((name) => name.endsWith(suffix))
      .map((name) => name.slice(0, -suffix.length))
      .filter(isOperation)
      .toSorted();
  };
  const list = async (): Promise<readonly JournalRecord[]> => await Promise.all((await ids()).map(read));
  const begin = async (path: string, lines: readonly string[]): Promise<FileHandle> => {
    await translated(directory, async () => await mkdir(directory, { recursive: true, mode: 0o700 }));
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND | constants.O_NOFOLLOW;
    const handle = await translated(path, async () => await open(path, flags, 0o600));
    await writeLines(path, handle, lines);
    await syncDirectory(directory);
    return handle;
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
        const first = JSON.stringify(plan);
        const journal = new FileJournal(path, plan, [], [first], await begin(path, [first]), lock, options);
        await journal.mirrored();
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
        const lines = wholeLines(text);
        const { plan, entries } = parseLines(path, id, lines);
        const wholeBytes = Buffer.byteLength(text.slice(0, text.lastIndexOf("\n") + 1));
        const handle = await translated(
          path,
          async () => await open(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW),
        );
        // The line that a dying process had begun speaks of nothing that was done.
        if (wholeBytes < Buffer.byteLength(text)) await translated(path, async () => await handle.truncate(wholeBytes));
        const journal = new FileJournal(path, plan, entries, lines, handle, lock, options);
        try {
          // Also what was written before: the process that wrote it may have died before it was anywhere else.
          await journal.mirrored();
        } catch (error) {
          await handle.close();
          throw error;
        }
        return journal;
      } catch (error) {
        await release(lock);
        throw error;
      }
    },
    async find(wanted, signal) {
      const known = await ids();
      const own = new Map<string, Copy>();
      for (const id of wanted === undefined ? known : known.filter((one) => one === wanted)) {
        const place = pathOf(id);
        own.set(id, { place, here: true, lines: wholeLines(await readText(place, id)) });
      }
      if (wanted !== undefined) pathOf(wanted);
      return await gatherCopies(options.mirrors, wanted, own, whoExecutes, signal);
    },
    async adopt({ record: { plan }, lines }) {
      const path = pathOf(plan.id);
      const lock = await takeUp(plan.id, options.by);
      try {
        const there = await readText(path, plan.id).catch((error: unknown) => {
          if (error instanceof Fault && error.code === "not-found") return undefined;
          throw error;
        });
        if (there === undefined) {
          await (await begin(path, lines)).close();
          return;
        }
        const whole = wholeLines(there);
        if (whole.some((line, index) => line !== lines[index]))
          throw new Fault("journal-taken", `${path} says otherwise than the copies of it`, {
            hint: "look again: etcd-lifeboat restore status",
          });
        const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW;
        const handle = await translated(path, async () => await open(path, flags));
        try {
          const bytes = Buffer.byteLength(whole.map((line) => `${line}\n`).join(""));
          await translated(path, async () => await handle.truncate(bytes));
          await writeLines(path, handle, lines.slice(whole.length));
        } finally {
          await handle.close();
        }
      } finally {
        await release(lock);
      }
    },
    async removeCopies(removed, signal) {
      const silent: SilentCopy[] = [];
      for (const mirror of options.mirrors) {
        try {
          for (const id of removed) await within(removeMs, async (stop) => await mirror.remove(id, stop), signal);
        } catch (error) {
          if (signal.aborted || !(error instanceof Fault)) throw error;
          silent.push({ mirror: mirror.name, message: error.message });
        }
      }
      return silent;
    },
  };
}

/** For the copy of one operation, which in a store is an object for each line. */
const removeMs = 60_000;

class FileJournal implements Journal {
  readonly plan: RunbookPlan;
  readonly entries: JournalEntry[];
  readonly #path: string;
  readonly #lines: string[];
  readonly #handle: FileHandle;
  readonly #lock: Server;
  readonly #emit: Emit;
  readonly #followers: readonly JournalFollower[];
  #last: Promise<void> = Promise.resolve();
  #broken: Fault | undefined;
  #alone = false;

  constructor(
    path: string,
    plan: RunbookPlan,
    entries: readonly JournalEntry[],
    lines: readonly string[],
    handle: FileHandle,
    lock: Server,
    options: JournalFilesOptions,
  ) {
    this.#path = path;
    this.plan = plan;
    this.entries = [...entries];
    this.#lines = [...lines];
    this.#handle = handle;
    this.#lock = lock;
    this.#emit = options.emit;
    this.#followers = options.mirrors
      .filter((mirror) => mirror.accepts(plan))
      .map((mirror) => new JournalFollower(mirror, plan.id, this.#lines, options.emit));
  }

  async append(entry: JournalEntry): Promise<void> {
    const line = JSON.stringify(entry);
    const written = this.#last.then(async () => {
      // After a failed write nobody knows what the file holds: what follows could be read as done when it was not.
      if (this.#broken !== undefined) throw this.#broken;
      try {
        await writeLines(this.#path, this.#handle, [line]);
      } catch (error) {
        this.#broken = error as Fault;
        throw error;
      }
      this.entries.push(entry);
      this.#lines.push(line);
      return this.#lines.length;
    });
    this.#last = written.then(
      () => undefined,
      () => undefined,
    );
    await this.mirrored(await written);
  }

  /** Resolves when every copy that others go on by and that is not behind has the first lines; rejects with `journal-taken`, and nothing is written any more then. */
  async mirrored(count = this.#lines.length): Promise<void> {
    const believed = this.#followers.filter(({ mirror }) => mirror.believed);
    // Nothing waits for a record that is there to be read: what it lacks at the end is brought there by the last word.
    for (const follower of this.#followers) if (!follower.mirror.believed) void follower.reach(count);
    try {
      await Promise.all(believed.map(async (follower) => await follower.reach(count)));
    } catch (error) {
      this.#broken = error as Fault;
      throw error;
    }
    if (this.#alone || believed.length === 0 || believed.some(({ behind }) => !behind)) return;
    this.#alone = true;
    const message =
      "no copy of the journal is whole any more: without this machine nobody can go on with the operation";
    this.#emit({ name: "warning", about: "journal", message });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#handle.close();
    await Promise.all(this.#followers.map(async (follower) => await follower.close()));
    await release(this.#lock);
  }
}

async function writeLines(path: string, handle: FileHandle, lines: readonly string[]): Promise<void> {
  await translated(path, async () => {
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    for (let done = 0; done < bytes.length;) done += (await handle.write(bytes, done)).bytesWritten;
    await handle.datasync();
  });
}

/** Makes the names in it durable. */
async function syncDirectory(directory: string): Promise<void> {
  await translated(directory, async () => {
    const at = await open(directory, constants.O_RDONLY);
    try {
      await at.sync();
    } finally {
      await at.close();
    }
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
