import { Fault } from "../faults.ts";

/** What the newest readable entry of the operation lock's log says, and who may work by it. Pure: facts and the time in, a judgement out. */

/** Who wrote something: advisory, for people. */
export interface Author {
  readonly host: string;
  readonly user: string;
  readonly pid: number;
  readonly version: string;
}

/** What needs the cluster, or the repository, for itself. */
export type Operation = "restore" | "upgrade" | "defragment" | "scan";

export interface Holder {
  /** ULID of this hold; a release or renewal by anybody else does not fit it. */
  readonly id: string;
  readonly operation: Operation;
  readonly by: Author;
  readonly sinceMs: number;
  readonly renewedMs: number;
  /** True: once it is silent, whoever comes next takes the lock over. False: it stays until it is released or unlocked, whatever became of its holder. */
  readonly lapses: boolean;
}

export interface Pause {
  readonly by: Author;
  readonly sinceMs: number;
  /** Empty: none was given. */
  readonly reason: string;
}

/** An entry above the newest readable one that cannot be read. */
export interface DamagedEntry {
  readonly name: string;
  readonly why: string;
  /** By the store's clock. */
  readonly modifiedMs: number;
}

/** The log of the lock, as far as it was read: only its end decides. */
export interface LockLog {
  /** The number of the highest entry, readable or not; 0: there is none. */
  readonly highest: number;
  readonly holder: Holder | undefined;
  readonly paused: Pause | undefined;
  /** Highest first. */
  readonly damaged: readonly DamagedEntry[];
}

export interface Judgement {
  /** Undefined also where a hold has lapsed. */
  readonly holder: (Holder & { readonly silentMs: number; readonly alive: boolean }) | undefined;
  readonly lapsed: Holder | undefined;
  readonly paused: Pause | undefined;
  readonly damaged: readonly DamagedEntry[];
  /** Until then nobody works, since what cannot be read may be a hold; undefined: what could be read decides. */
  readonly unreadableUntilMs: number | undefined;
}

/** A holder renews once a minute. */
export const renewEveryMs = 60_000;
/** Silent for longer, it is said not to live any more. */
const aliveMs = 5 * renewEveryMs;
/** An entry that cannot be read stops everybody for as long, and not for ever: anybody who may write to the store can leave one. */
const unreadableMs = 3_600_000;
/** Clocks differ a little; further in the future a time says nothing. */
const clocksDifferMs = 600_000;

export function judgeLock(log: LockLog, nowMs: number): Judgement {
  const { holder, paused, damaged } = log;
  const [newest] = damaged;
  const damagedMs = newest === undefined ? Infinity : nowMs - newest.modifiedMs;
  const judged = {
    paused,
    damaged,
    unreadableUntilMs:
      newest !== undefined && Math.abs(damagedMs) < unreadableMs ? newest.modifiedMs + unreadableMs : undefined,
  };
  if (holder === undefined) return { ...judged, holder: undefined, lapsed: undefined };
  const silentMs = nowMs - holder.renewedMs;
  const alive = silentMs <= aliveMs && silentMs >= -clocksDifferMs;
  return holder.lapses && !alive
    ? { ...judged, holder: undefined, lapsed: holder }
    : { ...judged, holder: { ...holder, silentMs, alive }, lapsed: undefined };
}

/** What wants to begin. */
export type Purpose = "backup" | "expiry" | Operation;

/** Why it may not begin now; undefined: it may. */
export function closedGate(judgement: Judgement, purpose: Purpose, describe: Describe): Fault | undefined {
  const { holder, paused, damaged, unreadableUntilMs } = judgement;
  const byHand = purpose === "restore" || purpose === "upgrade" || purpose === "defragment";
  if (unreadableUntilMs !== undefined) {
    const [newest] = damaged;
    const until = describe.time(unreadableUntilMs);
    return new Fault(
      "lock-damaged",
      `the lock cannot be read, and nobody works before ${until}: ${newest?.why ?? ""}`,
      {
        hint: "look with: etcd-lifeboat lock show; if nothing works on the cluster: etcd-lifeboat unlock",
      },
    );
  }
  if (paused !== undefined && !byHand) {
    return new Fault("paused", `the repository is paused ${describePause(paused, describe)}`, {
      hint: "go on with: etcd-lifeboat resume",
    });
  }
  // Scans only keep apart from each other and from what needs the cluster for itself.
  if (holder === undefined || (holder.operation === "scan" && (purpose === "backup" || purpose === "expiry"))) {
    return undefined;
  }
  return new Fault("locked", `the lock is held ${describeHolder(holder, describe)}`, {
    hint: holder.alive
      ? "wait until it is done; look with: etcd-lifeboat lock show"
      : "if it is certain that it does not work any more: etcd-lifeboat unlock",
  });
}

/** How times look; a pure file cannot tell. */
export interface Describe {
  readonly time: (timeMs: number) => string;
  readonly duration: (ms: number) => string;
}

export function describePause({ by, sinceMs, reason }: Pause, describe: Describe): string {
  return `since ${describe.time(sinceMs)} by ${describeAuthor(by)}${reason === "" ? "" : `: ${reason}`}`;
}

export function describeHolder(
  { operation, by, sinceMs, silentMs, alive }: Holder & { readonly silentMs: number; readonly alive: boolean },
  describe: Describe,
): string {
  const life =
    silentMs < -clocksDifferMs
      ? "whether it lives is not known, since its clock is ahead"
      : alive
        ? `it was alive ${describe.duration(Math.max(0, silentMs))} ago`
        : `it has been silent for ${describe.duration(silentMs)}`;
  return `by ${operation} since ${describe.time(sinceMs)}, ${describeAuthor(by)}; ${life}`;
}

export function describeAuthor({ host, user, pid }: Author): string {
  return `${user} on ${host} (process ${pid})`;
}
