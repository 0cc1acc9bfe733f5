import type { Emit } from "../events.ts";
import { Fault, isFault } from "../faults.ts";
import type { JournalMirror } from "./journal.ts";

/** A mirror that takes longer for what it is asked is behind. */
const mirrorMs = 5_000;

/**
 * The way of one journal's lines to one mirror. A line is waited for, so that nothing is ever done that the copies do not know of; a mirror that does not take it in time
 * is behind: that is told once, nobody waits for it any more, and with each further line it is tried anew whether it can have all that it lacks.
 */
export class JournalFollower {
  readonly mirror: JournalMirror;
  readonly #id: string;
  /** Grows. */
  readonly #lines: readonly string[];
  readonly #emit: Emit;
  /** How many it has for sure; undefined: nobody has looked yet. */
  #held: number | undefined;
  #behind = false;
  #told = false;
  /** A try has not come to its end, though nobody waits for it any more. */
  #hangs = false;
  #taken: Fault | undefined;
  /** Somebody else has written there, which says nothing of the operation: it is left alone. */
  #forsaken = false;
  #attempt: Promise<void> | undefined;

  constructor(mirror: JournalMirror, id: string, lines: readonly string[], emit: Emit) {
    this.mirror = mirror;
    this.#id = id;
    this.#lines = lines;
    this.#emit = emit;
  }

  get behind(): boolean {
    return this.#behind;
  }

  /** Resolves when the mirror has the first `count` lines, or is behind; rejects with `journal-taken` alone. */
  async reach(count: number): Promise<void> {
    // Ends: each turn brings it lines, or finds that it does not take them.
    for (;;) {
      if (this.#taken !== undefined) throw this.#taken;
      if (this.#forsaken || (this.#held ?? -1) >= count) return;
      const wasBehind = this.#behind;
      this.#attempt ??= this.#try().finally(() => (this.#attempt = undefined));
      if (wasBehind) return;
      await this.#attempt;
      if (this.#behind && this.#taken === undefined) return;
    }
  }

  /** One more try for what it lacks; never rejects. */
  async close(): Promise<void> {
    await this.#attempt;
    if (this.#taken === undefined && !this.#forsaken && (this.#held ?? -1) < this.#lines.length) await this.#try();
  }

  async #try(): Promise<void> {
    // What hangs keeps a thread of this process: it is not asked again, or none would be left for the journal itself.
    if (this.#hangs) return;
    try {
      await within(mirrorMs, async (signal) => {
        this.#hangs = true;
        try {
          await this.#bring(signal);
        } finally {
          this.#hangs = false;
        }
      });
      this.#behind = false;
    } catch (error) {
      this.#behind = true;
      if (isFault(error, "journal-taken")) {
        if (this.mirror.believed) this.#taken = error;
        else this.#forsaken = true;
      }
      const message = error instanceof Error ? error.message : String(error);
      const lines = this.#lines.length - (this.#held ?? 0);
      // What it has is looked at anew: somebody may have removed it.
      this.#held = undefined;
      if (!this.#told)
        this.#emit({ name: "journal.behind", operation: this.#id, mirror: this.mirror.name, lines, message });
      this.#told = true;
    }
  }

  async #bring(signal: AbortSignal): Promise<void> {
    let held = this.#held ?? (await this.#compare(signal));
    while (!signal.aborted && held < this.#lines.length) {
      const next = this.#lines.slice(held);
      await this.mirror.append(this.#id, held, next, signal);
      held += next.length;
    }
    if (!signal.aborted) this.#held = held;
  }

  /** How much of the journal it has; what it has must be its beginning. */
  async #compare(signal: AbortSignal): Promise<number> {
    const there = await this.mirror.read(this.#id, signal);
    const differs = there.findIndex((line, index) => line !== this.#lines[index]);
    if (differs === -1) return there.length;
    throw takenFault(this.#id, this.mirror.name, differs < this.#lines.length ? "says otherwise" : "knows more");
  }
}

/** Somebody else has written where this process would: one of them alone may go on. */
export function takenFault(id: string, mirror: string, how: string): Fault {
  return new Fault(
    "journal-taken",
    `the copy of the journal of operation ${id} on ${mirror} ${how} than the one here`,
    {
      hint: "somebody else went on with the operation: look at it there, and here again with: etcd-lifeboat restore status",
    },
  );
}

/** Ends after the time also where what is asked does not heed the signal: a disk that hangs. */
export async function within<T>(ms: number, act: (signal: AbortSignal) => Promise<T>, outer?: AbortSignal): Promise<T> {
  const controller = new AbortController();
  const end = (reason: unknown): void => controller.abort(reason);
  const late = new Fault("journal-failed", `it did not answer within ${ms / 1000} s`);
  const timer = setTimeout(() => end(late), ms);
  const onOuter = (): void => end(outer?.reason);
  outer?.addEventListener("abort", onOuter, { once: true });
  if (outer?.aborted === true) onOuter();
  const { signal } = controller;
  const aborted = new Promise<never>((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
  try {
    return await Promise.race([act(signal), aborted]);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener("abort", onOuter);
  }
}
