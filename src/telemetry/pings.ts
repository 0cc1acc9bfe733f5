import type { Clock } from "../clock.ts";
import type { Emit, LifeboatEvent, PingTarget } from "../events.ts";
import { isFault } from "../faults.ts";

/** Tells a dead man's switch of each scheduled backup: when it starts, and after its commit or failure how it ended. No backup ever waits for a ping. */
export interface Pings extends AsyncDisposable {
  readonly listen: Emit;
}

export interface PingOptions {
  readonly cluster: string;
  /** Where to; `{schedule}` in it becomes the schedule's name. The address itself is the secret: it is in no message. */
  readonly targets: { readonly [T in PingTarget]?: (() => string) | undefined };
  readonly clock: Clock;
  readonly emit: Emit;
  readonly request?: typeof fetch;
}

const tries = 3;
const patienceMs = 5000;
/** A switch that does not answer for so many pings learns nothing from older ones. */
const mostWaiting = 16;
/** What is still to be told when the process ends. */
const lastWordsMs = 5000;

interface Ping {
  readonly target: PingTarget;
  readonly schedule: string;
  readonly facts: Readonly<Record<string, string | number | null>>;
}

export function openPings(options: PingOptions): Pings {
  const closing = new AbortController();
  const waiting: Ping[] = [];
  let sending: Promise<void> | undefined;

  async function sendAll(): Promise<void> {
    for (let ping = waiting.shift(); ping !== undefined; ping = waiting.shift()) {
      await send(options, ping, closing.signal);
    }
  }
  function wake(): void {
    sending ??= sendAll().finally(() => {
      sending = undefined;
      if (waiting.length > 0) wake();
    });
  }

  return {
    listen(event) {
      const ping = pingOf(event);
      if (ping === undefined || options.targets[ping.target] === undefined || closing.signal.aborted) return;
      const dropped = waiting.length >= mostWaiting ? waiting.shift() : undefined;
      if (dropped !== undefined) tellFailed(options, dropped, "too many wait before it");
      waiting.push(ping);
      wake();
    },
    async [Symbol.asyncDispose]() {
      const late = setTimeout(() => closing.abort(), lastWordsMs);
      try {
        await sending;
      } finally {
        clearTimeout(late);
        closing.abort();
      }
    },
  };
}

/** Only what a schedule started: a backup by hand says nothing about whether the schedule is alive. */
function pingOf(event: LifeboatEvent): Ping | undefined {
  switch (event.name) {
    case "backup.started":
      return event.schedule === undefined
        ? undefined
        : ping("start", event.schedule, event.slotMs, { result: "started" });
    case "backup.committed":
      if (event.schedule === undefined) return undefined;
      return ping("success", event.schedule, event.slotMs, {
        result: "committed",
        backup: event.backup,
        revision: event.revision.toString(),
        keys: event.keys,
        plainBytes: event.plainBytes,
        storedBytes: event.storedBytes,
        durationMs: event.durationMs,
        extrasMissing: event.extrasMissing,
      });
    // The slot is committed, if by somebody else: a switch that heard of our start must hear of an end.
    case "backup.superseded":
      if (event.schedule === undefined) return undefined;
      return ping("success", event.schedule, event.slotMs, { result: "superseded", backup: event.backup });
    case "backup.failed":
      // A daemon that is stopped or restarted has not failed.
      if (event.schedule === undefined || event.code === "interrupted") return undefined;
      return ping("failure", event.schedule, event.slotMs, {
        result: "failed",
        code: event.code,
        phase: event.phase,
        durationMs: event.durationMs,
      });
    default:
      return undefined;
  }
}

function ping(target: PingTarget, schedule: string, slotMs: number | undefined, facts: Ping["facts"]): Ping {
  return { target, schedule, facts: { slot: slotMs === undefined ? null : new Date(slotMs).toISOString(), ...facts } };
}

async function send(options: PingOptions, ping: Ping, closing: AbortSignal): Promise<void> {
  const { target, schedule, facts } = ping;
  const { clock, cluster, emit, request = fetch } = options;
  const address = addressOf(options, ping);
  const body = JSON.stringify({ schema: "etcd-lifeboat/ping/v1", cluster, schedule, ...facts });
  let why = "the process ended before it could be sent";
  for (let attempt = 1; attempt <= tries && !closing.aborted; attempt += 1) {
    try {
      const answer = await request(address, {
        method: "POST",
        headers: { "content-type": "application/json", "user-agent": "etcd-lifeboat" },
        body,
        // Wherever it would lead, nobody configured that.
        redirect: "manual",
        signal: AbortSignal.any([closing, AbortSignal.timeout(patienceMs)]),
      });
      await answer.body?.cancel();
      if (answer.ok) {
        emit({ name: "ping.sent", target, schedule });
        return;
      }
      why = `answered ${answer.status}${answer.status >= 300 && answer.status < 400 ? ", and redirects are not followed" : ""}`;
      // Asked again, it would say the same.
      if (answer.status < 500 && answer.status !== 429) break;
    } catch (error) {
      why = whyNot(error);
    }
    if (attempt === tries) break;
    try {
      await clock.sleep(1000 * attempt, closing);
    } catch (error) {
      if (!isFault(error)) throw error;
    }
  }
  tellFailed(options, ping, why);
}

function addressOf({ targets }: PingOptions, { target, schedule }: Ping): string {
  return (targets[target]?.() ?? "").replaceAll("{schedule}", schedule);
}

function tellFailed(options: PingOptions, ping: Ping, message: string): void {
  const host = URL.parse(addressOf(options, ping))?.host ?? "unknown";
  options.emit({ name: "ping.failed", target: ping.target, schedule: ping.schedule, host, message });
}

/** Never the error's own words: they may quote the address. */
function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return "failed";
  if (error.name === "TimeoutError") return `no answer in ${patienceMs / 1000} s`;
  if (error.name === "AbortError") return "the process ended meanwhile";
  const { cause } = error;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  return typeof code === "string" ? `cannot be reached (${code})` : "cannot be reached";
}
