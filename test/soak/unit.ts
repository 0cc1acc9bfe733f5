import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { startCommand, type Started } from "../cluster/command.ts";

/**
 * What systemd does with a service of Type=notify, for a soak without systemd: it reads the unit's own file for its bounds, starts again what fails, and
 * ends what no longer feeds its watchdog. There are no control groups, no sandbox and no other user.
 */

export interface UnitFile {
  readonly restartMs: number;
  readonly watchdogMs: number;
  readonly stopMs: number;
  readonly preventStatuses: readonly number[];
  readonly startLimitMs: number;
  readonly startLimit: number;
}

/** Reads the settings that the supervision of a unit depends on; throws where one of them is not as it is done here. */
export function readUnit(text: string): UnitFile {
  const settings = new Map(
    text
      .split("\n")
      .filter((line) => /^[A-Za-z]+=/.test(line))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const),
  );
  const of = (name: string): string => {
    const value = settings.get(name);
    if (value === undefined) throw new Error(`the unit has no ${name}=`);
    return value;
  };
  for (const [name, value] of [
    ["Type", "notify"],
    ["NotifyAccess", "all"],
    ["Restart", "on-failure"],
  ] as const) {
    if (of(name) !== value) throw new Error(`the unit has ${name}=${of(name)}, and only ${value} is known here`);
  }
  return {
    restartMs: spanMs(of("RestartSec")),
    watchdogMs: spanMs(of("WatchdogSec")),
    stopMs: spanMs(of("TimeoutStopSec")),
    preventStatuses: of("RestartPreventExitStatus").split(" ").map(Number),
    startLimitMs: spanMs(of("StartLimitIntervalSec")),
    startLimit: Number(of("StartLimitBurst")),
  };
}

function spanMs(text: string): number {
  const match = /^(\d+)(s|min)$/.exec(text);
  if (match === null) throw new Error(`${text} is no span of time that is known here`);
  return Number(match[1]) * (match[2] === "s" ? 1000 : 60_000);
}

/** systemd's DefaultTimeoutStartSec. */
const startMs = 90_000;

