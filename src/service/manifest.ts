import { parse } from "yaml";
import type { EtcdPlace, EtcdSettings } from "./service.ts";

/** What a static pod's manifest says that matters here. Paths are the host's, not the container's. */
export interface StaticPodFacts {
  readonly name: string;
  readonly containers: readonly ContainerFacts[];
}

export interface ContainerFacts {
  readonly name: string;
  readonly image: string | undefined;
  /** Command and arguments; undefined where the image says them. */
  readonly argv: readonly string[] | undefined;
  /** What it gives etcd; undefined for another program, and where flags and environment do not say it all. */
  readonly etcd: Omit<EtcdSettings, "from"> | undefined;
}

/** Reads a manifest; undefined for what is no pod. */
export function readManifest(text: string): StaticPodFacts | undefined {
  let document: unknown;
  try {
    document = parse(text, { maxAliasCount: 100 });
  } catch {
    // Whatever it is, the kubelet does not run it either.
    return undefined;
  }
  const pod = section(document);
  const name = section(pod["metadata"])["name"];
  if (pod["kind"] !== "Pod" || typeof name !== "string") return undefined;
  const spec = section(pod["spec"]);
  const volumes = new Map(
    list(spec["volumes"]).map((volume) => [section(volume)["name"], section(section(volume)["hostPath"])["path"]]),
  );
  return { name, containers: list(spec["containers"]).map((container) => containerOf(section(container), volumes)) };
}

function containerOf(container: Section, volumes: ReadonlyMap<unknown, unknown>): ContainerFacts {
  const command = texts(container["command"]);
  const argv = command === undefined ? undefined : [...command, ...(texts(container["args"]) ?? [])];
  const { name, image } = container;
  return {
    name: typeof name === "string" ? name : "",
    image: typeof image === "string" ? image : undefined,
    argv,
    etcd: etcdOf(container, argv ?? texts(container["args"]) ?? [], volumes),
  };
}

/** A volume's hostPath counts, whatever --data-dir says inside. */
function etcdOf(
  container: Section,
  flags: readonly string[],
  volumes: ReadonlyMap<unknown, unknown>,
): ContainerFacts["etcd"] {
  const variables = new Map(list(container["env"]).map((entry) => [section(entry)["name"], section(entry)["value"]]));
  const given = (flag: string): string | undefined => {
    const found = flagOf(flags, flag) ?? variables.get(`ETCD_${flag.toUpperCase().replaceAll("-", "_")}`);
    return typeof found === "string" ? found : undefined;
  };
  const mounts = list(container["volumeMounts"]).map(section);
  const placeOf = (inside: string): EtcdPlace => ({ inside, onHost: hostPathOf(inside, mounts, volumes) });
  const [data, wal] = [given("data-dir"), given("wal-dir")];
  // With a configuration file etcd reads no flag and no variable.
  if (data === undefined || given("config-file") !== undefined) return undefined;
  return {
    name: given("name"),
    data: placeOf(data),
    wal: wal === undefined || wal === "" ? undefined : placeOf(wal),
    forceNewCluster: isOn(given("force-new-cluster"), flags.includes("--force-new-cluster")),
  };
}

/** A boolean flag of Go takes its value only behind `=`. */
function isOn(value: string | undefined, alone: boolean): boolean {
  return alone || ["1", "t", "T", "true", "TRUE", "True"].includes(value ?? "");
}

/** `--flag=value` or `--flag value`; Go takes one dash as well. */
function flagOf(argv: readonly string[], flag: string): string | undefined {
  for (const [index, argument] of argv.entries()) {
    const [, name, value] = /^--?([a-z-]+)(?:=(.*))?$/s.exec(argument) ?? [];
    if (name === flag) return value ?? argv[index + 1];
  }
  return undefined;
}

/** Where a path inside the container is on the host, by the innermost mount. */
function hostPathOf(
  inside: string,
  mounts: readonly Section[],
  volumes: ReadonlyMap<unknown, unknown>,
): string | undefined {
  let best: { readonly at: string; readonly path: string } | undefined;
  for (const { mountPath, name, subPath } of mounts) {
    const path = volumes.get(name);
    if (typeof mountPath !== "string" || typeof path !== "string") continue;
    const at = mountPath.replace(/\/+$/, "");
    if (inside !== at && !inside.startsWith(`${at}/`)) continue;
    if (best !== undefined && best.at.length >= at.length) continue;
    best = { at, path: typeof subPath === "string" ? `${path.replace(/\/+$/, "")}/${subPath}` : path };
  }
  if (best === undefined) return undefined;
  return `${best.path.replace(/\/+$/, "")}${inside.slice(best.at.length)}`.replace(/\/+$/, "");
}

type Section = Readonly<Record<string, unknown>>;

function section(value: unknown): Section {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Section) : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function texts(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
}
