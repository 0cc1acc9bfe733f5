import type { FakeHost } from "./host.ts";

export interface FakeUnit {
  enabled: boolean;
  active: "active" | "inactive" | "failed";
  starts: number;
  limited: boolean;
  needsReload: boolean;
  /** How often it was started against an assertion. */
  refused: number;
  /** As `systemctl show` gives them. */
  execStart?: string;
  environmentFiles?: string;
  environment?: string;
  /** The path of its file. */
  fragment?: string;
}

/** A systemd in memory on a fake host, as far as a service asks: assertions of drop-ins count once they are loaded. */
export function fakeSystemd(host: FakeHost, names: readonly string[]) {
  const units = new Map<string, FakeUnit>(
    names.map((name) => [
      name,
      { enabled: true, active: "inactive", starts: 0, limited: false, needsReload: false, refused: 0 },
    ]),
  );
  let loaded = new Map<string, string>();
  let pid = 1000;
  const reload = (): void => {
    loaded = new Map(Object.entries(host.tree()).filter(([path]) => path.endsWith(".conf")));
    for (const unit of units.values()) unit.needsReload = false;
  };
  const dropInsOf = (name: string): readonly string[] =>
    [...loaded.keys()].filter((path) => path.startsWith(`/etc/systemd/system/${name}.d/`));
  const stop = (name: string): void => {
    const at = host.running.findIndex(({ controlGroup }) => controlGroup === `/system.slice/${name}`);
    if (at !== -1) host.running.splice(at, 1);
    units.get(name)!.active = "inactive";
  };
  const start = (name: string): void => {
    const unit = units.get(name)!;
    if (unit.active === "active" || unit.limited) return;
    if (dropInsOf(name).some((path) => loaded.get(path)?.includes("\nAssertPathExists=/proc/"))) {
      unit.refused += 1;
      return;
    }
    unit.active = "active";
    unit.starts += 1;
    host.running.push({
      pid: (pid += 1),
      startTicks: BigInt(pid),
      parent: 1,
      comm: "etcd",
      argv: ["etcd"],
      etcdEnvironment: {},
      directory: "/",
      controlGroup: `/system.slice/${name}`,
      zombie: false,
    });
  };
  host.programs.set("systemctl", ([, command = "", ...args]) => {
    const name = args.at(-1) ?? "";
    const unit = units.get(name);
    if (command === "daemon-reload") {
      reload();
      return {};
    }
    if (unit === undefined) {
      return command === "show" ? { stdout: `Id=${name}\nLoadState=not-found\n` } : { status: 5, stderr: "not found" };
    }
    if (command === "show") {
      const running = host.running.find(({ controlGroup }) => controlGroup === `/system.slice/${name}`);
      return {
        stdout: [
          `Id=${name}`,
          "LoadState=loaded",
          `ActiveState=${unit.active}`,
          `SubState=${unit.active === "active" ? "running" : "dead"}`,
          `MainPID=${running?.pid ?? 0}`,
          "NRestarts=0",
          `NeedDaemonReload=${unit.needsReload ? "yes" : "no"}`,
          `ControlGroup=${running === undefined ? "" : `/system.slice/${name}`}`,
          `UnitFileState=${unit.enabled ? "enabled" : "disabled"}`,
          "Result=success",
          `DropInPaths=${dropInsOf(name).join(" ")}`,
          `ExecStart=${unit.execStart ?? ""}`,
          `EnvironmentFiles=${unit.environmentFiles ?? ""}`,
          `Environment=${unit.environment ?? ""}`,
          `FragmentPath=${unit.fragment ?? ""}`,
          "",
        ].join("\n"),
      };
    }
    if (command === "reset-failed") {
      unit.limited = false;
      if (unit.active === "failed") unit.active = "inactive";
    }
    if (command === "start") start(name);
    if (command === "stop") stop(name);
    return {};
  });
  return {
    units,
    start,
    /** Ends it, as a SIGKILL does; who wants it started again starts it. */
    kill: stop,
    /** It failed more often than systemd starts it again. */
    fail: (name: string) => {
      stop(name);
      Object.assign(units.get(name)!, { active: "failed", limited: true });
    },
    reboot: () => {
      for (const name of units.keys()) stop(name);
      reload();
      for (const [name, { enabled }] of units) if (enabled) start(name);
    },
  };
}