/** One process of a unit, from its start to its end. */
export interface Life {
  readonly unit: string;
  /** From 1. */
  readonly number: number;
  readonly pid: number;
  readonly startedMs: number;
  readonly readyMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Who wanted its end; undefined: nobody here, or a soak that killed it. */
  readonly asked: "stop" | "watchdog" | "start-timeout" | undefined;
  /** A signal from the soak that ends it. */
  readonly killed: boolean;
  /** VmHWM, the most memory that it ever had. */
  readonly peakBytes: number;
  readonly mostFiles: number;
  /** The last STATUS= line. */
  readonly told: string;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

export interface UnitOptions {
  readonly name: string;
  readonly file: UnitFile;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly wrap: readonly string[];
  /** Where the processes of the unit send what systemd shall know. */
  readonly socket: string;
  /** Each line of standard error as it comes, with the process that wrote it. */
  readonly onLine: (line: string, life: Life) => void;
}

export interface Unit {
  readonly name: string;
  /** Oldest first. */
  readonly lives: readonly Life[];
  /** What `systemctl is-active` says, more or less. */
  readonly state: () => "active" | "activating" | "inactive" | "failed";
  readonly start: () => void;
  /** Returns when the process is gone. */
  readonly stop: () => Promise<void>;
  readonly reload: () => void;
  /** To the main process, if there is one. */
  readonly kill: (signal: "SIGKILL" | "SIGSTOP" | "SIGCONT") => void;
  /** One message that came to the socket. */
  readonly notified: (message: string) => void;
  /** Looks at the process: its memory, files and children that nobody waited for. */
  readonly inspect: () => Promise<readonly string[]>;
}

export function openUnit(options: UnitOptions): Unit {
  const { name, file } = options;
  const lives: Writable<Life>[] = [];
  let current: { readonly life: Writable<Life>; readonly started: Started; readonly over: Promise<void> } | undefined;
  let state: ReturnType<Unit["state"]> = "inactive";
  let wanted = false;
  let restart: NodeJS.Timeout | undefined;
  let watchdog: NodeJS.Timeout | undefined;
  let zombies = new Map<number, number>();

  function launch(): void {
    const now = Date.now();
    if (lives.filter(({ startedMs }) => now - startedMs < file.startLimitMs).length >= file.startLimit) {
      state = "failed";
      return;
    }
    const env = { ...options.env, NOTIFY_SOCKET: options.socket, WATCHDOG_USEC: String(file.watchdogMs * 1000) };
    const started = startCommand(options.args, { env, wrap: options.wrap, unbounded: true });
    const life: Writable<Life> = {
      unit: name,
      number: lives.length + 1,
      pid: started.child.pid ?? 0,
      startedMs: now,
      readyMs: undefined,
      endedMs: undefined,
      status: null,
      signal: null,
      asked: undefined,
      killed: false,
      peakBytes: 0,
      mostFiles: 0,
      told: "",
    };
    lives.push(life);
    state = "activating";
    let rest = "";
    started.onError((text) => {
      const lines = `${rest}${text}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) options.onLine(line, life);
    });
    arm(startMs, "start-timeout");
    const over = started.ended.then(({ status, signal }) => {
      if (rest !== "") options.onLine(rest, life);
      clearTimeout(watchdog);
      Object.assign(life, { endedMs: Date.now(), status, signal });
      current = undefined;
      const clean = life.asked === undefined && (status === 0 || cleanSignals.has(signal ?? ""));
      if (!wanted || clean) state = "inactive";
      else if (file.preventStatuses.includes(status ?? -1)) state = "failed";
      else {
        state = "activating";
        restart = setTimeout(launch, file.restartMs);
      }
    });
    current = { life, started, over };
  }

  /** Nothing is heard for so long: SIGABRT, and SIGKILL where that does not help. */
  function arm(ms: number, why: "watchdog" | "start-timeout"): void {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      if (current === undefined) return;
      current.life.asked ??= why;
      signal(why === "watchdog" ? "SIGABRT" : "SIGTERM");
      watchdog = setTimeout(() => signal("SIGKILL"), file.stopMs);
    }, ms);
  }

  function signal(what: NodeJS.Signals): void {
    current?.started.child.kill(what);
    // So that a process that was stopped hears of it, as systemd does.
    if (what !== "SIGSTOP" && what !== "SIGKILL") current?.started.child.kill("SIGCONT");
  }

  return {
    name,
    lives,
    state: () => state,
    start() {
      clearTimeout(restart);
      wanted = true;
      if (current === undefined) launch();
    },
    async stop() {
      clearTimeout(restart);
      wanted = false;
      if (current === undefined) {
        state = "inactive";
        return;
      }
      const { life, over } = current;
      life.asked ??= "stop";
      clearTimeout(watchdog);
      signal("SIGTERM");
      watchdog = setTimeout(() => signal("SIGKILL"), file.stopMs);
      await over;
    },
    reload: () => signal("SIGHUP"),
    kill(what) {
      if (what === "SIGKILL" && current !== undefined) current.life.killed = true;
      if (what === "SIGCONT") current?.started.child.kill("SIGCONT");
      else signal(what);
    },
    notified(message) {
      if (current === undefined) return;
      const [, assigned, value = ""] = /^(READY|WATCHDOG|STATUS)=(.*)$/.exec(message) ?? [];
      if (assigned === "STATUS") current.life.told = value;
      if (assigned === "READY" && current.life.readyMs === undefined) {
        current.life.readyMs = Date.now();
        state = "active";
      }
      if (current.life.asked === undefined && (assigned === "READY" || assigned === "WATCHDOG"))
        arm(file.watchdogMs, "watchdog");
    },
    async inspect() {
      if (current === undefined) return [];
      const { life } = current;
      const seen = await lookAt(life.pid);
      life.peakBytes = Math.max(life.peakBytes, seen.peakBytes);
      life.mostFiles = Math.max(life.mostFiles, seen.files);
      // A child that ended a moment ago is one until it is waited for.
      // Nor does a process wait for anybody while it is stopped.
      if (seen.stopped) seen.zombies.clear();
      const nowMs = Date.now();
      zombies = new Map([...seen.zombies].map(([pid]) => [pid, zombies.get(pid) ?? nowMs]));
      return [...seen.zombies]
        .filter(([pid]) => nowMs - (zombies.get(pid) ?? nowMs) > unreapedMs)
        .map(([, what]) => what);
    },
  };
}

/** A child that nobody waits for stays for ever; one whose parent gets no processor, for seconds. */
const unreapedMs = 30_000;

/** Ends that systemd calls clean. */
const cleanSignals = new Set(["SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE"]);

interface Sight {
  readonly peakBytes: number;
  readonly files: number;
  /** By a signal. */
  readonly stopped: boolean;
  readonly zombies: Map<number, string>;
}

async function lookAt(pid: number): Promise<Sight> {
  const text = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const files = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const zombies = new Map<number, string>();
  for (const child of children
    .split(" ")
    .filter((name) => name !== "")
    .map(Number)) {
    const stat = await readFile(`/proc/${child}/stat`, "utf8").catch(() => "");
    if (/\) Z /.test(stat)) zombies.set(child, `${stat.slice(0, stat.lastIndexOf(")") + 1)} of ${pid}`);
  }
  const peakBytes = Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1] ?? 0) * 1024;
  return { peakBytes, files: files.length, stopped: /State:\s+T/.test(text), zombies };
}

/** How to start a process as on a host of its own: it has that host's name, and its own directory where all have the same path. */
export function asOnHost(host: string, directory: string, mountedAt: string): readonly string[] {
  const setpriv = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));
  const script =
    'set -e; ulimit -c 0; echo "$0" >/proc/sys/kernel/hostname; mount --bind "$1" "$2"; shift 2; exec "$@"';
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const apart = ["unshare", ...user, "--mount", "--uts", "--propagation", "private"];
  // The kernel ends it when we are gone, however that happens.
  const guard = setpriv === undefined ? [] : [setpriv, "--pdeathsig", "KILL"];
  return [...guard, ...apart, "sh", "-c", script, host, directory, mountedAt];
}

/** Listens on datagram sockets, which Node cannot open; each line of a message is told with the number of its socket. */
export async function listenOn(
  sockets: readonly string[],
  onMessage: (socket: number, message: string) => void,
): Promise<AsyncDisposable> {
  const script = `
import select, socket, sys
listening = {}
for index, path in enumerate(sys.argv[1:]):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    listening[s] = index
print("bound", flush=True)
while True:
    for s in select.select(list(listening), [], [])[0]:
        data, fds, _, _ = socket.recv_fds(s, 65536, 16)
        for fd in fds:
            __import__("os").close(fd)
        for line in data.decode().splitlines(): print(listening[s], line, flush=True)
`;
  const child = spawn("python3", ["-c", script, ...sockets], { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  let rest = "";
  let bound = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = `${rest}${text}`.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "bound") bound = true;
      else onMessage(Number(line.slice(0, line.indexOf(" "))), line.slice(line.indexOf(" ") + 1));
    }
  });
  while (!bound) {
    if (child.exitCode !== null) throw new Error("python3 cannot listen for what systemd would be told");
    await sleep(20);
  }
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await closed;
    },
  };
}
