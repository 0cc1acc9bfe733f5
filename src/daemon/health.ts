import type { Clock } from "../clock.ts";
import type { Emit } from "../events.ts";

/** One thing that must be so; `why` says what is wrong. */
type Check =
  { readonly name: string; readonly ok: true } | { readonly name: string; readonly ok: false; readonly why: string };

/** Without a turn for this long the loop counts as hung; a backup under way counts as turning. */
const hungMs = 60_000;

/** What /livez and /readyz say. Neither depends on the success of a backup: a restart would not help, and freshness is a metric. */
export interface Health {
  readonly listen: Emit;
  readonly turn: () => void;
  /** A backup may take hours; while one runs, the loop is alive. */
  readonly during: <T>(work: () => Promise<T>) => Promise<T>;
  readonly loop: () => Check;
  readonly etcd: () => Check;
}

export function openHealth(clock: Clock): Health {
  let turnedMs = clock.elapsed();
  let working = 0;
  let etcd: Check = { name: "etcd", ok: false, why: "not looked yet" };
  return {
    listen(event) {
      if (event.name === "cluster.unobserved") etcd = { name: "etcd", ok: false, why: event.message };
      if (event.name === "cluster.observed") {
        etcd = event.members.some(({ up }) => up)
          ? { name: "etcd", ok: true }
          : { name: "etcd", ok: false, why: "no member answers" };
      }
    },
    turn() {
      turnedMs = clock.elapsed();
    },
    async during(work) {
      working += 1;
      try {
        return await work();
      } finally {
        working -= 1;
        turnedMs = clock.elapsed();
      }
    },
    loop() {
      const hung = working === 0 && clock.elapsed() - turnedMs > hungMs;
      return hung
        ? { name: "loop", ok: false, why: "the schedules have not been looked at for a minute" }
        : { name: "loop", ok: true };
    },
    etcd: () => etcd,
  };
}
