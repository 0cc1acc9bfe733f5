import type { Host } from "./hosts.ts";
import { dotted, isSection, valueAt } from "./path.ts";
import type { Path } from "./path.ts";

/** Told of something that cannot be used, at the path of its key. */
type Refuse = (path: Path, message: string) => void;

/** Rules between the hosts, on what was written. */
export function brokenHostRules(input: unknown, refuse: Refuse): void {
  const hosts = valueAt(input, ["hosts"]);
  if (!isSection(hosts)) return;
  const members = new Map<string, Path>();
  const places = new Map<string, Path>();
  const waysHere = new Map<string, Path>();
  const once = (taken: Map<string, Path>, key: string, path: Path): void => {
    const first = taken.get(key);
    if (first === undefined) taken.set(key, path);
    else refuse(path, `is that of ${dotted(first)} already`);
  };
  for (const [name, host] of Object.entries(hosts)) {
    const local = valueAt(host, ["reach"]) === "local";
    const member = valueAt(host, ["etcd", "member"]);
    if (typeof member === "string") once(members, member, ["hosts", name, "etcd", "member"]);
    const state = valueAt(host, ["stateDirectory"]);
    for (const key of ["dataDirectory", "walDirectory"]) {
      const directory = valueAt(host, ["etcd", key]);
      // What is moved and removed there is etcd's.
      if (typeof state === "string" && typeof directory === "string" && `${state}/`.startsWith(`${directory}/`))
        refuse(["hosts", name, "stateDirectory"], `is inside of hosts.${name}.etcd.${key}, which is etcd's own`);
      if (typeof directory === "string" && local) once(places, directory, ["hosts", name, "etcd", key]);
    }
    const names = new Map<string, Path>();
    // Several hosts may be the one machine that the command runs on.
    const ways = local ? waysHere : new Map<string, Path>();
    const manifests = valueAt(host, ["manifests"]);
    const watched = typeof manifests === "string" ? manifests : "";
    const way = (section: unknown, path: Path): void => {
      if (!isSection(section)) return;
      for (const kind of ["systemd", "staticPod"]) {
        const value = section[kind];
        const key = kind === "staticPod" ? `${watched} ${String(value)}` : String(value);
        if (typeof value === "string") once(ways, `${kind} ${key}`, [...path, kind]);
      }
      if (!isSection(section["command"])) return;
      for (const [here, other] of [
        ["disable", "enable"],
        ["enable", "disable"],
      ] as const) {
        if (section["command"][here] === undefined || section["command"][other] !== undefined) continue;
        refuse([...path, "command", here], `is of no use without ${other}; write both, or none`);
      }
      if (section["command"]["enabled"] !== undefined && section["command"]["disable"] === undefined)
        refuse([...path, "command", "enabled"], "is of no use without disable and enable; write all three");
    };
    way(valueAt(host, ["etcd", "service"]), ["hosts", name, "etcd", "service"]);
    const services = valueAt(host, ["services"]);
    for (const [index, service] of (Array.isArray(services) ? (services as unknown[]) : []).entries()) {
      const path: Path = ["hosts", name, "services", index];
      const given = valueAt(service, ["name"]);
      if (typeof given === "string") once(names, given, [...path, "name"]);
      if (given === "etcd") refuse([...path, "name"], `is kept for the member itself; write hosts.${name}.etcd`);
      way(service, path);
    }
  }
}

/** What is allowed of a host and still worth a word. */
export function hostDoubts(name: string, host: Host): readonly { readonly about: string; readonly message: string }[] {
  const warnings: { about: string; message: string }[] = [];
  const warn = (path: Path, message: string): void => {
    warnings.push({ about: dotted(["hosts", name, ...path]), message });
  };
  if (host.etcd === undefined && host.services.length === 0)
    warn([], "names neither etcd nor services: it is not used");
  const unheld =
    "has no disable and enable: nothing keeps it from coming back at a reboot amid a restore, which then wants that risk confirmed";
  if (host.etcd?.service.kind === "command" && host.etcd.service.disable === undefined) {
    warn(["etcd", "service", "command"], unheld);
  }
  for (const [index, service] of host.services.entries()) {
    if (service.way.kind === "command" && service.way.disable === undefined) {
      warn(["services", index, "command"], unheld);
    }
    if (service.role === "api-server" && service.ready === undefined) {
      warn(["services", index, "ready"], "not set: that this API server serves after a restore cannot be seen");
    }
  }
  return warnings;
}
