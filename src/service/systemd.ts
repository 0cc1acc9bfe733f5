import { Fault } from "../faults.ts";
import type { Host, RunResult } from "../host/host.ts";
import { joinByUnit } from "./join-unit.ts";
import { joinByEnvironmentFile } from "./joining.ts";
import type { Service, ServiceRole, ServiceState } from "./service.ts";

export interface SystemdServiceOptions {
  readonly name: string;
  readonly role: ServiceRole;
  /** Such as `etcd.service`. */
  readonly unit: string;
  /** The text without what looks like a secret; absent: as it is. */
  readonly redact?: ((text: string) => string) | undefined;
  /** Of etcd: one of the unit's EnvironmentFile=, and a directory of ours on the host. */
  readonly environment?: { readonly path: string; readonly stateDirectory: string } | undefined;
}

const commandMs = 60_000;
const units = "/etc/systemd/system";
/** The last of a unit's drop-ins by name, so that no other one takes back what they say. */
const dropIn = "zzzz-etcd-lifeboat-hold.conf";
const joinDropIn = "zzzz-etcd-lifeboat-join.conf";

/**
 * A unit of systemd. It is held by a drop-in with an assertion that fails: `systemctl mask` refuses a unit whose file is in /etc/systemd/system, where hand-made
 * ones are. The assertion stops every way to start it (by hand, Restart=, a timer, a socket, another unit, a reboot), says the operation's name in `systemctl status`, and leaves
 * enabled what is enabled.
 */
export function openSystemdService(host: Host, options: SystemdServiceOptions): Service {
  const { name, role, unit, environment, redact = (text: string) => text } = options;
  const systemctl = async (args: readonly string[], signal: AbortSignal): Promise<RunResult> => {
    const result = await host.run(["systemctl", ...args], { timeoutMs: commandMs }, signal);
    if (!result.timedOut) return result;
    throw new Fault(
      "service-failed",
      `systemctl ${args[0] ?? ""} on ${host.name} did not end within ${commandMs / 1000} s`,
    );
  };
  const must = async (args: readonly string[], signal: AbortSignal): Promise<void> => {
    const { status, stderr } = await systemctl(args, signal);
    if (status === 0) return;
    const said = redact(stderr).trim().split("\n")[0]?.slice(0, 400) ?? "";
    throw new Fault("service-failed", `systemctl ${args.join(" ")} failed on ${host.name}: ${said}`, {
      hint: `look there: systemctl status ${unit}`,
    });
  };
  const look = async (signal: AbortSignal): Promise<Shown> => {
    const { status, stdout, stderr } = await systemctl(
      ["show", `--property=${properties.join(",")}`, "--", unit],
      signal,
    );
    if (status !== 0) {
      throw new Fault(
        "service-unknown",
        `systemctl show ${unit} failed on ${host.name}: ${redact(stderr).trim().slice(0, 400)}`,
      );
    }
    const shown = new Map(
      stdout.split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
    );
    const of = (property: Property): string => shown.get(property) ?? "";
    if (of("LoadState") === "not-found" || of("Id") === "") {
      throw new Fault("service-unknown", `${host.name} has no unit ${unit}`, {
        hint: `is it the right name under hosts.${host.name}? look there: systemctl list-units --all`,
      });
    }
    const directory = `${units}/${of("Id")}.d`;
    const path = `${directory}/${dropIn}`;
    const written = operationOf(await host.readFile(path, 4096, signal));
    return { of, directory, path, written, loaded: of("DropInPaths").split(" ").includes(path) };
  };
  const reload = async (signal: AbortSignal): Promise<void> => await must(["daemon-reload"], signal);
  const start = async (signal: AbortSignal): Promise<void> => {
    const { written } = await look(signal);
    if (written !== undefined) throw heldFault(name, host.name, written);
    // A unit that failed too often within a short time would be refused for its start limit. There is nothing to reset for most, which is no failure.
    await systemctl(["reset-failed", "--", unit], signal);
    await must(["start", "--no-block", "--", unit], signal);
  };
  const show = async (names: readonly string[], signal: AbortSignal): Promise<string> =>
    (await systemctl(["show", `--property=${names.join(",")}`, "--", unit], signal)).stdout;
  const directoryOf = async (signal: AbortSignal): Promise<string> => (await look(signal)).directory;
  const check = async (signal: AbortSignal): Promise<void> => {
    const stdout = await show(["ExecStart", "EnvironmentFiles"], signal);
    // A flag beside its variable ends etcd from 3.4 on, and wins before.
    const why = /--?initial-cluster(?:-state)?(?![\w-])/.test(stdout)
      ? `${unit} on ${host.name} gives etcd --initial-cluster as a flag, which wins over its environment`
      : !stdout.includes(environment?.path ?? "")
        ? `${unit} on ${host.name} does not read ${environment?.path ?? ""}`
        : undefined;
    if (why === undefined) return;
    throw new Fault("service-unjoinable", why, {
      hint: `leave hosts.${host.name}.etcd.environmentFile out where the unit gives etcd its flags: a drop-in changes them meanwhile; or put both variables into it in place of the flags`,
    });
  };

  return {
    name,
    role,
    description: environment === undefined ? unit : `${unit} with ${environment.path}`,
    joining:
      role !== "etcd"
        ? undefined
        : environment === undefined
          ? joinByUnit(host, { unit, directoryOf, file: joinDropIn, show, reload, start })
          : joinByEnvironmentFile(host, { name, ...environment, check, start }),
    canHold: true,
    holdStops: false,
    async state(signal) {
      const shown = await look(signal);
      return stateOf(shown, await pidsOf(host, shown, signal));
    },
    async hold(operation, signal) {
      const { directory, path, written, loaded } = await look(signal);
      if (written !== undefined && written !== operation) throw heldFault(name, host.name, written);
      if (written === operation && loaded) return;
      await host.makeDirectory(directory, { mode: 0o755 }, signal);
      await host.writeFile(path, new TextEncoder().encode(dropInOf(operation)), { mode: 0o644 }, signal);
      await reload(signal);
      if ((await look(signal)).loaded) return;
      throw new Fault("service-failed", `systemd on ${host.name} does not read ${path}: ${name} is not held`);
    },
    stop: async (signal) => await must(["stop", "--no-block", "--", unit], signal),
    async release(signal) {
      const { directory, path, written, loaded } = await look(signal);
      if (written === undefined && !loaded) return;
      await host.removeFile(path, signal);
      if ((await host.list(directory, signal))?.length === 0) await host.removeTree(directory, signal);
      await reload(signal);
    },
    start,
  };
}

