import { readFileSync } from "node:fs";
import { get } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { startCommand, type Ended } from "./command.ts";
import type { Site, RunOptions } from "./site.ts";

/** One line of the daemon's log. */
export interface LogLine {
  readonly time: string;
  readonly level: string;
  readonly event: string;
  readonly [field: string]: unknown;
}

export interface Daemon extends AsyncDisposable {
  readonly pid: number;
  readonly lines: readonly LogLine[];
  /** The next line of this event, or one of these, that fits, after the last one that was waited for; rejects with the log's end when none comes. */
  readonly next: (
    event: string | readonly string[],
    fits?: (line: LogLine) => boolean,
    withinMs?: number,
  ) => Promise<LogLine>;
  /** Looks only at what is told from now on. */
  readonly skip: () => void;
  /** Guarded pages are read with their own token by default. */
  readonly page: (path: string, token?: string) => Promise<{ readonly status: number; readonly body: string }>;
  /** The value of one series; undefined when it is absent. `labels` is a part of what stands in the braces. */
  readonly metric: (name: string, ...labels: readonly string[]) => Promise<number | undefined>;
  /** Waits until a metric has a value that fits. */
  readonly untilMetric: (
    name: string,
    labels: readonly string[],
    fits: (value: number | undefined) => boolean,
    withinMs?: number,
  ) => Promise<number | undefined>;
  readonly signal: (signal: NodeJS.Signals) => void;
  /** Sends a signal and waits for the end. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<Ended & { readonly tookMs: number }>;
  readonly ended: Promise<Ended>;
}

/** How guarded pages are read: files with the authority of the certificate, and with the token. */
export interface PageAccess {
  readonly ca: string;
  readonly token: string;
}

export interface DaemonOptions extends RunOptions {
  readonly access?: PageAccess;
}

/** Starts `run` and waits until its pages answer. */
export async function startDaemon(site: Site, { change, access, ...options }: DaemonOptions = {}): Promise<Daemon> {
  const { child, ended, onError } = startCommand(["run", ...(await site.configure(change))], options);
  const lines: LogLine[] = [];
  let cursor = 0;
  let partial = "";
  let over = false;
  onError((text) => {
    const parts = `${partial}${text}`.split("\n");
    partial = parts.pop() ?? "";
    lines.push(...parts.map(parseLine));
  });
  void ended.then((end) => {
    over = true;
    site.expectNoSecret(end);
  });
  const tail = (): string =>
    lines
      .slice(-25)
      .map((line) => JSON.stringify(line))
      .join("\n");

  const daemon: Omit<Daemon, "page" | "metric" | "untilMetric"> = {
    pid: child.pid ?? Number.NaN,
    lines,
    ended,
    async next(event, fits = () => true, withinMs = 60_000) {
      const events = [event].flat();
      const untilMs = performance.now() + withinMs;
      for (;;) {
        while (cursor < lines.length) {
          const line = lines[cursor];
          cursor += 1;
          if (line !== undefined && events.includes(line.event) && fits(line)) return line;
        }
        if (over) throw new Error(`the daemon ended before it told ${events.join(" or ")}:\n${tail()}`);
        if (performance.now() > untilMs) throw new Error(`no ${events.join(" or ")} in ${withinMs} ms:\n${tail()}`);
        await sleep(20);
      }
    },
    skip() {
      cursor = lines.length;
    },
    signal: (signal) => void child.kill(signal),
    async stop(signal = "SIGTERM") {
      const startedMs = performance.now();
      child.kill(signal);
      const end = await ended;
      return { ...end, tookMs: performance.now() - startedMs };
    },
    async [Symbol.asyncDispose]() {
      if (!over) child.kill("SIGKILL");
      await ended;
    },
  };
  const ready = await daemon.next("daemon.ready").catch(async (error: unknown) => {
    await daemon[Symbol.asyncDispose]();
    throw error;
  });
  const page: Daemon["page"] = async (path, token) => {
    const url = new URL(path, String(ready["listen"]));
    if (access !== undefined) return await readSecurely(url, access, token);
    const answer = await fetch(url, { signal: AbortSignal.timeout(30_000) });
    return { status: answer.status, body: await answer.text() };
  };
  const metric: Daemon["metric"] = async (name, ...labels) => findSeries((await page("/metrics")).body, name, labels);
  return {
    ...daemon,
    page,
    metric,
    async untilMetric(name, labels, fits, withinMs = 60_000) {
      const untilMs = performance.now() + withinMs;
      for (;;) {
        const value = await metric(name, ...labels);
        if (fits(value)) return value;
        if (performance.now() > untilMs) throw new Error(`${name}{${labels.join(",")}} stays ${value}:\n${tail()}`);
        await sleep(250);
      }
    },
  };
}

function readSecurely(
  url: URL,
  access: PageAccess,
  token = readFileSync(access.token, "utf8").trim(),
): ReturnType<Daemon["page"]> {
  const [ca, headers] = [readFileSync(access.ca), { authorization: `Bearer ${token}` }];
  return new Promise((resolve, reject) => {
    const request = get(url, { ca, headers, agent: false, timeout: 30_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error(`${url.href} does not answer`)));
    request.on("error", reject);
  });
}

/** Everything on standard error must be a line of the log. */
function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return { time: "", level: "error", event: "not a line of the log", text };
  }
}

function findSeries(page: string, name: string, labels: readonly string[]): number | undefined {
  const found = page
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .filter((line) => labels.every((label) => line.includes(label)));
  if (found.length > 1) throw new Error(`${name}{${labels.join(",")}} is not one series:\n${found.join("\n")}`);
  const value = found[0]?.split(" ").at(-1);
  return value === undefined ? undefined : Number(value);
}
