import type { Clock } from "../clock.ts";
import type { Emit, Phase } from "../events.ts";

/** Tells listeners what a run is doing and how long it took, and remembers the phase for the report of a failure. */
export class PhaseTimer {
  readonly #run: string;
  readonly #clock: Clock;
  readonly #emit: Emit;
  #current: Phase = "choose";
  #toldMs = -Infinity;

  constructor(run: string, clock: Clock, emit: Emit) {
    this.#run = run;
    this.#clock = clock;
    this.#emit = emit;
  }

  /** The phase under way, or the last one. */
  get current(): Phase {
    return this.#current;
  }

  /** Runs a phase beside the others: a run does not fail in it. */
  async alongside<T>(phase: Phase, work: () => Promise<T>): Promise<T> {
    const startedMs = this.#clock.elapsed();
    const result = await work();
    const durationMs = Math.round(this.#clock.elapsed() - startedMs);
    this.#emit({ name: "backup.phase", run: this.#run, phase, durationMs, bytes: undefined });
    return result;
  }

  /** Runs one phase; `progress` may be called as often as bytes arrive and is told on a few times a second. */
  async run<T>(
    phase: Phase,
    work: (progress: (doneBytes: number, totalBytes: number | undefined) => void) => Promise<T>,
  ): Promise<T> {
    this.#current = phase;
    const startedMs = this.#clock.elapsed();
    let bytes: number | undefined;
    const result = await work((doneBytes, totalBytes) => {
      bytes = doneBytes;
      const nowMs = this.#clock.elapsed();
      if (nowMs - this.#toldMs < 250) return;
      this.#toldMs = nowMs;
      this.#emit({ name: "backup.progress", run: this.#run, phase, doneBytes, totalBytes });
    });
    this.#emit({
      name: "backup.phase",
      run: this.#run,
      phase,
      durationMs: Math.round(this.#clock.elapsed() - startedMs),
      bytes,
    });
    return result;
  }
}