const properties = [
  "Id",
  "LoadState",
  "ActiveState",
  "SubState",
  "MainPID",
  "NRestarts",
  "NeedDaemonReload",
  "ControlGroup",
  "UnitFileState",
  "Result",
  "DropInPaths",
] as const;
type Property = (typeof properties)[number];

interface Shown {
  readonly of: (property: Property) => string;
  readonly directory: string;
  readonly path: string;
  /** The operation that the drop-in on disk names. */
  readonly written: string | undefined;
  /** Whether systemd knows of the drop-in; it may know of one that is gone. */
  readonly loaded: boolean;
}

function stateOf({ of, written, loaded }: Shown, pids: readonly number[]): ServiceState {
  const active = of("ActiveState");
  const heldBy = loaded ? written : undefined;
  const result = of("Result");
  const detail = [
    `${active} (${of("SubState")})`,
    ...(result === "success" || result === "" ? [] : [`last result ${result}`]),
    ...(pids.length === 0 ? [] : [`pid ${pids.join(", ")}`]),
    ...(heldBy === undefined ? [] : [`held by operation ${heldBy}`]),
  ].join(", ");
  return {
    running: (active !== "inactive" && active !== "failed") || pids.length > 0,
    pids,
    heldBy,
    boots: heldBy === undefined ? bootsOf(of("UnitFileState")) : "no",
    detail,
    holdBegun: loaded ? undefined : written,
    needsReload: of("NeedDaemonReload") === "yes",
    restarts: /^\d+$/.test(of("NRestarts")) ? Number(of("NRestarts")) : undefined,
  };
}

function bootsOf(unitFileState: string): ServiceState["boots"] {
  if (unitFileState === "enabled") return "yes";
  // What is enabled until the next boot only is not enabled after it.
  if (["disabled", "masked", "enabled-runtime", "linked", "linked-runtime", "bad"].includes(unitFileState)) return "no";
  // static, indirect, generated: another unit may bring it.
  return "unknown";
}

/** All that is in the unit's control group or below it, not only the main process. */
async function pidsOf(host: Host, { of }: Shown, signal: AbortSignal): Promise<readonly number[]> {
  const group = of("ControlGroup");
  if (group === "") return [];
  const processes = (await host.processes(signal)).filter(({ zombie }) => !zombie);
  const main = processes.find(({ pid }) => pid === Number(of("MainPID")));
  // Seen from another control group namespace the path is longer, and the main process tells how.
  const seen = main?.controlGroup?.endsWith(group) === true ? main.controlGroup : group;
  return processes.filter(({ controlGroup }) => isBelow(controlGroup, seen)).map(({ pid }) => pid);
}

/** The unit's own group, or one below it. */
function isBelow(controlGroup: string | undefined, group: string): boolean {
  return controlGroup !== undefined && (controlGroup === group || controlGroup.startsWith(`${group}/`));
}

/** Nothing can be made below /proc, so the path never exists; `systemctl status` shows it. */
function dropInOf(operation: string): string {
  return `# Written by etcd-lifeboat: operation ${operation} holds this unit until it is finished or rolled back.
# operation ${operation}
[Unit]
AssertPathExists=/proc/held-by-etcd-lifeboat-operation/${operation}
`;
}

function operationOf(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  return /^# operation ([A-Za-z0-9._-]+)$/m.exec(new TextDecoder().decode(bytes))?.[1] ?? "unknown";
}

function heldFault(name: string, host: string, operation: string): Fault {
  return new Fault("service-held", `${name} on ${host} is held by operation ${operation}`, {
    hint: "finish that one first, or take it back",
  });
}
