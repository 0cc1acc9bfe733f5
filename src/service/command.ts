import { Fault } from "../faults.ts";
import type { Host, RunResult } from "../host/host.ts";
import { readHold, removeHold, writeHold } from "./hold.ts";
import { joinByEnvironmentFile, joinVariables } from "./joining.ts";
import type { Joining, Service, ServiceRole } from "./service.ts";

export type Argv = readonly [string, ...string[]];

type Environment = Readonly<Record<string, string>>;

export interface CommandServiceOptions {
  readonly name: string;
  readonly role: ServiceRole;
  readonly start: Argv;
  readonly stop: Argv;
  /** Exits with 0 while it runs and with 3 while it does not, as an LSB init script's status. */
  readonly probe: Argv;
  readonly disable?: Argv | undefined;
  readonly enable?: Argv | undefined;
  /** Exits with 0 where a boot starts it, and with 1 or 3 where none does. */
  readonly enabled?: Argv | undefined;
  /** Of etcd: as start, for a member that joins. */
  readonly join?: Argv | undefined;
  /** Of etcd: where its environment is read from. */
  readonly environmentFile?: string | undefined;
  /** Of each command. */
  readonly timeoutMs: number;
  /** The text without what looks like a secret; absent: as it is. */
  readonly redact?: ((text: string) => string) | undefined;
  /** A few characters, others for another text: arguments may hold secrets, and are told nowhere. */
  readonly digest: (text: string) => string;
  /** Directory of ours on the host: which operation holds it is written there. */
  readonly stateDirectory: string;
}

/** A service that is run by commands of its site. It can be held where they disable and enable it. */
export function openCommandService(host: Host, options: CommandServiceOptions): Service {
  const { name, role, start, stop, probe, disable, enable, enabled, join, timeoutMs, digest } = options;
  // What is cut first can no longer be known for a secret.
  const clean = (text: string, length: number): string => (options.redact?.(text) ?? text).trim().slice(0, length);
  const run = async (argv: Argv, signal: AbortSignal, keepGroup = false, env?: Environment): Promise<RunResult> => {
    const result = await host.run(argv, { timeoutMs, keepGroup, maxOutputBytes: 64 * 1024, env }, signal);
    if (!result.timedOut) return result;
    throw new Fault(
      "service-failed",
      `${argv[0]} of ${name} on ${host.name} took longer than ${timeoutMs / 1000} s, and was killed`,
    );
  };
  const must = async (
    what: string,
    argv: Argv,
    signal: AbortSignal,
    keepGroup = false,
    env?: Environment,
  ): Promise<void> => {
    const { status, signal: killed, stderr } = await run(argv, signal, keepGroup, env);
    if (status === 0) return;
    const how = status === undefined ? `was ended by ${killed ?? "a signal"}` : `exited with ${status}`;
    const said = clean(stderr, 500);
    throw new Fault(
      "service-failed",
      `the ${what} command of ${name} on ${host.name} ${how}${said === "" ? "" : `: ${said}`}`,
      {
        hint: `run ${clean(argv.join(" "), 1000)} on ${host.name} and see`,
      },
    );
  };
  const free = async (signal: AbortSignal): Promise<void> => {
    const held = await readHold(host, options, signal);
    if (held === undefined) return;
    throw new Fault("service-held", `${name} on ${host.name} is held by operation ${held.operation}`);
  };
  const started = async (signal: AbortSignal): Promise<void> => {
    await free(signal);
    await must("start", start, signal, true);
  };
  const boots = async (signal: AbortSignal): Promise<"yes" | "no" | "unknown"> => {
    if (enabled === undefined) return "unknown";
    const { status, stderr } = await run(enabled, signal);
    if (status === 0) return "yes";
    // systemctl is-enabled says 1.
    if (status === 1 || status === 3) return "no";
    throw new Fault(
      "service-unknown",
      `whether a boot starts ${name} on ${host.name} cannot be said: its enabled command exited with ${status ?? "a signal"}`,
      { hint: `it must exit with 0 where one does and with 1 or 3 where none does; it said: ${clean(stderr, 200)}` },
    );
  };
  const joining = (): Joining | undefined => {
    const { environmentFile, stateDirectory } = options;
    if (join !== undefined) {
      const nothing = async (): Promise<void> => undefined;
      return {
        describe: async () =>
          `it is started once by ${join[0]}, with ETCD_INITIAL_CLUSTER and ETCD_INITIAL_CLUSTER_STATE=existing`,
        prepare: nothing,
        async start(initialCluster, signal) {
          await free(signal);
          await must("join", join, signal, true, joinVariables(initialCluster));
        },
        finish: nothing,
        undo: nothing,
      };
    }
    if (environmentFile === undefined) return undefined;
    const check = async (): Promise<void> => undefined;
    return joinByEnvironmentFile(host, { name, path: environmentFile, stateDirectory, check, start: started });
  };
  return {
    name,
    role,
    description: `${start[0]} (commands ${digest(holdOf(options))})`,
    joining: joining(),
    canHold: disable !== undefined && enable !== undefined,
    holdStops: false,
    releaseEnables: enable !== undefined && enabled === undefined,
    async state(signal) {
      const [{ status, stderr }, held] = [await run(probe, signal), await readHold(host, options, signal)];
      if (status !== 0 && status !== 3) {
        throw new Fault(
          "service-unknown",
          `whether ${name} runs on ${host.name} cannot be said: its probe exited with ${status ?? "a signal"}`,
          {
            hint: `it must exit with 0 while it runs and with 3 while it does not; it said: ${clean(stderr, 200)}`,
          },
        );
      }
      const running = status === 0;
      return {
        running,
        pids: [],
        heldBy: held?.operation,
        boots: held === undefined ? await boots(signal) : "no",
        detail: `its probe says that it ${running ? "runs" : "does not run"}`,
        holdBegun: undefined,
        needsReload: false,
        restarts: undefined,
      };
    },
    async hold(operation, signal) {
      if (disable === undefined) throw unholdable(name, host.name);
      // Written first: what is disabled and not known to be ours would never be enabled again.
      await writeHold(host, options, operation, async () => (await boots(signal)) === "no", signal);
      await must("disable", disable, signal);
    },
    stop: async (signal) => await must("stop", stop, signal),
    async release(signal) {
      const held = await readHold(host, options, signal);
      if (held === undefined) return;
      if (enable !== undefined && !held.wasDisabled) await must("enable", enable, signal);
      await removeHold(host, options, signal);
    },
    start: started,
  };
}

/** What a hold, and the way back from it, depend on. The others may be mended while an operation waits for it. */
function holdOf({ disable, enable, environmentFile, stateDirectory }: CommandServiceOptions): string {
  return JSON.stringify([disable, enable, environmentFile, stateDirectory]);
}

function unholdable(name: string, host: string): Fault {
  return new Fault(
    "service-unholdable",
    `nothing can keep ${name} on ${host} from coming back: it has no disable command`,
    {
      hint: `give it disable and enable under hosts.${host}`,
    },
  );
}
