import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { logTail, startServer } from "./processes.ts";
import type { ServerProcess } from "./processes.ts";
import { etcdProgram } from "./servers.ts";
import type { Minor } from "./servers.ts";
import type { Issued } from "./tls.ts";

/** One member of a test's cluster. */
export interface TestMember {
  readonly name: string;
  /** It was added as a learner. */
  readonly learner: boolean;
  readonly clientUrl: string;
  readonly peerUrl: string;
  /** The page itself, always plain HTTP; /health is its neighbour. */
  readonly metricsUrl: string;
  readonly dataDirectory: string;
  readonly logFile: string;
  /** The program and its flags, for those who start it in another way. */
  readonly argv: readonly [string, ...string[]];
  /** Of the process that runs now or ran last. */
  readonly pid: number;
  readonly running: boolean;
  /** SIGTERM by default; returns when the process is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on its data and returns when it answers; fails with the end of its log. */
  start(): Promise<void>;
  pause(): void;
  resume(): void;
}

/** What a member needs to be started. */
export interface MemberPlan {
  readonly minor: Minor;
  readonly name: string;
  readonly directory: string;
  /** Client, peer, metrics. */
  readonly ports: readonly [number, number, number];
  readonly initialCluster: string;
  readonly state: "new" | "existing";
  readonly learner: boolean;
  readonly token: string;
  readonly tls: { readonly ca: string; readonly server: Issued } | undefined;
  readonly flags: readonly string[];
}

/** A member and its process; `ready` tells whether it serves, and is asked again and again while it starts. */
export function createMember(
  plan: MemberPlan,
  ready: (member: TestMember) => Promise<boolean>,
): TestMember & { launch(): Promise<void>; awaitReady(): Promise<void> } {
  let server: ServerProcess | undefined;
  const logFile = join(plan.directory, `${plan.name}.log`);
  const current = (): ServerProcess => {
    if (server === undefined) throw new Error(`${plan.name} was never started`);
    return server;
  };
  const member = {
    name: plan.name,
    learner: plan.learner,
    clientUrl: clientUrl(plan),
    peerUrl: peerUrl(plan),
    metricsUrl: `http://127.0.0.1:${plan.ports[2]}/metrics`,
    dataDirectory: dataDirectory(plan),
    logFile,
    argv: [etcdProgram(plan.minor, "etcd"), ...memberFlags(plan)] as const,
    get pid() {
      return current().pid;
    },
    get running() {
      return server?.running ?? false;
    },
    stop: async (signal?: NodeJS.Signals) => await server?.stop(signal),
    pause: () => current().pause(),
    resume: () => current().resume(),
    async launch() {
      if (member.running) throw new Error(`${plan.name} runs already`);
      await mkdir(plan.directory, { recursive: true });
      server = await startServer(etcdProgram(plan.minor, "etcd"), memberFlags(plan), {
        log: logFile,
        cwd: plan.directory,
      });
    },
    async awaitReady() {
      const deadline = AbortSignal.timeout(90_000);
      while (!(await ready(member))) {
        if (!member.running || deadline.aborted) {
          const what = member.running ? "does not get ready within 90 s" : "ended";
          throw new Error(`etcd ${plan.minor} ${plan.name} ${what}; the end of ${logFile}:\n${await logTail(logFile)}`);
        }
        await sleep(50);
      }
    },
    async start() {
      await member.launch();
      await member.awaitReady();
    },
  };
  return member;
}

function clientUrl({ tls, ports }: Pick<MemberPlan, "tls" | "ports">): string {
  return `${tls ? "https" : "http"}://127.0.0.1:${ports[0]}`;
}

export function peerUrl({ tls, ports }: Pick<MemberPlan, "tls" | "ports">): string {
  return `${tls ? "https" : "http"}://127.0.0.1:${ports[1]}`;
}

export function dataDirectory({ directory, name }: Pick<MemberPlan, "directory" | "name">): string {
  return join(directory, `${name}.etcd`);
}

function memberFlags(plan: MemberPlan): readonly string[] {
  const { tls } = plan;
  const own = {
    name: plan.name,
    "data-dir": dataDirectory(plan),
    "listen-client-urls": clientUrl(plan),
    "advertise-client-urls": clientUrl(plan),
    "listen-peer-urls": peerUrl(plan),
    "initial-advertise-peer-urls": peerUrl(plan),
    "listen-metrics-urls": `http://127.0.0.1:${plan.ports[2]}`,
    "initial-cluster": plan.initialCluster,
    "initial-cluster-state": plan.state,
    "initial-cluster-token": plan.token,
    // 3.3 has one logger and no flag for it.
    ...(plan.minor === "3.3" ? {} : { logger: "zap" }),
    ...(tls && {
      "cert-file": tls.server.cert,
      "key-file": tls.server.key,
      "trusted-ca-file": tls.ca,
      "client-cert-auth": "true",
      "peer-cert-file": tls.server.cert,
      "peer-key-file": tls.server.key,
      "peer-trusted-ca-file": tls.ca,
      "peer-client-cert-auth": "true",
    }),
  };
  return [...Object.entries(own).map(([flag, value]) => `--${flag}=${value}`), ...plan.flags];
}
